"""The samplers and pruners of Optuna that a sweep may name, with Optuna's arguments and defaults.

`seed` is left out, since it is the sweep's own, and so is what takes functions. CmaEsSampler is not here: between
trials it keeps its state as a pickle, which netspec does not read. NSGAIIISampler is for several objectives at once.
"""

from __future__ import annotations

from typing import Any, Final

from netspec.catalog.entry import REQUIRED, Argument, Category, Entry

DIRECTIONS: Final = ("minimize", "maximize")
RANGES: Final = ("float", "int", "categorical")
"""The kinds of values that a sweep draws: Optuna's distributions."""


def _count(name: str, default: Any, doc: str, minimum: int = 0, kind: str = "int") -> Argument:
    choices = ("auto",) if "choice" in kind else ()
    return Argument(name=name, kind=kind, default=default, doc=doc, minimum=minimum, choices=choices)


def _number(name: str, default: Any, doc: str, kind: str = "float", minimum: float | None = 0.0) -> Argument:
    return Argument(name=name, kind=kind, default=default, doc=doc, minimum=minimum)


def _share(name: str, default: Any, doc: str, kind: str = "float") -> Argument:
    return Argument(name=name, kind=kind, default=default, doc=doc, minimum=0.0, maximum=1.0)


def _flag(name: str, default: bool, doc: str) -> Argument:
    return Argument(name=name, kind="bool", default=default, doc=doc)


def _entry(category: Category, name: str, doc: str, *arguments: Argument) -> Entry:
    return Entry(
        name=name,
        category=category,
        target=f"optuna.{category}s.{name}",
        arguments=arguments,
        inputs=(),
        doc=doc,
    )


_STARTUP: Final = _count("n_startup_trials", 10, "So many trials are drawn at random before the model is asked.")
_WARMUP: Final = (
    _count("n_warmup_steps", 0, "No trial ends within its first so many epochs."),
    _count("interval_steps", 1, "Epochs between two looks.", 1),
)
_BESIDE: Final = (
    _count("n_startup_trials", 5, "No trial ends before so many have run to their end."),
    *_WARMUP,
    _count("n_min_trials", 1, "How many have to have come as far for a comparison.", 1),
)

ENTRIES: Final = (
    _entry(
        "sampler",
        "TPESampler",
        "Draws where good trials were dense and bad ones sparse (tree-structured Parzen estimators).",
        _number("prior_weight", 1.0, "The weight of the prior, which covers the whole range."),
        _STARTUP,
        _count("n_ei_candidates", 24, "How many candidates are weighed for each value.", 1),
        _flag("multivariate", False, "Models all parameters together, in place of one by one."),
        _flag("group", False, "With `multivariate`, models groups of parameters that occur together."),
        _flag("constant_liar", True, "Counts trials that still run as bad, so that those side by side differ."),
    ),
    _entry("sampler", "RandomSampler", "Draws at random, each trial by itself."),
    _entry("sampler", "GridSampler", "Every combination once: of choices, and of ranges with a step."),
    _entry(
        "sampler",
        "QMCSampler",
        "Draws a sequence that covers the space more evenly than chance does.",
        Argument(
            name="qmc_type",
            kind="choice",
            default="sobol",
            choices=("sobol", "halton"),
            doc="Which sequence. `sobol` covers best with 2 ** k trials.",
        ),
        _flag("scramble", False, "Randomises the sequence."),
    ),
    _entry(
        "sampler",
        "NSGAIISampler",
        "Breeds trials from the best of a population (a genetic algorithm).",
        _count("population_size", 50, "Trials in a generation.", 2),
        _share("mutation_prob", None, "How often a value is drawn anew; null is once a trial on average.", "float?"),
        _share("crossover_prob", 0.9, "How often a trial has two parents."),
        _share("swapping_prob", 0.5, "How often a value is the second parent's."),
    ),
    _entry(
        "sampler",
        "GPSampler",
        "Draws where a Gaussian process expects most. For few, costly trials.",
        _STARTUP,
        _flag("deterministic_objective", False, "Whether equal values give equal figures."),
    ),
    _entry("pruner", "NopPruner", "Ends no trial early, as where no pruner is stated."),
    _entry(
        "pruner",
        "MedianPruner",
        "Ends a trial whose best figure so far is worse than the median of the others at the same epoch.",
        *_BESIDE,
    ),
    _entry(
        "pruner",
        "PercentilePruner",
        "Ends a trial whose best figure so far is outside a percentile of the others at the same epoch.",
        Argument(
            name="percentile",
            kind="float",
            doc="The share in percent that goes on: 25 keeps the best quarter.",
            minimum=0.0,
            maximum=100.0,
        ),
        *_BESIDE,
    ),
    _entry(
        "pruner",
        "SuccessiveHalvingPruner",
        "Lets one in `reduction_factor` go on at each rung (asynchronous successive halving).",
        _count("min_resource", "auto", "Epochs up to the first rung.", 1, "int|choice"),
        _count("reduction_factor", 4, "One in so many goes on, for so many times as long.", 2),
        _count("min_early_stopping_rate", 0, "Shifts the first rung by powers of `reduction_factor`."),
        _count("bootstrap_count", 0, "How many trials a rung waits for before it ends one."),
    ),
    _entry(
        "pruner",
        "HyperbandPruner",
        "Successive halving with several first rungs at once.",
        _count("min_resource", 1, "Epochs up to the first rung.", 1),
        _count("max_resource", "auto", "The most epochs; `auto`: those of the first trial that ends.", 1, "int|choice"),
        _count("reduction_factor", 3, "One in so many goes on, for so many times as long.", 2),
        _count("bootstrap_count", 0, "How many trials a rung waits for before it ends one."),
    ),
    _entry(
        "pruner",
        "ThresholdPruner",
        "Ends a trial whose figure leaves a range, or is not a number.",
        _number("lower", None, "The lowest figure that may be.", "float?", None),
        _number("upper", None, "The highest figure that may be.", "float?", None),
        *_WARMUP,
    ),
    _entry(
        "pruner",
        "PatientPruner",
        "Ends a trial whose figure no longer improves.",
        _count("patience", REQUIRED, "Epochs without an improvement before it ends."),
        _number("min_delta", 0.0, "What counts as an improvement."),
    ),
)
