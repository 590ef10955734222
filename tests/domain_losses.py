"""The declared domain of the catalog's oracle: losses."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from domain_base import (
    ARGUMENTS,
    DTYPES,
    FLOATS,
    INPUTS,
    WHOLE,
    Inputs,
    first,
    shape,
)

from netspec.shapes import TensorType


def loss_dtypes(random: Random, count: int) -> list[str]:
    """Mostly one floating dtype for all, and the rest float32 or anything."""
    first = random.choice(("float32", "float32", "float32", "float64", "float16", "bfloat16", "int64"))
    return [first] + [first if random.random() < 0.7 else random.choice(DTYPES) for _ in range(count - 1)]


def alike(count: int, *lowest: int) -> Callable[[Random], Inputs]:
    """Tensors of one shape, now and then of another."""

    def draw(random: Random) -> Inputs:
        sizes = shape(random, random.choice((*lowest, 1, 2, 2, 3)), 4)
        kinds = loss_dtypes(random, count)
        others = [sizes, sizes[:-1], (*sizes, 1), (*sizes[:-1], 3)]
        return [
            TensorType(sizes if i == 0 or random.random() < 0.9 else random.choice(others), kind)
            for i, kind in enumerate(kinds)
        ]

    return draw


def weights(random: Random, inputs: Inputs) -> Any:
    """A tensor for each value of the last dimension, for each value, or one that does not fit."""
    sizes = first(inputs)
    count = sizes[-1] if sizes and random.random() < 0.85 else 3
    return [0.5] * count


def class_scores(random: Random) -> Inputs:
    sizes = shape(random, random.choice((1, 2, 2, 2, 3, 4, 5)), 4)
    x = TensorType(sizes, random.choice((*FLOATS, *FLOATS, "float32", "float32", "int64")))
    places = (*sizes[:1], *sizes[2:]) if len(sizes) > 1 else ()
    chance = random.random()
    if chance < 0.15:
        return [x, TensorType(sizes, random.choice((x.dtype, *DTYPES)))]
    if chance < 0.25:
        return [x, TensorType(random.choice(((*places, 1), places[1:], (*places[:-1], 5))), "int64")]
    return [x, TensorType(places, random.choice(("int64", "int64", "int64", *DTYPES)))]


def class_weights(random: Random, inputs: Inputs) -> Any:
    sizes = first(inputs)
    classes = sizes[1] if len(sizes) > 1 else sizes[0]
    return [1.0] * (classes + (random.random() < 0.15)) if random.random() < 0.5 else None


for _name in ("L1Loss", "MSELoss", "SmoothL1Loss", "HuberLoss", "BCELoss", "BCEWithLogitsLoss", "PoissonNLLLoss"):
    INPUTS[_name] = alike(2, 0)
for _name in ("KLDivLoss", "SoftMarginLoss", "HingeEmbeddingLoss", "MultiLabelSoftMarginLoss"):
    INPUTS[_name] = alike(2, 0)
for _name in ("BCELoss", "BCEWithLogitsLoss", "MultiLabelSoftMarginLoss"):
    ARGUMENTS[_name] = {"weight": weights, "pos_weight": weights}
for _name in ("CrossEntropyLoss", "NLLLoss", "MultiMarginLoss"):
    INPUTS[_name] = class_scores
    ARGUMENTS[_name] = {
        "weight": class_weights,
        "ignore_index": lambda random, inputs: random.choice((-100, -1, 1)),
        "p": lambda random, inputs: random.choice((1, 2, 2, 3)),
    }


def row_scores(random: Random) -> Inputs:
    x, y = class_scores(random)
    if len(x.shape) > 2 and random.random() < 0.8:
        x, y = TensorType(x.shape[:2], x.dtype), TensorType(x.shape[:1], "int64")
    return [x, y]


INPUTS["MultiMarginLoss"] = row_scores


def labels(random: Random) -> Inputs:
    sizes = shape(random, random.choice((1, 2, 2, 3)), 4)
    kind = random.choice(("float32", "float32", "float64", "float16", "int64"))
    other = sizes if random.random() < 0.85 else (*sizes, 1)
    return [TensorType(sizes, kind), TensorType(other, random.choice(("int64", "int64", "int64", "float32", "uint8")))]


def cosine_pairs(random: Random) -> Inputs:
    a, b, _ = alike(3)(random)
    lead = a.shape[:-1] if random.random() < 0.85 else random.choice(((), (2,), (1,), a.shape))
    return [a, b, TensorType(lead, random.choice(("float32", "float32", "int64", *DTYPES)))]


def variances(random: Random) -> Inputs:
    x, y, var = alike(3)(random)
    ways = (x.shape, x.shape, x.shape[:-1], (*x.shape[:-1], 1), (*x.shape, 1), (2,))
    return [x, y, TensorType(random.choice(ways), var.dtype)]


def speech(random: Random) -> Inputs:
    time, batch, classes, length = 6, random.randint(1, 3), random.randint(2, 4), 2
    whole = "int64" if random.random() < 0.95 else random.choice(DTYPES)
    kind = random.choice(("float32", "float32", "float64", "float16"))
    sizes: tuple[int, ...] = (time, batch, classes)
    lead: tuple[int, ...] = (batch,)
    if random.random() < 0.25:
        sizes, lead = (time, classes), ()
    if random.random() < 0.05:
        sizes = (*sizes, 1)
    other = lead if random.random() < 0.92 else (*lead, 2)
    return [
        TensorType(sizes, kind),
        TensorType((*lead, length), whole),
        TensorType(lead, "int64"),
        TensorType(other, whole),
    ]


INPUTS["MultiLabelMarginLoss"] = labels
INPUTS["MarginRankingLoss"] = alike(3, 0)
INPUTS["CosineEmbeddingLoss"] = cosine_pairs
INPUTS["TripletMarginLoss"] = INPUTS["TripletMarginWithDistanceLoss"] = alike(3)
INPUTS["GaussianNLLLoss"] = variances
INPUTS["CTCLoss"] = speech
WHOLE["CTCLoss"] = {"input_lengths": 6, "target_lengths": 2}
ARGUMENTS["TripletMarginWithDistanceLoss"] = {
    "distance_function": lambda random, inputs: random.choice(
        (None, None, "pairwise_distance", "cosine_similarity", "sub", "eq", "relu")
    )
}
ARGUMENTS["CTCLoss"] = {"blank": lambda random, inputs: random.choice((0, 1, 1, 5, -1))}
