"""The structure of the `sweep` section: its keys are those that `netspec.recipe.read_sweep` reads."""

from __future__ import annotations

from typing import Final

from netspec.catalog.study import DIRECTIONS, RANGES
from netspec.schema.pieces import (
    BOOLEAN,
    COUNT,
    NUMBER,
    TEXT,
    Schema,
    array,
    choice,
    fixed,
    record,
    ref,
    table,
    value,
)


def _named(what: str, example: str) -> Schema:
    return fixed({"anyOf": [TEXT, {"type": "object"}]}, f"{what}, by name or as a mapping with `type`", "", example)


_FREE: Final[Schema] = {"description": "A value as it would stand at that place of the spec."}

SWEEP: Final[dict[str, Schema]] = {
    "sweep": record(
        {
            "parameters": ref("sweep_parameters", "What differs from trial to trial, by its path in the spec."),
            "trials": value(
                {"type": "integer", "minimum": 1},
                "an integer from 1",
                "How many trials there are; of a grid all combinations where left out.",
            ),
            "timeout": value(
                {"type": "number", "minimum": 0},
                "seconds from 0",
                "No trial begins after so many seconds of a session.",
            ),
            "metric": fixed(TEXT, "a figure's name", "The figure by which trials are judged.", "val.loss"),
            "direction": choice(DIRECTIONS, "Whether a lower or a higher figure is better."),
            "sampler": ref("study_sampler", "How values are drawn: Optuna's samplers by name; TPESampler if left out."),
            "pruner": ref("study_pruner", "What ends trials early: Optuna's pruners by name; none where left out."),
            "seed": value(COUNT, "an integer from 0", "What the drawing of values starts from."),
        },
        ["parameters"],
        example="{parameters: {train.optimizer.lr: {type: float, low: 1e-4, high: 0.1, log: true}}, trials: 20}",
    ),
    "sweep_parameters": {
        **table(
            ref("sweep_parameter"),
            "a mapping from paths in the spec to ranges or choices",
            "{train.optimizer.lr: [0.1, 0.01]}",
            names=".+",
        ),
        "minProperties": 1,
    },
    "sweep_parameter": {
        "anyOf": [
            array(_FREE),
            record(
                {
                    "type": choice(RANGES, "What the values are."),
                    "low": value(NUMBER, "a number", "The lowest value."),
                    "high": value(NUMBER, "a number", "The highest value; it is one of them."),
                    "step": value(NUMBER, "a number", "Values lie so far apart, from `low` on."),
                    "log": value(
                        BOOLEAN, "true or false", "Draws by order of magnitude: 0.001 to 0.01 as often as 0.01 to 0.1."
                    ),
                    "choices": array(_FREE, "a list of values", "[16, 32, 64]"),
                },
                ["type"],
            ),
        ],
        "expects": "a list of choices, or a mapping with `type`, `low` and `high`",
        "example": "{type: float, low: 1e-4, high: 0.1, log: true}",
    },
    "study_sampler": _named("a sampler", "TPESampler"),
    "study_pruner": _named("a pruner", "MedianPruner"),
}
