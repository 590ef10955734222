"""Write a starter spec that validates and trains as it stands.

`--data` points it at what you have: the classes of a folder of images and the columns of a CSV file are filled in.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
from pathlib import Path
from typing import Final

from netspec.cli import common

KINDS: Final = {
    "digits": "LeNet on scikit-learn's handwritten digits; nothing to download",
    "images": "a classifier for a folder of images, one folder a class",
    "csv": "a classifier on the columns of a CSV file; its last column is the label",
    "regression": "a small network that predicts a number",
}
WORDS: Final = ("true", "false", "null")
"""What YAML reads as something other than text."""
IMAGES: Final = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", nargs="?", choices=KINDS, default="digits", metavar="KIND", help="default: digits")
    parser.add_argument("-o", "--output", metavar="FILE", help="where to write it (default: KIND.yaml)")
    parser.add_argument("--data", metavar="PATH", help="your folder of images, or your CSV file")
    parser.add_argument("--list", action="store_true", help="list the kinds and exit")


def run(args: argparse.Namespace) -> int:
    if args.list:
        for kind, summary in KINDS.items():
            print(f"{kind:<12}{summary}")
        return common.GOOD
    output = Path(args.output or f"{args.kind}.yaml")
    if output.exists():
        common.wrong_usage(args, f"{output} exists already; name another with -o")
    if args.data and args.kind not in ("images", "csv"):
        common.wrong_usage(args, f"the kind {args.kind} brings its own data; --data is for images and csv")
    values = {"name": re.sub(r"\W", "_", output.stem) if re.match(r"[^\W\d]", output.stem) else args.kind}
    values |= _of_images(args, output) if args.kind == "images" else _of_csv(args, output) if args.kind == "csv" else {}
    template = Path(__file__).parent.parent / "templates" / f"{args.kind}.yaml"
    text = re.sub(r"@(\w+)@", lambda found: values[found[1]], template.read_text(encoding="utf-8"))
    common.write(args, output, text)
    print(f"{output}: written\nNext:\n  netspec show {output}\n  netspec train {output}")
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


def _of_csv(args: argparse.Namespace, output: Path) -> dict[str, str]:
    if args.data is None:
        return {"path": "data.csv", "label": "label", "columns": "4", "num_classes": "3"}
    file = Path(args.data)
    if not file.is_file():
        common.wrong_usage(args, f"{file} is no file")
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            header, *rows = list(csv.reader(stream)) or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        common.wrong_usage(args, f"{file} cannot be read as a CSV file: {error}")
    if len(header) < 2 or not rows:
        common.wrong_usage(args, f"{file} needs a header with two columns or more, and rows")
    return {
        "path": _quoted(_beside(file, output)),
        "label": _quoted(header[-1]),
        "columns": str(len(header) - 1),
        "num_classes": str(len({row[-1] for row in rows if row})),
    }


def _beside(data: Path, output: Path) -> str:
    """The path of the data from the spec's folder, as a spec states it; absolute where they share no drive."""
    try:
        return Path(os.path.relpath(data, output.parent)).as_posix()
    except ValueError:
        return data.resolve().as_posix()


def _quoted(text: str) -> str:
    """The text as a YAML scalar inside a flow mapping: quoted where it would read as anything else."""
    plain = re.fullmatch(r"(\.\.?/)*[A-Za-z_][\w./-]*", text, re.ASCII)
    return text if plain and text.lower() not in WORDS else "'" + text.replace("'", "''") + "'"
