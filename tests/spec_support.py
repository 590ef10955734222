"""Small documents as programs, for tests of what a spec means."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

import netspec
from netspec.diagnostics import SpecError
from netspec.program import Program
from netspec.runtime.verify import verify

BOUND = """
    blocks:
      Widen:
        params: {factor: 2}
        inputs: {x: [N, in_channels, H, W]}
        let: {width: $(in_channels * factor), half: $(width // 2)}
        layers:
          conv1: {type: Conv2d, out_channels: $half, kernel_size: 1}
          conv2: {type: Conv2d, out_channels: $width, kernel_size: 1}
    model:
      inputs: {image: [N, 3, 8, 8]}
      layers:
        a: Widen
        b: {type: Widen, factor: 4}
"""


def document(text: str) -> dict[str, Any]:
    """A document from YAML, its head added."""
    loaded = yaml.safe_load(text)
    assert isinstance(loaded, dict)
    return {"netspec": 1, "name": "net", **loaded}


def compiled(text: str, **overrides: Any) -> Program:
    """The program of a document whose two doors are equal."""
    program = netspec.compile(document(text), set={path.replace("__", "."): value for path, value in overrides.items()})
    assert verify(program) == []
    return program


def refused(text: str) -> list[str]:
    """The codes of what is wrong with a document."""
    with pytest.raises(SpecError) as caught:
        netspec.compile(document(text))
    return [d.code for d in caught.value.diagnostics if d.severity == "error"]


def keys(program: Program) -> list[str]:
    return list(program.module().state_dict())


def shape(program: Program, name: str) -> str:
    return str(program.shapes[name])


def output(program: Program) -> str:
    (type_,) = program.outputs.values()
    return str(type_)
