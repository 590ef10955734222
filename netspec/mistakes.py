"""What elaboration reports: one mistake once, however often its block is used, and in which use it came to light."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from netspec.diagnostics import Diagnostics, Label, Span
from netspec.expressions import describe
from netspec.origins import untraced
from netspec.spec import Block

SHOWN = 4
"""So many arguments of a block are told with its use."""


class Mistakes(Diagnostics):
    """Adds to another collector. The first report at a place stands for those of other uses and copies."""

    def __init__(self, collector: Diagnostics) -> None:
        super().__init__(collector.found, collector.sources)
        self.known: set[tuple[str, Span | None]] = set()
        self.silent = False
        """Whether nothing is reported: what is worked out need not hold."""
        self.uses: list[tuple[Block, Mapping[str, Any], Span]] = []
        """The blocks in which elaboration is, outermost first, each with its values and where it is used."""

    def error(
        self, code: str, message: str, span: Span | None, *, labels: Iterable[Label] = (), help: str | None = None
    ) -> None:
        if self.silent or (code, span) in self.known:
            return
        self.known.add((code, span))
        if self.uses and self.uses[-1][2] != span and _depends_on_values(code):
            labels = (*labels, _use(*self.uses[-1]))
        super().error(code, message, span, labels=labels, help=help)

    def warning(
        self, code: str, message: str, span: Span | None, *, labels: Iterable[Label] = (), help: str | None = None
    ) -> None:
        if not self.silent and (code, span) not in self.known:
            self.known.add((code, span))
            super().warning(code, message, span, labels=labels, help=help)

    def enter(self, block: Block, values: Mapping[str, Any], span: Span) -> None:
        """What is reported until `leave` stands in this use of the block."""
        self.uses.append((block, values, span))

    def leave(self) -> None:
        self.uses.pop()


def _use(block: Block, values: Mapping[str, Any], span: Span) -> Label:
    plain = {name: untraced(value) for name, value in values.items()}
    told = [f"{name} = {value}" for name, value in plain.items() if isinstance(value, int | float | str | None)]
    words = f" with {', '.join(told[:SHOWN])}" if told else ""
    return Label(span, f"in this use of `{block.name}`{words}")


def _depends_on_values(code: str) -> bool:
    """Whether another use of the same block might not have the mistake."""
    return code.startswith("NS4") or code in ("NS103", "NS104", "NS105", "NS318", "NS319")


def got(value: Any) -> str:
    """A value in words, without its origin."""
    return describe(untraced(value))
