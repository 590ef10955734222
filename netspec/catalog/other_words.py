"""What other libraries, torch's functions and everyday speech call what a spec names as torch's classes do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from netspec.catalog.entry import Category

NAMES: Final[dict[str, dict[str, str]]] = {
    "loss": {
        "bce": "BCELoss",
        "binarycrossentropy": "BCELoss",
        "binarycrossentropywithlogits": "BCEWithLogitsLoss",
        "bcewithlogits": "BCEWithLogitsLoss",
        "categoricalcrossentropy": "CrossEntropyLoss",
        "sparsecategoricalcrossentropy": "CrossEntropyLoss",
        "softmaxcrossentropy": "CrossEntropyLoss",
        "crossentropy": "CrossEntropyLoss",
        "ce": "CrossEntropyLoss",
        "mae": "L1Loss",
        "meanabsoluteerror": "L1Loss",
        "meansquarederror": "MSELoss",
        "hinge": "MultiMarginLoss",
    },
    "metric": {
        "acc": "Accuracy",
        "f1": "F1Score",
        "mae": "MeanAbsoluteError",
        "l1loss": "MeanAbsoluteError",
        "mse": "MeanSquaredError",
        "mseloss": "MeanSquaredError",
        "r2": "R2Score",
        "auc": "torchmetrics.AUROC",
        "auroc": "torchmetrics.AUROC",
    },
    "scheduler": {"cosine": "CosineAnnealingLR", "plateau": "ReduceLROnPlateau", "warmup": "LinearLR"},
}
"""By category, in small letters and without underscores."""

ARGUMENTS: Final[dict[str, tuple[str, ...]]] = {
    "units": ("out_features", "hidden_size"),
    "filters": ("out_channels",),
    "rate": ("p",),
    "dropout_rate": ("p", "dropout"),
    "drop_prob": ("p",),
    "pool_size": ("kernel_size",),
    "axis": ("dim",),
    "axes": ("dim",),
    "alpha": ("negative_slope",),
    "pretrained": ("weights",),
    "input": ("from",),
    "inputs": ("from",),
    "learning_rate": ("lr",),
    "batchsize": ("batch_size",),
    "file": ("path",),
    "filename": ("path",),
    "folder": ("root",),
    "directory": ("root",),
}
"""Arguments and keys of others, each with what it may be called here."""

LAYERS: Final[dict[str, str]] = {
    **dict.fromkeys(("Dense", "FullyConnected", "FC"), "write `Linear`"),
    **dict.fromkeys(("BatchNorm", "BatchNormalization"), "write `BatchNorm2d` for images, `BatchNorm1d` for tables"),
    "LayerNormalization": "write `LayerNorm`",
    **dict.fromkeys(
        ("GlobalAvgPool", "GlobalAvgPool2d", "GlobalAveragePooling2D", "GlobalAvgPooling2d", "GAP"),
        "write `{type: AdaptiveAvgPool2d, output_size: 1}`",
    ),
    **dict.fromkeys(
        ("GlobalMaxPool", "GlobalMaxPool2d", "GlobalMaxPooling2D"), "write `{type: AdaptiveMaxPool2d, output_size: 1}`"
    ),
    "Activation": "write the activation by its own name, such as `ReLU`",
    "Input": "what comes in stands under `inputs`: `inputs: {x: [N, 3, 32, 32]}`",
    **dict.fromkeys(("Concat", "Concatenate"), "write `cat`"),
    "Swish": "write `SiLU`",
    "Lambda": "a spec holds no code: write `compute`, or the function by its name",
}
"""Layers of other libraries, each with what to write."""


def meant(name: str, category: Category | None, known: Iterable[str]) -> str | None:
    """What a loss, a metric or a scheduler is called that somebody names as a function or in short."""
    bare = name.replace("_", "").casefold()
    found = NAMES.get(category or "", {}).get(bare)
    if found is not None or category != "loss":
        return found
    return next((one for one in known if one.casefold() == f"{bare}loss"), None)
