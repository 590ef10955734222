"""Parsing: `$name`, `$(…)`, texts with either inside, and tensor arithmetic become expression trees.

Python's own parser reads the text into its syntax tree; what the language has is converted node by node, and everything
else is a diagnostic at its column. Nothing is ever compiled or run.
"""

from __future__ import annotations

import ast
import warnings

from netspec.diagnostics import Diagnostics, Span
from netspec.document import Scalar, part_of
from netspec.expressions.functions import FUNCTIONS, MAX_BITS
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
)
from netspec.expressions.refusals import Mistake, call_refused, not_python, refusal, scan_mistake
from netspec.expressions.scanner import Reference, ScanError, dollar, prepare

MAX_LENGTH = 4_000
"""Letters in one expression, and in a text that holds one."""
MAX_DEPTH = 60
"""Levels of an expression, and of its brackets."""

_WORDS: dict[str, object] = {"null": None, "true": True, "false": False, "None": None, "True": True, "False": False}

_BINARY: dict[type[ast.operator], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.FloorDiv: "//",
    ast.Mod: "%",
    ast.Pow: "**",
}
_COMPARE: dict[type[ast.cmpop], str] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.In: "in",
    ast.NotIn: "not in",
    ast.Is: "is",
    ast.IsNot: "is not",
}


def is_expression(scalar: Scalar) -> bool:
    """Whether the scalar holds a `$`, so that its value is not its text."""
    return isinstance(scalar.value, str) and "$" in scalar.value


def parse_scalar(scalar: Scalar, diagnostics: Diagnostics, *, paths: bool = False) -> Expr:
    """What a scalar says: its value as a `Literal`, or the expression or `Template` that a `$` in it makes.

    `paths` allows dotted document paths, as `train` and `data` have them. A mistake is added to `diagnostics`, and the
    result is `Invalid()`.
    """
    if not isinstance(scalar.value, str) or "$" not in scalar.value:
        return Literal(scalar.value)
    return _guarded(scalar, diagnostics, paths, compute=False)


def parse_compute(scalar: Scalar, diagnostics: Diagnostics) -> Expr:
    """Tensor arithmetic: bare names are `Tensor` references, `$name` and `$(…)` values. Mistakes as for a scalar."""
    if not isinstance(scalar.value, str):
        return Literal(scalar.value)
    return _guarded(scalar, diagnostics, paths=False, compute=True)


def name_span(scalar: Scalar, name: str) -> Span:
    """Where a name (or dotted path) first stands in the scalar's expressions; else the whole scalar."""
    text = scalar.value if isinstance(scalar.value, str) else ""
    start = text.find(name, max(text.find("$"), 0))
    while start >= 0:
        end = start + len(name)
        if not any(
            letter == "_" or letter.isalnum() for letter in text[max(start - 1, 0) : start] + text[end : end + 1]
        ):
            return _inside(scalar, start, end)
        start = text.find(name, start + 1)
    return scalar.span


def _guarded(scalar: Scalar, diagnostics: Diagnostics, paths: bool, *, compute: bool) -> Expr:
    text = scalar.value
    assert isinstance(text, str)
    try:
        if len(text) > MAX_LENGTH:
            message = f"the expression has {len(text):,} letters, and {MAX_LENGTH:,} are the limit"
            raise Mistake("NS207", message, 0, len(text), "name parts of it under `let`")
        if compute:
            return _Parser(text, paths=False, compute=True).python(0, len(text))
        return _Parser(text, paths=paths, compute=False).template(0, len(text))
    except ScanError as error:
        mistake = scan_mistake(error)
    except Mistake as error:
        mistake = error
    diagnostics.error(mistake.code, mistake.message, _inside(scalar, mistake.start, mistake.end), help=mistake.help)
    return Invalid()


def _inside(scalar: Scalar, start: int, end: int) -> Span:
    """The span of the value's letters `start` to `end`; the scalar's own where its source text is not known."""
    span = scalar.span
    if not scalar.text or (span.line == span.end_line and span.end_column - span.column != len(scalar.text)):
        return span
    return part_of(scalar, start, max(end, start + 1))


class _Parser:
    def __init__(self, text: str, *, paths: bool, compute: bool) -> None:
        self.text = text
        self.paths = paths
        self.compute = compute

    def values(self) -> _Parser:
        """The parser for `$(…)` inside tensor arithmetic."""
        return _Parser(self.text, paths=self.paths, compute=False) if self.compute else self

    def template(self, start: int, end: int) -> Expr:
        """A text with `$name`, `$(…)` and `$$` in it; alone, an expression stands for itself."""
        path = self.whole_path()
        if path is not None:
            return path
        parts: list[str | Expr] = []
        literal = ""
        position = start
        while position < end:
            at = self.text.find("$", position, end)
            if at < 0:
                literal += self.text[position:end]
                break
            literal += self.text[position:at]
            part, position = dollar(self.text, at)
            if isinstance(part, str):
                literal += part
                continue
            if literal:
                parts.append(literal)
                literal = ""
            parts.append(self.python(*part) if self.text[position - 1] == ")" else _named(self.text[slice(*part)]))
        if not parts:
            return Literal(literal)
        if literal:
            parts.append(literal)
        whole = parts[0] if len(parts) == 1 else None
        return Template(tuple(parts)) if whole is None or isinstance(whole, str) else whole

    def whole_path(self) -> Expr | None:
        """`$train.epochs` where it is the whole scalar."""
        head, *rest = self.text[1:].split(".")
        if not self.text.startswith("$") or not rest or not head.isidentifier():
            return None
        if not all(part.isidentifier() or (self.paths and part.isdecimal()) for part in rest):
            return None
        return self.path((head, *rest), 0, len(self.text))

    def path(self, parts: tuple[str, ...], start: int, end: int) -> Path:
        if self.paths:
            return Path(parts)
        dotted, message = (
            ".".join(parts),
            f"`{'.'.join(parts)}` is a path into the document, which only `train` and `data` may use",
        )
        help = f"give the model or block a parameter `{parts[-1]}`, and write `${parts[-1]}`"
        if parts[-1].isdecimal():
            message, help = (
                f"`{dotted}` is no value",
                f"an item of a list is written `{'.'.join(parts[:-1])}[{parts[-1]}]`",
            )
        raise Mistake("NS206", message, start, end, help)

    def python(self, start: int, end: int) -> Expr:
        """The expression in `text[start:end]`."""
        text = self.text[start:end]
        if not text.strip():
            what = "`compute`" if self.compute else "`$()`"
            raise Mistake(
                "NS201", f"{what} is empty", max(start - 2, 0), end + 1, "write an expression, as in `$(width * 2)`"
            )
        _check_brackets(text, start)
        try:
            prepared, references = prepare(text)
        except ScanError as error:
            raise ScanError(error.kind, error.start + start, error.end + start) from None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # such as "invalid escape sequence": the text is no Python file
                tree = ast.parse(f"({prepared})", mode="eval")
        except SyntaxError as error:
            at = min(max((error.offset or 1) - 2, 0), len(text) - 1) if error.lineno == 1 else 0
            raise not_python(text, start, at, compute=self.compute) from None
        except (ValueError, RecursionError, MemoryError):
            raise not_python(text, start, 0, compute=self.compute) from None
        return _Converter(self, prepared, start, references).expression(tree.body, 0)


def _check_brackets(text: str, start: int) -> None:
    depth = 0
    for position, letter in enumerate(text):
        depth += (letter in "([{") - (letter in ")]}")
        if depth > MAX_DEPTH:
            message = f"the expression has more than {MAX_DEPTH} brackets inside each other"
            raise Mistake("NS207", message, start + position, start + position + 1, "name a part of it under `let`")


class _Converter:
    """Turns Python's tree of one expression into ours, refusing what the language does not have."""

    def __init__(self, parser: _Parser, prepared: str, start: int, references: dict[int, Reference]) -> None:
        self.parser = parser
        self.compute = parser.compute
        self.start = start
        self.references = references
        self.prepared = prepared
        # ast counts columns in UTF-8 bytes; the opening parenthesis that we put before the text is one.
        self.columns: list[int] | None = None
        if not prepared.isascii():
            self.columns = [
                index for index, letter in enumerate(f"({prepared})") for _ in letter.encode("utf-8", "surrogatepass")
            ]

    def place(self, node: ast.expr) -> tuple[int, int]:
        """Where a node stands in the prepared text."""
        begin, end = node.col_offset, node.end_col_offset if node.end_col_offset is not None else node.col_offset + 1
        if self.columns is not None:
            begin, end = self.columns[begin], self.columns[min(end, len(self.columns) - 1)]
        return begin - 1, end - 1

    def refuse(self, node: ast.expr, code: str, message: str, help: str | None = None) -> Mistake:
        begin, end = self.place(node)
        return Mistake(code, message, self.start + max(begin, 0), self.start + end, help)

    def expression(self, node: ast.expr, depth: int) -> Expr:
        if depth > MAX_DEPTH:
            raise self.refuse(
                node, "NS207", f"the expression has more than {MAX_DEPTH} levels", "name a part of it under `let`"
            )
        deeper = depth + 1
        match node:
            case ast.Constant():
                return self.constant(node)
            case ast.Name():
                return self.name(node)
            case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
                value = self.expression(operand, deeper)
                minus = isinstance(node.op, ast.USub)
                if (
                    minus
                    and isinstance(operand, ast.Constant)
                    and isinstance(value, Literal)
                    and type(value.value) in (int, float)
                ):
                    return Literal(-value.value)  # type: ignore[operator]
                return Unary("-" if minus else "+", value)
            case ast.UnaryOp(op=ast.Not(), operand=operand) if not self.compute:
                return Unary("not", self.expression(operand, deeper))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY or (
                self.compute and isinstance(op, ast.MatMult)
            ):
                return Binary(_BINARY.get(type(op), "@"), self.expression(left, deeper), self.expression(right, deeper))
            case ast.Compare():
                return self.comparison(node, deeper)
            case ast.Subscript(value=value, slice=index):
                return Subscript(self.expression(value, deeper), self.index(index, deeper))
            case ast.Attribute():
                return self.attribute(node)
        if not self.compute:
            match node:
                case ast.BoolOp(values=values):
                    word = "and" if isinstance(node.op, ast.And) else "or"
                    return BoolOp(word, tuple(self.expression(value, deeper) for value in values))
                case ast.IfExp(test=test, body=body, orelse=orelse):
                    return Conditional(*(self.expression(part, deeper) for part in (test, body, orelse)))
                case ast.List(elts=items) | ast.Tuple(elts=items):
                    return ListExpr(tuple(self.expression(item, deeper) for item in items))
                case ast.Call():
                    return self.call(node, deeper)
                case ast.ListComp():
                    return self.comprehension(node, deeper)
        raise self.refuse(node, *refusal(node, compute=self.compute))

    def constant(self, node: ast.Constant) -> Expr:
        value = node.value
        if isinstance(value, bytes | complex) or value is ... or (self.compute and isinstance(value, str)):
            raise self.refuse(node, *refusal(node, compute=self.compute))
        if isinstance(value, int) and value.bit_length() > MAX_BITS:
            raise self.refuse(node, "NS207", f"the number is too large: {MAX_BITS} bits are the limit")
        return Literal(value)

    def name(self, node: ast.Name) -> Expr:
        begin, _ = self.place(node)
        reference = self.references.get(begin)
        if reference is not None:
            return self.referred(reference)
        name = self.spelling(node)
        return Tensor(name) if self.compute and name not in _WORDS else _named(name)

    def spelling(self, node: ast.Name) -> str:
        """The name as it was written; Python's parser brings letters such as `ﬁ` into their normal form."""
        return self.prepared[slice(*self.place(node))]

    def referred(self, reference: Reference) -> Expr:
        """What a dotted or `$`-holding reference means where it stands."""
        begin, end = self.start + reference.start, self.start + reference.end
        if self.compute:
            value = self.tensor(reference)
            return value.name.parts[0] if _is_value(value) else value  # type: ignore[union-attr, return-value]
        if reference.text is not None:
            return self.parser.path(tuple(reference.text.split(".")), begin, end)
        inner = self.parser.text[begin:end]
        raise Mistake("NS203", "inside `$(…)` names stand without `$`", begin, end, f"write `{inner.replace('$', '')}`")

    def tensor(self, reference: Reference) -> Tensor:
        if reference.text is not None:
            return Tensor(reference.text)
        values = self.parser.values()
        parts = (
            part if isinstance(part, str) else values.python(self.start + part[0], self.start + part[1])
            for part in reference.parts
        )
        return Tensor(Template(tuple(parts)))

    def attribute(self, node: ast.Attribute) -> Expr:
        parts: list[str] = []
        inner: ast.expr = node
        while isinstance(inner, ast.Attribute):
            parts.insert(0, inner.attr)
            inner = inner.value
        if isinstance(inner, ast.Name) and not self.compute and self.place(inner)[0] not in self.references:
            begin, end = self.place(node)
            return self.parser.path((inner.id, *parts), self.start + begin, self.start + end)
        raise self.refuse(node, *refusal(node, compute=self.compute))

    def comparison(self, node: ast.Compare, depth: int) -> Expr:
        ops = tuple(_COMPARE[type(op)] for op in node.ops)
        if self.compute and (len(ops) > 1 or not set(ops) <= {"==", "!=", "<", "<=", ">", ">="}):
            raise self.refuse(node, *refusal(node, compute=True))
        operands = tuple(self.expression(operand, depth) for operand in (node.left, *node.comparators))
        for op, left, right in zip(ops, operands, operands[1:], strict=False):
            if op in ("is", "is not") and Literal(None) not in (left, right):
                instead = "==" if op == "is" else "!="
                raise self.refuse(node, "NS203", f"`{op}` is for `null` alone", f"write `{instead}`")
        return Compare(operands[0], ops, operands[1:])

    def index(self, node: ast.expr, depth: int) -> Expr:
        match node:
            case ast.Slice(lower=lower, upper=upper, step=step):
                return SliceExpr(
                    *(None if part is None else self.expression(part, depth) for part in (lower, upper, step))
                )
            case ast.Tuple(elts=items) if self.compute:
                return TupleExpr(tuple(self.index(item, depth) for item in items))
            case ast.Constant(value=value) if value is ... and self.compute:
                return Literal(...)
            case ast.Tuple():
                raise self.refuse(
                    node, "NS203", "a list takes one index", "an item of an item is written `sizes[0][1]`"
                )
        return self.expression(node, depth)

    def call(self, node: ast.Call, depth: int) -> Expr:
        if not isinstance(node.func, ast.Name) or node.func.id not in FUNCTIONS or node.keywords:
            raise self.refuse(node.func, *call_refused(node))
        name = node.func.id
        count, least, most = len(node.args), FUNCTIONS[name].least, FUNCTIONS[name].most
        if count < least or (most is not None and count > most):
            wanted = f"at least {least}" if most is None else str(least) if least == most else f"{least} to {most}"
            plural = "argument" if wanted in ("1", "at least 1") else "arguments"
            message = f"`{name}` takes {wanted} {plural}, and here are {count or 'none'}"
            raise self.refuse(node, "NS205", message, f"as in `{FUNCTIONS[name].usage}`")
        if name == "shape":
            return Call(name, (self.shape_argument(node.args[0]),))
        return Call(name, tuple(self.expression(argument, depth) for argument in node.args))

    def shape_argument(self, node: ast.expr) -> Tensor:
        if not isinstance(node, ast.Name):
            raise self.refuse(
                node, "NS203", "`shape` takes a tensor's name", "write it as in `shape(x)` or `shape(blocks.0)`"
            )
        reference = self.references.get(self.place(node)[0])
        return Tensor(self.spelling(node)) if reference is None else self.tensor(reference)

    def comprehension(self, node: ast.ListComp, depth: int) -> Expr:
        if len(node.generators) > 1 or node.generators[0].is_async:
            raise self.refuse(
                node, "NS203", "a comprehension has one `for`", "put a second comprehension inside the first"
            )
        clause = node.generators[0]
        names = clause.target.elts if isinstance(clause.target, ast.Tuple) else [clause.target]
        for name in names:
            if not isinstance(name, ast.Name) or self.place(name)[0] in self.references or name.id in _WORDS:
                raise self.refuse(
                    name, "NS203", "a comprehension's `for` takes plain names", "as in `[w * 2 for w in widths]`"
                )
        targets = tuple(self.spelling(name) for name in names if isinstance(name, ast.Name))
        if len(set(targets)) < len(targets):
            raise self.refuse(clause.target, "NS203", "a comprehension's names must differ")
        conditions = [self.expression(condition, depth) for condition in clause.ifs]
        condition = conditions[0] if len(conditions) == 1 else BoolOp("and", tuple(conditions)) if conditions else None
        return Comprehension(self.expression(node.elt, depth), targets, self.expression(clause.iter, depth), condition)


def _named(name: str) -> Expr:
    return Literal(_WORDS[name]) if name in _WORDS else Name(name)


def _is_value(tensor: Tensor) -> bool:
    """Whether a reference is nothing but one `$name` or `$(…)`: a value in tensor arithmetic."""
    return isinstance(tensor.name, Template) and len(tensor.name.parts) == 1
