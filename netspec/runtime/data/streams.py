"""A split as batches on the device; their order and augmentation are functions of (seed, epoch, place) alone.

Two ways lead there. Data whose transforms are done lie on the device, and a batch is a gather. Where random transforms
remain, or the data do not fit, each batch is made from its samples: in this process, or in workers that run ahead.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from netspec.catalog.sources import FieldInfo
from netspec.recipe.data import Sampler
from netspec.runtime.data.order import epoch_order, epoch_size
from netspec.runtime.data.pipeline import Pipeline, collate, run
from netspec.runtime.data.samples import Sample, Samples, class_column
from netspec.runtime.data.seeds import mix, preserved
from netspec.runtime.data.storage import Columns, store
from netspec.runtime.errors import RunError
from netspec.runtime.signals import in_worker

_GATHER_BYTES = 1 << 20
"""Batches are gathered several at a time, up to this size, and handed out as views: a gather costs its call."""
_WORTH_A_WORKER = 0.005
"""Seconds a batch from which making it in the background pays for handing it over."""

Batch = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Settings:
    """What steers a stream beside its data."""

    seed: int
    device: torch.device
    batch_size: int
    sampler: Sampler
    drop_last: bool
    workers: int | None
    cache: bool | None
    select: tuple[str, ...] | None


class Stream:
    """One split: `size` samples, `batches_per_epoch` batches of at most `batch_size`.

    `fields` tell the names, shapes (of one sample) and dtypes in a batch, `classes` the class names of its labels.
    """

    def __init__(
        self,
        name: str,
        number: int,
        samples: Samples,
        pipeline: Pipeline,
        settings: Settings,
        fields: Mapping[str, FieldInfo],
    ) -> None:
        self.name = name
        self.size = len(samples)
        self.fields = fields
        self.classes = next((info.classes for info in fields.values() if info.classes), None)
        self.batch_size = settings.batch_size
        self.epoch_size = epoch_size(settings.sampler, self.size)
        whole, rest = divmod(self.epoch_size, self.batch_size)
        self.batches_per_epoch = whole if settings.drop_last or not rest else whole + 1
        self._number = number
        self._samples = samples
        self._pipeline = pipeline
        self._settings = settings
        self._columns: Columns | None = None
        self._maker: BatchMaker | None = None
        self._loader: Any = None

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from number `start` on, as tensors on the device.

        The same (seed, epoch, batch) gives the same tensors, whatever came before and with any number of workers;
        torch's global generators stay as they are. One iterator of a stream is live at a time. Raises RunError NS92x
        for data that can't be read.
        """
        self._prepare()
        order = self._order(epoch)
        if self._columns is not None:
            made = self._resident(self._columns, order, start)
        else:
            made = self._from_samples(epoch, order, start)
        if not self._pipeline.tail and not self._pipeline.batch:
            yield from made
            return
        for number, batch in enumerate(made, start):
            yield self._pipeline.on_batch(batch, mix(self._settings.seed, self._number, epoch, number))

    def close(self) -> None:
        """Stop the workers, if there are any."""
        if self._loader is not None:
            iterator, self._loader = self._loader._iterator, None
            if iterator is not None:
                iterator._shutdown_workers()

    def _prepare(self) -> None:
        """Read what is kept in memory, when it is first needed: a split that is never used is never read."""
        if self._columns is not None or self._maker is not None:
            return
        settings = self._settings
        kept = store(self._samples, self._pipeline, settings.device, settings.cache, settings.select)
        if isinstance(kept, Columns) and not self._pipeline.body:
            self._columns = kept
            if kept.complete:
                self._pipeline = self._pipeline.without_tail()
            return
        self._maker = BatchMaker(self._samples, kept, self._pipeline, (settings.seed, self._number), settings.select)

    def _order(self, epoch: int) -> Tensor | None:
        sampler = self._settings.sampler
        weighted = sampler.type == "WeightedRandomSampler"
        labels = class_column(self._samples, sampler.label, "weigh") if weighted else None
        return epoch_order(sampler, self.size, labels, self._settings.seed, self._number, epoch)

    def _resident(self, kept: Columns, order: Tensor | None, start: int) -> Iterator[Batch]:
        columns, size, device = kept.columns, self.batch_size, self._settings.device
        if order is not None:
            order = order.to(kept.device)
        stop = min(self.batches_per_epoch * size, self.epoch_size)
        at_once = size * max(1, _GATHER_BYTES // (max(kept.sample_bytes, 1) * size))
        names = list(columns)
        for first in range(start * size, stop, at_once):
            last = min(first + at_once, stop)
            if order is None:  # a copy, since a model may write into its input
                parts = [column[first:last].clone() for column in columns.values()]
            else:
                index = order[first:last]
                parts = [column.index_select(0, index) for column in columns.values()]
            # Not `split`: for autograd its results are views of one tensor, which one batch would pass on to the next.
            for tensors in zip(*(torch.unsafe_split(part, size) for part in parts), strict=True):
                batch = dict(zip(names, tensors, strict=True))
                yield batch if kept.device == device else to_device(batch, device)

    def _from_samples(self, epoch: int, order: Tensor | None, start: int) -> Iterator[Batch]:
        assert self._maker is not None
        device = self._settings.device
        keys = BatchKeys(epoch, order, self.epoch_size, self.batch_size, range(start, self.batches_per_epoch))
        if self._loader is None and len(keys):
            workers = self._settings.workers
            if workers is None:
                workers = auto_workers(self._maker, self.batch_size, device)
            if workers:
                self._loader = make_loader(self._maker, workers, device)
        if self._loader is None:
            for key in keys:
                yield to_device(self._maker[key], device)
            return
        self._loader.sampler.keys = keys
        for made in self._loader:
            yield to_device(made, device)


@dataclass(frozen=True, slots=True)
class BatchKeys:
    """What each batch of an epoch is made of: (epoch, the samples' indices)."""

    epoch: int
    order: Tensor | None
    samples: int
    batch_size: int
    numbers: range

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[tuple[int, list[int]]]:
        for number in self.numbers:
            first = number * self.batch_size
            last = min(first + self.batch_size, self.samples)
            yield self.epoch, list(range(first, last)) if self.order is None else self.order[first:last].tolist()


@dataclass(frozen=True, slots=True)
class Failure:
    """A RunError on its way from a worker."""

    code: str
    message: str
    help: str | None


class BatchMaker:
    """Makes the batch for a key, here or in a worker: what a DataLoader calls a data set, with a batch for an item.

    A RunError is returned as a `Failure`: a DataLoader would raise a text of its own in its place.
    """

    def __init__(
        self,
        samples: Samples,
        kept: Columns | Sequence[Sample] | Samples,
        pipeline: Pipeline,
        place: tuple[int, int],
        select: tuple[str, ...] | None,
    ) -> None:
        self.samples = samples
        self.kept = kept
        self.pipeline = pipeline
        self.place = place
        self.select = select

    def __getitem__(self, key: tuple[int, list[int]]) -> Batch | Failure:
        epoch, indices = key
        try:
            with preserved():
                made = [self._sample(epoch, index) for index in indices]
            return collate(made, lambda position: self.samples.name(indices[position]))
        except RunError as error:
            return Failure(error.code, error.message, error.help)

    def _sample(self, epoch: int, index: int) -> Sample:
        kept, name = self.kept, partial(self.samples.name, index)
        if isinstance(kept, Columns):
            sample: Sample = {field: column[index] for field, column in kept.columns.items()}
        elif isinstance(kept, Sequence):
            sample = kept[index]
        else:
            sample = run(self.pipeline.head, kept.sample(index), name)
        if self.pipeline.body:
            sample = run(self.pipeline.body, sample, name, seed=mix(*self.place, epoch, index))
        if self.select is not None:
            sample = {field: value for field, value in sample.items() if field in self.select}
        return sample


class _Keys:
    """The DataLoader's sampler, to which each epoch gives its own keys."""

    keys: BatchKeys

    def __iter__(self) -> Iterator[tuple[int, list[int]]]:
        return iter(self.keys)

    def __len__(self) -> int:
        return len(self.keys)


def make_loader(maker: BatchMaker, workers: int, device: torch.device) -> Any:
    from torch.utils.data import DataLoader

    return DataLoader(
        maker,  # type: ignore[arg-type]
        batch_size=None,
        sampler=_Keys(),
        num_workers=workers,
        collate_fn=_unchanged,  # type: ignore[arg-type]
        persistent_workers=True,
        pin_memory=device.type == "cuda",
        worker_init_fn=in_worker,
        generator=torch.Generator(),  # else each epoch would draw a number from the global one
    )


def _unchanged(made: Batch) -> Batch:
    return made


def auto_workers(maker: BatchMaker, batch_size: int, device: torch.device) -> int:
    """None where a batch is made quickly; else one for each core of this process, less one where the CPU trains."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores //= int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if device.type == "cpu":
        cores -= 1
    if cores < 1:
        return 0
    kept = maker.kept
    indices = list(range(min(4, batch_size, len(kept))))
    to_device(maker[0, indices[:1]], torch.device("cpu"))  # imports and caches are not what is measured
    begin = time.perf_counter()
    to_device(maker[0, indices], torch.device("cpu"))
    seconds = (time.perf_counter() - begin) / len(indices) * batch_size
    return min(cores, 8) if seconds > _WORTH_A_WORKER else 0


def to_device(made: Batch | Failure, device: torch.device) -> Batch:
    """The batch on the device, or the error raised."""
    if isinstance(made, Failure):
        raise RunError(made.code, made.message, help=made.help)
    return {name: value.to(device, non_blocking=True) for name, value in made.items()}
