"""Layers that multiply by a matrix, look a row up, or do nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from netspec.catalog.entry import Argument, Entry, Inferred, Port
from netspec.catalog.rules import (
    Arguments,
    Inputs,
    inferred,
    known,
    numel,
    one,
    refuse,
    rule,
    surely_below,
    tensor,
    weighted,
)
from netspec.shapes import Dim, Size


@rule
def _identity(arguments: Arguments, inputs: Inputs) -> Inferred:
    return Inferred(outputs={"output": inputs["input"]})


@rule
def _linear(arguments: Arguments, inputs: Inputs) -> Inferred:
    x = tensor(inputs, "Linear")
    weighted("Linear", x)
    if not x.shape:
        refuse("Linear takes [..., in_features], and got a tensor without dimensions")
    if len(x.shape) == 1 and isinstance(x.shape[0], Dim) and x.shape[0] not in map(Dim, x.shape[0].symbols):
        refuse(
            f"Linear takes [..., in_features], and its input {x} has lost the batch: {x.shape[0]} is the size of all",
            help="flatten from dimension 1 on: `{type: flatten, start_dim: 1}`, or `Flatten`",
            code="NS407",
        )
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


@rule
def _bilinear(arguments: Arguments, inputs: Inputs) -> Inferred:
    a, b = tensor(inputs, "Bilinear", "input1"), tensor(inputs, "Bilinear", "input2")
    found = {}
    for number, x in ((1, a), (2, b)):
        port = f"input{number}"
        weighted("Bilinear", x, port)
        if not x.shape:
            refuse("Bilinear takes [..., features], and got a tensor without dimensions", ports=(port,))
        width = known("Bilinear", x.shape[-1], f"in{number}_features", port)
        found[f"in{number}_features"] = inferred(
            "Bilinear", arguments, f"in{number}_features", width, "features in its last dimension", port
        )
    if a.shape[:-1] != b.shape[:-1]:
        refuse(
            f"Bilinear takes two inputs that differ in the last size only, and got {a} and {b}",
            ports=("input1", "input2"),
            code="NS403",
        )
    return one((*a.shape[:-1], arguments["out_features"]), a.dtype, found)


def _bilinear_weights(arguments: Mapping[str, Any]) -> Mapping[str, tuple[int, ...]]:
    outs = arguments["out_features"]
    weights = {"weight": (outs, arguments["in1_features"], arguments["in2_features"])}
    return {**weights, "bias": (outs,)} if arguments["bias"] else weights


@rule
def _embedding(arguments: Arguments, inputs: Inputs) -> Inferred:
    x = tensor(inputs, "Embedding")
    if x.dtype not in ("int64", "int32"):
        refuse(
            f"Embedding takes indices, int64 or int32, and got {x.dtype}",
            help="declare the input with its dtype: {shape: [N, T], dtype: int64}",
            code="NS402",
        )
    rows, padding = arguments["num_embeddings"], arguments["padding_idx"]
    if padding is not None and not -rows <= padding < rows:
        refuse(
            f"Embedding: padding_idx {padding} is no row of {rows}",
            argument="padding_idx",
            code="NS404",
        )
    if arguments["sparse"] and arguments["scale_grad_by_freq"]:
        refuse("Embedding cannot scale a sparse gradient by frequency", argument="scale_grad_by_freq", code="NS404")
    if arguments["sparse"] and padding is not None and not x.shape:
        refuse("Embedding with a sparse gradient and padding_idx takes [...] with dimensions, and got none")
    return one((*x.shape, arguments["embedding_dim"]), "float32")


@rule
def _bag(arguments: Arguments, inputs: Inputs) -> Inferred:
    name = "EmbeddingBag"
    x = tensor(inputs, name)
    if x.dtype not in ("int64", "int32"):
        refuse(f"{name} takes indices, int64 or int32, and got {x.dtype}", code="NS402")
    if len(x.shape) not in (1, 2):
        refuse(f"{name} takes indices [bags, indices], or [indices] with offsets, and got {x}")
    if (len(x.shape) == 1) != ("offsets" in inputs):
        refuse(f"{name} takes offsets for indices [n] and none for [bags, indices], and got {x}", ports=("input",))
    bags = x.shape[0]
    if "offsets" in inputs:
        offsets = tensor(inputs, name, "offsets")
        if offsets.dtype not in ("int64", "int32") or len(offsets.shape) != 1:
            given = f"{offsets} {offsets.dtype}"
            refuse(f"{name} takes offsets [bags] of int64, and got {given}", ports=("offsets",), code="NS406")
        bags = offsets.shape[0] - 1 if arguments["include_last_offset"] else offsets.shape[0]
        if surely_below(bags, 1):
            refuse(f"{name} with include_last_offset takes an offset more than bags", ports=("offsets",), code="NS406")
    mode, padding = arguments["mode"], arguments["padding_idx"]
    if "per_sample_weights" in inputs:
        weights = tensor(inputs, name, "per_sample_weights")
        if mode != "sum":
            refuse(f"{name} takes per_sample_weights with mode sum, and mode is {mode}", argument="mode", code="NS404")
        if weights.shape != x.shape or weights.dtype != "float32":
            refuse(
                f"{name} takes per_sample_weights {x} of float32, and got {weights} {weights.dtype}",
                ports=("input", "per_sample_weights"),
            )
    if mode == "max":
        for argument in ("scale_grad_by_freq", "sparse"):
            if arguments[argument]:
                refuse(f"{name} with mode max takes no {argument}", argument=argument, code="NS404")
    if arguments["sparse"] and arguments["scale_grad_by_freq"]:
        refuse(f"{name} cannot scale a sparse gradient by frequency", argument="scale_grad_by_freq", code="NS404")
    rows = arguments["num_embeddings"]
    if padding is not None and not -rows <= padding < rows:
        refuse(f"{name}: padding_idx {padding} is no row of {rows}", argument="padding_idx", code="NS404")
    return one((bags, arguments["embedding_dim"]), "float32")


def _bias(what: str) -> Argument:
    return Argument(name="bias", kind="bool", default=True, doc=f"whether to add {what}")


def _features(name: str, doc: str, inferred: bool = False) -> Argument:
    return Argument(name=name, kind="int", minimum=1, inferred=inferred, positional=True, doc=doc)


_TABLE = (
    _features("num_embeddings", "rows of the table: the number of different indices"),
    _features("embedding_dim", "size of each row"),
)
_NORM = (
    Argument(name="max_norm", kind="float?", default=None, doc="rows longer than this are shortened to it"),
    Argument(name="norm_type", kind="float", default=2.0, doc="the power of the norm for max_norm"),
)
_FREQUENCY = Argument(
    name="scale_grad_by_freq",
    kind="bool",
    default=False,
    doc="whether gradients are divided by how often an index occurs in the batch",
)
_SPARSE = Argument(name="sparse", kind="bool", default=False, doc="whether the gradient is a sparse tensor")

ENTRIES = (
    Entry(
        name="Linear",
        category="layer",
        target="torch.nn.Linear",
        arguments=(
            _features("in_features", "size of the input's last dimension", inferred=True),
            _features("out_features", "size of the output's last dimension"),
            _bias("a learned vector"),
        ),
        rule=_linear,
        parameters=_linear_weights,
        flops=_linear_flops,
        role="linear",
        doc="Multiplies the last dimension by a learned matrix and adds a bias.",
    ),
    Entry(
        name="Bilinear",
        category="layer",
        target="torch.nn.Bilinear",
        arguments=(
            _features("in1_features", "size of the first input's last dimension", inferred=True),
            _features("in2_features", "size of the second input's last dimension", inferred=True),
            _features("out_features", "size of the output's last dimension"),
            _bias("a learned vector"),
        ),
        inputs=(Port(name="input1"), Port(name="input2")),
        rule=_bilinear,
        parameters=_bilinear_weights,
        role="linear",
        doc="Multiplies two inputs by a learned tensor of three dimensions.",
    ),
    Entry(
        name="Embedding",
        category="layer",
        target="torch.nn.Embedding",
        arguments=(
            *_TABLE,
            Argument(name="padding_idx", kind="int?", default=None, doc="index whose row is zero and stays as it is"),
            *_NORM,
            _FREQUENCY,
            _SPARSE,
        ),
        rule=_embedding,
        parameters=lambda a: {"weight": (a["num_embeddings"], a["embedding_dim"])},
        role="linear",
        doc="Looks up a learned row for each index.",
    ),
    Entry(
        name="EmbeddingBag",
        category="layer",
        target="torch.nn.EmbeddingBag",
        arguments=(
            *_TABLE,
            *_NORM,
            _FREQUENCY,
            Argument(
                name="mode",
                kind="choice",
                default="mean",
                choices=("sum", "mean", "max"),
                doc="what becomes of the rows of a bag",
            ),
            _SPARSE,
            Argument(
                name="include_last_offset",
                kind="bool",
                default=False,
                doc="whether a last offset says where all end",
            ),
            Argument(name="padding_idx", kind="int?", default=None, doc="index that does not count"),
        ),
        inputs=(
            Port(name="input"),
            Port(name="offsets", optional=True, keyword=True),
            Port(name="per_sample_weights", optional=True, keyword=True),
        ),
        rule=_bag,
        parameters=lambda a: {"weight": (a["num_embeddings"], a["embedding_dim"])},
        role="linear",
        doc="Looks up learned rows for bags of indices, and adds or averages them.",
    ),
    Entry(
        name="Identity",
        category="layer",
        target="torch.nn.Identity",
        rule=_identity,
        doc="Gives its input unchanged.",
    ),
)
