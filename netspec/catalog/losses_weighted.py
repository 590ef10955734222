"""Layers that take the target and hold the last weights themselves: their output is a loss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from math import prod
from typing import Any

from netspec.catalog.entry import Argument, Entry, Inferred, Part, Port
from netspec.catalog.given import layer_at
from netspec.catalog.kinds import tensor_shape
from netspec.catalog.losses import PAIR, REDUCTION, number, weights
from netspec.catalog.losses_classes import cross_entropy
from netspec.catalog.rules import (
    INTEGERS,
    Arguments,
    Inputs,
    inferred,
    known,
    numel,
    refuse,
    rule,
    tensor,
    weighted,
)
from netspec.shapes import Size, TensorType

_ADAPTIVE = "AdaptiveLogSoftmaxWithLoss"
_LINEAR = "LinearCrossEntropyLoss"


def _features(name: str, arguments: Arguments, x: TensorType) -> int:
    if len(x.shape) not in (1, 2):
        refuse(f"{name} takes [N, features] or [features], and got {x}")
    weighted(name, x)
    width = known(name, x.shape[-1], "the number of features")
    return inferred(name, arguments, "in_features", width, "features in its last dimension")


@rule
def _adaptive(arguments: Arguments, inputs: Inputs) -> Inferred:
    x, target = tensor(inputs, _ADAPTIVE), tensor(inputs, _ADAPTIVE, "target")
    features = _features(_ADAPTIVE, arguments, x)
    cutoffs, classes = arguments["cutoffs"], arguments["n_classes"]
    if not cutoffs or list(cutoffs) != sorted(set(cutoffs)) or not 0 < cutoffs[0] <= cutoffs[-1] < classes:
        refuse(
            f"{_ADAPTIVE} takes cutoffs that rise from 1 to below n_classes {classes}, and got {list(cutoffs)}",
            argument="cutoffs",
            code="NS404",
        )
    if arguments["div_value"] <= 0:
        refuse(f"{_ADAPTIVE} takes a div_value above 0", argument="div_value", code="NS406")
    if min(_tails(arguments, features)) < 1:
        refuse(
            f"{_ADAPTIVE}: {features} features divided by div_value {arguments['div_value']} leave none "
            f"for the last of {len(cutoffs)} clusters",
            help="a smaller div_value, or fewer cutoffs",
            argument="div_value",
            code="NS406",
        )
    if target.shape != x.shape[:-1]:
        refuse(
            f"{_ADAPTIVE} of {x} takes class indices {TensorType(x.shape[:-1])}, and got {target}",
            ports=("input", "target"),
            code="NS403",
        )
    if target.dtype != "int64":
        code = "NS406" if target.dtype in INTEGERS else "NS402"
        refuse(f"{_ADAPTIVE} takes class indices as int64, and got {target.dtype}", ports=("target",), code=code)
    outputs = {"output": TensorType(x.shape[:-1], x.dtype), "loss": TensorType((), x.dtype)}
    return Inferred(outputs=outputs, arguments={"in_features": features})


def _tails(arguments: Mapping[str, Any], features: int) -> list[int]:
    """The features between the two matrices of each cluster."""
    return [int(features // arguments["div_value"] ** (i + 1)) for i in range(len(arguments["cutoffs"]))]


def _adaptive_weights(arguments: Mapping[str, Any]) -> Mapping[str, tuple[int, ...]]:
    features, cutoffs = arguments["in_features"], list(arguments["cutoffs"])
    head = cutoffs[0] + len(cutoffs)
    found: dict[str, tuple[int, ...]] = {"head.weight": (head, features)}
    if arguments["head_bias"]:
        found["head.bias"] = (head,)
    inner = _tails(arguments, features)
    for i, (first, end) in enumerate(pairwise([*cutoffs, arguments["n_classes"]])):
        found[f"tail.{i}.0.weight"] = (inner[i], features)
        found[f"tail.{i}.1.weight"] = (end - first, inner[i])
    return found


def _adaptive_parts(arguments: Mapping[str, Any]) -> Iterator[Part]:
    for name, (out, features) in _adaptive_weights({**arguments, "head_bias": False}).items():
        bias = arguments["head_bias"] and name == "head.weight"
        yield layer_at(name.removesuffix(".weight"), "Linear", in_features=features, out_features=out, bias=bias)


def _adaptive_flops(arguments: Arguments, inputs: Inputs, answer: Inferred) -> Size:
    """Of the head alone: how much the clusters compute depends on the targets."""
    x = inputs["input"]
    flops: Size = 2 * numel(x.shape) * (arguments["cutoffs"][0] + len(arguments["cutoffs"]))
    return flops


@rule
def _linear(arguments: Arguments, inputs: Inputs) -> Inferred:
    x, target = tensor(inputs, _LINEAR), tensor(inputs, _LINEAR, "target")
    features = _features(_LINEAR, arguments, x)
    more = tuple(arguments["out_features"])
    if more and len(x.shape) == 1:
        refuse(f"{_LINEAR} with out_features takes [N, features], and got {x}", argument="out_features")
    if arguments["weight"] is not None and tensor_shape(arguments["weight"]) != (arguments["num_classes"],):
        refuse(
            f"{_LINEAR} takes a weight for each of {arguments['num_classes']} classes", argument="weight", code="NS403"
        )
    scores = TensorType((*x.shape[:-1], arguments["num_classes"], *more), x.dtype)
    if target.shape == scores.shape and arguments["ignore_index"] is not None:
        refuse(f"{_LINEAR} of probabilities takes no ignore_index", argument="ignore_index", code="NS404")
    ignored = -100 if arguments["ignore_index"] is None else arguments["ignore_index"]
    answer = cross_entropy(_LINEAR, {**arguments, "ignore_index": ignored}, scores, target)
    return Inferred(outputs=answer.outputs, arguments={"in_features": features})


def _linear_weights(arguments: Mapping[str, Any]) -> Mapping[str, tuple[int, ...]]:
    rows = prod(arguments["out_features"], start=arguments["num_classes"])
    found: dict[str, tuple[int, ...]] = {"linear.weight": (rows, arguments["in_features"])}
    return {**found, "linear.bias": (rows,)} if arguments["bias"] else found


def _linear_parts(arguments: Mapping[str, Any]) -> Iterator[Part]:
    rows, features = _linear_weights(arguments)["linear.weight"]
    yield layer_at("linear", "Linear", in_features=features, out_features=rows, bias=arguments["bias"])


def _linear_buffers(arguments: Mapping[str, Any]) -> Mapping[str, tuple[int, ...]]:
    return {} if arguments["weight"] is None else {"weight": tensor_shape(arguments["weight"])}


def _linear_flops(arguments: Arguments, inputs: Inputs, answer: Inferred) -> Size:
    x = inputs["input"]
    flops: Size = 2 * numel(x.shape) * prod(arguments["out_features"], start=arguments["num_classes"])
    return flops


def _count(name: str, doc: str, inferred: bool = False) -> Argument:
    return Argument(name=name, kind="int", minimum=1, inferred=inferred, positional=True, doc=doc)


_IN = _count("in_features", "size of the input's last dimension", inferred=True)

ENTRIES: tuple[Entry, ...] = (
    Entry(
        name=_ADAPTIVE,
        category="layer",
        target=f"torch.nn.{_ADAPTIVE}",
        arguments=(
            _IN,
            _count("n_classes", "number of classes, the frequent ones first"),
            Argument(name="cutoffs", kind="ints", minimum=1, doc="where each cluster of rarer classes begins"),
            number("div_value", 4.0, "by how much each cluster has fewer features than the one before"),
            Argument(name="head_bias", kind="bool", default=False, doc="whether the head adds a learned vector"),
        ),
        inputs=(Port(name="input"), Port(name="target")),
        returns=("output", "loss"),
        rule=_adaptive,
        parameters=_adaptive_weights,
        inner=_adaptive_parts,
        flops=_adaptive_flops,
        doc="Cross entropy over very many classes, of which rare ones get fewer weights.",
    ),
    Entry(
        name=_LINEAR,
        category="layer",
        target=f"torch.nn.{_LINEAR}",
        arguments=(
            _IN,
            _count("num_classes", "number of classes"),
            Argument(name="out_features", kind="ints", default=(), minimum=1, doc="sizes of what is classified"),
            Argument(name="bias", kind="bool", default=False, doc="whether to add a learned vector"),
            REDUCTION,
            weights("weight", "a factor for each class"),
            Argument(name="ignore_index", kind="int?", default=None, doc="targets with this index do not count"),
            number("label_smoothing", 0.0, "share of the target that is spread over all classes", 0, 1),
        ),
        inputs=PAIR,
        rule=_linear,
        parameters=_linear_weights,
        inner=_linear_parts,
        buffers=_linear_buffers,
        flops=_linear_flops,
        since="2.13",
        doc="A linear layer and the cross entropy of its scores in one, without keeping all scores.",
    ),
)
