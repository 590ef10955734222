"""Breaks long statements as `ruff format` does with its defaults, so that emitted code is stable under it.

Statements come as one line each; only brackets, commas, comprehensions, conditionals and binary operators ever need
to be broken, which keeps this small: the layout is Black's right-hand split, on text.
"""

from __future__ import annotations

WIDTH = 88
_OPEN, _CLOSE = "([{", ")]}"


def wrap(statement: str, indent: int) -> list[str]:
    """The statement's lines. `indent` counts spaces; the statement itself has none."""
    pad = " " * indent
    if len(pad) + len(statement) <= WIDTH:
        return [pad + statement]
    target, equals, value = statement.partition(" = ")
    if equals and _find(value, " if ") and not _find(target, "("):
        fits = indent + 4 + len(value) <= WIDTH
        lines = [f"{pad}    {value}"] if fits else _ternary(value, indent + 4)
        return [f"{pad}{target} = (", *lines, f"{pad})"]
    word, _, test = statement.partition(" ")
    if word in ("if", "elif") and _find(test, " and ") and not _find(test, " or "):
        parts = split_top(test.removesuffix(":"), " and ")
        lines = [f"{' ' * (indent + 4)}{'and ' if i else ''}{part}" for i, part in enumerate(parts)]
        return [f"{pad}{word} (", *lines, f"{pad}):"]
    if equals and value[-1] not in _CLOSE and len(parts := _at_operators(value)) > 1:
        return [f"{pad}{target} = (", *(line for part in parts for line in wrap(part, indent + 4)), f"{pad})"]
    split = _last_bracket(statement)
    subscript = split is None or split[0].endswith("[")  # which is not what ruff breaks first
    if subscript and equals and _find(value, " + "):
        return [f"{pad}{target} = (", *_operators(value, indent + 4), f"{pad})"]
    if split is None:
        return [pad + statement]
    head, body, tail = split
    if not body:
        return [pad + statement]
    return [pad + head, *_body(body, indent + 4, head[-1], _is_call(head)), pad + tail]


def _body(body: str, indent: int, bracket: str, call: bool) -> list[str]:
    """What stands between two brackets that were broken apart."""
    pad = " " * indent
    items = split_top(body, ",")
    if " for " in items[0]:
        parts = _comprehension(body)
        if len(parts) > 1:
            if len(pad) + len(body) <= WIDTH:
                return [pad + body]
            return [line for part in parts for line in wrap(part, indent)]
    if len(items) == 1 and not body.endswith(","):
        if bracket == "(" and _find(body, " if ") and len(pad) + len(body) > WIDTH:
            return _ternary(body, indent)
        if bracket == "[":
            return _items(items, indent)
        if len(pad) + len(body) > WIDTH and _find(body, " + ") and _last_bracket(body) is None:
            return _operators(body, indent)
        return wrap(body, indent)
    if call and len(pad) + len(body) <= WIDTH:
        return [pad + body]
    return _items(items, indent)


def _items(items: list[str], indent: int) -> list[str]:
    lines: list[str] = []
    for item in items:
        if len(item) + indent + 1 <= WIDTH:
            lines.append(" " * indent + item + ",")
            continue
        if _find(item, " if ") and not _find(item, " for "):
            lines += _ternary(item, indent)
            lines[-1] += ","
            continue
        parts = _at_operators(item)
        if len(parts) > 1:
            lines += [line for part in parts[:-1] for line in wrap(part, indent)]
            lines += wrap(parts[-1] + ",", indent)
        else:
            lines += wrap(item + ",", indent)
    return lines


OPERATORS = (
    (" or ",),
    (" and ",),
    (" == ", " != ", " < ", " <= ", " > ", " >= "),
    (" + ", " - "),
    (" * ", " / ", " // ", " % ", " @ "),
)
"""Binary operators by rising precedence; a long expression breaks before those that bind the least."""


def _at_operators(text: str) -> list[str]:
    """The parts of an expression, each beginning with the operator that stands before it."""
    for family in OPERATORS:
        cuts = sorted({at for operator in family for at in _all(text, operator)})
        if cuts:
            return [text[a:b].strip() for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    return [text]


def _all(text: str, operator: str) -> list[int]:
    """Where an operator stands outside all brackets and strings."""
    found, depth = [], 0
    for i, char, quoted in _chars(text):
        if quoted:
            continue
        if char in _OPEN:
            depth += 1
        elif char in _CLOSE:
            depth -= 1
        elif depth == 0 and i and text.startswith(operator, i):
            found.append(i)
    return found


def _ternary(text: str, indent: int) -> list[str]:
    at = _find(text, " if ")
    other = _find(text[at:], " else ") + at
    lines = wrap(text[:at], indent)
    return [*lines, *wrap(text[at + 1 : other], indent), *wrap(text[other + 1 :], indent)]


def _operators(text: str, indent: int) -> list[str]:
    parts = split_top(text, " + ")
    return [" " * indent + (part if i == 0 else f"+ {part}") for i, part in enumerate(parts)]


def _comprehension(text: str) -> list[str]:
    at = _find(text, " for ")
    if not at:
        return [text]
    condition = _find(text[at + 1 :], " if ")
    if condition:
        condition += at + 1
        return [text[:at], text[at + 1 : condition], text[condition + 1 :]]
    return [text[:at], text[at + 1 :]]


def _is_call(head: str) -> bool:
    """Whether the bracket at the end of `head` is a call's; a display (`[1, 2]`) goes to one item a line at once."""
    return head[-1] == "(" and len(head) > 1 and (head[-2].isalnum() or head[-2] in "_])")


def _last_bracket(text: str) -> tuple[str, str, str] | None:
    """Head, body and tail around the last bracket pair at depth 0, brackets in head and tail."""
    depth, close = 0, -1
    pairs: list[tuple[int, int]] = []
    start = -1
    for i, char, quoted in _chars(text):
        if quoted:
            continue
        if char in _OPEN:
            if depth == 0:
                start = i
            depth += 1
        elif char in _CLOSE:
            depth -= 1
            if depth == 0:
                pairs.append((start, i))
                close = i
    if close < 0:
        return None
    pairs = [pair for pair in pairs if pair[1] - pair[0] > 1]
    if not pairs:
        return None
    start, close = pairs[-1]
    return text[: start + 1], text[start + 1 : close], text[close:]


def split_top(text: str, separator: str) -> list[str]:
    """The parts of `text` between separators that stand outside all brackets and strings; a trailing one ends it."""
    parts: list[str] = []
    depth = begin = 0
    for i, char, quoted in _chars(text):
        if quoted or i < begin:
            continue
        if char in _OPEN:
            depth += 1
        elif char in _CLOSE:
            depth -= 1
        elif depth == 0 and text.startswith(separator, i):
            parts.append(text[begin:i].strip())
            begin = i + len(separator)
    rest = text[begin:].strip()
    return [*parts, rest] if rest else parts


def _find(text: str, word: str) -> int:
    """Where `word` stands outside all brackets and strings; 0 where it does not."""
    depth = 0
    for i, char, quoted in _chars(text):
        if quoted:
            continue
        if depth == 0 and i and text.startswith(word, i):
            return i
        if char in _OPEN:
            depth += 1
        elif char in _CLOSE:
            depth -= 1
    return 0


def _chars(text: str) -> list[tuple[int, str, bool]]:
    """The characters with their positions, and whether each is part of a string."""
    result = []
    quote = ""
    escaped = False
    for i, char in enumerate(text):
        if quote:
            result.append((i, char, True))
            if escaped:
                escaped = False
            elif char == "\\":
                escaped = True
            elif char == quote:
                quote = ""
        elif char in "\"'":
            quote = char
            result.append((i, char, True))
        else:
            result.append((i, char, False))
    return result
