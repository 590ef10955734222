"""Train what a spec describes, on the data that it names.

Writes a run directory with the resolved spec, the model's source, metrics.csv, curves.png, TensorBoard's events and
checkpoints. Ctrl-C saves before it stops; `--resume` goes on from there, bit by bit as if nothing had happened.
"""

from __future__ import annotations

import argparse
import gc
from pathlib import Path

from netspec.cli import common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("spec", metavar="SPEC", nargs="?", help="a spec; with --resume, that of the run by default")
    parser.add_argument("--run-dir", metavar="DIR", help="where the run goes (default: the next of runs/NAME/)")
    parser.add_argument("--resume", metavar="RUN", help="go on with this run, in place")
    parser.add_argument("--dry-run", action="store_true", help="one update on one batch; writes nothing")
    parser.add_argument(
        "--progress", choices=["auto", "bar", "plain", "none"], default="auto", help="default: a bar on a terminal"
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
        common.wrong_usage(args, f"{args.resume} is no run: it has no resolved.yaml")

    def work() -> int:
        if args.resume is not None:
            from netspec.runtime.directory import check_plugins

            check_plugins(args.resume)
        program = common.load(args, args.spec or Path(args.resume, "resolved.yaml"))
        if program is None:
            return common.WRONG_SPEC
        from netspec.runtime.run import preload, train

        preload()
        gc.freeze()
        gc.enable()
        return train(
            program,
            run_dir=args.run_dir,
            resume=args.resume,
            overrides=args.overrides,
            dry_run=args.dry_run,
            progress=args.progress,
            trust=args.trust,
        ).exit_code

    # What is imported stays: a collector that looks through it again and again takes a fifth of the start.
    gc.disable()
    try:
        return common.run_guarded(work, show_traceback=args.traceback)
    finally:
        gc.unfreeze()
        gc.enable()
