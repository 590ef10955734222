"""Where each character of a scalar's value stands in its source text."""

from __future__ import annotations

_HEX_ESCAPES = {"x": 2, "u": 4, "U": 8}


def offsets(text: str, value: str, quoted: bool) -> list[int]:
    """For each character of `value`, and for its end, the index in `text` (which still has its quotes and escapes).

    Both are walked together; where they differ, `text` holds white space that the folding of lines took away.
    """
    style = text[:1] if quoted else ""
    index = text.find("\n") + 1 if style in ("|", ">") else len(style) * (style in ("'", '"'))
    places = []
    for character in value:
        if style == '"' and text.startswith("\\", index):
            index = _past_continuations(text, index)
        while index < len(text) and text[index] != character and character not in " \n" and text[index].isspace():
            index += 1
        places.append(index)
        if style == '"' and text.startswith("\\", index):
            index += 2 + _HEX_ESCAPES.get(text[index + 1 : index + 2], 0)
        elif style == "'" and text.startswith("''", index):
            index += 2
        else:
            index += 1
    places.append(index)
    return [min(place, len(text)) for place in places]


def _past_continuations(text: str, index: int) -> int:
    """A backslash at the end of a line joins it with the next."""
    while text.startswith(("\\\n", "\\\r"), index):
        index += 1 + len(text) - index - 1 - len(text[index + 1 :].lstrip())
    return index
