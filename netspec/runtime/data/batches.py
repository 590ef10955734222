"""A batch from its samples, here or in a worker: what an epoch's keys name is read, transformed and stacked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from netspec.runtime.data.order import part
from netspec.runtime.data.pipeline import Pipeline, collate, run
from netspec.runtime.data.samples import Sample, Samples
from netspec.runtime.data.seeds import mix, preserved
from netspec.runtime.data.storage import Columns, read_sample
from netspec.runtime.data.unreadable import Unread
from netspec.runtime.errors import RunError

Batch = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class BatchKeys:
    """What each batch of an epoch is made of: (epoch, the samples' indices)."""

    epoch: int
    order: Tensor | None
    samples: int
    batch_size: int
    numbers: range
    share: tuple[int, int] = (0, 1)
    """Of how many processes this is which."""

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[tuple[int, list[int]]]:
        for number in self.numbers:
            first = number * self.batch_size
            last = min(first + self.batch_size, self.samples)
            places = part(first, last, *self.share)
            order = self.order
            yield self.epoch, list(places) if order is None else order[places.start : places.stop].tolist()


@dataclass(frozen=True, slots=True)
class Failure:
    """A RunError on its way from a worker."""

    code: str
    message: str
    help: str | None

    def error(self) -> RunError:
        return RunError(self.code, self.message, help=self.help)


@dataclass(frozen=True, slots=True)
class Made:
    """A batch, and the samples that were left out of it: their names, and why."""

    batch: Batch
    left_out: dict[str, str] = field(default_factory=dict)

    def pin_memory(self) -> Made:
        """Itself in memory from which a GPU copies by itself; a DataLoader asks what it can't look into for this."""
        return Made({name: value.pin_memory() for name, value in self.batch.items()}, self.left_out)


class BatchMaker:
    """Makes the batch for a key, here or in a worker: what a DataLoader calls a data set, with a batch for an item.

    `skips`: a sample that can't be read is left out of its batch, which is then smaller; a batch of which nothing is
    left takes the next sample that can be read. So what a batch holds is a function of its key and of the files.
    """

    def __init__(
        self,
        samples: Samples,
        kept: Columns | Sequence[Sample | Unread] | Samples,
        pipeline: Pipeline,
        place: tuple[int, int],
        select: tuple[str, ...] | None,
        *,
        skips: bool = False,
    ) -> None:
        self.samples = samples
        self.kept = kept
        self.pipeline = pipeline
        self.place = place
        self.select = select
        self.skips = skips

    def __getitem__(self, key: tuple[int, list[int]]) -> Made | Failure:
        """As `make`, with a RunError returned: a DataLoader would raise a text of its own in its place."""
        try:
            return self.make(*key)
        except RunError as error:
            return Failure(error.code, error.message, error.help)

    def make(self, epoch: int, indices: Sequence[int]) -> Made:
        made: list[Sample] = []
        names: list[int] = []
        left_out: dict[str, str] = {}
        with preserved():
            for index in self._candidates(indices, made):
                sample = self._sample(epoch, index)
                if isinstance(sample, Unread):
                    left_out[sample.name] = sample.why
                else:
                    made.append(sample)
                    names.append(index)
        if not made:
            listed = "\n  ".join(f"{name}: {why}" for name, why in list(left_out.items())[:5])
            raise RunError("NS921", f"no sample can be read:\n  {listed}", help="check where the data lie")
        return Made(collate(made, lambda position: self.samples.name(names[position])), left_out)

    def _candidates(self, indices: Sequence[int], made: Sequence[Sample]) -> Iterator[int]:
        """The samples of a batch, and where none of them could be read those after it, up to one that can."""
        yield from indices
        for step in range(1, len(self.kept)):
            if made:
                return
            yield (indices[-1] + step) % len(self.kept)

    def _sample(self, epoch: int, index: int) -> Sample | Unread:
        kept, name = self.kept, partial(self.samples.name, index)
        found: Sample | Unread
        if isinstance(kept, Columns):
            found = {field: column[index] for field, column in kept.columns.items()}
        elif isinstance(kept, Sequence):
            found = kept[index]
        else:
            found = read_sample(kept, index, self.pipeline, skips=self.skips)
        if isinstance(found, Unread):
            return found
        if self.pipeline.body:
            found = run(self.pipeline.body, found, name, seed=mix(*self.place, epoch, index))
        if self.select is not None:
            found = {field: value for field, value in found.items() if field in self.select}
        return found


def to_device(batch: Batch, device: torch.device) -> Batch:
    return {name: value.to(device, non_blocking=True) for name, value in batch.items()}
