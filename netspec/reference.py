"""The catalog in words: what `netspec explain Conv2d` prints, and the page `docs/reference.md`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from netspec.catalog import Argument, Category, Entry, lookup, names
from netspec.catalog.kinds import describe
from netspec.catalog.left_out import LEFT_OUT

CATEGORIES: Final[dict[Category, str]] = {
    "layer": "Layers",
    "function": "Functions",
    "loss": "Losses",
    "model": "Library models",
    "initializer": "Initializers",
    "optimizer": "Optimizers",
    "scheduler": "Schedulers",
    "transform": "Transforms",
    "source": "Sources of data",
    "metric": "Metrics",
    "sampler": "Samplers of sweeps",
    "pruner": "Pruners of sweeps",
}
"""Every category with its heading."""


def find(name: str) -> list[Entry]:
    """The entries of that name, one for each category that has it."""
    found = (lookup(name, category) for category in CATEGORIES)
    return list(dict.fromkeys(entry for entry in found if entry is not None))


def all_names() -> list[str]:
    """Every name in the catalog."""
    return [name for category in CATEGORIES for name in names(category)]


def entry_lines(entry: Entry) -> Iterator[str]:
    """An entry as text: what it is, what it takes, its arguments."""
    yield f"{entry.name}: {entry.category}, {entry.target}"
    if entry.doc:
        yield f"  {_sentence(entry.doc)}"
    if takes := _takes(entry):
        yield f"  takes: {takes}"
    for argument in entry.arguments:
        first, *rest = argument_lines(argument)
        yield f"  {first}"
        yield from (f"    {line}" for line in rest)


def argument_lines(argument: Argument) -> Iterator[str]:
    """An argument as text: its kind and default, and what it means."""
    yield f"{argument.name}: {describe(argument)} ({_default(argument)})"
    if argument.doc:
        yield _sentence(argument.doc)


def reference() -> str:
    """The whole catalog as one page of Markdown."""
    parts = [
        "# The catalog\n\n"
        "What a spec may name, with its arguments. `pytest --update-golden` writes this page from the catalog itself,\n"
        "and `netspec explain NAME` prints one entry.\n"
    ]
    for category, title in CATEGORIES.items():
        parts.append(f"## {title}\n")
        for name in names(category):
            entry = lookup(name, category)
            assert entry is not None
            parts.append("\n".join(_markdown(entry)) + "\n")
        if left := LEFT_OUT.get(category):
            lines = [f"- `{name}`: {reason}." for name, reason in left.items()]
            parts.append("\n".join(["### What torchvision has and a spec does not name\n", *lines]) + "\n")
    return "\n".join(parts)


def _markdown(entry: Entry) -> Iterator[str]:
    yield f"### {entry.name}\n"
    yield f"{_sentence(entry.doc)} `{entry.target}`"
    if takes := _takes(entry):
        yield f"\nTakes {takes}."
    if entry.arguments:
        yield ""
    for argument in entry.arguments:
        yield f"- `{argument.name}`: {describe(argument)} ({_default(argument)}). {_sentence(argument.doc)}".rstrip()


def _sentence(text: str) -> str:
    """The text with a capital at its start and a full stop at its end."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", ":")) or not text else ".")


def _takes(entry: Entry) -> str:
    ports = (
        port.name + (" …" if port.variadic else "") + (" (optional)" if port.optional else "") for port in entry.inputs
    )
    return ", ".join(ports)


def _default(argument: Argument) -> str:
    if argument.inferred:
        return "inferred from the input"
    if argument.required:
        return "required"
    value = list(argument.default) if isinstance(argument.default, tuple) else argument.default
    return f"default {json.dumps(value)}"
