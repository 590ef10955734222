"""Modules of torchvision.ops that are made of others, of classes that they are given: a norm, an activation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from netspec.catalog.conv import ENTRIES as CONVOLUTIONS
from netspec.catalog.conv import images
from netspec.catalog.entry import Argument, Entry, Inferred, Part, Port
from netspec.catalog.given import Weights, answered, class_of, filled, inside, layer_at
from netspec.catalog.rules import Arguments, Inputs, inferred, known, one, refuse, rule, spread, tensor
from netspec.shapes import Size, TensorType

Parts = Callable[[Mapping[str, Any]], Iterator[Part]]


def _of_class(name: str, place: str, argument: str, value: Any, *positional: Any, **named: Any) -> Part:
    given = class_of(value)
    assert given is not None
    return Part(place, given.entry, filled(name, argument, given, *positional, **named), argument)


def _weights(parts: Parts) -> Callable[[Mapping[str, Any]], Weights]:
    def shapes(arguments: Mapping[str, Any]) -> Weights:
        found: Weights = {}
        for part in parts(arguments):
            if part.entry.parameters is not None:
                found |= inside(part.place, part.entry.parameters(part.arguments))
        return found

    return shapes


def _statistics(parts: Parts) -> Callable[[Mapping[str, Any]], Weights]:
    def shapes(arguments: Mapping[str, Any]) -> Weights:
        found: Weights = {}
        for part in parts(arguments):
            if part.entry.buffers is not None:
                found |= inside(part.place, part.entry.buffers(part.arguments))
        return found

    return shapes


def through(name: str, parts: Iterator[Part], x: TensorType) -> Iterator[tuple[Part, TensorType, TensorType]]:
    """The layers in a row, each with what it gets and gives."""
    for part in parts:
        given = answered(name, part.argument, part.entry, part.arguments, x)
        yield part, x, given
        x = given


def _chain(name: str, parts: Parts, into: str, axis: int) -> Any:
    """The rule of layers in a row; the argument `into` is the size of the input at that axis."""

    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        x = tensor(inputs, name)
        if axis < -1:
            images(name, x, -axis - 1)
        elif not x.shape:
            refuse(f"{name} takes [..., features], and got a tensor without dimensions")
        what = "features in its last dimension" if axis == -1 else "channels"
        size = inferred(name, arguments, into, known(name, x.shape[axis], "the number of channels"), what)
        for _, _, given in through(name, parts({**arguments, into: size}), x):
            x = given
        return one(x.shape, x.dtype, {into: size})

    return infer


def _flops(name: str, parts: Parts) -> Any:
    def count(arguments: Arguments, inputs: Inputs, answer: Inferred) -> Size:
        found: Size = 0
        for part, x, given in through(name, parts(arguments), inputs["input"]):
            if part.entry.flops is not None:
                found = found + part.entry.flops(part.arguments, {"input": x}, one(given.shape, given.dtype))
        return found

    return count


# A convolution, a norm and an activation


def _padding(count: int, kernel: Any, dilation: Any) -> Any:
    """What keeps the size with stride 1 and an odd kernel."""
    if isinstance(kernel, int) and isinstance(dilation, int):
        return (kernel - 1) // 2 * dilation
    pairs = zip(spread(kernel, count), spread(dilation, count), strict=True)
    return [(k - 1) // 2 * d for k, d in pairs]


def _conv_parts(count: int) -> Parts:
    name = f"Conv{count}dNormActivation"

    def parts(arguments: Mapping[str, Any]) -> Iterator[Part]:
        kernel, dilation, norm = (arguments[key] for key in ("kernel_size", "dilation", "norm_layer"))
        padding, bias = arguments["padding"], arguments["bias"]
        yield layer_at(
            "0",
            f"Conv{count}d",
            **{key: arguments[key] for key in ("in_channels", "out_channels", "kernel_size", "stride", "groups")},
            dilation=dilation,
            padding=_padding(count, kernel, dilation) if padding is None else padding,
            bias=norm is None if bias is None else bias,
        )
        place = 1
        if norm is not None:
            yield _of_class(name, str(place), "norm_layer", norm, arguments["out_channels"])
            place += 1
        if arguments["activation_layer"] is not None:
            named = {} if arguments["inplace"] is None else {"inplace": arguments["inplace"]}
            yield _of_class(name, str(place), "activation_layer", arguments["activation_layer"], **named)

    return parts


def _class(name: str, kind: str, default: str | None, doc: str) -> Argument:
    return Argument(name=name, kind=kind, default=default, doc=doc)


def _channels(name: str, doc: str = "channels of the input") -> Argument:
    return Argument(name=name, kind="int", minimum=1, inferred=True, positional=True, doc=doc)


def _conv(count: int) -> Entry:
    conv = next(entry for entry in CONVOLUTIONS if entry.name == f"Conv{count}d")
    of = {argument.name: argument for argument in conv.arguments}
    name, parts = f"Conv{count}dNormActivation", _conv_parts(count)
    return Entry(
        name=name,
        category="layer",
        target=f"torchvision.ops.{name}",
        arguments=(
            of["in_channels"],
            of["out_channels"],
            replace(of["kernel_size"], default=3),
            of["stride"],
            replace(
                of["padding"],
                kind=f"{of['padding'].kind}?",
                default=None,
                doc="rows added at each edge; null: so many that an odd kernel keeps the size",
            ),
            of["groups"],
            _class("norm_layer", "class?", f"BatchNorm{count}d", "the norm after the convolution; null: none"),
            _class("activation_layer", "class?", "ReLU", "the activation at the end; null: none"),
            of["dilation"],
            Argument(
                name="inplace",
                kind="bool?",
                default=True,
                doc="whether the activation overwrites its input; null: for one that cannot",
            ),
            Argument(name="bias", kind="bool?", default=None, doc="whether to add numbers; null: only without a norm"),
        ),
        rule=_chain(name, parts, "in_channels", -count - 1),
        parameters=_weights(parts),
        inner=parts,
        buffers=_statistics(parts),
        flops=_flops(name, parts),
        doc=f"{'Convolution' if count == 2 else 'Convolution of volumes'}, norm and activation in a row.",
    )


# Linear layers

_READ_BACK = frozenset(("ReLU", "LeakyReLU", "RReLU", "ELU", "SELU", "CELU"))
"""The activations whose gradient, in place, is computed from what they gave."""


def _mlp_parts(arguments: Mapping[str, Any]) -> Iterator[Part]:
    name, place = "MLP", 0
    hidden, norm, activation = (arguments[key] for key in ("hidden_channels", "norm_layer", "activation_layer"))
    named = {} if arguments["inplace"] is None else {"inplace": arguments["inplace"]}
    size = arguments["in_channels"]
    if not hidden:
        refuse(f"{name} takes at least one layer in hidden_channels", argument="hidden_channels", code="NS404")
    if activation is None and len(hidden) > 1:
        refuse(f"{name} of several layers takes an activation_layer", argument="activation_layer", code="NS404")
    if arguments["inplace"] and arguments["dropout"] and len(hidden) > 1:
        made = class_of(activation)
        if made is not None and made.entry.name in _READ_BACK:
            refuse(
                f"{name} in place: the dropout overwrites what the gradient of {made.entry.name} needs",
                help="leave inplace out",
                argument="inplace",
                code="NS404",
            )
    for i, wide in enumerate(hidden):
        yield layer_at(str(place), "Linear", in_features=size, out_features=wide, bias=arguments["bias"])
        place, size = place + 1, wide
        if i < len(hidden) - 1:
            if norm is not None:
                yield _of_class(name, str(place), "norm_layer", norm, wide)
                place += 1
            yield _of_class(name, str(place), "activation_layer", activation, **named)
            place += 1
        yield layer_at(str(place), "Dropout", p=arguments["dropout"], **named)
        place += 1


# Squeeze and excitation


def _squeeze_parts(arguments: Mapping[str, Any]) -> Iterator[Part]:
    """In the order of registration."""
    wide, narrow = arguments["input_channels"], arguments["squeeze_channels"]
    yield layer_at("avgpool", "AdaptiveAvgPool2d", output_size=1)
    yield layer_at("fc1", "Conv2d", in_channels=wide, out_channels=narrow, kernel_size=1)
    yield layer_at("fc2", "Conv2d", in_channels=narrow, out_channels=wide, kernel_size=1)
    for argument in ("activation", "scale_activation"):
        yield _of_class("SqueezeExcitation", argument, argument, arguments[argument])


def _squeeze_in_order(arguments: Mapping[str, Any]) -> Iterator[Part]:
    """In the order of execution."""
    pool, first, second, activation, scale = _squeeze_parts(arguments)
    yield from (pool, first, activation, second, scale)


@rule
def _squeeze(arguments: Arguments, inputs: Inputs) -> Inferred:
    name, x = "SqueezeExcitation", tensor(inputs, "SqueezeExcitation")
    images(name, x, 2)
    channels = known(name, x.shape[-3], "the number of channels")
    size = inferred(name, arguments, "input_channels", channels, "channels")
    scale = x
    for _, _, given in through(name, _squeeze_in_order({**arguments, "input_channels": size}), x):
        scale = given
    if scale.shape != (*x.shape[:-2], 1, 1):
        refuse(f"{name} multiplies by one number for each channel, and its layers make {scale}", code="NS406")
    return one(x.shape, x.dtype, {"input_channels": size})


_IN_ORDER: Final[Mapping[str, Parts]] = {
    "Conv2dNormActivation": _conv_parts(2),
    "Conv3dNormActivation": _conv_parts(3),
    "MLP": _mlp_parts,
    "SqueezeExcitation": _squeeze_in_order,
}


def in_order(name: str) -> Parts | None:
    """The layers inside of one of these modules in the order in which they run; None for another."""
    return _IN_ORDER.get(name)


ENTRIES: tuple[Entry, ...] = (
    _conv(2),
    _conv(3),
    Entry(
        name="MLP",
        category="layer",
        target="torchvision.ops.MLP",
        arguments=(
            _channels("in_channels", "features of the input"),
            Argument(
                name="hidden_channels",
                kind="ints",
                minimum=1,
                positional=True,
                doc="features after each linear layer, the last one's too",
            ),
            _class("norm_layer", "class?", None, "the norm after all linear layers but the last; null: none"),
            _class("activation_layer", "class?", "ReLU", "the activation after all linear layers but the last"),
            Argument(
                name="inplace",
                kind="bool?",
                default=None,
                doc="whether activations and dropouts overwrite their inputs; null: as they do by themselves",
            ),
            Argument(name="bias", kind="bool", default=True, doc="whether the linear layers add learned numbers"),
            Argument(
                name="dropout",
                kind="float",
                default=0.0,
                minimum=0,
                maximum=1,
                doc="probability that a value is set to zero in training",
            ),
        ),
        rule=_chain("MLP", _mlp_parts, "in_channels", -1),
        parameters=_weights(_mlp_parts),
        inner=_mlp_parts,
        buffers=_statistics(_mlp_parts),
        flops=_flops("MLP", _mlp_parts),
        doc="Linear layers in a row, with an activation and a dropout after each.",
    ),
    Entry(
        name="SqueezeExcitation",
        category="layer",
        target="torchvision.ops.SqueezeExcitation",
        arguments=(
            _channels("input_channels"),
            Argument(name="squeeze_channels", kind="int", minimum=1, positional=True, doc="channels in between"),
            _class("activation", "class", "ReLU", "the activation in between"),
            _class("scale_activation", "class", "Sigmoid", "the activation that makes the scales"),
        ),
        inputs=(Port(name="input"),),
        rule=_squeeze,
        parameters=_weights(_squeeze_parts),
        inner=_squeeze_parts,
        buffers=_statistics(_squeeze_parts),
        flops=_flops("SqueezeExcitation", _squeeze_in_order),
        doc="Scales each channel by a number that two small layers make of the means of all.",
    ),
)
