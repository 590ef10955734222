"""The declared domain of the catalog's oracle: layers, and the functions that share their rules."""

from __future__ import annotations

from random import Random
from typing import Any

from domain_base import (
    ARGUMENTS,
    GUESSES,
    INPUTS,
    TOGETHER,
    Inputs,
    conv_channels,
    dim,
    dtype,
    first,
    images,
    ranks,
    stated,
)

from netspec.shapes import TensorType

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
    places = first(inputs)[-1]
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
INPUTS["SyncBatchNorm"] = ranks(2, 3, 4)
ARGUMENTS["SyncBatchNorm"] = {"num_features": stated(1)}
GUESSES["SyncBatchNorm"] = {"num_features": 1}
ARGUMENTS["GroupNorm"] = {"num_channels": stated(1), "num_groups": lambda random, inputs: random.choice((1, 2, 3, 0))}
GUESSES["GroupNorm"] = {"num_channels": 1}


def normalized(random: Random, inputs: Inputs) -> Any:
    sizes = first(inputs)
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
    rank = len(first(inputs))
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
    count = max(len(first(inputs)) - 2, 1) + (random.random() < 0.1)
    return [random.randint(1, 6) for _ in range(count)]


def resize_factor(random: Random, inputs: Inputs) -> Any:
    factors = (2, 2.0, 0.5, 1.5, 1 / 3, 0.7, 3)
    if random.random() < 0.6:
        return random.choice(factors)
    count = max(len(first(inputs)) - 2, 1) + (random.random() < 0.1)
    return [random.choice(factors) for _ in range(count)]


def size_or_factor(random: Random, inputs: Inputs) -> Any:
    chance = random.random()
    size = resize_size(random, inputs) if chance < 0.5 else None
    return {"size": size, "scale_factor": resize_factor(random, inputs) if chance > 0.46 else None}


def resize_mode(random: Random, inputs: Inputs) -> str:
    modes = {3: ("linear", "nearest", "area"), 4: ("bilinear", "bicubic", "nearest", "area", "nearest-exact")}
    return random.choice(modes.get(len(first(inputs)), ("trilinear", "nearest", "area", "linear")))


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
    sizes = first(inputs)
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
