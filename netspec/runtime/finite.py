"""Numbers that are not finite, found before they reach the weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Buffers:
    """The buffers of a model as they were before an update: a batch that is not finite spoils running means as well.

    Withholding the update leaves the weights alone; `restore` does the same for what the forward pass has written.
    """

    def __init__(self, model: nn.Module, withheld: int) -> None:
        self.withheld = withheld
        self.live = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
        self.kept = [buffer.clone() for buffer in self.live]
        self.sound = [buffer for buffer in self.live if bool(buffer.isfinite().all())]
        """Those without an infinity from the start, as a mask has it."""

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
        sharded: bool = False,
    ) -> None:
        self.deferred = deferred
        self.agree: Callable[[Tensor], None] | None = None
        """Puts what all processes found into `found`, where several train together."""
        self.sharded = sharded
        """Whether gradients are cut, and this process has a part of each."""
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
            self.kept = torch.ones((), device=device)
            """1 where the last update was made, and 0 where it was withheld."""
            self._count = torch.tensor(float(withheld), dtype=torch.float64, device=device)
            self._since = torch.tensor(float(step), dtype=torch.float64, device=device)

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
        if self.sharded:
            gradients = [gradient.to_local() for gradient in gradients]  # type: ignore[attr-defined]
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
        if self.agree is not None:
            self.agree(found)
        if self.deferred:
            self._count += found
            torch.sub(self.one, found, out=self.kept)
            torch.addcmul(self.kept, self._since, self.kept, out=self._since)  # one more, or none
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
            self.withheld, self.last = int(self._count.item()), self.step - int(self._since.item())
        return self.withheld


class Sums:
    """The sums of an epoch where the guard's answer stays on the device: of the losses, and of the samples they are of.

    A batch whose update was withheld adds to neither, and nothing waits to know whether it was.
    """

    def __init__(self, guard: Guard, loss: Tensor, counted: int) -> None:
        self.guard = guard
        self.both = torch.stack([loss, torch.full_like(loss, counted)])
        self.loss, self.counted = self.both[0], self.both[1]
        self.row = torch.ones(2, device=loss.device)

    def add(self, loss: Tensor, size: int) -> None:
        """Add a batch, or several that share an update: their mean loss, of shape [], and their number of samples."""
        if self.row.dtype != loss.dtype:
            self.row = torch.ones(2, dtype=loss.dtype, device=loss.device)
        # What isn't finite is so after a multiplication with zero as well.
        torch.nan_to_num(loss, nan=0.0, posinf=0.0, neginf=0.0, out=self.row[0])
        self.both.addcmul_(self.row, self.guard.kept, value=size)
