"""What went wrong in a run, told to a person: the exception keeps its type and gains a note that names the spec.

One `try` around a run, an evaluation or a call of the model; what the note says is read from the traceback afterwards,
so a run that goes well pays nothing for it. The CLI prints the same as a diagnostic.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from netspec import failures
from netspec.diagnostics import Diagnostic, Label
from netspec.runtime.errors import RunError

if TYPE_CHECKING:
    from torch import nn

    from netspec.program import Program
    from netspec.runtime.blame import Blame

LOG: Final = "traceback.txt"
"""The file in a run's folder that holds the traceback of its failure."""
DATA_CODES: Final = ("NS920", "NS921", "NS924", "NS925")
"""What is said of a source: it is not there, cannot be read, or holds something else."""
_TOLD: Final = "_netspec_told"


@dataclass(slots=True)
class Known:
    """What is known of a run while it goes on; a failure is looked at with it."""

    program: Program
    model: nn.Module | None = None
    folder: Path | None = None
    """Where the traceback is kept."""


@dataclass(frozen=True, slots=True)
class Told:
    """A failure as a diagnostic, and where its traceback lies."""

    diagnostic: Diagnostic
    log: Path | None


@contextmanager
def noted(program: Program, model: nn.Module | None = None, folder: Path | None = None) -> Iterator[Known]:
    """What fails inside the context gains a note with the layer's place in the spec, what it got, and the mend.

    model: a live module of the program, or one of its emitted classes, for loops of your own; `netspec.train`, and a
    call of `program.module()`, have such a context already. folder: where the traceback is kept.
    """
    known = Known(program, model, folder)
    try:
        yield known
    except Exception as error:
        with suppress(Exception):  # what can't be explained must not hide what happened
            tell(error, known)
        raise


def tell(error: Exception, known: Known) -> None:
    """Add the note to an exception that a part of the spec had a share in, or that is a usual one; once."""
    if told(error) is not None:
        return
    if isinstance(error, RunError):
        _place(error, known)
        return
    diagnostic = explain(error, known)
    if diagnostic is None:
        return
    error.add_note(note(diagnostic))
    log = None
    if known.folder is not None:
        with suppress(OSError):
            text = "".join(traceback.format_exception(error))
            (known.folder / LOG).write_text(text, encoding="utf-8")
            log = known.folder / LOG
    with suppress(AttributeError):
        setattr(error, _TOLD, Told(diagnostic, log))


def _place(error: RunError, known: Known) -> None:
    """A `RunError` that names a layer gains its place in the spec, and one about data that of their only source."""
    from netspec.runtime import blame, frames

    message = error.message
    labels: tuple[Label, ...] = ()
    if error.code in DATA_CODES:
        span = blame.source_place(known.program)
    elif error.path:
        span, labels = blame.place(known.program, error.path)
    elif error.code == "NS902" and error.__cause__ is not None:
        culprit = blame.blame(frames.calls(error.__cause__.__traceback__), known.program, known.model)
        if culprit is None or not culprit.layer:
            return
        span, labels, message = culprit.span, culprit.labels, f"{message}, {culprit.who}"
    else:
        return
    if span is not None:
        found = Diagnostic(code=error.code, message=message, span=span, labels=labels, help=error.help)
        setattr(error, _TOLD, Told(found, None))


def told(error: BaseException) -> Told | None:
    """What `tell` made of an exception."""
    found = getattr(error, _TOLD, None)
    return found if isinstance(found, Told) else None


def explain(error: Exception, known: Known) -> Diagnostic | None:
    """An exception as a diagnostic; None for one that is neither a usual failure nor one of a layer."""
    from netspec.runtime import blame, frames

    failure = failures.find(error)
    stack = frames.calls(error.__traceback__)
    culprit = blame.blame(stack, known.program, known.model, str(error))
    if failure is None and (culprit is None or not culprit.layer):
        return None
    when = blame.moment(stack)
    who = culprit.who if culprit is not None else "the run"
    message = (
        f"{who}{f' in {when}' if when else ''}: {failure.means if failure else 'it failed'}: {failures.words(error)}"
    )
    code = failure.code if failure is not None else failures.UNKNOWN
    labels = _labels(culprit, overwriting=blame.overwriting(known.program) if code == "NS615" else [])
    return Diagnostic(
        code=code,
        message=message,
        span=culprit.span if culprit is not None else None,
        labels=tuple(labels),
        help=failure.help if failure is not None else "compare what it got with the shapes of `netspec show SPEC`",
    )


def _labels(culprit: Blame | None, overwriting: list[Label]) -> list[Label]:
    if culprit is None or culprit.span is None:
        return []
    labels = [label for label in overwriting if label.span != culprit.span]
    if culprit.got:
        wanted = f", where the spec has {culprit.wanted}" if culprit.wanted else ""
        labels.insert(0, Label(culprit.span, f"it got {', '.join(culprit.got)}{wanted}"))
    return [*labels, *culprit.labels]


def note(diagnostic: Diagnostic) -> str:
    """A diagnostic as the few lines that stand below a traceback."""
    place = f"{diagnostic.span}: " if diagnostic.span is not None else ""
    lines = [f"{place}{diagnostic.code} {diagnostic.message}"]
    for label in diagnostic.labels:
        lines.append(f"  {label.message}" if label.span == diagnostic.span else f"  {label.span}: {label.message}")
    if diagnostic.help:
        lines.append(f"  help: {diagnostic.help}")
    return "\n".join(lines)
