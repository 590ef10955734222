"""What the rules of the catalog share: refusing in words, reading inputs, dtypes, ranks and dimensions.

A rule is written as a function that answers `Inferred` or calls `refuse`; the decorator `rule` turns a refusal into the
`Problem` that the compiler expects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce, wraps
from operator import mul
from typing import Any, NoReturn

from netspec.broadcast import broadcast
from netspec.catalog.entry import Inferred, Rule
from netspec.shapes import Dim, ListType, Problem, Size, TensorType, provably_less

FLOATING = ("float32", "float64", "float16", "bfloat16")
INTEGERS = ("int64", "int32", "int16", "int8", "uint8")
NUMBERS = FLOATING + INTEGERS
ALL = (*NUMBERS, "bool")

Shape = tuple[Size, ...]
Arguments = Mapping[str, Any]
Inputs = Mapping[str, Any]

_PROMOTED = {"uint8": 0, "int8": 1, "int16": 2, "int32": 3, "int64": 4}


class Refused(Exception):
    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def refuse(
    message: str,
    help: str | None = None,
    *,
    ports: tuple[str, ...] = ("input",),
    argument: str | None = None,
    code: str = "NS401",
) -> NoReturn:
    """End the rule with this problem.

    Codes: NS401 a shape, NS402 a dtype, NS403 sizes that disagree, NS404 an argument that does not go with the input,
    NS405 a list for a tensor, NS406 what torch lets pass and hardly anyone means, NS407 a size that has to be known.
    """
    raise Refused(Problem(message, help=help, ports=ports, argument=argument, code=code))


def rule(function: Callable[[Arguments, Inputs], Inferred]) -> Rule:
    """Make a rule of a function that may `refuse`."""

    @wraps(function)
    def answer(arguments: Arguments, inputs: Inputs) -> Inferred | Problem:
        try:
            return function(arguments, inputs)
        except Refused as refused:
            return refused.problem

    return answer


def one(shape: Iterable[Size], dtype: str, arguments: Mapping[str, Size] | None = None) -> Inferred:
    """The answer of a rule with one output."""
    return Inferred(outputs={"output": TensorType(tuple(shape), dtype)}, arguments=arguments)


def many(items: Iterable[TensorType]) -> Inferred:
    """The answer of a rule whose output is a list."""
    return Inferred(outputs={"output": ListType(tuple(items))})


def tensor(inputs: Inputs, name: str, port: str = "input") -> TensorType:
    """The tensor at a port; refuses a list."""
    found = inputs[port]
    if isinstance(found, ListType):
        refuse(
            f"{name} takes a tensor, and got a list of {'tensors' if found.element is not None else len(found)}",
            help="read one of them by its position (`parts.0`), join them with `cat`, or take every one with `each`",
            ports=(port,),
            code="NS405",
        )
    assert isinstance(found, TensorType)
    return found


def spread(value: Any, count: int) -> tuple[Any, ...]:
    """An argument of kind `size2` (or 1, 3 …) as that many values."""
    return tuple(value) if isinstance(value, list | tuple) else (value,) * count


def floating(name: str, x: TensorType, port: str = "input") -> None:
    """Refuse what is not floating point."""
    if x.dtype not in FLOATING:
        refuse(
            f"{name} takes floating point, and got {x.dtype}",
            help="convert it in the data (`ToDtype`), or declare the input's dtype as float32",
            ports=(port,),
            code="NS402",
        )


def weighted(name: str, x: TensorType, port: str = "input") -> None:
    """Refuse what cannot be multiplied by float32 weights."""
    floating(name, x, port)
    if x.dtype != "float32":
        refuse(
            f"{name} has float32 weights, and got {x.dtype}",
            help="give it float32; training in half precision is set by `train.precision`",
            ports=(port,),
            code="NS402",
        )


def accepting(name: str, x: TensorType, dtypes: Sequence[str], port: str = "input") -> None:
    """Refuse a dtype that is not among those given."""
    if x.dtype in dtypes:
        return
    if tuple(dtypes) == FLOATING:
        floating(name, x, port)
    if tuple(dtypes) == NUMBERS:
        refuse(f"{name} takes numbers, and got {x.dtype}", ports=(port,), code="NS402")
    refuse(
        f"{name} takes {' or '.join([', '.join(dtypes[:-1]), dtypes[-1]] if len(dtypes) > 1 else dtypes)}, "
        f"and got {x.dtype}",
        ports=(port,),
        code="NS402",
    )


def dimension(name: str, dim: int, rank: int, argument: str = "dim", port: str = "input") -> int:
    """A dimension counted from 0; refuses one that does not exist. A tensor without dimensions has -1 and 0."""
    length = max(rank, 1)
    if not -length <= dim < length:
        refuse(
            f"{name}: dimension {dim} does not exist in a tensor of {plural(rank, 'dimension')}",
            help=f"dimensions count from {-length} to {length - 1}",
            ports=(port,),
            argument=argument,
            code="NS404",
        )
    return dim + length if dim < 0 else dim


def plural(count: Size, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def converted(dtype: str) -> str:
    """How a target gets another dtype; transforms work on images alone."""
    return f"store it as {dtype}; in `train.layers`, `{{type: to, dtype: {dtype}}}` before the loss converts it too"


def known(name: str, size: Size, what: str, port: str = "input") -> int:
    """A size that must be a number when the model is built."""
    if isinstance(size, Dim):
        refuse(
            f"{name} needs {what} as a number when the model is built, and {size} is not known",
            help="give the input that size as a number",
            ports=(port,),
            code="NS407",
        )
    return size


def inferred(
    name: str, arguments: Arguments, argument: str, size: int, where: str, port: str = "input", code: str = "NS403"
) -> int:
    """The argument that the input determines; refuses one that was stated and disagrees."""
    stated = arguments.get(argument)
    if stated is not None and stated != size:
        refuse(
            f"{name} has {argument} {stated}, and its input has {size} {where}",
            help=f"leave {argument} out, it follows from the input",
            ports=(port,),
            argument=argument,
            code=code,
        )
    return size


def numel(shape: Sequence[Size]) -> Size:
    """The number of elements. No factor of 1 is put before the sizes: one that remembers its origin would show it."""
    return reduce(mul, shape) if shape else 1


def surely_below(size: Size, limit: Size) -> bool:
    """Whether the size is below the limit for every value of the symbols."""
    return provably_less(size, limit)


def promoted(a: TensorType, b: TensorType) -> str:
    """The dtype of arithmetic on two tensors, by torch's promotion (one without dimensions yields to others)."""
    if a.dtype == b.dtype:
        return a.dtype
    ranks = [_rank(t.dtype) for t in (a, b)]
    scalars = [not t.shape for t in (a, b)]
    if scalars[0] != scalars[1]:
        tensor_side, scalar_side = (b, a) if scalars[0] else (a, b)
        if _rank(tensor_side.dtype) >= _rank(scalar_side.dtype):
            return tensor_side.dtype
        return scalar_side.dtype
    if ranks[0] != ranks[1]:
        return (a if ranks[0] > ranks[1] else b).dtype
    if ranks[0] == 2:
        pair = {a.dtype, b.dtype}
        if "float64" in pair:
            return "float64"
        return "float32"
    pair = {a.dtype, b.dtype}
    if "uint8" in pair and "int8" in pair:
        return "int16"
    return max(pair, key=_PROMOTED.__getitem__)


def broadcasted(name: str, a: TensorType, b: TensorType, ports: tuple[str, str]) -> Shape:
    """The shape of an operation on two tensors value by value."""
    shape = broadcast(a.shape, b.shape)
    if isinstance(shape, Problem):
        refuse(f"{name}: {shape.message}", help=shape.help, ports=ports, code=shape.code)
    return shape


def _rank(dtype: str) -> int:
    return 0 if dtype == "bool" else 1 if dtype in INTEGERS else 2
