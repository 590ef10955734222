"""Evaluation: an expression and a scope give a value, in bounded time and memory, or an `ExpressionError` in words."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from netspec.diagnostics import Diagnostics, Span
from netspec.document import Scalar
from netspec.expressions.functions import FUNCTIONS, MAX_ITEMS, LimitError, call_function
from netspec.expressions.limits import Budget, ExpressionError, items_in
from netspec.expressions.messages import describe, misfit, out_of_range, shown
from netspec.expressions.nodes import (
    Binary,
    BoolOp,
    Call,
    Compare,
    Comprehension,
    Conditional,
    Expr,
    Invalid,
    ListExpr,
    Literal,
    Name,
    Path,
    SliceExpr,
    Subscript,
    Template,
    Tensor,
    TupleExpr,
    Unary,
    free_names,
)
from netspec.suggest import suggest

# What Python's operators and our functions raise when values do not fit. Anything else is a bug and goes through.
_MISFITS = (TypeError, ValueError, ArithmeticError, LookupError, RecursionError)


def report(error: ExpressionError, scalar: Scalar, diagnostics: Diagnostics) -> None:
    """Add an evaluation's error as a diagnostic, at the unknown name where it is one, else at the whole scalar."""
    from netspec.expressions.parser import name_span

    if not error.reported:
        span: Span = name_span(scalar, error.name) if error.name else scalar.span
        diagnostics.error(error.code, error.message, span, help=error.help)


def evaluate(
    expr: Expr,
    scope: Mapping[str, object],
    *,
    functions: Mapping[str, Callable[..., object]] | None = None,
    tensors: Mapping[str, object] | None = None,
) -> Any:
    """The value of an expression.

    `scope` gives names their values (and `train.epochs` its document, under `train`). `functions` adds functions or
    replaces them; `shape` is called with the tensor's reference as a string. `tensors` gives references their values,
    which only tensor arithmetic needs. Python's own operators work on the values, so that whatever overloads them flows
    through. Raises `ExpressionError`.
    """
    if isinstance(expr, Literal):
        return expr.value
    try:
        return _Evaluation(scope, functions or {}, tensors).value(expr)
    except RecursionError:
        raise ExpressionError("the expression is nested too deeply", code="NS212") from None


_BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": operator.pow,
    "@": operator.matmul,
}
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "in": lambda item, items: item in items,
    "not in": lambda item, items: item not in items,
    "is": operator.is_,
    "is not": operator.is_not,
}
_UNARY: dict[str, Callable[[Any], Any]] = {"-": operator.neg, "+": operator.pos, "not": operator.not_}


class _Evaluation(Budget):
    """One call of `evaluate`: the scope, and what is left of its budget."""

    def __init__(
        self,
        scope: Mapping[str, object],
        functions: Mapping[str, Callable[..., object]],
        tensors: Mapping[str, object] | None,
    ) -> None:
        super().__init__()
        self.scope = scope
        self.functions = functions
        self.tensors = tensors

    def value(self, expr: Expr) -> Any:
        self.steps -= 1
        if self.steps < 0:
            self.spend(0)
        match expr:
            case Literal(value):
                return value
            case Name(id):
                return self.name(id)
            case Binary(op, left, right):
                return self.binary(expr, op, self.value(left), self.value(right))
            case Unary(op, operand):
                value = self.value(operand)
                return self.apply(expr, (value,), lambda: _UNARY[op](value))
            case Compare():
                return self.compare(expr)
            case BoolOp(op, values):
                for operand in values[:-1]:
                    value = self.value(operand)
                    if self.truth(operand, value) == (op == "or"):
                        return value
                return self.value(values[-1])
            case Conditional(test, body, orelse):
                return self.value(body if self.truth(test, self.value(test)) else orelse)
            case Call(function, arguments):
                return self.call(expr, function, arguments)
            case Subscript(value, index):
                return self.subscript(expr, self.value(value), self.index(index))
            case ListExpr(items) | TupleExpr(items):
                return self.bounded([self.value(item) for item in items])
            case Comprehension():
                return self.comprehension(expr)
            case Template(parts):
                return self.text("".join(part if isinstance(part, str) else self.embed(part) for part in parts))
            case Path(parts):
                return self.path(parts)
            case Tensor():
                return self.tensor(expr)
            case SliceExpr():
                return self.index(expr)
            case Invalid():
                raise ExpressionError("the expression cannot be read", reported=True)

    def apply(self, expr: Expr, values: tuple[Any, ...], compute: Callable[[], Any]) -> Any:
        """Compute one operation; turn what Python raises into words."""
        try:
            return compute()
        except LimitError as error:
            raise ExpressionError(f"{shown(expr)} is too large: {error}", code="NS212") from None
        except ZeroDivisionError:
            raise ExpressionError(f"{shown(expr)} divides by zero", self.known(expr)) from None
        except OverflowError:
            raise ExpressionError(f"{shown(expr)} has no finite value") from None
        except IndexError:
            raise ExpressionError(*out_of_range(expr, values)) from None
        except RecursionError:
            raise
        except _MISFITS as error:
            raise ExpressionError(*misfit(expr, values, error)) from None
        except Exception as error:
            # A size that depends on the input answers some questions with shapes.Undecided, whose words are for users.
            # That module stands above this one and cannot be imported here.
            if type(error).__name__ != "Undecided":
                raise
            message = f"{shown(expr)} is open until the model runs: {error}"
            help = "give the input a number there, or decide by something that has one"
            raise ExpressionError(message, help, code="NS213") from None

    def known(self, expr: Expr) -> str | None:
        """The numbers that the names in an expression stand for."""
        numbers = {name: self.scope[name] for name in sorted(free_names(expr)) if name in self.scope}
        texts = [f"`{name}` is {number}" for name, number in numbers.items() if isinstance(number, int | float)]
        return ", ".join(texts[:6]) or None

    def truth(self, expr: Expr, value: Any) -> bool:
        return bool(self.apply(expr, (value,), lambda: bool(value)))

    def name(self, id: str) -> Any:
        try:
            return self.scope[id]
        except KeyError:
            names = [name for name in self.scope if name.isidentifier()]
            near = suggest(id, names)
            known = ", ".join(f"`{name}`" for name in names[:12]) + (", …" if len(names) > 12 else "")
            help = (
                f"did you mean `{near}`?"
                if near
                else f"known here: {known}"
                if names
                else "declare it, as in `params: {" + id + ": 64}`"
            )
            raise ExpressionError(f"`{id}` is not known here", help, id, code="NS210") from None

    def binary(self, expr: Expr, op: str, left: Any, right: Any) -> Any:
        def compute() -> Any:
            self.foresee(op, left, right)
            return _BINARY[op](left, right)

        return self.bounded(self.apply(expr, (left, right), compute))

    def compare(self, expr: Compare) -> Any:
        left = self.value(expr.left)
        result: Any = True
        for op, comparator in zip(expr.ops, expr.comparators, strict=True):
            if result is not True and not self.truth(expr, result):
                return result
            right = self.value(comparator)
            for side in (left, right):
                if isinstance(side, list | tuple):
                    self.spend(items_in(side, MAX_ITEMS))
            result = self.apply(expr, (left, right), partial(_COMPARE[op], left, right))
            left = right
        return result

    def call(self, expr: Expr, function: str, arguments: tuple[Expr, ...]) -> Any:
        if function in self.functions:
            if function == "shape" and isinstance(arguments[0], Tensor):
                return self.functions[function](self.reference(arguments[0]))
            values = tuple(self.value(argument) for argument in arguments)
            return self.apply(expr, values, lambda: self.functions[function](*values))
        if function == "shape":
            raise ExpressionError(
                "`shape(…)` can be used only in a layer's arguments", "a size bound by `inputs` can be used anywhere"
            )
        if function not in FUNCTIONS:
            raise ExpressionError(f"there is no function `{function}`", code="NS204")
        values = tuple(self.value(argument) for argument in arguments)
        if function in ("min", "max", "sum"):
            for value in values:
                if isinstance(value, list | tuple):
                    self.spend(items_in(value, MAX_ITEMS))
        return self.bounded(self.apply(expr, values, lambda: call_function(function, values)))

    def index(self, expr: Expr) -> Any:
        if isinstance(expr, SliceExpr):
            return slice(*(None if part is None else self.value(part) for part in (expr.lower, expr.upper, expr.step)))
        if isinstance(expr, TupleExpr):
            return tuple(self.index(item) for item in expr.items)
        return self.value(expr)

    def subscript(self, expr: Expr, value: Any, index: Any) -> Any:
        if isinstance(value, Mapping):
            raise ExpressionError(*misfit(expr, (value, index), TypeError()))
        return self.bounded(self.apply(expr, (value, index), lambda: value[index]))

    def comprehension(self, expr: Comprehension) -> list[Any]:
        items = self.value(expr.iterable)
        if not isinstance(items, list | tuple):
            raise ExpressionError(
                f"{shown(expr.iterable)} is {describe(items)}, not a list",
                "`range(n)` gives the numbers from 0 to n - 1",
            )
        outer, inner = self.scope, dict(self.scope)
        result = []
        try:
            self.scope = inner
            for item in items:
                inner.update(self.unpack(expr, item))
                if expr.condition is None or self.truth(expr.condition, self.value(expr.condition)):
                    result.append(self.value(expr.element))
        finally:
            self.scope = outer
        bounded: list[Any] = self.bounded(result)
        return bounded

    def unpack(self, expr: Comprehension, item: Any) -> dict[str, Any]:
        targets = expr.targets
        if len(targets) == 1:
            return {targets[0]: item}
        if not isinstance(item, list | tuple) or len(item) != len(targets):
            found = f"a list of {len(item)}" if isinstance(item, list | tuple) else describe(item)
            raise ExpressionError(
                f"`for {', '.join(targets)}` needs lists of {len(targets)} values, and here is {found}"
            )
        return dict(zip(targets, item, strict=True))

    def embed(self, expr: Expr) -> str:
        value = self.value(expr)
        if not isinstance(value, str | int | float):
            raise ExpressionError(
                f"{shown(expr)} is {describe(value)} and cannot become part of a text",
                "numbers and texts can; alone, `$(…)` may have any value",
            )
        return str(value)

    def path(self, parts: tuple[str, ...]) -> Any:
        value: Any = self.scope
        for depth, part in enumerate(parts):
            if isinstance(value, Mapping) and part in value:
                value = value[part]
            elif isinstance(value, list | tuple) and part.isdecimal() and int(part) < len(value):
                value = value[int(part)]
            else:
                here = ".".join(parts[:depth]) or "the document"
                near = suggest(part, value) if isinstance(value, Mapping) else None
                raise ExpressionError(
                    f"`{'.'.join(parts)}` is not in the document: {here} has no `{part}`",
                    f"did you mean `{'.'.join((*parts[:depth], near))}`?" if near else None,
                    ".".join(parts),
                    code="NS210",
                )
        return value

    def reference(self, tensor: Tensor) -> str:
        return tensor.name if isinstance(tensor.name, str) else str(self.value(tensor.name))

    def tensor(self, expr: Tensor) -> Any:
        name = self.reference(expr)
        if self.tensors is not None and name in self.tensors:
            return self.tensors[name]
        raise ExpressionError(f"`{name}` is a tensor, whose value is known only when the model runs")
