"""`torch.compile` for the model of a run, which goes on without it, and says why, where that does not work.

The module stays what it is: its weights, their names and what a checkpoint holds are those of the plain module.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from netspec.recipe.train import Compile
from netspec.runtime.objective import Batch, Objective, Outputs
from netspec.runtime.processes import Part
from netspec.runtime.state import random_state, restore_random_state

LONGEST: Final = 240
"""Characters of a compiler's message that are told."""


def compiled(
    objective: Objective,
    rule: Compile | None,
    streams: Iterable[Any],
    device: torch.device,
    say: Callable[[str], None],
    situation: Callable[[], object] = lambda: None,
    part: Part | None = None,
    blocks: Sequence[nn.Module] | None = None,
) -> Objective:
    """The objective with its model compiled, where the recipe asks for it, else itself.

    streams: the splits that it will run on, whose whole batches are compiled for. situation: what beside the size of
    the batch and the model's mode makes torch compile anew, such as which weights are frozen. say: takes a line. part:
    what this process has of the batch at hand, where several share it. blocks: those of a sharded model, each of which
    is compiled by itself.
    """
    if rule is None:
        return objective
    sizes = None if rule.dynamic else frozenset(min(stream.batch_size, stream.size) for stream in streams)
    if blocks is not None:
        return CompiledBlocks(objective, blocks, rule, sizes, device, say, situation, part)
    return Compiled(objective, rule, sizes, device, say, situation, part)


class _Compiling:
    """What compiled objectives have in common: which passes are compiled, and that one failure ends it."""

    def __init__(
        self,
        objective: Objective,
        sizes: frozenset[int] | None,
        device: torch.device,
        say: Callable[[str], None],
        situation: Callable[[], object],
        part: Part | None,
    ) -> None:
        self.inner = objective
        self.model = objective.model
        self.fields = objective.fields
        self.sizes = sizes
        self.device = device
        self.say = say
        self.situation = situation
        self.part = part
        self.working = True
        """False from the first failure on."""
        self.hooks = [hooks for hooks in _hooks(self.model) if not hooks]

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        return self.inner.loss(outputs, batch)

    def size(self, batch: Batch) -> int:
        """The samples of the batch, those of all processes together: they compile, and try, at the same batches."""
        return len(batch[self.fields[0]]) if self.part is None else self.part.whole

    def takes(self, batch: Batch) -> bool:
        """Whether a pass through the batch is compiled."""
        return self.working and (self.sizes is None or self.size(batch) in self.sizes) and not any(self.hooks)

    def kind(self, size: int) -> tuple[object, ...]:
        """What kernels are made for."""
        return self.model.training, size, self.situation()

    def _give_up(self, error: Exception) -> None:
        self.working = False
        self.say(f"`compile` does not work here, so the model runs uncompiled: {reason(error)}")


class Compiled(_Compiling):
    """An objective whose model runs compiled.

    What is compiled depends on the batch alone, and not on what came before it, so that a resumed run gives the bits of
    one that was not cut: without `dynamic` the batches of `sizes` have kernels of their own, and others run as without
    `compile`. So does a pass through a model with hooks, which kernels would pass over.

    The first batch of a kind is tried, backward too, with all generators and buffers put back; where the compiler fails
    then or later, the model runs uncompiled from there on.
    """

    def __init__(
        self,
        objective: Objective,
        rule: Compile,
        sizes: frozenset[int] | None,
        device: torch.device,
        say: Callable[[str], None],
        situation: Callable[[], object],
        part: Part | None = None,
    ) -> None:
        super().__init__(objective, sizes, device, say, situation, part)
        self.tried: set[tuple[object, ...]] = set()
        self.call: Any = None
        try:
            self.model.compile(**options(rule))
            self.call = self.model._compiled_call_impl
        except Exception as error:
            self._give_up(error)
        # Whoever else calls the model, to draw what its layers give say, calls its layers.
        self.model._compiled_call_impl = None

    def forward(self, batch: Batch) -> Outputs:
        if not self.takes(batch):
            return self.inner.forward(batch)
        kind = self.kind(self.size(batch))
        if kind not in self.tried:
            self.tried.add(kind)
            self._try(batch)
        try:
            return self._compiled(batch)
        except torch._dynamo.exc.TorchDynamoException as error:
            self._give_up(error)
            return self.inner.forward(batch)

    def _compiled(self, batch: Batch) -> Outputs:
        self.model._compiled_call_impl = self.call
        try:
            return self.inner.forward(batch)
        finally:
            self.model._compiled_call_impl = None

    def _try(self, batch: Batch) -> None:
        """Run a batch forward, and backward where it is trained on, and leave everything as it was."""
        try:
            with _put_back(self.model, self.device):
                loss = self.inner.loss(self._compiled(batch), batch)
                weights = [p for p in self.model.parameters() if p.requires_grad]
                if loss.requires_grad and weights:
                    torch.autograd.grad(loss, weights, allow_unused=True)
        except Exception as error:  # whatever it is: what is wrong with the model itself shows without the compiler
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        super()._give_up(error)
        self.call = None


class CompiledBlocks(_Compiling):
    """An objective whose model runs with each of its blocks compiled, between the hooks by which torch puts a block's
    weights together and lets them go. So the processes may fail, and run uncompiled, each by itself."""

    def __init__(
        self,
        objective: Objective,
        blocks: Sequence[nn.Module],
        rule: Compile,
        sizes: frozenset[int] | None,
        device: torch.device,
        say: Callable[[str], None],
        situation: Callable[[], object],
        part: Part | None,
    ) -> None:
        super().__init__(objective, sizes, device, say, situation, part)
        self.now: tuple[object, ...] | None = None
        """What kind of pass is being made, where it is one that is compiled."""
        try:
            for module in blocks:
                module.forward = self._block(module, rule)
        except Exception as error:
            self._give_up(error)

    def forward(self, batch: Batch) -> Outputs:
        self.now = self.kind(self.size(batch)) if self.takes(batch) else None
        try:
            return self.inner.forward(batch)
        finally:
            self.now = None

    def _block(self, module: nn.Module, rule: Compile) -> Callable[..., Any]:
        plain = module.forward
        call = torch.compile(plain, **options(rule))
        tried: set[tuple[object, ...]] = set()

        @wraps(plain)
        def forward(*args: Any, **kwargs: Any) -> Any:
            if self.now is not None and self.working and self.now not in tried:
                tried.add(self.now)
                try:
                    _rehearse(module, call, args, kwargs, self.device)
                except Exception as error:
                    self._give_up(error)
            if self.now is None or not self.working:
                return plain(*args, **kwargs)
            try:
                return call(*args, **kwargs)
            except torch._dynamo.exc.TorchDynamoException as error:
                self._give_up(error)
                return plain(*args, **kwargs)

        return forward


def _rehearse(module: nn.Module, call: Callable[..., Any], args: Any, kwargs: Any, device: torch.device) -> None:
    """Run a block forward, and backward where it is trained, on tensors of its own, and leave everything as it was."""

    def apart(value: Any) -> Any:
        return value.detach().requires_grad_(value.requires_grad) if isinstance(value, Tensor) else value

    args, kwargs = tree_map(apart, (args, kwargs))
    with _put_back(module, device):
        found = [one for one in tree_leaves(call(*args, **kwargs)) if isinstance(one, Tensor) and one.requires_grad]
        wanted = [one for one in (*module.parameters(), *tree_leaves((args, kwargs))) if _trained(one)]
        if found and wanted:
            torch.autograd.grad([one.sum() for one in found], wanted, allow_unused=True)


def _trained(value: object) -> bool:
    return isinstance(value, Tensor) and value.requires_grad


def uncompiled(objective: Objective) -> Objective:
    """The same objective without the compiler, for passes that it was not made for."""
    return objective.inner if isinstance(objective, _Compiling) else objective


def options(rule: Compile) -> dict[str, Any]:
    """The arguments of `torch.compile`."""
    found: dict[str, Any] = {"backend": rule.backend, "dynamic": rule.dynamic, "fullgraph": rule.fullgraph}
    if rule.mode != "default":
        found["mode"] = rule.mode
    # Else all models of a process share the limit of how often a module's call is compiled.
    if "isolate_recompiles" in inspect.signature(torch.compile).parameters:
        found["isolate_recompiles"] = True
    return found


def reason(error: Exception) -> str:
    """Why a model could not be compiled, in one line: the compiler's words, and the line of the model if it names one.

    torch's message goes on with hints for its own developers.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    first = lines[0] if lines else type(error).__name__
    told = [re.sub(r"^backend='\w+' raised:$", "", first) or (lines[1] if len(lines) > 1 else first)]
    told += [line.partition(": ")[2] for line in lines if line.startswith("Explanation: ")][:1]
    text = ". ".join(part.rstrip(".") for part in told)
    text = text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
    places = re.findall(r'File "([^"]+)", line (\d+)', str(error))
    own = [(file, line) for file, line in places if file.endswith("model.py")]
    return f"{text} ({own[-1][0].rpartition('/')[2]}, line {own[-1][1]})" if own else text


def _hooks(model: nn.Module) -> Iterator[Mapping[int, object]]:
    """The tables in which the modules keep their hooks."""
    for module in model.modules():
        yield module._forward_hooks
        yield module._forward_pre_hooks
        yield module._backward_hooks
        yield module._backward_pre_hooks


@contextmanager
def _put_back(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Afterwards the generators and the model's buffers are as they were."""
    random = random_state(device)
    kept = [
        (module, name, buffer, buffer.clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    try:
        yield
    finally:
        restore_random_state(random, device)
        with torch.no_grad():
            for module, name, buffer, value in kept:
                module._buffers[name] = buffer
                if not torch.equal(buffer, value):  # a batch norm in 16 bits does not count its writes as versions
                    buffer.copy_(value)
