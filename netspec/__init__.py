"""netspec: a declarative compiler from YAML to PyTorch."""
