"""Modules of torchvision.ops that stand between layers.

Its composed modules (`Conv2dNormActivation`, `SqueezeExcitation`, `MLP`) are blocks, which a spec writes itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from netspec.catalog.entry import Argument, Entry, Inferred, Port, Rule
from netspec.catalog.norm import EPS
from netspec.catalog.reshape import permuted
from netspec.catalog.rules import (
    FLOATING,
    Arguments,
    Inputs,
    accepting,
    inferred,
    known,
    one,
    promoted,
    refuse,
    rule,
    spread,
    surely_below,
    tensor,
    weighted,
)
from netspec.shapes import Dim, TensorType

_X = (Port(name="x"),)


@rule
def _stochastic_depth(arguments: Arguments, inputs: Inputs) -> Inferred:
    x = tensor(inputs, "StochasticDepth")
    if 0 < arguments["p"] < 1:
        accepting("StochasticDepth", x, FLOATING)
    if arguments["p"] and arguments["mode"] == "row" and not x.shape:
        refuse("StochasticDepth of rows takes [N, ...], and got a tensor without dimensions", argument="mode")
    return one(x.shape, x.dtype)


def _drop_block(count: int) -> Rule:
    name = f"DropBlock{count}d"

    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        x = tensor(inputs, name)
        if len(x.shape) != count + 2:
            refuse(f"{name} takes [N, C, {'H, W' if count == 2 else 'D, H, W'}], and got {x}")
        if not arguments["p"]:
            return one(x.shape, x.dtype)
        if x.dtype not in FLOATING:
            refuse(f"{name} takes floating point, and got {x.dtype}", code="NS406")
        block = min([arguments["block_size"], *(size for size in x.shape[2:] if not isinstance(size, Dim))])
        if block % 2 == 0:
            refuse(
                f"{name} takes an odd block_size, no larger than the image, and {block} is even",
                argument="block_size",
                code="NS404",
            )
        return one(x.shape, x.dtype)

    return infer


@rule
def _permute(arguments: Arguments, inputs: Inputs) -> Inferred:
    return permuted("Permute", tensor(inputs, "Permute", "x"), arguments["dims"], "x")


@rule
def _frozen(arguments: Arguments, inputs: Inputs) -> Inferred:
    name = "FrozenBatchNorm2d"
    x = tensor(inputs, name, "x")
    if len(x.shape) != 4:
        refuse(f"{name} takes [N, C, H, W], and got {x}", ports=("x",), code="NS406")
    channels = known(name, x.shape[1], "the number of channels", "x")
    features = inferred(name, arguments, "num_features", channels, "channels", "x", code="NS406")
    return one(x.shape, promoted(x, TensorType((1,))), {"num_features": features})


def _statistics(arguments: Mapping[str, Any]) -> Mapping[str, tuple[int, ...]]:
    return dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (arguments["num_features"],))


@rule
def _deformed(arguments: Arguments, inputs: Inputs) -> Inferred:
    name = "DeformConv2d"
    x, offset = tensor(inputs, name), tensor(inputs, name, "offset")
    for port, given in (("input", x), ("offset", offset)):
        if len(given.shape) != 4:
            refuse(f"{name} takes [N, C, H, W], and got {given}", ports=(port,), code="NS406")
        weighted(name, given, port)
    channels = known(name, x.shape[1], "the number of channels")
    wide = inferred(name, arguments, "in_channels", channels, "channels")
    for argument, value in (("in_channels", wide), ("out_channels", arguments["out_channels"])):
        if value % arguments["groups"]:
            refuse(f"{name}: groups do not divide {argument} {value}", argument="groups", code="NS404")
    kernel, stride, padding, dilation = (
        spread(arguments[argument], 2) for argument in ("kernel_size", "stride", "padding", "dilation")
    )
    sizes = []
    for size, k, s, p, d in zip(x.shape[2:], kernel, stride, padding, dilation, strict=True):
        if surely_below(size + 2 * p, d * (k - 1) + 1):
            refuse(f"{name}: kernel {k} is larger than the padded input {size + 2 * p}", argument="kernel_size")
        sizes.append((size + 2 * p - d * (k - 1) - 1) // s + 1)
    points = kernel[0] * kernel[1]
    groups = known(name, offset.shape[1], "the number of offsets", "offset") // (2 * points)
    wanted = TensorType((x.shape[0], max(groups, 1) * 2 * points, *sizes))
    if offset.shape != wanted.shape or wide % max(groups, 1):
        refuse(
            f"{name} of {x} takes an offset {wanted}, two numbers for each point of the kernel, and got {offset}",
            ports=("input", "offset"),
            code="NS403",
        )
    if "mask" in inputs:
        mask = tensor(inputs, name, "mask")
        weighted(name, mask, "mask")
        expected = TensorType((x.shape[0], groups * points, *sizes))
        if mask.shape != expected.shape:
            refuse(f"{name} takes a mask {expected}, and got {mask}", ports=("input", "mask"), code="NS403")
    return one((x.shape[0], arguments["out_channels"], *sizes), x.dtype, {"in_channels": wide})


def _deformed_weights(arguments: Mapping[str, Any]) -> Mapping[str, tuple[int, ...]]:
    outs, ins = arguments["out_channels"], arguments["in_channels"] // arguments["groups"]
    found: dict[str, tuple[int, ...]] = {"weight": (outs, ins, *spread(arguments["kernel_size"], 2))}
    return {**found, "bias": (outs,)} if arguments["bias"] else found


def _p(doc: str) -> Argument:
    return Argument(name="p", kind="float", minimum=0, maximum=1, positional=True, doc=doc)


ENTRIES: tuple[Entry, ...] = (
    Entry(
        name="StochasticDepth",
        category="layer",
        target="torchvision.ops.StochasticDepth",
        arguments=(
            _p("probability that a sample is set to zero"),
            Argument(
                name="mode",
                kind="choice",
                choices=("batch", "row"),
                positional=True,
                doc="whether the whole batch is dropped, or each sample for itself",
            ),
        ),
        rule=_stochastic_depth,
        role="dropout",
        doc="Sets whole samples to zero at random in training, for branches that are added to a shortcut.",
    ),
    *(
        Entry(
            name=f"DropBlock{count}d",
            category="layer",
            target=f"torchvision.ops.DropBlock{count}d",
            arguments=(
                _p("probability that a value is set to zero"),
                Argument(name="block_size", kind="int", minimum=1, positional=True, doc="side of the blocks, odd"),
                Argument(name="inplace", kind="bool", default=False, doc="whether to overwrite the input"),
                Argument(name="eps", kind="float", default=1e-6, doc="added before what is left is scaled up"),
            ),
            rule=_drop_block(count),
            role="dropout",
            doc=f"Sets blocks of {what} to zero at random in training.",
            ancestors=("DropBlock2d",) if count == 3 else (),
        )
        for count, what in ((2, "images"), (3, "volumes"))
    ),
    Entry(
        name="DeformConv2d",
        category="layer",
        target="torchvision.ops.DeformConv2d",
        arguments=(
            Argument(
                name="in_channels", kind="int", minimum=1, inferred=True, positional=True, doc="channels of the input"
            ),
            Argument(name="out_channels", kind="int", minimum=1, positional=True, doc="channels of the output"),
            Argument(name="kernel_size", kind="size2", minimum=1, doc="extent of the window"),
            Argument(name="stride", kind="size2", default=1, minimum=1, doc="step of the window"),
            Argument(name="padding", kind="size2", default=0, minimum=0, doc="rows of zeros added at each edge"),
            Argument(name="dilation", kind="size2", default=1, minimum=1, doc="distance between the window's points"),
            Argument(name="groups", kind="int", default=1, minimum=1, doc="groups that the channels fall into"),
            Argument(name="bias", kind="bool", default=True, doc="whether to add a learned number per output channel"),
        ),
        inputs=(Port(name="input"), Port(name="offset"), Port(name="mask", optional=True)),
        rule=_deformed,
        parameters=_deformed_weights,
        role="conv",
        doc="Convolution whose points are moved, each by an offset that comes in as a tensor.",
    ),
    Entry(
        name="Permute",
        category="layer",
        target="torchvision.ops.Permute",
        arguments=(Argument(name="dims", kind="ints", positional=True, doc="the dimensions in their new order"),),
        inputs=_X,
        rule=_permute,
        role="reshape",
        doc="Puts the dimensions into another order.",
    ),
    Entry(
        name="FrozenBatchNorm2d",
        category="layer",
        target="torchvision.ops.FrozenBatchNorm2d",
        arguments=(
            Argument(
                name="num_features", kind="int", minimum=1, inferred=True, positional=True, doc="channels of the input"
            ),
            EPS,
        ),
        inputs=_X,
        rule=_frozen,
        buffers=_statistics,
        role="norm",
        doc="BatchNorm2d whose statistics, scale and shift stay as they are loaded.",
    ),
)
