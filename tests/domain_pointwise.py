"""The declared domain of the catalog's oracle: functions of the values of one, two or three tensors."""

from __future__ import annotations

from random import Random
from typing import Any

from domain_base import ARGUMENTS, COMPARES, DTYPES, INPUTS, Inputs, dtype
from domain_functions import two

from netspec.shapes import TensorType

for _name in (
    *("eq", "ne", "gt", "ge", "lt", "le", "logical_and", "logical_or", "logical_xor", "isclose"),
    *("bitwise_and", "bitwise_or", "bitwise_xor", "fmod", "remainder", "fmax", "fmin", "atan2", "hypot"),
    *("logaddexp", "copysign", "xlogy", "float_power", "lerp", "type_as"),
):
    INPUTS[_name] = two
    COMPARES.add(_name)
COMPARES.remove("type_as")


def whole(random: Random) -> Inputs:
    """Two tensors of integers, mostly."""
    found = two(random)
    kinds = ("int64", "int32", "uint8", "bool", "int64", dtype(random))
    first = random.choice(kinds)
    return [TensorType(x.shape, first if random.random() < 0.7 else random.choice(kinds)) for x in found]


for _name in ("bitwise_and", "bitwise_or", "bitwise_xor"):
    INPUTS[_name] = whole


def with_product(random: Random) -> Inputs:
    a, b = two(random)
    third = b.dtype if random.random() < 0.6 else random.choice(DTYPES)
    return [a, b, TensorType(random.choice((a.shape, b.shape)), third)]


def factor(random: Random, inputs: Inputs) -> Any:
    return random.choice((1, 2, 0.5))


for _name in ("addcmul", "addcdiv"):
    INPUTS[_name] = with_product
    COMPARES.add(_name)
    ARGUMENTS[_name] = {"value": factor}
ARGUMENTS["lerp"] = {"weight": lambda random, inputs: random.choice((0.0, 0.5, 1, 2.0))}
ARGUMENTS["logit"] = {"eps": lambda random, inputs: random.choice((None, 0.0, 1e-6))}


def one(random: Random) -> Inputs:
    return [TensorType((2, 3)[: random.randint(0, 2)], random.choice(("int64", "bool", "float32", *DTYPES)))]


for _name in ("bitwise_not", "frac"):
    INPUTS[_name] = one
