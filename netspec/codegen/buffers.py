"""Buffers that layers compute: the same statements as in `forward`, written into the constructor."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from netspec.codegen.forward import Forward
from netspec.codegen.tensors import is_simple
from netspec.expressions import Name
from netspec.program import Instance, Node

if TYPE_CHECKING:
    from netspec.codegen.constructor import Constructor


class Computation(Forward):
    """What computes one buffer: `lines`, and the expression in `output`."""

    def __init__(self, writer: Constructor, instances: list[Instance]) -> None:
        super().__init__(writer, instances)
        self.taken |= {*writer.block.params, *writer.block.let, *writer.lifted, *writer.variables}
        self.write([])
        writer.classes.imports.add("import torch")

    def name(self, name: str) -> str:
        """What a name of the block is in the constructor."""
        text = self.writer.text(Name(name))
        return text if is_simple(text) else f"({text})"

    def is_dynamic(self, names: Iterable[str]) -> bool:
        """No: there is no input."""
        return False

    def comment(self, node: Node, port: str = "") -> str:
        """None: shapes are told in `forward` alone."""
        return ""
