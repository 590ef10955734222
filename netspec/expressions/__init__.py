"""Expressions: `$name`, `$(…)`, texts that hold them, and tensor arithmetic.

Parsed once with Python's parser into a small tree of our own (`nodes`), evaluated against a scope in bounded time
(`evaluate`), folded, and printed back as Python for the emitted code. Nothing in a spec is ever run as Python.
"""

from netspec.expressions.evaluate import evaluate, report
from netspec.expressions.folding import fold
from netspec.expressions.functions import FUNCTIONS, call_function, make_divisible
from netspec.expressions.limits import ExpressionError
from netspec.expressions.messages import describe
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
    children,
    free_names,
    from_value,
    map_children,
    size,
    substitute,
    tensors,
    walk,
)
from netspec.expressions.parser import is_expression, name_span, parse_compute, parse_scalar
from netspec.expressions.printer import literal, python_requirements, to_python, to_text

__all__ = [
    "FUNCTIONS",
    "Binary",
    "BoolOp",
    "Call",
    "Compare",
    "Comprehension",
    "Conditional",
    "Expr",
    "ExpressionError",
    "Invalid",
    "ListExpr",
    "Literal",
    "Name",
    "Path",
    "SliceExpr",
    "Subscript",
    "Template",
    "Tensor",
    "TupleExpr",
    "Unary",
    "call_function",
    "children",
    "describe",
    "evaluate",
    "fold",
    "free_names",
    "from_value",
    "is_expression",
    "literal",
    "make_divisible",
    "map_children",
    "name_span",
    "parse_compute",
    "parse_scalar",
    "python_requirements",
    "report",
    "size",
    "substitute",
    "tensors",
    "to_python",
    "to_text",
    "walk",
]
