"""Train what a spec describes, on the data that it names.

Writes a run directory with the resolved spec, the model's source, metrics.csv, curves.png, TensorBoard's events and
checkpoints. Ctrl-C saves before it stops; `--resume` goes on from there, bit by bit as if nothing had happened.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from netspec.cli import common
from netspec.folders import no_run

SAVED: Final[list[int]] = []
"""The exit codes of the runs that this process has brought to an end, saved after a signal or finished."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("spec", metavar="SPEC", nargs="?", help="a spec; with --resume, that of the run by default")
    parser.add_argument("--run-dir", metavar="DIR", help="where the run goes (default: the next of runs/NAME/)")
    parser.add_argument("--resume", metavar="RUN", help="go on with this run, in place")
    parser.add_argument("--dry-run", action="store_true", help="one update on one batch; writes nothing")
    parser.add_argument(
        "--progress", choices=["auto", "bar", "plain", "none"], default="auto", help="default: a bar on a terminal"
    )
    several = parser.add_argument_group("several processes and machines, as torchrun calls them")
    several.add_argument("--nproc", metavar="N", help="processes on this machine: a number, or `gpu` for one each")
    several.add_argument("--nnodes", metavar="N", default="1", help="machines: a number, or MIN:MAX (default: 1)")
    several.add_argument("--node-rank", metavar="I", type=int, help="the number of this machine, from 0")
    several.add_argument("--rdzv-endpoint", metavar="HOST:PORT", default="", help="where the machines find each other")
    several.add_argument("--rdzv-id", metavar="NAME", help="what the machines of one run call it")
    several.add_argument(
        "--max-restarts",
        metavar="N",
        type=int,
        default=0,
        help="how often processes are started anew (default: 0)",
    )
    common.add_trust(parser)
    common.add_traceback(parser)
    common.add_set(parser)
    common.add_plugin(parser)


def run(args: argparse.Namespace) -> int:
    if args.spec is None and args.resume is None:
        common.wrong_usage(args, "name a spec, or a run with --resume")
    if args.run_dir and args.resume:
        common.wrong_usage(args, "a resumed run goes on in its own folder: leave out --run-dir")
    if args.spec is None and not Path(args.resume, "resolved.yaml").is_file():
        common.wrong_usage(args, "; ".join(no_run(Path(args.resume))))
    if args.spec is not None and Path(args.spec, "resolved.yaml").is_file():
        common.wrong_usage(args, f"{args.spec} is a run: netspec train --resume {args.spec} goes on with it")

    if args.nproc is not None and args.nproc not in ("gpu", "cpu", "auto") and not args.nproc.isdecimal():
        common.wrong_usage(args, f"--nproc is a number of processes, or gpu for one on each, and got {args.nproc}")
    starts = (args.nproc is not None or args.nnodes != "1") and "NETSPEC_LAUNCH" not in os.environ
    if starts and "RANK" in os.environ:
        common.wrong_usage(args, "torchrun has started the processes: leave out --nproc and --nnodes")

    def work() -> int:
        if args.resume is not None:
            from netspec.runtime.directory import check_plugins

            check_plugins(args.resume)
        program = common.load(args, args.spec or Path(args.resume, "resolved.yaml"), headers=args.resume is None)
        if program is None:
            return common.WRONG_SPEC
        if starts:
            return start(args, program.name)
        from netspec.runtime.run import preload, train

        preload()
        gc.freeze()
        gc.enable()
        done = train(
            program,
            run_dir=args.run_dir,
            resume=args.resume,
            overrides=args.overrides,
            dry_run=args.dry_run,
            progress=args.progress,
            trust=args.trust,
        )
        SAVED.append(done.exit_code)
        return done.exit_code

    # What is imported stays: a collector that looks through it again and again takes a fifth of the start.
    gc.disable()
    try:
        return common.run_guarded(work, show_traceback=args.traceback)
    finally:
        gc.unfreeze()
        gc.enable()


def start(args: argparse.Namespace, name: str) -> int:
    """Start the processes, each of which runs this command, and wait for them."""
    from netspec.runtime.launch import Launch, launch

    rule = Launch(
        nproc=args.nproc or "1",
        nnodes=args.nnodes,
        node_rank=args.node_rank,
        rdzv_endpoint=args.rdzv_endpoint,
        rdzv_id=args.rdzv_id,
        max_restarts=args.max_restarts,
    )
    stated = args.resume or args.run_dir
    where = Path(stated) if stated else Path("runs", name)
    return launch(rule, one_process, args.argv, where)


def one_process(argv: Sequence[str]) -> int:
    """What each of the processes does. Saved after a signal it is done; where it failed it ends with that code, so that
    the others are told."""
    from netspec.cli.dispatch import main

    SAVED.clear()
    code = main(argv)
    if code and code not in SAVED:
        sys.exit(code)
    return code
