"""What the declared domain is made of: random shapes, dtypes and values, and the tables that its parts fill.

Sizes are 1 to 9, ranks 0 to 6, dtypes those of `catalog.kinds`. Arguments are drawn by their kind; what depends on the
shape (a dimension, a group count, a normalized shape) is drawn by the functions of the parts, right and wrong alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from netspec.catalog import Argument, Entry
from netspec.catalog.kinds import DTYPES
from netspec.shapes import ListType, TensorType

Inputs = list[Any]
"""TensorType, ListType, or a tuple of them for a variadic port, in the order of the ports; None: not connected."""
Draw = Callable[[Random, Inputs], Any]


@dataclass(frozen=True)
class Draft:
    """A layer that is drawn as an argument, its own arguments as they are stated."""

    entry: Entry
    arguments: dict[str, Any]

    def __repr__(self) -> str:
        return f"{self.entry.name}({self.arguments})"


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


def first(inputs: Inputs) -> tuple[int, ...]:
    first = inputs[0]
    while isinstance(first, tuple):
        first = first[0]
    return first.items[0].shape if isinstance(first, ListType) else first.shape


def dim(random: Random, inputs: Inputs) -> int:
    rank = max(len(first(inputs)), 1)
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
    if kind == "function":
        other = random.choice(("glu", "sum", "argmax", "add"))
        return random.choice(("silu", "tanh", "relu6", "leaky_relu", "exp", other))
    if kind in ("ints", "sizes"):
        return [random.randint(int(low), int(low) + 3) for _ in range(random.randint(1, 3))]
    raise AssertionError(f"no values for {argument.name}: {argument.kind}")


def conv_channels(random: Random, inputs: Inputs) -> int:
    return random.choice((1, 2, 3, 4, 6))


def stated(position: int) -> Draw:
    """An inferred argument that is stated: mostly what the input has there."""

    def draw(random: Random, inputs: Inputs) -> int:
        sizes = first(inputs)
        right = sizes[position] if -len(sizes) <= position < len(sizes) else 2
        return right if random.random() < 0.7 else right + 1

    return draw


INPUTS: dict[str, Callable[[Random], Inputs]] = {}
ARGUMENTS: dict[str, dict[str, Draw]] = {}
TOGETHER: dict[str, Draw] = {}
"""Arguments that are drawn together, since most combinations are wrong."""
GUESSES: dict[str, dict[str, int]] = {}
"""Where an inferred argument stands in the input's shape, so that torch can be asked about what the rule refuses."""
WHOLE: dict[str, dict[str, int]] = {}
"""What the integers of a port are, where it decides whether torch accepts them."""
COMPARES: set[str] = set()
"""Entries of several tensors, whose first sizes have to be equal: a symbol in one of them alone fits nothing."""
