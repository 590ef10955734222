"""Draw the layers of a spec and what flows between them.

The ending of the output says what it is: .svg, .html (a page whose blocks open), .mmd (Mermaid), .dot (Graphviz) or
.json. Without an output, Mermaid goes to the terminal.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from netspec.cli import common

ENDINGS = (".svg", ".html", ".mmd", ".dot", ".json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("spec", metavar="SPEC", help="a spec")
    parser.add_argument("-o", "--output", metavar="FILE", help=f"what to write: {', '.join(ENDINGS)}")
    parser.add_argument(
        "--depth",
        type=common.positive,
        metavar="N",
        help="draw what lies deeper than N levels as one box; .html starts so",
    )
    common.add_set(parser)
    common.add_plugin(parser)


def run(args: argparse.Namespace) -> int:
    ending = Path(args.output).suffix if args.output else ".mmd"
    if ending not in ENDINGS:
        common.wrong_usage(args, f"{args.output}: a picture ends in {', '.join(ENDINGS)}")
    program = common.load(args, args.spec, model_only=True)
    if program is None:
        return common.WRONG_SPEC

    if ending == ".html":
        from netspec.graph_page import to_page

        text = to_page(program, args.depth or 1)
        common.write(args, Path(args.output), text)
        print(f"{args.output}: {len(program.graph)} layers drawn")
        return common.GOOD

    from netspec import graph_draw

    graph = program.graph
    if args.depth:
        graph = graph_draw.collapse(graph, args.depth)
    match ending:
        case ".svg":
            text = graph_draw.to_svg(graph, program.name)
        case ".dot":
            text = graph_draw.to_dot(graph, program.name)
        case ".json":
            text = json.dumps(graph_draw.to_json(graph), indent=2) + "\n"
        case _:
            text = graph_draw.to_mermaid(graph)
    if args.output:
        common.write(args, Path(args.output), text)
        print(f"{args.output}: {len(graph)} layers drawn")
    else:
        sys.stdout.write(text)
    return common.GOOD
