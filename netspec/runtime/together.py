"""Several processes make one update: each runs its part of the batch, and torch's `DistributedDataParallel` adds up.

The part's loss is weighed with its share of the batch, so that the mean of the gradients over the processes is the
gradient of the whole batch's mean, however unevenly it is cut. What stands here takes the places of an objective and of
a stream, so that the loop is the one of a single process.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn

from netspec.recipe.train import TrainRecipe
from netspec.runtime.data.seeds import mix
from netspec.runtime.errors import RunError
from netspec.runtime.objective import Batch, Objective, Outputs
from netspec.runtime.processes import Part, Processes, shared
from netspec.runtime.signals import Stop
from netspec.runtime.state import random_state, restore_random_state

if TYPE_CHECKING:
    from netspec.runtime.job import Stream

LAG: Final = 8
"""After so many updates a GPU's answer to whether all should stop is read: it has long been there, so nothing waits."""


class Outer:
    """An objective of which each process computes its part; the gradients come out as those of the whole batch.

    The loss is the part's mean times its weight: its mean over the processes is that of the whole batch.
    """

    def __init__(self, inner: Objective, processes: Processes, part: Part) -> None:
        self.inner = inner
        self.model = inner.model
        self.fields = inner.fields
        self.processes = processes
        self.part = part

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        loss, weight = self.inner.loss(outputs, batch), self.weight
        return loss if weight == 1 else loss * weight

    @property
    def weight(self) -> float:
        """What the part's mean is multiplied by: 1 where all parts are alike."""
        return self.part.own * self.processes.count / self.part.whole


class Together(Outer):
    """Each process has the whole model. `forward` goes through `DistributedDataParallel` where gradients are wanted.

    Elsewhere it goes past it.
    """

    def __init__(self, inner: Objective, processes: Processes, part: Part, arguments: Mapping[str, Any]) -> None:
        from torch.nn.parallel import DistributedDataParallel

        super().__init__(inner, processes, part)
        self.whole = DistributedDataParallel(Pass(inner), **arguments)

    def forward(self, batch: Batch) -> Outputs:
        if self.model.training and torch.is_grad_enabled():
            return self.whole(batch)
        return self.inner.forward(batch)

    def meet(self, last: bool) -> None:
        """Whether the next backward pass adds up the gradients: the last one of those that share an update does."""
        self.whole.require_backward_grad_sync = last


class Pass(nn.Module):
    """A pass through an objective as a module, so that what wraps it sees one forward pass, however often the objective
    applies the model."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.model = objective.model
        self._forward: Callable[[Batch], Outputs] = objective.forward

    def forward(self, batch: Batch) -> Outputs:
        return self._forward(batch)


def apart(objective: Objective) -> Objective:
    """The same objective as one process has it, for passes that the others do not make."""
    return objective.inner if isinstance(objective, Outer) else objective


class Shared:
    """A stream that keeps account of which part of each batch this process has, and tells who adds up when to do so."""

    def __init__(
        self,
        stream: Any,
        part: Part,
        processes: Processes,
        *,
        accumulate: int = 1,
        meet: Callable[[bool], None] | None = None,
    ) -> None:
        self.stream = stream
        self.part = part
        self.processes = processes
        self.accumulate = accumulate
        self.meet = meet

    @property
    def size(self) -> int:
        return int(self.stream.size)

    @property
    def batch_size(self) -> int:
        """The samples of a whole batch."""
        return int(self.stream.batch_size)

    @property
    def batches_per_epoch(self) -> int:
        return int(self.stream.batches_per_epoch)

    @property
    def fields(self) -> Mapping[str, Any]:
        fields: Mapping[str, Any] = self.stream.fields
        return fields

    @property
    def classes(self) -> Any:
        return self.stream.classes

    def batches(self, epoch: int, start: int = 0) -> Iterator[dict[str, Tensor]]:
        total = self.batches_per_epoch
        for number, batch in enumerate(self.stream.batches(epoch, start), start):
            self.part.own, self.part.whole = self._shares(number)
            if self.meet is not None:
                self.meet((number + 1) % self.accumulate == 0 or number + 1 == total)
            yield batch

    def _shares(self, number: int) -> tuple[int, int]:
        """What this process has of a batch and all have, without samples that can't be read, which are counted by all.

        Raises RunError NS926 in each process where they are too many.
        """
        own, whole = self.stream.own(number)
        unreadable = self.stream.unreadable
        if not unreadable.skips:
            return own, whole
        own -= min(self.stream.left_out, own)
        told = self.processes.sum(torch.tensor([own, unreadable.fresh]))
        if told[1]:
            try:
                unreadable.join(self.processes.all(unreadable.found))
            except RunError as error:
                raise shared(error) from None
        # Where none of a batch can be read, each takes the next that can, as one process does.
        return (own, int(told[0])) if told[0] else (1, self.processes.count)

    def locate(self, epoch: int, number: int, field: str, index: tuple[int, ...]) -> str:
        return str(self.stream.locate(epoch, number, field, index))

    def close(self) -> None:
        self.stream.close()


class Vote:
    """Whether the loss and the gradients are finite in all processes, and whether one was asked to stop.

    One number each, the largest of all: with each update, and with each batch of an evaluation. On a GPU the first is
    used there, and the second is read some updates later, so that nothing waits for it.
    """

    def __init__(self, processes: Processes, device: torch.device, stop: Stop) -> None:
        self.processes = processes
        self.stop = stop
        self.device = device
        self.asked: list[tuple[Tensor, Any]] = []

    def update(self, found: Tensor) -> None:
        """Put the answer of all into `found`, which is 1 where this process found a number that is not finite."""
        votes = torch.stack([found.reshape(()), torch.full_like(found.reshape(()), self.stop.asked)])
        self.processes.most(votes)
        found.copy_(votes[0])
        self._hear(votes[1])

    def ask(self) -> None:
        """Whether to stop, alone."""
        self._hear(self.processes.most(torch.full((), float(self.stop.asked), device=self.device)))

    def _hear(self, answer: Tensor) -> None:
        if self.device.type != "cuda":
            self.stop.signal = self.stop.signal or int(answer)
            return
        kept = torch.empty((), pin_memory=True)
        kept.copy_(answer, non_blocking=True)
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        self.asked.append((kept, event))
        if len(self.asked) > LAG:
            value, event = self.asked.pop(0)
            event.synchronize()
            self.stop.signal = self.stop.signal or int(value)


def random_states(processes: Processes, device: torch.device) -> dict[str, Any]:
    """The generators of this process, and of a run's others, in the order of their ranks."""
    states = processes.all(random_state(device))
    return {"random": states[0], **({"random_others": states[1:]} if len(states) > 1 else {})}


def own_random_state(
    processes: Processes, seed: int, start: Mapping[str, Any], saved: Mapping[str, Any], device: torch.device
) -> Mapping[str, Any]:
    """With which state of its generators a process trains: the saved one of its rank, else one of its own.

    `start` is that of the first process. The draws of a dropout differ between the processes.
    """
    if processes.rank == 0:
        return start
    others = saved.get("random_others", ())
    if processes.rank <= len(others):
        found: Mapping[str, Any] = others[processes.rank - 1]
        return found
    import numpy

    before = random_state(device)
    own = mix(seed, processes.rank, int(saved.get("progress", {}).get("batch", 0)))
    torch.manual_seed(own)
    random.seed(own)
    numpy.random.seed(own % 2**32)
    found = random_state(device)
    restore_random_state(before, device)
    return found


def check_parts(model: nn.Module, stream: Stream, processes: Processes) -> None:
    """A batch norm cannot be trained on one sample of one place. Raises RunError NS952."""
    smallest = stream.batch_size // processes.count
    flat = [name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm1d)]
    if smallest == 1 and flat:
        raise RunError(
            "NS952",
            f"{processes} get one sample each of a batch of {stream.batch_size}; `{flat[0]}`, a BatchNorm1d, needs two",
            help="a larger batch, fewer processes, or `sync_batchnorm: true`",
            path=flat[0],
        )


def synchronised(model: nn.Module, recipe: TrainRecipe) -> nn.Module:
    """The model with batch norms over the whole batch of all processes, where the recipe wants that.

    They have the parameters, the buffers and the names of those that they replace.
    """
    if not recipe.sync_batchnorm:
        return model
    for path, module in list(model.named_modules()):
        if not isinstance(module, nn.modules.batchnorm._BatchNorm) or isinstance(module, nn.SyncBatchNorm):
            continue
        if all(tensor.device.type == "cpu" for tensor in module.state_dict().values()):
            module.__class__ = Synchronised
            continue
        made: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
        if not path:
            return made
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, made)
    return model


class Synchronised(nn.modules.batchnorm._BatchNorm):
    """What torch's `SyncBatchNorm`, which knows GPUs alone, computes, on the CPU.

    The sums go through an all-reduce that passes gradients back.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected at least 2D input (got {input.dim()}D input)")

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        self._check_input_dim(input)
        axes = [axis for axis in range(input.dim()) if axis != 1]
        shape = [1, -1, *[1] * (input.dim() - 2)]
        sums = torch.cat([input.sum(axes), input.new_tensor([input.numel() / input.shape[1]])])
        sums = _Sum.apply(sums)
        count = sums[-1].detach()
        mean = sums[:-1] / count
        centred = input - mean.view(shape)
        variance = _Sum.apply(centred.square().sum(axes)) / count
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            with torch.no_grad():
                factor = self.momentum if self.momentum is not None else 0.0
                if self.num_batches_tracked is not None:
                    self.num_batches_tracked.add_(1)
                    factor = 1.0 / float(self.num_batches_tracked) if self.momentum is None else factor
                self.running_mean.lerp_(mean, factor)
                self.running_var.lerp_(variance * count / (count - 1), factor)
        found: Tensor = centred * (variance + self.eps).rsqrt().view(shape)
        return found if self.weight is None else found * self.weight.view(shape) + self.bias.view(shape)


class _Sum(torch.autograd.Function):
    """The sum over all processes; the gradient of each is the sum of theirs."""

    @staticmethod
    def forward(_: Any, value: Tensor) -> Tensor:
        return _summed(value)

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        return _summed(gradient)


def _summed(value: Tensor) -> Tensor:
    total = value.contiguous().clone()
    torch.distributed.all_reduce(total)
    return total
