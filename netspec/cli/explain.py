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
from pathlib import Path

from netspec.cli import common


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
    from netspec import reference
    from netspec.suggest import suggest

    name, _, wanted = args.what.partition(".")
    found = reference.find(name)
    if not found:
        near = suggest(name, reference.all_names())
        common.wrong_usage(args, f"nothing is called {name}" + (f"; did you mean {near}?" if near else ""))
    if not wanted:
        print("\n\n".join("\n".join(reference.entry_lines(entry)) for entry in found))
        return common.GOOD
    arguments = {argument.name: argument for entry in found for argument in entry.arguments}
    if wanted not in arguments:
        near = suggest(wanted, arguments)
        common.wrong_usage(
            args,
            f"{name} has no argument {wanted}"
            + (f"; did you mean {near}?" if near else f"; it has {', '.join(arguments) or 'none'}"),
        )
    print("\n".join(reference.argument_lines(arguments[wanted])))
    return common.GOOD


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
