"""Processes that prepare batches ahead, and what is said where one of them dies."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

import torch

from netspec.runtime.cores import lent_cores
from netspec.runtime.signals import in_worker

if TYPE_CHECKING:
    from netspec.runtime.data.batches import BatchMaker

_WORTH_A_WORKER = 0.005
"""Seconds a batch from which making it in the background pays for handing it over."""


class Keys:
    """The DataLoader's sampler, to which each epoch gives its own keys."""

    keys: Any

    def __iter__(self) -> Iterator[tuple[int, list[int]]]:
        return iter(self.keys)

    def __len__(self) -> int:
        return len(self.keys)


def make_loader(maker: BatchMaker, workers: int, device: torch.device) -> Any:
    from torch.utils.data import DataLoader

    return DataLoader(
        maker,  # type: ignore[arg-type]
        batch_size=None,
        sampler=Keys(),
        num_workers=workers,
        collate_fn=_unchanged,
        persistent_workers=True,
        pin_memory=device.type == "cuda",
        worker_init_fn=in_worker,
        generator=torch.Generator(),  # else each epoch would draw a number from the global one
    )


def _unchanged(made: Any) -> Any:
    return made


def loaded(loader: Any) -> Iterator[Any]:
    """What the workers make. Raises WorkerDied where one of them has."""
    with _WithoutHandler():
        batches = iter(loader)
    while True:
        try:
            made = next(batches, None)
        except RuntimeError as error:
            raise _died(loader, error) from error
        if made is None:
            return
        yield made


class _WithoutHandler:
    """torch has SIGCHLD raise an error wherever the main thread is, in the middle of an update even.

    Without its handler a death is noticed where the next batch is waited for, between two updates: the state is whole
    then, and can be saved.
    """

    def __enter__(self) -> None:
        self.known = threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGCHLD")
        self.before: Any = signal.getsignal(signal.SIGCHLD) if self.known else None

    def __exit__(self, *_: object) -> None:
        if self.known and signal.getsignal(signal.SIGCHLD) is not self.before:
            signal.signal(signal.SIGCHLD, self.before or _nothing)


def _nothing(_: int, __: FrameType | None) -> None:
    return None


class WorkerDied(RuntimeError):
    """A process that prepared batches is gone. It is noticed between two updates, when the state is whole."""


def _died(loader: Any, error: RuntimeError) -> Exception:
    """The error that says which worker died and of what; the one given where none did."""
    workers = getattr(loader._iterator, "_workers", [])
    dead = [(i, worker) for i, worker in enumerate(workers, 1) if not worker.is_alive()]
    if not dead:
        return error
    number, worker = dead[0]
    code = worker.exitcode
    memory = ", most likely since the machine's memory was full" if code == -signal.SIGKILL else ""
    how = f"killed by {signal.Signals(-code).name}" if code is not None and code < 0 else f"it ended with {code}"
    return WorkerDied(
        f"DataLoader worker (pid {worker.pid}) exited unexpectedly: worker {number} of {len(workers)}, {how}{memory}"
    )


def auto_workers(maker: BatchMaker, batch_size: int, device: torch.device) -> int:
    """None where a batch is made quickly; else one for each core of this process, less one where the CPU trains."""
    cores = lent_cores()
    cores //= int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if device.type == "cpu":
        cores -= 1
    if cores < 1:
        return 0
    indices = list(range(min(4, batch_size, len(maker.kept))))
    maker.make(0, indices[:1])  # imports and caches are not what is measured
    begin = time.perf_counter()
    maker.make(0, indices)
    seconds = (time.perf_counter() - begin) / len(indices) * batch_size
    return min(cores, 8) if seconds > _WORTH_A_WORKER else 0
