"""`target: 1` on a loss: one number that stands for a tensor of targets, as adversarial and sparsity losses have it.

What the tensor is follows from the loss's first input: its shape and dtype, or for losses of classes the class of each
sample. The ranges are those of torch's documentation of each loss.
"""

from __future__ import annotations

from typing import Final

from netspec.catalog.entry import Entry
from netspec.shapes import Problem, TensorType

PORT: Final = "target"
CLASSES: Final = ("CrossEntropyLoss", "NLLLoss", "MultiMarginLoss")
"""Losses whose target is a class's number, the scores being [N, C, …]."""
BY_ROW: Final = (*CLASSES, "CosineEmbeddingLoss")
"""Losses whose target has not the second dimension of the first input."""
_SIGNS: Final = ("HingeEmbeddingLoss", "SoftMarginLoss", "MarginRankingLoss", "CosineEmbeddingLoss")
_SHARES: Final = ("BCELoss", "BCEWithLogitsLoss", "MultiLabelSoftMarginLoss")
_NONE: Final = ("MultiLabelMarginLoss",)
"""Losses whose target is a list of classes, of which one number says nothing."""


def takes_constant(entry: Entry) -> bool:
    """Whether the loss has a target that may be one number."""
    return entry.category == "loss" and entry.name not in _NONE and any(port.name == PORT for port in entry.inputs)


def constant_target(entry: Entry, value: object, first: TensorType | None) -> TensorType | Problem | None:
    """The type of the tensor that a number stands for, beside a loss's first input; None where that is not known."""
    if not isinstance(value, int | float):
        return Problem(
            f"`target` is one number for all samples, and got {value!r}",
            help="a tensor is named in `from`: `from: [output, field]`",
        )
    wrong = _range(entry.name, float(value), first)
    if wrong is not None:
        return wrong
    if first is None:
        return None
    if entry.name not in BY_ROW:
        return first
    if len(first.shape) < 2:
        return Problem(f"{entry.name} with one target for all takes [N, C, …], and got {first}")
    return TensorType((first.shape[0], *first.shape[2:]), "int64" if entry.name in CLASSES else first.dtype)


def _range(name: str, value: float, first: TensorType | None) -> Problem | None:
    if name in _SIGNS and value not in (-1.0, 1.0):
        return Problem(f"the target of {name} is 1 or -1, and got {value:g}")
    if name in _SHARES and not 0 <= value <= 1:
        return Problem(f"the target of {name} lies between 0 and 1, and got {value:g}")
    if name in CLASSES:
        count = first.shape[1] if first is not None and len(first.shape) > 1 else None
        if not value.is_integer() or value < 0 or (isinstance(count, int) and value >= count):
            last = f", 0 to {count - 1}" if isinstance(count, int) else ""
            return Problem(f"the target of {name} is the number of a class{last}, and got {value:g}")
    return None
