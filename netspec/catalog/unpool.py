"""Pooling with windows of random sizes, and pooling undone at the places that it remembered."""

from __future__ import annotations

from netspec.catalog.conv import images
from netspec.catalog.entry import Argument, Entry, Inferred, Port, Rule
from netspec.catalog.pooling import RETURN_INDICES, with_indices
from netspec.catalog.rules import (
    FLOATING,
    Arguments,
    Inputs,
    accepting,
    known,
    one,
    refuse,
    rule,
    spread,
    surely_below,
    tensor,
)
from netspec.shapes import Dim, Size


def _places(name: str, arguments: Arguments, count: int, default: list[Size]) -> list[Size]:
    """The size of what is put together again: as stated, or as small as the windows allow."""
    wanted = arguments["output_size"]
    if wanted is None:
        return default
    if len(wanted) not in (count, count + 2):
        refuse(
            f"{name} takes an output_size of {count} or {count + 2} numbers, and got {len(wanted)}",
            argument="output_size",
            code="NS404",
        )
    stride = arguments["kernel_size"] if arguments["stride"] is None else arguments["stride"]
    sizes = list(wanted[-count:])
    for size, usual, step in zip(sizes, default, spread(stride, count), strict=True):
        if not isinstance(usual, Dim) and not isinstance(size, Dim) and not usual - step < size < usual + step:
            refuse(
                f"{name}: output_size {size} is not between {usual - step + 1} and {usual + step - 1}, "
                "which the windows can come from",
                argument="output_size",
                code="NS404",
            )
    return sizes


def _unpool(count: int) -> Rule:
    name = f"MaxUnpool{count}d"

    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        x, indices = tensor(inputs, name), tensor(inputs, name, "indices")
        images(name, x, count)
        if indices.dtype != "int64":
            refuse(
                f"{name} takes places as int64, and got {indices.dtype}",
                help="they are the port `indices` of the pooling with `return_indices: true`",
                ports=("indices",),
                code="NS402",
            )
        if indices.shape != x.shape:
            refuse(f"{name} takes a place for each value of {x}, and got {indices}", ports=("input", "indices"))
        stride = arguments["kernel_size"] if arguments["stride"] is None else arguments["stride"]
        default: list[Size] = [
            (size - 1) * step + kernel - 2 * padding
            for size, step, kernel, padding in zip(
                x.shape[-count:],
                spread(stride, count),
                spread(arguments["kernel_size"], count),
                spread(arguments["padding"], count),
                strict=True,
            )
        ]
        sizes = _places(name, arguments, count, default)
        if any(surely_below(size, 1) for size in sizes):
            code = "NS401" if any(surely_below(size, 0) for size in sizes) else "NS406"
            refuse(f"{name}: padding {arguments['padding']} leaves nothing of {x}", argument="padding", code=code)
        accepting(name, x, FLOATING)
        return one((*x.shape[:-count], *sizes), x.dtype)

    return infer


def _fractional(count: int) -> Rule:
    name = f"FractionalMaxPool{count}d"

    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        x = tensor(inputs, name)
        images(name, x, count)
        accepting(name, x, FLOATING)
        size, ratio = arguments["output_size"], arguments["output_ratio"]
        if (size is None) == (ratio is None):
            refuse(
                f"{name} takes output_size or output_ratio, and got {'neither' if size is None else 'both'}",
                argument="output_size",
                code="NS404",
            )
        if ratio is None:
            sizes = list(spread(size, count))
        else:
            ratios = spread(ratio, count)
            if not all(0 < share < 1 for share in ratios):
                refuse(f"{name} takes ratios between 0 and 1, and got {ratio}", argument="output_ratio", code="NS404")
            sizes = [
                int(known(name, size, "the size of the image") * share)
                for size, share in zip(x.shape[-count:], ratios, strict=True)
            ]
        for size, want, kernel in zip(x.shape[-count:], sizes, spread(arguments["kernel_size"], count), strict=True):
            if surely_below(size, want + kernel - (count == 2)):  # of a volume, torch wants a row more
                refuse(
                    f"{name}: {want} windows of {kernel} do not fit {size}, which came from {x}",
                    help="make the windows smaller, or take fewer",
                    argument="kernel_size",
                )
            if want < 1:
                refuse(f"{name} leaves nothing of {x}", argument="output_ratio", code="NS406")
        return with_indices(arguments, (*x.shape[:-count], *sizes), x.dtype)

    return infer


def _window(count: int) -> Argument:
    return Argument(name="kernel_size", kind=f"size{count}", minimum=1, positional=True, doc="extent of the window")


def _entries(count: int) -> tuple[Entry, ...]:
    unpool = Entry(
        name=f"MaxUnpool{count}d",
        category="layer",
        target=f"torch.nn.MaxUnpool{count}d",
        arguments=(
            _window(count),
            Argument(
                name="stride",
                kind=f"size{count}?",
                default=None,
                minimum=1,
                doc="step of the window; null: the kernel's extent",
            ),
            Argument(
                name="padding",
                kind=f"size{count}",
                default=0,
                minimum=0,
                doc="rows that pooling added at each edge",
            ),
            Argument(
                name="output_size",
                kind="sizes?",
                default=None,
                minimum=1,
                call=True,
                doc="the size that was pooled, where several would give the same windows",
            ),
        ),
        inputs=(Port(name="input"), Port(name="indices")),
        rule=_unpool(count),
        role="pool",
        doc="Undoes max pooling: puts each value where it was the largest, and zeros elsewhere.",
    )
    if count == 1:
        return (unpool,)
    fractional = Entry(
        name=f"FractionalMaxPool{count}d",
        category="layer",
        target=f"torch.nn.FractionalMaxPool{count}d",
        arguments=(
            _window(count),
            Argument(
                name="output_size",
                kind=f"size{count}?",
                default=None,
                minimum=1,
                doc="the size that is wanted; null: by output_ratio",
            ),
            Argument(
                name="output_ratio",
                kind=f"float|float{count}?",
                default=None,
                doc="the size that is wanted as a share of the input's; null: by output_size",
            ),
            RETURN_INDICES,
        ),
        returns=("output", "indices"),
        returns_if="return_indices",
        rule=_fractional(count),
        role="pool",
        doc="Keeps the largest value of windows whose steps are drawn at random.",
    )
    return (unpool, fractional)


ENTRIES: tuple[Entry, ...] = tuple(entry for count in (1, 2, 3) for entry in _entries(count))
