"""The `sweep` section as the study takes it: what is varied, how values are drawn, and how trials are judged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from math import prod
from typing import Any, Literal

Direction = Literal["minimize", "maximize"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Numbers from `low` to `high`, both among them; with `step`, those that lie so far apart."""

    path: str
    """The place in the spec, dotted."""
    type: Literal["float", "int"]
    low: float
    high: float
    step: float | None = None
    """Of an int without `log` 1 where the spec says nothing."""
    log: bool = False

    @property
    def count(self) -> int | None:
        """How many values there are; None where they lie densely."""
        if self.step is None:
            return int(self.high) - int(self.low) + 1 if self.type == "int" else None
        return int((Decimal(str(self.high)) - Decimal(str(self.low))) // Decimal(str(self.step))) + 1

    def values(self) -> list[float]:
        """All of them. Only for a range that can be counted."""
        count = self.count
        assert count is not None
        if self.type == "int":
            return [int(self.low) + i * int(self.step or 1) for i in range(count)]
        low, step = Decimal(str(self.low)), Decimal(str(self.step))
        return [float(low + i * step) for i in range(count)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """Values of any kind, one of which is taken."""

    path: str
    choices: tuple[Any, ...]

    @property
    def count(self) -> int:
        return len(self.choices)

    def values(self) -> list[Any]:
        return list(self.choices)

    def labels(self) -> list[Any]:
        """What the study calls them: scalars by themselves, lists and mappings by their text."""
        return [label(value) for value in self.choices]


Parameter = Range | Choices


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A sampler or a pruner of the catalog with its arguments."""

    type: str
    target: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepRecipe:
    """The whole section. `metric` is a column of `metrics.csv`, such as `val.accuracy`."""

    parameters: tuple[Parameter, ...]
    trials: int
    metric: str
    direction: Direction
    sampler: Named
    pruner: Named | None = None
    timeout: float | None = None
    """Seconds after which no further trial begins."""
    seed: int = 0
    paths: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The places of the section that name files, with the absolute paths."""

    @property
    def combinations(self) -> int | None:
        """How many different trials there can be; None where a range is dense."""
        counts = [parameter.count for parameter in self.parameters]
        return None if None in counts else prod(count for count in counts if count is not None)


def label(value: Any) -> Any:
    """A scalar as it is, anything else as one line of text."""
    return value if value is None or isinstance(value, bool | int | float | str) else json.dumps(value)
