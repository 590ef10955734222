"""Distances and similarities of two tensors: modules and functions."""

from __future__ import annotations

from netspec.catalog.entry import Argument, Entry, Inferred, Port, Rule
from netspec.catalog.rules import (
    FLOATING,
    NUMBERS,
    Arguments,
    Inputs,
    accepting,
    broadcasted,
    dimension,
    one,
    promoted,
    refuse,
    rule,
    tensor,
)
from netspec.shapes import TensorType

_PORTS = (Port(name="x1"), Port(name="x2"))


def _both(name: str, inputs: Inputs) -> tuple[TensorType, TensorType]:
    return tensor(inputs, name, "x1"), tensor(inputs, name, "x2")


def _cosine(name: str) -> Rule:
    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        a, b = _both(name, inputs)
        shape = broadcasted(name, a, b, ("x1", "x2"))
        dtype = promoted(TensorType((), a.dtype), TensorType((), b.dtype))
        if dtype not in FLOATING:
            refuse(f"{name} takes floating point, and got {a.dtype} and {b.dtype}", ports=("x1", "x2"), code="NS402")
        axis = dimension(name, arguments["dim"], len(shape), port="x1")
        return one((*shape[:axis], *shape[axis + 1 :]), dtype)

    return infer


def _pairwise(name: str) -> Rule:
    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        a, b = _both(name, inputs)
        accepting(name, a, NUMBERS, "x1")
        accepting(name, b, NUMBERS, "x2")
        shape = broadcasted(name, a, b, ("x1", "x2"))
        dtype = promoted(a, b)
        dtype = dtype if dtype in FLOATING else "float32"
        if arguments["keepdim"]:
            return one((*shape[:-1], *((1,) if shape else ())), dtype)
        return one(shape[:-1], dtype)

    return infer


_COSINE = (
    Argument(name="dim", kind="int", default=1, doc="the dimension that holds the vectors"),
    Argument(name="eps", kind="float", default=1e-8, minimum=0, doc="least length to divide by"),
)
_PAIRWISE = (
    Argument(name="p", kind="float", default=2.0, doc="the power of the norm"),
    Argument(name="eps", kind="float", default=1e-6, doc="added to the difference, against slopes without end"),
    Argument(name="keepdim", kind="bool", default=False, doc="whether the last dimension stays with size 1"),
)
_ROWS = (
    ("CosineSimilarity", "cosine_similarity", _COSINE, _cosine, "Cosine of the angle between vectors."),
    ("PairwiseDistance", "pairwise_distance", _PAIRWISE, _pairwise, "Norm of the difference of vectors."),
)

ENTRIES: tuple[Entry, ...] = tuple(
    Entry(
        name=name,
        category="layer" if name == layer else "function",
        target=f"torch.nn.{layer}" if name == layer else f"torch.nn.functional.{function}",
        arguments=arguments,
        inputs=_PORTS,
        rule=make(name),
        role="merge",
        doc=doc,
    )
    for layer, function, arguments, make, doc in _ROWS
    for name in (layer, function)
)
