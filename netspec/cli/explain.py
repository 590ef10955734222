"""Explain a diagnostic's code, a name of the catalog, one of its arguments, or where a value of a spec comes from.

netspec explain NS401
netspec explain Conv2d
netspec explain Conv2d.padding
netspec explain specs/digits.yaml train.optimizer.lr
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from netspec.cli import common

if TYPE_CHECKING:
    from netspec.catalog import Argument, Category, Entry

CATEGORIES: tuple[Category, ...] = (
    "layer",
    "function",
    "loss",
    "initializer",
    "optimizer",
    "scheduler",
    "transform",
    "source",
    "metric",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", metavar="X", help="a code, a name, NAME.ARGUMENT, or a spec")
    parser.add_argument(
        "path", metavar="PATH", nargs="?", help="with a spec: a value of it, such as train.optimizer.lr"
    )
    common.add_set(parser)


def run(args: argparse.Namespace) -> int:
    if args.path is not None:
        return _provenance(args)
    if re.fullmatch(r"NS\d+", args.what, re.IGNORECASE):
        return _page(args)
    if Path(args.what).suffix in (".yaml", ".yml"):
        common.wrong_usage(args, "name a value of the spec too: netspec explain SPEC train.optimizer.lr")
    return _entry(args)


def _page(args: argparse.Namespace) -> int:
    from netspec.pages import codes, page

    text = page(args.what)
    if text is None:
        common.wrong_usage(args, f"there is no code {args.what.upper()}; there are {', '.join(codes())}")
    _print_markdown(text)
    return common.GOOD


def _print_markdown(text: str) -> None:
    """Markdown, styled where a terminal shows it."""
    if not sys.stdout.isatty():
        sys.stdout.write(text)
        return
    from rich.console import Console
    from rich.markdown import Markdown

    Console().print(Markdown(text))


def _entry(args: argparse.Namespace) -> int:
    from netspec.catalog import lookup, names
    from netspec.suggest import suggest

    name, _, wanted = args.what.partition(".")
    found = list(dict.fromkeys(entry for category in CATEGORIES if (entry := lookup(name, category)) is not None))
    if not found:
        near = suggest(name, [known for category in CATEGORIES for known in names(category)])
        common.wrong_usage(
            args,
            f"nothing is called {name}" + (f"; did you mean {near}?" if near else ""),
        )
    if wanted:
        known = {argument.name: (entry, argument) for entry in found for argument in entry.arguments}
        if wanted not in known:
            near = suggest(wanted, known)
            common.wrong_usage(
                args,
                f"{name} has no argument {wanted}"
                + (f"; did you mean {near}?" if near else f"; it has {', '.join(known) or 'none'}"),
            )
        print("\n".join(_argument_lines(known[wanted][1])))
        return common.GOOD
    print("\n\n".join("\n".join(_entry_lines(entry)) for entry in found))
    return common.GOOD


def _entry_lines(entry: Entry) -> Iterator[str]:
    yield f"{entry.name}: {entry.category}, {entry.target}"
    if entry.doc:
        yield f"  {entry.doc}"
    ports = [
        port.name + (" …" if port.variadic else "") + (" (optional)" if port.optional else "") for port in entry.inputs
    ]
    if ports:
        yield f"  takes: {', '.join(ports)}"
    for argument in entry.arguments:
        first, *rest = _argument_lines(argument)
        yield f"  {first}"
        yield from (f"    {line}" for line in rest)


def _argument_lines(argument: Argument) -> Iterator[str]:
    from netspec.catalog.kinds import describe

    if argument.inferred:
        default = "inferred from the input"
    elif argument.required:
        default = "required"
    else:
        default = f"default {_yaml(argument.default)}"
    yield f"{argument.name}: {describe(argument)} ({default})"
    if argument.doc:
        yield f"{argument.doc}"


def _yaml(value: object) -> str:
    import json

    return json.dumps(list(value) if isinstance(value, tuple) else value)


def _provenance(args: argparse.Namespace) -> int:
    from netspec.compose import compose
    from netspec.diagnostics import Diagnostics
    from netspec.schema import knows, suggest_path

    diagnostics = Diagnostics()
    composed = compose(args.what, args.overrides, diagnostics, knows=knows)
    common.report(diagnostics)
    if composed is None or diagnostics.has_errors:
        return common.WRONG_SPEC
    origins = composed.provenance(args.path)
    steps = tuple(args.path.split("."))
    if not origins and knows(steps):
        print(f"{args.path}: not stated, so the default holds")
    elif not origins:
        near = suggest_path(steps)
        common.wrong_usage(
            args, f"there is no {args.path} in {args.what}" + (f"; did you mean {'.'.join(near)}?" if near else "")
        )
    for span, note in origins:
        print(f"{span}: {note}")
    return common.GOOD
