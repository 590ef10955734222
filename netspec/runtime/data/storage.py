"""What of a split is kept in memory: everything that has no randomness, where it fits."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from netspec.catalog.sources import PADDED
from netspec.runtime.data.pipeline import Pipeline, apply_to_columns, collate, run
from netspec.runtime.data.samples import Arrays, Sample, Samples
from netspec.runtime.data.steps import plain_tensor

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
    samples: Samples, pipeline: Pipeline, device: torch.device, cache: bool | None, select: tuple[str, ...] | None
) -> Columns | list[Sample] | Samples:
    """What the stream reads from: columns, a list of samples of differing shapes, or the source itself.

    Columns lie on the device where nothing random follows and they take at most a quarter of its free memory, else on
    the CPU, where the random transforms run. Decoded files are kept if they take at most a quarter of the CPU's.
    `cache` true asks for neither limit, and false keeps no decoded files.
    """
    if cache is False and not isinstance(samples, Arrays):
        return samples
    home = torch.device("cpu") if pipeline.body else device
    room = None if cache else free_bytes(home) // _SHARE
    if isinstance(samples, Arrays) and pipeline.batchable:
        columns = {name: column for name, column in samples.columns.items() if _wanted(name, select, pipeline)}
        return _finish(apply_to_columns(pipeline.head, columns), pipeline, home, room, select)
    first = _through_head(samples, pipeline, 0)
    size = sum(plain_tensor(name, value).nbytes for name, value in first.items())
    if room is not None and size * len(samples) > room:
        return samples
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # decoding and resizing release the interpreter
        done = list(pool.map(lambda index: _through_head(samples, pipeline, index), range(len(samples))))
    shapes = {tuple((name, _shape(value)) for name, value in sample.items()) for sample in done}
    if len(shapes) > 1 and (pipeline.body or any(name in PADDED for name in done[0])):
        return done
    if pipeline.body and not all(type(value) is Tensor for value in done[0].values()):
        return done  # PIL images, boxes and masks, on which the random transforms go on as on what has just been read
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
    if room is not None and sum(column.nbytes for column in chosen.values()) > room:
        home = torch.device("cpu")
    return Columns(
        {name: column.to(home).contiguous() for name, column in chosen.items()}, complete or not pipeline.tail
    )


def _wanted(name: str, select: tuple[str, ...] | None, pipeline: Pipeline) -> bool:
    # A transform may read a field that the batch does not show; only columns that no step touches can go first.
    return select is None or name in select or bool(pipeline.head)


def _through_head(samples: Samples, pipeline: Pipeline, index: int) -> Sample:
    return run(pipeline.head, samples.sample(index), partial(samples.name, index))


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
