"""Print the JSON Schema that editors use to complete and check specs.

A spec names it in its first line: # yaml-language-server: $schema=netspec.schema.json
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from netspec.cli import common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", metavar="FILE", help="write it there instead of printing it")
    common.add_plugin(parser)


def run(args: argparse.Namespace) -> int:
    from netspec.schema import editor_schema

    text = json.dumps(editor_schema(), indent=2, ensure_ascii=False) + "\n"
    if args.output is None:
        sys.stdout.write(text)
    else:
        common.write(args, Path(args.output), text)
        print(f"{args.output}: written")
    return common.GOOD
