"""What the language does not have, in words: the message and the mend for each piece of Python that is refused."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from keyword import iskeyword

from netspec.expressions.functions import FUNCTIONS
from netspec.expressions.scanner import ScanError, identifier_end, string_end
from netspec.expressions.tensor_calls import layer_of
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


def scan_mistake(error: ScanError) -> Mistake:
    match error.kind:
        case "unclosed":
            code, message, help = "NS202", "`$(` is not closed", "each `(` needs its `)`, as in `$(max(1, width // 4))`"
        case "lone":
            message = "`$` stands alone"
            help = "a name follows it (`$width`) or an expression (`$(width * 2)`); a dollar sign is written `$$`"
            code = "NS208"
        case "double":
            message = "`$$` is a dollar sign in a text, and this is no text"
            code, help = "NS208", "a value is written `$name` or `$(…)`"
        case "string":
            message, help = "a text in an expression stands on one line", "a line's end is written `\\n`, a tab `\\t`"
            code = "NS201"
        case _:
            code, message, help = "NS201", "`#` cannot stand in an expression", "a comment stands after it, behind ` #`"
    return Mistake(code, message, error.start, error.end, help)


_OTHER_LANGUAGES = {
    "&&": "`and`",
    "||": "`or`",
    "?": "`a if condition else b`",
    "=>": "`>=`",
    "=<": "`<=`",
    "<>": "`!=`",
}
_UNFINISHED = ("+", "-", "*", "/", "%", "<", ">", "=", "@", " and", " or", " not", " if", " else", " in", " is", " for")
_USABLE_KEYWORDS = frozenset(
    ["and", "or", "not", "if", "else", "for", "in", "is", "None", "True", "False", "lambda", "await", "yield"]
)


def not_python(text: str, start: int, at: int, *, compute: bool) -> Mistake:
    """The text is no expression; Python's parser stumbled at letter `at` of it. The likeliest cause is named."""

    def mistake(message: str, begin: int, end: int, help: str) -> Mistake:
        return Mistake("NS201", message, start + begin, start + end, help)

    code = _without_strings(text)
    for sign, instead in _OTHER_LANGUAGES.items():
        found = code.find(sign)
        if found >= 0:
            return mistake(f"`{sign}` is no operator here", found, found + len(sign), f"write {instead}")
    for position, letter in enumerate(code):
        if letter == "=" and code[position + 1 : position + 2] != "=" and code[max(position - 1, 0)] not in "=!<>:":
            return mistake("`=` compares nothing", position, position + 1, "write `==`")
        if letter == "!" and code[position + 1 : position + 2] != "=":
            return mistake("`!` is no operator here", position, position + 1, "write `not`")
    stripped = code.rstrip()
    if stripped.endswith(_UNFINISHED):
        word = stripped.split()[-1]
        sign = word if word.isalpha() else word[len(word.rstrip("+-*/%<>=@!")) :]
        end = len(stripped)
        return mistake(f"a value is missing after `{sign}`", end - len(sign), end, "write what comes next")
    for begin, word in _words(code):
        if iskeyword(word) and word not in _USABLE_KEYWORDS:
            help = "give the value another name"
            return mistake(f"`{word}` is a word of Python's own, and names no value", begin, begin + len(word), help)
    if compute:
        help = "`compute` has tensors, numbers, `$values`, `+ - * / // % ** @`, comparisons and `[…]`"
    else:
        help = "expressions have names, numbers, `+ - * / // % **`, comparisons, `and or not`, `a if c else b`, `[…]`"
    return mistake(f"`{_short(text)}` is no complete expression", at, at + 1, help)


def _without_strings(text: str) -> str:
    """The text with its string literals made blank."""
    code, position = "", 0
    while position < len(text):
        end = string_end(text, position) if text[position] in "\"'" else position + 1
        code += " " * (end - position) if text[position] in "\"'" else text[position]
        position = end
    return code


def _words(code: str) -> Iterator[tuple[int, str]]:
    position = 0
    while position < len(code):
        end = identifier_end(code, position)
        if end > position:
            yield position, code[position:end]
        position = max(end, position + 1)


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
_MASKS = "multiply comparisons, as in `(x > 0) * (x < 1)`"

Words = tuple[str, str | None]
"""A message and its help."""


def refusal(node: ast.expr, *, compute: bool) -> tuple[str, str, str | None]:
    """Code, message and help for a construct that expressions (or tensor arithmetic) do not have."""
    if compute:
        return ("NS209", *_compute_refusal(node))
    return ("NS203", *_value_refusal(node))


def _value_refusal(node: ast.expr) -> Words:
    match node:
        case ast.Attribute(attr=attr):
            return f"`.{attr}`: a value has no attributes", "values are numbers, texts, lists, true, false and null"
        case ast.BinOp(op=op) if type(op).__name__ in _BITWISE:
            sign, help = _BITWISE[type(op).__name__]
            return f"`{sign}` is no operator of expressions", help
        case ast.UnaryOp(op=ast.Invert()):
            return "`~` is no operator of expressions", "write `not`"
        case ast.Constant(value=complex()):
            return "complex numbers are no values", None
        case ast.Constant(value=bytes()):
            return "bytes are no values", "write a text, without the `b`"
        case ast.Constant():
            return "`...` is no value", 'it stands in subscripts of tensors, as in `compute: "x[..., 0]"`'
    return _CONSTRUCTS.get(type(node).__name__, ("this cannot stand in an expression", None))


def _compute_refusal(node: ast.expr) -> Words:
    match node:
        case ast.Call(func=ast.Name(id=name)):
            help = layer_of(node) or "write a layer for it"
            if name in FUNCTIONS:
                help = f"of values, write `$({name}(…))`; of tensors, {help}"
            return f"`compute` calls no functions, and `{name}(…)` is a call", help
        case ast.Call(func=ast.Attribute(attr=name)):
            return f"`compute` calls no methods, and `.{name}(…)` is a call", layer_of(node)
        case ast.Call():
            return "`compute` calls no functions", "give the call a layer of its own, and name that layer here"
        case ast.Attribute(attr=attr):
            return f"`.{attr}`: only a layer has parts to name", "give what stands before it a layer of its own"
        case ast.BoolOp() | ast.UnaryOp(op=ast.Not()):
            return "`and`, `or` and `not` cannot join tensors", _MASKS
        case ast.IfExp():
            help = "a choice between values is `$(a if c else b)`; between tensors, the layer `where`"
            return "`if` cannot choose between tensors", help
        case ast.Compare(ops=ops) if len(ops) > 1:
            return "tensors are compared two at a time", _MASKS
        case ast.Compare():
            return "`in` and `is` cannot compare tensors", "write `==`"
        case ast.List() | ast.Tuple():
            return "`compute` makes no lists", "the layers `cat` and `stack` join tensors"
        case ast.BinOp(op=ast.BitXor()):
            return "`^` is no operator of `compute`", "a power is written `**`"
        case ast.BinOp(op=op) if type(op).__name__ in _BITWISE:
            return f"`{_BITWISE[type(op).__name__][0]}` is no operator of `compute`", _MASKS
        case ast.UnaryOp():
            return "`~` is no operator of `compute`", "compare with `== 0`, or use the layer `logical_not`"
        case ast.Constant(value=str()):
            return "a text cannot take part in tensor arithmetic", "tensors are named without quotes"
        case ast.Constant(value=value) if value is ...:
            return "`...` stands only between `[` and `]`", "as in `x[..., 0]`"
    words, mend = _value_refusal(node)
    return words.replace("an expression", "`compute`"), mend


def call_refused(node: ast.Call) -> tuple[str, str, str | None]:
    """Why a call in an expression over values is refused: code, message and help."""
    functions = f"the functions are {', '.join(sorted(FUNCTIONS))}"
    if not isinstance(node.func, ast.Name) or set(node.func.id) == {"_"}:
        return "NS203", "only functions can be called, and only by name", functions
    name = node.func.id
    if name not in FUNCTIONS:
        near = suggest(name, FUNCTIONS)
        return "NS204", f"there is no function `{name}`", f"did you mean `{near}`?" if near else functions
    return "NS203", f"`{name}` takes its arguments without names", "write the values alone, separated by commas"
