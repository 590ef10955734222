"""What of a split is kept in memory: everything that has no randomness, where it fits."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from netspec.catalog.sources import PADDED
from netspec.runtime.cores import lent_cores
from netspec.runtime.data.pipeline import Pipeline, apply_to_columns, collate, run
from netspec.runtime.data.samples import Arrays, Sample, Samples
from netspec.runtime.data.steps import plain_tensor
from netspec.runtime.data.unreadable import CODES, Unread, short
from netspec.runtime.errors import RunError

_SHARE = 4
"""A quarter of the memory that is free may hold a split."""


@dataclass(frozen=True, slots=True)
class Columns:
    """All samples stacked, [samples, …] for each field. `complete`: the pipeline's tail is done as well."""

    columns: Mapping[str, Tensor]
    complete: bool

    @property
    def sample_bytes(self) -> int:
        return sum(column[0].numel() * column.element_size() for column in self.columns.values())

    @property
    def device(self) -> torch.device:
        return next(iter(self.columns.values())).device

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))


def store(
    samples: Samples,
    pipeline: Pipeline,
    device: torch.device,
    cache: bool | None,
    select: tuple[str, ...] | None,
    *,
    skips: bool = False,
) -> Columns | list[Sample | Unread] | Samples:
    """What the stream reads from: columns, a list of samples of differing shapes, or the source itself.

    Columns lie on the device where nothing random follows and they take at most a quarter of its free memory, else on
    the CPU, where the random transforms run. Decoded files are kept if they take at most a quarter of the CPU's.
    `cache` true asks for neither limit, and false keeps no decoded files. With `skips`, an `Unread` stands in the place
    of a sample that can't be read.
    """
    if cache is False and not isinstance(samples, Arrays):
        return samples
    home = torch.device("cpu") if pipeline.body else device
    room = None if cache else free_bytes(home) // _SHARE
    if isinstance(samples, Arrays) and pipeline.batchable:
        columns = {name: column for name, column in samples.columns.items() if _wanted(name, select, pipeline)}
        return _finish(apply_to_columns(pipeline.head, columns), pipeline, home, room, select)
    tries = (read_sample(samples, index, pipeline, skips=skips) for index in range(len(samples)))
    first = next((sample for sample in tries if not isinstance(sample, Unread)), None)
    if first is None:
        return samples
    size = sum(plain_tensor(name, value).nbytes for name, value in first.items())
    if room is not None and size * len(samples) > room:
        return samples
    with ThreadPoolExecutor(min(8, lent_cores())) as pool:  # decoding and resizing release the interpreter
        found = list(pool.map(lambda index: read_sample(samples, index, pipeline, skips=skips), range(len(samples))))
    done = [sample for sample in found if not isinstance(sample, Unread)]
    if len(done) < len(found):
        return found
    shapes = {tuple((name, _shape(value)) for name, value in sample.items()) for sample in done}
    if len(shapes) > 1 and (pipeline.body or any(name in PADDED for name in done[0])):
        return found
    if pipeline.body and not all(type(value) is Tensor for value in done[0].values()):
        return found  # PIL images, boxes and masks, on which the random transforms go on as on what has just been read
    columns = collate(done, samples.name)
    return _finish(columns, pipeline, home, room, select)


def _finish(
    columns: dict[str, Tensor],
    pipeline: Pipeline,
    home: torch.device,
    room: int | None,
    select: tuple[str, ...] | None,
) -> Columns:
    complete = False
    if not pipeline.body and pipeline.tail:
        one: Sample = {name: column[:1] for name, column in columns.items()}
        for step in pipeline.tail:
            one = step(one)
        size = sum(value.nbytes for value in one.values()) * len(next(iter(columns.values())))
        if room is None or size <= room:
            columns, complete = apply_to_columns(pipeline.tail, columns), True
    chosen = {name: column for name, column in columns.items() if select is None or name in select}
    fits = room is None or sum(column.nbytes for column in chosen.values()) <= room
    if not fits:
        home = torch.device("cpu")
    # Windows over one text overlap in memory: written out one by one they take many times its size.
    placed = {
        name: column.to(home).contiguous() if fits or column.untyped_storage().nbytes() >= column.nbytes else column
        for name, column in chosen.items()
    }
    return Columns(placed, complete or not pipeline.tail)


def _wanted(name: str, select: tuple[str, ...] | None, pipeline: Pipeline) -> bool:
    # A transform may read a field that the batch does not show; only columns that no step touches can go first.
    return select is None or name in select or bool(pipeline.head)


def read_sample(samples: Samples, index: int, pipeline: Pipeline, *, skips: bool) -> Sample | Unread:
    """A sample after the transforms that have no randomness. With `skips` it may be one that can't be read."""
    try:
        sample = samples.sample(index)
    except RunError as error:
        if not skips or error.code not in CODES:
            raise
        return Unread(samples.name(index), short(error))
    return run(pipeline.head, sample, partial(samples.name, index))


def _shape(value: Any) -> object:
    return tuple(value.shape) if isinstance(value, Tensor) else getattr(value, "size", None)


def free_bytes(device: torch.device) -> int:
    """Memory that is free on the device. For the CPU: of the machine, or of this process's control group if less."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = _meminfo("MemAvailable")
    try:
        with open("/sys/fs/cgroup/memory.max") as limit, open("/sys/fs/cgroup/memory.current") as used:
            text = limit.read().strip()
            if text != "max":
                free = min(free, int(text) - int(used.read()))
    except (OSError, ValueError):
        pass
    return max(free, 0)


def _meminfo(key: str) -> int:
    try:
        with open("/proc/meminfo") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith(key))
    except (OSError, StopIteration):
        return 8 << 30  # no Linux: what a small machine has
