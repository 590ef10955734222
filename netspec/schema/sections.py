"""The structure of the `data` and `train` sections: their keys are the fields of the recipe's dataclasses."""

from __future__ import annotations

from typing import Final

from netspec.schema.pieces import (
    BOOLEAN,
    COUNT,
    NAMES,
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

_POSITIVE: Final[Schema] = {"type": "integer", "minimum": 1}
_FRACTION: Final[Schema] = {"type": "number", "minimum": 0, "maximum": 1}
_MODE = choice(["min", "max"], "Whether a lower or a higher figure is better.")
_MONITOR = fixed(TEXT, "a figure's name, such as `val.loss`", "The figure that is watched: `val.loss`, `val.accuracy`.")

_SPLIT_SET: dict[str, Schema] = {
    "source": ref("source", "Where the samples come from."),
    "transforms": ref("transforms", "What happens to each sample: torchvision's v2 transforms, in order."),
    "batch_transforms": ref("transforms", "Transforms that run on whole batches, on the device."),
    "shuffle": fixed(BOOLEAN, "true or false", "Whether each epoch has an order of its own."),
}

SECTIONS: Final[dict[str, Schema]] = {
    "data": record(
        {
            "train": ref("dataset", "The samples that the model learns from."),
            "val": ref("dataset", "The samples that choices are made by."),
            "test": ref("dataset", "The samples that are looked at last."),
            **_SPLIT_SET,
            "split": ref("split", "Cuts one source into parts: `{train: 0.8, val: 0.1, test: 0.1}`."),
            "batch_size": value(_POSITIVE, "an integer from 1", "Samples in a batch, per process."),
            "workers": value(
                {"anyOf": [COUNT, {"enum": ["auto"]}]}, "a count or `auto`", "Processes that prepare the samples."
            ),
        }
    ),
    "dataset": record(_SPLIT_SET),
    "split": record(
        {
            "train": value(_FRACTION, "a fraction from 0 to 1", "The part to learn from."),
            "val": value(_FRACTION, "a fraction from 0 to 1", "The part to choose by."),
            "test": value(_FRACTION, "a fraction from 0 to 1", "The part to look at last."),
            "seed": value(COUNT, "an integer from 0", "Which cut it is."),
            "stratify": fixed(TEXT, "a field's name", "The field whose values every part holds in equal shares."),
        }
    ),
    "transforms": array(ref("transform"), "a list of transforms"),
    "source": {"anyOf": [TEXT, {"type": "object"}], "expects": "a source, by name or as a mapping with `type`"},
    "transform": {"anyOf": [TEXT, {"type": "object"}], "expects": "a transform, by name or as a mapping with `type`"},
    "train": record(
        {
            "epochs": value(_POSITIVE, "an integer from 1", "How often the training set is gone through."),
            "steps": value(
                _POSITIVE, "an integer from 1", "How many updates of the weights there are, instead of epochs."
            ),
            "inputs": fixed(
                {"type": "object", "additionalProperties": TEXT},
                "a mapping from inputs of the model to fields",
                "Which field of the batch each input of the model takes; left out where the names agree.",
            ),
            "loss": ref("loss", "What is minimised: a loss, or several by name."),
            "optimizer": ref("optimizer", "How weights are updated: torch's optimizers by name."),
            "scheduler": ref("scheduler", "How the learning rate changes: torch's schedulers by name."),
            "metrics": ref("metrics", "Figures of an evaluation."),
            "precision": choice(["fp32", "tf32", "bf16", "fp16"], "The arithmetic of forward and backward."),
            "checkpoint": ref("checkpoint", "When the state is written, and what is kept."),
            "early_stopping": ref("early_stopping", "Stops when a figure no longer improves."),
            "seed": value(COUNT, "an integer from 0", "What all random numbers of the run start from."),
            "device": fixed(TEXT, "a device, such as cpu, cuda or auto", "Where it runs; `auto` takes what there is."),
            "threads": value(_POSITIVE, "an integer from 1", "How many threads torch uses on the CPU."),
            "clip_grad": ref("clip_grad", "Limits gradients before each update."),
            "accumulate": value(_POSITIVE, "an integer from 1", "Batches whose gradients add up to one update."),
            "log_every": value(_POSITIVE, "an integer from 1", "Steps between two points of the curves."),
            "tensorboard": fixed(BOOLEAN, "true or false", "Whether TensorBoard's event files are written."),
            "phases": fixed({"type": "object"}, "a mapping from names to phases", "Several objectives, by name."),
            "layers": fixed({"type": "object"}, "a mapping of layers", "The objective in the layer language."),
        }
    ),
    "duration": record(
        {
            "epochs": value(_POSITIVE, "an integer from 1", "A length in epochs."),
            "steps": value(_POSITIVE, "an integer from 1", "A length in updates of the weights."),
        }
    ),
    "checkpoint": record(
        {
            "every": ref("duration", "`{epochs: 1}` or `{steps: 500}`."),
            "keep": value(_POSITIVE, "an integer from 1", "How many of the newest are kept, beside the best."),
            "monitor": _MONITOR,
            "mode": _MODE,
        }
    ),
    "early_stopping": record(
        {
            "monitor": _MONITOR,
            "mode": _MODE,
            "patience": value(_POSITIVE, "an integer from 1", "Epochs without an improvement before it stops."),
            "min_delta": value(NUMBER, "a number", "What counts as an improvement."),
        },
        ["monitor"],
    ),
    "clip_grad": {
        "anyOf": [
            {"type": "number", "minimum": 0},
            record(
                {
                    "norm": value({"type": "number", "minimum": 0}, "a number", "The largest norm of all together."),
                    "value": value({"type": "number", "minimum": 0}, "a number", "The largest value of any."),
                }
            ),
        ],
        "expects": "a norm, or `{norm: …}` or `{value: …}`",
    },
    "loss": {
        "anyOf": [TEXT, {"type": "object"}],
        "expects": "a loss, by name or as a mapping with `type`, or a mapping from names to losses",
    },
    "losses": table(ref("loss_term"), "a mapping from names to losses"),
    "loss_term": {"anyOf": [TEXT, {"type": "object"}], "expects": "a loss, by name or as a mapping with `type`"},
    "optimizer": {"anyOf": [TEXT, {"type": "object"}], "expects": "an optimizer, by name or as a mapping with `type`"},
    "scheduler": {"anyOf": [TEXT, {"type": "object"}], "expects": "a scheduler, by name or as a mapping with `type`"},
    "warmup": record(
        {
            "epochs": value(_POSITIVE, "an integer from 1", "Its length in epochs."),
            "steps": value(_POSITIVE, "an integer from 1", "Its length in updates of the weights."),
            "start_factor": value(_FRACTION, "a number from 0 to 1", "What the rate is multiplied by at the start."),
        }
    ),
    "metrics": array(ref("metric"), "a list of metrics"),
    "metric": {"anyOf": [TEXT, {"type": "object"}], "expects": "a metric, by name or as a mapping with `type`"},
}

_TAKES = fixed(NAMES, "a name, or a list of names", "The outputs of the model and fields of the batch that it takes.")

BESIDE: Final[dict[str, dict[str, Schema]]] = {
    "initializer": {},
    "source": {},
    "transform": {},
    "optimizer": {"groups": array({}, "a list of groups")},
    "scheduler": {
        "warmup": ref("warmup", "The rate rises linearly over this stretch at the start."),
        "interval": choice(["step", "epoch"], "How often the scheduler steps."),
        "monitor": _MONITOR,
    },
    "loss": {"from": _TAKES},
    "loss_term": {"from": _TAKES, "weight": value(NUMBER, "a number", "The factor of this term.")},
    "metric": {"from": _TAKES},
}
"""For each kind that names an entry of the catalog: the keys beside `type` and the entry's arguments."""
