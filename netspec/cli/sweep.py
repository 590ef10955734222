"""Run the study of a spec's `sweep` section: many runs that differ in some values, judged by one figure.

Each trial is an ordinary run in the sweep's folder, with its spec resolved. Ctrl-C saves before it stops; `--resume`
goes on from there, a trial that was under way from its last checkpoint. `--jobs 4` trains four at a time.
Needs `pip install 'netspec[sweep]'`.
"""

from __future__ import annotations

import argparse

from netspec.cli import common


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("spec", metavar="SPEC", nargs="?", help="a spec with a sweep; not needed with --resume")
    parser.add_argument("--sweep-dir", metavar="DIR", help="where the sweep goes (default: the next of runs/NAME/)")
    parser.add_argument("--resume", metavar="DIR", help="go on with this sweep, in place")
    parser.add_argument(
        "--progress",
        choices=["auto", "bar", "plain", "none"],
        default="auto",
        help="default: a line a trial; bar and plain show each run as well",
    )
    parser.add_argument(
        "--jobs",
        type=common.positive,
        default=1,
        metavar="N",
        help="train so many at a time, each in a process of its own, on a GPU of its own where there are several",
    )
    common.add_traceback(parser)
    common.add_set(parser)
    common.add_plugin(parser)


def run(args: argparse.Namespace) -> int:
    if args.spec is None and args.resume is None:
        common.wrong_usage(args, "name a spec, or a sweep with --resume")
    if args.spec is not None and args.resume is not None:
        common.wrong_usage(args, "a sweep that goes on has a spec of its own: leave out SPEC, and change it by --set")
    if args.sweep_dir and args.resume:
        common.wrong_usage(args, "a sweep goes on in its own folder: leave out --sweep-dir")
    if args.jobs > 1 and args.progress in ("bar", "plain"):
        common.wrong_usage(args, f"--progress {args.progress} shows one run at a time: leave it out with --jobs")

    def work() -> int:
        from netspec.runtime.sweep import open_sweep, sweep

        program = common.load(args, args.spec or open_sweep(args.resume))
        if program is None:
            return common.WRONG_SPEC
        done = sweep(program, sweep_dir=args.sweep_dir, resume=args.resume, progress=args.progress, jobs=args.jobs)
        return done.exit_code

    return common.run_guarded(work, show_traceback=args.traceback)
