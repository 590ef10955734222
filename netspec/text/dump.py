"""Values to canonical YAML: the same text for the same values, and one that a person would not mind having written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from netspec.text.scalars import NumberTooLarge, resolve

WIDTH = 120
_INDICATORS = tuple("-?:,[]{}#&*!|>'\"%@`")
_OLD_WORDS = frozenset({"yes", "no", "on", "off"})
"""Words that readers of YAML 1.1 take for truth values: quoted for their sake."""


def dump(value: Any) -> str:
    """Dicts with text keys, lists, and scalars as YAML 1.2. Mappings and lists that fit go on one line."""
    if not isinstance(value, dict) or not value:
        return _flow(value) + "\n"
    return "\n".join(_entries(value, 0)) + "\n"


def _entries(value: dict[str, Any], indent: int) -> Iterator[str]:
    for key, inner in value.items():
        yield from _entry(" " * indent + scalar(key) + ":", inner, indent)


def _entry(head: str, value: Any, indent: int) -> Iterator[str]:
    line = f"{head} {_flow(value)}"
    if (
        not isinstance(value, dict | list)
        or not value
        or (len(line) <= WIDTH and _reads_well(value, head.endswith("-")))
    ):
        yield line if isinstance(value, dict | list) else f"{head} {scalar(value, flow=False)}"
    elif isinstance(value, dict):
        yield head
        yield from _entries(value, indent + 2)
    else:
        yield head
        yield from _items(value, indent + 2)


def _items(value: list[Any], indent: int) -> Iterator[str]:
    for item in value:
        # `- a: 1` with its further keys below `a` is an item's block form.
        lines = list(_entry(" " * indent + "-", item, indent))
        if len(lines) > 1:
            first = lines[1]
            lines = [" " * indent + "- " + first[indent + 2 :], *lines[2:]]
        yield from lines


def _reads_well(value: Any, is_item: bool) -> bool:
    """Whether it reads well on one line: lists of scalars, mappings of such, and in a list mappings with one inside."""
    if isinstance(value, list):
        return _levels(value) == 0
    return _levels(value) <= (2 if is_item else 1)


def _levels(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max((_levels(item) for item in value.values()), default=0)
    if isinstance(value, list):
        return max((_levels(item) for item in value), default=0)
    return 0


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{scalar(key)}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return scalar(value)


def scalar(value: Any, *, flow: bool = True) -> str:
    """A scalar as YAML, quoted where it has to be; outside of `{…}` and `[…]` less has to (`flow=False`)."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, float):
        return _float(value)
    return value if _is_plain(value, flow) else _quoted(value)


def _quoted(text: str) -> str:
    """JSON's escapes are YAML's, but for surrogate pairs, so only what JSON would leave and YAML refuses is added."""
    return "".join(
        one if one.isprintable() else f"\\u{ord(one):04x}" if ord(one) < 0x10000 else f"\\U{ord(one):08x}"
        for one in json.dumps(text, ensure_ascii=False)
    )


def _float(value: float) -> str:
    text = repr(float(value))
    if text.endswith(("inf", "nan")):
        return text.replace("inf", ".inf").replace("nan", ".nan")
    mantissa, e, exponent = text.partition("e")
    # YAML 1.1 wants a point in `1.0e-05`, YAML 1.2 allows it.
    return f"{mantissa}{'' if '.' in mantissa else '.0'}{e}{exponent}"


def _is_plain(text: str, flow: bool) -> bool:
    if not text or text != text.strip() or not text.isprintable() or text.startswith(_INDICATORS):
        return False
    if ": " in text or " #" in text or text.endswith(":") or text in ("<<", "=") or text.lower() in _OLD_WORDS:
        return False
    if flow and any(character in text for character in ",[]{}"):
        return False
    if text.startswith(("---", "...")):
        return False
    try:
        return isinstance(resolve(text), str)
    except NumberTooLarge:
        return False
