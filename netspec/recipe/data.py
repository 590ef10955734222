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
    aside: tuple[str, ...] = ()
    """Columns that a split or a sampler goes by, which are no features."""
    skip: bool = False
    """Rows that can't be read are left out and counted, in place of an error."""


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
    """How an epoch draws its samples, with torch's names.

    `weights` are one a class of `label`; `column` holds one a sample.
    """

    type: Literal["RandomSampler", "SequentialSampler", "WeightedRandomSampler"]
    replacement: bool = False
    num_samples: int | None = None
    weights: tuple[float, ...] | None = None
    label: str = "label"
    balance: bool = False
    """Weights that make every class of `label` equally frequent, in place of `weights`."""
    column: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """One of `train`, `val` and `test`. `fractional` says that it is a part of the source that `Cut` cuts."""

    name: str
    source: Source
    fractional: bool = False
    transforms: tuple[Transform, ...] = ()
    batch_transforms: tuple[Transform, ...] = ()
    sampler: Sampler
    drop_last: bool = False
    subset: float | int | None = None
    """So many of its samples, or such a share of them, drawn once."""
    batch_size: int | None = None
    fields: Mapping[str, FieldInfo] | None = None
    """What a sample holds after the transforms, as far as it can be told without reading data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Cuts one source of n samples: by sizes, by the values of a column, or by files that list the samples.

    A size is a share of all samples (a float), a count, or None for what the others leave. By shares alone, split k
    gets round(n · (f₁ + … + fₖ)) - round(n · (f₁ + … + fₖ₋₁)), halves up. The samples are shuffled by `seed`, or taken
    in their order; with `stratify` a split takes from each class in proportion to what is left of it, to within one
    sample.
    """

    sizes: Mapping[str, float | int | None] = field(default_factory=dict)
    seed: int = 0
    stratify: str | None = None
    groups: str | None = None
    """The column or field whose values are groups that stay whole; the sizes are met as nearly as that lets them."""
    shuffle: bool = True
    column: str | None = None
    values: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """For a column: the values that mean each split."""
    files: Mapping[str, str] = field(default_factory=dict)
    """For lists: the file of each split, a sample a line."""

    @property
    def names(self) -> tuple[str, ...]:
        """The splits that it makes."""
        return tuple(self.sizes or self.values or self.files)


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoBatch:
    """The batches are as large as fit, and at most `max`."""

    max: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRecipe:
    """The whole section. `workers` and `cache` are None where netspec chooses."""

    splits: Mapping[str, Split]
    cut: Cut | None = None
    batch_size: int = 32
    auto: AutoBatch | None = None
    """Given where a number is to be found before training, which takes the place of `batch_size` then."""
    global_batch_size: int | None = None
    workers: int | None = None
    cache: bool | None = None
    select: tuple[str, ...] | None = None
    """The fields to keep; None for all."""
    skip_unreadable: int = 0
    """So many samples may be unreadable before the run stops."""
    paths: Mapping[str, str] = field(default_factory=dict)
    """Each path that the section states, by its place in the document, made absolute: `data.train.source.root`."""

    @property
    def fields(self) -> Mapping[str, FieldInfo] | None:
        """The fields of a training sample; None where they are not known before the data is read."""
        first = self.splits.get("train") or next(iter(self.splits.values()))
        return first.fields
