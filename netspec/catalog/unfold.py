"""Windows cut out of images as columns, and put together again: Unfold and Fold."""

from __future__ import annotations

from typing import Any

from netspec.catalog.conv import images
from netspec.catalog.entry import REQUIRED, Argument, Entry, Inferred, Rule
from netspec.catalog.rules import (
    FLOATING,
    Arguments,
    Inputs,
    Shape,
    accepting,
    numel,
    one,
    refuse,
    rule,
    spread,
    surely_below,
    tensor,
)
from netspec.shapes import Dim, Size

_DTYPES = (*FLOATING, "bool")


def _windows(name: str, arguments: Arguments, sizes: Shape) -> Shape:
    """How many windows lie along each axis."""
    found: list[Size] = []
    for axis, size in enumerate(sizes):
        kernel, dilation, padding, stride = (
            spread(arguments[argument], 2)[axis] for argument in ("kernel_size", "dilation", "padding", "stride")
        )
        room = size + 2 * padding - dilation * (kernel - 1) - 1
        if surely_below(room, 0):
            refuse(
                f"{name}: kernel {kernel} is larger than the padded size {size + 2 * padding}",
                help="make the kernel smaller, or pad more",
                argument="kernel_size",
            )
        found.append(room // stride + 1)
    return tuple(found)


def _unfold(name: str) -> Rule:
    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        x = tensor(inputs, name)
        images(name, x, 2)
        accepting(name, x, _DTYPES)
        places = numel(_windows(name, arguments, x.shape[-2:]))
        return one((*x.shape[:-3], x.shape[-3] * numel(spread(arguments["kernel_size"], 2)), places), x.dtype)

    return infer


def _fold(name: str) -> Rule:
    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        x = tensor(inputs, name)
        if len(x.shape) not in (2, 3):
            refuse(f"{name} takes columns [N, C*kernel, windows] or [C*kernel, windows], and got {x}")
        accepting(name, x, _DTYPES)
        output = spread(arguments["output_size"], 2)
        area = numel(spread(arguments["kernel_size"], 2))
        columns, places = x.shape[-2:]
        if not isinstance(columns, Dim) and columns % area:
            refuse(
                f"{name}: the {columns} values of a column are no multiple of the kernel's {area}",
                argument="kernel_size",
                code="NS403",
            )
        wanted = numel(_windows(name, arguments, output))
        if places != wanted:
            refuse(
                f"{name} of these windows into {list(output)} takes {wanted} columns, and got {places}",
                argument="output_size",
                code="NS403",
            )
        return one((*x.shape[:-2], columns // area, *output), x.dtype)

    return infer


def _size(name: str, doc: str, default: Any = REQUIRED, minimum: int = 1) -> Argument:
    return Argument(name=name, kind="size2", default=default, minimum=minimum, doc=doc)


_OUTPUT = _size("output_size", "height and width of the image")
_WINDOW = (
    _size("kernel_size", "extent of the window"),
    _size("dilation", "distance between the window's points", 1),
    _size("padding", "rows of zeros added at each edge", 0, 0),
    _size("stride", "step of the window", 1),
)
_ROWS = (
    ("Unfold", "unfold", _unfold, _WINDOW, "Cuts the windows of an image out, each as a column."),
    ("Fold", "fold", _fold, (_OUTPUT, *_WINDOW), "Adds windows that stand as columns up to an image."),
)

ENTRIES: tuple[Entry, ...] = tuple(
    Entry(
        name=name,
        category="layer" if name == layer else "function",
        target=f"torch.nn.{layer}" if name == layer else f"torch.nn.functional.{function}",
        arguments=arguments,
        rule=make(name),
        role="reshape",
        doc=doc,
    )
    for layer, function, make, arguments, doc in _ROWS
    for name in (layer, function)
)
