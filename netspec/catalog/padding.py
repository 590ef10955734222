"""Padding: the modules of torch.nn, and `pad`."""

from __future__ import annotations

from collections.abc import Sequence

from netspec.catalog.conv import images
from netspec.catalog.entry import Argument, Entry, Inferred, Rule
from netspec.catalog.rules import (
    ALL,
    NUMBERS,
    Arguments,
    Inputs,
    accepting,
    one,
    plural,
    refuse,
    rule,
    spread,
    surely_below,
    tensor,
)
from netspec.shapes import Size, TensorType

_MODES = {"reflect": "reflection", "replicate": "replication", "circular": "wrapping"}


def padded(name: str, x: TensorType, pads: Sequence[Size], mode: str, argument: str) -> Inferred:
    """The input with `pads` added: pairs of (before, after) from the last dimension backwards."""
    count = len(pads) // 2
    sizes = list(x.shape)
    for axis in range(count):
        size = sizes[-1 - axis]
        before, after = pads[2 * axis], pads[2 * axis + 1]
        room = {"reflect": size - 1, "circular": size}.get(mode)
        if room is not None and (surely_below(room, before) or surely_below(room, after)):
            refuse(
                f"{name}: padding by {_MODES[mode]} can add at most {room} to a size of {size}, "
                f"and got {before} and {after}",
                help="pad less, or with a constant",
                argument=argument,
            )
        if mode == "circular" and (surely_below(before, 0) or surely_below(after, 0)):
            refuse(f"{name} takes numbers from 0 to pad by wrapping", argument=argument, code="NS406")
        result = size + before + after
        if surely_below(result, 1):
            refuse(f"{name} takes {before} and {after} from a size of {size}", argument=argument, code="NS406")
        sizes[-1 - axis] = result
    return one(sizes, x.dtype)


def _fits(name: str, x: TensorType, value: float | None) -> None:
    if value is not None and value < 0 and x.dtype == "uint8":
        refuse(f"{name} of uint8 takes a value from 0, and got {value}", argument="value", code="NS406")


def _fixed(name: str, count: int, mode: str) -> Rule:
    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        x = tensor(inputs, name)
        if mode == "constant":
            if len(x.shape) < count:
                refuse(f"{name} pads the last {plural(count, 'dimension')}, and got {x}")
        else:
            images(name, x, count)
        accepting(name, x, ALL if mode in ("constant", "circular") else NUMBERS)
        _fits(name, x, arguments.get("value"))
        return padded(name, x, spread(arguments["padding"], 2 * count), mode, "padding")

    return infer


@rule
def _pad(arguments: Arguments, inputs: Inputs) -> Inferred:
    x = tensor(inputs, "pad")
    pads, mode = arguments["pad"], arguments["mode"]
    count, odd = divmod(len(pads), 2)
    if odd:
        refuse(
            f"pad takes two numbers for each dimension, and got {len(pads)}",
            help="before and after, from the last dimension backwards: [left, right, top, bottom]",
            argument="pad",
            code="NS404",
        )
    if count > len(x.shape):
        refuse(f"pad takes numbers for {plural(count, 'dimension')}, and got {x}", argument="pad", code="NS404")
    if mode != "constant":
        if arguments["value"] is not None:
            refuse(f'pad takes a value with mode "constant" only, and mode is "{mode}"', argument="value", code="NS404")
        if count not in (1, 2, 3):
            refuse(f'pad with mode "{mode}" takes 2, 4 or 6 numbers, and got {len(pads)}', argument="pad", code="NS404")
        images(f'pad with mode "{mode}" and {len(pads)} numbers', x, count)
    accepting("pad", x, ALL if mode in ("constant", "circular") else NUMBERS)
    _fits("pad", x, arguments["value"])
    return padded("pad", x, pads, mode, "pad")


def _entry(family: str, mode: str, count: int, doc: str) -> Entry:
    name = f"{family}Pad{count}d"
    order = {1: "left, right", 2: "left, right, top, bottom", 3: "left, right, top, bottom, front, back"}[count]
    padding = Argument(
        name="padding",
        kind=f"size{2 * count}",
        positional=True,
        doc=f"rows added at every edge, or [{order}]; negative ones cut",
    )
    value = Argument(name="value", kind="float", positional=True, doc="what the added rows hold")
    return Entry(
        name=name,
        category="layer",
        target=f"torch.nn.{name}",
        arguments=(padding, value) if family == "Constant" else (padding,),
        rule=_fixed(name, count, mode),
        role="reshape",
        doc=doc,
        ancestors=(f"ConstantPad{count}d",) if family == "Zero" else (),
    )


_FAMILIES = (
    ("Zero", "constant", "Adds zeros at the edges."),
    ("Constant", "constant", "Adds a constant at the edges."),
    ("Reflection", "reflect", "Mirrors the rows beside each edge, without the edge itself."),
    ("Replication", "replicate", "Repeats the rows at the edges."),
    ("Circular", "circular", "Continues with the rows of the opposite edge."),
)

ENTRIES: tuple[Entry, ...] = (
    *(_entry(family, mode, count, doc) for family, mode, doc in _FAMILIES for count in (1, 2, 3)),
    Entry(
        name="pad",
        category="function",
        target="torch.nn.functional.pad",
        arguments=(
            Argument(
                name="pad",
                kind="sizes",
                positional=True,
                doc="rows added before and after, from the last dimension backwards: [left, right, top, bottom]",
            ),
            Argument(
                name="mode",
                kind="choice",
                default="constant",
                choices=("constant", "reflect", "replicate", "circular"),
                doc="what the added rows hold",
            ),
            Argument(name="value", kind="float?", default=None, doc='the constant; null: zero (mode "constant" only)'),
        ),
        rule=_pad,
        role="reshape",
        doc="Adds rows at the edges of the last dimensions.",
    ),
)
