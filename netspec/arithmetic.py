"""The types of `compute`: broadcasting, promotion and indexing as torch does them, on types alone.

Promotion: https://docs.pytorch.org/docs/stable/tensor_attributes.html (a Python number changes the dtype of a tensor
only where it is of a higher category: bool < integer < floating point).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from netspec.broadcast import broadcast
from netspec.catalog import lookup
from netspec.expressions import (
    Binary,
    Compare,
    Expr,
    Literal,
    SliceExpr,
    Subscript,
    Tensor,
    TupleExpr,
    Unary,
    describe,
    evaluate,
    tensors,
)
from netspec.shapes import Dim, Problem, Size, TensorType

_RANK = {"bool": 0, "uint8": 1, "int8": 1, "int16": 2, "int32": 3, "int64": 4}
_FLOATS = {"float16": 5, "bfloat16": 5, "float32": 6, "float64": 7}

_OPPOSITE = "`a == 0` is the opposite of a bool tensor `a`, and `a != b` the difference of two"

Operand = TensorType | int | float | bool | Dim


class Refused(Exception):
    """What the arithmetic cannot do, as a `Problem`."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def type_of(expr: Expr, types: Mapping[Tensor, TensorType], env: Mapping[str, Any]) -> Operand:
    """The type of tensor arithmetic, or the value of a part without tensors. Raises Refused and ExpressionError."""
    if isinstance(expr, Tensor):
        return types[expr]
    if not tensors(expr):
        value = evaluate(expr, env)
        if value is None or isinstance(value, list | str):
            raise _impossible(f"a tensor cannot be combined with {describe(value)}", "with numbers and tensors it can")
        return value  # type: ignore[no-any-return]
    match expr:
        case Unary(op, operand):
            inner = type_of(operand, types, env)
            assert isinstance(inner, TensorType)
            if op == "-" and inner.dtype == "bool":
                raise Refused(Problem("`-` does not work on a bool tensor", help=_OPPOSITE, code="NS402"))
            return inner
        case Binary("@", left, right):
            return _matmul(type_of(left, types, env), type_of(right, types, env))
        case Binary(op, left, right):
            return _elementwise(op, type_of(left, types, env), type_of(right, types, env))
        case Compare(left, ops, comparators):
            if len(comparators) > 1:
                raise _impossible(
                    "tensors are compared two at a time", "multiply two comparisons, as in `(0 < x) * (x < 1)`"
                )
            result = _elementwise(ops[0], type_of(left, types, env), type_of(comparators[0], types, env))
            assert isinstance(result, TensorType)
            return TensorType(result.shape, "bool")
        case Subscript(value, index):
            inner = type_of(value, types, env)
            assert isinstance(inner, TensorType)
            return _indexed(inner, index, types, env)
    raise _impossible("this is no arithmetic", "`compute` takes `+ - * / // % ** @`, comparisons and subscripts")


def _impossible(message: str, help: str) -> Refused:
    return Refused(Problem(message, help=help, code="NS320"))


def promote(a: Operand, b: Operand) -> str:
    """The dtype of an operation on two operands."""
    tensor_dtypes = [t.dtype for t in (a, b) if isinstance(t, TensorType)]
    if len(tensor_dtypes) == 2:
        left, right = (t for t in (a, b) if isinstance(t, TensorType))
        if bool(left.shape) != bool(right.shape):
            wide, narrow = (left, right) if left.shape else (right, left)
            if _category(wide.dtype) >= _category(narrow.dtype):
                return wide.dtype
        return _promote_dtypes(*tensor_dtypes)
    (dtype,) = tensor_dtypes
    number = b if isinstance(a, TensorType) else a
    category = 0 if isinstance(number, bool) else 2 if isinstance(number, float) else 1
    if category <= _category(dtype):
        return dtype
    return "float32" if category == 2 else "int64"


def _category(dtype: str) -> int:
    return 2 if dtype in _FLOATS else 0 if dtype == "bool" else 1


def _promote_dtypes(a: str, b: str) -> str:
    if a == b:
        return a
    if {a, b} == {"float16", "bfloat16"}:
        return "float32"
    if {a, b} == {"uint8", "int8"}:
        return "int16"
    ranks = {**_RANK, **_FLOATS}
    return a if ranks[a] >= ranks[b] else b


def _elementwise(op: str, left: Operand, right: Operand) -> Operand:
    shapes = [t.shape for t in (left, right) if isinstance(t, TensorType)]
    shape: tuple[Size, ...] = shapes[0]
    if len(shapes) == 2:
        joined = broadcast(shapes[0], shapes[1])
        if isinstance(joined, Problem):
            raise Refused(joined)
        shape = joined
    dtype = promote(left, right)
    if op == "-" and any(t.dtype == "bool" for t in (left, right) if isinstance(t, TensorType)):
        both = len(shapes) == 2 and dtype == "bool"
        if both or dtype == "bool" or len(shapes) == 1:
            raise Refused(Problem("`-` does not work on a bool tensor", help=_OPPOSITE, code="NS402"))
    if op == "/" and _category(dtype) < 2:
        dtype = "float32"
    if op in ("//", "%", "**") and dtype == "bool":
        raise Refused(
            Problem(f"`{op}` does not work on bool tensors", help="compare it, or multiply it by 1.0", code="NS402")
        )
    return TensorType(shape, dtype)


def _matmul(left: Operand, right: Operand) -> TensorType:
    entry = lookup("matmul")
    assert entry is not None and entry.rule is not None
    for side in (left, right):
        if not isinstance(side, TensorType):
            raise _impossible(f"`@` multiplies two tensors, and one side is {describe(side)}", "write `*` for a number")
    inferred = entry.rule({}, {entry.inputs[0].name: left, entry.inputs[1].name: right})
    if isinstance(inferred, Problem):
        raise Refused(inferred)
    result = next(iter(inferred.outputs.values()))
    assert isinstance(result, TensorType)
    return result


def _indexed(given: TensorType, index: Expr, types: Mapping[Tensor, TensorType], env: Mapping[str, Any]) -> TensorType:
    """torch's basic indexing (integers, slices, None, `...`) and indexing by one integer or bool tensor."""
    items = index.items if isinstance(index, TupleExpr) else (index,)
    taken = sum(not (isinstance(i, Literal) and (i.value is None or i.value is ...)) for i in items)
    if taken > len(given.shape):
        raise Refused(
            Problem(
                f"{given} has {len(given.shape)} sizes, and {taken} are indexed", help="leave some out", code="NS404"
            )
        )
    shape: list[Size] = []
    axis = 0
    for item in items:
        if isinstance(item, Literal) and item.value is None:
            shape.append(1)
        elif isinstance(item, Literal) and item.value is ...:
            rest = len(given.shape) - taken
            shape += given.shape[axis : axis + rest]
            axis += rest
        elif isinstance(item, SliceExpr):
            shape.append(_sliced(given.shape[axis], item, env))
            axis += 1
        elif tensors(item):
            by = type_of(item, types, env)
            assert isinstance(by, TensorType)
            if len(items) > 1 or by.dtype not in ("int64", "int32", "uint8"):
                raise _impossible("a tensor can be indexed by one integer tensor", "as in `table[ids]`")
            shape += by.shape
            axis += 1
        else:
            _check_position(given.shape[axis], evaluate(item, env), axis)
            axis += 1
    return TensorType((*shape, *given.shape[axis:]), given.dtype)


def _check_position(size: Size, position: Any, axis: int) -> None:
    if not isinstance(position, int) or isinstance(position, bool):
        raise _impossible(
            f"a tensor is indexed by integers and slices, and this is {describe(position)}", "as in `x[:, 0]`"
        )
    if isinstance(size, int) and not -size <= position < size:
        raise Refused(
            Problem(
                f"index {position} is outside dimension {axis}, whose size is {size}",
                help=f"the first is at 0, the last at {size - 1} or -1",
                code="NS404",
            )
        )


def _sliced(size: Size, item: SliceExpr, env: Mapping[str, Any]) -> Size:
    lower, upper, step = (None if part is None else evaluate(part, env) for part in (item.lower, item.upper, item.step))
    step = 1 if step is None else step
    if not isinstance(step, int) or step < 1:
        raise _impossible("a tensor's slice goes forward: its step is an integer from 1", "the layer `flip` turns it")
    if isinstance(size, int) and not isinstance(lower, Dim) and not isinstance(upper, Dim):
        start, stop, stride = slice(lower, upper, step).indices(int(size))
        if lower is None and upper is None and stride == 1:
            return size
        return max(0, (stop - start + stride - 1) // stride)
    first: Size = 0 if lower is None else lower
    last: Size = size if upper is None else upper
    first = size + first if isinstance(first, int) and first < 0 else first
    last = size + last if isinstance(last, int) and last < 0 else last
    return (last - first + step - 1) // step
