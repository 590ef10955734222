"""Several trials of a sweep at a time: a thread for each process that trains, all of them over one study."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import torch

from netspec.recipe.train import TrainRecipe
from netspec.runtime.cores import lent_cores
from netspec.runtime.signals import Stop
from netspec.runtime.sweep.trial import Ended
from netspec.runtime.sweep.worker import Worker

AWAKE: Final = 0.1
"""Seconds between two looks for a signal."""


Take = Callable[[], Callable[[Worker], Ended] | None]
"""Gives what is to be done next, a function of the worker that does it, or None where nothing is left."""


def environments(recipe: TrainRecipe, jobs: int) -> list[dict[str, str]]:
    """What each of so many processes has in its environment: a GPU of its own, in turn, and its share of the cores.

    A device that the spec names by its number stays what it is, for all of them.
    """
    threads = {"OMP_NUM_THREADS": str(max(1, min(torch.get_num_threads(), lent_cores()) // jobs))}
    stated = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count() if recipe.device in ("auto", "cuda") else 0
    gpus = stated.split(",")[:count] if stated is not None else [str(number) for number in range(count)]
    if len(gpus) < 2:
        return [threads] * jobs
    return [{**threads, "CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} for number in range(jobs)]


def side_by_side(spec: Path, plugins: Sequence[str], recipe: TrainRecipe, jobs: int, take: Take) -> int:
    """Have so many processes train trials until nothing is left, and return the signal that ended it, or 0.

    take: called by several threads at a time. After Ctrl-C and SIGTERM every trial saves; where one of them can't go
    on, the others save, and its error is raised. A second Ctrl-C is KeyboardInterrupt, and saves nothing.
    """
    pool = _Pool(spec, plugins, take)
    threads = [
        threading.Thread(target=pool.work, args=(environment,), daemon=True)
        for environment in environments(recipe, jobs)
    ]
    with Stop().listening() as stop:
        try:
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                if (stop.signal or pool.errors) and not pool.stopping:
                    pool.stop()
                for thread in threads:
                    thread.join(AWAKE / jobs)
        except KeyboardInterrupt:
            pool.kill()
            for thread in threads:
                thread.join()
            raise
    if pool.errors:
        raise pool.errors[0]
    return stop.signal


class _Pool:
    """The processes that are at work."""

    def __init__(self, spec: Path, plugins: Sequence[str], take: Take) -> None:
        self.spec = spec
        self.plugins = plugins
        self.take = take
        self.lock = threading.Lock()
        self.workers: list[Worker] = []
        self.stopping = False
        self.errors: list[BaseException] = []

    def work(self, environment: dict[str, str]) -> None:
        """One thread: trials one after the other, by a process that is started anew where it is lost."""
        worker: Worker | None = None
        try:
            while not self.stopping and (trial := self.take()) is not None:
                worker = self.start(worker, environment)
                if trial(worker).signal:
                    break
        except BaseException as error:
            self.errors.append(error)
        finally:
            if worker is not None:
                worker.close()

    def start(self, worker: Worker | None, environment: dict[str, str]) -> Worker:
        """The worker, or a new one in the place of none and of one that was lost."""
        if worker is not None and not worker.lost:
            return worker
        with self.lock:
            if worker is not None:
                self.workers.remove(worker)
                worker.close()
            made = Worker(self.spec, self.plugins, environment)
            self.workers.append(made)
            if self.stopping:
                made.stop()
            return made

    def stop(self) -> None:
        with self.lock:
            self.stopping = True
            for worker in self.workers:
                worker.stop()

    def kill(self) -> None:
        with self.lock:
            self.stopping = True
            for worker in self.workers:
                worker.kill()
