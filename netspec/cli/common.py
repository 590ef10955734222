"""What the verbs share: exit codes, finding and checking specs, and saying what was found."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

    from netspec.diagnostics import Diagnostics
    from netspec.program import Program

GOOD: Final = 0
WRONG_SPEC: Final = 1
WRONG_USAGE: Final = 2
FAILED: Final = 3


def add_set(parser: argparse.ArgumentParser) -> None:
    """The option that overrides values of the spec."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar="KEY=VALUE",
        help="override a value, such as train.epochs=5 or params.num_classes=2; may be repeated",
    )


def add_plugin(parser: argparse.ArgumentParser) -> None:
    """The option that enables code of the person's own."""
    parser.add_argument(
        "--plugin",
        action="append",
        default=[],
        dest="plugins",
        metavar="FILE.py",
        help="enable a Python file that adds layers, losses and so on to the catalog; may be repeated",
    )


def enable_plugins(args: argparse.Namespace) -> bool:
    """Enable what is installed and what the command line names. False after a report."""
    from netspec.plugin.load import PluginError, enable, enable_installed

    try:
        enable(args.plugins)
        enable_installed()
    except PluginError as error:
        from netspec.diagnostics import Diagnostic, Diagnostics

        report(Diagnostics([Diagnostic(code="NS120", message=error.message, span=None, help=error.help)]))
        return False
    return True


def add_trust(parser: argparse.ArgumentParser) -> None:
    """The option that accepts a run's code as it is."""
    parser.add_argument(
        "--trust", action="store_true", help="run the model.py of the run even where it is not what its spec says"
    )


def wrong_usage(args: argparse.Namespace, message: str) -> NoReturn:
    """Say what is wrong with the command line, and leave with exit code 2."""
    parser: argparse.ArgumentParser = args.parser
    parser.error(message)


def add_run(parser: argparse.ArgumentParser, *, device: bool = True) -> None:
    """A run, and how its weights are loaded."""
    parser.add_argument("run_dir", metavar="RUN", help="the folder of a run")
    parser.add_argument(
        "--checkpoint", metavar="NAME", help="best, last or step-N (default: the best where the spec monitors a figure)"
    )
    if device:
        parser.add_argument("--device", metavar="DEVICE", help="such as cpu or cuda:1 (default: the spec's)")
    add_trust(parser)
    add_traceback(parser)


def write(args: argparse.Namespace, path: Path, text: str) -> None:
    """Write a file that the command line named; the folders around it are made. Where none can be, that is said."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        wrong_usage(args, f"{path} cannot be written: {error.strerror}")


def positive(text: str) -> int:
    """An argument that counts something, for argparse."""
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def check(
    path: str | Path, overrides: list[str], *, model_only: bool = False, headers: bool = True
) -> tuple[Program | None, bool]:
    """The program of a spec, None where it is wrong or states no model, and whether it is good; mistakes go to stderr.

    With `model_only`, what files of data hold, and warnings about data and training, a missing folder say, are left to
    the verbs that need them; without `headers` files of data are left alone.
    """
    from netspec.compiler import check as compile_file
    from netspec.diagnostics import Diagnostics

    diagnostics = Diagnostics()
    program = compile_file(path, overrides, diagnostics, headers=headers and not model_only)
    if model_only:
        diagnostics.found = [d for d in diagnostics.found if d.severity == "error" or not d.code.startswith("NS5")]
    if os.environ.get("RANK", "0") == "0":  # of several processes the first says it
        report(diagnostics)
    return program, not diagnostics.has_errors


def load(
    args: argparse.Namespace, path: str | Path, *, model_only: bool = False, headers: bool = True
) -> Program | None:
    """The program of a spec that has to state a model, or None where it is wrong."""
    program, good = check(path, args.overrides, model_only=model_only, headers=headers)
    if program is None and good:
        wrong_usage(args, f"{path} states no model")
    return program


def program_of_run(args: argparse.Namespace) -> tuple[Program | None, bool]:
    """The program of the spec that a run keeps, and whether it is good; None for what is no run. Training is over: what
    could be said about it is not said again. Raises RunError where a plugin of the run is not enabled."""
    from netspec.runtime.directory import check_plugins

    check_plugins(args.run_dir)
    resolved = Path(args.run_dir, "resolved.yaml")
    return check(resolved, args.overrides, model_only=True) if resolved.is_file() else (None, True)


def report(diagnostics: Diagnostics) -> None:
    """Show what was found to the person, on stderr."""
    if not len(diagnostics):
        return
    from netspec.render import render, summary, wants_color

    sys.stderr.write(f"{render(diagnostics, color=wants_color())}\n{summary(diagnostics)}\n")


def rendered(diagnostics: Diagnostics, format: str) -> str:
    """What was found as `json` or `sarif`."""
    from netspec import render

    return render.to_json(diagnostics) if format == "json" else render.to_sarif(diagnostics)


def summary(program: Program | None) -> str:
    """What a spec gives, in a few words to put behind its name; nothing where it states no model."""
    if program is None:
        return ""
    from netspec.table import parameter_count

    takes, gives = (
        ", ".join(f"{name} {type_}" for name, type_ in types.items()) for types in (program.inputs, program.outputs)
    )
    return f" ({takes} → {gives}, {parameter_count(program):,} parameters)"


def add_traceback(parser: argparse.ArgumentParser) -> None:
    """The option that shows where in the code a run failed."""
    parser.add_argument(
        "--traceback", action="store_true", help="where the run fails, print Python's traceback as well"
    )


def run_guarded(work: Callable[[], int], *, show_traceback: bool = False) -> int:
    """Run what may fail on the user's machine: a `RunError`, or what a layer of the model raised, is shown as a
    diagnostic, without a traceback unless the person asks for it; so is a spec that turns out to be wrong when the data
    are there. Anything else is a bug, and stays an exception.
    """
    from netspec.diagnostics import SpecError
    from netspec.runtime.errors import RunError, tells

    try:
        return work()
    except SpecError as error:
        from netspec.diagnostics import Diagnostics

        report(Diagnostics(list(error.diagnostics)))
        return WRONG_SPEC
    except Exception as error:
        from netspec.diagnostics import Diagnostic, Diagnostics
        from netspec.runtime.notes import told

        known, log = told(error), None
        if known is not None:
            found, log = known.diagnostic, known.log
        elif isinstance(error, RunError):
            found = Diagnostic(code=error.code, message=error.message, span=None, help=error.help)
        else:
            raise
        if not tells(error, found.code):
            return FAILED
        if show_traceback:
            import traceback

            traceback.print_exception(error)
        report(Diagnostics([found]))
        if known is not None and not show_traceback and not isinstance(error, RunError):
            sys.stderr.write(f"traceback: {log or '--traceback prints it'}\n")
        return FAILED
