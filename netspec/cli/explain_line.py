"""`netspec explain generated/x.py:LINE`: the place in the spec that a line of emitted code was written from."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from netspec.cli import common

MOST_PATHS: Final = 4
"""Layers that are named; the rest are counted."""


def explain_line(args: argparse.Namespace, file: Path, line: int) -> int:
    """Print the place, its line in the spec, and the layers of the model that the code stands for."""
    from netspec.building import spec_of
    from netspec.codegen import emit_with_map, generated_from

    try:
        source = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        common.wrong_usage(args, f"{file} cannot be read")
    origin = generated_from(source)
    if origin is None:
        common.wrong_usage(args, f"{file} was not written by netspec: its first line does not name a spec")
    spec = spec_of(file, origin[0])
    if spec is None:
        common.wrong_usage(args, f"{origin[0]}, which {file} came from, is not found")
    program, good = common.check(spec, args.overrides, model_only=True)
    if program is None:
        return common.WRONG_SPEC if not good else common.wrong_usage(args, f"{spec} states no model")
    now, map_ = emit_with_map(program, origin[0])
    if now.splitlines()[2:] != source.splitlines()[2:]:
        print(f"{file} is not what {spec} says now: netspec build {spec}")
        return common.WRONG_SPEC
    lines = source.splitlines()
    if not 0 < line <= len(lines):
        common.wrong_usage(args, f"{file} has {len(lines)} lines")
    place = map_.at(line)
    print(f"{file}:{line}: {lines[line - 1].strip()}")
    if place is None:
        print(f"stands in no one place of {spec}: netspec writes it where the rest needs it")
        return common.GOOD
    print(f"{place.span}: `{place.name}`")
    text = _line(place.span.file, place.span.line)
    if text:
        print(f"    {text}")
    if place.paths:
        more = len(place.paths) - MOST_PATHS
        print(f"stands for {', '.join(place.paths[:MOST_PATHS])}{f' and {more} more' if more > 0 else ''}")
    return common.GOOD


def _line(file: str, number: int) -> str:
    """A line of a spec, without what would steer a terminal; nothing for a value that came from no file."""
    from netspec.excerpt import clean

    try:
        return clean(Path(file).read_text(encoding="utf-8").splitlines()[number - 1].strip())
    except (OSError, IndexError):
        return ""
