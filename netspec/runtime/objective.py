"""What training minimises: the model applied to a batch, and the losses of what it gives, named by the recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from netspec.recipe.train import Loss, Reference, TrainRecipe
from netspec.runtime.errors import RunError

Batch = Mapping[str, Tensor]
Outputs = Any
"""What the model gives: a tensor, or a named tuple of tensors where the spec names several outputs."""
Reader = Callable[[Outputs, Batch], Tensor]


@dataclass(frozen=True, slots=True)
class Term:
    """One loss with its readers; `factor` is what the spec weighs it with."""

    name: str
    loss: Callable[..., Tensor]
    readers: tuple[Reader, ...]
    factor: float


class Objective:
    """The forward pass and the loss of a batch. `model` gets the batch's `fields`, in the order of its inputs."""

    def __init__(self, model: nn.Module, fields: tuple[str, ...], terms: tuple[Term, ...]) -> None:
        self.model = model
        self.fields = fields
        self.terms = terms

    def forward(self, batch: Batch) -> Outputs:
        return self.model(*[batch[field] for field in self.fields])

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        """The sum of the terms, each times its factor: a tensor of shape []."""
        total: Tensor | None = None
        for term in self.terms:
            value = term.loss(*[read(outputs, batch) for read in term.readers])
            if term.factor != 1.0:
                value = value * term.factor
            total = value if total is None else total + value
        assert total is not None
        return total


def make_objective(model: nn.Module, recipe: TrainRecipe, outputs: tuple[str, ...], device: torch.device) -> Objective:
    """The objective of a recipe. `outputs` are the model's outputs by name; a single one is a bare tensor."""
    terms = tuple(
        Term(
            loss.name,
            make_loss(loss, device),
            tuple(reader(reference, outputs) for reference in loss.inputs),
            loss.factor,
        )
        for loss in recipe.losses
    )
    return Objective(model, tuple(recipe.inputs.values()), terms)


def reader(reference: Reference, outputs: tuple[str, ...]) -> Reader:
    """A function from what the model gave and the batch to the tensor that the reference names."""
    name = reference.name
    if reference.kind == "field":
        return lambda _, batch: batch[name]
    if len(outputs) == 1:
        return lambda found, _: found
    return lambda found, _: getattr(found, name)


def make_loss(loss: Loss, device: torch.device) -> nn.Module:
    """The loss module, on the device. Raises RunError NS908 where torch refuses the arguments."""
    arguments = {
        name: torch.tensor(value, dtype=torch.float32)
        if name in ("weight", "pos_weight") and value is not None
        else value
        for name, value in loss.arguments.items()
    }
    made = construct(loss.type, loss.target, **arguments)
    assert isinstance(made, nn.Module)
    return made.to(device)


def construct(what: str, target: str, *positional: Any, **arguments: Any) -> Any:
    """Call a dotted name of the catalog. Raises RunError NS908, with torch's own words, where it is refused."""
    module, _, name = target.rpartition(".")
    from importlib import import_module

    factory = getattr(import_module(module), name)
    try:
        return factory(*positional, **arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        raise RunError(
            "NS908", f"{what} refuses its settings: {error}", help=f"see `netspec explain {what}`"
        ) from error
