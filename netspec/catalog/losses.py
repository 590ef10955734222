"""Losses that compare the output with a target value by value, checked before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from netspec.broadcast import broadcast
from netspec.catalog.entry import Argument, Entry, Inferred, Port, Rule
from netspec.catalog.kinds import tensor_shape
from netspec.catalog.rules import FLOATING, Arguments, Inputs, Shape, converted, one, promoted, refuse, rule, tensor
from netspec.shapes import Problem, TensorType

REDUCTION = Argument(
    name="reduction",
    kind="choice",
    default="mean",
    choices=("none", "mean", "sum"),
    doc="what becomes of the single losses: their mean, their sum, or all of them",
)
PAIR = (Port(name="input"), Port(name="target"))


def number(name: str, default: float, doc: str, minimum: float | None = None, maximum: float | None = None) -> Argument:
    """A numeric argument of a loss."""
    return Argument(name=name, kind="float", default=default, doc=doc, minimum=minimum, maximum=maximum)


def flag(name: str, default: bool, doc: str) -> Argument:
    """A boolean argument of a loss."""
    return Argument(name=name, kind="bool", default=default, doc=doc)


def weights(name: str, doc: str) -> Argument:
    """A tensor argument of a loss, written as a list of numbers."""
    return Argument(name=name, kind="tensor?", default=None, doc=doc)


def loss(name: str, arguments: tuple[Argument, ...], rule: Rule, doc: str, inputs: tuple[Port, ...] = PAIR) -> Entry:
    """The entry of a loss of torch.nn."""
    return Entry(
        name=name,
        category="loss",
        target=f"torch.nn.{name}",
        arguments=arguments,
        inputs=inputs,
        rule=rule,
        buffers=_weights if any(argument.kind == "tensor?" for argument in arguments) else None,
        doc=doc,
    )


def _weights(arguments: Arguments) -> Mapping[str, tuple[int, ...]]:
    names = [name for name in ("weight", "pos_weight") if arguments.get(name) is not None]
    return {name: tensor_shape(arguments[name]) for name in names}


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
            code="NS406",
        )
    return x


def not_bool(name: str, y: TensorType, port: str = "target") -> None:
    """Refuse a target of truth values, which torch takes for some losses and not for others."""
    if y.dtype == "bool":
        refuse(
            f"{name} takes numbers as {port}, and got bool",
            help=converted("float32"),
            ports=(port,),
            code="NS406",
        )


def same_shape(name: str, x: TensorType, y: TensorType, ports: tuple[str, str] = ("input", "target")) -> None:
    """Refuse unequal shapes, which torch would broadcast and so compare each value with many."""
    if x.shape == y.shape:
        return
    longer, shorter = (x, y) if len(x.shape) > len(y.shape) else (y, x)
    help = "they must have the same shape: torch would stretch one over the other, and compare each value with many"
    if longer.shape == (*shorter.shape, 1):
        drop, keep = (ports[0], ports[1]) if longer is x else (ports[1], ports[0])
        help = (
            f"squeeze the last dimension of the {drop} (`{{type: squeeze, dim: -1}}`), "
            f"or unsqueeze the {keep} (`{{type: unsqueeze, dim: -1}}`)"
        )
    refuse(
        f"{name} compares each value of the {ports[0]} {x} with one of the {ports[1]}, and got {y}",
        help=help,
        ports=ports,
        code="NS406",
    )


Check = Callable[[str, Arguments, TensorType, TensorType], str]
"""check(name, arguments, input, target) refuses what does not fit, and answers the dtype of the loss."""


def _pointwise(name: str, check: Check) -> Rule:
    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        x = prediction(name, inputs)
        y = tensor(inputs, name, "target")
        dtype = check(name, arguments, x, y)
        same_shape(name, x, y)
        return reduced(arguments, x.shape, dtype)

    return infer


def _regression(name: str, arguments: Arguments, x: TensorType, y: TensorType) -> str:
    not_bool(name, y)
    return promoted(x, y)


def _own_dtype(name: str, arguments: Arguments, x: TensorType, y: TensorType) -> str:
    not_bool(name, y)
    return x.dtype


def _huber(name: str, arguments: Arguments, x: TensorType, y: TensorType) -> str:
    if arguments["delta"] <= 0:
        refuse(f"{name} takes a delta above 0, and got {arguments['delta']}", argument="delta", code="NS404")
    return _equal_dtypes(name, arguments, x, y)


def _equal_dtypes(name: str, arguments: Arguments, x: TensorType, y: TensorType) -> str:
    if x.dtype != y.dtype:
        refuse(
            f"{name} takes a target of the input's dtype, {x.dtype}, and got {y.dtype}",
            help=converted(x.dtype),
            ports=("target",),
            code="NS402",
        )
    return x.dtype


def _floating_target(name: str, y: TensorType) -> None:
    if y.dtype not in FLOATING:
        refuse(
            f"{name} takes a floating point target, and got {y.dtype}",
            help=converted("float32"),
            ports=("target",),
            code="NS402",
        )


def _fits(name: str, arguments: Arguments, argument: str, x: TensorType) -> None:
    """Refuse weights that do not stretch to the input's shape."""
    if arguments[argument] is None:
        return
    shape = tensor_shape(arguments[argument])
    together = broadcast(x.shape, shape)
    if isinstance(together, Problem) or together != x.shape:
        refuse(
            f"{name}: {argument} {TensorType(shape)} does not go with the input {x}",
            help="one number for each entry of the last dimension, or a tensor of the input's shape",
            argument=argument,
            code="NS403" if isinstance(together, Problem) else "NS406",
        )


def _probabilities(name: str, arguments: Arguments, x: TensorType, y: TensorType) -> str:
    dtype = _equal_dtypes(name, arguments, x, y)
    if x.shape == y.shape:
        _fits(name, arguments, "weight", x)
    else:
        refuse(
            f"{name} takes a target of the input's shape {x}, and got {y}",
            help=_column_help(x, y),
            ports=("input", "target"),
            code="NS403",
        )
    return dtype


def _column_help(x: TensorType, y: TensorType) -> str | None:
    if x.shape == (*y.shape, 1):
        return "squeeze the last dimension of the input (`{type: squeeze, dim: -1}`), or unsqueeze the target"
    return None


def _logits(name: str, arguments: Arguments, x: TensorType, y: TensorType) -> str:
    _floating_target(name, y)
    if x.shape != y.shape:
        refuse(
            f"{name} takes a target of the input's shape {x}, and got {y}",
            help=_column_help(x, y),
            ports=("input", "target"),
            code="NS403",
        )
    _fits(name, arguments, "weight", x)
    _fits(name, arguments, "pos_weight", x)
    if x.dtype != y.dtype:
        refuse(
            f"{name} of {x.dtype} with a target of {y.dtype} would be rounded to {y.dtype}",
            help=converted(x.dtype),
            ports=("target",),
            code="NS406",
        )
    return x.dtype


def _divergence(name: str, arguments: Arguments, x: TensorType, y: TensorType) -> str:
    _floating_target(name, y)
    return promoted(x, y)


@rule
def _multilabel_soft(arguments: Arguments, inputs: Inputs) -> Inferred:
    name = "MultiLabelSoftMarginLoss"
    x = prediction(name, inputs)
    y = tensor(inputs, name, "target")
    not_bool(name, y)
    if not x.shape:
        refuse(f"{name} takes [N, classes], and got a tensor without dimensions")
    same_shape(name, x, y)
    _fits(name, arguments, "weight", x)
    dtype = promoted(x, y)
    if arguments["weight"] is not None:
        dtype = promoted(TensorType(x.shape, dtype), TensorType(tensor_shape(arguments["weight"]), "float32"))
    return reduced(arguments, x.shape[:-1], dtype)


ENTRIES: tuple[Entry, ...] = (
    loss("L1Loss", (REDUCTION,), _pointwise("L1Loss", _regression), "Absolute difference."),
    loss("MSELoss", (REDUCTION,), _pointwise("MSELoss", _regression), "Squared difference."),
    loss(
        "SmoothL1Loss",
        (REDUCTION, number("beta", 1.0, "differences below this count squared", 0)),
        _pointwise("SmoothL1Loss", _regression),
        "Absolute difference, squared near zero; scaled so that the far slope is 1.",
    ),
    loss(
        "HuberLoss",
        (REDUCTION, number("delta", 1.0, "differences below this count squared")),
        _pointwise("HuberLoss", _huber),
        "Squared difference near zero, linear beyond.",
    ),
    loss(
        "BCELoss",
        (weights("weight", "a factor for each value"), REDUCTION),
        _pointwise("BCELoss", _probabilities),
        "Compares probabilities with targets between 0 and 1; takes what a sigmoid gives.",
    ),
    loss(
        "BCEWithLogitsLoss",
        (
            weights("weight", "a factor for each value"),
            REDUCTION,
            weights("pos_weight", "a factor for positive targets, one for each class"),
        ),
        _pointwise("BCEWithLogitsLoss", _logits),
        "Compares scores (logits) with targets between 0 and 1; holds the sigmoid itself.",
    ),
    loss(
        "PoissonNLLLoss",
        (
            flag("log_input", True, "whether the input is the logarithm of the rate"),
            flag("full", False, "whether to add the term that depends on the target alone"),
            number("eps", 1e-8, "added against the logarithm of zero"),
            REDUCTION,
        ),
        _pointwise("PoissonNLLLoss", _regression),
        "How unlikely counts are under a Poisson distribution.",
    ),
    loss(
        "KLDivLoss",
        (
            Argument(
                name="reduction",
                kind="choice",
                default="mean",
                choices=("none", "mean", "batchmean", "sum"),
                doc='what becomes of the single losses; "batchmean" is the divergence as it is defined',
            ),
            flag("log_target", False, "whether the target is given as logarithms"),
        ),
        _pointwise("KLDivLoss", _divergence),
        "Divergence of a distribution, given as logarithms, from the target's.",
    ),
    loss(
        "SoftMarginLoss",
        (REDUCTION,),
        _pointwise("SoftMarginLoss", _own_dtype),
        "Logistic loss for targets of 1 and -1.",
    ),
    loss(
        "HingeEmbeddingLoss",
        (number("margin", 1.0, "distance from which unlike pairs cost nothing"), REDUCTION),
        _pointwise("HingeEmbeddingLoss", _own_dtype),
        "Distances of pairs that are alike (target 1) or not (-1).",
    ),
    loss(
        "MultiLabelSoftMarginLoss",
        (weights("weight", "a factor for each class"), REDUCTION),
        _multilabel_soft,
        "Logistic loss for several labels at once, averaged over the classes.",
    ),
)
