"""`channels_last`: images as N, H, W, C in memory, which a GPU's convolutions like best. Shapes and names stay."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from netspec.runtime.objective import Batch, Objective, Outputs

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)


def wants_channels_last(stated: bool | None, model: nn.Module, device: torch.device) -> bool:
    """What the recipe says; where it says nothing, so it is on a GPU for a model with convolutions over images."""
    if stated is not None:
        return stated
    return device.type == "cuda" and any(isinstance(module, CONVOLUTIONS) for module in model.modules())


def to_channels_last(model: nn.Module) -> None:
    """Lay out the weights of four dimensions so, in place. Do it before the optimizer is made, whose memory follows.

    `Module.to(memory_format=…)` refuses a model that has convolutions over volumes as well.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.dim() == 4:
            tensor.data = tensor.data.to(memory_format=torch.channels_last)


class ChannelsLast:
    """An objective that gets the fields of four dimensions laid out so."""

    def __init__(self, objective: Objective) -> None:
        self.inner = objective
        self.model = objective.model
        self.fields = objective.fields

    def forward(self, batch: Batch) -> Outputs:
        return self.inner.forward({name: _laid_out(value) for name, value in batch.items()})

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        return self.inner.loss(outputs, batch)


def _laid_out(value: Tensor) -> Tensor:
    # Not `contiguous`: one channel is contiguous either way, and what a convolution gives lies as its strides say.
    return value.to(memory_format=torch.channels_last) if value.dim() == 4 else value


def as_laid_out(state: Mapping[str, object], parameter: Tensor) -> dict[str, object]:
    """What an optimizer remembers of a parameter, laid out in memory as the parameter is, which fused kernels ask for.

    Files hold tensors in the order of their indices.
    """
    return {
        name: torch.empty_strided(parameter.shape, parameter.stride(), dtype=value.dtype).copy_(value)
        if isinstance(value, Tensor) and value.shape == parameter.shape and value.stride() != parameter.stride()
        else value
        for name, value in state.items()
    }
