"""CUDA graphs: the work of a step is recorded once and then launched whole, in place of a launch for each kernel.

A recording reads and writes fixed memory, so batches are copied into tensors of its own. With a fused optimizer the
whole step is recorded: forward, backward, clipping, the look for numbers that are not finite, the update. With a
scaler, with batches that share an update, or with another optimizer, it is forward and backward, and the rest is done
as always.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Protocol

import torch
from torch import Tensor

from netspec.recipe.train import Scheduler, TrainRecipe
from netspec.runtime.clipping import clip
from netspec.runtime.objective import Batch, Outputs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from netspec.runtime.job import Job

WARM: Final = 3
"""So many steps run unrecorded first: libraries choose their kernels and take their memory, the optimizer its own."""
MOVING: Final = ("OneCycleLR", "CyclicLR")
"""Schedulers that may move the momentum as well, which a recorded update would keep as it was."""


class Recorder(Protocol):
    """What keeps the work of a device and does it again."""

    def beside(self) -> AbstractContextManager[None]:
        """Where work is done that is about to be recorded."""

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Note down what the work launches, without doing it; the result does it. Raises RuntimeError where work can't
        be recorded, as it waits for the device."""


class CudaRecorder:
    """Records on a stream of its own, on which the steps before ran as well: what autograd keeps of them names it."""

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    @contextmanager
    def beside(self) -> Iterator[None]:
        self.stream.wait_stream(torch.cuda.current_stream(self.stream.device))
        with torch.cuda.stream(self.stream):
            yield
        torch.cuda.current_stream(self.stream.device).wait_stream(self.stream)

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        graph = torch.cuda.CUDAGraph()  # knows the default generator: each replay moves it on as the work would
        pool = torch.cuda.graph_pool_handle()
        try:
            # `beside` as well, since a recording that fails leaves its stream the current one. The thread that takes
            # batches into pinned memory asks for some meanwhile, which only `thread_local` lets pass.
            with (
                self.beside(),
                torch.cuda.graph(graph, pool=pool, stream=self.stream, capture_error_mode="thread_local"),
            ):
                work()
        except BaseException:
            self._end(pool)
            raise
        return graph.replay

    def _end(self, pool: Any) -> None:
        """Take back what a recording that failed has left in torch: its generator would refuse to draw from then on,
        and its memory would keep that of others from being given back."""
        index = self.stream.device.index
        generator = torch.cuda.default_generators[index]
        generator.graphsafe_set_state(generator.clone_state())
        with suppress(RuntimeError):  # where the recording has ended in order
            torch._C._cuda_endAllocateToPool(index, pool)


class Graphs:
    """The steps of a job, recorded where they can be: whole batches, all of one shape.

    A step is asked about by `takes`, and done by `run`. The first few and all others run as without; the rates are
    read from the device in each of them, so that a step gives the same numbers either way. Where nothing can be
    recorded, one line says why.
    """

    def __init__(self, job: Job, recorder: Recorder, *, whole: bool, size: int, say: Callable[[str], None]) -> None:
        self.job = job
        self.recorder = recorder
        self.whole = whole
        self.size = size
        self.say = say
        self.working = True
        self.parameters = [p for group in job.optimizer.param_groups for p in group["params"]]
        self.batch: dict[str, Tensor] = {}
        """What the recording reads."""
        self.outputs: Outputs = None
        self.loss: Tensor = torch.zeros(())
        self.gradients: list[Tensor] = []
        self.trained: list[Tensor] = []
        """The parameters that have `gradients`."""
        self.sums: list[Tensor] = []
        """Gradients of several batches."""
        self.replay: Callable[[], None] | None = None
        self.warmed = 0
        self.still: object = None
        self.settings: list[dict[str, Any]] = []
        self.rates = Rates(job.optimizer) if whole else None

    def takes(self, batch: Batch) -> bool:
        """Whether the batch is one of those that are recorded."""
        if not self.working or len(batch[self.job.objective.fields[0]]) != self.size:
            return False
        if self.job.freezing.still != self.still:
            self.still = self.job.freezing.still
            self._forget()
        if not self.batch:
            self.batch = {name: value.clone() for name, value in batch.items()}
        return all(
            name in batch and batch[name].shape == value.shape and batch[name].dtype == value.dtype
            for name, value in self.batch.items()
        )

    def run(self, batch: Batch) -> tuple[Outputs, Tensor]:
        """Forward and backward, and the update where that is `whole`: what the model gave, and the loss, which the
        next run overwrites. Gradients are added to what the parameters have, as `backward` does."""
        for name, value in self.batch.items():
            value.copy_(batch[name], non_blocking=True)
        before = [p.grad for p in self.parameters]
        for p in self.parameters:
            p.grad = None
        if self.whole and self.settings and _settings(self.job.optimizer) != self.settings:
            self._forget()
        if self.replay is None and self.warmed >= WARM:
            self._record()
        if self.replay is not None:
            if self.rates is not None:
                self.rates.fill()
                self.job.guard.step += 1
            self.replay()
        else:
            self._run_beside()
        if not self.whole:
            self._hand_over(before)
        # The loop adds up the losses of batches that share an update, and looks at their sum.
        return self.outputs, self.loss if self.job.recipe.accumulate == 1 else self.loss.clone()

    def _run_beside(self) -> None:
        self.warmed += 1
        drawn = _host_draws()
        with self.recorder.beside():
            self._work()
        if self.working and _host_draws() != drawn:
            self._give_up("the model draws random numbers from Python's or numpy's generator, which no graph can")

    def _record(self) -> None:
        job, step = self.job, self.job.guard.step
        try:
            with _capturable(job.optimizer):
                if self.rates is not None:
                    self.rates.recording = True
                self.replay = self.recorder.record(self._work)
            self.settings = _settings(job.optimizer)
        except RuntimeError as error:
            first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
            self._give_up(first)
            for p in self.parameters:
                p.grad = None
        finally:
            job.guard.step = step
            if self.rates is not None:
                self.rates.recording = False
                self.rates.put_back()

    def _work(self) -> None:
        job, recipe = self.job, self.job.recipe
        with job.context():
            outputs = job.objective.forward(self.batch)
            loss = job.objective.loss(outputs, self.batch)
        scaled = loss if recipe.accumulate == 1 else loss / recipe.accumulate
        (scaled if job.scaler is None else job.scaler.scale(scaled)).backward()  # type: ignore[no-untyped-call]
        self.trained = [p for p in self.parameters if p.grad is not None]
        self.gradients = [p.grad for p in self.trained if p.grad is not None]
        if self.whole:
            if recipe.clip_grad is not None:
                clip(self.parameters, recipe.clip_grad)
            job.guard.check(loss.detach(), self.gradients)
            job.optimizer.step()
        # Free of the graph that autograd made, which would tie the next pass to the stream of this one.
        self.outputs, self.loss = detached(outputs), loss.detach()

    def _hand_over(self, before: list[Tensor | None]) -> None:
        """Give the parameters their gradients; where several batches share an update, in tensors that are not written
        by the next replay."""
        if self.job.recipe.accumulate == 1:
            for p, gradient in zip(self.trained, self.gradients, strict=True):
                p.grad = gradient
            return
        had = {id(p): grad for p, grad in zip(self.parameters, before, strict=True) if grad is not None}
        if had:
            sums = [had[id(p)] for p in self.trained]
            torch._foreach_add_(sums, self.gradients)
        else:
            if len(self.sums) != len(self.gradients):
                self.sums = [torch.empty_like(gradient) for gradient in self.gradients]
            sums = self.sums
            torch._foreach_copy_(sums, self.gradients)
        for p, total in zip(self.trained, sums, strict=True):
            p.grad = total

    def _forget(self) -> None:
        """Begin anew: what is trained, or how, has changed."""
        self.replay, self.warmed, self.settings, self.sums = None, 0, [], []

    def _give_up(self, why: str) -> None:
        self.working, self.replay, self.warmed = False, None, 0
        self.say(f"`cuda_graphs` does not work here, so each kernel is launched by itself: {why}")


class Rates:
    """The learning rates of an optimizer as tensors on its device, in every step, so that a recording reads them there.

    The groups hold numbers between two steps, as schedulers and checkpoints want them.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        device = next(p.device for group in optimizer.param_groups for p in group["params"])
        # CUDA's kernels read a rate in 32 bits.
        dtype = torch.float32 if device.type == "cuda" else torch.float64
        self.tensors = [torch.zeros((), dtype=dtype, device=device) for _ in optimizer.param_groups]
        self.filled: list[float | None] = [None] * len(self.tensors)
        self.held: list[Any] = []
        self.recording = False
        optimizer.register_step_pre_hook(self._before)
        optimizer.register_step_post_hook(self._after)

    def fill(self) -> None:
        """Have the tensors hold the groups' rates."""
        for index, (tensor, group) in enumerate(zip(self.tensors, self.optimizer.param_groups, strict=True)):
            if group["lr"] != self.filled[index]:
                tensor.fill_(group["lr"])
                self.filled[index] = group["lr"]

    def put_back(self) -> None:
        """Have the groups hold numbers again."""
        for group, rate in zip(self.optimizer.param_groups, self.held, strict=False):
            group["lr"] = rate
        self.held = []

    def _before(self, *_: object) -> None:
        if not self.recording:
            self.fill()
        self.held = [group["lr"] for group in self.optimizer.param_groups]
        for group, tensor in zip(self.optimizer.param_groups, self.tensors, strict=True):
            group["lr"] = tensor

    def _after(self, *_: object) -> None:
        self.put_back()


def make_graphs(job: Job, say: Callable[[str], None]) -> Graphs | None:
    """Graphs for a job whose recipe asks for them; None, after a line that says why, where they can't be made."""
    if not job.recipe.cuda_graphs:
        return None
    why = refusal(job)
    if why is not None:
        say(f"`cuda_graphs` does not work here, so each kernel is launched by itself: {why}")
        return None
    size = min(job.train.batch_size, job.train.size)
    return Graphs(job, make_recorder(job.device), whole=takes_whole(job), size=size, say=say)


def make_recorder(device: torch.device) -> Recorder:
    return CudaRecorder(device)


def refusal(job: Job) -> str | None:
    """Why no step of a job can be recorded, as far as it is known beforehand."""
    if job.device.type != "cuda":
        return f"the device is {job.device}, and they are CUDA's"
    if isinstance(job.optimizer, torch.optim.LBFGS):
        return "LBFGS decides from the loss how often it runs the model"
    if job.guard.sparse:
        return "how many rows a sparse gradient has is known to the device alone"
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return "several processes train together"
    return None


def takes_whole(job: Job) -> bool:
    """Whether the update can be recorded too: it has to look at its gradients on the device, and keep its settings."""
    recipe = job.recipe
    return job.guard.deferred and job.scaler is None and recipe.accumulate == 1 and not _moves(recipe)


def _moves(recipe: TrainRecipe) -> bool:
    def named(scheduler: Scheduler) -> Iterator[str]:
        yield scheduler.type
        for part in scheduler.arguments.get("schedulers", ()):
            yield from named(part)

    return recipe.scheduler is not None and any(name in MOVING for name in named(recipe.scheduler))


def _settings(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """What a recorded update has taken from the groups; the rates it reads anew."""
    left = ("params", "lr", "initial_lr", "swa_lr")
    return [{name: value for name, value in group.items() if name not in left} for group in optimizer.param_groups]


@contextmanager
def _capturable(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Have the optimizer take part in a recording; a fused one does the same things either way."""
    groups = [group for group in optimizer.param_groups if "capturable" in group]
    stated = [group["capturable"] for group in groups]
    for group in groups:
        group["capturable"] = True
    try:
        yield
    finally:
        for group, was in zip(groups, stated, strict=True):
            group["capturable"] = was


def _host_draws() -> tuple[object, ...]:
    """The states of the generators that no recording advances."""
    found: tuple[object, ...] = (random.getstate(),)
    if "numpy" in sys.modules:
        state = sys.modules["numpy"].random.get_state()
        found += (state[1].tobytes(), state[2])
    return found


def detached(value: Any) -> Any:
    """A tensor, or a structure of tensors, without what autograd knows of it."""
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, Mapping):
        return {name: detached(item) for name, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*[detached(item) for item in value])
    if isinstance(value, list | tuple):
        return type(value)(detached(item) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{one.name: detached(getattr(value, one.name)) for one in fields(value)})
    return value
