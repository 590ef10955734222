"""The declared domain of the catalog's oracle: pooling undone, bags of embeddings, layers that hold a loss."""

from __future__ import annotations

from random import Random
from typing import Any

from domain_base import (
    ARGUMENTS,
    COMPARES,
    GUESSES,
    INPUTS,
    TOGETHER,
    WHOLE,
    Inputs,
    dtype,
    first,
    images,
    shape,
    stated,
)

from netspec.shapes import TensorType


def pooled(count: int) -> Any:
    def draw(random: Random) -> Inputs:
        (x,) = images(count)(random)
        places = x.shape if random.random() < 0.9 else (*x.shape[:-1], 3)
        return [x, TensorType(places, "int64" if random.random() < 0.9 else dtype(random))]

    return draw


def unpooled(count: int) -> Any:
    def draw(random: Random, inputs: Inputs) -> Any:
        if random.random() < 0.4:
            return None
        sizes = [2 * size + random.choice((0, 0, 0, 1, -1)) for size in first(inputs)[-count:]]
        return [*first(inputs)[:-count], *sizes] if random.random() < 0.2 else sizes

    return draw


for _count in (1, 2, 3):
    INPUTS[f"MaxUnpool{_count}d"] = pooled(_count)
    WHOLE[f"MaxUnpool{_count}d"] = {"indices": 0}
    ARGUMENTS[f"MaxUnpool{_count}d"] = {
        "kernel_size": lambda random, inputs: random.choice((2, 2, 2, 3)),
        "stride": lambda random, inputs: random.choice((None, 2, 2, 3, 1)),
        "output_size": unpooled(_count),
    }


def size_or_ratio(random: Random, inputs: Inputs) -> Any:
    chance = random.random()
    return {
        "output_size": random.randint(1, 4) if chance < 0.55 else None,
        "output_ratio": random.choice((0.5, 0.7, 0.9, 1.5)) if chance > 0.5 else None,
    }


for _count in (2, 3):
    INPUTS[f"FractionalMaxPool{_count}d"] = images(_count)
    TOGETHER[f"FractionalMaxPool{_count}d"] = size_or_ratio


def class_rows(random: Random) -> Inputs:
    sizes = shape(random, random.choice((1, 2, 2, 2, 2)), 4)
    if random.random() < 0.05:
        sizes = (*sizes, 2)
    y = sizes[:-1] if random.random() < 0.9 else (3,)
    x = "float32" if random.random() < 0.9 else dtype(random)
    return [TensorType(sizes, x), TensorType(y, "int64" if random.random() < 0.9 else dtype(random))]


def many_targets(random: Random) -> Inputs:
    """Scores of 3 classes, or of 3 classes for 2 places, mostly."""
    x, y = class_rows(random)
    chance = random.random()
    if chance < 0.25:
        y = TensorType((*x.shape[:-1], 3), random.choice(("float32", "float32", dtype(random))))
    elif chance < 0.5:
        y = TensorType((*y.shape, 2), y.dtype)
    return [x, y]


def cutoffs(random: Random, inputs: Inputs) -> Any:
    return random.choice(([1], [2], [2, 4], [1, 2], [2, 2], [4, 3], [6]))


_ADAPTIVE = "AdaptiveLogSoftmaxWithLoss"
INPUTS[_ADAPTIVE] = class_rows
WHOLE[_ADAPTIVE] = {"target": 0}
ARGUMENTS[_ADAPTIVE] = {
    "in_features": stated(-1),
    "n_classes": lambda random, inputs: random.choice((5, 5, 6, 7)),
    "cutoffs": cutoffs,
    "div_value": lambda random, inputs: random.choice((1.0, 2.0, 1.5, 4)),
}
GUESSES[_ADAPTIVE] = {"in_features": -1}
_LINEAR = "LinearCrossEntropyLoss"
INPUTS[_LINEAR] = many_targets
WHOLE[_LINEAR] = {"target": 0}
ARGUMENTS[_LINEAR] = {
    "in_features": stated(-1),
    "num_classes": lambda random, inputs: 3,
    "out_features": lambda random, inputs: random.choice(([], [2], [2])),
    "ignore_index": lambda random, inputs: random.choice((None, None, -100, 1)),
    "weight": lambda random, inputs: random.choice((None, [0.5] * 3, [0.5] * 2)),
}
GUESSES[_LINEAR] = {"in_features": -1}


def bags(random: Random) -> Inputs:
    rank = random.choice((1, 1, 2, 2)) if random.random() < 0.95 else random.choice((0, 3))
    kind = random.choice(("int64", "int64", "int32", dtype(random)))
    x = TensorType(shape(random, rank), kind)
    offsets = (random.randint(1, 3),) if random.random() < 0.95 else (2, 2)
    other = kind if random.random() < 0.8 else random.choice(("int64", "int32", dtype(random)))
    per_sample = x.shape if random.random() < 0.9 else (2,)
    return [
        x,
        TensorType(offsets, other) if (rank == 1) == (random.random() < 0.95) else None,
        TensorType(per_sample, "float32" if random.random() < 0.9 else dtype(random))
        if random.random() < 0.4
        else None,
    ]


INPUTS["EmbeddingBag"] = bags
WHOLE["EmbeddingBag"] = {"offsets": 0}
ARGUMENTS["EmbeddingBag"] = {
    "num_embeddings": lambda random, inputs: random.randint(2, 6),
    "padding_idx": lambda random, inputs: random.choice((None, 0, 1, -1, 5, -4)),
    "norm_type": lambda random, inputs: 2.0,
    # The last offset would have to be the number of indices, and all integers that are drawn are alike.
    "include_last_offset": lambda random, inputs: False,
    "mode": lambda random, inputs: random.choice(("sum", "sum", "mean", "max")),
}
INPUTS["CrossMapLRN2d"] = images(2, batched=True)
COMPARES |= {"EmbeddingBag", _ADAPTIVE, _LINEAR, "MaxUnpool1d", "MaxUnpool2d", "MaxUnpool3d"}
