"""`netspec`: finds the verb, reads its arguments, runs it, and turns what happened into an exit code.

0 good, warnings included · 1 the spec is wrong · 2 the command line is wrong · 3 a run failed.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

from netspec import __version__

VERBS: Final = {
    "init": "write a starter spec",
    "validate": "check specs for everything that can be known without data",
    "show": "print the layer table: shapes, parameters, FLOPs",
    "graph": "draw the layers and what flows between them",
    "build": "write the Python modules of specs",
    "train": "train what a spec describes",
    "sweep": "train it again and again, with other values each time",
    "eval": "measure a trained run on its data",
    "predict": "apply a trained run to files",
    "cam": "show where in an image a trained run saw its answer",
    "runs": "list runs, and compare them",
    "export": "write a trained run as ONNX, torch.export or weights",
    "explain": "explain a code, a layer, an argument, or where a value comes from",
    "schema": "print the JSON Schema for editors",
}
"""The verbs with what they do; each is a module of this package with `add_arguments(parser)` and `run(args)`."""

INTERRUPTED: Final = 130


class Parser(argparse.ArgumentParser):
    """argparse with "did you mean" for what it does not know."""

    def error(self, message: str) -> NoReturn:
        from netspec.suggest import suggest

        near = None
        if unknown := re.match(r"argument VERB: invalid choice: '([^']*)'", message):
            message = f"there is no verb {unknown[1]}"
            spec = unknown[1] if unknown[1].endswith((".yaml", ".yml")) else None
            near = f"netspec train {spec}" if spec else suggest(unknown[1], VERBS)
        elif unknown := re.match(r"unrecognized arguments: (--[\w-]+)(?:[ =]([^ ]+))?", message):
            options = [option for action in self._actions for option in action.option_strings]
            place = overridden(unknown[1]) if "--set" in options else None
            near = f"--set {place}={unknown[2] or '…'}" if place else suggest(unknown[1], options)
        elif unknown := re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message):
            near = suggest(unknown[1], re.findall(r"[\w-]+", unknown[2]))
        self.print_usage(sys.stderr)
        self.exit(2, f"{self.prog}: {message}{f'; did you mean {near}?' if near else ''}\n")


def overridden(option: str) -> str | None:
    """The value of a spec that an option which there is not most likely meant: `train.epochs` for `--epochs`."""
    from netspec.schema import knows

    key = option.removeprefix("--").replace("-", "_")
    places = (("train", key), ("data", key), ("train", "optimizer", key), ("sweep", key))
    return next((".".join(place) for place in places if knows(place)), None)


def make_parser() -> Parser:
    """The parser of the command line, with all of its verbs."""
    parser = Parser(
        prog="netspec",
        description="From a YAML spec to PyTorch code that reads as if written by hand, and to a trained model.",
        epilog="`netspec VERB --help` says more about each.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"netspec {__version__}")
    verbs = parser.add_subparsers(title="verbs", dest="verb", metavar="VERB", required=True)
    for name, summary in VERBS.items():
        module = importlib.import_module(f"netspec.cli.{name}")
        sub = verbs.add_parser(
            name,
            help=summary,
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.add_arguments(sub)
        sub.set_defaults(run=module.run, parser=sub)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run `netspec` with these arguments (those of the process by default) and return its exit code."""
    try:
        args, unknown = make_parser().parse_known_args(argv)
        args.argv = sys.argv[1:] if argv is None else list(argv)
        if unknown:
            args.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
        if hasattr(args, "plugins"):
            from netspec.cli import common

            if not common.enable_plugins(args):
                return common.WRONG_USAGE
        code: int = args.run(args)
        sys.stdout.flush()
        return code
    except SystemExit as exit:
        return exit.code if isinstance(exit.code, int) else 0
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader, `head` say, has seen enough. What is left in the buffer must not fail once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
