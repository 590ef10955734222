"""Functions that reduce dimensions: means, sums, largest values."""

from __future__ import annotations

from typing import Any

from netspec.catalog.entry import Argument, Entry, Inferred, Rule
from netspec.catalog.reshape import distinct
from netspec.catalog.rules import (
    ALL,
    FLOATING,
    NUMBERS,
    Arguments,
    Inputs,
    accepting,
    dimension,
    one,
    refuse,
    rule,
    tensor,
)
from netspec.shapes import Size, TensorType


def _axes(name: str, dim: Any, rank: int) -> list[int]:
    """The dimensions that go: all of them where none is named."""
    if dim is None or (isinstance(dim, list | tuple) and not dim):
        return list(range(rank))
    return distinct(name, dim if isinstance(dim, list | tuple) else [dim], rank, "dim")


def _left(x: TensorType, axes: list[int], keepdim: bool) -> list[Size]:
    if keepdim:
        return [1 if axis in axes else size for axis, size in enumerate(x.shape)]
    return [size for axis, size in enumerate(x.shape) if axis not in axes]


def _reduce(name: str, dtypes: tuple[str, ...], result: str) -> Rule:
    """`result`: "same", "sum" (integers become int64), "float" (they become float32), or a dtype."""

    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        x = tensor(inputs, name)
        wanted = arguments.get("dtype")
        if wanted is None:
            accepting(name, x, dtypes)
        elif dtypes == FLOATING and wanted not in FLOATING:
            refuse(f"{name} computes in floating point, and dtype is {wanted}", argument="dtype", code="NS402")
        if arguments["dim"] is None and arguments["keepdim"] and name in ("mean", "sum", "prod"):
            refuse(
                f"{name} takes keepdim together with dim", help="name the dimensions", argument="keepdim", code="NS404"
            )
        if result == "sum":
            _differentiable(name, x, wanted)
        axes = _axes(name, arguments["dim"], len(x.shape))
        dtype = wanted or _result(result, x.dtype)
        return one(_left(x, axes, arguments["keepdim"]), dtype)

    return infer


def _result(result: str, dtype: str) -> str:
    if result == "same" or (dtype in FLOATING and result in ("sum", "float")):
        return dtype
    return {"sum": "int64", "float": "float32"}.get(result, result)


def _differentiable(name: str, x: TensorType, dtype: str | None) -> None:
    """Refuse a dtype that would cut the gradient off with an error."""
    if dtype is not None and dtype not in FLOATING and x.dtype in FLOATING:
        refuse(f"{name} of {x.dtype} has no gradient as {dtype}", argument="dtype", code="NS402")


@rule
def _cumsum(arguments: Arguments, inputs: Inputs) -> Inferred:
    x = tensor(inputs, "cumsum")
    dimension("cumsum", arguments["dim"], len(x.shape))
    _differentiable("cumsum", x, arguments["dtype"])
    if arguments["dtype"] == "bool":
        refuse("cumsum gives numbers, and dtype is bool", argument="dtype", code="NS402")
    return one(x.shape, arguments["dtype"] or _result("sum", x.dtype))


_KEEP = Argument(name="keepdim", kind="bool", default=False, doc="whether the reduced dimensions stay with size 1")
_DTYPE = Argument(name="dtype", kind="dtype?", default=None, doc="the input is converted to this first")
_DIMS = Argument(name="dim", kind="int|ints?", default=None, doc="the dimensions that are reduced; null: all of them")
_ONE = Argument(name="dim", kind="int?", default=None, doc="the dimension that is reduced; null: all of them")
_MUST = Argument(name="dim", kind="int|ints", doc="the dimensions that are reduced")
_EMPTY = Argument(name="dim", kind="int|ints", default=(), doc="the dimensions that are reduced; empty: all of them")
_CORRECTION = Argument(
    name="correction", kind="float", default=1, doc="taken from the number of values that the sum is divided by"
)


def _method(name: str, arguments: tuple[Argument, ...], rule: Rule, doc: str) -> Entry:
    return Entry(name=name, category="function", target=f"torch.Tensor.{name}", arguments=arguments, rule=rule, doc=doc)


ENTRIES: tuple[Entry, ...] = (
    _method("mean", (_DIMS, _KEEP, _DTYPE), _reduce("mean", FLOATING, "same"), "Mean over dimensions."),
    _method("sum", (_DIMS, _KEEP, _DTYPE), _reduce("sum", ALL, "sum"), "Sum over dimensions."),
    _method("prod", (_ONE, _KEEP, _DTYPE), _reduce("prod", ALL, "sum"), "Product over a dimension."),
    _method("amax", (_EMPTY, _KEEP), _reduce("amax", ALL, "same"), "Largest value over dimensions."),
    _method("amin", (_EMPTY, _KEEP), _reduce("amin", ALL, "same"), "Smallest value over dimensions."),
    _method("argmax", (_ONE, _KEEP), _reduce("argmax", NUMBERS, "int64"), "Place of the largest value."),
    _method("argmin", (_ONE, _KEEP), _reduce("argmin", NUMBERS, "int64"), "Place of the smallest value."),
    _method(
        "std", (_DIMS, _CORRECTION, _KEEP), _reduce("std", FLOATING, "same"), "Standard deviation over dimensions."
    ),
    _method("var", (_DIMS, _CORRECTION, _KEEP), _reduce("var", FLOATING, "same"), "Variance over dimensions."),
    _method(
        "logsumexp",
        (_MUST, _KEEP),
        _reduce("logsumexp", ALL, "float"),
        "Logarithm of the sum of exponentials, computed stably.",
    ),
    _method(
        "cumsum",
        (Argument(name="dim", kind="int", doc="the dimension along which it sums"), _DTYPE),
        _cumsum,
        "Running sum along a dimension.",
    ),
)
