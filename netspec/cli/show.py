"""Print the layers of a spec: what each gives, how many parameters it has, and what it costs for one sample.

FLOPs count 2 for a multiply-add, of convolutions, matrix products and attention. What is kept is what autograd holds of
a layer until the backward pass. Below the table stands the memory that running and training take, for a batch of what
the spec says. `--resolved` prints the spec itself as it is after extends, imports, file: and --set.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

from netspec.cli import common

if TYPE_CHECKING:
    from netspec.program import Program


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("spec", metavar="SPEC", help="a spec")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--resolved", action="store_true", help="print the resolved spec instead of the table")
    what.add_argument("--format", choices=["text", "json"], default="text", help="how to print the table")
    parser.add_argument("--depth", type=common.positive, metavar="N", help="only so many levels")
    parser.add_argument("--batch-size", type=common.positive, metavar="N", help="the batch whose memory is counted")
    parser.add_argument(
        "--size",
        type=_size,
        action="append",
        default=[],
        metavar="NAME=N",
        help="a value for a size that the spec leaves open, such as T=128; may be repeated",
    )
    common.add_set(parser)
    common.add_plugin(parser)


def _size(text: str) -> tuple[str, int]:
    name, _, value = text.partition("=")
    if not name.isidentifier() or not value:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: write T=128")
    return name, common.positive(value)


def run(args: argparse.Namespace) -> int:
    if args.resolved:
        return _resolved(args)
    program = common.load(args, args.spec, model_only=True)
    if program is None:
        return common.WRONG_SPEC
    _check_sizes(program, args)
    if args.format == "json":
        print(json.dumps(_as_json(program, args), indent=2))
    else:
        _print_table(program, args)
    return common.GOOD


def _check_sizes(program: Program, args: argparse.Namespace) -> None:
    """Refuse a size that the inputs don't leave open."""
    from netspec.shapes import ListType, symbols
    from netspec.suggest import suggest
    from netspec.table import batch_symbol

    batch = batch_symbol(program)
    types = [
        one for type_ in program.inputs.values() for one in (type_.items if isinstance(type_, ListType) else (type_,))
    ]
    open_ = sorted({name for type_ in types for name in symbols(type_.shape)} - {batch})
    for name, value in args.size:
        if name == batch:
            common.wrong_usage(args, f"{name} is the batch's size: --batch-size {value}")
        if name not in open_:
            near = suggest(name, open_)
            mend = f"did you mean {near}?" if near else f"it leaves open {', '.join(open_) or 'none but the batch'}"
            common.wrong_usage(args, f"{program.name} has no size {name} to fill in; {mend}")


def _resolved(args: argparse.Namespace) -> int:
    from netspec.compose import compose, resolved_text
    from netspec.diagnostics import Diagnostics
    from netspec.schema import knows

    diagnostics = Diagnostics()
    composed = compose(args.spec, args.overrides, diagnostics, knows=knows)
    common.report(diagnostics)
    if composed is None or diagnostics.has_errors:
        return common.WRONG_SPEC
    sys.stdout.write(resolved_text(composed))
    return common.GOOD


def _as_json(program: Program, args: argparse.Namespace) -> dict[str, object]:
    from netspec.costs import layer_memory, memory
    from netspec.table import layer_table, totals

    sizes = dict(args.size)
    held = layer_memory(program, sizes)
    return {
        "name": program.name,
        "inputs": {name: str(type_) for name, type_ in program.inputs.items()},
        "outputs": {name: str(type_) for name, type_ in program.outputs.items()},
        **totals(program, sizes),
        "memory": memory(program, args.batch_size, sizes).as_json(),
        "layers": [
            {
                "path": row.path,
                "type": row.type,
                "shape": str(row.shape),
                "parameters": row.parameters,
                "flops": row.flops,
                "frozen": row.frozen,
                "when": row.when or None,
                "output_bytes": held[row.path][0],
                "kept_bytes": held[row.path][1],
            }
            for row in layer_table(program, args.depth, sizes)
        ],
    }


def _print_table(program: Program, args: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.table import Table

    from netspec.costs import layer_memory, memory
    from netspec.table import flops_text, layer_table, short, size_text, totals

    sizes = dict(args.size)
    held = layer_memory(program, sizes)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("layer", no_wrap=True)
    table.add_column("type", no_wrap=True, max_width=28)
    table.add_column("output", no_wrap=True)
    table.add_column("parameters", justify="right", no_wrap=True)
    table.add_column("FLOPs", justify="right", no_wrap=True)
    table.add_column("kept", justify="right", no_wrap=True)
    for name, type_ in program.inputs.items():
        table.add_row(name, "input", str(type_))
    for row in layer_table(program, args.depth, sizes):
        kept = held[row.path][1]
        table.add_row(
            "  " * row.depth + row.path.rpartition(".")[2],
            row.type,
            str(row.shape),
            f"{row.parameters:,}" if row.parameters else "",
            short(row.flops) if row.flops else "" if row.flops == 0 else "?",
            size_text(kept) if kept != 0 else "",
            style="dim" if row.frozen else None,
        )
    # A table is not cut where it goes into a file or another program.
    console = Console(highlight=False, markup=False)
    console = console if console.is_terminal else Console(highlight=False, markup=False, width=200)
    console.print(table)
    whole = totals(program, sizes)
    parts = [f"{whole['parameters']:,} parameters"]
    if whole["trainable"] != whole["parameters"]:
        parts.append(f"{whole['trainable']:,} of them trained")
    if whole["flops"]:
        parts.append(f"{flops_text(whole['flops'])} for one sample")
    console.print(f"\n{program.name}: {', '.join(parts)}")
    for line in memory(program, args.batch_size, sizes).lines():
        console.print(line)
