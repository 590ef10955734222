"""Explain a diagnostic's code, a name of the catalog, one of its arguments, or where a value of a spec comes from.

netspec explain NS401
netspec explain codes                  every code with its title
netspec explain failures               those of what fails while a model runs
netspec explain "mat1 and mat2 shapes cannot be multiplied"
netspec explain Conv2d
netspec explain Conv2d.padding
netspec explain specs/digits.yaml train.optimizer.lr
netspec explain generated/digits.py:24     the place in the spec that a line came from
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from netspec.cli import common

FAMILIES: Final = {
    "NS0": "Reading and composing a spec",
    "NS1": "Keys, values and names",
    "NS2": "Expressions",
    "NS3": "Layers and what connects them",
    "NS4": "Shapes",
    "NS5": "Data and training",
    "NS6": "What fails while a model runs",
    "NS9": "Runs",
}
"""What the codes are about, by how they begin."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what",
        metavar="X",
        help="a code, a name, NAME.ARGUMENT, a spec, FILE.py:LINE, torch's words, or: codes, failures",
    )
    parser.add_argument(
        "path", metavar="PATH", nargs="?", help="with a spec: a value of it, such as train.optimizer.lr"
    )
    common.add_set(parser)
    common.add_plugin(parser)


def run(args: argparse.Namespace) -> int:
    if args.path is not None:
        return _provenance(args)
    if re.fullmatch(r"NS\d+", args.what, re.IGNORECASE):
        return _page(args)
    if args.what == "codes":
        from netspec.pages import codes

        return _index(codes())
    if args.what == "failures":
        from netspec import failures

        return _index(failures.codes())
    line = re.fullmatch(r"(.+\.py):(\d+)", args.what)
    if line:
        from netspec.cli.explain_line import explain_line

        return explain_line(args, Path(line[1]), int(line[2]))
    if Path(args.what).suffix in (".yaml", ".yml"):
        common.wrong_usage(args, "name a value of the spec too: netspec explain SPEC train.optimizer.lr")
    return _entry(args)


def _index(codes: Iterable[str]) -> int:
    """Each code with its title, under what the family is about."""
    from netspec.pages import title

    family = ""
    for code in codes:
        if code[:3] != family:
            print(f"{chr(10) if family else ''}{FAMILIES[code[:3]]}")
            family = code[:3]
        print(f"  {code}  {title(code)}")
    return common.GOOD


def _page(args: argparse.Namespace) -> int:
    from netspec.pages import codes, page

    text = page(args.what)
    if text is None:
        common.wrong_usage(
            args,
            f"there is no code {args.what.upper()}; `netspec explain codes` lists them, {codes()[0]} to {codes()[-1]}",
        )
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
    from netspec.catalog.left_out import LEFT_OUT, why_not
    from netspec.suggest import suggest

    name, wanted = args.what, ""
    found = reference.find(name)
    if not found and "." in name:  # an argument; what it is one of may hold a dot itself
        name, _, wanted = name.rpartition(".")
        found = reference.find(name)
    if not found:
        from netspec import failures
        from netspec.pages import page

        if " " in args.what.strip() and (failure := failures.match(args.what)) is not None:
            text = page(failure.code)
            assert text is not None
            _print_markdown(text)
            return common.GOOD
        for category in LEFT_OUT:
            if (reason := why_not(args.what, category)) is not None:
                print(f"{args.what}: a {category} that torchvision has and a spec does not name\n  {reason}")
                return common.GOOD
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
