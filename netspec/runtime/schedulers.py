"""The learning rate over time: torch's schedulers, and a warm-up that multiplies whatever they give.

A warm-up does not shift the schedule: `T_max: $(train.epochs)` still ends with the run. During the warm-up each group's
rate is the scheduler's times a factor that rises linearly with the steps, from `start_factor` to 1; after it nothing is
touched any more, so that the rates are torch's own to the last bit.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torch.optim.swa_utils import SWALR

from netspec.recipe.train import FUNCTIONS, Duration, Scheduler, Swa
from netspec.runtime.objective import construct


class Schedule:
    """Steps the scheduler when its time comes, and warms up. Make it before the optimizer's state is restored.

    steps_per_epoch: updates of the weights in an epoch. total_steps: updates in the whole run. swa: an average of the
    weights whose epochs have a rate of their own, to which torch's SWALR leads from where the scheduler left it.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        recipe: Scheduler | None,
        steps_per_epoch: int,
        total_steps: int,
        swa: Swa | None = None,
    ) -> None:
        self.optimizer = optimizer
        self.recipe = recipe
        self.swa = swa if swa is not None and swa.swa_lr is not None else None
        self.last_step = self.swa.start * steps_per_epoch if self.swa is not None else None
        """The update after which a scheduler that counts updates stands still."""
        self.annealing: SWALR | None = None
        self.warm_steps = 0
        self.start_factor = 1.0
        if recipe is not None and recipe.warmup is not None:
            self.warm_steps = in_steps(recipe.warmup.length, steps_per_epoch)
            self.start_factor = recipe.warmup.start_factor
        self.scheduler: LRScheduler | None = None
        if recipe is not None and recipe.type:
            self.scheduler = _make(optimizer, recipe, total_steps)
            # torch warns where the first step of an optimizer was withheld, as it is when its gradient is not finite.
            optimizer._opt_called = True  # type: ignore[attr-defined]
        self.settings = repr((recipe, self.warm_steps, total_steps if _of_length(recipe) else None, self.swa))
        """All that the rates depend on: two schedules with equal settings are one."""
        self.by_step = self.scheduler is not None and recipe is not None and recipe.interval == "step"
        self.plateau = isinstance(self.scheduler, ReduceLROnPlateau)
        self.rates: list[float] = [group["lr"] for group in optimizer.param_groups]
        """The scheduler's own rates, while the groups hold the warmed ones."""
        self.active = self.by_step or self.warm_steps > 0
        """Whether there is anything to do after a step."""
        if self.warm_steps:
            self._warm(0)

    def after_step(self, step: int) -> None:
        """Set the rates for the next update; `step` updates have been made."""
        if self.by_step and (self.last_step is None or step <= self.last_step):
            self._advance(None)
        if self.warm_steps:
            self._warm(step)

    def after_epoch(self, figures: Mapping[str, float], step: int) -> None:
        """Advance a scheduler that counts epochs. `figures` are the epoch's, by column, for the one that watches."""
        if self.swa is not None and figures["epoch"] > self.swa.start:
            self._anneal()
            return
        if self.scheduler is None or self.by_step or self.recipe is None:
            return
        self._advance(figures[self.recipe.monitor] if self.plateau and self.recipe.monitor else None)
        if self.warm_steps:
            self._warm(step)

    @property
    def rate(self) -> float:
        """The first group's learning rate, for the log."""
        return float(self.optimizer.param_groups[0]["lr"])

    def _advance(self, figure: float | None) -> None:
        assert self.scheduler is not None
        groups = self.optimizer.param_groups
        if self.warm_steps:  # schedulers compute a rate from the group's own
            for group, rate in zip(groups, self.rates, strict=True):
                group["lr"] = rate
        if self.plateau:
            self.scheduler.step(figure)  # type: ignore[arg-type]
        else:
            self.scheduler.step()
        self.rates = [group["lr"] for group in groups]

    def _anneal(self) -> None:
        """A step of SWALR, which computes a rate from the group's own."""
        if self.annealing is None:
            self.annealing = self._make_annealing()
        self.annealing.step()
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.warm_steps, self.active = 0, self.by_step

    def _make_annealing(self) -> SWALR:
        assert self.swa is not None and self.swa.swa_lr is not None
        made = SWALR(self.optimizer, self.swa.swa_lr, self.swa.anneal_epochs, self.swa.anneal_strategy)
        self.optimizer._opt_called = True  # type: ignore[attr-defined]
        return made

    def _warm(self, step: int) -> None:
        """Put the factor of this step on the rates, and leave them alone from the end of the warm-up on."""
        done = step / self.warm_steps
        factor = self.start_factor + (1.0 - self.start_factor) * done if done < 1 else 1.0
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor if done < 1 else rate
        if done >= 1:
            self.warm_steps = 0
            self.active = self.by_step

    def state(self) -> dict[str, Any]:
        """What it can't compute anew, as plain data."""
        state = {"rates": self.rates, "scheduler": _memory(self.scheduler) if self.scheduler else {}}
        return {**state, "annealing": _memory(self.annealing)} if self.annealing else state

    def restore(self, state: Mapping[str, Any], step: int) -> None:
        """Go on after `step` updates of the same schedule; the optimizer's groups hold their saved rates already."""
        self.rates = list(state["rates"])
        if self.scheduler is not None:
            _remind(self.scheduler, state["scheduler"])
        if self.swa is not None and "annealing" in state:
            self.annealing = self._make_annealing()
            _remind(self.annealing, state["annealing"])
            for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
                group["lr"] = rate
        if self.warm_steps and step >= self.warm_steps:
            self.warm_steps = 0
            self.active = self.by_step

    def replay(self, steps: int, epochs: int, history: Sequence[Mapping[str, float]]) -> None:
        """Bring a schedule that is not the saved one to where it would be after so many updates and epochs."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch expects updates between the steps
            own = steps if self.by_step else epochs
            if self.swa is not None:
                own = min(own, self.last_step or 0 if self.by_step else self.swa.start)
            for epoch in range(0 if self.scheduler is None else own):
                known = history[min(epoch, len(history) - 1)] if self.plateau and history else {}
                figure = known.get((self.recipe and self.recipe.monitor) or "")
                if not self.plateau or figure is not None:
                    self._advance(figure)
            for _ in range(self.swa.start if self.swa is not None else epochs, epochs):
                self._anneal()
        if self.warm_steps:
            self._warm(steps)


def in_steps(duration: Duration, steps_per_epoch: int) -> int:
    """A stretch of training counted in updates of the weights."""
    return duration.steps if duration.steps is not None else (duration.epochs or 0) * steps_per_epoch


def _of_length(recipe: Scheduler | None) -> bool:
    """Whether the scheduler takes the length of the run, as the spec gives it none."""
    if recipe is None or recipe.type != "OneCycleLR":
        return False
    return all(recipe.arguments.get(name) is None for name in ("total_steps", "epochs"))


def _make(optimizer: torch.optim.Optimizer, recipe: Scheduler, total_steps: int) -> LRScheduler:
    arguments = {
        name: _function(value, FUNCTIONS[name]) if name in FUNCTIONS and value is not None else value
        for name, value in recipe.arguments.items()
    }
    if "schedulers" in arguments:
        arguments["schedulers"] = [_make(optimizer, part, total_steps) for part in arguments["schedulers"]]
    if _of_length(recipe):
        arguments["total_steps"] = total_steps
    # A chain alone takes its schedules first.
    first = [optimizer] if recipe.type != "ChainedScheduler" else [arguments.pop("schedulers"), optimizer]
    made = construct(recipe.type, recipe.target, *first, **arguments)
    assert isinstance(made, LRScheduler)
    return made


def _function(value: Any, variable: str) -> Any:
    """An expression over one name as the function that torch wants; a list of them for a list of groups."""
    from netspec.expressions import evaluate

    if isinstance(value, tuple):
        return [_function(item, variable) for item in value]
    return lambda number: float(evaluate(value, {variable: number}))


def _memory(scheduler: LRScheduler) -> dict[str, Any]:
    """The attributes that are numbers, words, or lists of numbers: the counters, and settings that are equal anyway.

    Those of the schedules that it holds stand under `schedulers`.
    """
    own = {
        name: value
        for name, value in vars(scheduler).items()
        if isinstance(value, int | float | str)
        or (isinstance(value, list) and all(isinstance(item, int | float) for item in value))
    }
    held = _held(scheduler)
    return {**own, "schedulers": [_memory(one) for one in held]} if held else own


def _remind(scheduler: LRScheduler, memory: Mapping[str, Any]) -> None:
    """Give a scheduler what `_memory` took of it."""
    vars(scheduler).update({name: value for name, value in memory.items() if name != "schedulers"})
    for one, its in zip(_held(scheduler), memory.get("schedulers", ()), strict=True):
        _remind(one, its)


def _held(scheduler: LRScheduler) -> list[LRScheduler]:
    return list(getattr(scheduler, "_schedulers", ()))
