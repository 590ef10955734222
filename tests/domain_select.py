"""The declared domain of the catalog's oracle: tensors made of nothing, values that are picked, attention."""

from __future__ import annotations

from random import Random
from typing import Any

from domain_base import ARGUMENTS, DTYPES, FLOATS, INPUTS, TOGETHER, WHOLE, Inputs, dtype, ranks, shape
from domain_functions import two

from netspec.shapes import TensorType


def nothing(random: Random) -> Inputs:
    return []


def counting(random: Random, inputs: Inputs) -> Any:
    numbers = (0, 0, 1, 3, 7, -2, 0.0, 2.5, -1.5) if random.random() < 0.4 else (0, 1, 3, 7, 12)
    steps = (1, 1, 2, 3, -1, 0.5, 0) if random.random() < 0.4 else (1, 1, 1, 2)
    return {"start": random.choice((0, random.choice(numbers))), "end": random.choice(numbers)} | (
        {"step": random.choice(steps)} if random.random() < 0.5 else {}
    )


for _name in ("arange", "linspace", "zeros", "ones", "full", "rand", "randn", "eye"):
    INPUTS[_name] = nothing
TOGETHER["arange"] = counting
ARGUMENTS["linspace"] = {name: lambda random, inputs: random.choice((-1, 0, 1.5, 7)) for name in ("start", "end")}
for _name in ("full", "full_like"):
    ARGUMENTS[_name] = {"fill_value": lambda random, inputs: random.choice((0, 1, -1, 0.5, 2.0))}


def three(random: Random) -> Inputs:
    """A mask and two tensors that go together by broadcasting, mostly."""
    values = two(random)
    sizes = max((x.shape for x in values), key=len)
    mask = tuple(1 if random.random() < 0.2 else size for size in sizes)
    if random.random() < 0.1:
        mask = (*mask, 3)
    return [TensorType(mask, random.choice(("bool", "bool", "bool", "uint8", dtype(random)))), *values]


def masked(random: Random) -> Inputs:
    mask, x, _ = three(random)
    return [x, mask]


def places(random: Random) -> Inputs:
    sizes = shape(random, random.randint(0, 3), 4)
    mine = [random.randint(1, size) for size in sizes]
    if random.random() < 0.15 and mine:
        mine[random.randrange(len(mine))] += 1
    if random.random() < 0.08:
        mine = mine[1:]
    kind = random.choice(("int64", "int64", "int64", "int32", dtype(random)))
    return [TensorType(sizes, dtype(random)), TensorType(tuple(mine), kind)]


def list_of_places(random: Random) -> Inputs:
    x, index = places(random)
    return [x, TensorType(shape(random, random.choice((0, 1, 1, 1, 1, 2)), 4), index.dtype)]


INPUTS["where"] = three
INPUTS["masked_fill"] = masked
ARGUMENTS["masked_fill"] = {"value": lambda random, inputs: random.choice((0, 1, -1, 0.5, float("-inf")))}
INPUTS["gather"] = places
INPUTS["index_select"] = list_of_places
for _name in ("gather", "index_select"):
    WHOLE[_name] = {"index": 0}
ARGUMENTS["topk"] = {"k": lambda random, inputs: random.randint(0, 3)}
for _name in ("tril", "triu"):
    INPUTS[_name] = ranks(2, 2, 3, 4)
    ARGUMENTS[_name] = {"diagonal": lambda random, inputs: random.randint(-2, 2)}


def stacks(random: Random) -> Inputs:
    n, rows, inner, columns = shape(random, 4, 4)
    kind = random.choice(("float32", "float32", "float64", dtype(random)))
    left = (n, rows, inner)
    right = (n + (random.random() < 0.05), inner + (random.random() < 0.1), columns)
    if random.random() < 0.1:
        left = left[1:]
    return [TensorType(left, kind), TensorType(right, kind if random.random() < 0.9 else dtype(random))]


def added_stacks(random: Random) -> Inputs:
    a, b = stacks(random)
    product = (a.shape[0], a.shape[-2], b.shape[-1])
    cut = random.choice((0, 0, 0, 1, 2, 3))
    mine = tuple(1 if random.random() < 0.2 else size for size in product)[cut:]
    if random.random() < 0.1:
        mine = (*mine, 2)
    return [TensorType(mine, a.dtype if random.random() < 0.9 else dtype(random)), a, b]


INPUTS["bmm"] = stacks
INPUTS["baddbmm"] = added_stacks
for _factor in ("beta", "alpha"):
    ARGUMENTS.setdefault("baddbmm", {})[_factor] = lambda random, inputs: random.choice((1, 2, 0.5))


def tokens(random: Random) -> Inputs:
    batch = shape(random, random.choice((0, 1, 2, 2, 2)), 3)
    queries, keys, width, values = shape(random, 4, 4)
    kind = random.choice(("float32", "float32", "float32", *FLOATS)) if random.random() < 0.95 else dtype(random)
    sizes = [[*batch, queries, width], [*batch, keys, width], [*batch, keys, random.choice((width, width, values))]]
    if random.random() < 0.2:
        some = random.choice(sizes)
        some[random.randrange(len(some))] += 1
    kinds = [kind if random.random() < 0.97 else dtype(random) for _ in sizes]
    found: Inputs = [TensorType(tuple(some), kind) for some, kind in zip(sizes, kinds, strict=True)]
    scores = [*batch, queries, keys]
    mask = tuple(1 if random.random() < 0.2 else size for size in scores)[random.choice((0, -2)) :]
    if random.random() < 0.1:
        mask = (*mask[:-1], mask[-1] + 1)
    masks = random.choice(("bool", kind, kind, random.choice(DTYPES)))
    return [*found, TensorType(mask, masks) if random.random() < 0.5 else None]


_ATTENTION = "scaled_dot_product_attention"
INPUTS[_ATTENTION] = tokens
ARGUMENTS[_ATTENTION] = {
    "is_causal": lambda random, inputs: random.random() < 0.3,
    "dropout_p": lambda random, inputs: random.choice((0.0, 0.1)),
    "scale": lambda random, inputs: random.choice((None, 0.5)),
}
