"""Apply a trained run to files: images, folders of them, the rows of CSV files, NumPy's arrays; or to prompts.

They are read and transformed as the run's own data were. One line a sample: JSON, or CSV with a column a class. Files
that can't be read are passed over, counted and named.

A run over texts goes on with each prompt: `--text`, a file, or `-` for the standard input. The prediction is what
follows. A prompt that is longer than the samples of the run's data counts by its end.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from netspec.cli import common

if TYPE_CHECKING:
    from netspec.program import Program

_OF_TEXTS: Final = ("text", "tokens", "temperature", "top_k", "seed")
"""The options of runs over texts."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    common.add_run(parser)
    parser.add_argument(
        "inputs",
        nargs="*",
        metavar="INPUT",
        help="an image, a folder of images, a CSV file, .npy or .npz; of texts a file to go on with, or -",
    )
    parser.add_argument("--format", choices=["json", "csv"], default="json", help="default: json")
    parser.add_argument("--batch-size", type=common.positive, metavar="N", help="default: 64")
    texts = parser.add_argument_group("texts")
    texts.add_argument("--text", action="append", metavar="PROMPT", help="a text to go on with; may be repeated")
    texts.add_argument("--tokens", type=common.positive, metavar="N", help="how many tokens to write (default: 200)")
    texts.add_argument(
        "--temperature", type=_temperature, metavar="X", help="0 takes the likeliest token each time (default: 1)"
    )
    texts.add_argument("--top-k", type=common.positive, metavar="K", help="draw one of the K likeliest tokens alone")
    texts.add_argument("--seed", type=_seed, metavar="N", help="what is drawn (default: 0)")
    common.add_set(parser)
    common.add_plugin(parser)


def run(args: argparse.Namespace) -> int:
    def work() -> int:
        from netspec.runtime.errors import RunError
        from netspec.runtime.generate import source_of_text
        from netspec.runtime.predict import predict

        program, good = common.program_of_run(args)
        if not good:
            return common.WRONG_SPEC
        if source_of_text(program) is not None:
            return _write(args, program)
        stated = next((name for name in _OF_TEXTS if getattr(args, name) is not None), None)
        if program is not None and stated is not None:
            common.wrong_usage(args, f"--{stated.replace('_', '-')} is for runs over texts, and this is none")
        if not args.inputs:
            common.wrong_usage(args, "name files to apply the run to")
        unreadable: list[RunError] = []
        rows = predict(
            args.run_dir,
            args.inputs,
            checkpoint_name=args.checkpoint,
            device=args.device,
            trust=args.trust,
            program=program,
            batch_size=args.batch_size or 64,
            unreadable=unreadable,
        )
        count = _print(rows, args.format)
        for error in unreadable:
            print(error.message, file=sys.stderr)
        if unreadable:
            total = count + len(unreadable)
            print(f"{len(unreadable)} of {total} could not be read", file=sys.stderr)
        return common.FAILED if unreadable and not count else common.GOOD

    return common.run_guarded(work, show_traceback=args.traceback)


def _write(args: argparse.Namespace, program: Program | None) -> int:
    """Go on with the prompts of the command line, texts first."""
    from netspec.runtime.evaluate import load_run
    from netspec.runtime.generate import Drawing, write

    if args.batch_size is not None:
        common.wrong_usage(args, "--batch-size is for samples, and texts are written one by one")
    prompts: list[tuple[str, str | bytes | Path]] = [(text, text) for text in args.text or ()]
    prompts += [(name, sys.stdin.buffer.read() if name == "-" else Path(name)) for name in args.inputs]
    if not prompts:
        common.wrong_usage(args, "name what to go on with: --text PROMPT, a file, or - for the standard input")
    stated = {name: getattr(args, name) for name in _OF_TEXTS[1:]}
    drawing = Drawing(**{name: value for name, value in stated.items() if value is not None})
    run = load_run(args.run_dir, checkpoint_name=args.checkpoint, device=args.device, trust=args.trust, program=program)
    _print(write(run, prompts, drawing), args.format)
    return common.GOOD


def _temperature(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0")
    return value


def _seed(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) >= 2**63:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 that 64 bits hold")
    return int(text)


def _print(rows: Iterable[dict[str, Any]], format: str) -> int:
    return _print_csv(rows) if format == "csv" else _print_json(rows)


def _print_json(rows: Iterable[dict[str, Any]]) -> int:
    """A line a sample. Returns how many there were."""
    count = 0
    for row in rows:
        print(json.dumps(row, ensure_ascii=False))
        count += 1
    return count


def _print_csv(rows: Iterable[dict[str, Any]]) -> int:
    """A header and a line a sample; probabilities, and numbers of a list, each in a column of their own. Returns how
    many samples there were.
    """
    writer: Any = None
    count = 0
    for row in rows:
        flat = _flat(row)
        if writer is None:
            writer = csv.DictWriter(sys.stdout, list(flat), lineterminator="\n")
            writer.writeheader()
        writer.writerow(flat)
        count += 1
    return count


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if name == "outputs":
            for output, described in value.items():
                flat |= {f"{output}: {key}": part for key, part in _flat(described).items()}
        elif isinstance(value, dict):
            flat |= {f"probability of {label}": part for label, part in value.items()}
        elif isinstance(value, list):
            flat |= {f"{name} {index}": part for index, part in enumerate(value)}
        else:
            flat[name] = value
    return flat
