"""Where a number comes from that is not finite: the batch itself, a weight, or the first layer that gave one.

The pass is made once more, and looked at: each module's output by a hook, and between the modules each function of
torch, whose place the traceback tells.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from netspec.program import Node
from netspec.runtime import graph
from netspec.runtime.compiling import uncompiled
from netspec.runtime.cut import own_part
from netspec.runtime.errors import RunError
from netspec.runtime.load import SOURCE
from netspec.runtime.objective import Batch, Objective
from netspec.runtime.processes import ALONE, Processes
from netspec.runtime.state import random_state, restore_random_state

if TYPE_CHECKING:
    from netspec.runtime.job import Job, Stream


Locate = Callable[[str, tuple[int, ...]], str]
"""locate(field, index) -> the sample that a number of a batch belongs to, and its place in it."""

_FILLING: Final = ("full", "full_like", "new_full", "masked_fill", "fill", "where")
"""Functions by which a mask of infinities is made."""


class _Bad(Exception):
    """Something gave a number that is not finite. Raised where it did, so that the traceback tells the place."""

    def __init__(self, words: str, path: str | None = None) -> None:
        super().__init__(words)
        self.words = words
        self.path = path


@dataclass(frozen=True, slots=True)
class Culprit:
    """What gave the first number that is not finite, in words; the path of its layer where it has one."""

    words: str
    path: str | None = None
    error: _Bad | None = None
    """Of what is no module: its traceback tells the layer."""


def explain(found: Culprit | None, withheld: int, place: str) -> RunError:
    """The error that names the batch at a place, and the first layer whose output or weight whose gradient is not
    finite, where the batch was run once more and one was found. What a dropout draws differs then."""
    where = f": {found.words}" if found else ", and with other random numbers the same batch is finite"
    error = RunError(
        "NS902",
        f"{withheld} update{'s were' if withheld != 1 else ' was'} withheld: "
        f"the loss or a gradient was not finite, the last time at {place}{where}",
        help="a smaller learning rate or a warm-up often mends it; where a batch itself is named, look at the data",
        path=found.path if found else None,
    )
    error.__cause__ = found.error if found else None
    return error


def look_into(job: Job, split: str, figures: dict[str, float], stream: Stream) -> None:
    """Where the loss of an evaluation is not finite, tell once in a run which batch it was and which layer."""
    if math.isfinite(figures["loss"]) or job.told_of_evaluation:
        return
    job.told_of_evaluation = True
    drawn = random_state(job.device)
    try:
        _look_into(job, split, figures, stream)
    finally:
        restore_random_state(drawn, job.device)  # a run that goes on looks again, and draws no other numbers for it


def _look_into(job: Job, split: str, figures: dict[str, float], stream: Stream) -> None:
    objective, processes = uncompiled(job.objective), job.processes
    place = f"the loss of `{split}` after {job.progress.step} steps is {figures['loss']}"
    for number, batch in enumerate(stream.batches(0), 1):
        with torch.no_grad(), job.context():
            loss = objective.loss(objective.forward(batch), batch)
        if processes.most(1 - loss.isfinite().float()):
            locate = locator(stream, 0, number - 1)
            with job.context():
                found = culprit(objective, batch, gradients=False, locate=locate, processes=processes)
            words = found.words if found else "run once more it is finite"
            job.journal.warn(f"{place}, from batch {number} of {stream.batches_per_epoch} on: {words}")
            return
    job.journal.warn(f"{place}, though that of each batch is finite")


def locator(stream: Stream, epoch: int, number: int) -> Locate | None:
    """What tells which sample a number of a batch belongs to, where the stream knows."""
    locate = getattr(stream, "locate", None)
    return None if locate is None else partial(locate, epoch, number)


def culprit(
    objective: Objective,
    batch: Batch,
    *,
    gradients: bool,
    locate: Locate | None = None,
    processes: Processes = ALONE,
) -> Culprit | None:
    """What the first number is that is not finite, in the model's present mode; `gradients` are looked at as well.

    locate(field, index) says which sample a number of the batch belongs to. Several processes make the same pass to its
    end, each on its part of the batch: what any has found first counts.
    """
    alone = processes.count == 1
    found = processes.earliest(_before(objective, batch, locate))
    if found is not None:
        return found[1]
    looking = _Looking(objective.model, raises=alone)
    try:
        with looking, torch.set_grad_enabled(gradients):
            outputs = objective.forward(batch)
    except _Bad as error:
        return Culprit(error.words, error.path, error)
    if (found := processes.earliest(looking.found)) is not None:
        return found[1]
    with torch.set_grad_enabled(gradients):
        loss = objective.loss(outputs, batch)
    wrong = None if _finite(loss) else (0, Culprit("the loss is not finite, while the model's output is"))
    if (found := processes.earliest(wrong)) is not None:
        return found[1]
    if not gradients:
        return None
    objective.model.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    found = processes.earliest(_in_gradients(objective.model))
    objective.model.zero_grad()
    return found[1] if found is not None else None


def _before(objective: Objective, batch: Batch, locate: Locate | None) -> tuple[int, Culprit] | None:
    """What is wrong before the first layer, with its place in the order of such things."""
    for name, value in batch.items():
        if not _finite(value):
            at = tuple(torch.nonzero(~torch.isfinite(value))[0].tolist())
            where = f": {locate(name, at)}" if locate is not None and at else ""
            return 0, Culprit(f"the field `{name}` of the batch itself holds a number that is not finite{where}")
    for number, (name, value) in enumerate(objective.model.named_parameters(), 1):
        if not _finite(own_part(value)):
            return number, Culprit(f"the weight `{name}` is not finite", name.rpartition(".")[0])
    return None


def _in_gradients(model: nn.Module) -> tuple[int, Culprit] | None:
    """The backward pass reaches the last layer first."""
    for number, (name, parameter) in enumerate(reversed(list(model.named_parameters()))):
        if parameter.grad is not None and not _finite(own_part(parameter.grad)):
            words = f"the loss is finite; the first gradient that is not is that of `{name}`"
            return number, Culprit(words, name.rpartition(".")[0])
    return None


class _Looking(TorchFunctionMode):
    """While it is open, the first module or function that gives a number that is not finite raises `_Bad`.

    A module without children is one thing: what its `forward` calls is not looked at by itself. Without `raises` the
    pass goes on, and `found` has what gave the first one and when.
    """

    def __init__(self, model: nn.Module, *, raises: bool) -> None:
        super().__init__()
        self.raises = raises
        self.found: tuple[int, Culprit] | None = None
        self.looks = 0
        self.modules = [(path, module) for path, module in model.named_modules() if not list(module.children())]
        self.hooks: list[Any] = []
        self.inside = 0

    def __enter__(self) -> _Looking:
        for path, module in self.modules:
            self.hooks.append(module.register_forward_pre_hook(self._begins))
            self.hooks.append(module.register_forward_hook(self._ended(path or "model")))
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        for hook in self.hooks:
            hook.remove()

    def _begins(self, *_: object) -> None:
        self.inside += 1

    def _ended(self, path: str) -> Any:
        def hook(module: nn.Module, given: object, output: object) -> None:
            self.inside -= 1
            self.looks += 1
            if self.found is None and _arises(given, output):
                kind = type(module).__name__.removeprefix("FSDP" if hasattr(module, "reshard") else "")
                self._tell(f"the first layer whose output is not finite is `{path}` ({kind})", path)

        return hook

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        name = getattr(function, "__name__", str(function)).strip("_")
        if self.inside or self.found is not None or (not self.raises and _of_torch()):
            return result
        self.looks += 1
        if _arises([args, *(kwargs or {}).values()], result, name):
            self._tell(f"the first output that is not finite is that of {_step() or f'`{name}`'}{_line()}")
        return result

    def _tell(self, words: str, path: str | None = None) -> None:
        if self.raises:
            raise _Bad(words, path)
        self.found = self.looks, Culprit(words, path)


def _arises(inputs: object, output: object, name: str = "") -> bool:
    """Whether numbers that are not finite have come up here. An infinity that is filled in is a mask as a rule."""
    given, made = list(_tensors(inputs)), list(_tensors(output))
    if all(_finite(value) for value in made):
        return False
    if any(value.isnan().any() for value in made):
        return not any(value.isnan().any() for value in given)
    return name not in _FILLING and all(_finite(value) for value in given)


def _step() -> str:
    """The layer of the objective, or of a live model, that is being run; empty where no frame tells."""
    for frame in _frames():
        node = frame.f_locals.get("node")
        if frame.f_globals.get("__name__") == graph.__name__ and isinstance(node, Node):
            return f"the layer `{node.name}`"
    return ""


def _line() -> str:
    """The line of the emitted source that is being run."""
    found = next((f for f in _frames() if str(f.f_globals.get("__name__", "")).startswith(SOURCE)), None)
    return f" ({Path(found.f_code.co_filename).name}, line {found.f_lineno})" if found is not None else ""


def _of_torch() -> bool:
    """Whether torch itself is at work between the processes, whose memory may hold anything before it is filled."""
    for frame in _frames():
        home = str(frame.f_globals.get("__name__", ""))
        if home.startswith(SOURCE):
            return False
        if home.startswith("torch.distributed"):
            return True
    return False


def _frames() -> Iterator[FrameType]:
    frame = inspect.currentframe()
    while frame is not None:
        yield frame
        frame = frame.f_back


def _finite(value: Tensor) -> bool:
    return not value.is_floating_point() or bool(value.isfinite().all())


def _tensors(output: object) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Sequence) and not isinstance(output, str):
        for item in output:
            yield from _tensors(item)
