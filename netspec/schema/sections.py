"""The structure of the `data` and `train` sections: their keys are those that `netspec.recipe` reads."""

from __future__ import annotations

from typing import Final

from netspec.catalog.seeing import METHODS, TRACKERS, WATCHED
from netspec.catalog.several import COUNTS, FLAGS, KINDS
from netspec.catalog.speed import MODES
from netspec.schema.pieces import (
    BOOLEAN,
    COUNT,
    EXPRESSION,
    NAMES,
    NUMBER,
    TEXT,
    Schema,
    array,
    choice,
    either,
    fixed,
    record,
    ref,
    table,
    value,
)
from netspec.schema.sweep_section import SWEEP

_POSITIVE: Final[Schema] = {"type": "integer", "minimum": 1}
_FRACTION: Final[Schema] = {"type": "number", "minimum": 0, "maximum": 1}
_ABOVE_ZERO: Final[Schema] = {"type": "number", "minimum": 0}


def _count(description: str) -> Schema:
    return value(_POSITIVE, "an integer from 1", description)


def _flag(description: str) -> Schema:
    return value(BOOLEAN, "true or false", description)


def _part(description: str) -> Schema:
    """A part of a source: how much of it, the values of a column that mean it, or a file that lists it."""
    numbers: Schema = {"type": "number", "minimum": 0}
    return {
        **value(
            {"anyOf": [numbers, TEXT, {"type": "array"}]},
            "a share, a count, `rest`, values of `column`, or a file that lists samples",
            description,
        ),
        "example": "0.2",
    }


def _share(description: str) -> Schema:
    return {**value(_FRACTION, "a fraction from 0 to 1", description), "example": "0.2"}


def _globs(description: str) -> Schema:
    return value(NAMES, "a glob over paths, or a list of them", description)


def _named(what: str, example: str) -> Schema:
    """A place that names an entry of the catalog."""
    return fixed({"anyOf": [TEXT, {"type": "object"}]}, f"{what}, by name or as a mapping with `type`", "", example)


_MODE = choice(["min", "max"], "Whether a lower or a higher figure is better.")
_MONITOR = fixed(TEXT, "a figure's name", "The figure that is watched: `val.loss`, `val.accuracy`.", "val.loss")
_SEED = value(COUNT, "an integer from 0", "What its random numbers start from.")

_SAMPLES: Final[dict[str, Schema]] = {
    "source": ref("source", "Where the samples come from."),
    "transforms": ref("transforms", "What happens to each sample: torchvision's v2 transforms, in order."),
    "batch_transforms": ref("transforms", "Transforms that run on whole batches, on the device."),
    "sampler": ref("sampler", "How an epoch draws its samples, by torch's names."),
    "balance": fixed(TEXT, "a field's name", "Draws every class of this field equally often.", "label"),
    "drop_last": _flag("Leaves out the last batch where it is not full."),
    "batch_size": _count("Samples in a batch, per process."),
    "subset": value(_ABOVE_ZERO, "a count, or a share below 1", "So many of the samples, drawn once."),
}

_DATA: Final[dict[str, Schema]] = {
    "data": record(
        {
            "train": ref("dataset", "The samples that the model learns from."),
            "val": ref("dataset", "The samples that choices are made by."),
            "test": ref("dataset", "The samples that are looked at last."),
            **_SAMPLES,
            "split": ref("split", "Cuts one source into parts: `{train: 0.8, val: 0.1, test: 0.1}`."),
            "batch_size": {
                "anyOf": [
                    _POSITIVE,
                    {"enum": ["auto"]},
                    EXPRESSION,
                    record({"max": _count("The most that is tried; else as many as there are samples.")}),
                ],
                "expects": "an integer from 1, `auto`, or a mapping with `max`",
                "description": "Samples in a batch, per process; `auto` is as many as fit.",
                "example": "auto",
            },
            "global_batch_size": _count("Samples in a batch, over all processes."),
            "workers": value(
                {"anyOf": [COUNT, {"enum": ["auto"]}]}, "a count or `auto`", "Processes that prepare the samples."
            ),
            "cache": value(
                {"anyOf": [BOOLEAN, {"enum": ["auto"]}]},
                "true, false or `auto`",
                "Whether the data are kept in memory.",
            ),
            "skip_unreadable": value(
                COUNT, "an integer from 0", "So many samples that can't be read are left out before the run stops."
            ),
            "fields": fixed(NAMES, "a list of names", "The fields to keep; all where left out.", "[image, label]"),
        },
        example="{source: Digits, split: {train: 0.8, test: 0.2}}",
    ),
    "dataset": record(
        {**_SAMPLES, "shuffle": _flag("Whether each epoch has an order of its own.")},
        example="{source: {type: ImageFolder, root: data/train}}",
    ),
    "split": record(
        {
            "train": _part("The part to learn from."),
            "val": _part("The part to choose by."),
            "test": _part("The part to look at last."),
            "seed": _SEED,
            "shuffle": _flag("false: the parts follow each other in the order of the source."),
            "column": fixed(TEXT, "a column's name", "The column whose values say which part a sample is in.", "part"),
            "stratify": fixed(TEXT, "a field's name", "The field whose classes all parts share equally.", "label"),
            "groups": fixed(
                TEXT,
                "a column's name",
                "The column, or the field, whose values are groups of samples that no cut takes apart.",
                "patient",
            ),
        },
        example="{train: 0.8, val: 0.1, test: 0.1}",
    ),
    "source": _named("a source", "{type: ImageFolder, root: data/train}"),
    "transforms": array(ref("transform"), "a list of transforms", "[{type: Resize, size: 224}]"),
    "transform": _named("a transform", "{type: Resize, size: 224}"),
    "sampler": {
        "anyOf": [
            TEXT,
            record(
                {
                    "type": fixed(TEXT, "a sampler's name", "RandomSampler, SequentialSampler, WeightedRandomSampler."),
                    "replacement": _flag("Whether a sample may be drawn twice."),
                    "num_samples": _count("How many are drawn in an epoch."),
                    "weights": value(
                        {"anyOf": [array(_ABOVE_ZERO), TEXT]},
                        "a list of numbers from 0, or a column's name",
                        "One weight for each class, or the column with one for each sample.",
                    ),
                },
                ["type"],
            ),
        ],
        "expects": "a sampler, by name or as a mapping with `type`",
        "example": "RandomSampler",
    },
}

_TRAIN: Final[dict[str, Schema]] = {
    "train": record(
        {
            "epochs": _count("How often the training set is gone through."),
            "steps": _count("How many updates of the weights there are, instead of epochs."),
            "inputs": fixed(
                {"type": "object", "additionalProperties": TEXT},
                "a mapping from inputs of the model to fields",
                "Which field of the batch each input of the model takes; left out where the names agree.",
                "{image: image}",
            ),
            "loss": ref("loss", "What is minimised: a loss, or several by name."),
            "optimizer": ref("optimizer", "How weights are updated: torch's optimizers by name."),
            "scheduler": ref("scheduler", "How the learning rate changes: torch's schedulers by name."),
            "metrics": ref("metrics", "Figures of an evaluation."),
            "precision": choice(["fp32", "tf32", "bf16", "fp16"], "The arithmetic of forward and backward."),
            "checkpoint": ref("checkpoint", "When the state is written, and what is kept."),
            "early_stopping": ref("early_stopping", "Stops when a figure no longer improves."),
            "seed": _SEED,
            "device": fixed(TEXT, "a device", "Where it runs: cpu, cuda, mps …; `auto` takes what there is.", "auto"),
            "threads": _count("How many threads torch uses on the CPU."),
            "clip_grad": ref("clip_grad", "Limits gradients before each update."),
            "accumulate": _count("Batches whose gradients add up to one update."),
            "withheld_limit": _count("How many updates withheld, as they were not finite, stop the run."),
            "ema": ref("ema", "An exponential average of the weights, which is what is evaluated and kept."),
            "swa": ref("swa", "The mean of the weights at the ends of the last epochs, which the run ends with."),
            "channels_last": _flag("How images lie in memory; left out, so on a GPU for a model with convolutions."),
            "cuda_graphs": _flag("Whether steps are recorded as CUDA graphs and launched whole."),
            "compile": ref("compile", "Whether `torch.compile` makes kernels of the model."),
            "distribute": ref("distribute", "How several processes train together."),
            "sync_batchnorm": _flag("Whether batch norms take the statistics of the whole batch of all processes."),
            "log_every": _count("Steps between two points of the curves."),
            "tensorboard": ref("tensorboard", "Whether TensorBoard's event files are written, and what they hold."),
            "monitor": ref("monitor", "Hooks on layers, by glob: what they give, and the gradients that come back."),
            "track": ref("trackers", "Trackers that are told of the run by their own clients."),
            "weights": ref("start_weights", "The weights that training starts with: a file, a run, torchvision's."),
            "freeze": fixed(
                NAMES, "a glob over parameter names, or a list of them", "What is not trained.", "features.*"
            ),
            "unfreeze": table(
                ref("duration", "How long it stays frozen."),
                "a mapping from globs over parameter names to durations",
                '{"features.*": {epochs: 3}}',
                names=".+",
            ),
            "phases": fixed({"type": "object"}, "a mapping from names to phases", "Several objectives, by name."),
            "layers": ref("layers", "The objective in the layer language; its last layer is what is minimised."),
        },
        example="{epochs: 10, loss: CrossEntropyLoss, optimizer: Adam}",
    ),
    "often": {
        "anyOf": [
            BOOLEAN,
            EXPRESSION,
            record({"epochs": _count("Every so many epochs."), "steps": _count("Every so many updates.")}),
        ],
        "expects": "true, false, or a mapping with `epochs` or `steps`",
        "example": "{epochs: 5}",
    },
    "tensorboard": {
        "anyOf": [
            BOOLEAN,
            EXPRESSION,
            record(
                {
                    "graph": _flag("The layers, and what flows between them."),
                    "histograms": ref("often", "Histograms of weights and of their gradients."),
                    "images": ref("often", "A grid of inputs, as the model gets them."),
                    "pr_curves": ref("often", "Precision over recall for each class."),
                    "confusion": ref("often", "The confusion matrix, as a picture and a table."),
                    "embeddings": ref("often", "What goes into the last layer with weights, for the projector."),
                }
            ),
        ],
        "expects": "true, false, or a mapping from what is shown to how often",
        "example": "{histograms: {epochs: 5}, embeddings: true}",
    },
    "monitor": record(
        {
            "every": _count("Updates between two looks; `log_every` where left out. Between them there are no hooks."),
            **{kind: _globs(f"Layers by glob: {what}.") for kind, what in WATCHED.items() if kind != "parameters"},
            "parameters": _globs(f"Parameters by glob: {WATCHED['parameters']}."),
            "cam": ref("cam_images", "Class activation maps over images of `val`, as training goes on."),
        },
        example="{every: 500, activations: 'encoder.*', gradients: [fc1, fc2]}",
    ),
    "cam_images": {
        "anyOf": [
            BOOLEAN,
            record(
                {
                    "layer": value(
                        TEXT, "a layer's path, or a glob", "The layer; the last that gives a map where left out."
                    ),
                    "method": choice(METHODS, "Grad-CAM, or CAM for a mean over the map and one Linear."),
                    "images": _count("Of how many images of `val`."),
                    "every": ref("duration", "How often: `{epochs: 1}`."),
                }
            ),
        ],
        "expects": "true, or a mapping",
        "example": "{layer: layer4, every: {epochs: 5}}",
    },
    "trackers": {
        "anyOf": [
            TEXT,
            array(TEXT),
            record(
                {name: fixed({"type": "object"}, "a mapping", f"What {name}'s own client takes.") for name in TRACKERS}
            ),
        ],
        "expects": f"{either([f'`{name}`' for name in TRACKERS])}, a list of them, or a mapping from them to arguments",
        "example": "[wandb]",
    },
    "start_weights": {
        "anyOf": [
            TEXT,
            {"type": "null"},
            record(
                {
                    "from": fixed(
                        TEXT, "a path, or a name such as `ResNet18_Weights.DEFAULT`", "Where they come from."
                    ),
                    "package": fixed(TEXT, "the name of a package", "An installed package that ships the file `from`."),
                    "renames": fixed(
                        {"type": "object", "additionalProperties": TEXT},
                        "a mapping from prefixes or globs to what takes their place",
                        "How the file's names become the model's.",
                        '{module.: ""}',
                    ),
                    "skip": fixed(NAMES, "a glob, or a list of them", "What of the model starts anew.", "head.*"),
                    "strict": _flag("false: load what fits, whatever else there is."),
                },
                ["from"],
            ),
        ],
        "expects": "a path, or a mapping with `from`",
        "example": "runs/teacher/1",
    },
    "duration": record(
        {"epochs": _count("A length in epochs."), "steps": _count("A length in updates of the weights.")},
        example="{epochs: 1}",
    ),
    "checkpoint": record(
        {
            "every": ref("duration", "`{epochs: 1}` or `{steps: 500}`."),
            "keep": _count("How many of the newest are kept, beside the best."),
            "monitor": _MONITOR,
            "mode": _MODE,
        },
        example="{every: {epochs: 1}, keep: 3}",
    ),
    "early_stopping": record(
        {
            "monitor": _MONITOR,
            "mode": _MODE,
            "patience": _count("Epochs without an improvement before it stops."),
            "min_delta": value(NUMBER, "a number", "What counts as an improvement."),
        },
        ["monitor"],
        example="{monitor: val.loss, patience: 10}",
    ),
    "clip_grad": {
        "anyOf": [
            _ABOVE_ZERO,
            record(
                {
                    "norm": value(_ABOVE_ZERO, "a number from 0", "The largest norm of all gradients together."),
                    "value": value(_ABOVE_ZERO, "a number from 0", "The largest absolute value of any."),
                }
            ),
        ],
        "expects": "a norm, or a mapping with `norm` or `value`",
        "example": "1.0",
    },
    "ema": {
        "anyOf": [
            _FRACTION,
            record(
                {
                    "decay": _share("How much of the average stays at each update."),
                    "use_buffers": _flag("Whether buffers are averaged too; else they are the model's."),
                }
            ),
        ],
        "expects": "a fraction, or a mapping with `decay`",
        "example": "{decay: 0.999}",
    },
    "swa": record(
        {
            "start": ref("duration", "After how many epochs it begins."),
            "swa_lr": value(_ABOVE_ZERO, "a number from 0", "The rate of these epochs; left out, the schedule's."),
            "anneal_epochs": value(COUNT, "an integer from 0", "In how many epochs the rate gets there; 10."),
            "anneal_strategy": choice(["cos", "linear"], "How the rate gets there."),
            "evaluate": _flag("Whether these epochs are judged by the average; each takes a pass over the data."),
        },
        ["start"],
        example="{start: {epochs: 15}, swa_lr: 0.05}",
    ),
    "distribute": {
        "anyOf": [
            {"type": "string", "enum": list(KINDS)},
            EXPRESSION,
            record(
                {
                    "type": choice(KINDS, "By torch's names."),
                    "match": _globs("The layers that `fsdp` cuts as one; the model's blocks where left out."),
                    **{key: _flag(said) for flags in FLAGS.values() for key, said in flags.items()},
                    **{key: _count(said) for counts in COUNTS.values() for key, said in counts.items()},
                }
            ),
        ],
        "expects": f"{either([f'`{kind}`' for kind in KINDS])}, or a mapping with `type`",
        "example": "ddp",
    },
    "compile": {
        "anyOf": [
            BOOLEAN,
            EXPRESSION,
            record(
                {
                    "backend": value(TEXT, "the name of a compiler", "The compiler; `inductor` where left out."),
                    "mode": choice(MODES, "What inductor optimises for."),
                    "dynamic": _flag("Whether the kernels serve batches of every size, or of one each."),
                    "fullgraph": _flag("Whether a model that is not one graph is left uncompiled."),
                }
            ),
        ],
        "expects": "true, false, or a mapping",
        "example": "{mode: max-autotune}",
    },
    "loss": fixed(
        {"anyOf": [TEXT, {"type": "object"}]},
        "a loss, by name or as a mapping with `type`, or several by names of your own",
        "",
        "CrossEntropyLoss",
    ),
    "losses": table(ref("loss_term"), "a mapping from names to losses", "{main: CrossEntropyLoss}"),
    "loss_term": _named("a loss", "CrossEntropyLoss"),
    "optimizer": _named("an optimizer", "{type: AdamW, lr: 0.001}"),
    "scheduler": _named("a scheduler", "{type: StepLR, step_size: 30}"),
    "schedulers": array(ref("scheduler"), "a list of schedulers", "[{type: StepLR, step_size: 30}]"),
    "warmup": record(
        {
            "epochs": _count("Its length in epochs."),
            "steps": _count("Its length in updates of the weights."),
            "start_factor": _share("What the rate is multiplied by at the start."),
        },
        example="{epochs: 1}",
    ),
    "metrics": array(ref("metric"), "a list of metrics", "[Accuracy]"),
    "metric": _named("a metric", "Accuracy"),
}

SECTIONS: Final[dict[str, Schema]] = {**_DATA, **_TRAIN, **SWEEP}

_TAKES = fixed(NAMES, "a name, or a list of names", "The outputs and fields that it takes.", "[logits, label]")

MASK: Final = fixed(
    TEXT, "a name or a comparison", "The rows that count: a tensor of truth values, or a comparison.", "label >= 0"
)
TARGET: Final = value(NUMBER, "a number", "The target of all samples, in the place of a tensor in `from`.")

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
    "loss": {"from": _TAKES, "mask": MASK},
    "loss_term": {
        "from": _TAKES,
        "mask": MASK,
        "weight": value(
            {"anyOf": [NUMBER, array(NUMBER)]},
            "a number, or a list of one for each class",
            "The factor of this term; a list is torch's `weight`, one number for each class.",
        ),
    },
    "metric": {"from": _TAKES, "mask": MASK},
    "study_sampler": {},
    "study_pruner": {},
}
"""For each kind that names an entry of the catalog: the keys beside `type` and the entry's arguments."""
