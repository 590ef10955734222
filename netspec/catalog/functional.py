"""Functions whose weights come in as tensors, and functions that bend images along a grid."""

from __future__ import annotations

from typing import Any

from netspec.catalog.conv import AXES, images, slid
from netspec.catalog.entry import Argument, Entry, Inferred, Port, Role, Rule
from netspec.catalog.norm import over_last
from netspec.catalog.rules import (
    FLOATING,
    Arguments,
    Inputs,
    accepting,
    dimension,
    floating,
    numel,
    one,
    refuse,
    rule,
    spread,
    surely_below,
    tensor,
)
from netspec.shapes import Dim, Size, TensorType


def _floats(name: str, x: TensorType) -> None:
    """Refuse integers, which some of torch's kernels take."""
    if x.dtype not in FLOATING:
        refuse(f"{name} takes floating point, and got {x.dtype}", code="NS406")


def _weight(name: str, inputs: Inputs, x: TensorType, port: str = "weight") -> TensorType:
    weight = tensor(inputs, name, port)
    if weight.dtype != x.dtype:
        refuse(
            f"{name} takes a {port} of the input's dtype {x.dtype}, and got {weight.dtype}",
            ports=("input", port),
            code="NS402",
        )
    return weight


def _bias(name: str, inputs: Inputs, x: TensorType, size: Size, port: str = "bias", code: str = "NS403") -> None:
    if port not in inputs:
        return
    bias = _weight(name, inputs, x, port)
    if bias.shape != (size,):
        refuse(f"{name} takes a {port} {TensorType((size,))}, and got {bias}", ports=(port,), code=code)


@rule
def _linear(arguments: Arguments, inputs: Inputs) -> Inferred:
    x = tensor(inputs, "linear")
    _floats("linear", x)
    weight = _weight("linear", inputs, x)
    if len(weight.shape) != 2:
        refuse(f"linear takes a weight [out, in], and got {weight}", ports=("weight",), code="NS406")
    if not x.shape or x.shape[-1] != weight.shape[1]:
        refuse(
            f"linear takes [..., {weight.shape[1]}] with a weight {weight}, and got {x}",
            ports=("input", "weight"),
            code="NS403",
        )
    _bias("linear", inputs, x, weight.shape[0], code="NS406")
    return one((*x.shape[:-1], weight.shape[0]), x.dtype)


def _linear_flops(arguments: Arguments, inputs: Inputs, answer: Inferred) -> Size:
    flops: Size = 2 * numel(inputs["input"].shape) * inputs["weight"].shape[0]
    return flops


def _conv(count: int, transposed: bool) -> Rule:
    name = f"conv_transpose{count}d" if transposed else f"conv{count}d"

    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        x = tensor(inputs, name)
        images(name, x, count)
        _floats(name, x)
        weight = _weight(name, inputs, x)
        if len(weight.shape) != count + 2:
            order = "in, out / groups" if transposed else "out, in / groups"
            refuse(f"{name} takes a weight [{order}, {AXES[count]}], and got {weight}", ports=("weight",))
        groups, channels = arguments["groups"], x.shape[-count - 1]
        wanted = weight.shape[0] if transposed else weight.shape[1] * groups
        if channels != wanted:
            refuse(
                f"{name} with a weight {weight} takes {wanted} channels, and got {channels}",
                ports=("input", "weight"),
                code="NS403",
            )
        shared = weight.shape[0]
        if not isinstance(shared, Dim) and shared % groups:
            refuse(f"{name}: groups {groups} does not divide {shared}", argument="groups", code="NS404")
        out = weight.shape[1] * groups if transposed else shared
        sizes = (
            _transposed(name, arguments, x, weight, count) if transposed else _plain(name, arguments, x, weight, count)
        )
        _bias(name, inputs, x, out)
        return one((*x.shape[: -count - 1], out, *sizes), x.dtype)

    return infer


def _plain(name: str, arguments: Arguments, x: TensorType, weight: TensorType, count: int) -> list[Size]:
    stride, dilation = (spread(arguments[argument], count) for argument in ("stride", "dilation"))
    padding = arguments["padding"]
    if padding == "same" and any(step != 1 for step in stride):
        refuse(f'{name}: padding "same" works with stride 1 only', argument="padding", code="NS404")
    sizes: list[Size] = []
    for axis in range(count):
        window = dilation[axis] * (weight.shape[axis - count] - 1) + 1
        total = window - 1 if padding == "same" else 0 if padding == "valid" else 2 * spread(padding, count)[axis]
        padded = x.shape[axis - count] + total
        if surely_below(padded, window):
            refuse(
                f"{name}: a weight {weight} is larger than the padded input {padded}, which came from {x}",
                ports=("input", "weight"),
            )
        sizes.append(slid(x.shape[axis - count], total, window, stride[axis]))
    return sizes


def _transposed(name: str, arguments: Arguments, x: TensorType, weight: TensorType, count: int) -> list[Size]:
    sizes: list[Size] = []
    for axis in range(count):
        s, p, extra, d = (
            spread(arguments[argument], count)[axis] for argument in ("stride", "padding", "output_padding", "dilation")
        )
        if extra >= s and extra >= d:
            refuse(
                f"{name}: output_padding {extra} must be smaller than the stride {s} or the dilation {d}",
                argument="output_padding",
                code="NS404",
            )
        result = (x.shape[axis - count] - 1) * s - 2 * p + d * (weight.shape[axis - count] - 1) + extra + 1
        if surely_below(result, 1):
            code = "NS401" if surely_below(result, 0) else "NS406"
            refuse(f"{name}: padding {p} leaves nothing of {x}", argument="padding", code=code)
        sizes.append(result)
    return sizes


def _conv_flops(count: int, transposed: bool) -> Any:
    def flops(arguments: Arguments, inputs: Inputs, answer: Inferred) -> Size:
        output = answer.outputs["output"]
        assert isinstance(output, TensorType)
        x = inputs["input"]
        batch = x.shape[0] if len(x.shape) == count + 2 else 1
        places = x.shape[-count:] if transposed else output.shape[-count:]
        found: Size = 2 * batch * numel(places) * numel(inputs["weight"].shape)
        return found

    return flops


@rule
def _prelu(arguments: Arguments, inputs: Inputs) -> Inferred:
    x = tensor(inputs, "prelu")
    floating("prelu", x)
    weight = _weight("prelu", inputs, x)
    channels = x.shape[1] if len(x.shape) > 1 else 1
    if len(weight.shape) > 1 or (weight.shape and weight.shape[0] not in (1, channels)):
        refuse(f"prelu of {x} takes one slope or {channels}, and got {weight}", ports=("input", "weight"), code="NS403")
    if not x.shape and weight.shape:
        refuse("prelu of a tensor without dimensions takes a slope without dimensions", ports=("weight",), code="NS406")
    return one(x.shape, x.dtype)


@rule
def _group_norm(arguments: Arguments, inputs: Inputs) -> Inferred:
    name = "group_norm"
    x = tensor(inputs, name)
    floating(name, x)
    if len(x.shape) < 2:
        refuse(f"{name} takes [N, C, ...], and got {x}")
    channels, groups = x.shape[1], arguments["num_groups"]
    if isinstance(channels, Dim) or channels % groups:
        refuse(f"{name}: num_groups {groups} does not divide {channels} channels", argument="num_groups", code="NS404")
    values = x.shape[0] * (channels // groups) * numel(x.shape[2:])
    if not isinstance(values, Dim) and values <= 1:
        refuse(f"{name} needs more than one value per group, and got {x}", argument="num_groups")
    for port in ("weight", "bias"):
        _bias(name, inputs, x, channels, port)
    return one(x.shape, x.dtype)


@rule
def _rms_norm(arguments: Arguments, inputs: Inputs) -> Inferred:
    name = "rms_norm"
    x = tensor(inputs, name)
    floating(name, x)
    over_last(name, x, arguments)
    if "weight" in inputs:
        weight = tensor(inputs, name, "weight")
        if weight.shape != tuple(arguments["normalized_shape"]):
            wanted = TensorType(tuple(arguments["normalized_shape"]))
            refuse(f"{name} takes a weight {wanted}, and got {weight}", ports=("weight",), code="NS403")
        if weight.dtype != x.dtype:
            refuse(f"{name} takes a weight of {x.dtype}, and got {weight.dtype}", ports=("weight",), code="NS406")
    return one(x.shape, x.dtype)


@rule
def _gumbel(arguments: Arguments, inputs: Inputs) -> Inferred:
    x = tensor(inputs, "gumbel_softmax", "logits")
    floating("gumbel_softmax", x, "logits")
    dimension("gumbel_softmax", arguments["dim"], len(x.shape))
    return one(x.shape, x.dtype)


@rule
def _affine_grid(arguments: Arguments, inputs: Inputs) -> Inferred:
    x, size = tensor(inputs, "affine_grid", "theta"), tuple(arguments["size"])
    if x.dtype in ("float16", "bfloat16"):
        refuse(f"affine_grid takes float32 or float64, and got {x.dtype}", ports=("theta",), code="NS406")
    accepting("affine_grid", x, FLOATING, "theta")
    if len(size) not in (4, 5):
        refuse(f"affine_grid takes a size [N, C, H, W] or [N, C, D, H, W], and got {list(size)}", argument="size")
    count = len(size) - 2
    if x.shape != (size[0], count, count + 1):
        refuse(
            f"affine_grid for {TensorType(size)} takes theta {TensorType((size[0], count, count + 1))}, and got {x}",
            ports=("theta",),
            argument="size",
            code="NS403",
        )
    return one((size[0], *size[2:], count), x.dtype)


@rule
def _grid_sample(arguments: Arguments, inputs: Inputs) -> Inferred:
    name = "grid_sample"
    x, grid = tensor(inputs, name), tensor(inputs, name, "grid")
    count = len(x.shape) - 2
    if count not in (2, 3) or len(grid.shape) != len(x.shape):
        refuse(
            f"{name} takes [N, C, H, W] and a grid [N, H, W, 2], or [N, C, D, H, W] and a grid [N, D, H, W, 3], "
            f"and got {x} and {grid}",
            ports=("input", "grid"),
        )
    if x.shape[0] != grid.shape[0] or grid.shape[-1] != count:
        wanted = TensorType((x.shape[0], *grid.shape[1:-1], count))
        refuse(f"{name} of {x} takes a grid {wanted}, and got {grid}", ports=("input", "grid"), code="NS403")
    floating(name, x)
    _weight(name, inputs, x, "grid")
    if arguments["mode"] == "bicubic" and count == 3:
        refuse(f"{name} of volumes takes no bicubic mode", argument="mode", code="NS406")
    return one((*x.shape[:2], *grid.shape[1:-1]), x.dtype)


def _function(
    name: str,
    rule: Rule,
    doc: str,
    arguments: tuple[Argument, ...],
    inputs: tuple[Port, ...],
    role: Role = "",
    flops: Any = None,
) -> Entry:
    return Entry(
        name=name,
        category="function",
        target=f"torch.nn.functional.{name}",
        arguments=arguments,
        inputs=inputs,
        rule=rule,
        role=role,
        flops=flops,
        doc=doc,
    )


def _steps(count: int, transposed: bool) -> tuple[Argument, ...]:
    size = f"size{count}"
    stride = Argument(name="stride", kind=size, default=1, minimum=1, doc="step of the window")
    dilation = Argument(name="dilation", kind=size, default=1, minimum=1, doc="distance between the window's points")
    groups = Argument(name="groups", kind="int", default=1, minimum=1, doc="groups that the channels fall into")
    if transposed:
        padding = Argument(name="padding", kind=size, default=0, minimum=0, doc="rows cut from each edge of the output")
        extra = Argument(name="output_padding", kind=size, default=0, minimum=0, doc="rows added at the far edges")
        return (stride, padding, extra, groups, dilation)
    padding = Argument(
        name="padding",
        kind=f"{size}|choice",
        default=0,
        minimum=0,
        choices=("valid", "same"),
        doc='rows added at each edge; "same" keeps the size, "valid" adds none',
    )
    return (stride, padding, dilation, groups)


_X = Port(name="input")
_W = Port(name="weight")
_MAYBE = tuple(Port(name=name, optional=True, keyword=True) for name in ("weight", "bias"))
_EPS = Argument(name="eps", kind="float", default=1e-5, doc="added to the variance, against division by zero")
_CORNERS = Argument(
    name="align_corners",
    kind="bool?",
    default=None,
    doc="whether -1 and 1 are the middles of the outermost values, not their outer edges; null: false",
)

ENTRIES: tuple[Entry, ...] = (
    _function(
        "linear",
        _linear,
        "Multiplies the last dimension by a tensor and adds one.",
        (),
        (_X, _W, Port(name="bias", optional=True)),
        "linear",
        _linear_flops,
    ),
    *(
        _function(
            f"conv_transpose{count}d" if transposed else f"conv{count}d",
            _conv(count, transposed),
            f"{'Transposed convolution' if transposed else 'Convolution'} with a tensor as weight.",
            _steps(count, transposed),
            (_X, _W, Port(name="bias", optional=True)),
            "conv",
            _conv_flops(count, transposed),
        )
        for transposed in (False, True)
        for count in (1, 2, 3)
    ),
    _function("prelu", _prelu, "Scales what is negative by slopes that are a tensor.", (), (_X, _W), "activation"),
    _function(
        "group_norm",
        _group_norm,
        "Brings each group of channels to mean 0 and variance 1, without weights of its own.",
        (
            Argument(name="num_groups", kind="int", minimum=1, positional=True, doc="groups of channels"),
            _EPS,
        ),
        (_X, *_MAYBE),
        "norm",
    ),
    _function(
        "rms_norm",
        _rms_norm,
        "Divides the last dimensions by their root mean square, without weights of its own.",
        (
            Argument(
                name="normalized_shape",
                kind="ints",
                minimum=1,
                positional=True,
                doc="the sizes of the last dimensions, over which it normalises",
            ),
            Argument(name="eps", kind="float?", default=None, doc="added to the mean square; null: the least step"),
        ),
        (_X, _MAYBE[0]),
        "norm",
    ),
    _function(
        "gumbel_softmax",
        _gumbel,
        "Draws from the categories that scores give, with a gradient.",
        (
            Argument(name="tau", kind="float", default=1, doc="temperature: how even the draws are"),
            Argument(name="hard", kind="bool", default=False, doc="whether draws are ones and zeros"),
            Argument(name="eps", kind="float", default=1e-10, doc="no longer used by torch"),
            Argument(name="dim", kind="int", default=-1, doc="the dimension that holds the scores"),
        ),
        (Port(name="logits"),),
    ),
    _function(
        "affine_grid",
        _affine_grid,
        "The grid for `grid_sample` that an affine map makes.",
        (
            Argument(name="size", kind="sizes", minimum=1, positional=True, doc="the sizes of the output image"),
            _CORNERS,
        ),
        (Port(name="theta"),),
    ),
    _function(
        "grid_sample",
        _grid_sample,
        "Takes values of an image at the places of a grid, from -1 to 1.",
        (
            Argument(
                name="mode",
                kind="choice",
                default="bilinear",
                choices=("bilinear", "nearest", "bicubic"),
                doc="what lies between values",
            ),
            Argument(
                name="padding_mode",
                kind="choice",
                default="zeros",
                choices=("zeros", "border", "reflection"),
                doc="what lies beyond the edge",
            ),
            _CORNERS,
        ),
        (_X, Port(name="grid")),
        "merge",
    ),
)
