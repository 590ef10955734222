"""Losses that compare scores for classes with class indices."""

from __future__ import annotations

from typing import Final

from netspec.catalog.entry import Argument, Entry, Inferred
from netspec.catalog.kinds import tensor_shape
from netspec.catalog.losses import REDUCTION, loss, number, prediction, reduced, weights
from netspec.catalog.rules import FLOATING, Arguments, Inputs, Shape, converted, promoted, refuse, rule, tensor
from netspec.shapes import TensorType


def _places(name: str, x: TensorType) -> Shape:
    """The scores' shape without the classes."""
    if not x.shape:
        refuse(f"{name} takes scores [N, classes, ...] or [classes], and got a tensor without dimensions")
    return (*x.shape[:1], *x.shape[2:]) if len(x.shape) > 1 else ()


def _class_weights(name: str, arguments: Arguments, x: TensorType, code: str = "NS402") -> None:
    """Refuse weights that are not one float32 number for each class."""
    if arguments["weight"] is None:
        return
    classes = x.shape[1] if len(x.shape) > 1 else x.shape[0]
    shape = tensor_shape(arguments["weight"])
    if shape != (classes,):
        refuse(
            f"{name} takes a weight for each of the {classes} classes of {x}, and got {TensorType(shape)}",
            argument="weight",
            code="NS403",
        )
    if x.dtype != "float32":
        refuse(f"{name} has float32 weights, and got {x.dtype}", argument="weight", code=code)


def _indices(name: str, y: TensorType, bytes_too: bool = False) -> None:
    """Refuse what cannot be class indices."""
    if y.dtype == "int64":
        return
    refuse(
        f"{name} takes class indices as int64, and got {y.dtype}",
        help=converted("int64"),
        ports=("target",),
        code="NS406" if y.dtype == "uint8" and bytes_too else "NS402",
    )


def _target_shape(name: str, x: TensorType, y: TensorType, wanted: Shape, other: str = "", code: str = "NS403") -> None:
    if y.shape == wanted:
        return
    what = "a single index" if not wanted else f"class indices {TensorType(wanted)}"
    help = "squeeze the last dimension of the target" if y.shape == (*wanted, 1) else None
    if len(x.shape) == 3 and y.shape == x.shape[:2]:
        help = "the classes stand second: `{type: transpose, dim0: 1, dim1: 2}` after the scores of a sequence"
    elif len(x.shape) > 2 and y.shape == x.shape[:1]:
        help = 'one answer for each sample: take a sequence\'s last place, `{compute: "x[:, -1]"}`, or pool or flatten'
    if not wanted and y.shape == (1,):
        code = "NS406"
    refuse(f"{name} of scores {x} takes {what}{other}, and got {y}", help=help, ports=("input", "target"), code=code)


@rule
def _cross_entropy(arguments: Arguments, inputs: Inputs) -> Inferred:
    name = "CrossEntropyLoss"
    return cross_entropy(name, arguments, prediction(name, inputs), tensor(inputs, name, "target"))


def cross_entropy(name: str, arguments: Arguments, x: TensorType, y: TensorType) -> Inferred:
    """The loss of scores `x` against class indices or probabilities `y`."""
    places = _places(name, x)
    if y.shape != x.shape:
        _target_shape(name, x, y, places, f" or probabilities {x}")
        _indices(name, y, len(x.shape) < 3)
        _class_weights(name, arguments, x)
        return reduced(arguments, places, x.dtype)
    if y.dtype not in FLOATING:
        indices = f"int64 {TensorType(places)}" if places else "a single int64"
        refuse(
            f"{name} takes probabilities as floating point, and got {y.dtype} of the scores' shape {y}",
            help=f"give class indices, {indices}, or convert the target to float32",
            ports=("target",),
            code="NS402",
        )
    if arguments["ignore_index"] >= 0:
        refuse(f"{name} of probabilities takes no ignore_index", argument="ignore_index", code="NS404")
    _class_weights(name, arguments, x, code="NS406")
    return reduced(arguments, places, promoted(x, y))


@rule
def _nll(arguments: Arguments, inputs: Inputs) -> Inferred:
    name = "NLLLoss"
    x = prediction(name, inputs)
    y = tensor(inputs, name, "target")
    places = _places(name, x)
    _target_shape(name, x, y, places)
    _indices(name, y, len(x.shape) < 3)
    _class_weights(name, arguments, x)
    return reduced(arguments, places, x.dtype)


def _rows(name: str, x: TensorType) -> None:
    if len(x.shape) not in (1, 2):
        refuse(f"{name} takes scores [N, classes] or [classes], and got {x}")
    if x.dtype not in ("float32", "float64"):
        refuse(f"{name} takes float32 or float64, and got {x.dtype}", code="NS402")


@rule
def _multi_margin(arguments: Arguments, inputs: Inputs) -> Inferred:
    name = "MultiMarginLoss"
    x = prediction(name, inputs)
    y = tensor(inputs, name, "target")
    _rows(name, x)
    _target_shape(name, x, y, _places(name, x), code="NS406" if y.shape in ((), (1,)) else "NS403")
    _indices(name, y)
    _class_weights(name, arguments, x)
    if arguments["p"] not in (1, 2):
        refuse(f"{name} takes p 1 or 2, and got {arguments['p']}", argument="p", code="NS404")
    return reduced(arguments, x.shape[:-1], x.dtype)


@rule
def _multilabel_margin(arguments: Arguments, inputs: Inputs) -> Inferred:
    name = "MultiLabelMarginLoss"
    x = prediction(name, inputs)
    y = tensor(inputs, name, "target")
    _rows(name, x)
    if y.shape != x.shape:
        refuse(
            f"{name} takes a target of the input's shape {x}, and got {y}",
            help="class indices in front, then -1",
            ports=("input", "target"),
            code="NS403",
        )
    _indices(name, y)
    return reduced(arguments, x.shape[:-1], x.dtype)


_WEIGHT = weights("weight", "a factor for each class")
BALANCED: Final = "balanced"
"""In place of a list under `train.loss`: weights from the counts of the training data."""


def weighs_classes(entry: Entry) -> bool:
    """Whether the loss compares scores with class indices and takes a weight for each class."""
    return entry.name in ("CrossEntropyLoss", "NLLLoss", "MultiMarginLoss")


_IGNORE = Argument(name="ignore_index", kind="int", default=-100, doc="targets with this index do not count")

ENTRIES: tuple[Entry, ...] = (
    loss(
        "CrossEntropyLoss",
        (
            _WEIGHT,
            _IGNORE,
            REDUCTION,
            number("label_smoothing", 0.0, "share of the target that is spread over all classes", 0, 1),
        ),
        _cross_entropy,
        "Compares scores (logits) with class indices or probabilities, for one class of several.",
    ),
    loss(
        "NLLLoss",
        (_WEIGHT, _IGNORE, REDUCTION),
        _nll,
        "Compares logarithms of probabilities with class indices; takes what LogSoftmax gives.",
    ),
    loss(
        "MultiMarginLoss",
        (
            Argument(name="p", kind="int", default=1, doc="1, or 2 to square the differences"),
            number("margin", 1.0, "by how much the right class has to lead"),
            _WEIGHT,
            REDUCTION,
        ),
        _multi_margin,
        "Hinge loss for one class of several.",
    ),
    loss(
        "MultiLabelMarginLoss",
        (REDUCTION,),
        _multilabel_margin,
        "Hinge loss for several classes of each sample.",
    ),
)
