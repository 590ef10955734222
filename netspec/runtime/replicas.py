"""`distribute` in one process: a copy of the model on each GPU for every batch, by `data_parallel`, or a line of it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from netspec.runtime.errors import RunError
from netspec.runtime.objective import Batch, Objective, Outputs, Terms


class Replicas:
    """An objective whose model runs through torch's `DataParallel`, which copies it to all GPUs for each batch.

    Raises RunError NS952 for an objective of layers: what a copy gives stays on its GPU.
    """

    def __init__(self, inner: Objective) -> None:
        if not isinstance(inner, Terms):
            raise RunError(
                "NS952",
                "`data_parallel` copies the model alone, and `train.layers` or `compile` have more",
                help="`distribute: ddp` with --nproc, which is faster as well",
            )
        self.inner = inner
        self.model = inner.model
        self.fields = inner.fields
        self.copies = nn.DataParallel(inner.model)

    def forward(self, batch: Batch) -> Outputs:
        return self.copies(*[batch[field] for field in self.fields])

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        return self.inner.loss(outputs, batch)


def replicated(objective: Objective, device: torch.device, say: Callable[[str], None]) -> Objective:
    """The objective over all GPUs; itself, after a line that says so, where there are none to share the batch."""
    there = torch.cuda.device_count() if device.type == "cuda" else 0
    if there < 2:
        say(f"`data_parallel` has {there} GPUs here, so the model runs on {device} as it is")
        return objective
    say(f"`data_parallel` copies the model to {there} GPUs for each batch; `--nproc {there}` with `ddp` does without")
    return Replicas(objective)


def alone(way: str, device: torch.device) -> str:
    """What is said where one process is to share its work with others, and there are none."""
    there = torch.cuda.device_count() if device.type == "cuda" else 0
    more = f"--nproc {there} trains on all {there} GPUs" if there > 1 else "--nproc starts more"
    return f"`distribute: {way}` is for several processes, and this is one, which has the whole model; {more}"
