"""Normalisation layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from netspec.catalog.conv import images
from netspec.catalog.entry import Argument, Entry, Inferred, Rule
from netspec.catalog.pooling import AVERAGED
from netspec.catalog.rules import (
    Arguments,
    Inputs,
    accepting,
    floating,
    inferred,
    known,
    numel,
    one,
    refuse,
    rule,
    tensor,
    weighted,
)
from netspec.shapes import Dim, Size, TensorType

_LAYOUTS = {1: "[N, C] or [N, C, L]", 2: "[N, C, H, W]", 3: "[N, C, D, H, W]"}


def _mixed(name: str, x: TensorType) -> None:
    """Refuse what a kernel with float32 weights cannot normalise: it takes half precision too, but not float64."""
    floating(name, x)
    if x.dtype == "float64":
        weighted(name, x)


def _batch_norm(count: int) -> Rule:
    name = f"BatchNorm{count}d" if count else "SyncBatchNorm"

    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        x = tensor(inputs, name)
        if not count and len(x.shape) < 2:
            refuse(f"{name} takes [N, C, ...], and got {x}")
        if count and len(x.shape) != count + 2 and not (count == 1 and len(x.shape) == 2):
            refuse(f"{name} takes {_LAYOUTS[count]}, and got {x}", help=_other_rank("BatchNorm", x))
        if arguments["affine"] or arguments["track_running_stats"]:
            _mixed(name, x)
        else:
            floating(name, x)
        channels = known(name, x.shape[1], "the number of channels")
        code = "NS403" if arguments["affine"] or arguments["track_running_stats"] else "NS406"
        features = inferred(name, arguments, "num_features", channels, "channels", code=code)
        if arguments["eps"] <= 0:
            refuse(f"{name} takes an eps above 0, and got {arguments['eps']}", argument="eps", code="NS406")
        if _at_most_one((x.shape[0], *x.shape[2:])):
            refuse(
                f"{name} needs more than one value per channel in training, and got {x}",
                help="leave the batch size symbolic (N), or normalise before the image is reduced to one place",
            )
        return one(x.shape, x.dtype, {"num_features": features})

    return infer


def _at_most_one(sizes: tuple[Size, ...]) -> bool:
    """Whether a tensor of these sizes has one value at most. Symbolic sizes are 1 or more, and not multiplied out."""
    return 0 in sizes or (not any(isinstance(size, Dim) for size in sizes) and numel(sizes) <= 1)


def _other_rank(family: str, x: TensorType) -> str | None:
    count = {2: 1, 3: 1, 4: 2, 5: 3}.get(len(x.shape))
    return f"{family}{count}d takes this shape" if count else None


def _affine(arguments: Mapping[str, Any]) -> Mapping[str, tuple[int, ...]]:
    if not arguments["affine"]:
        return {}
    features = (arguments["num_features"] if "num_features" in arguments else arguments["num_channels"],)
    return {"weight": features, "bias": features} if arguments["bias"] else {"weight": features}


def _statistics(arguments: Mapping[str, Any]) -> Mapping[str, tuple[int, ...]]:
    if not arguments["track_running_stats"]:
        return {}
    features = arguments["num_features"]
    return {"running_mean": (features,), "running_var": (features,), "num_batches_tracked": ()}


def _features(doc: str) -> Argument:
    return Argument(name="num_features", kind="int", minimum=1, inferred=True, positional=True, doc=doc)


_BIAS = Argument(
    name="bias", kind="bool", default=True, since="2.15", doc="whether what is learned holds a shift beside the scale"
)
EPS = Argument(name="eps", kind="float", default=1e-5, doc="added to the variance, against division by zero")


def _batch(count: int) -> Entry:
    name = f"BatchNorm{count}d"
    return Entry(
        name=name,
        category="layer",
        target=f"torch.nn.{name}",
        arguments=(
            _features("channels of the input"),
            EPS,
            Argument(
                name="momentum",
                kind="float?",
                default=0.1,
                doc="weight of the newest batch in the running statistics; null averages over all batches",
            ),
            Argument(name="affine", kind="bool", default=True, doc=_AFFINE),
            Argument(
                name="track_running_stats",
                kind="bool",
                default=True,
                doc="whether to keep running statistics for evaluation",
            ),
            _BIAS,
        ),
        rule=_batch_norm(count),
        parameters=_affine,
        buffers=_statistics,
        role="norm",
        doc="Brings each channel to mean 0 and variance 1 over the batch.",
    )


def _instance_norm(count: int) -> Rule:
    name = f"InstanceNorm{count}d"

    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        x = tensor(inputs, name)
        images(name, x, count)
        if arguments["affine"]:
            _mixed(name, x)
        else:
            floating(name, x)
        channels = known(name, x.shape[-count - 1], "the number of channels")
        # Without weights and statistics torch only warns.
        code = "NS403" if arguments["affine"] or arguments["track_running_stats"] else "NS406"
        features = inferred(name, arguments, "num_features", channels, "channels", code=code)
        places = numel(x.shape[-count:])
        if not isinstance(places, Dim) and places <= 1:
            refuse(
                f"{name} needs more than one value per channel and sample, and got {x}",
                help="normalise before the image is reduced to one place",
            )
        return one(x.shape, x.dtype, {"num_features": features})

    return infer


def _instance(count: int) -> Entry:
    name = f"InstanceNorm{count}d"
    return Entry(
        name=name,
        category="layer",
        target=f"torch.nn.{name}",
        arguments=(
            _features("channels of the input"),
            EPS,
            Argument(
                name="momentum", kind="float", default=0.1, doc="weight of the newest batch in the running statistics"
            ),
            Argument(name="affine", kind="bool", default=False, doc=_AFFINE),
            Argument(
                name="track_running_stats",
                kind="bool",
                default=False,
                doc="whether to keep running statistics for evaluation",
            ),
            _BIAS,
        ),
        rule=_instance_norm(count),
        parameters=_affine,
        buffers=_statistics,
        role="norm",
        doc="Brings each channel of each sample to mean 0 and variance 1.",
    )


@rule
def _group_norm(arguments: Arguments, inputs: Inputs) -> Inferred:
    name = "GroupNorm"
    x = tensor(inputs, name)
    if len(x.shape) < 2:
        refuse(f"{name} takes [N, C, ...], and got {x}")
    if arguments["affine"]:
        _mixed(name, x)
    else:
        floating(name, x)
    size = known(name, x.shape[1], "the number of channels")
    code = "NS403" if arguments["affine"] else "NS406"
    channels = inferred(name, arguments, "num_channels", size, "channels", code=code)
    groups = arguments["num_groups"]
    if channels % groups:
        refuse(
            f"{name}: num_groups {groups} does not divide the number of channels {channels}",
            help=f"choose num_groups among the divisors of {channels}",
            argument="num_groups",
            code="NS404",
        )
    values = x.shape[0] * (channels // groups) * numel(x.shape[2:])
    if not isinstance(values, Dim) and values <= 1:
        refuse(f"{name} needs more than one value per group, and got {x}", argument="num_groups")
    return one(x.shape, x.dtype, {"num_channels": channels})


def _layer_shape(arguments: Mapping[str, Any]) -> tuple[int, ...]:
    stated = arguments["normalized_shape"]
    return tuple(stated) if isinstance(stated, list | tuple) else (stated,)


def over_last(name: str, x: TensorType, arguments: Arguments) -> Any:
    """The normalized_shape: as stated, which has to be how the input's shape ends, or the input's last size."""
    if not x.shape:
        refuse(f"{name} takes [..., normalized_shape], and got a tensor without dimensions")
    stated = arguments.get("normalized_shape")
    if stated is None:
        return known(name, x.shape[-1], "the size of the last dimension")
    shape = _layer_shape(arguments)
    if not shape or x.shape[-len(shape) :] != shape:
        refuse(
            f"{name} has normalized_shape {list(shape)}, and its input {x} does not end so",
            help="leave normalized_shape out to normalise the last dimension",
            argument="normalized_shape",
            code="NS403",
        )
    return stated


def _last(name: str) -> Rule:
    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        x = tensor(inputs, name)
        if name == "LayerNorm" and arguments["elementwise_affine"]:
            _mixed(name, x)
        else:
            floating(name, x)
        return one(x.shape, x.dtype, {"normalized_shape": over_last(name, x, arguments)})

    return infer


def _layer_weights(arguments: Mapping[str, Any]) -> Mapping[str, tuple[int, ...]]:
    if not arguments["elementwise_affine"]:
        return {}
    shape = _layer_shape(arguments)
    return {"weight": shape, "bias": shape} if arguments.get("bias") else {"weight": shape}


@rule
def _local_response(arguments: Arguments, inputs: Inputs) -> Inferred:
    name = "LocalResponseNorm"
    x = tensor(inputs, name)
    if len(x.shape) < 3:
        refuse(f"{name} takes [N, C, ...] of 3 dimensions or more, and got {x}")
    pooled = AVERAGED[2] if len(x.shape) == 3 else AVERAGED[3]
    accepting(name, x, pooled)
    return one(x.shape, "float32" if x.dtype == "int64" else x.dtype)


@rule
def _cross_map(arguments: Arguments, inputs: Inputs) -> Inferred:
    x = tensor(inputs, "CrossMapLRN2d")
    if len(x.shape) != 4:
        refuse(f"CrossMapLRN2d takes [N, C, H, W], and got {x}")
    floating("CrossMapLRN2d", x)
    if arguments["size"] < 2:
        refuse("CrossMapLRN2d takes a size from 2: of 1 it has no gradient", argument="size", code="NS404")
    return one(x.shape, x.dtype)


_AFFINE = "whether to learn a scale and a shift per channel"
_NORMALIZED = Argument(
    name="normalized_shape",
    kind="int|ints",
    minimum=1,
    inferred=True,
    positional=True,
    doc="the sizes of the last dimensions, over which it normalises; left out: the last one",
)
_ELEMENTWISE = Argument(
    name="elementwise_affine", kind="bool", default=True, doc="whether to learn a scale for each value"
)
_RESPONSE = (
    Argument(name="size", kind="int", minimum=1, positional=True, doc="neighbouring channels that are looked at"),
    Argument(name="alpha", kind="float", default=1e-4, doc="factor on the mean square"),
    Argument(name="beta", kind="float", default=0.75, doc="exponent"),
    Argument(name="k", kind="float", default=1.0, doc="added before the power is taken"),
)

ENTRIES: tuple[Entry, ...] = (
    *(_batch(count) for count in (1, 2, 3)),
    replace(
        _batch(1),
        name="SyncBatchNorm",
        target="torch.nn.SyncBatchNorm",
        rule=_batch_norm(0),
        doc="BatchNorm of any number of dimensions, over the batches of all processes.",
    ),
    *(_instance(count) for count in (1, 2, 3)),
    Entry(
        name="GroupNorm",
        category="layer",
        target="torch.nn.GroupNorm",
        arguments=(
            Argument(
                name="num_groups", kind="int", minimum=1, positional=True, doc="groups that the channels fall into"
            ),
            Argument(
                name="num_channels",
                kind="int",
                minimum=1,
                inferred=True,
                positional=True,
                doc="channels of the input",
            ),
            EPS,
            Argument(name="affine", kind="bool", default=True, doc=_AFFINE),
            _BIAS,
        ),
        rule=_group_norm,
        parameters=_affine,
        role="norm",
        doc="Brings each group of channels of each sample to mean 0 and variance 1.",
    ),
    Entry(
        name="LayerNorm",
        category="layer",
        target="torch.nn.LayerNorm",
        arguments=(
            _NORMALIZED,
            EPS,
            _ELEMENTWISE,
            Argument(name="bias", kind="bool", default=True, doc="whether to learn a shift for each value"),
        ),
        rule=_last("LayerNorm"),
        parameters=_layer_weights,
        role="norm",
        doc="Brings the last dimensions of each sample to mean 0 and variance 1.",
    ),
    Entry(
        name="RMSNorm",
        category="layer",
        target="torch.nn.RMSNorm",
        arguments=(
            _NORMALIZED,
            Argument(
                name="eps",
                kind="float?",
                default=None,
                doc="added to the mean square; null: the smallest step of the dtype",
            ),
            _ELEMENTWISE,
        ),
        rule=_last("RMSNorm"),
        parameters=_layer_weights,
        role="norm",
        doc="Divides the last dimensions of each sample by their root mean square.",
    ),
    Entry(
        name="LocalResponseNorm",
        category="layer",
        target="torch.nn.LocalResponseNorm",
        arguments=_RESPONSE,
        rule=_local_response,
        role="norm",
        doc="Divides each value by the size of its neighbours in other channels, as in AlexNet's paper.",
    ),
    Entry(
        name="CrossMapLRN2d",
        category="layer",
        target="torch.nn.CrossMapLRN2d",
        arguments=_RESPONSE,
        rule=_cross_map,
        role="norm",
        doc="LocalResponseNorm of images, as Caffe and Lua's Torch computed it.",
    ),
)
