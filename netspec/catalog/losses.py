"""The losses of torch.nn, whose rules check the target's dtype and shape before anything is trained."""

from __future__ import annotations

from collections.abc import Callable

from netspec.catalog.entry import Argument, Entry, Inferred, Port, Rule
from netspec.catalog.rules import (
    FLOATING,
    Arguments,
    Inputs,
    Shape,
    one,
    promoted,
    refuse,
    rule,
    tensor,
)
from netspec.shapes import TensorType

REDUCTION = Argument(
    name="reduction",
    kind="choice",
    default="mean",
    choices=("none", "mean", "sum"),
    doc="what becomes of the single losses: their mean, their sum, or all of them",
)
PAIR = (Port(name="input"), Port(name="target"))


def number(name: str, default: float, doc: str) -> Argument:
    """A numeric argument of a loss."""
    return Argument(name=name, kind="float", default=default, doc=doc)


def tensor_argument(name: str, doc: str) -> Argument:
    return Argument(name=name, kind="tensor?", default=None, doc=doc)


def reduced(arguments: Arguments, shape: Shape, dtype: str) -> Inferred:
    """The answer of a loss whose single values have this shape."""
    return one(shape if arguments["reduction"] == "none" else (), dtype)


def prediction(name: str, inputs: Inputs, port: str = "input") -> TensorType:
    """The model's output, which has to be floating point to be trained."""
    x = tensor(inputs, name, port)
    if x.dtype not in FLOATING:
        refuse(
            f"{name} takes a floating point {port}, and got {x.dtype}",
            help="a loss needs an output that has a gradient",
            ports=(port,),
            code="NS405",
        )
    return x


def same_shape(name: str, x: TensorType, y: TensorType, ports: tuple[str, str] = ("input", "target")) -> None:
    """Refuse unequal shapes, which torch would broadcast and so compare each value with many."""
    if x.shape == y.shape:
        return
    longer, shorter = (x, y) if len(x.shape) > len(y.shape) else (y, x)
    help = "they must have the same shape: torch would stretch one over the other, and compare each value with many"
    if len(longer.shape) == len(shorter.shape) + 1 and longer.shape[-1] == 1 and longer.shape[:-1] == shorter.shape:
        drop, keep = (ports[0], ports[1]) if longer is x else (ports[1], ports[0])
        help = (
            f"squeeze the last dimension of the {drop} (`{{type: squeeze, dim: -1}}`), "
            f"or unsqueeze the {keep} (`{{type: unsqueeze, dim: -1}}`)"
        )
    refuse(
        f"{name} compares each value of the {ports[0]} {x} with one of the {ports[1]}, and got {y}",
        help=help,
        ports=ports,
        code="NS405",
    )


Check = Callable[[str, Arguments, TensorType, TensorType], str]
"""check(name, arguments, input, target) refuses dtypes and answers the dtype of the loss."""


def _pointwise(name: str, check: Check) -> Rule:
    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        x = prediction(name, inputs)
        y = tensor(inputs, name, "target")
        dtype = check(name, arguments, x, y)
        same_shape(name, x, y)
        return reduced(arguments, x.shape, dtype)

    return infer


def _real_target(name: str, arguments: Arguments, x: TensorType, y: TensorType) -> str:
    if y.dtype == "bool":
        refuse(
            f"{name} takes a floating point target, and got bool",
            help="convert it in the data: `{type: ToDtype, dtype: float32}`",
            ports=("target",),
            code="NS405",
        )
    return promoted(x, y)


@rule
def _cross_entropy(arguments: Arguments, inputs: Inputs) -> Inferred:
    name = "CrossEntropyLoss"
    x = prediction(name, inputs)
    y = tensor(inputs, name, "target")
    if not x.shape:
        refuse(f"{name} takes scores [N, classes, ...] or [classes], and got a tensor without dimensions")
    axis = 0 if len(x.shape) == 1 else 1
    places = (*x.shape[:axis], *x.shape[axis + 1 :])
    if y.shape == x.shape:
        if y.dtype not in FLOATING:
            refuse(
                f"{name} takes probabilities as floating point, and got {y.dtype} of the scores' shape {y}",
                help=f"give class indices, int64 {TensorType(places)}, or convert the target to float32",
                ports=("target",),
                code="NS402",
            )
        return reduced(arguments, places, promoted(x, y))
    if y.shape != places:
        refuse(
            f"{name} of scores {x} takes class indices {TensorType(places)} or probabilities {x}, and got {y}",
            help=_target_help(places, y),
            ports=("target", "input"),
            code="NS403",
        )
    _indices(name, y, len(x.shape) < 3)
    return reduced(arguments, places, x.dtype)


def _target_help(places: Shape, y: TensorType) -> str | None:
    if y.shape == (*places, 1):
        return "squeeze the target's last dimension"
    return None


def _indices(name: str, y: TensorType, bytes_too: bool) -> None:
    """Refuse what cannot be class indices."""
    if y.dtype == "int64" or (y.dtype == "uint8" and bytes_too):
        return
    refuse(
        f"{name} takes class indices as int64, and got {y.dtype}",
        help="convert the target in the data: `{type: ToDtype, dtype: int64}`",
        ports=("target",),
        code="NS402",
    )


ENTRIES: tuple[Entry, ...] = (
    Entry(
        name="CrossEntropyLoss",
        category="loss",
        target="torch.nn.CrossEntropyLoss",
        arguments=(
            tensor_argument("weight", "a factor for each class"),
            Argument(name="ignore_index", kind="int", default=-100, doc="targets with this index do not count"),
            REDUCTION,
            number("label_smoothing", 0.0, "share of the target that is spread over all classes"),
        ),
        inputs=PAIR,
        rule=_cross_entropy,
        doc="Compares scores (logits) with class indices or probabilities, for one class of several.",
    ),
    Entry(
        name="MSELoss",
        category="loss",
        target="torch.nn.MSELoss",
        arguments=(REDUCTION,),
        inputs=PAIR,
        rule=_pointwise("MSELoss", _real_target),
        doc="Squared difference.",
    ),
)
