"""Learning rates over a run: torch's own where torch has them, and warm-ups against `LinearLR`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from netspec.diagnostics import Diagnostics, Span
from netspec.document import Scalar
from netspec.expressions import parse_scalar
from netspec.recipe.train import Duration, Scheduler, WarmUp
from netspec.runtime.schedulers import Schedule

EPOCHS, STEPS = 6, 10
ARGUMENTS: dict[str, dict[str, Any]] = {
    "CosineAnnealingLR": {"T_max": EPOCHS, "eta_min": 1e-4},
    "CosineAnnealingWarmRestarts": {"T_0": 2, "T_mult": 2},
    "StepLR": {"step_size": 2, "gamma": 0.3},
    "MultiStepLR": {"milestones": (1, 4)},
    "ExponentialLR": {"gamma": 0.9},
    "LinearLR": {"total_iters": 4},
    "ConstantLR": {"factor": 0.5, "total_iters": 3},
    "PolynomialLR": {"total_iters": 5, "power": 2.0},
    "OneCycleLR": {"max_lr": (0.5, 0.05), "total_steps": EPOCHS * STEPS},
    "CyclicLR": {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 7},
}


def optimizer() -> torch.optim.Optimizer:
    """Two groups with rates of their own."""
    a, b = nn.Linear(2, 2), nn.Linear(2, 2)
    return torch.optim.SGD([{"params": a.parameters()}, {"params": b.parameters(), "lr": 0.02}], lr=0.2, momentum=0.9)


def scheduler(name: str, interval: Any = "epoch", warmup: WarmUp | None = None, **arguments: Any) -> Scheduler:
    return Scheduler(
        type=name,
        target=f"torch.optim.lr_scheduler.{name}" if name else "",
        arguments=arguments,
        interval=interval,
        warmup=warmup,
    )


def rates(schedule: Schedule, start: int = 0, stop: int = EPOCHS * STEPS) -> list[tuple[float, ...]]:
    """The rates with which each update is made."""
    found = []
    for step in range(start, stop):
        found.append(tuple(group["lr"] for group in schedule.optimizer.param_groups))
        if schedule.active:
            schedule.after_step(step + 1)
        if (step + 1) % STEPS == 0:
            schedule.after_epoch({}, step + 1)
    return found


def torchs(name: str, interval: str) -> list[tuple[float, ...]]:
    made = optimizer()
    made.step()  # torch wants to see one before
    theirs = getattr(lr_scheduler, name)(made, **ARGUMENTS[name])
    found = []
    for step in range(EPOCHS * STEPS):
        found.append(tuple(group["lr"] for group in made.param_groups))
        if step + 1 < EPOCHS * STEPS and (interval == "step" or (step + 1) % STEPS == 0):
            made.step()
            theirs.step()
    return found


@pytest.mark.parametrize("interval", ["step", "epoch"])
@pytest.mark.parametrize("name", ARGUMENTS)
def test_without_a_warm_up_they_are_torchs(name: str, interval: str) -> None:
    schedule = Schedule(optimizer(), scheduler(name, interval, **ARGUMENTS[name]), STEPS, EPOCHS * STEPS)
    assert rates(schedule, stop=EPOCHS * STEPS - 1) == torchs(name, interval)[:-1]


def test_one_cycle_knows_the_length_of_the_run() -> None:
    recipe = scheduler("OneCycleLR", "step", max_lr=(0.5, 0.05))
    assert rates(Schedule(optimizer(), recipe, STEPS, EPOCHS * STEPS), stop=59) == torchs("OneCycleLR", "step")[:-1]


@pytest.mark.parametrize("length", [Duration(steps=15), Duration(epochs=2)])
def test_a_warm_up_alone_is_linear(length: Duration) -> None:
    steps = length.steps or 20
    made = optimizer()
    made.step()
    theirs = lr_scheduler.LinearLR(made, start_factor=0.1, total_iters=steps)
    expected = []
    for _ in range(EPOCHS * STEPS):
        expected.append(tuple(group["lr"] for group in made.param_groups))
        made.step()
        theirs.step()
    found = rates(Schedule(optimizer(), scheduler("", warmup=WarmUp(length=length, start_factor=0.1)), STEPS, 60))
    assert [pytest.approx(row) for row in expected] == found
    assert found[steps:] == [(0.2, 0.02)] * (60 - steps)


@pytest.mark.parametrize("interval", ["step", "epoch"])
@pytest.mark.parametrize("name", ["CosineAnnealingLR", "StepLR", "ExponentialLR", "PolynomialLR"])
def test_a_warm_up_multiplies_what_the_scheduler_gives(name: str, interval: str) -> None:
    """During the warm-up torch's rate times the factor, after it torch's rate to the last bit."""
    warmup = WarmUp(length=Duration(steps=25), start_factor=0.2)
    recipe = scheduler(name, interval, warmup, **ARGUMENTS[name])
    found = rates(Schedule(optimizer(), recipe, STEPS, EPOCHS * STEPS), stop=59)
    expected = torchs(name, interval)[:-1]
    assert found[25:] == expected[25:]
    for step in range(25):
        factor = 0.2 + 0.8 * step / 25
        assert found[step] == pytest.approx(tuple(rate * factor for rate in expected[step]))


@pytest.mark.parametrize("warm", [None, WarmUp(length=Duration(steps=25))])
@pytest.mark.parametrize("interval", ["step", "epoch"])
@pytest.mark.parametrize("name", ARGUMENTS)
@pytest.mark.parametrize("how", ["restore", "replay"])
def test_it_goes_on_where_it_was(name: str, interval: str, warm: WarmUp | None, how: str) -> None:
    """Restored from its state, or computed anew up to that step: the rates that follow are the same, bit for bit."""
    recipe = scheduler(name, interval, warm, **ARGUMENTS[name])
    whole = rates(Schedule(optimizer(), recipe, STEPS, 60), stop=58)
    for stop in (3, 20, 33):
        first = Schedule(optimizer(), recipe, STEPS, 60)
        rates(first, stop=stop)
        again = optimizer()
        second = Schedule(again, recipe, STEPS, 60)
        if how == "restore":
            again.load_state_dict(first.optimizer.state_dict())
            second.restore(first.state(), stop)
        else:
            second.replay(stop, stop // STEPS, [])
        assert rates(second, stop, 58) == whole[stop:]


def test_the_plateau_watches_its_figure() -> None:
    figures = [1.0, 0.9, 0.95, 0.94, 0.93, 0.2, 0.3]
    made = optimizer()
    theirs = lr_scheduler.ReduceLROnPlateau(made, patience=1, factor=0.5)
    recipe = Scheduler(
        type="ReduceLROnPlateau",
        target="torch.optim.lr_scheduler.ReduceLROnPlateau",
        arguments={"patience": 1, "factor": 0.5},
        monitor="val.loss",
    )
    ours = Schedule(optimizer(), recipe, STEPS, 70)
    for epoch, figure in enumerate(figures):
        theirs.step(figure)
        ours.after_epoch({"val.loss": figure, "train.loss": 0.0}, (epoch + 1) * STEPS)
        assert ours.rate == made.param_groups[0]["lr"]
    assert ours.rate < 0.2


def test_a_rate_by_expression() -> None:
    diagnostics = Diagnostics()
    scalar = Scalar("$(0.95 ** epoch)", Span("s", 1, 1, 1, 17), "$(0.95 ** epoch)")
    expression = parse_scalar(scalar, diagnostics, paths=True)
    assert not diagnostics.found
    found = rates(Schedule(optimizer(), scheduler("LambdaLR", lr_lambda=expression), STEPS, 60))
    assert [row[0] for row in found[::STEPS]] == pytest.approx([0.2 * 0.95**epoch for epoch in range(EPOCHS)])
