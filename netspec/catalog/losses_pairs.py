"""Losses that take more than an input and a target: pairs, triplets, variances, lengths."""

from __future__ import annotations

from netspec.catalog.entry import Argument, Entry, Inferred, Port
from netspec.catalog.given import applied
from netspec.catalog.losses import REDUCTION, flag, loss, not_bool, number, prediction, reduced, same_shape
from netspec.catalog.rules import FLOATING, Arguments, Inputs, promoted, refuse, rule, tensor
from netspec.shapes import TensorType


def _ports(*names: str) -> tuple[Port, ...]:
    return tuple(Port(name=name) for name in names)


def _together(*parts: TensorType) -> str:
    result = parts[0]
    for part in parts[1:]:
        result = TensorType(result.shape or part.shape, promoted(result, part))
    return result.dtype


@rule
def _ranking(arguments: Arguments, inputs: Inputs) -> Inferred:
    name = "MarginRankingLoss"
    a, b = prediction(name, inputs, "input1"), prediction(name, inputs, "input2")
    y = tensor(inputs, name, "target")
    not_bool(name, y)
    same_shape(name, a, b, ("input1", "input2"))
    same_shape(name, a, y, ("input1", "target"))
    return reduced(arguments, a.shape, _together(a, b, y))


@rule
def _cosine(arguments: Arguments, inputs: Inputs) -> Inferred:
    name = "CosineEmbeddingLoss"
    a, b = prediction(name, inputs, "input1"), prediction(name, inputs, "input2")
    y = tensor(inputs, name, "target")
    not_bool(name, y)
    if len(a.shape) not in (1, 2):
        refuse(f"{name} takes vectors [N, D] or [D], and got {a}", ports=("input1",))
    same_shape(name, a, b, ("input1", "input2"))
    if y.shape != a.shape[:-1]:
        wanted = f"a target {TensorType(a.shape[:-1])}" if len(a.shape) == 2 else "a single number as target"
        refuse(
            f"{name} of vectors {a} takes {wanted}, and got {y}",
            ports=("input1", "target"),
            code="NS406" if len(y.shape) == len(a.shape) - 1 else "NS403",
        )
    return reduced(arguments, a.shape[:-1], promoted(a, b))


def _triplet(name: str, arguments: Arguments, inputs: Inputs) -> Inferred:
    if arguments["margin"] <= 0:
        refuse(f"{name} takes a margin above 0, and got {arguments['margin']}", argument="margin", code="NS404")
    anchor, positive, negative = (prediction(name, inputs, port) for port in ("anchor", "positive", "negative"))
    if not anchor.shape:
        refuse(f"{name} takes vectors [N, D] or [D], and got a tensor without dimensions", ports=("anchor",))
    same_shape(name, anchor, positive, ("anchor", "positive"))
    same_shape(name, anchor, negative, ("anchor", "negative"))
    return reduced(arguments, anchor.shape[:-1], _together(anchor, positive, negative))


@rule
def _triplet_margin(arguments: Arguments, inputs: Inputs) -> Inferred:
    if arguments["margin"] <= 0:
        refuse(
            f"TripletMarginLoss takes a margin above 0, and got {arguments['margin']}", argument="margin", code="NS404"
        )
    return _triplet("TripletMarginLoss", arguments, inputs)


@rule
def _triplet_distance(arguments: Arguments, inputs: Inputs) -> Inferred:
    name, called = "TripletMarginWithDistanceLoss", arguments["distance_function"]
    answer = _triplet(name, arguments, inputs)
    if called is None:
        return answer
    anchor, positive, negative = (tensor(inputs, name, port) for port in ("anchor", "positive", "negative"))
    pairs = [(anchor, positive), (anchor, negative), *([(positive, negative)] if arguments["swap"] else [])]
    distances = [applied(name, "distance_function", called, *pair) for pair in pairs]
    found = [one for one in distances if isinstance(one, TensorType) and one.dtype in FLOATING]
    if len(found) != len(distances) or len({one.shape for one in found}) > 1:
        refuse(
            f"{name} takes distances in floating point, and {called} makes {', '.join(map(str, distances))}",
            argument="distance_function",
            ports=(),
            code="NS406",
        )
    return reduced(arguments, found[0].shape, _together(*found))


@rule
def _gaussian(arguments: Arguments, inputs: Inputs) -> Inferred:
    name = "GaussianNLLLoss"
    x = prediction(name, inputs)
    y = tensor(inputs, name, "target")
    spread = prediction(name, inputs, "var")
    not_bool(name, y)
    same_shape(name, x, y)
    if spread.shape not in (x.shape, x.shape[:-1], (*x.shape[:-1], 1)):
        refuse(
            f"{name} of {x} takes a variance of the same shape, or one without the last dimension, and got {spread}",
            ports=("input", "var"),
            code="NS403",
        )
    if arguments["eps"] <= 0:
        refuse(f"{name} takes an eps above 0, and got {arguments['eps']}", argument="eps", code="NS406")
    if spread.shape != x.shape:  # torch gives it a last dimension
        spread = TensorType((*x.shape[:-1], 1), spread.dtype)
    return reduced(arguments, x.shape, _together(x, y, spread))


@rule
def _ctc(arguments: Arguments, inputs: Inputs) -> Inferred:
    name = "CTCLoss"
    x = prediction(name, inputs, "log_probs")
    targets, times, lengths = (tensor(inputs, name, port) for port in ("targets", "input_lengths", "target_lengths"))
    if len(x.shape) not in (2, 3):
        refuse(f"{name} takes [T, N, classes] or [T, classes], and got {x}", ports=("log_probs",))
    if x.dtype not in ("float32", "float64"):
        refuse(f"{name} takes float32 or float64, and got {x.dtype}", ports=("log_probs",), code="NS402")
    batch = x.shape[1:-1]
    for port, y in (("targets", targets), ("input_lengths", times), ("target_lengths", lengths)):
        if y.dtype != "int64":
            refuse(
                f"{name} takes int64 as {port}, and got {y.dtype}",
                ports=(port,),
                code="NS402" if y.dtype.startswith(("float", "bfloat")) else "NS406",
            )
        if port != "targets" and y.shape != batch:
            wanted = f"a length for each sample, {TensorType(batch)}," if batch else "a single number"
            refuse(f"{name} of {x} takes {wanted} as {port}, and got {y}", ports=("log_probs", port), code="NS406")
    if targets.shape[:-1] != batch or not targets.shape:
        refuse(
            f"{name} of {x} takes targets {TensorType((*batch, 'S'))}, and got {targets}",  # type: ignore[arg-type]
            help="fill shorter targets up; target_lengths says how much counts",
            ports=("log_probs", "targets"),
            code="NS406",
        )
    classes = x.shape[-1]
    if isinstance(classes, int) and not 0 <= arguments["blank"] < classes:
        refuse(f"{name}: blank {arguments['blank']} is none of {classes} classes", argument="blank", code="NS404")
    return reduced(arguments, batch, x.dtype)


_SWAP = flag("swap", False, "whether the nearer of anchor and positive counts as the negative's counterpart")
_MARGIN = number("margin", 1.0, "by how much the negative has to be farther away")

ENTRIES: tuple[Entry, ...] = (
    loss(
        "MarginRankingLoss",
        (number("margin", 0.0, "by how much the higher one has to lead"), REDUCTION),
        _ranking,
        "Which of two scores is to be higher: the first (target 1) or the second (-1).",
        _ports("input1", "input2", "target"),
    ),
    loss(
        "CosineEmbeddingLoss",
        (number("margin", 0.0, "cosine up to which unlike pairs cost nothing"), REDUCTION),
        _cosine,
        "Angles of pairs that are alike (target 1) or not (-1).",
        _ports("input1", "input2", "target"),
    ),
    loss(
        "TripletMarginLoss",
        (
            _MARGIN,
            number("p", 2.0, "the power of the norm"),
            number("eps", 1e-6, "added to the differences, against slopes without end"),
            _SWAP,
            REDUCTION,
        ),
        _triplet_margin,
        "An anchor has to lie nearer to the positive than to the negative.",
        _ports("anchor", "positive", "negative"),
    ),
    loss(
        "TripletMarginWithDistanceLoss",
        (
            Argument(
                name="distance_function",
                kind="function?",
                default=None,
                doc="a function of two tensors; null: the Euclidean distance",
            ),
            _MARGIN,
            _SWAP,
            REDUCTION,
        ),
        _triplet_distance,
        "TripletMarginLoss with a distance of one's own.",
        _ports("anchor", "positive", "negative"),
    ),
    loss(
        "GaussianNLLLoss",
        (
            flag("full", False, "whether to add the constant term"),
            number("eps", 1e-6, "least variance"),
            REDUCTION,
        ),
        _gaussian,
        "How unlikely targets are under normal distributions with predicted means and variances.",
        _ports("input", "target", "var"),
    ),
    loss(
        "CTCLoss",
        (
            Argument(name="blank", kind="int", default=0, doc="the class that means nothing"),
            REDUCTION,
            flag("zero_infinity", False, "whether infinite losses, of targets that are too long, count as zero"),
        ),
        _ctc,
        "Compares class scores over time with a shorter sequence, whatever the alignment.",
        _ports("log_probs", "targets", "input_lengths", "target_lengths"),
    ),
)
