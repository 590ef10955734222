"""The declared domain of the catalog's oracle: which shapes, dtypes and arguments are drawn for each entry.

Sizes are 1 to 9, ranks 0 to 6, dtypes those of `catalog.kinds`. Arguments are drawn by their kind; what depends on the
shape (a dimension, a group count, a normalized shape) is drawn by the functions below, right ones and wrong ones alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random
from typing import Any

from netspec.catalog import Argument, Entry
from netspec.catalog.kinds import DTYPES
from netspec.shapes import ListType, TensorType

Inputs = list[Any]
"""TensorType, ListType, or a tuple of them for a variadic port, in the order of the ports; None: not connected."""
Draw = Callable[[Random, Inputs], Any]

FLOATS = ("float32", "float64", "float16", "bfloat16")


def dtype(random: Random) -> str:
    return "float32" if random.random() < 0.7 else random.choice(DTYPES)


def shape(random: Random, rank: int, largest: int = 5) -> tuple[int, ...]:
    return tuple(random.randint(1, largest) for _ in range(rank))


def ranks(*wanted: int, largest: int = 5) -> Callable[[Random], Inputs]:
    """One input of these ranks, and of any other rank now and then."""

    def draw(random: Random) -> Inputs:
        rank = random.choice(wanted) if random.random() < 0.85 else random.randint(0, 5)
        return [TensorType(shape(random, rank, largest), dtype(random))]

    return draw


def images(count: int, batched: bool = False) -> Callable[[Random], Inputs]:
    """[N, C, spatial …], sometimes without N, sometimes of a wrong rank."""

    def draw(random: Random) -> Inputs:
        chance = random.random()
        rank = count + 2 if chance < 0.75 or (batched and chance < 0.9) else count + 1
        if chance > 0.92:
            rank = random.randint(0, 5)
        lead = max(rank - count, 0)
        sizes = (*(random.choice((1, 2, 3, 4, 6)) for _ in range(lead)), *shape(random, min(count, rank), 9 - count))
        return [TensorType(sizes, dtype(random))]

    return draw


def _first(inputs: Inputs) -> tuple[int, ...]:
    first = inputs[0]
    while isinstance(first, tuple):
        first = first[0]
    return first.items[0].shape if isinstance(first, ListType) else first.shape


def dim(random: Random, inputs: Inputs) -> int:
    rank = max(len(_first(inputs)), 1)
    return random.randint(-rank, rank - 1) if random.random() < 0.9 else random.choice((-rank - 1, rank))


def by_kind(random: Random, argument: Argument, inputs: Inputs) -> Any:
    """A value for an argument of which nothing but the kind is known."""
    kind = argument.kind
    if kind.endswith("?"):
        if random.random() < 0.3:
            return None
        kind = kind[:-1]
    kind = random.choice(kind.split("|"))
    low = 0 if argument.minimum is None else argument.minimum
    number = re.fullmatch(r"(\w+?)(\d)", kind)
    if number:
        name, count = number[1], int(number[2])
        if name == "float":
            return [random.choice((0.5, 1.0, 2.0)) for _ in range(count)]
        single = int(low) + random.choice((0, 0, 1, 1, 2, 3)) - (random.random() < 0.02)
        if random.random() < 0.6:
            return single
        values: list[int | None] = [int(low) + random.choice((0, 1, 2)) for _ in range(count)]
        if name == "output" and random.random() < 0.5:
            values[random.randrange(count)] = None
        return values
    if kind == "int":
        return int(low) + random.randint(0, 3) - (random.random() < 0.05)
    if kind == "size":
        return int(low) + random.randint(0, 3)
    if kind == "float":
        high = 1.0 if argument.maximum is None else argument.maximum
        value = random.choice((0.0, 0.1, 0.5, 1.0)) * (high - low) + low
        return value if random.random() < 0.97 else value - 1.5
    if kind == "bool":
        return random.random() < 0.5
    if kind == "choice":
        return random.choice(argument.choices)
    if kind == "dtype":
        return dtype(random)
    if kind in ("ints", "sizes"):
        return [random.randint(int(low), int(low) + 3) for _ in range(random.randint(1, 3))]
    raise AssertionError(f"no values for {argument.name}: {argument.kind}")


def conv_channels(random: Random, inputs: Inputs) -> int:
    return random.choice((1, 2, 3, 4, 6))


def stated(position: int) -> Draw:
    """An inferred argument that is stated: mostly what the input has there."""

    def draw(random: Random, inputs: Inputs) -> int:
        sizes = _first(inputs)
        right = sizes[position] if -len(sizes) <= position < len(sizes) else 2
        return right if random.random() < 0.7 else right + 1

    return draw


INPUTS: dict[str, Callable[[Random], Inputs]] = {}
ARGUMENTS: dict[str, dict[str, Draw]] = {}
TOGETHER: dict[str, Draw] = {}
"""Arguments that are drawn together, since most combinations are wrong."""
GUESSES: dict[str, dict[str, int]] = {}
"""Where an inferred argument stands in the input's shape, so that torch can be asked about what the rule refuses."""

for _count in (1, 2, 3):
    for _name in ("Conv", "ConvTranspose"):
        INPUTS[f"{_name}{_count}d"] = images(_count)
        ARGUMENTS[f"{_name}{_count}d"] = {
            "out_channels": conv_channels,
            "groups": lambda random, inputs: random.choice((1, 1, 1, 2, 3, 0)),
            "in_channels": stated(-_count - 1),
        }
        GUESSES[f"{_name}{_count}d"] = {"in_channels": -_count - 1}
    for _name in ("MaxPool", "AvgPool", "AdaptiveAvgPool", "AdaptiveMaxPool", "LPPool"):
        INPUTS[f"{_name}{_count}d"] = images(_count)
    for _name in ("max_pool", "avg_pool", "adaptive_avg_pool", "adaptive_max_pool", "lp_pool"):
        INPUTS[f"{_name}{_count}d"] = images(_count)
    for _name in ("BatchNorm", "InstanceNorm"):
        INPUTS[f"{_name}{_count}d"] = images(_count, batched=_name == "BatchNorm")
        _where = 1 if _name == "BatchNorm" else -_count - 1
        ARGUMENTS[f"{_name}{_count}d"] = {"num_features": stated(_where)}
        GUESSES[f"{_name}{_count}d"] = {"num_features": _where}
    for _name in ("Dropout", "dropout"):
        INPUTS[f"{_name}{_count}d"] = images(_count)

for _count in (1, 2, 3):
    for _name in ("Reflection", "Replication", "Circular"):
        INPUTS[f"{_name}Pad{_count}d"] = images(_count)
    for _name in ("Zero", "Constant", "Reflection", "Replication", "Circular"):
        ARGUMENTS[f"{_name}Pad{_count}d"] = {
            "padding": lambda random, inputs, count=2 * _count: (  # type: ignore[misc]
                random.randint(-1, 3) if random.random() < 0.4 else [random.randint(-1, 2) for _ in range(count)]
            )
        }
INPUTS["Softmax2d"] = images(2)


def columns(random: Random) -> Inputs:
    """What windows of 2 x 2 give of a small image, mostly."""
    height, width = random.randint(2, 4), random.randint(2, 4)
    places = (height - 1) * (width - 1) if random.random() < 0.8 else random.randint(1, 9)
    sizes = (random.choice((4, 8, 8, 6)), places)
    return [TensorType(sizes if random.random() < 0.3 else (2, *sizes), dtype(random))]


def fold_arguments(random: Random, inputs: Inputs) -> Any:
    places = _first(inputs)[-1]
    ways = [[h, w] for h in range(2, 6) for w in range(2, 6) if (h - 1) * (w - 1) == places]
    return {
        "output_size": random.choice(ways or [[3, 3]]),
        "kernel_size": random.choice((2, [2, 2], 2, 3)),
        "stride": 1,
    }


for _name in ("Fold", "fold"):
    INPUTS[_name] = columns
    TOGETHER[_name] = fold_arguments
    ARGUMENTS[_name] = {
        "padding": lambda random, inputs: random.choice((0, 0, 1)),
        "dilation": lambda random, inputs: random.choice((1, 1, 2)),
    }
for _name in ("Unfold", "unfold"):
    INPUTS[_name] = images(2)
INPUTS["GroupNorm"] = lambda random: images(random.choice((0, 1, 2)), batched=True)(random)
ARGUMENTS["GroupNorm"] = {"num_channels": stated(1), "num_groups": lambda random, inputs: random.choice((1, 2, 3, 0))}
GUESSES["GroupNorm"] = {"num_channels": 1}


def normalized(random: Random, inputs: Inputs) -> Any:
    sizes = _first(inputs)
    count = random.randint(0 if random.random() < 0.05 else 1, max(len(sizes), 1))
    ending = list(sizes[len(sizes) - count :])
    if random.random() < 0.15 and ending:
        ending[random.randrange(len(ending))] += 1
    return ending[0] if len(ending) == 1 and random.random() < 0.5 else ending


for _name in ("LayerNorm", "RMSNorm"):
    ARGUMENTS[_name] = {"normalized_shape": normalized}
    GUESSES[_name] = {"normalized_shape": -1}
INPUTS["LocalResponseNorm"] = ranks(3, 4, 5, largest=4)


def padding(random: Random, inputs: Inputs) -> Any:
    rank = len(_first(inputs))
    mode = random.choice(("constant", "reflect", "replicate", "circular")) if rank > 1 else "constant"
    count = random.randint(1, max(rank, 1)) if mode == "constant" else min(max(rank - random.choice((1, 2)), 1), 3)
    numbers = [random.choice((-1, 0, 0, 1, 2)) for _ in range(2 * count - (random.random() < 0.05))]
    return {"pad": numbers, "mode": mode, "value": random.choice((None, None, 0.5)) if mode == "constant" else None}


TOGETHER["pad"] = padding
INPUTS["pad"] = ranks(1, 2, 3, 4, 4, 5)


def resize_input(random: Random) -> Inputs:
    return ranks(3, 4, 4, 5, largest=6)(random)


def resize_size(random: Random, inputs: Inputs) -> Any:
    if random.random() < 0.5:
        return random.randint(1, 6)
    count = max(len(_first(inputs)) - 2, 1) + (random.random() < 0.1)
    return [random.randint(1, 6) for _ in range(count)]


def resize_factor(random: Random, inputs: Inputs) -> Any:
    factors = (2, 2.0, 0.5, 1.5, 1 / 3, 0.7, 3)
    if random.random() < 0.6:
        return random.choice(factors)
    count = max(len(_first(inputs)) - 2, 1) + (random.random() < 0.1)
    return [random.choice(factors) for _ in range(count)]


def size_or_factor(random: Random, inputs: Inputs) -> Any:
    chance = random.random()
    size = resize_size(random, inputs) if chance < 0.5 else None
    return {"size": size, "scale_factor": resize_factor(random, inputs) if chance > 0.46 else None}


def resize_mode(random: Random, inputs: Inputs) -> str:
    modes = {3: ("linear", "nearest", "area"), 4: ("bilinear", "bicubic", "nearest", "area", "nearest-exact")}
    return random.choice(modes.get(len(_first(inputs)), ("trilinear", "nearest", "area", "linear")))


def resizing(random: Random, inputs: Inputs) -> Any:
    mode = resize_mode(random, inputs)
    corners = (None, True, False) if "linear" in mode or mode == "bicubic" or random.random() < 0.1 else (None,)
    return {**size_or_factor(random, inputs), "mode": mode, "align_corners": random.choice(corners)}


for _name in ("Upsample", "interpolate"):
    INPUTS[_name] = resize_input
    TOGETHER[_name] = resizing
    ARGUMENTS[_name] = {
        "antialias": lambda random, inputs: random.random() < 0.3,
        "recompute_scale_factor": lambda random, inputs: random.choice((None, None, True, False)),
    }
for _name in ("UpsamplingNearest2d", "UpsamplingBilinear2d"):
    INPUTS[_name] = images(2, batched=True)
    TOGETHER[_name] = size_or_factor


def shuffled(random: Random) -> Inputs:
    rank = random.choice((3, 3, 4, 4, 5)) if random.random() < 0.95 else 2
    return [TensorType(tuple(random.choice((2, 4, 4, 6, 8, 8, 9)) for _ in range(rank)), dtype(random))]


for _name in (
    "PixelShuffle",
    "pixel_shuffle",
    "PixelUnshuffle",
    "pixel_unshuffle",
    "ChannelShuffle",
    "channel_shuffle",
):
    INPUTS[_name] = shuffled
    ARGUMENTS[_name] = {
        name: lambda random, inputs: random.choice((1, 2, 2, 2, 3, 0))
        for name in ("upscale_factor", "downscale_factor", "groups")
    }
ARGUMENTS["Linear"] = {"in_features": stated(-1)}
GUESSES["Linear"] = {"in_features": -1}


def flat_dims(random: Random, inputs: Inputs) -> int:
    return dim(random, inputs)


def prelu_parameters(random: Random, inputs: Inputs) -> int:
    sizes = _first(inputs)
    return sizes[1] if len(sizes) > 1 and random.random() < 0.6 else random.choice((1, 1, 2))


ARGUMENTS["PReLU"] = {"num_parameters": prelu_parameters}


def _limits(random: Random, inputs: Inputs) -> float:
    return random.choice((0.1, 0.2))


for _name in ("RReLU", "rrelu"):
    ARGUMENTS[_name] = {"lower": _limits, "upper": lambda random, inputs: random.choice((0.3, 0.4))}
for _name in ("Hardtanh", "hardtanh"):
    ARGUMENTS[_name] = {
        "min_val": lambda random, inputs: random.choice((-1.0, 0.0)),
        "max_val": lambda random, inputs: random.choice((1.0, 2.0)),
    }


def new_shape(random: Random, inputs: Inputs) -> list[int]:
    """Sizes with the input's product, sometimes with a -1, sometimes wrong."""
    rest = 1
    for size in _first(inputs):
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
    sizes = _first(inputs)
    return factors_of(random, random.choice(sizes) if sizes else 1)


def permutation(random: Random, inputs: Inputs) -> list[int]:
    rank = len(_first(inputs))
    order = [axis - random.choice((0, rank)) for axis in random.sample(range(rank), rank)]
    if order and random.random() < 0.15:
        order[0] = random.choice((order[-1], rank))
    return order


def some_dims(random: Random, inputs: Inputs) -> Any:
    rank = max(len(_first(inputs)), 1)
    if random.random() < 0.4:
        return dim(random, inputs)
    chosen = [axis - random.choice((0, rank)) for axis in random.sample(range(rank), random.randint(1, rank))]
    return chosen if random.random() < 0.92 else [*chosen, chosen[0]]


def list_of_dims(random: Random, inputs: Inputs) -> list[int]:
    dims = some_dims(random, inputs)
    return dims if isinstance(dims, list) else [dims]


def expanded(random: Random, inputs: Inputs) -> list[int]:
    sizes = [random.choice((size, -1, 3 if size == 1 else size)) for size in _first(inputs)]
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
    "unsqueeze": {"dim": lambda random, inputs: random.randint(-len(_first(inputs)) - 2, len(_first(inputs)) + 1)},
    "expand": {"size": expanded},
    "repeat": {
        "repeats": lambda random, inputs: [
            random.randint(1, 3) for _ in range(len(_first(inputs)) + random.choice((0, 0, 1, 1, -1)))
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
    "normalized_shape": lambda random, inputs: list(_first(inputs)[-random.choice((1, 1, 1, 2)) :])
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
    rest = random.choice(_first(inputs) or (2,))
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
    sizes = _first(inputs)
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
    sizes = _first(inputs)
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
WHOLE = {"CTCLoss": {"input_lengths": 6, "target_lengths": 2}}
"""What the integers of a port are, where it decides whether torch accepts them."""
ARGUMENTS["TripletMarginWithDistanceLoss"] = {"distance_function": lambda random, inputs: None}
ARGUMENTS["CTCLoss"] = {"blank": lambda random, inputs: random.choice((0, 1, 1, 5, -1))}

BATCHED = {"Linear": 2, "LayerNorm": 2, "RMSNorm": 2, "Bilinear": 2} | dict.fromkeys(
    ("CrossEntropyLoss", "NLLLoss", "MultiMarginLoss", "MultiLabelSoftMarginLoss", "BCELoss", "BCEWithLogitsLoss"), 2
)
"""The rank at which dimension 0 is surely a batch, for entries that also take single samples."""
for _name in INPUTS:
    if _name[-2:] in ("1d", "2d", "3d") and not _name.startswith("BatchNorm"):
        BATCHED[_name] = int(_name[-2]) + 2

NEEDS_BATCH = {
    *("add", "sub", "mul", "div", "maximum", "minimum", "matmul", "stack", "cat", "squeeze", "expand", "chunk"),
    *("split", "unbind", "reshape", "unflatten", "Unflatten", "LayerNorm", "RMSNorm", "layer_norm", "CTCLoss"),
    *("CosineSimilarity", "PairwiseDistance", "cosine_similarity", "pairwise_distance"),
}
"""Entries that may need the size of dimension 0 as a number, because they count, cut or compare it."""

CRASHES = {f"{name}{count}d" for name in ("MaxPool", "max_pool") for count in (1, 2, 3)}
"""Entries with which torch 2.15 writes beyond its memory where the rule says NS406: these are not run."""

COUNTS = frozenset(("stack", "split", "Upsample", "interpolate", "UpsamplingNearest2d", "UpsamplingBilinear2d"))
"""Entries whose result has sizes that no arithmetic on sizes gives: a number of tensors, a product with a float."""


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
        if argument.name in drawn:
            continue
        if argument.inferred and (argument.name not in special or random.random() < 0.75):
            continue
        if not argument.required and random.random() < 0.4:
            continue
        if argument.name in special:
            drawn[argument.name] = special[argument.name](random, inputs)
        elif argument.name in ("dim", "start_dim", "end_dim", "dim0", "dim1") and argument.kind in ("int", "int?"):
            drawn[argument.name] = dim(random, inputs)
        else:
            drawn[argument.name] = by_kind(random, argument, inputs)
    return drawn


def guess(entry: Entry, argument: str, inputs: Inputs) -> Any:
    """A value for an inferred argument of a layer that the rule refuses."""
    position = GUESSES[entry.name][argument]
    sizes = _first(inputs)
    return sizes[position] if -len(sizes) <= position < len(sizes) else 4
