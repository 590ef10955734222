"""What a run does not train: parameters without a gradient, by glob and for a stretch, their layers in eval mode."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from torch import nn

from netspec.recipe.train import Duration
from netspec.runtime.modules import freeze, thaw

if TYPE_CHECKING:
    from netspec.recipe.train import TrainRecipe


@dataclass(frozen=True, slots=True)
class _Held:
    """A frozen parameter. `until` is None where it stays so."""

    parameter: nn.Parameter
    until: Duration | None


class Freezing:
    """The frozen part of a model, a function of the epochs and steps that are done: what is resumed finds the same.

    A module all of whose parameters are frozen is kept in evaluation mode with all that it holds, so that
    the statistics of a BatchNorm stay and a dropout does nothing.
    """

    def __init__(self, model: nn.Module, recipe: TrainRecipe) -> None:
        """What stays frozen for good loses its gradient here; build the optimizer after this, and before `apply`."""
        self.model = model
        self.held: list[_Held] = []
        self.modules: list[nn.Module] = []
        """Those that are kept in evaluation mode now."""
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad or not any(fnmatchcase(name, glob) for glob in recipe.freeze):
                continue
            until = next((t.after for t in reversed(recipe.unfreeze) if fnmatchcase(name, t.match)), None)
            self.held.append(_Held(parameter, until))
            if until is None:
                parameter.requires_grad_(False)
        self.by_steps = any(held.until is not None and held.until.steps is not None for held in self.held)
        """Whether something is unfrozen in the middle of an epoch."""
        self.still: int | None = None
        """How many parameters were frozen when it was last looked at; it only falls."""

    def follow(self, now: Mapping[int, nn.Parameter]) -> None:
        """Freeze others in the place of those that they have become, by the ids of those that were."""
        self.held = [replace(held, parameter=now[id(held.parameter)]) for held in self.held]

    def apply(self, *, epoch: int, step: int) -> None:
        """Freeze what is frozen after so many epochs and steps, and let the rest be trained."""
        frozen = {id(held.parameter) for held in self.held if _lasts(held.until, epoch, step)}
        if not self.held or len(frozen) == self.still:
            return
        self.still = len(frozen)
        for module in self.modules:
            thaw(module, training=self.model.training)
        for held in self.held:
            held.parameter.requires_grad_(id(held.parameter) not in frozen)
        self.modules = list(_whole(self.model, frozen))
        for module in self.modules:
            freeze(module)


def _lasts(until: Duration | None, epoch: int, step: int) -> bool:
    if until is None:
        return True
    return epoch < until.epochs if until.epochs is not None else step < (until.steps or 0)


def _whole(module: nn.Module, frozen: set[int]) -> list[nn.Module]:
    """The outermost modules whose parameters are all frozen, one of them here."""
    parameters = list(module.parameters())
    if not any(id(parameter) in frozen for parameter in parameters):
        return []
    if not any(parameter.requires_grad for parameter in parameters):
        return [module]
    return [found for child in module.children() for found in _whole(child, frozen)]
