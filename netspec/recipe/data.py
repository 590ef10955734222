"""What the `data` section says, checked and with every default filled in: all that the runtime needs to know.

`read_data` (in `netspec.recipe.read_data`) makes these from the document. Everything here is plain data, so a recipe
can be compared, printed and written down; nothing imports torch or reads any data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from netspec.catalog.sources import FieldInfo as FieldInfo

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A source of the catalog. `arguments` are complete, and paths among them absolute."""

    type: str
    target: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Transform:
    """A transform of the catalog with the arguments that the spec gives; `of` are those that a container runs."""

    type: str
    target: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    of: tuple[Transform, ...] = ()
    random: bool
    batchable: bool = False
    """It gives a batch what it gives each sample of it."""
    light: bool = False
    """It runs without torchvision."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampler:
    """How an epoch draws its samples, with torch's names; `weights` are one a class of `label`."""

    type: Literal["RandomSampler", "SequentialSampler", "WeightedRandomSampler"]
    replacement: bool = False
    num_samples: int | None = None
    weights: tuple[float, ...] | None = None
    label: str = "label"
    balance: bool = False
    """Weights that make every class of `label` equally frequent, in place of `weights`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """One of `train`, `val` and `test`. `fractional` says that it is a part of the source that `Fractions` cuts."""

    name: str
    source: Source
    fractional: bool = False
    transforms: tuple[Transform, ...] = ()
    batch_transforms: tuple[Transform, ...] = ()
    sampler: Sampler
    drop_last: bool = False
    batch_size: int | None = None
    fields: Mapping[str, FieldInfo] | None = None
    """What a sample holds after the transforms, as far as it can be told without reading data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fractions:
    """Cuts one source of n samples: split k gets round(n · (f₁ + … + fₖ)) - round(n · (f₁ + … + fₖ₋₁)), halves up.

    The samples are shuffled by `seed`; with `stratify` a split takes from each class in proportion to what is left of
    it, to within one sample.
    """

    sizes: Mapping[str, float]
    seed: int = 0
    stratify: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRecipe:
    """The whole section. `workers` and `cache` are None where netspec chooses."""

    splits: Mapping[str, Split]
    fractions: Fractions | None = None
    batch_size: int = 32
    global_batch_size: int | None = None
    workers: int | None = None
    cache: bool | None = None
    select: tuple[str, ...] | None = None
    """The fields to keep; None for all."""
    paths: Mapping[str, str] = field(default_factory=dict)
    """Each path that the section states, by its place in the document, made absolute: `data.train.source.root`."""

    @property
    def fields(self) -> Mapping[str, FieldInfo] | None:
        """The fields of a training sample; None where they are not known before the data is read."""
        first = self.splits.get("train") or next(iter(self.splits.values()))
        return first.fields
