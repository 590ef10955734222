"""Numbers that are not finite: find them before they reach the weights, and say where they came from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from netspec.runtime.errors import RunError
from netspec.runtime.objective import Batch, Objective
from netspec.runtime.objective_graph import Found


class Buffers:
    """The buffers of a model as they were before an update: a batch that is not finite spoils running means as well.

    Withholding the update leaves the weights alone; `restore` does the same for what the forward pass has written.
    """

    def __init__(self, model: nn.Module, withheld: int) -> None:
        self.withheld = withheld
        self.live = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
        self.kept = [buffer.clone() for buffer in self.live]

    def keep(self) -> None:
        if self.live:
            torch._foreach_copy_(self.kept, self.live)

    def restore(self) -> None:
        if self.live:
            torch._foreach_copy_(self.live, self.kept)

    def look(self, withheld: int) -> None:
        """Where the guard's answer stays on the device: go back if more updates were withheld since the last look."""
        if withheld > self.withheld:
            self.restore()
        else:
            self.keep()
        self.withheld = withheld


class Guard:
    """Says of each update whether its loss and gradients are finite, without waiting for a GPU where it need not.

    `check` answers at once, or with `deferred` always yes: then a fused optimizer reads the answer on the device and
    leaves the weights alone, and the count is read when the log is written. withheld, step: where a resumed run stands.
    sparse: some gradients hold the rows alone that are not zero. scaled: a `GradScaler` withholds updates, as it does
    in search of its factor too, so that `note` asks in place of `check`.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        device: torch.device,
        *,
        deferred: bool,
        withheld: int,
        step: int,
        sparse: bool = False,
        scaled: bool = False,
    ) -> None:
        self.deferred = deferred
        self.found = torch.zeros((), device=device)
        self.one = torch.ones((), device=device)
        self.kernel = device.type in ("cpu", "cuda")
        self.sparse = sparse
        self.withheld = withheld
        """How many updates were withheld, as of the last `read`."""
        self.step = step
        """Number of updates asked about, withheld ones included."""
        self.last = 0
        """The number of the last one that was withheld, as of the last `read`."""
        if deferred:
            if not scaled:
                # A fused optimizer leaves everything as it is where this is 1 (torch.amp.GradScaler relies on it).
                optimizer.found_inf = self.found  # type: ignore[attr-defined]
                optimizer.grad_scale = None  # type: ignore[attr-defined]
            self._count = torch.tensor(float(withheld), dtype=torch.float64, device=device)
            self._step = torch.tensor(float(step), dtype=torch.float64, device=device)
            self._last = torch.zeros((), dtype=torch.float64, device=device)

    def check(self, loss: Tensor, gradients: list[Tensor]) -> bool:
        """Whether the update may be made; on a GPU with a fused optimizer always, as that one looks for itself.

        loss: detached, a tensor of shape [].
        """
        found = self.found
        if self.deferred:
            found.zero_()
        self.step += 1
        if self.sparse:
            gradients = [gradient._values() if gradient.is_sparse else gradient for gradient in gradients]
        if self.kernel:
            # One kernel looks at all gradients and multiplies them with one, some ten times faster than their norm.
            torch._amp_foreach_non_finite_check_and_unscale_([*gradients, loss], found, self.one)
        else:
            found += 1 - torch.stack([g.isfinite().all() for g in (*gradients, loss)]).all().float()
        return self._counted(found)

    def note(self, loss: Tensor, buffers: list[Tensor]) -> bool:
        """Whether an update that a scaler has made or withheld was sound: gradients that its factor has made infinite
        are its own affair, but not a loss or the buffers that forward passes have written.

        loss: detached, a tensor of shape []. The answer comes as that of `check` does.
        """
        self.step += 1
        largest = torch._foreach_norm(buffers, float("inf")) if buffers else ()
        sound = torch.stack([loss.float(), *(number.float() for number in largest)]).isfinite().all()
        return self._counted(self.found.copy_(sound.logical_not()))

    def _counted(self, found: Tensor) -> bool:
        if self.deferred:
            self._count += found
            self._step += 1
            torch.maximum(self._last, found * self._step, out=self._last)
            return True
        if found.item():
            found.zero_()
            self.withheld += 1
            self.last = self.step
            return False
        return True

    def read(self) -> int:
        """The number of updates withheld in this run so far: a synchronisation on a GPU."""
        if self.deferred:
            self.withheld, self.last = int(self._count.item()), int(self._last.item())
        return self.withheld


def explain(objective: Objective, batch: Batch, withheld: int, place: str) -> RunError:
    """The error that names the batch, and the first layer whose output or weight whose gradient is not finite.

    The batch is run once more. What a dropout draws differs this time, so nothing may be found; then that is said.
    """
    found = _first(objective, batch)
    where = f": {found[0]}" if found else ", and with other random numbers the same batch is finite"
    return RunError(
        "NS902",
        f"{withheld} update{'s were' if withheld != 1 else ' was'} withheld: "
        f"the loss or a gradient was not finite, the last time at {place}{where}",
        help="a smaller learning rate or a warm-up often mends it; where a batch itself is named, look at the data",
        path=found[1] if found else None,
    )


def _first(objective: Objective, batch: Batch) -> tuple[str, str | None] | None:
    """What the first number is that is not finite, in words, and the path of its layer where it has one."""
    for name, value in batch.items():
        if not _finite(value):
            return f"the field `{name}` of the batch itself holds a number that is not finite", None
    for name, value in objective.model.named_parameters():
        if not _finite(value):
            return f"the weight `{name}` is not finite", name.rpartition(".")[0]
    bad: list[tuple[str, str]] = []

    def look(path: str) -> Any:
        def hook(module: nn.Module, _: object, output: object) -> None:
            if not bad and not all(_finite(value) for value in _tensors(output)):
                words = f"the first layer whose output is not finite is `{path}` ({type(module).__name__})"
                bad.append((words, path))

        return hook

    modules = [(path, module) for path, module in objective.model.named_modules() if not list(module.children())]
    hooks = [module.register_forward_hook(look(path or "model")) for path, module in modules]
    try:
        outputs = objective.forward(batch)
        loss = objective.loss(outputs, batch)
    finally:
        for handle in hooks:
            handle.remove()
    if bad:
        return bad[0]
    if not all(_finite(value) for value in _tensors(outputs.outputs if isinstance(outputs, Found) else outputs)):
        return "the model's output is not finite, while the output of each of its modules is", None
    if not _finite(loss):
        return "the loss is not finite, while the model's output is", None
    objective.model.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    wrong = [n for n, p in objective.model.named_parameters() if p.grad is not None and not _finite(p.grad)]
    objective.model.zero_grad()
    # The backward pass reaches the last layer first.
    if not wrong:
        return None
    return f"the loss is finite; the first gradient that is not is that of `{wrong[-1]}`", wrong[-1].rpartition(".")[0]


def _finite(value: Tensor) -> bool:
    return not value.is_floating_point() or bool(value.isfinite().all())


def _tensors(output: object) -> Iterable[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Sequence):
        for item in output:
            yield from _tensors(item)
