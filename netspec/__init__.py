"""netspec: a declarative compiler from YAML to PyTorch.

    >>> import netspec
    >>> program = netspec.compile("specs/digits.yaml")
    >>> program.module(seed=0)     # a live nn.Module
    >>> print(program.source())    # the same model as Python source

Importing this package imports neither torch nor networkx.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from netspec import plugin as plugin
    from netspec.building import build
    from netspec.compiler import compile
    from netspec.diagnostics import Diagnostic, SpecError
    from netspec.program import Program
    from netspec.runtime.notes import noted
    from netspec.runtime.run import Run, train
    from netspec.runtime.trained import Trained, load

__version__ = "0.1.0"
__all__ = ["Diagnostic", "Program", "Run", "SpecError", "Trained", "build", "compile", "load", "noted", "train"]

_HOMES = {
    "build": "netspec.building",
    "compile": "netspec.compiler",
    "noted": "netspec.runtime.notes",
    "Diagnostic": "netspec.diagnostics",
    "SpecError": "netspec.diagnostics",
    "Program": "netspec.program",
    "Run": "netspec.runtime.run",
    "Trained": "netspec.runtime.trained",
    "load": "netspec.runtime.trained",
    "train": "netspec.runtime.run",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name == "plugin":
        return import_module("netspec.plugin")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)
