"""What netspec says to a person: spans, diagnostics, and the collector that gathers them.

A mistake of the user is a `Diagnostic`, never an exception on its own; the passes add to a `Diagnostics` collector, and
`netspec.compile` raises one `SpecError` that carries them all. Bugs of netspec's own stay exceptions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Severity = Literal["error", "warning", "note"]


class Span(NamedTuple):
    """A half-open stretch of source text. Lines and columns count from 1, columns in code points.

    `file` is the path as the user gave it, or a name such as `--set model.depth=3` for text that came from no file.
    """

    file: str
    line: int
    column: int
    end_line: int
    end_column: int

    def __str__(self) -> str:
        # An override is one short line, given whole: numbers would say nothing more.
        return self.file if self.is_override else f"{self.file}:{self.line}:{self.column}"

    @property
    def is_override(self) -> bool:
        return self.file.startswith("--set ")


@dataclass(frozen=True, slots=True)
class Label:
    """A second place that explains a diagnostic, with the few words to print beside it."""

    span: Span
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnostic:
    """One mistake: a code with a page in `netspec explain`, what is wrong, where, and the mend."""

    code: str
    message: str
    span: Span | None
    labels: tuple[Label, ...] = ()
    help: str | None = None
    severity: Severity = "error"


@dataclass(slots=True)
class Diagnostics:
    """Collects diagnostics in any order; iterating gives them sorted by place, each once."""

    found: list[Diagnostic] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)
    """The text of every file that was read, by the name that spans use: the renderer's frames come from it."""

    def error(
        self,
        code: str,
        message: str,
        span: Span | None,
        *,
        labels: Iterable[Label] = (),
        help: str | None = None,
    ) -> None:
        self.found.append(Diagnostic(code=code, message=message, span=span, labels=tuple(labels), help=help))

    def warning(
        self,
        code: str,
        message: str,
        span: Span | None,
        *,
        labels: Iterable[Label] = (),
        help: str | None = None,
    ) -> None:
        self.found.append(
            Diagnostic(code=code, message=message, span=span, labels=tuple(labels), help=help, severity="warning")
        )

    @property
    def has_errors(self) -> bool:
        return any(d.severity == "error" for d in self.found)

    def __iter__(self) -> Iterator[Diagnostic]:
        nowhere = Span("", 0, 0, 0, 0)
        unique = dict.fromkeys(self.found)
        return iter(sorted(unique, key=lambda d: (d.span or nowhere, d.code, d.message)))

    def __len__(self) -> int:
        return len(set(self.found))

    def raise_if_errors(self) -> None:
        """Raise `SpecError` with everything found, if any of it is an error."""
        if self.has_errors:
            raise SpecError(tuple(self))


class SpecError(ValueError):
    """The spec is wrong. `diagnostics` holds every error and warning that was found, in the order of the text."""

    def __init__(self, diagnostics: tuple[Diagnostic, ...]) -> None:
        self.diagnostics = diagnostics
        first = next(d for d in diagnostics if d.severity == "error")
        errors = sum(d.severity == "error" for d in diagnostics)
        place = f"{first.span}: " if first.span else ""
        more = f" (and {errors - 1} more)" if errors > 1 else ""
        super().__init__(f"{place}{first.code} {first.message}{more}")
