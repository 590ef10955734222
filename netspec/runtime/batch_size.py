"""`batch_size: auto`: the largest batch that fits, found before a run begins and written into its spec as a number.

On a GPU whole training steps are tried, on a model of their own that is thrown away; on a CPU, where too much memory
ends the process, what a step takes is worked out by `netspec.costs`. Nothing is left of it: the run is that of a spec
that states the number.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from netspec.document import Mapping, Scalar
from netspec.program import Program
from netspec.recipe.data import AutoBatch, DataRecipe
from netspec.recipe.train import TrainRecipe
from netspec.runtime.averaging import make_average
from netspec.runtime.data import open_data
from netspec.runtime.data.storage import free_bytes
from netspec.runtime.device import autocast, make_scaler
from netspec.runtime.errors import RunError
from netspec.runtime.freezing import Freezing
from netspec.runtime.layout import ChannelsLast, to_channels_last, wants_channels_last
from netspec.runtime.objective import make_objective
from netspec.runtime.optimizers import make_optimizer
from netspec.runtime.prepare import used_fields
from netspec.runtime.processes import ALONE, Processes, shared
from netspec.runtime.resolved import load_program

FIRST: Final = 8
"""The size that is tried first."""
SHARE: Final = 0.9
"""So much of a GPU's free memory may be taken: other kernels are chosen for other batches, and memory is in pieces."""
SHARE_OF_CPU: Final = 0.5
"""The same on a CPU, where the work of a layer is not in the figure."""


def with_batch_size(
    program: Program,
    device: torch.device,
    processes: Processes = ALONE,
    *,
    resume: str | Path | None = None,
    opened: Any = None,
    say: Callable[[str], None],
) -> Program:
    """The program with a number where it says `batch_size: auto`, itself where it does not.

    resume: the run that is gone on with, whose number it is. opened: data that are used in place of the spec's. say is
    told what was chosen, and why. Several processes each look for the size of a part, with the whole model, and agree
    on the least.

    Raises RunError NS919 where not even one sample fits, or where what the training takes on a CPU is not known.
    """
    data = program.recipe.data if program.recipe is not None else None
    if data is None or data.auto is None:
        return program
    assert isinstance(data, DataRecipe)
    if opened is not None:
        return stated(program, opened.splits["train"].batch_size)
    if resume is not None:
        before = Path(resume)
        return stated(program, processes.first(lambda: int(load_program(before).recipe.data.batch_size)))
    size, why = agreed(processes, partial(chosen, program, device, data.auto, processes))
    per = " for each process" if processes.count > 1 else ""
    say(f"`batch_size: auto` is {size}{per}: {why}; rates stay as the spec has them")
    return stated(program, size)


def agreed(processes: Processes, choose: Callable[[], tuple[int, str]]) -> tuple[int, str]:
    """The least size that the processes have chosen, and why it was; what one of them raises, all raise."""
    found: tuple[int, str] = 0, ""
    failure: tuple[str, str, str | None] | None = None
    if processes.count == 1:
        return choose()
    try:
        found = choose()
    except RunError as error:
        failure = error.code, error.message, error.help
    sizes = processes.all((found, failure))
    for _, failed in sizes:
        if failed is not None:
            code, message, help = failed
            raise shared(RunError(code, message, help=help))
    return min((one for one, _ in sizes), key=lambda one: one[0])


def stated(program: Program, size: int) -> Program:
    """The program whose document states the size."""
    document = program.document
    node = document.items["data"]
    assert isinstance(node, Mapping)
    number = Scalar(size, node.items["batch_size"].span)
    data = Mapping({**node.items, "batch_size": number}, node.key_spans, node.span)
    whole = Mapping({**document.items, "data": data}, document.key_spans, document.span)
    recipe = replace(program.recipe, data=replace(program.recipe.data, batch_size=size, auto=None))
    return replace(program, document=whole, recipe=recipe)


def chosen(program: Program, device: torch.device, auto: AutoBatch, processes: Processes = ALONE) -> tuple[int, str]:
    """The size, and why it is that one."""
    recipe, data = program.recipe.train, program.recipe.data
    if processes.local_rank:
        processes.wait()  # one process of a machine downloads what there is to download
    try:
        opened = open_data(
            data, seed=recipe.seed, device=device, batch_size=1, fields=used_fields(recipe), splits=["train"]
        )
    finally:
        if not processes.local_rank:
            processes.wait()
    stream = opened.splits["train"]
    fits: Callable[[int], bool] | None = None
    try:
        samples, part = stream.size, max(1, stream.size // processes.count)
        filled = (
            f"the {samples:,} training samples" if part == samples else f"a share of the {samples:,} training samples"
        )
        cap, reason = _power(part), f"the largest power of two that {filled} fill{'s' * (part != samples)}"
        if auto.max is not None and auto.max <= part:
            cap, reason = auto.max, f"`max` is {auto.max}"
        if device.type == "cpu":
            fits, told = _estimate(program, processes.local_count), "worked out"
        else:
            fits, told = Trial(program, device, stream.example(), samples), "found"
        size, failed = largest(fits, cap)
    finally:
        opened.close()
        fits = None
        if device.type == "cuda":
            gc.collect()
            torch.cuda.empty_cache()  # the run asks how much is free, and what torch keeps does not count as that
    if failed is None:
        return size, reason
    if not size:
        raise RunError(
            "NS919",
            f"a training step of one sample does not fit into the memory that {device} has free",
            help="a smaller model or input, `precision: bf16`, or another device",
        )
    room = "half of what" if device.type == "cpu" else "what"
    return size, f"{failed} was {told} not to fit into {room} {device} has free"


def largest(fits: Callable[[int], bool], cap: int) -> tuple[int, int | None]:
    """The largest size that fits, in a row of sizes, and the smallest that was seen not to.

    The size doubles until it does not fit or reaches `cap`, and is then brought nearer in two halvings: 512, 640, 768,
    896, 1024. (0, 1) where one sample does not fit, and no second number where `cap` fits.
    """
    good, size = 0, min(FIRST, cap)
    while fits(size):
        if size == cap:
            return size, None
        good, size = size, min(2 * size, cap)
    bad = size
    while not good and size > 1:
        size //= 2
        if fits(size):
            good = size
        else:
            bad = size
    step = good
    for _ in range(2):
        step //= 2
        middle = good + step
        if step and middle < bad:
            if fits(middle):
                good = middle
            else:
                bad = middle
    return good, bad


class Trial:
    """Whether a step of so many samples fits: forward, backward and update, twice, as the second finds the optimizer's
    memory taken. The model is one of its own."""

    def __init__(self, program: Program, device: torch.device, example: dict[str, Tensor], samples: int) -> None:
        self.recipe: TrainRecipe = program.recipe.train
        self.device = device
        self.example = example
        free = free_bytes(device)
        self.room = SHARE * free - _resident(example, samples, free)
        self.taken = torch.cuda.memory_reserved(device) if device.type == "cuda" else 0
        model = program.module(seed=0).to(device)
        self.objective = make_objective(model, self.recipe, tuple(program.outputs), device)
        if wants_channels_last(self.recipe.channels_last, model, device):
            to_channels_last(model)
            self.objective = ChannelsLast(self.objective)
        Freezing(model, self.recipe).apply(epoch=10**9, step=10**9)  # what is unfrozen later needs its room then
        self.optimizer = make_optimizer(model, self.recipe.optimizer)
        self.scaler = make_scaler(self.recipe.precision, device)
        self.average = make_average(model, self.recipe.ema, self.recipe.swa)
        model.train()

    def __call__(self, size: int) -> bool:
        try:
            for _ in range(2):
                self._step(size)
            return self._peak() <= self.room
        except RuntimeError as error:  # torch.OutOfMemoryError is one, and libraries have others
            if not isinstance(error, torch.OutOfMemoryError) and "out of memory" not in str(error).lower():
                raise
            error.__traceback__ = None  # its frames hold what the step had made
            gc.collect()
            return False
        finally:
            self.optimizer.zero_grad(set_to_none=True)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats(self.device)

    def _step(self, size: int) -> None:
        batch = tiled(self.example, size)

        def closure() -> Tensor:
            self.optimizer.zero_grad(set_to_none=True)
            with autocast(self.recipe.precision, self.device)():
                loss = self.objective.loss(self.objective.forward(batch), batch)
            (loss if self.scaler is None else self.scaler.scale(loss)).backward()  # type: ignore[no-untyped-call]
            return loss

        if isinstance(self.optimizer, torch.optim.LBFGS):
            self.optimizer.step(closure)  # type: ignore[no-untyped-call]
        else:
            closure()
            if self.scaler is None:
                self.optimizer.step()
            else:
                self.scaler.step(self.optimizer)
                self.scaler.update()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _peak(self) -> float:
        return torch.cuda.max_memory_reserved(self.device) - self.taken if self.device.type == "cuda" else 0.0


def tiled(example: dict[str, Tensor], size: int) -> dict[str, Tensor]:
    """A batch of so many samples, made of those of a smaller one again and again."""
    return {name: value[torch.arange(size, device=value.device) % len(value)] for name, value in example.items()}


def _estimate(program: Program, among: int = 1) -> Callable[[int], bool]:
    room = SHARE_OF_CPU * free_bytes(torch.device("cpu")) / among

    def fits(size: int) -> bool:
        from netspec.costs import memory  # late: most runs say their batch size

        needed = memory(program, size).training
        if needed is None:
            raise RunError(
                "NS919",
                "what a training step of this model takes on a CPU is not known, so `batch_size: auto` finds nothing",
                help="state a number: `batch_size: 64`",
            )
        return needed <= room

    return fits


def _resident(example: dict[str, Tensor], samples: int, free: int) -> int:
    """About how much of a GPU's memory the data take, which lie there where that is no more than a quarter of it."""
    size = sum(value[0].numel() * value.element_size() for value in example.values()) * samples
    return size if size <= free // 4 else 0


def _power(number: int) -> int:
    """The largest power of two that is not above it."""
    return 1 << (number.bit_length() - 1)
