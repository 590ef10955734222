"""Whether losses and metrics suit what gives the output that they read: activations, classes, numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netspec.catalog.metrics import OF_CLASSES
from netspec.diagnostics import Diagnostics, Label, Span
from netspec.program import Call, Ref
from netspec.recipe.heads import origin
from netspec.recipe.train import Loss, Metric, Reference, TrainRecipe
from netspec.shapes import UNKNOWN, TensorType

if TYPE_CHECKING:
    from netspec.recipe.train_values import DataInfo, ModelInfo

TWICE = {
    "CrossEntropyLoss": {
        "softmax": "CrossEntropyLoss applies log_softmax itself: leave the softmax out",
        "log_softmax": "CrossEntropyLoss applies log_softmax itself: leave it out, or take NLLLoss",
        "sigmoid": "CrossEntropyLoss wants scores of any size: leave the sigmoid out",
    },
    "BCEWithLogitsLoss": {
        "sigmoid": "BCEWithLogitsLoss applies the sigmoid itself: leave it out, or take BCELoss",
        "softmax": "BCEWithLogitsLoss wants scores of any size: leave the softmax out",
    },
    "NLLLoss": {
        "softmax": "NLLLoss wants logarithms: LogSoftmax instead, or CrossEntropyLoss on the scores themselves"
    },
}
"""Activations that a loss applies itself, or can't work with, and the mend."""
OF_NUMBERS = ("MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss")
"""Losses that measure how far a number is from another."""
MISSING = {
    "NLLLoss": "end with LogSoftmax, or take CrossEntropyLoss",
    "BCELoss": "end with Sigmoid, or take BCEWithLogitsLoss",
}
"""Losses that want what a Linear or a convolution does not give."""
LAYERS = {
    "Softmax": "softmax",
    "Softmax2d": "softmax",
    "softmax": "softmax",
    "LogSoftmax": "log_softmax",
    "log_softmax": "log_softmax",
    "Sigmoid": "sigmoid",
    "sigmoid": "sigmoid",
}


def _last_layer(reference: Reference, model: ModelInfo, recipe: TrainRecipe) -> tuple[str | None, Span | None, bool]:
    """The catalog's name of the layer whose values an output or a layer of an objective holds, where that stands, and
    whether it is the last."""
    if reference.kind == "output":
        head = model.outputs[reference.name]
        return head.gives, head.made, head.made == head.span
    node = recipe.objective.by_name.get(reference.name) if recipe.objective is not None else None
    found = origin(Ref(node, "", UNKNOWN)) if node is not None else None
    if node is None or found is None or not isinstance(found.op, Call):
        return None, None, False
    return found.op.entry.name, found.layer.span, found is node


def check_last_layer(loss: Loss, span: Span, diagnostics: Diagnostics, model: ModelInfo, recipe: TrainRecipe) -> None:
    """Warn of an activation before a loss that applies it itself, and of a loss that lacks one."""
    layer, place, last = _last_layer(loss.inputs[0], model, recipe)
    if layer is None:
        return
    stands = "stands last" if last else "gives the values, and what follows keeps them"
    labels = [Label(place, f"`{layer}` {stands}")] if place is not None else []
    mend = TWICE.get(loss.type, {}).get(LAYERS.get(layer, ""))
    if mend is not None:
        before = "right before" if last else "before"
        diagnostics.warning("NS553", f"{layer} {before} {loss.type}", span, labels=labels, help=mend)
    elif loss.type in MISSING and layer in ("Linear", "Conv1d", "Conv2d", "Conv3d"):
        wanted = "logarithms of probabilities" if loss.type == "NLLLoss" else "probabilities"
        diagnostics.warning(
            "NS553",
            f"{loss.type} takes {wanted}, and {layer} gives numbers of any size",
            span,
            labels=labels,
            help=MISSING[loss.type],
        )


def check_figure(
    metric: Metric,
    target: TensorType | None,
    span: Span,
    diagnostics: Diagnostics,
    model: ModelInfo,
    data: DataInfo | None,
    recipe: TrainRecipe,
) -> None:
    """A figure of classes beside a loss that predicts numbers: right and wrong are no words for a price."""
    if metric.type not in OF_CLASSES or target is None or not target.dtype.startswith("float"):
        return
    loss = next((one for one in recipe.losses if one.inputs == metric.inputs and one.type in OF_NUMBERS), None)
    if loss is None or LAYERS.get(_last_layer(metric.inputs[0], model, recipe)[0] or ""):
        return  # a sigmoid gives the probability of a yes, which MSELoss takes as well
    given = f"`{metric.inputs[1].name}` is {target.dtype} {target}"
    diagnostics.error(
        "NS552",
        f"{metric.type} counts right classes, and {loss.type} predicts numbers: {given}",
        span,
        labels=[Label(data.span, "the data come from here")] if data is not None and data.span is not None else [],
        help="for numbers take R2Score, MeanAbsoluteError or MeanSquaredError; for yes or no, BCEWithLogitsLoss",
    )
