"""Losses whose mean is not over samples, where each process has a part of the batch.

A cross entropy with weights divides by the weights of the classes that occur, one with `ignore_index` by the targets
that count, one with a mask by the rows that do. How many that is in the whole batch the processes tell each other.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import torch
from torch import Tensor, nn

from netspec.recipe.train import Loss, TrainRecipe
from netspec.runtime.objective import Objective, Term, Terms
from netspec.runtime.processes import Part, Processes

WEIGHED: Final = ("CrossEntropyLoss", "NLLLoss")
"""Losses whose mean divides by weights, and passes over targets."""


def share_losses(objective: Objective, recipe: TrainRecipe, processes: Processes, part: Part) -> None:
    """Have the losses of an objective give, in each process, what makes the loss of the whole batch together."""
    terms: Any = objective
    while hasattr(terms, "inner"):
        terms = terms.inner
    if isinstance(terms, Terms):
        terms.take(tuple(_shared(*both, processes, part) for both in zip(terms.terms, recipe.losses, strict=True)))


def _shared(term: Term, loss: Loss, processes: Processes, part: Part) -> Term:
    weighed = loss.type in WEIGHED and ("weight" in loss.arguments or "ignore_index" in loss.arguments)
    summed = loss.arguments.get("reduction") == "sum"
    if not (weighed or summed or term.mask is not None):
        return term
    made = SharedLoss(term.loss, processes, part, weighed=weighed and not summed, summed=summed, masked=bool(term.mask))
    readers = term.readers if term.mask is None else (*term.readers, term.mask)
    return replace(term, loss=made, readers=readers, mask=None)


class SharedLoss:
    """A loss of a part, such that the mean of all parts, each weighed with its samples, is that of the whole batch.

    masked: the last input says which rows count.
    """

    def __init__(
        self,
        loss: Callable[..., Tensor],
        processes: Processes,
        part: Part,
        *,
        weighed: bool,
        summed: bool,
        masked: bool,
    ) -> None:
        self.loss: Any = loss
        self.processes = processes
        self.part = part
        self.weighed = weighed
        self.summed = summed
        self.masked = masked
        if weighed:
            assert isinstance(loss, nn.Module)
            self.loss = copy.copy(loss)
            self.loss.reduction = "sum"

    def __call__(self, *inputs: Tensor) -> Tensor:
        if self.masked:
            rows = inputs[-1]
            inputs = tuple(value[rows] for value in inputs[:-1])
        own, whole = self.part.own, self.part.whole
        rows_left = len(inputs[0])
        total: Tensor = self.loss(*inputs) if rows_left else inputs[0].sum()
        if self.summed:
            return total * (whole / own) if own else total * 0
        if not self.weighed:
            total = total * rows_left
        count = self._count(inputs) if self.weighed else torch.full_like(total.detach(), rows_left)
        count = self.processes.sum(count if own else torch.zeros_like(count))
        if self.masked:
            count = torch.where(count > 0, count, torch.ones_like(count))
        value: Tensor = total / count * (whole / own) if own else total * 0
        return value

    def _count(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """What torch's mean divides by."""
        target = inputs[1]
        weight: Tensor | None = self.loss.weight
        if target.is_floating_point():  # probabilities: torch divides by the samples
            return torch.full((), float(target.numel() / target.shape[1]), device=target.device)
        counts: Tensor = target != self.loss.ignore_index
        if weight is None:
            return counts.sum().float()
        found: Tensor = (weight[torch.where(counts, target, torch.zeros_like(target))] * counts).sum()
        return found
