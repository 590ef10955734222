"""The parts of reading YAML; `netspec.document` is their face."""
