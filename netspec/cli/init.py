"""Write a starter spec that validates and trains as it stands.

`--data` points it at what you have: the classes of a folder of images, or the columns of a table (CSV, Parquet, arrays
of an .npz file). Of a table it says what it predicts, as what, and which columns it leaves out.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from netspec.cli import common

if TYPE_CHECKING:
    from netspec.cli.init_table import Starter

KINDS: Final = {
    "digits": "LeNet on scikit-learn's handwritten digits; nothing to download",
    "images": "a classifier for a folder of images, one folder a class",
    "csv": "a classifier on the columns of a table, or a regression where its last column is a number",
    "regression": "a small network that predicts a number, of a table or of scikit-learn's diabetes data",
}
TABLES: Final = ("csv", "regression")
WORDS: Final = ("true", "false", "null")
"""What YAML reads as something other than text."""
IMAGES: Final = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
WIDTH: Final = 118


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", nargs="?", choices=KINDS, default="digits", metavar="KIND", help="default: digits")
    parser.add_argument("-o", "--output", metavar="FILE", help="where to write it (default: KIND.yaml)")
    parser.add_argument("--data", metavar="PATH", help="your folder of images, or your table")
    parser.add_argument("--target", metavar="COLUMN", help="the column of the table to predict (default: the last)")
    parser.add_argument(
        "--task",
        choices=["classification", "regression"],
        help="what to make of that column (default: by its values)",
    )
    parser.add_argument("--list", action="store_true", help="list the kinds and exit")


def run(args: argparse.Namespace) -> int:
    if args.list:
        for kind, summary in KINDS.items():
            print(f"{kind:<12}{summary}")
        return common.GOOD
    output = Path(args.output or f"{args.kind}.yaml")
    if output.exists():
        common.wrong_usage(args, f"{output} exists already; name another with -o")
    if args.data and args.kind == "digits":
        common.wrong_usage(args, "the kind digits brings its own data; --data is for images, csv and regression")
    for option, given in (("--target", args.target), ("--task", args.task)):
        if given and not (args.data and args.kind in TABLES):
            kind = args.kind if args.kind in TABLES else "csv"
            common.wrong_usage(args, f"{option} is about a table: netspec init {kind} --data FILE {option} {given}")
    values = {"name": re.sub(r"\W", "_", output.stem) if re.match(r"[^\W\d]", output.stem) else args.kind}
    template, notes = args.kind, list[str]()
    if args.kind == "images":
        values |= _of_images(args, output)
    elif args.kind in TABLES:
        template, found, notes = _of_table(args, output)
        values |= found
    file = Path(__file__).parent.parent / "templates" / f"{template}.yaml"
    text = re.sub(r"^@(\w+)@\n|@(\w+)@", lambda m: values[m[1] or m[2]], file.read_text("utf-8"), flags=re.MULTILINE)
    common.write(args, output, text)
    print(f"{output}: written")
    for note in notes:
        print(f"  {note}")
    print(f"Next:\n  netspec show {output}\n  netspec train {output}")
    print("  netspec schema -o netspec.schema.json    (completion in the editor)")
    return common.GOOD


def _of_images(args: argparse.Namespace, output: Path) -> dict[str, str]:
    if args.data is None:
        return {"root": "data/images", "num_classes": "2"}
    folder = Path(args.data)
    if not folder.is_dir():
        common.wrong_usage(args, f"{folder} is no folder")
    classes = [inner for inner in folder.iterdir() if inner.is_dir() and _has_images(inner)]
    if len(classes) < 2:
        common.wrong_usage(args, f"{folder} holds {len(classes)} folders with images, and a classifier needs 2 or more")
    return {"root": _quoted(_beside(folder, output)), "num_classes": str(len(classes))}


def _has_images(folder: Path) -> bool:
    return any(file.suffix.lower() in IMAGES for file in folder.rglob("*"))


def _of_table(args: argparse.Namespace, output: Path) -> tuple[str, dict[str, str], list[str]]:
    """The template, what goes into it, and what to tell."""
    from netspec.cli.init_table import CLASSIFICATION, ENOUGH, REGRESSION, Starter, Unfit, fit

    if args.data is None and args.kind == "regression":
        data = _data_lines("Diabetes", {}, "split: {train: 0.7, val: 0.1, test: 0.2, seed: 0}", 0)
        what = "A small network that predicts a number, on scikit-learn's diabetes data."
        return (
            "regression",
            {"description": what, "columns": "10", "params": "hidden: 32", "head": "", "data": data},
            [],
        )
    if args.data is None:
        source = {"path": "data.csv", "label": "label"}
        starter = Starter(
            task=CLASSIFICATION, type="CSV", source=source, columns=4, rows=ENOUGH, num_classes=3, stratify=True
        )
        return "csv", _values(starter), []
    file = Path(args.data)
    if not file.is_file():
        common.wrong_usage(args, f"{file} is no file")
    task = args.task or (REGRESSION if args.kind == "regression" else None)
    try:
        starter = fit(file, args.target, task)
    except Unfit as reason:
        common.wrong_usage(args, str(reason))
    starter.source = {"path": _beside(file, output)} | starter.source
    return ("csv" if starter.task == CLASSIFICATION else "regression"), _values(starter), starter.notes


def _values(starter: Starter) -> dict[str, str]:
    from netspec.cli.init_table import ENOUGH

    stratify = ", stratify: label" if starter.stratify else ""
    split = f"split: {{train: 0.7, val: 0.1, test: 0.2, seed: 0{stratify}}}" if starter.rows >= ENOUGH else ""
    comment = "" if "features" in starter.source or starter.type == "NumPy" else "all other columns are features"
    number = "$mean + $deviation * fc2"
    head = f"    number: {{compute: {number}}}      # mean and deviation are those of the target\n"
    flat = "    flat: {type: squeeze, dim: 1}\n"
    return {
        "description": "A small network that predicts a number from the columns of a table.",
        "columns": str(starter.columns),
        "num_classes": str(starter.num_classes),
        "params": f"hidden: 32, mean: {starter.mean:g}, deviation: {starter.deviation:g}",
        "head": head + (flat if starter.flat else ""),
        "data": _data_lines(starter.type, starter.source, split, starter.skip, comment),
    }


def _data_lines(type_: str, arguments: dict[str, Any], split: str, skip: int, comment: str = "") -> str:
    """`source`, `split` and `skip_unreadable` of the data section, in one line each where they fit."""
    texts = {name: _flow(value) for name, value in arguments.items()}
    inner = ", ".join(f"{name}: {text}" for name, text in {"type": type_, **texts}.items())
    source = f"  source: {{{inner}}}" if arguments else f"  source: {type_}"
    lines = [f"{source}      # {comment}" if comment else source]
    if len(lines[0]) > WIDTH:
        lines = ["  source:", f"    type: {type_}"]
        for name, text in texts.items():
            lines += textwrap.wrap(
                f"{name}: {text}",
                WIDTH,
                initial_indent=" " * 4,
                subsequent_indent=" " * 6,
                break_long_words=False,
                break_on_hyphens=False,
            )
    if split:
        lines.append(f"  {split}")
    if skip:
        lines.append(f"  skip_unreadable: {skip}      # rows with an empty cell")
    return "".join(f"{line}\n" for line in lines)


def _flow(value: Any) -> str:
    """A value in YAML's flow style."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_flow(inner)}" for name, inner in value.items()) + "}"
    return f"[{', '.join(map(_quoted, value))}]" if isinstance(value, list) else _quoted(value)


def _beside(data: Path, output: Path) -> str:
    """The path of the data from the spec's folder, as a spec states it; absolute where they share no drive."""
    try:
        return Path(os.path.relpath(data, output.parent)).as_posix()
    except ValueError:
        return data.resolve().as_posix()


def _quoted(text: str) -> str:
    """The text as a YAML scalar inside a flow mapping: quoted where it would read as anything else."""
    plain = re.fullmatch(r"(\.\.?/)*[A-Za-z_][\w./-]*", text, re.ASCII)
    if plain and text.lower() not in WORDS:
        return text
    if any(ord(sign) < 32 for sign in text):  # a tab between cells, say
        return json.dumps(text)
    return "'" + text.replace("'", "''").replace("$", "$$") + "'"
