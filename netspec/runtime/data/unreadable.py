"""Samples that can't be read: left out and counted up to a limit, then an error that lists them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from netspec.runtime.errors import RunError

LISTED = 20
"""So many of them a message names."""
CODES = ("NS920", "NS921")
"""What the reading of one sample raises where its file is absent or damaged."""


@dataclass(slots=True)
class Unreadable:
    """What was left out so far, by the sample's name, and why. `limit` of them are allowed."""

    limit: int
    found: dict[str, str] = field(default_factory=dict)
    told: int = 0
    several: bool = False
    """Whether each of several processes finds some, which they tell each other before all are counted."""
    joined: int = 0
    """How many were found when they told each other last."""

    @property
    def fresh(self) -> int:
        """How many this process has found since."""
        return len(self.found) - self.joined

    def join(self, parts: Iterable[Mapping[str, str]]) -> None:
        """Count what each process has found. Raises RunError NS926 where that is more than the limit."""
        self.several = False
        for part in parts:
            self.add(part)
        self.several, self.joined = True, len(self.found)

    @property
    def skips(self) -> bool:
        return self.limit > 0

    def add(self, samples: Mapping[str, str]) -> None:
        """Count those that are new. Raises RunError NS926 where that makes more than the limit."""
        self.found.update({name: why for name, why in samples.items() if name not in self.found})
        if len(self.found) > self.limit and not self.several:
            listed = [f"{name}: {why}" for name, why in list(self.found.items())[:LISTED]]
            more = [f"and {len(self.found) - LISTED} more"] if len(self.found) > LISTED else []
            raise RunError(
                "NS926",
                f"{len(self.found)} samples can't be read, and `skip_unreadable` allows {self.limit}:\n  "
                + "\n  ".join([*listed, *more]),
                help=f"mend the files, or allow more: `data: {{skip_unreadable: {2 * len(self.found)}}}`",
            )

    def news(self) -> str | None:
        """What was left out since the last call, in one sentence; None where nothing was."""
        fresh = list(self.found.items())[self.told :]
        self.told = len(self.found)
        if not fresh:
            return None
        listed = "; ".join(f"{name} ({why})" for name, why in fresh[:LISTED])
        more = f"; and {len(fresh) - LISTED} more" if len(fresh) > LISTED else ""
        what = "sample that can't be read was" if len(fresh) == 1 else "samples that can't be read were"
        return f"{len(fresh)} {what} left out: {listed}{more}"


@dataclass(frozen=True, slots=True)
class Unread:
    """What stands in the place of a sample that could not be read."""

    name: str
    why: str


def short(error: RunError) -> str:
    """Why, without the name of the file, which is said beside it."""
    return error.message.partition("can't be read")[2].partition(": ")[2] or error.message
