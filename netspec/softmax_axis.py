"""Softmaxes over an axis that nobody means: one that torch guesses, the batch's, or one that holds a single value."""

from __future__ import annotations

from typing import Final

from netspec.batch_order import BATCH
from netspec.diagnostics import Diagnostics
from netspec.origins import untraced
from netspec.program import Call, Instance, Ref, walk
from netspec.shapes import TensorType

OVER_AN_AXIS: Final = ("Softmax", "LogSoftmax", "Softmin", "softmax", "log_softmax", "softmin")


def check_softmax_axes(model: Instance, diagnostics: Diagnostics) -> None:
    """Warn of each softmax without `dim`, over the batch, or over a single value, which gives 1 whatever comes."""
    told = set()
    for _, node in walk(model):
        call = node.op
        if not isinstance(call, Call) or call.entry.name not in OVER_AN_AXIS or node.layer.span in told:
            continue
        read = next(iter(call.inputs.values()), None)
        shape = read.type.shape if isinstance(read, Ref) and isinstance(read.type, TensorType) else ()
        if not shape:
            continue
        name, stated = call.entry.name, call.arguments.get("dim")
        dim = untraced(stated.value) if stated is not None else None
        guessed = 0 if len(shape) in (1, 3) else 1  # torch's rule: `torch.nn.functional._get_softmax_dim`
        size = shape[guessed if dim is None else dim]
        if size == 1:
            message = f"{name} over a single value gives the same whatever comes: the input is [{_sizes(shape)}]"
            help = "for one score take Sigmoid, or none where the loss applies it (BCEWithLogitsLoss)"
        elif size in BATCH:
            message = f"{name} shares out over the batch, {size} of [{_sizes(shape)}]"
            help = "write `dim: -1`, or the dimension that holds the classes"
        elif dim is None:
            message = (
                f"{name} without `dim`: torch takes dimension {guessed} of [{_sizes(shape)}], and warns in each run"
            )
            help = f"write `dim: {guessed if guessed != len(shape) - 1 else -1}`"
        else:
            continue
        told.add(node.layer.span)
        diagnostics.warning("NS415", message, node.layer.span, help=help)


def _sizes(shape: tuple[object, ...]) -> str:
    return ", ".join(str(size) for size in shape)
