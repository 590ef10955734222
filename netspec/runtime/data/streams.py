"""A split as batches on the device; their order and augmentation are functions of (seed, epoch, place) alone.

Two ways lead there. Data whose transforms are done lie on the device, and a batch is a gather. Where random transforms
remain, or the data do not fit, each batch is made from its samples: in this process, or in workers that run ahead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from netspec.catalog.sources import FieldInfo
from netspec.recipe.data import Sampler
from netspec.runtime.data.batches import Batch, BatchKeys, BatchMaker, Failure, Made, to_device
from netspec.runtime.data.order import epoch_order, epoch_size, part
from netspec.runtime.data.pipeline import Pipeline
from netspec.runtime.data.samples import Samples, class_column, weights_column
from netspec.runtime.data.seeds import mix
from netspec.runtime.data.storage import Columns, store
from netspec.runtime.data.unreadable import Unreadable
from netspec.runtime.data.workers import auto_workers, loaded, make_loader

_GATHER_BYTES = 1 << 20
"""Batches are gathered several at a time, up to this size, and handed out as views: a gather costs its call."""


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
    unreadable: Unreadable = field(default_factory=lambda: Unreadable(0))
    rank: int = 0
    count: int = 1
    """Of how many processes this is which: each makes its part of each batch."""


class Stream:
    """One split: `size` samples, `batches_per_epoch` batches of at most `batch_size`.

    Where several processes share the batches, all these numbers are those of the whole, and a batch is this one's part.
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
        self.share = settings.rank, settings.count
        self.unreadable = settings.unreadable
        self.left_out = 0
        """How many samples of the last batch could not be read; of a batch that had no other, all."""
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

    @property
    def source_fields(self) -> Mapping[str, FieldInfo]:
        """All that the source gives, used or not, as it is before the transforms."""
        return self._samples.fields

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
            place = (self._settings.seed, self._number, epoch, number)
            rank = self.share[0]  # each process draws for its own part
            yield self._pipeline.on_batch(batch, mix(*place, rank) if rank else mix(*place))

    def own(self, number: int) -> tuple[int, int]:
        """How many samples of batch `number` are this process's own, and how many it has in all."""
        (rank, count), first = self.share, number * self.batch_size
        whole = min(first + self.batch_size, self.epoch_size) - first
        return whole * (rank + 1) // count - whole * rank // count, whole

    def class_counts(self, field: str) -> Tensor:
        """How many samples each class of a field has, [classes]. Raises RunError NS924 where it holds no classes."""
        labels = class_column(self._samples, field, "weigh")
        return torch.bincount(labels[labels >= 0], minlength=self.fields[field].num_classes or 0)

    def locate(self, epoch: int, number: int, field: str, index: tuple[int, ...]) -> str:
        """Where a number of a batch comes from: its sample, and its column or its place in it.

        `index` is the number's place in the field of batch `number` of the epoch.
        """
        order, first = self._order(epoch), number * self.batch_size
        members = part(first, min(first + self.batch_size, self.epoch_size), *self.share)
        names = [self._samples.name(i if order is None else int(order[i])) for i in members]
        row, *rest = index
        present = [name for name in names if name not in self._settings.unreadable.found]
        name = present[row] if row < len(present) else f"sample {row + 1} of the batch"
        columns = self._samples.state.get("columns") or ()
        by_name = field == "features" and len(rest) == 1 and not self._samples.state.get("categories")
        if by_name and rest[0] < len(columns):
            return f"{name}, column `{columns[rest[0]]}`"
        return f"{name}, at {rest}" if rest else name

    def example(self) -> Batch:
        """A batch of the first sample or two, made by themselves: nothing beside them is read, and nothing is kept."""
        place = (self._settings.seed, self._number)
        maker = BatchMaker(self._samples, self._samples, self._pipeline, place, self._settings.select)
        made = maker.make(0, list(range(min(2, self.size))))
        return self._pipeline.on_batch(to_device(made.batch, self._settings.device), mix(*place, 0, 0))

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
        skips = settings.unreadable.skips
        kept = store(self._samples, self._pipeline, settings.device, settings.cache, settings.select, skips=skips)
        if isinstance(kept, Columns) and not self._pipeline.body:
            self._columns = kept
            if kept.complete:
                self._pipeline = self._pipeline.without_tail()
            return
        place = (settings.seed, self._number)
        self._maker = BatchMaker(self._samples, kept, self._pipeline, place, settings.select, skips=skips)

    def _order(self, epoch: int) -> Tensor | None:
        sampler = self._settings.sampler
        labels = None
        if sampler.column is not None:
            labels = weights_column(self._samples, sampler.column)
        elif sampler.type == "WeightedRandomSampler":
            labels = class_column(self._samples, sampler.label, "weigh")
        return epoch_order(sampler, self.size, labels, self._settings.seed, self._number, epoch)

    def _resident(self, kept: Columns, order: Tensor | None, start: int) -> Iterator[Batch]:
        columns, size, device = kept.columns, self.batch_size, self._settings.device
        if order is not None:
            order = order.to(kept.device)
        stop = min(self.batches_per_epoch * size, self.epoch_size)
        at_once = size * max(1, _GATHER_BYTES // (max(kept.sample_bytes, 1) * size))
        names = list(columns)
        if self.share[1] > 1:
            for places in self._places(start):
                if order is None:
                    made = {name: column[places.start : places.stop].clone() for name, column in columns.items()}
                else:
                    index = order[places.start : places.stop]
                    made = {name: column.index_select(0, index) for name, column in columns.items()}
                yield made if kept.device == device else to_device(made, device)
            return
        for first in range(start * size, stop, at_once):
            last = min(first + at_once, stop)
            if order is None:  # a copy, since a model may write into its input
                parts = [column[first:last].clone() for column in columns.values()]
            else:
                index = order[first:last]
                parts = [column.index_select(0, index) for column in columns.values()]
            # Not `split`: for autograd its results are views of one tensor, which one batch would pass on to the next.
            for tensors in zip(*(torch.unsafe_split(column, size) for column in parts), strict=True):
                batch = dict(zip(names, tensors, strict=True))
                yield batch if kept.device == device else to_device(batch, device)

    def _places(self, start: int) -> Iterator[range]:
        """Of each batch from number `start` on, this process's places in the epoch's order."""
        size = self.batch_size
        for first in range(start * size, min(self.batches_per_epoch * size, self.epoch_size), size):
            yield part(first, min(first + size, self.epoch_size), *self.share)

    def _from_samples(self, epoch: int, order: Tensor | None, start: int) -> Iterator[Batch]:
        assert self._maker is not None
        device = self._settings.device
        numbers = range(start, self.batches_per_epoch)
        keys = BatchKeys(epoch, order, self.epoch_size, self.batch_size, numbers, self.share)
        if self._loader is None and len(keys):
            workers = self._settings.workers
            if workers is None:
                workers = auto_workers(self._maker, -(-self.batch_size // self.share[1]), device)
            if workers:
                self._loader = make_loader(self._maker, workers, device)
        if self._loader is None:
            for epoch, indices in keys:
                yield self._taken(self._maker.make(epoch, indices))
            return
        self._loader.sampler.keys = keys
        for made in loaded(self._loader):
            if isinstance(made, Failure):
                raise made.error()
            yield self._taken(made)

    def _taken(self, made: Made) -> Batch:
        """The batch on the device; what was left out of it is counted."""
        self.left_out = len(made.left_out)
        if made.left_out:
            self._settings.unreadable.add(made.left_out)
        return to_device(made.batch, self._settings.device)
