"""What a traceback tells after the fact: which modules an exception passed through, on what lines, with what tensors.

Nothing here runs while all goes well. The modules are known by the `self` of their frames, the tensors by the arguments
in them.
"""

from __future__ import annotations

import ast
import inspect
import linecache
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from types import FrameType, TracebackType
from typing import Any, Final

import torch
from torch import Tensor, nn

SEARCHED: Final = 1 << 24
"""The elements of a tensor up to which its smallest and largest number are looked for."""


@dataclass(frozen=True, slots=True)
class Call:
    """A frame of a traceback with the place in its code where it was: lines from 1, columns from 0, None: not known."""

    frame: FrameType
    line: int | None
    end_line: int | None
    column: int | None
    end_column: int | None

    @property
    def module(self) -> nn.Module | None:
        """The module whose method it is."""
        code = self.frame.f_code
        owner = self.frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None
        return owner if isinstance(owner, nn.Module) else None

    @property
    def home(self) -> str:
        """The Python module that the code belongs to."""
        return str(self.frame.f_globals.get("__name__", ""))

    @property
    def expression(self) -> ast.expr | None:
        """The expression that was being computed, where its text can be had."""
        if self.line is None or self.end_line is None or self.column is None or self.end_column is None:
            return None
        file = self.frame.f_code.co_filename
        lines = [linecache.getline(file, number).encode() for number in range(self.line, self.end_line + 1)]
        if not all(lines):
            return None
        lines[-1] = lines[-1][: self.end_column]
        lines[0] = lines[0][self.column :]
        try:
            return ast.parse(f"({b''.join(lines).decode()})", mode="eval").body
        except SyntaxError:
            return None


def calls(traceback: TracebackType | None) -> list[Call]:
    """The frames of a traceback, the outermost first."""
    found = []
    while traceback is not None:
        positions = traceback.tb_frame.f_code.co_positions()
        line, end_line, column, end_column = next(islice(positions, traceback.tb_lasti // 2, None), (None,) * 4)
        found.append(Call(traceback.tb_frame, line or traceback.tb_lineno, end_line, column, end_column))
        traceback = traceback.tb_next
    return found


def arguments(stack: list[Call], module: nn.Module) -> dict[str, Any]:
    """What a module was called with, by the names of its `forward`; those of the innermost call.

    `nn.Module.__call__` keeps them as they came, while `forward` may have bound its names anew.
    """
    own = [call for call in stack if call.module is module]
    for call in reversed(own):
        given = call.frame.f_locals
        if call.frame.f_code.co_name in ("_call_impl", "_wrapped_call_impl") and "args" in given:
            return {**_numbered(given["args"], _names(module)), **given.get("kwargs", {})}
    for call in reversed(own):
        code, given = call.frame.f_code, call.frame.f_locals
        if code.co_name != "forward":
            continue
        taken = code.co_argcount + code.co_kwonlyargcount
        found = {name: given[name] for name in code.co_varnames[1:taken] if name in given}
        if code.co_flags & inspect.CO_VARARGS:
            found |= _numbered(given.get(code.co_varnames[taken], ()), _names(module))
        return found
    return {}


def _numbered(values: Sequence[Any], names: Sequence[str] = ()) -> dict[str, Any]:
    count = len(values)
    return {
        names[i] if i < len(names) else "input" if count == 1 else f"input {i + 1}": value
        for i, value in enumerate(values)
    }


def _names(module: nn.Module) -> list[str]:
    if (instance := getattr(module, "_instance", None)) is not None:  # a live block, which takes `*inputs`
        return list(instance.inputs)
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        parameters = inspect.signature(module.forward).parameters.values()
    except (TypeError, ValueError):
        return []
    return [parameter.name for parameter in parameters if parameter.kind in kinds]


def read_names(call: Call) -> dict[str, Any]:
    """The variables of the expression that failed with their values, in the order in which it names them."""
    expression = call.expression
    if expression is None:
        return {}
    named = [node for node in ast.walk(expression) if isinstance(node, ast.Name)]
    named.sort(key=lambda node: (node.lineno, node.col_offset))
    values = call.frame.f_locals
    return {node.id: values[node.id] for node in named if node.id != "self" and node.id in values}


def described(values: Mapping[str, Any]) -> list[str]:
    """The tensors among some values in words: `x [4, 400] float32 on cpu`."""
    return [f"{name} {text}" for name, value in values.items() for text in _texts(value)]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Tensor):
        yield describe(value)
    elif isinstance(value, list | tuple) and any(isinstance(item, Tensor) for item in value):
        yield (
            "(" + ", ".join(describe(item) if isinstance(item, Tensor) else type(item).__name__ for item in value) + ")"
        )


def describe(tensor: Tensor) -> str:
    """A tensor's shape, dtype and device; with it the range of whole numbers, and whether all are finite.

    The numbers of a GPU are left where they are: after a failure there, reading them fails as well.
    """
    text = f"{list(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')} on {tensor.device}"
    if tensor.device.type != "cpu" or not 0 < tensor.numel() <= SEARCHED or tensor.is_sparse or tensor.is_quantized:
        return text
    with torch.no_grad():
        if tensor.is_floating_point():
            return text if bool(tensor.isfinite().all()) else f"{text}, not all of it finite"
        if tensor.dtype in (torch.int64, torch.int32, torch.int16, torch.uint8, torch.int8):
            return f"{text}, from {int(tensor.min())} to {int(tensor.max())}"
    return text
