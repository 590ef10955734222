"""The declared domain of the catalog's oracle: products of matrices and vectors, equations of letters."""

from __future__ import annotations

from random import Random
from typing import Any

from domain_base import ARGUMENTS, COMPARES, INPUTS, Inputs, dtype, ranks, shape
from domain_functions import two

from netspec.shapes import TensorType


def off(random: Random, sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Now and then another size, or another rank."""
    if random.random() < 0.07 and sizes:
        return (*sizes[:-1], sizes[-1] + 1)
    return sizes if random.random() < 0.95 else (*sizes, 2)


def kinds(random: Random, count: int) -> list[str]:
    kind = dtype(random)
    return [kind if random.random() < 0.93 else dtype(random) for _ in range(count)]


def product(left: str, right: str) -> Any:
    def draw(random: Random) -> Inputs:
        sizes = dict(zip("mkn", shape(random, 3, 4), strict=True))
        a, b = (off(random, tuple(sizes[letter] for letter in side)) for side in (left, right))
        one, other = kinds(random, 2)
        return [TensorType(a, one), TensorType(b, other)]

    return draw


def added(random: Random) -> Inputs:
    a, b = product("mk", "kn")(random)
    mine = tuple(1 if random.random() < 0.2 else size for size in (*a.shape[:1], *b.shape[1:2]))[random.randint(0, 2) :]
    return [TensorType(off(random, mine), a.dtype if random.random() < 0.95 else dtype(random)), a, b]


def last_alike(random: Random) -> Inputs:
    size = random.randint(1, 4)
    sides = [(*shape(random, random.randint(0, 2), 3), size) for _ in range(2)]
    if random.random() < 0.1:
        sides[0] = ()
    one, other = kinds(random, 2)
    return [TensorType(off(random, sides[0]), one), TensorType(sides[1], other)]


def threes(random: Random) -> Inputs:
    sizes = [*shape(random, random.randint(0, 2), 3), 3]
    random.shuffle(sizes)
    mine = tuple(1 if size != 3 and random.random() < 0.2 else size for size in sizes)
    one, other = kinds(random, 2)
    return [TensorType(off(random, mine), one), TensorType(tuple(sizes), other)]


def vectors(random: Random) -> Inputs:
    batch, size = shape(random, random.choice((0, 0, 1, 2)), 3), random.randint(1, 4)
    sides = [(*batch, random.randint(1, 4), size), (*batch, random.randint(1, 4), size)]
    kind = random.choice(("float32", "float32", "float64", dtype(random)))
    other = kind if random.random() < 0.95 else dtype(random)
    return [TensorType(off(random, sides[0]), kind), TensorType(sides[1][random.choice((0, 0, -2)) :], other)]


def squares(random: Random) -> Inputs:
    size = random.randint(1, 4)
    sizes = (*shape(random, random.randint(0, 2), 3), size, size + (random.random() < 0.1))
    return [TensorType(sizes[random.choice((0, 0, 0, 0, -1)) :], random.choice(("float32", "float32", dtype(random))))]


INPUTS["mm"] = product("mk", "kn")
INPUTS["mv"] = product("mk", "k")
INPUTS["dot"] = product("k", "k")
INPUTS["outer"] = product("k", "m")
INPUTS["addmm"] = added
INPUTS["inner"] = last_alike
INPUTS["cross"] = threes
INPUTS["cdist"] = vectors
INPUTS["kron"] = two
for _factor in ("beta", "alpha"):
    ARGUMENTS.setdefault("addmm", {})[_factor] = lambda random, inputs: random.choice((1, 2, 0.5))
ARGUMENTS["cdist"] = {"p": lambda random, inputs: random.choice((0.0, 1, 2.0, 3, -1.0))}
for _name in ("inverse", "det", "logdet"):
    INPUTS[_name] = squares
INPUTS["trace"] = ranks(2, 2)
COMPARES |= {"mm", "mv", "dot", "addmm", "inner", "cross", "cdist", "inverse", "det", "logdet", "einsum"}

_EQUATIONS = (
    *("ij,jk->ik", "bij,bjk->bik", "bhqd,bhkd->bhqk", "nctw,cd->ndtw", "ij,ij->i", "i,j->ij", "ij->ji", "ii->i"),
    *("bij,bjk", "i,i", "ij->", "...ij,...jk->...ik", "...i,ij->...j", "b...,b->...", "abc->cab", "ij,jk,kl->il"),
    *("i j, j k -> i k", "ij,jk->iz", "ij,jk->ii", "i1->i", "...->...", "bqd,bkd->bqk", "ii", "...d,d->..."),
)


def equation(random: Random, inputs: Inputs) -> str:
    """The equation for which the tensors were drawn."""
    return _drawn[tuple(inputs[0])]


_drawn: dict[tuple[TensorType, ...], str] = {}


def operands(random: Random) -> Inputs:
    text = random.choice(_EQUATIONS)
    sizes: dict[str, int] = {}
    parts = []
    dots = shape(random, random.randint(0, 2), 3)
    kind = dtype(random)
    for term in text.replace(" ", "").partition("->")[0].split(","):
        mine: list[int] = []
        for letter in term.replace("...", "."):
            mine += dots if letter == "." else [sizes.setdefault(letter, random.randint(1, 4))]
        if random.random() < 0.08 and mine:
            mine[random.randrange(len(mine))] += 1
        if random.random() < 0.05 and mine:
            mine[random.randrange(len(mine))] = 1
        if random.random() < 0.03:
            mine = [*mine, 2]
        parts.append(TensorType(tuple(mine), kind if random.random() < 0.95 else dtype(random)))
    if random.random() < 0.03:
        parts = [*parts, parts[0]]
    _drawn[tuple(parts)] = text
    return [tuple(parts)]


INPUTS["einsum"] = operands
ARGUMENTS["einsum"] = {"equation": equation}
