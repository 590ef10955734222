"""The learning rate schedules of torch.optim.lr_scheduler, with torch's arguments and defaults.

The optimizer is the run's own. `last_epoch` is left out, since a run that is resumed restores it. The two that combine
schedules (`ChainedScheduler`, `SequentialLR`) take a list of schedules, written as any other.
"""

from __future__ import annotations

from typing import Any, Final

from netspec.catalog.entry import REQUIRED, Argument, Entry

_LAMBDA: Final = Argument(
    name="lr_lambda", kind="any", doc="An expression of `epoch` that gives the factor: `$(0.95 ** epoch)`."
)

_SCHEDULES: Final = Argument(
    name="schedulers", kind="any", doc="A list of schedulers: `[{type: LinearLR, total_iters: 3}, …]`."
)


def _count(name: str, default: Any, doc: str, kind: str = "int", minimum: int = 1) -> Argument:
    return Argument(name=name, kind=kind, default=default, doc=doc, minimum=minimum)


def _number(name: str, default: Any, doc: str, kind: str = "float", minimum: float | None = 0.0) -> Argument:
    return Argument(name=name, kind=kind, default=default, doc=doc, minimum=minimum)


def _choice(name: str, default: str, choices: tuple[str, ...], doc: str) -> Argument:
    return Argument(name=name, kind="choice", default=default, choices=choices, doc=doc)


def _flag(name: str, default: bool, doc: str) -> Argument:
    return Argument(name=name, kind="bool", default=default, doc=doc)


def _gamma(default: Any) -> Argument:
    return _number("gamma", default, "The factor by which the rate falls.")


def _scheduler(name: str, doc: str, *arguments: Argument) -> Entry:
    return Entry(
        name=name,
        category="scheduler",
        target=f"torch.optim.lr_scheduler.{name}",
        arguments=arguments,
        inputs=(),
        doc=doc,
    )


ENTRIES: Final = (
    _scheduler(
        "CosineAnnealingLR",
        "The rate falls along half a cosine to eta_min over T_max steps.",
        _count("T_max", REQUIRED, "How many steps of the scheduler the fall takes: `$(train.epochs)`."),
        _number("eta_min", 0.0, "The rate at the end."),
    ),
    _scheduler(
        "CosineAnnealingWarmRestarts",
        "Cosine falls, one after the other, each from the full rate.",
        _count("T_0", REQUIRED, "The length of the first fall."),
        _count("T_mult", 1, "How many times as long each is as the one before."),
        _number("eta_min", 0.0, "The rate at the end of each."),
    ),
    _scheduler(
        "StepLR",
        "The rate falls by gamma every step_size steps.",
        _count("step_size", REQUIRED, "Steps between two falls."),
        _gamma(0.1),
    ),
    _scheduler(
        "MultiStepLR",
        "The rate falls by gamma at each of the milestones.",
        _count("milestones", REQUIRED, "When it falls, in rising order.", "ints", 0),
        _gamma(0.1),
    ),
    _scheduler("ExponentialLR", "The rate falls by gamma every step.", _gamma(REQUIRED)),
    _scheduler(
        "LinearLR",
        "The rate goes linearly from one factor to another.",
        _number("start_factor", 1 / 3, "What the rate is multiplied by at the start."),
        _number("end_factor", 1.0, "What it is multiplied by at the end."),
        _count("total_iters", 5, "How many steps it takes.", minimum=0),
    ),
    _scheduler(
        "ConstantLR",
        "The rate is multiplied by a factor for the first steps.",
        _number("factor", 1 / 3, "What the rate is multiplied by."),
        _count("total_iters", 5, "For how many steps.", minimum=0),
    ),
    _scheduler(
        "PolynomialLR",
        "The rate falls to zero as a power of what is left.",
        _count("total_iters", 5, "How many steps the fall takes.", minimum=0),
        _number("power", 1.0, "The power; 1 is a straight line."),
    ),
    _scheduler(
        "OneCycleLR",
        "The rate rises to max_lr and falls far below where it began. Steps with every update.",
        _number("max_lr", REQUIRED, "The highest rate, or one a parameter group.", "float|floats"),
        _count("total_steps", None, "Updates in the cycle; those of the whole run where it is left out.", "int?"),
        _count("epochs", None, "Instead of total_steps, together with steps_per_epoch.", "int?"),
        _count("steps_per_epoch", None, "Updates in an epoch.", "int?"),
        _number("pct_start", 0.3, "The share of the cycle in which the rate rises."),
        _choice("anneal_strategy", "cos", ("cos", "linear"), "The form of the rise and fall."),
        _flag("cycle_momentum", True, "Move the momentum against the rate."),
        _number("base_momentum", 0.85, "The lowest momentum.", "float|floats"),
        _number("max_momentum", 0.95, "The highest momentum.", "float|floats"),
        _number("div_factor", 25.0, "max_lr over the rate at the start."),
        _number("final_div_factor", 1e4, "The rate at the start over that at the end."),
        _flag("three_phase", False, "Fall to the first rate, then further, in two phases."),
    ),
    _scheduler(
        "CyclicLR",
        "The rate goes up and down between two bounds. Steps with every update.",
        _number("base_lr", REQUIRED, "The lower bound, or one a parameter group.", "float|floats"),
        _number("max_lr", REQUIRED, "The upper bound, or one a parameter group.", "float|floats"),
        _count("step_size_up", 2000, "Updates of a rise."),
        _count("step_size_down", None, "Updates of a fall; as many as of a rise where null.", "int?"),
        _choice("mode", "triangular", ("triangular", "triangular2", "exp_range"), "How the height changes."),
        _number("gamma", 1.0, "The factor of exp_range."),
        Argument(name="scale_fn", kind="any", default=None, doc="An expression of `x` that scales the height."),
        _choice("scale_mode", "cycle", ("cycle", "iterations"), "What `x` counts."),
        _flag("cycle_momentum", True, "Move the momentum against the rate; needs an optimizer with momentum."),
        _number("base_momentum", 0.8, "The lowest momentum."),
        _number("max_momentum", 0.9, "The highest momentum."),
    ),
    _scheduler(
        "SequentialLR",
        "Schedules one after the other.",
        _SCHEDULES,
        _count("milestones", REQUIRED, "When the second begins, the third, and so on.", "ints", 0),
    ),
    _scheduler("ChainedScheduler", "Schedules all at once: the rate of each is what the next one changes.", _SCHEDULES),
    _scheduler("LambdaLR", "The rate times an expression of the epoch.", _LAMBDA),
    _scheduler("MultiplicativeLR", "Each rate is the one before times an expression of the epoch.", _LAMBDA),
    _scheduler(
        "ReduceLROnPlateau",
        "The rate falls where the monitored figure has stopped improving.",
        _choice("mode", "min", ("min", "max"), "Whether a lower or a higher figure is better."),
        _number("factor", 0.1, "The factor by which the rate falls."),
        _count("patience", 10, "How many epochs without improvement it waits.", minimum=0),
        _number("threshold", 1e-4, "How much counts as an improvement."),
        _choice("threshold_mode", "rel", ("rel", "abs"), "Whether that is a share or a difference."),
        _count("cooldown", 0, "How many epochs it rests after a fall.", minimum=0),
        _number("min_lr", 0.0, "Where it stops, or one a parameter group.", "float|floats"),
        _number("eps", 1e-8, "A smaller fall is not made."),
    ),
)
