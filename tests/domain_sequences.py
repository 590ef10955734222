"""The declared domain of the catalog's oracle: recurrent layers, attention and transformers; torchvision's modules."""

from __future__ import annotations

from random import Random
from typing import Any

from domain_base import ARGUMENTS, GUESSES, INPUTS, Draw, Inputs, dtype, images, ranks, shape, stated
from domain_functions import permutation

from netspec.shapes import TensorType

INPUTS["StochasticDepth"] = ranks(0, 1, 2, 3, 4)
for _count in (2, 3):
    INPUTS[f"DropBlock{_count}d"] = images(_count, batched=True)
    ARGUMENTS[f"DropBlock{_count}d"] = {"block_size": lambda random, inputs: random.choice((1, 1, 2, 3))}
ARGUMENTS["Permute"] = {"dims": permutation}
INPUTS["FrozenBatchNorm2d"] = images(2, batched=True)
ARGUMENTS["FrozenBatchNorm2d"] = {"num_features": stated(1)}
GUESSES["FrozenBatchNorm2d"] = {"num_features": 1}


def kind(random: Random) -> str:
    return "float32" if random.random() < 0.95 else dtype(random)


def off(random: Random, sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Now and then a size is another one."""
    if random.random() < 0.1 and sizes:
        changed = list(sizes)
        changed[random.randrange(len(changed))] += 1
        return tuple(changed)
    return sizes


def recurrent(states: int) -> Any:
    """A sequence, and first states for 2 rows of size 3, as one layer that reads both ways takes them."""

    def draw(random: Random) -> Inputs:
        rank = random.choice((2, 3, 3, 3)) if random.random() < 0.95 else random.randint(1, 4)
        x = shape(random, rank, 4)
        found: Inputs = [TensorType(x, kind(random))]
        batch = (x[random.choice((0, 1))],) if rank == 3 else ()
        given = random.random() < 0.4
        for _ in range(states):
            sizes = off(random, (random.choice((1, 2, 2)), *batch, 3))
            found.append(TensorType(sizes, kind(random)) if given and random.random() < 0.95 else None)
        return found

    return draw


def cell(states: int) -> Any:
    def draw(random: Random) -> Inputs:
        rank = random.choice((1, 2, 2)) if random.random() < 0.95 else random.randint(0, 3)
        x = shape(random, rank, 4)
        found: Inputs = [TensorType(x, kind(random))]
        given = random.random() < 0.5
        for _ in range(states):
            found.append(TensorType(off(random, (*x[:-1], 3)), kind(random)) if given else None)
        return found

    return draw


_hidden: dict[str, Draw] = {
    "hidden_size": lambda random, inputs: 3,
    "input_size": stated(-1),
    "num_layers": lambda random, inputs: random.choice((1, 1, 2)),
    "proj_size": lambda random, inputs: random.choice((0, 0, 1, 2, 3)),
    "dropout": lambda random, inputs: random.choice((0.0, 0.5)),
}
for _name, _states in (("RNN", 1), ("LSTM", 2), ("GRU", 1)):
    INPUTS[_name] = recurrent(_states)
    INPUTS[f"{_name}Cell"] = cell(_states)
    for _either in (_name, f"{_name}Cell"):
        ARGUMENTS[_either] = dict(_hidden)
        GUESSES[_either] = {"input_size": -1}
