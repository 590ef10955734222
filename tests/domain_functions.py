"""The declared domain of the catalog's oracle: functions of shapes, numbers and several tensors."""

from __future__ import annotations

from random import Random
from typing import Any

from domain_base import (
    ARGUMENTS,
    DTYPES,
    GUESSES,
    INPUTS,
    Inputs,
    dim,
    dtype,
    first,
    ranks,
    shape,
)

from netspec.shapes import TensorType


def new_shape(random: Random, inputs: Inputs) -> list[int]:
    """Sizes with the input's product, sometimes with a -1, sometimes wrong."""
    rest = 1
    for size in first(inputs):
        rest *= size
    return factors_of(random, rest)


def factors_of(random: Random, rest: int) -> list[int]:
    sizes = []
    for _ in range(random.randint(0, 3)):
        factor = random.choice([d for d in range(1, rest + 1) if rest % d == 0])
        sizes.append(factor)
        rest //= factor
    sizes.append(rest)
    if random.random() < 0.5:
        sizes[random.randrange(len(sizes))] = -1
    if random.random() < 0.15:
        sizes[random.randrange(len(sizes))] += random.choice((-2, 1))
    return sizes


def split_dimension(random: Random, inputs: Inputs) -> list[int]:
    sizes = first(inputs)
    return factors_of(random, random.choice(sizes) if sizes else 1)


def permutation(random: Random, inputs: Inputs) -> list[int]:
    rank = len(first(inputs))
    order = [axis - random.choice((0, rank)) for axis in random.sample(range(rank), rank)]
    if order and random.random() < 0.15:
        order[0] = random.choice((order[-1], rank))
    return order


def some_dims(random: Random, inputs: Inputs) -> Any:
    rank = max(len(first(inputs)), 1)
    if random.random() < 0.4:
        return dim(random, inputs)
    chosen = [axis - random.choice((0, rank)) for axis in random.sample(range(rank), random.randint(1, rank))]
    return chosen if random.random() < 0.92 else [*chosen, chosen[0]]


def list_of_dims(random: Random, inputs: Inputs) -> list[int]:
    dims = some_dims(random, inputs)
    return dims if isinstance(dims, list) else [dims]


def expanded(random: Random, inputs: Inputs) -> list[int]:
    sizes = [random.choice((size, -1, 3 if size == 1 else size)) for size in first(inputs)]
    lead = [random.randint(1, 3) for _ in range(random.randint(0, 2))]
    sizes = lead + sizes
    if random.random() < 0.15 and sizes:
        sizes[random.randrange(len(sizes))] = random.choice((-1, 2, -2))
    return sizes[1:] if random.random() < 0.05 else sizes


for _name, _arguments in {
    "reshape": {"shape": new_shape},
    "Unflatten": {"unflattened_size": split_dimension},
    "unflatten": {"sizes": split_dimension},
    "permute": {"dims": permutation},
    "squeeze": {"dim": some_dims},
    "unsqueeze": {"dim": lambda random, inputs: random.randint(-len(first(inputs)) - 2, len(first(inputs)) + 1)},
    "expand": {"size": expanded},
    "repeat": {
        "repeats": lambda random, inputs: [
            random.randint(1, 3) for _ in range(len(first(inputs)) + random.choice((0, 0, 1, 1, -1)))
        ]
    },
    "flip": {"dims": list_of_dims},
}.items():
    ARGUMENTS[_name] = dict(_arguments)
for _name in ("mean", "sum", "amax", "amin", "std", "var", "logsumexp"):
    ARGUMENTS[_name] = {"dim": some_dims, "correction": lambda random, inputs: random.choice((0, 1))}
INPUTS["unflatten"] = INPUTS["Unflatten"] = ranks(1, 1, 2, largest=9)
INPUTS["expand"] = ranks(0, 1, 2, 3, largest=2)


def roll_arguments(random: Random, inputs: Inputs) -> Any:
    return random.choice((1, [1], [1, -1], [2, 1]))


ARGUMENTS["roll"] = {
    "shifts": roll_arguments,
    "dims": lambda random, inputs: random.choice((0, -1, [0], [0, 1], [0, -1], ())),
}
ARGUMENTS["movedim"] = {
    "source": lambda random, inputs: random.choice((0, -1, [0], [0, 1], [1, -1])),
    "destination": lambda random, inputs: random.choice((1, -1, [0], [1, 2], [0, -1])),
}
ARGUMENTS["clamp"] = {
    "min": lambda random, inputs: random.choice((None, 0, 0.0, -1)),
    "max": lambda random, inputs: random.choice((None, 1, 0.5)),
}
ARGUMENTS["pow"] = {"exponent": lambda random, inputs: random.choice((2, 2.0, 0.5, -1, 0, 3))}
ARGUMENTS["normalize"] = {"p": lambda random, inputs: random.choice((1.0, 2.0, 3, float("inf")))}
ARGUMENTS["round"] = {"decimals": lambda random, inputs: random.choice((0, 0, 1, 2))}


def norm_inputs(random: Random) -> Inputs:
    sizes = shape(random, random.randint(1, 4))
    kind = dtype(random)
    last = sizes[-1:] if random.random() < 0.9 else (*sizes[-1:], 1)
    weight = TensorType(last, kind if random.random() < 0.9 else dtype(random))
    bias = TensorType(sizes[-1:], kind)
    return random.choice(([TensorType(sizes, kind), None, None], [TensorType(sizes, kind), weight, bias]))


INPUTS["layer_norm"] = norm_inputs
ARGUMENTS["layer_norm"] = {
    "normalized_shape": lambda random, inputs: list(first(inputs)[-random.choice((1, 1, 1, 2)) :])
}
INPUTS["one_hot"] = lambda random: [
    TensorType(shape(random, random.randint(0, 3)), random.choice(("int64", "int64", "int32", "float32")))
]
ARGUMENTS["one_hot"] = {"num_classes": lambda random, inputs: random.randint(2, 5)}
for _name in ("LPPool", "lp_pool"):
    for _count in (1, 2, 3):
        ARGUMENTS[f"{_name}{_count}d"] = {"norm_type": lambda random, inputs: random.choice((1, 2, 2.0, 3))}
INPUTS["Embedding"] = lambda random: [
    TensorType(shape(random, random.randint(0, 3)), random.choice(("int64", "int64", "int64", "int32", dtype(random))))
]
ARGUMENTS["Embedding"] = {
    "num_embeddings": lambda random, inputs: random.randint(2, 6),
    "padding_idx": lambda random, inputs: random.choice((None, 0, 1, -1, 5, -4)),
    "norm_type": lambda random, inputs: 2.0,
}


def split_sizes(random: Random, inputs: Inputs) -> Any:
    if random.random() < 0.5:
        return random.randint(1, 4)
    rest = random.choice(first(inputs) or (2,))
    sizes = []
    while rest > 0:
        sizes.append(random.randint(1, rest))
        rest -= sizes[-1]
    return sizes


ARGUMENTS["split"] = {"split_size": split_sizes}


def two(random: Random) -> Inputs:
    """Two tensors that go together by broadcasting, mostly."""
    sizes = shape(random, random.randint(0, 4), 4)
    sides = []
    for _ in range(2):
        mine = [1 if random.random() < 0.2 else size for size in sizes]
        if random.random() < 0.1 and mine:
            mine[random.randrange(len(mine))] += 1
        cut = random.randint(0, len(mine)) if random.random() < 0.25 else 0
        sides.append(tuple(mine[cut:]))
    kind = dtype(random)
    return [TensorType(sides[0], kind), TensorType(sides[1], kind if random.random() < 0.6 else random.choice(DTYPES))]


def matrices(random: Random) -> Inputs:
    batch = shape(random, random.randint(0, 2), 3)
    m, k, n = shape(random, 3, 4)
    left, right = (*batch, m, k), (*batch, k + (random.random() < 0.1), n)
    chance = random.random()
    if chance < 0.15:
        left = (k,)
    elif chance < 0.3:
        right = (k,)
    elif chance < 0.5:
        right = right[-2:]
    elif chance < 0.6 and batch:
        left = (1, *left[1:])
    elif chance < 0.65:
        left = ()
    kind = dtype(random)
    return [TensorType(left, kind), TensorType(right, kind if random.random() < 0.9 else dtype(random))]


for _name in ("add", "sub", "mul", "div", "maximum", "minimum"):
    INPUTS[_name] = two
for _name in ("CosineSimilarity", "PairwiseDistance", "cosine_similarity", "pairwise_distance"):
    INPUTS[_name] = two
INPUTS["matmul"] = matrices


def bilinear_inputs(random: Random) -> Inputs:
    lead = shape(random, random.randint(0, 2), 3)
    a, b = (*lead, random.randint(1, 4)), (*lead, random.randint(1, 4))
    if random.random() < 0.1:
        b = (*b[:-1], 2, b[-1])
    return [TensorType(a, dtype(random)), TensorType(b, "float32")]


INPUTS["Bilinear"] = bilinear_inputs
GUESSES["Bilinear"] = {"in1_features": -1, "in2_features": -1}


def cat_tensors(random: Random) -> Inputs:
    rank = random.randint(1, 4)
    sizes = shape(random, rank, 3)
    along = random.randrange(rank)
    kind = dtype(random)
    parts = []
    for _ in range(random.randint(1, 4)):
        mine = list(sizes)
        if random.random() < 0.8:
            mine[along] = random.randint(1, 4)
        if random.random() < 0.07:
            mine[random.randrange(rank)] += 1
        if random.random() < 0.04:
            mine = mine[1:]
        parts.append(TensorType(tuple(mine), kind if random.random() < 0.8 else dtype(random)))
    return [tuple(parts)]


def cat_dim(random: Random, inputs: Inputs) -> int:
    sizes = [part.shape for part in inputs[0]]
    ways = [axis for axis in range(len(sizes[0])) if len({s[axis] if axis < len(s) else 0 for s in sizes}) > 1]
    return random.choice(ways) if ways and random.random() < 0.9 else dim(random, inputs)


def stack_tensors(random: Random) -> Inputs:
    sizes = shape(random, random.randint(0, 3), 3)
    kind = dtype(random)
    parts = [TensorType(sizes, kind if random.random() < 0.9 else dtype(random)) for _ in range(random.randint(1, 3))]
    return [(*parts, TensorType((*sizes, 2), kind))] if random.random() < 0.1 else [tuple(parts)]


INPUTS["stack"] = stack_tensors
INPUTS["cat"] = cat_tensors
ARGUMENTS["cat"] = {"dim": cat_dim}
