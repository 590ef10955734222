"""The declared domain of the catalog's oracle: statistics along dimensions, values that are put at places."""

from __future__ import annotations

from random import Random
from typing import Any

from domain_base import ARGUMENTS, COMPARES, INPUTS, WHOLE, Inputs, dim, dtype, ranks, shape
from domain_functions import some_dims
from domain_select import places

from netspec.shapes import TensorType


def correction(random: Random, inputs: Inputs) -> int:
    return random.choice((0, 1))


def some_or_none(random: Random, inputs: Inputs) -> Any:
    return None if random.random() < 0.3 else some_dims(random, inputs)


for _name in ("all", "any", "std_mean", "var_mean", "nansum", "nanmean", "norm", "vector_norm", "count_nonzero"):
    ARGUMENTS[_name] = {"dim": some_or_none, "correction": correction}


def power(random: Random, inputs: Inputs) -> Any:
    return random.choice((1, 2, 2.0, 3, float("inf")))


ARGUMENTS["norm"]["p"] = ARGUMENTS["vector_norm"]["ord"] = power
ARGUMENTS["kthvalue"] = {"k": lambda random, inputs: random.choice((1, 1, 2, 3))}
INPUTS["kthvalue"] = ranks(1, 2, 3)
ARGUMENTS["quantile"] = {"q": lambda random, inputs: random.choice((0.0, 0.25, 0.5, 1.0))}
ARGUMENTS["diff"] = {"n": lambda random, inputs: random.choice((1, 1, 1, 2, 3))}
COMPARES |= {"diff", "kthvalue"}


def put(random: Random) -> Inputs:
    """A tensor, places in it, and as many values."""
    x, index = places(random)
    x = TensorType(tuple(size + random.choice((0, 0, 1)) for size in x.shape), x.dtype)
    source = index.shape if random.random() < 0.85 else tuple(size + 1 for size in index.shape)
    return [x, index, TensorType(source, x.dtype if random.random() < 0.9 else dtype(random))]


def put_or_number(random: Random) -> Inputs:
    x, index, source = put(random)
    return [x, index, source if random.random() < 0.6 else None]


def whole_entries(random: Random) -> Inputs:
    """A tensor, the places of 2 of its entries along the first or last dimension, and 2 entries."""
    sizes = shape(random, random.choice((1, 2, 2, 3)) if random.random() < 0.95 else 0, 4)
    kind = dtype(random)
    entries = (2, *sizes[1:]) if random.random() < 0.6 else (*sizes[:-1], 2)
    if random.random() < 0.1:
        entries = (*entries, 1)
    count = (2,) if random.random() < 0.95 else random.choice(((), (3,), (2, 1)))
    index = random.choice(("int64", "int64", "int64", "int64", "int32", dtype(random)))
    other = kind if random.random() < 0.95 else dtype(random)
    return [TensorType(sizes, kind), TensorType(count, index), TensorType(entries, other)]


def end(random: Random, inputs: Inputs) -> int:
    return random.choice((0, 0, -1)) if random.random() < 0.9 else dim(random, inputs)


def filled(random: Random) -> Inputs:
    return whole_entries(random)[:2]


def beside(random: Random) -> Inputs:
    """A tensor and places that go together beside one dimension."""
    sizes = shape(random, random.choice((1, 2, 3)) if random.random() < 0.95 else 0, 4)
    mine = [1 if random.random() < 0.2 else size for size in sizes]
    if mine and random.random() < 0.6:
        mine[0] = random.randint(1, 4)
    if random.random() < 0.05:
        mine = [*mine, 2]
    return [
        TensorType(sizes, dtype(random)),
        TensorType(tuple(mine), random.choice(("int64", "int64", "int64", "int32"))),
    ]


def value(random: Random, inputs: Inputs) -> Any:
    return random.choice((0, 1, 2, 0.5, -1))


for _name in ("scatter_add", "scatter_reduce"):
    INPUTS[_name] = put
INPUTS["scatter"] = put_or_number
ARGUMENTS["scatter"] = {
    "value": lambda random, inputs: value(random, inputs) if (inputs[2] is None) == (random.random() < 0.95) else None
}
for _name in ("index_add", "index_copy"):
    INPUTS[_name] = whole_entries
    ARGUMENTS[_name] = {"dim": end, "alpha": lambda random, inputs: random.choice((1, 2, 0.5))}
INPUTS["index_fill"] = filled
ARGUMENTS["index_fill"] = {"value": value}
INPUTS["take_along_dim"] = beside
for _name in ("scatter", "scatter_add", "scatter_reduce", "index_add", "index_copy", "index_fill", "take_along_dim"):
    WHOLE[_name] = {"index": 0, "indices": 0}
    COMPARES.add(_name)


def edges(random: Random) -> Inputs:
    kind = dtype(random)
    return [
        TensorType(shape(random, random.randint(0, 3)), kind),
        TensorType(shape(random, 1 if random.random() < 0.9 else 2), kind if random.random() < 0.9 else dtype(random)),
    ]


def rows(random: Random) -> Inputs:
    sizes = shape(random, random.choice((1, 1, 2, 3)), 4)
    kind = dtype(random)
    other = (*sizes[:-1], random.randint(1, 4)) if random.random() < 0.9 else (2, *sizes)
    return [TensorType(sizes, kind), TensorType(other, kind if random.random() < 0.95 else dtype(random))]


INPUTS["bucketize"] = edges
INPUTS["searchsorted"] = rows
COMPARES.add("searchsorted")


def table(random: Random) -> Inputs:
    index = TensorType(shape(random, random.randint(0, 3)), random.choice(("int64", "int64", "int32", dtype(random))))
    sizes = (random.randint(2, 5), random.randint(1, 4)) if random.random() < 0.95 else (3,)
    return [index, TensorType(sizes, dtype(random))]


INPUTS["embedding"] = table
ARGUMENTS["embedding"] = {"padding_idx": lambda random, inputs: random.choice((None, 0, 1, -1, 5))}
