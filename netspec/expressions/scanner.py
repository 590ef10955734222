"""Finding the expressions in a text, before Python's parser sees them.

Spec text is not quite Python: `qkv.0` and `inner_blocks.$(levels - 1)` name tensors. The scanner finds each such
reference, and `prepare` covers it with an identifier of the same length, so that Python's parser keeps every column.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reference:
    """A dotted or `$`-holding stretch of text: `parts` are texts, and (start, end) of the expressions in it."""

    start: int
    end: int
    parts: tuple[str | tuple[int, int], ...]

    @property
    def text(self) -> str | None:
        """The reference itself, where no expression is in it."""
        return self.parts[0] if len(self.parts) == 1 and isinstance(self.parts[0], str) else None


class ScanError(Exception):
    """The text at `start` to `end` cannot be part of an expression."""

    def __init__(self, kind: str, start: int, end: int) -> None:
        super().__init__(kind)
        self.kind = kind
        self.start = start
        self.end = end


def identifier_end(text: str, start: int) -> int:
    """Where the identifier that begins at `start` ends; `start` itself where none begins."""
    end = start
    while (
        end < len(text) and (text[end] == "_" or text[end].isalnum()) and not (end == start and text[end].isdecimal())
    ):
        end += 1
    while end > start and not text[start:end].isidentifier():
        end -= 1
    return end


def closing(text: str, opening: int) -> int:
    """Where the parenthesis closes that opens at `opening` (those in string literals do not count); -1: none does."""
    depth, position = 0, opening
    while position < len(text):
        letter = text[position]
        if letter in "\"'":
            position = string_end(text, position)
            continue
        depth += (letter == "(") - (letter == ")")
        position += 1
        if depth == 0:
            return position - 1
    return -1


def string_end(text: str, start: int) -> int:
    """Where the string literal that opens at `start` ends; the end of the text where it is not closed."""
    quote, position = text[start], start + 1
    while position < len(text) and text[position] != quote:
        position += 2 if text[position] == "\\" else 1
    return min(position + 1, len(text))


def dollar(text: str, start: int) -> tuple[str | tuple[int, int], int]:
    """What the `$` at `start` says: a literal `$`, or (start, end) of an expression; and where the text goes on."""
    after = start + 1
    if text.startswith("$", after):
        return "$", after + 1
    if text.startswith("(", after):
        end = closing(text, after)
        if end < 0:
            raise ScanError("unclosed", start, len(text))
        return (after + 1, end), end + 1
    end = identifier_end(text, after)
    if end == after:
        raise ScanError("lone", start, after)
    return (after, end), end


def prepare(text: str) -> tuple[str, dict[int, Reference]]:
    """The text with every special reference covered by underscores, and the references by where they start."""
    covered: list[str] = []
    references: dict[int, Reference] = {}
    position = 0
    while position < len(text):
        letter = text[position]
        if letter == "$" or identifier_end(text, position) > position:
            found = _reference(text, position)
            end = found.end
            plain = found.text is not None and found.text.isidentifier()
            if not plain:
                references[position] = found
            covered.append(text[position:end] if plain else "_" * (end - position))
        elif letter.isdecimal() or (letter == "." and text[position + 1 : position + 2].isdecimal()):
            end = _number_end(text, position)
            covered.append(text[position:end])
        elif letter in "\"'":
            end = string_end(text, position)
            if not text[position:end].isprintable():
                raise ScanError("string", position, end)  # a line's end in it would shift every column
            covered.append(text[position:end])
        elif letter == "#":
            raise ScanError("comment", position, len(text))
        else:
            end = position + 1
            # One line for Python's parser, whatever the line breaks of the text are.
            covered.append(" " if letter.isspace() else letter)
        position = end
    return "".join(covered), references


def _reference(text: str, start: int) -> Reference:
    """Identifiers, `$name`, `$(…)` and, after a dot, numbers, as far as they go on without a space."""
    parts: list[str | tuple[int, int]] = []
    position, literal = start, start
    while position < len(text):
        if text[position] == "$":
            if literal < position:
                parts.append(text[literal:position])
            part, position = dollar(text, position)
            if part == "$":
                raise ScanError("double", position - 2, position)
            parts.append(part)
            literal = position
        elif _continues(text, position):
            position += 1
        else:
            break
    if literal < position:
        parts.append(text[literal:position])
    return Reference(start, position, tuple(parts))


def _continues(text: str, position: int) -> bool:
    """Whether a reference goes on: with a letter, or with a dot before one."""
    if text[position] != ".":
        return text[position] == "_" or text[position].isalnum()
    after = text[position + 1 : position + 2]
    return after.isalnum() or after in ("_", "$")


def _number_end(text: str, start: int) -> int:
    end = start
    while end < len(text) and (text[end] in "._" or text[end].isalnum()):
        exponent = text[end] in "eE" and not text[start : start + 2].lower().startswith("0x")
        end += 2 if exponent and text[end + 1 : end + 2] in ("+", "-") else 1
    return end
