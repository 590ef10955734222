"""The declared domain of the catalog's oracle: which shapes, dtypes and arguments are drawn for each entry.

The parts fill the tables; here stands what the oracle asks of them, and what it has to leave out.
"""

from __future__ import annotations

from random import Random
from typing import Any

import domain_algebra
import domain_functions
import domain_given
import domain_layers
import domain_losses
import domain_modules
import domain_more
import domain_pointwise
import domain_rearrange
import domain_select
import domain_sequences
import domain_vision
from domain_base import (
    ARGUMENTS,
    COMPARES,
    FLOATS,
    GUESSES,
    INPUTS,
    TOGETHER,
    WHOLE,
    Draft,
    Inputs,
    by_kind,
    dim,
    first,
    ranks,
)

from netspec.catalog import Argument, Entry, lookup
from netspec.catalog.versions import lacking

PARTS = (
    domain_layers,
    domain_functions,
    domain_pointwise,
    domain_modules,
    domain_select,
    domain_rearrange,
    domain_algebra,
    domain_more,
    domain_sequences,
    domain_vision,
    domain_losses,
    domain_given,
)
"""Importing them has filled the tables."""

__all__ = [
    "BATCHED",
    "COUNTS",
    "CRASHES",
    "FLOATS",
    "MENDED",
    "NEEDS_BATCH",
    "UNCOUNTED",
    "WHOLE",
    "Draft",
    "Inputs",
    "arguments_of",
    "fed",
    "guess",
    "inputs_of",
]

BATCHED = {"Linear": 2, "LayerNorm": 2, "RMSNorm": 2, "Bilinear": 2, "MLP": 2, "SqueezeExcitation": 4} | dict.fromkeys(
    ("CrossEntropyLoss", "NLLLoss", "MultiMarginLoss", "MultiLabelSoftMarginLoss", "BCELoss", "BCEWithLogitsLoss"), 2
)
"""The rank at which dimension 0 is surely a batch, for entries that also take single samples."""
for _name in INPUTS:
    if _name[-2:] in ("1d", "2d", "3d") and not _name.startswith("BatchNorm"):
        BATCHED[_name] = int(_name[-2]) + 2
BATCHED |= {"Conv2dNormActivation": 4, "Conv3dNormActivation": 5}

NEEDS_BATCH = {
    *("add", "sub", "mul", "div", "maximum", "minimum", "matmul", "stack", "cat", "squeeze", "expand", "chunk"),
    *("split", "unbind", "reshape", "unflatten", "Unflatten", "LayerNorm", "RMSNorm", "layer_norm", "CTCLoss"),
    *("where", "masked_fill", "gather", "bmm", "baddbmm", "scaled_dot_product_attention"),
    *("MultiheadAttention", "TransformerEncoderLayer", "TransformerDecoderLayer", "Transformer"),
    *("TransformerEncoder", "TransformerDecoder"),
    *("RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell"),
    *("CosineSimilarity", "PairwiseDistance", "cosine_similarity", "pairwise_distance"),
}
NEEDS_BATCH |= COMPARES
"""Entries that may need the size of dimension 0 as a number, because they count, cut or compare it."""

CRASHES = {f"{name}{count}d" for name in ("MaxPool", "max_pool") for count in (1, 2, 3)} | {
    "EmbeddingBag",
    "scaled_dot_product_attention",
}
"""Entries with which torch 2.15 writes beyond its memory where the rule says NS406: these are not run."""

COUNTS = {
    *("stack", "split", "Upsample", "interpolate", "UpsamplingNearest2d", "UpsamplingBilinear2d"),
    *(
        "arange",
        "RNN",
        "LSTM",
        "GRU",
        "FractionalMaxPool2d",
        "FractionalMaxPool3d",
        "hstack",
        "vstack",
        "dstack",
        "affine_grid",
    ),
}
"""Entries whose result has sizes that no arithmetic on sizes gives: a number of tensors, a product with a float."""

MENDED = dict.fromkeys(("Hardtanh", "hardtanh", "MaxUnpool2d", "group_norm"), "2.15")
"""Entries with a fault of older torch: it refused what it takes now, or gave a tensor of a negative size."""

UNCOUNTED = frozenset(("LSTM",))
"""Entries that run by kernels of which torch counts nothing."""


def inputs_of(random: Random, entry: Entry) -> Inputs:
    draw = INPUTS.get(entry.name)
    if draw is not None:
        return draw(random)
    assert len(entry.inputs) == 1, f"declare the inputs of {entry.name}"
    return ranks(0, 1, 2, 3, 4)(random)


def arguments_of(random: Random, entry: Entry, inputs: Inputs) -> dict[str, Any]:
    """The arguments that are stated; the others keep their defaults or are inferred."""
    special = ARGUMENTS.get(entry.name, {})
    drawn: dict[str, Any] = TOGETHER[entry.name](random, inputs) if entry.name in TOGETHER else {}
    for argument in entry.arguments:
        if argument.name in drawn or lacking(argument.since, entry.target):
            continue
        if argument.inferred and (argument.name not in special or random.random() < 0.75):
            continue
        if not argument.required and random.random() < 0.4:
            continue
        if argument.name in special:
            drawn[argument.name] = special[argument.name](random, inputs)
        elif argument.takes_module and (argument.required or random.random() < 0.5):
            drawn[argument.name] = draft(random, entry, argument, inputs)
        elif argument.name in ("dim", "start_dim", "end_dim", "dim0", "dim1") and argument.kind in ("int", "int?"):
            drawn[argument.name] = dim(random, inputs)
        elif not argument.takes_module:
            drawn[argument.name] = by_kind(random, argument, inputs)
    return drawn


def draft(random: Random, entry: Entry, argument: Argument, inputs: Inputs) -> Draft:
    """A layer for an argument that takes one, drawn for what it will get."""
    given = lookup(random.choice(argument.types or domain_given.NORMS))
    assert given is not None
    drawn = arguments_of(random, given, fed(entry, argument, given, inputs))
    return Draft(given, {a.name: drawn[a.name] for a in given.arguments if a.name in drawn and not a.call})


def fed(entry: Entry, argument: Argument, given: Entry, inputs: Inputs) -> Inputs:
    """What the layer of an argument gets, in the order of its ports."""
    ports = {port.name: type_ for port, type_ in zip(entry.inputs, inputs, strict=True)}
    found = {inner or given.inputs[0].name: ports[outer] for inner, outer in argument.fed}
    return [found.get(port.name) for port in given.inputs]


def guess(entry: Entry, argument: str, inputs: Inputs) -> Any:
    """A value for an inferred argument of a layer that the rule refuses."""
    position = GUESSES[entry.name][argument]
    sizes = first(inputs)
    return sizes[position] if -len(sizes) <= position < len(sizes) else 4
