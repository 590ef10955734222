"""The usual failures of PyTorch: by what torch says, which they are, what they mean in terms of a spec, and the mend.

`find` looks an exception up by its type and its message; nothing here imports torch. Each code has a page
(`netspec explain NS611`), and `netspec explain failures` lists them all. The patterns are held against the messages of
the installed torch by `tests/test_failures.py`, which provokes them.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import cache
from typing import Final

from netspec.failures.machine import MACHINE
from netspec.failures.model import MODEL
from netspec.failures.row import Failure

UNKNOWN: Final = "NS600"
"""The code of an exception that passed through a layer and that the index does not know."""
FAILURES: Final = MACHINE + MODEL
"""Every row; the first that fits counts."""
LONGEST: Final = 300
"""The characters of torch's own words that are repeated."""
_HINTS: Final = (
    " Hint: ",
    " You can turn off determinism",
    " Please ",
    " If reserved but unallocated",
    " Saved intermediate values",
)
"""How the advice begins that torch adds to a message."""
_INNER: Final = re.compile(r"got \w+(?:Error|Exception)\((['\"])(.+?)\1\)$", re.MULTILINE)
"""What torch.compile met, inside its own message."""


def find(error: BaseException) -> Failure | None:
    """The row of an exception, or None."""
    return match(str(error), {kind.__name__ for kind in type(error).__mro__})


def match(message: str, types: Collection[str] = ()) -> Failure | None:
    """The row for the message of an exception whose classes have these names."""
    for failure, pattern in _compiled():
        if failure.types and not set(failure.types).intersection(types):
            continue
        if pattern is None or pattern.search(message):
            return failure
    return None


@cache
def _compiled() -> tuple[tuple[Failure, re.Pattern[str] | None], ...]:
    return tuple((row, re.compile("|".join(row.patterns)) if row.patterns else None) for row in FAILURES)


def codes() -> list[str]:
    """The codes of the index, with that of what it does not know, sorted."""
    return sorted({UNKNOWN, *(row.code for row in FAILURES)})


def words(error: BaseException) -> str:
    """What torch said, in one line: without the advice behind it, and without a worker's traceback before it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    if (inner := _INNER.search(str(error))) is not None:
        return inner[2]
    if lines[0].startswith("Caught ") and len(lines) > 1:
        return lines[-1]
    first = " ".join(lines[:4]) if lines[0].endswith(":") else lines[0]
    for hint in _HINTS:
        first = first.partition(hint)[0]
    return first if len(first) <= LONGEST else first[: LONGEST - 1] + "…"


__all__ = ["FAILURES", "LONGEST", "UNKNOWN", "Failure", "codes", "find", "match", "words"]
