"""The processes that train one model together: who this one is, and all that they tell each other.

The rest of the runtime asks a `Processes`. With one process each method gives back what it gets, without a call to
torch.distributed, which is imported only where there are several. `torchrun`, `netspec train --nproc` and others that
set its variables say how many there are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final, TypeVar

import torch
from torch import Tensor

from netspec.runtime.errors import RunError
from netspec.runtime.state import pack, unpack

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Processes:
    """This process among the others of a run; `count` is 1 where it is alone."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    """Its number on this machine, which is that of its GPU."""
    local_count: int = 1
    launch: str | None = None
    """What names the launch, through all of its restarts."""
    restarts: int = 0
    """How often the processes of this launch have been started anew."""
    group: Any = None
    """What they talk through; torch's default group where it is None."""

    @property
    def writes(self) -> bool:
        """Whether this is the one process that writes files and says what happens."""
        return self.rank == 0

    def __str__(self) -> str:
        return f"{self.count} processes" if self.count > 1 else "1 process"

    def sum(self, value: Tensor) -> Tensor:
        """The sum over all processes, alike in each; `value` itself stays as it is."""
        if self.count == 1:
            return value
        total = value.clone()
        _distributed().all_reduce(total, group=self.group)
        return total

    def most(self, value: Tensor) -> Tensor:
        """Put the largest of all processes into `value`, number by number, without waiting for a GPU."""
        if self.count > 1:
            distributed = _distributed()
            distributed.all_reduce(value, op=distributed.ReduceOp.MAX, group=self.group)
        return value

    def all(self, value: T) -> list[T]:
        """What each process gives, in the order of their ranks; tensors come on the CPU."""
        if self.count == 1:
            return [value]
        found: list[Any] = [None] * self.count
        _distributed().all_gather_object(found, _on_cpu(value), group=self.group)
        return found

    def gathered(self, value: T) -> list[T]:
        """What each process gives, for the first one; nothing for the others."""
        if self.count == 1:
            return [value]
        found: list[Any] | None = [None] * self.count if self.writes else None
        _distributed().gather_object(value, found, dst=0, group=self.group)
        return found or []

    def earliest(self, found: tuple[int, T] | None) -> tuple[int, T] | None:
        """What comes first of what the processes have found, each with its place in an order; None for nothing."""
        return min((one for one in self.all(found) if one is not None), key=lambda one: one[0], default=None)

    def first(self, work: Callable[[], T]) -> T:
        """What `work` gives in the first process, in all of them; the others do not do it.

        A RunError that it raises there is raised in all of them.
        """
        if self.count == 1:
            return work()
        told: list[Any] = [None]
        if self.writes:
            try:
                told[0] = (work(), None)
            except RunError as error:
                told[0] = (None, (error.code, error.message, error.help, error.path))
        _distributed().broadcast_object_list(told, src=0, group=self.group)
        result, failure = told[0]
        if failure is not None:
            code, message, help, path = failure
            raise shared(RunError(code, message, help=help, path=path))
        found: T = result
        return found

    def tree(self, tree: Any) -> Any:
        """A tree of plain values and tensors of the first process, in all; the tensors come one by one, on the CPU."""
        if self.count == 1:
            return tree
        plan: Any = None
        tensors: dict[str, Tensor] = {}
        if self.writes:
            plain, tensors = pack(tree)
            plan = plain, {name: (value.shape, value.dtype) for name, value in tensors.items()}
        plain, shapes = self.first(lambda: plan)
        for name, (shape, dtype) in shapes.items():
            value = tensors[name].detach().cpu().contiguous() if self.writes else torch.empty(shape, dtype=dtype)
            tensors[name] = value
            if value.numel():
                _distributed().broadcast(value.reshape(-1).view(torch.uint8), src=0, group=self.group)
        return tree if self.writes else unpack(plain, tensors)

    def same(self, tensors: list[Tensor]) -> None:
        """Put the first process's tensors into those of all, on whichever device they are."""
        if self.count > 1:
            for tensor in tensors:
                _distributed().broadcast(tensor, src=0, group=self.group)

    def wait(self) -> None:
        """Return when all have come here."""
        if self.count > 1:
            _distributed().barrier(group=self.group)

    def apart(self) -> Processes:
        """The same processes with a line of their own over the network, for a thread that talks while training does.

        All make it together. What goes over one line is in the same order in each process; what goes over two is not.
        """
        if self.count == 1:
            return self
        return replace(self, group=_distributed().new_group(backend="gloo", timeout=PATIENCE))


ALONE = Processes()
PATIENCE: Final = timedelta(hours=2)
"""How long a thread that writes waits for those of other processes, which may have slower disks."""


@dataclass(slots=True)
class Part:
    """What this process has of the batch at hand: `own` of its `whole` samples.

    Where a batch has fewer samples than there are processes, one that gets none borrows a sample, so that it takes part
    in what all do together; `own` is 0 then, and the sample counts for nothing.
    """

    own: int = 1
    whole: int = 1


def shared(error: RunError) -> RunError:
    """The error as one that all processes raise, so that the first alone has to tell it."""
    error.shared = True
    return error


def found_processes() -> Processes:
    """What the environment says, in torchrun's variables; alone where it says nothing.

    Raises RunError NS950 where they are not all there, or are no numbers.
    """
    given = os.environ
    if given.get("WORLD_SIZE", "1") == "1" or "RANK" not in given:
        return Processes(launch=given.get("TORCHELASTIC_RUN_ID"), restarts=_restarts())
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in given]
    try:
        rank, count = int(given["RANK"]), int(given["WORLD_SIZE"])
        local_rank = int(given.get("LOCAL_RANK", given["RANK"]))
        local_count = int(given.get("LOCAL_WORLD_SIZE", given["WORLD_SIZE"]))
    except ValueError as error:
        raise RunError(
            "NS950", f"RANK, WORLD_SIZE and LOCAL_RANK are numbers: {error}", help="torchrun and srun set them"
        ) from error
    if missing or not 0 <= rank < count:
        what = f"{' and '.join(missing)} not set" if missing else f"RANK is {rank}"
        raise RunError(
            "NS950",
            f"the environment says that this is one of {count} processes, with {what}",
            help="start them with `netspec train --nproc`, or with torchrun; or unset WORLD_SIZE",
        )
    return Processes(
        rank=rank,
        count=count,
        local_rank=local_rank,
        local_count=min(local_count, count),
        launch=given.get("TORCHELASTIC_RUN_ID"),
        restarts=_restarts(),
    )


def _restarts() -> int:
    text = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return int(text) if text.isdecimal() else 0


@contextmanager
def joined(processes: Processes, device: torch.device) -> Iterator[Processes]:
    """While it is open the processes can talk: through gloo on the CPU, and through NCCL between GPUs.

    A group that the program has made already is used, and left as it is.
    """
    if processes.count == 1:
        yield processes
        return
    distributed = _distributed()
    if distributed.is_initialized():
        yield processes
        return
    met: dict[str, Any] = {}
    if processes.restarts and os.environ.get("GROUP_WORLD_SIZE") == "1":
        # torchrun's agent keeps its store through restarts, with the addresses of those that were lost.
        store, rank, count = next(distributed.rendezvous("env://"))
        store = distributed.PrefixStore(f"restart {processes.restarts}", store)
        met = {"store": store, "rank": rank, "world_size": count}
    if device.type == "cuda":
        torch.cuda.set_device(device)
        distributed.init_process_group("cpu:gloo,cuda:nccl", device_id=device, **met)
    else:
        distributed.init_process_group("gloo", **met)
    try:
        yield processes
        processes.wait()  # the first holds what the others find each other through
    finally:
        distributed.destroy_process_group()


def _distributed() -> Any:
    import torch.distributed

    return torch.distributed


def _on_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, dict):
        return {name: _on_cpu(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_on_cpu(one) for one in value)
    return value
