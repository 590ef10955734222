"""What training minimises: the model applied to a batch, and the losses of what it gives, named by the recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from netspec.catalog import lookup
from netspec.catalog.constant_targets import BY_ROW, CLASSES, PORT
from netspec.catalog.losses_classes import BALANCED
from netspec.expressions import evaluate
from netspec.recipe.train import Loss, Mask, Reference, TrainRecipe
from netspec.runtime.errors import RunError
from netspec.runtime.objective_graph import Found, GraphObjective

Batch = Mapping[str, Tensor]
Outputs = Any
"""What the model gives: a tensor, or a named tuple of tensors where the spec names several outputs."""
Reader = Callable[[Outputs, Batch], Any]


@dataclass(frozen=True, slots=True)
class Term:
    """One loss with its readers; `factor` is what the spec weighs it with."""

    name: str
    loss: Callable[..., Tensor]
    readers: tuple[Reader, ...]
    factor: float
    mask: Reader | None = None
    """The rows that count."""
    target: Callable[[Tensor], Tensor] | None = None
    """Makes the targets of a batch where they are one number, from the loss's first input."""
    place: int = 0
    """Where they stand among the loss's inputs."""

    @property
    def plain(self) -> bool:
        """Whether it is a loss of two tensors and nothing else."""
        return self.factor == 1.0 and self.mask is None and self.target is None and len(self.readers) == 2


class Objective(Protocol):
    """What the loop minimises: it runs a batch forward, and the loss is a part of what that gives.

    The loop knows nothing else of it: not how many outputs, fields or losses there are.
    """

    model: nn.Module
    """What is trained, and what a checkpoint keeps."""
    fields: tuple[str, ...]
    """The fields of a batch that it reads; the first tells how many samples a batch has."""

    def forward(self, batch: Batch) -> Outputs:
        """All that the model and the layers around it give."""

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        """One number, a tensor of shape []."""


class Terms:
    """The short form: a model applied once, and a sum of losses of what it gives.

    `model` gets the batch's `fields`, in the order of its inputs.
    """

    def __init__(self, model: nn.Module, fields: tuple[str, ...], terms: tuple[Term, ...]) -> None:
        self.model = model
        self.fields = fields
        self._field = fields[0] if len(fields) == 1 else None
        self.take(terms)

    def take(self, terms: tuple[Term, ...]) -> None:
        """Have these losses from here on."""
        self.terms = terms
        plain = len(terms) == 1 and terms[0].plain
        self._only: tuple[Term, Reader, Reader] | None
        self._only = (terms[0], terms[0].readers[0], terms[0].readers[1]) if plain else None
        """The loss and its two readers where there is nothing else to it: what most specs say, in fewer calls."""

    def forward(self, batch: Batch) -> Outputs:
        if self._field is not None:
            return self.model(batch[self._field])
        return self.model(*[batch[field] for field in self.fields])

    def loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        """The sum of the terms, each times its factor: a tensor of shape []."""
        if self._only is not None:
            term, first, second = self._only
            return term.loss(first(outputs, batch), second(outputs, batch))
        total: Tensor | None = None
        for term in self.terms:
            inputs = [read(outputs, batch) for read in term.readers]
            if any(value is None for value in inputs):  # an output that the model gives in training alone
                continue
            if term.target is not None:
                inputs.insert(term.place, term.target(inputs[0]))
            mask = term.mask
            value = term.loss(*inputs) if mask is None else _of_rows(term.loss, inputs, mask(outputs, batch))
            if term.factor != 1.0:
                value = value * term.factor
            total = value if total is None else total + value
        assert total is not None
        return total


def _of_rows(loss: Callable[..., Tensor], inputs: list[Tensor], rows: Tensor) -> Tensor:
    """The loss of some rows; of none it is zero, where torch's mean would be no number."""
    chosen = [value[rows] for value in inputs]
    return loss(*chosen) if len(chosen[0]) else chosen[0].sum()


def make_objective(model: nn.Module, recipe: TrainRecipe, outputs: tuple[str, ...], device: torch.device) -> Objective:
    """The objective of a recipe. `outputs` are the model's outputs by name; a single one is a bare tensor."""
    if recipe.objective is not None:
        return GraphObjective(model, recipe.objective, recipe.losses, device)
    terms = tuple(
        Term(
            loss.name,
            make_loss(loss, device),
            tuple(reader(reference, outputs) for reference in loss.inputs),
            loss.factor,
            mask_reader(loss.mask, outputs) if loss.mask is not None else None,
            *constant(loss),
        )
        for loss in recipe.losses
    )
    return Terms(model, tuple(recipe.inputs.values()), terms)


def reader(reference: Reference, outputs: tuple[str, ...]) -> Reader:
    """A function from what the objective gave and the batch to the tensor that the reference names."""
    name = reference.name
    if reference.kind == "layer":
        return lambda found, _: found.layers[name]
    if reference.kind == "field":
        return lambda _, batch: batch[name]
    if len(outputs) == 1:
        return lambda found, _: found.outputs if isinstance(found, Found) else found
    return lambda found, _: getattr(found.outputs if isinstance(found, Found) else found, name)


def mask_reader(mask: Mask, outputs: tuple[str, ...]) -> Reader:
    """A function from what the objective gave and the batch to the truth values of a mask."""
    readers = {name: reader(reference, outputs) for name, reference in mask.reads.items()}
    if list(readers) == [mask.text]:
        return readers[mask.text]

    def read(found: Outputs, batch: Batch) -> Any:
        return evaluate(mask.expr, {}, tensors={name: one(found, batch) for name, one in readers.items()})

    return read


def constant(loss: Loss) -> tuple[Callable[[Tensor], Tensor] | None, int]:
    """What makes the targets of a loss whose target is one number, and their place among its inputs."""
    entry = lookup(loss.type, "loss")
    if loss.constant is None or entry is None:
        return None, 0
    value, by_row = loss.constant, loss.type in BY_ROW
    dtype = torch.int64 if loss.type in CLASSES else None

    def make(first: Tensor) -> Tensor:
        return torch.full_like(first[:, 0] if by_row else first, value, dtype=dtype)

    return make, [port.name for port in entry.inputs].index(PORT)


def with_class_weights(recipe: TrainRecipe, weights: Callable[[str], list[float]]) -> TrainRecipe:
    """The recipe with numbers in the place of balanced weights; weights(field) are those of a field's classes."""
    if not any(loss.arguments.get("weight") == BALANCED for loss in recipe.losses):
        return recipe
    losses = tuple(
        replace(loss, arguments={**loss.arguments, "weight": weights(loss.inputs[-1].name)})
        if loss.arguments.get("weight") == BALANCED
        else loss
        for loss in recipe.losses
    )
    return replace(recipe, losses=losses)


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
