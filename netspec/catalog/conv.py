"""Convolutions and their transposes, in one, two and three dimensions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from netspec.catalog.entry import Argument, Entry, Inferred
from netspec.catalog.rules import (
    Arguments,
    Inputs,
    inferred,
    known,
    numel,
    one,
    plural,
    refuse,
    rule,
    spread,
    surely_below,
    tensor,
    weighted,
)
from netspec.shapes import Dim, Size, TensorType

AXES = {1: "L", 2: "H, W", 3: "D, H, W"}
_MODES = ("zeros", "reflect", "replicate", "circular")


def images(name: str, x: TensorType, count: int) -> None:
    """Refuse a shape that is not [N, C, spatial …] or [C, spatial …]."""
    if len(x.shape) in (count + 1, count + 2):
        return
    help = None
    if len(x.shape) < count + 1:
        help = "reshape or unflatten it first, or move this layer before the one that flattens"
    refuse(f"{name} takes [N, C, {AXES[count]}] or [C, {AXES[count]}], and got {x}", help=help)


def slid(size: Size, padding: Size, window: Size, step: int) -> Size:
    """How many places a window has. At a step of 1 in the form that is `size` itself where the padding makes up for
    the window, so that a loop of such layers is seen to leave the size alone; a step that bears a name may be another.
    """
    if type(step) is int and step == 1:
        return size + (padding - window + 1)
    return (size + padding - window) // step + 1


def _channels(name: str, arguments: Arguments, x: TensorType, count: int) -> int:
    if len(x.shape) == count + 1 and isinstance(x.shape[0], Dim):
        refuse(
            f"{name} takes [N, C, {AXES[count]}], and in {x} the channels are {x.shape[0]}, which is not known",
            help=f"a batch has {count + 2} sizes, as in [N, 3, {AXES[count]}]: for one channel write "
            f"[{x.shape[0]}, 1, {', '.join(map(str, x.shape[1:]))}], or unsqueeze",
            code="NS407",
        )
    size = known(name, x.shape[-count - 1], "the number of channels")
    channels = inferred(name, arguments, "in_channels", size, "channels")
    groups = arguments["groups"]
    for argument, value in (("in_channels", channels), ("out_channels", arguments["out_channels"])):
        if value % groups:
            refuse(
                f"{name}: groups {groups} does not divide {argument} {value}",
                help=f"choose groups among the divisors of {value}",
                argument="groups",
                code="NS404",
            )
    return channels


def _conv(count: int) -> Any:
    name = f"Conv{count}d"

    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        x = tensor(inputs, name)
        images(name, x, count)
        weighted(name, x)
        channels = _channels(name, arguments, x, count)
        kernel = spread(arguments["kernel_size"], count)
        stride = spread(arguments["stride"], count)
        dilation = spread(arguments["dilation"], count)
        padding = arguments["padding"]
        if padding == "same":
            if any(step != 1 for step in stride):
                refuse(
                    f'{name}: padding "same" works with stride 1 only, and stride is {arguments["stride"]}',
                    help="state the padding as a number",
                    argument="padding",
                    code="NS404",
                )
            totals = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        elif padding == "valid":
            totals = [0] * count
        else:
            totals = [2 * p for p in spread(padding, count)]
        _check_mode(name, arguments, x, [(total // 2, total - total // 2) for total in totals])
        sizes = []
        for size, k, s, d, total in zip(x.shape[-count:], kernel, stride, dilation, totals, strict=True):
            padded = size + total
            window = d * (k - 1) + 1
            if surely_below(padded, window):
                what = f"kernel {k}" if d == 1 else f"kernel {k} with dilation {d} (spanning {window})"
                refuse(
                    f"{name}: {what} is larger than the padded input {padded}, which came from {x}",
                    help="make the kernel smaller, pad more, or reduce the image less before this layer",
                    argument="kernel_size",
                )
            sizes.append(slid(size, total, window, s))
        shape = (*x.shape[: -count - 1], arguments["out_channels"], *sizes)
        return one(shape, x.dtype, {"in_channels": channels})

    return infer


def _check_mode(name: str, arguments: Arguments, x: TensorType, pads: list[tuple[Size, Size]]) -> None:
    mode = arguments["padding_mode"]
    if mode not in ("reflect", "circular"):
        return
    for size, (before, after) in zip(x.shape[-len(pads) :], pads, strict=True):
        limit = size if mode == "reflect" else size + 1
        most = max(before, after)
        if not surely_below(limit, most + 1):
            continue
        refuse(
            f'{name}: padding_mode "{mode}" can pad {size} by at most {limit - 1} on a side, and padding is {most}',
            help="pad less, or with zeros",
            argument="padding",
        )


def _conv_transpose(count: int) -> Any:
    name = f"ConvTranspose{count}d"

    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        x = tensor(inputs, name)
        images(name, x, count)
        weighted(name, x)
        channels = _channels(name, arguments, x, count)
        sizes = []
        for axis, size in enumerate(x.shape[-count:]):
            k, s, p, extra, d = (
                spread(arguments[argument], count)[axis]
                for argument in ("kernel_size", "stride", "padding", "output_padding", "dilation")
            )
            if extra >= s and extra >= d:
                refuse(
                    f"{name}: output_padding {extra} must be smaller than the stride {s} or the dilation {d}",
                    argument="output_padding",
                    code="NS404",
                )
            result = (size - 1) * s - 2 * p + d * (k - 1) + extra + 1
            if surely_below(result, 1):
                refuse(
                    f"{name}: padding {p} leaves nothing of the output of {plural(size, 'row')}",
                    help="pad less, or use a larger kernel",
                    argument="padding",
                    code="NS401" if surely_below(result, 0) else "NS406",
                )
            sizes.append(result)
        shape = (*x.shape[: -count - 1], arguments["out_channels"], *sizes)
        return one(shape, x.dtype, {"in_channels": channels})

    return infer


def _parameters(count: int, transposed: bool) -> Any:
    def weights(arguments: Mapping[str, Any]) -> Mapping[str, tuple[int, ...]]:
        ins, outs, groups = arguments["in_channels"], arguments["out_channels"], arguments["groups"]
        channels = (ins, outs // groups) if transposed else (outs, ins // groups)
        found = {"weight": (*channels, *spread(arguments["kernel_size"], count))}
        if arguments["bias"]:
            found["bias"] = (outs,)
        return found

    return weights


def _flops(count: int, transposed: bool) -> Any:
    def count_flops(arguments: Arguments, inputs: Inputs, answer: Inferred) -> Size:
        output = answer.outputs["output"]
        assert isinstance(output, TensorType)
        x = inputs["input"]
        batch = x.shape[0] if len(x.shape) == count + 2 else 1
        places = x.shape[-count:] if transposed else output.shape[-count:]
        weight = x.shape[-count - 1] // arguments["groups"] * arguments["out_channels"]
        flops: Size = 2 * batch * numel(places) * weight * numel(spread(arguments["kernel_size"], count))
        return flops

    return count_flops


def _entry(count: int, transposed: bool) -> Entry:
    size = f"size{count}"
    in_channels = Argument(
        name="in_channels", kind="int", minimum=1, inferred=True, positional=True, doc="channels of the input"
    )
    out_channels = Argument(name="out_channels", kind="int", minimum=1, positional=True, doc="channels of the output")
    kernel = Argument(name="kernel_size", kind=size, minimum=1, doc="extent of the window")
    stride = Argument(name="stride", kind=size, default=1, minimum=1, doc="step of the window")
    dilation = Argument(name="dilation", kind=size, default=1, minimum=1, doc="distance between the window's points")
    groups = Argument(
        name="groups", kind="int", default=1, minimum=1, doc="number of separate groups that the channels fall into"
    )
    bias = Argument(name="bias", kind="bool", default=True, doc="whether to add a learned number per output channel")
    arguments: tuple[Argument, ...]
    if transposed:
        arguments = (
            in_channels,
            out_channels,
            kernel,
            stride,
            Argument(name="padding", kind=size, default=0, minimum=0, doc="rows cut from each edge of the output"),
            Argument(name="output_padding", kind=size, default=0, minimum=0, doc="rows added at the far edges"),
            groups,
            bias,
            dilation,
            Argument(name="padding_mode", kind="choice", default="zeros", choices=("zeros",), doc="only zeros"),
        )
        doc = f"Transposed convolution over {_over(count)}: enlarges by its stride."
    else:
        arguments = (
            in_channels,
            out_channels,
            kernel,
            stride,
            Argument(
                name="padding",
                kind=f"{size}|choice",
                default=0,
                minimum=0,
                choices=("valid", "same"),
                doc='rows added at each edge; "same" keeps the size, "valid" adds none',
            ),
            dilation,
            groups,
            bias,
            Argument(
                name="padding_mode", kind="choice", default="zeros", choices=_MODES, doc="what the added rows hold"
            ),
        )
        doc = f"Convolution over {_over(count)}."
    name = f"ConvTranspose{count}d" if transposed else f"Conv{count}d"
    return Entry(
        name=name,
        category="layer",
        target=f"torch.nn.{name}",
        arguments=arguments,
        rule=_conv_transpose(count) if transposed else _conv(count),
        parameters=_parameters(count, transposed),
        flops=_flops(count, transposed),
        role="conv",
        doc=doc,
    )


def _over(count: int) -> str:
    return {1: "sequences [N, C, L]", 2: "images [N, C, H, W]", 3: "volumes [N, C, D, H, W]"}[count]


ENTRIES = tuple(_entry(count, transposed) for transposed in (False, True) for count in (1, 2, 3))
