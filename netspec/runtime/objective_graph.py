"""An objective that the spec states as layers: the model, the losses and what lies between, run as a graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from netspec.program import Instance, Node, Reuse
from netspec.recipe.read_layers import MODEL
from netspec.recipe.train import Loss
from netspec.runtime.graph import run
from netspec.runtime.modules import register_parts

Batch = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Found:
    """What a pass through the graph gave: the model's own output, what each layer gave by name, the loss."""

    outputs: Any
    layers: Mapping[str, Any]
    """By the names of references: of a layer with several outputs its first, and each of them (`found.logits`)."""
    loss: Tensor


class GraphObjective:
    """The forward pass and the loss of a batch, layer by layer as `train.layers` says."""

    def __init__(self, model: nn.Module, instance: Instance, losses: Iterable[Loss], device: torch.device) -> None:
        self.model = model
        self.fields = tuple(instance.inputs)
        self._instance = instance
        self._owner = nn.Module()
        register_parts(self._owner, instance)
        for loss in losses:
            module: Any = self._owner.get_submodule(loss.name)
            weight = loss.arguments.get("weight")
            if weight is not None and module.weight is None:  # balanced, from the data
                module.weight = torch.tensor(weight, dtype=torch.float32)
        self._owner.to(device)
        self._owner.add_module(MODEL, model)
        self._several = [node for node in instance.order if len(node.types) > 1]
        self._applied = next((node for node in instance.order if _applies(node)), None)

    def forward(self, batch: Batch) -> Found:
        """Run the graph in the model's present mode."""
        if self._owner.training != self.model.training:
            self._owner.train(self.model.training)
        layers: dict[str, Any] = {}
        loss = run(self._owner, self._instance, tuple([batch[field] for field in self.fields]), layers)
        outputs = layers[self._applied.name] if self._applied is not None else None
        for node in self._several:
            found = layers[node.name]
            if found is not None:
                layers.update({f"{node.name}.{port}": one for port, one in zip(node.types, found, strict=True)})
                layers[node.name] = found[0]
        return Found(outputs, layers, loss)

    def loss(self, outputs: Found, batch: Batch) -> Tensor:
        """What the last layer gave: a tensor of shape []."""
        return outputs.loss


def _applies(node: Node) -> bool:
    return isinstance(node.op, Reuse) and node.op.target.key == MODEL
