"""What the language does not have, in words: the message and the mend for each piece of Python that is refused."""

from __future__ import annotations

import ast

from netspec.expressions.functions import FUNCTIONS
from netspec.expressions.scanner import ScanError
from netspec.suggest import suggest


class Mistake(Exception):
    """A mistake in an expression's text, from letter `start` to letter `end` of the scalar's value."""

    def __init__(self, code: str, message: str, start: int, end: int, help: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.start = start
        self.end = end
        self.help = help


def scan_mistake(error: ScanError, text: str, quoted: bool) -> Mistake:
    match error.kind:
        case "unclosed":
            message = "`$(` is not closed"
            help = f"add `)`, as in `{text.strip()})`"
            if not quoted:
                help = 'inside `{…}` and `[…]` YAML ends a value at `,` and at brackets: put the expression in quotes, as in `"$(max(1, n))"`'
            return Mistake("NS202", message, error.start, error.end, help)
        case "lone":
            help = "a name follows it, as in `$width`, or an expression, as in `$(width * 2)`; a dollar sign is `$$`"
            return Mistake("NS208", "`$` stands before nothing", error.start, error.end, help)
        case "double":
            return Mistake(
                "NS208", "`$$` is a dollar sign in a text, and this is no text", error.start, error.end, "write `$name`"
            )
    return Mistake(
        "NS201", "`#` cannot stand in an expression", error.start, error.end, "comments stand outside of it, after ` #`"
    )


_OPERATORS_OF_OTHERS = {
    "&&": "`and`",
    "||": "`or`",
    "?": "`a if condition else b`",
    "=>": "`>=`",
    "=<": "`<=`",
    "<>": "`!=`",
}


def not_python(text: str, start: int, at: int, *, compute: bool) -> Mistake:
    """The text is no expression; Python's parser stumbled at letter `at` of it."""
    where = (start + at, start + at + 1)
    for operator, instead in _OPERATORS_OF_OTHERS.items():
        found = text.find(operator)
        if found >= 0 and not compute:
            return Mistake(
                "NS201",
                f"`{operator}` is no operator here",
                start + found,
                start + found + len(operator),
                f"write {instead}",
            )
    stripped = text.rstrip()
    last = stripped[-1:]
    if last and last in "+-*/%<>=,.@" or stripped.endswith((" and", " or", " not", " if", " else", " in")):
        operator = stripped.split()[-1] if stripped[-1:].isalpha() else last
        end = start + len(stripped)
        return Mistake(
            "NS201", f"a value is missing after `{operator}`", end - len(operator), end, "complete the expression"
        )
    for position, letter in enumerate(text):
        around = text[max(position - 1, 0) : position + 2]
        if letter == "=" and not any(pair in around for pair in ("==", "!=", "<=", ">=", ":=")):
            return Mistake("NS201", "`=` is no comparison", start + position, start + position + 1, "write `==`")
        if letter == "!" and not text.startswith("!=", position):
            return Mistake("NS201", "`!` is no operator here", start + position, start + position + 1, "write `not`")
    if compute:
        help = "`compute` is made of tensors, numbers, `$values`, `+ - * / // % ** @`, comparisons and `[…]`"
    else:
        help = "an expression is made of names, numbers, `+ - * / // % **`, comparisons, `and or not`, `a if c else b`, `[…]` and functions"
    return Mistake("NS201", f"`{_short(text)}` cannot be read as an expression", *where, help)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else line[:57] + "…"


_CONSTRUCTS: dict[str, tuple[str, str | None]] = {
    "Lambda": (
        "a `lambda` cannot stand in an expression",
        "write the value itself; what a callable gets is known by name",
    ),
    "JoinedStr": ("an f-string cannot stand in an expression", "write the text outside, as in `layer$(i + 1)`"),
    "TemplateStr": ("a t-string cannot stand in an expression", "write the text outside, as in `layer$(i + 1)`"),
    "NamedExpr": ("`:=` cannot stand in an expression", "give the value a name under `let`"),
    "GeneratorExp": ("a generator cannot stand in an expression", "put it in brackets: `[w * 2 for w in widths]`"),
    "Dict": ("a mapping cannot stand in an expression", "write it as YAML, with `$name` in its values"),
    "DictComp": ("a mapping cannot stand in an expression", "write it as YAML, with `$name` in its values"),
    "Set": ("a set cannot stand in an expression", "write a list: `[1, 2]`"),
    "SetComp": ("a set cannot stand in an expression", "write a list: `[w * 2 for w in widths]`"),
    "Starred": ("`*` cannot unpack a list here", "join lists with `+`"),
    "Await": ("`await` cannot stand in an expression", None),
    "Yield": ("`yield` cannot stand in an expression", None),
    "YieldFrom": ("`yield` cannot stand in an expression", None),
    "Slice": ("a slice stands only between `[` and `]`", None),
}
_BITWISE = {
    "BitXor": ("^", "a power is written `**`"),
    "BitAnd": ("&", "write `and`"),
    "BitOr": ("|", "write `or`"),
    "LShift": ("<<", "write `* 2 ** n`"),
    "RShift": (">>", "write `// 2 ** n`"),
    "MatMult": ("@", "matrix products are for tensors, in `compute`"),
}
_LAYER = "give it a layer of its own, as in `scaled: {type: relu, from: x}`, and name that layer here"


def refusal(node: ast.expr, *, compute: bool) -> tuple[str, str, str | None]:
    """Code, message and help for a construct that expressions (or tensor arithmetic) do not have."""
    if compute:
        return _compute_refusal(node)
    match node:
        case ast.Attribute(attr=attr):
            return "NS203", f"`.{attr}`: a value has no attributes", "only names, numbers, lists and texts are values"
        case ast.BinOp(op=op) if type(op).__name__ in _BITWISE:
            sign, help = _BITWISE[type(op).__name__]
            return "NS203", f"`{sign}` is no operator of expressions", help
        case ast.UnaryOp(op=ast.Invert()):
            return "NS203", "`~` is no operator of expressions", "write `not`"
        case ast.Constant(value=complex()):
            return "NS203", "complex numbers are no values", None
        case ast.Constant(value=bytes()):
            return "NS203", "bytes are no values", "write a text without the `b`"
        case ast.Constant():
            return "NS203", "`...` is no value", 'it stands in tensor subscripts, as in `compute: "x[..., 0]"`'
    message, help = _CONSTRUCTS.get(type(node).__name__, ("this cannot stand in an expression", None))
    return "NS203", message, help


def _compute_refusal(node: ast.expr) -> tuple[str, str, str | None]:
    match node:
        case ast.Call(func=ast.Name(id=name)) if set(name) != {"_"}:
            values = f"; on values, `$({name}(…))` works" if name in FUNCTIONS else ""
            return "NS209", f"`compute` calls no functions, and `{name}(…)` is a call", _LAYER + values
        case ast.Call():
            return "NS209", "`compute` calls no functions", _LAYER
        case ast.Attribute(attr=attr):
            return (
                "NS209",
                f"`.{attr}`: the result of an operation has no parts to name",
                "give it a layer of its own first",
            )
        case ast.BoolOp() | ast.UnaryOp(op=ast.Not()):
            return (
                "NS209",
                "`and`, `or` and `not` cannot join tensors",
                "multiply comparisons, as in `(x > 0) * (x < 1)`",
            )
        case ast.IfExp():
            help = "a choice between values is `$(a if c else b)`; between tensors, the layer `where`"
            return "NS209", "`if` cannot choose between tensors", help
        case ast.Compare(ops=ops) if len(ops) > 1:
            return "NS209", "tensors are compared two at a time", "multiply comparisons, as in `(0 < x) * (x < 1)`"
        case ast.Compare():
            return "NS209", "`in` and `is` cannot compare tensors", "write `==`"
        case ast.List() | ast.Tuple():
            return "NS209", "`compute` makes no lists", "`cat` and `stack` join tensors"
        case ast.BinOp(op=op) if type(op).__name__ in _BITWISE:
            sign, _ = _BITWISE[type(op).__name__]
            help = "a power is written `**`" if sign == "^" else "multiply comparisons, as in `(x > 0) * (x < 1)`"
            return "NS209", f"`{sign}` is no operator of `compute`", help
        case ast.UnaryOp():
            return "NS209", "`~` is no operator of `compute`", "compare with `== 0`, or use the layer `logical_not`"
        case ast.Constant(value=str()):
            return "NS209", "a text cannot take part in tensor arithmetic", "tensors are named without quotes"
        case ast.Constant(value=value) if value is ...:
            return "NS209", "`...` stands only between `[` and `]`", "as in `x[..., 0]`"
    _, message, help = refusal(node, compute=False)
    return "NS209", message.replace("an expression", "`compute`"), help


def call_refused(node: ast.Call) -> tuple[str, str, str | None]:
    """Why a call in an expression over values is refused."""
    if node.keywords and isinstance(node.func, ast.Name):
        return (
            "NS203",
            f"`{node.func.id}` takes its arguments without names",
            "write the values alone, separated by commas",
        )
    if not isinstance(node.func, ast.Name) or set(node.func.id) == {"_"}:
        return (
            "NS203",
            "only functions can be called, and only by name",
            f"the functions are {' '.join(sorted(FUNCTIONS))}",
        )
    name = node.func.id
    near = suggest(name, FUNCTIONS)
    help = f"did you mean `{near}`?" if near else f"the functions are {' '.join(sorted(FUNCTIONS))}"
    return "NS204", f"there is no function `{name}`", help
