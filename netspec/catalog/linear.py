"""Layers that multiply by a matrix, look a row up, or do nothing."""

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
    refuse,
    rule,
    tensor,
    weighted,
)
from netspec.shapes import Size


@rule
def _identity(arguments: Arguments, inputs: Inputs) -> Inferred:
    return Inferred(outputs={"output": inputs["input"]})


@rule
def _linear(arguments: Arguments, inputs: Inputs) -> Inferred:
    x = tensor(inputs, "Linear")
    weighted("Linear", x)
    if not x.shape:
        refuse("Linear takes [..., in_features], and got a tensor without dimensions")
    width = known("Linear", x.shape[-1], "in_features")
    features = inferred("Linear", arguments, "in_features", width, "features in its last dimension")
    return one((*x.shape[:-1], arguments["out_features"]), x.dtype, {"in_features": features})


def _linear_weights(arguments: Mapping[str, Any]) -> Mapping[str, tuple[int, ...]]:
    outs = arguments["out_features"]
    weights = {"weight": (outs, arguments["in_features"])}
    return {**weights, "bias": (outs,)} if arguments["bias"] else weights


def _linear_flops(arguments: Arguments, inputs: Inputs, answer: Inferred) -> Size:
    flops: Size = 2 * numel(inputs["input"].shape) * arguments["out_features"]
    return flops


ENTRIES = (
    Entry(
        name="Linear",
        category="layer",
        target="torch.nn.Linear",
        arguments=(
            Argument(
                name="in_features",
                kind="int",
                minimum=1,
                inferred=True,
                positional=True,
                doc="size of the input's last dimension",
            ),
            Argument(
                name="out_features", kind="int", minimum=1, positional=True, doc="size of the output's last dimension"
            ),
            Argument(name="bias", kind="bool", default=True, doc="whether to add a learned vector"),
        ),
        rule=_linear,
        parameters=_linear_weights,
        flops=_linear_flops,
        role="linear",
        doc="Multiplies the last dimension by a learned matrix and adds a bias.",
    ),
    Entry(
        name="Identity",
        category="layer",
        target="torch.nn.Identity",
        rule=_identity,
        doc="Gives its input unchanged.",
    ),
)
