"""The transforms of a split, cut where it matters: what is done once, what is drawn anew, what a batch does at once.

`head` has no randomness: data in memory keep its result. `body` runs for each sample of each epoch, from the first
random transform on. `tail` is the light rest, done for a whole batch on the device; `batch` are the
`batch_transforms`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from netspec.catalog.sources import PADDED
from netspec.recipe.data import Split, Transform
from netspec.runtime.data.samples import Arrays, Sample
from netspec.runtime.data.seeds import preserved, reseed
from netspec.runtime.data.steps import Step, build_step, plain_tensor
from netspec.runtime.data.tables import Standardize
from netspec.runtime.errors import RunError

_CHUNK = 1024
"""Images that go through a step of the head at once: enough to be fast, few enough not to double the memory."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    head: tuple[Step, ...]
    body: tuple[Step, ...]
    tail: tuple[Step, ...]
    batch: tuple[Step, ...]
    batchable: bool
    """The head can run on columns instead of samples."""

    def without_tail(self) -> Pipeline:
        """For data that have been through it."""
        return replace(self, tail=())

    def on_batch(self, batch: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
        """Tail and batch transforms; `seed` is what the latter draw from."""
        for step in self.tail:
            batch = step(batch)
        if self.batch:
            device = next(iter(batch.values())).device
            with preserved(device):
                reseed(seed, device)
                for step in self.batch:
                    batch = step(batch)
            batch = {name: plain_tensor(name, value) for name, value in batch.items()}
        return batch


def make_pipeline(
    split: Split, fitted: Mapping[str, Standardize], num_classes: int | None, *, deterministic: bool = False
) -> Pipeline:
    """`deterministic` leaves out whatever is random, and batch transforms that mix samples: for prediction."""
    transforms = [t for t in split.transforms if not (deterministic and t.random)]
    batch = [t for t in split.batch_transforms if not (deterministic and t.random)]
    first_random = next((i for i, t in enumerate(transforms) if t.random), len(transforms))
    last = len(transforms)
    while last > first_random * (first_random < len(transforms)) and _fits_tail(transforms[last - 1]):
        last -= 1
    head_end = min(first_random, last)

    def steps(chosen: Sequence[Transform]) -> tuple[Step, ...]:
        return tuple(build_step(transform, fitted, num_classes) for transform in chosen)

    return Pipeline(
        head=steps(transforms[:head_end]),
        body=steps(transforms[head_end:last]),
        tail=steps(transforms[last:]),
        batch=steps(batch),
        batchable=all(t.batchable for t in transforms[:head_end]),
    )


def _fits_tail(transform: Transform) -> bool:
    # Statistics are kept in float64 on the CPU, so a table is standardised before it goes to the device.
    return transform.light and transform.type != "Standardize"


def fit_standardize(split: Split, samples: Arrays, num_classes: int | None) -> dict[str, Standardize]:
    """The statistics of each `Standardize` among the transforms, from the training samples as they come to it."""
    fitted: dict[str, Standardize] = {}
    columns: Sample = dict(samples.columns)
    for transform in split.transforms:
        if transform.type == "Standardize":
            name = str(transform.arguments.get("field", "features"))
            if name not in columns:
                raise RunError("NS924", f"{samples.origin} has no field {name!r} to standardise")
            fitted[name] = Standardize.fit(name, columns[name])
            columns = fitted[name](columns)
    return fitted


def apply_to_columns(steps: Sequence[Step], columns: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Steps that are `batchable`, on all samples."""
    if not steps:
        return dict(columns)
    count = len(next(iter(columns.values())))
    done: list[Sample] = []
    for start in range(0, count, _CHUNK):
        sample: Sample = {name: column[start : start + _CHUNK] for name, column in columns.items()}
        for step in steps:
            sample = step(sample)
        done.append(sample)
    return {name: torch.cat([plain_tensor(name, part[name]) for part in done]) for name in done[0]}


def run(steps: Sequence[Step], sample: Sample, name: Callable[[], str], *, seed: int | None = None) -> Sample:
    """The steps in order on one sample, whose name goes into the message of a transform that fails.

    With a seed the draws are a function of it; only inside `preserved`.
    """
    if seed is not None:
        reseed(seed)
    try:
        for step in steps:
            sample = step(sample)
    except RunError as error:
        raise RunError(error.code, f"{name()}: {error.message}", help=error.help) from error
    return sample


def filled(values: Sequence[Tensor], filling: float) -> list[Tensor]:
    """The tensors with as many rows as the longest has."""
    most = max((len(value) for value in values if value.ndim), default=0)
    return [
        torch.cat([value, value.new_full((most - len(value), *value.shape[1:]), filling)]) if value.ndim else value
        for value in values
    ]


def collate(samples: Sequence[Sample], name: Callable[[int], str]) -> dict[str, Tensor]:
    """Tensors stacked to a batch, boxes and their classes filled up; `name` is what the sample at a position is called.

    Raises RunError NS923 naming two samples of different shapes.
    """
    batch = {}
    for field in samples[0]:
        values = [plain_tensor(field, sample[field]) for sample in samples]
        if field in PADDED:
            values = filled(values, PADDED[field])
        other = next((i for i, value in enumerate(values) if value.shape != values[0].shape), None)
        if other is not None:
            shapes = [" x ".join(map(str, values[i].shape)) for i in (0, other)]
            raise RunError(
                "NS923",
                f"samples of different shapes can't form a batch: `{field}` is {shapes[0]} in {name(0)} "
                f"and {shapes[1]} in {name(other)}",
                help="resize or crop to one size: {type: Resize, size: [224, 224]}",
            )
        batch[field] = torch.stack(values)
    return batch
