"""The functions that an expression may call: how many arguments each takes, and what it computes.

They are Python's own, bounded so that no spec can ask for more memory or time than a spec needs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

MAX_ITEMS = 10_000
"""Items in a list (lists inside it included), letters in a text, values in a range."""
MAX_EXPONENT = 1024
MAX_BITS = 2048
"""Of a whole number that an expression computes."""
MAX_TERMS = 200
"""Of a size that is open until the model runs, as a polynomial of its symbols."""


class LimitError(ValueError):
    """A value would grow past one of the limits above."""


def make_divisible(v: float, divisor: int) -> int:
    """The multiple of `divisor` nearest to `v` (halves go up), at least `divisor`, and never below 90 % of `v`.

    MobileNet's rule for channel counts, as torchvision applies it. Raises ValueError where `divisor` is below 1.
    """
    if divisor < 1:
        raise ValueError(f"the divisor must be at least 1, not {divisor}")
    rounded = max(divisor, int(v + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * v else rounded + divisor


def _range(*bounds: int) -> list[int]:
    steps = range(*bounds)
    if steps[MAX_ITEMS:]:  # len() refuses ranges beyond a machine word, a slice does not
        raise LimitError(f"a range may have at most {MAX_ITEMS:,} values")
    return list(steps)


def _round(number: Any, digits: int | None = None) -> Any:
    if digits is not None and abs(digits) > 400:  # Python would compute 10 ** digits
        raise LimitError("`round` keeps at most 400 digits")
    return round(number, digits)


def _zip(*lists: Any) -> list[list[Any]]:
    if len(lists) * min(map(len, lists)) > MAX_ITEMS:
        raise LimitError(f"it may have at most {MAX_ITEMS:,} items")
    return [list(items) for items in zip(*lists, strict=False)]


class Function(NamedTuple):
    """`usage` shows a call. `most` is None where any number of arguments will do. `traced`: a whole number that it
    gives keeps its origin. `python` is its spelling where that differs."""

    usage: str
    compute: Callable[..., Any]
    least: int = 1
    most: int | None = 1
    traced: bool = False
    python: str | None = None


def _shape(*_: object) -> Any:
    raise TypeError("a tensor's sizes can be read only in a layer's arguments")


FUNCTIONS: dict[str, Function] = {
    "min": Function("min(a, b)", min, 1, None, traced=True),
    "max": Function("max(a, b)", max, 1, None, traced=True),
    "sum": Function("sum(list)", sum, traced=True),
    "len": Function("len(list)", len),
    "abs": Function("abs(number)", abs, traced=True),
    "round": Function("round(number, digits)", _round, 1, 2, traced=True),
    "ceil": Function("ceil(number)", math.ceil, traced=True, python="math.ceil"),
    "floor": Function("floor(number)", math.floor, traced=True, python="math.floor"),
    "int": Function("int(number)", int, traced=True),
    "float": Function("float(number)", float),
    "sqrt": Function("sqrt(number)", math.sqrt, python="math.sqrt"),
    "log": Function("log(number, base)", math.log, 1, 2, python="math.log"),
    "range": Function("range(start, stop, step)", _range, 1, 3),
    "reversed": Function("reversed(list)", lambda items: list(reversed(items))),
    "zip": Function("zip(list, list)", _zip, 1, None),
    "make_divisible": Function("make_divisible(value, divisor)", make_divisible, 2, 2, traced=True),
    "shape": Function("shape(tensor)", _shape),
}


def call_function(name: str, arguments: tuple[Any, ...]) -> Any:
    """Apply a function to values, within the limits.

    Where an argument remembers its origin (it has a method `apply`), the result is handed to
    `argument.apply(name, arguments, result)`, so that it remembers too.
    """
    function = FUNCTIONS[name]
    result = function.compute(*arguments)
    if function.traced:
        for argument in arguments:
            if hasattr(argument, "apply"):
                return argument.apply(name, arguments, result)
    return result
