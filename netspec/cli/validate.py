"""Check specs for everything that can be known without reading data.

All mistakes are shown at once, each with its place and its mend. Warnings alone leave the exit code at 0.
"""

from __future__ import annotations

import argparse
import sys

from netspec.building import spec_files
from netspec.cli import common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("specs", nargs="+", metavar="SPEC", help="a spec, or a folder of them")
    parser.add_argument(
        "--format", choices=["text", "json", "sarif"], default="text", help="how to show what was found"
    )
    common.add_set(parser)
    common.add_plugin(parser)


def run(args: argparse.Namespace) -> int:
    from netspec.compiler import check
    from netspec.diagnostics import Diagnostics

    found = Diagnostics()
    for name in args.specs:
        files = spec_files(name)
        if not files:
            common.wrong_usage(args, f"there is no spec below {name}")
        for file in files:
            here = Diagnostics()
            program = check(file, args.overrides, here)
            found.found += here.found
            if args.format == "text":
                common.report(here)
                if not here.has_errors:
                    print(f"{file}: good{common.summary(program)}")
    if args.format != "text":
        sys.stdout.write(common.rendered(found, args.format))
    return common.WRONG_SPEC if found.has_errors else common.GOOD
