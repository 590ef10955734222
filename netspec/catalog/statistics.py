"""Functions along a dimension: whether all hold, medians, quantiles, norms, running products, differences."""

from __future__ import annotations

from typing import Any

from netspec.catalog.entry import Argument, Entry, Inferred, Port, Rule
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
    surely_below,
    tensor,
)
from netspec.shapes import Dim, Size, TensorType


def _axes(name: str, dim: Any, rank: int) -> list[int]:
    """The dimensions that go: all of them where none is named."""
    if dim is None or (isinstance(dim, list | tuple) and not dim):
        return list(range(rank))
    return distinct(name, dim if isinstance(dim, list | tuple) else [dim], rank, "dim")


def _left(x: TensorType, axes: list[int], keepdim: bool) -> tuple[Size, ...]:
    if keepdim:
        return tuple(1 if axis in axes else size for axis, size in enumerate(x.shape))
    return tuple(size for axis, size in enumerate(x.shape) if axis not in axes)


def _truth(name: str) -> Rule:
    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        x = tensor(inputs, name)
        axes = _axes(name, arguments["dim"], len(x.shape))
        return one(_left(x, axes, arguments["keepdim"]), "uint8" if x.dtype == "uint8" else "bool")

    return infer


def _pair(name: str, dtypes: tuple[str, ...]) -> Rule:
    """A value of each row and its place."""

    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        x = tensor(inputs, name)
        accepting(name, x, dtypes)
        axis = dimension(name, arguments["dim"], len(x.shape))
        if name == "kthvalue":
            count = x.shape[axis] if x.shape else 1
            if not isinstance(count, Dim) and arguments["k"] > count:
                refuse(f"kthvalue: there is no value {arguments['k']} of {count}", argument="k", code="NS404")
        shape = _left(x, [axis] if x.shape else [], arguments["keepdim"])
        places = TensorType(shape, "int64")
        return Inferred(outputs={"values": TensorType(shape, x.dtype), "indices": places})

    return infer


def _running(name: str) -> Rule:
    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        x = tensor(inputs, name)
        dimension(name, arguments["dim"], len(x.shape))
        return Inferred(outputs={"values": x, "indices": TensorType(x.shape, "int64")})

    return infer


@rule
def _aminmax(arguments: Arguments, inputs: Inputs) -> Inferred:
    x = tensor(inputs, "aminmax")
    axes = _axes("aminmax", arguments["dim"], len(x.shape))
    found = TensorType(_left(x, axes, arguments["keepdim"]), x.dtype)
    return Inferred(outputs={"min": found, "max": found})


def _and_mean(name: str) -> Rule:
    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        x = tensor(inputs, name)
        accepting(name, x, FLOATING)
        axes = _axes(name, arguments["dim"], len(x.shape))
        found = TensorType(_left(x, axes, arguments["keepdim"]), x.dtype)
        return Inferred(outputs={name.partition("_")[0]: found, "mean": found})

    return infer


def _differentiable(name: str, x: TensorType, dtype: str | None) -> None:
    """Refuse a dtype that would cut the gradient off with an error."""
    if dtype is not None and dtype not in FLOATING and x.dtype in FLOATING:
        refuse(f"{name} of {x.dtype} has no gradient as {dtype}", argument="dtype", code="NS406")


def _without_nan(name: str) -> Rule:
    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        x = tensor(inputs, name)
        accepting(name, x, ALL if name == "nansum" else FLOATING)
        wanted = arguments["dtype"]
        _differentiable(name, x, wanted)
        if name == "nanmean" and wanted is not None and wanted not in FLOATING:
            refuse(f"nanmean computes in floating point, and dtype is {wanted}", argument="dtype", code="NS402")
        axes = _axes(name, arguments["dim"], len(x.shape))
        dtype = wanted or (x.dtype if x.dtype in FLOATING else "int64")
        return one(_left(x, axes, arguments["keepdim"]), dtype)

    return infer


@rule
def _quantile(arguments: Arguments, inputs: Inputs) -> Inferred:
    x = tensor(inputs, "quantile")
    accepting("quantile", x, ("float32", "float64"))
    dim = arguments["dim"]
    axes = list(range(len(x.shape))) if dim is None else [dimension("quantile", dim, len(x.shape))]
    return one(_left(x, axes, arguments["keepdim"]), x.dtype)


def _norm(name: str) -> Rule:
    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        port = "input" if name == "norm" else "x"
        x = tensor(inputs, name, port)
        accepting(name, x, FLOATING, port)
        axes = _axes(name, arguments["dim"], len(x.shape))
        if arguments.get("p") == "fro" and isinstance(arguments["dim"], list | tuple) and len(axes) > 2:
            refuse(
                'norm with p "fro" takes one dimension, two or all', help="write `p: 2`", argument="dim", code="NS404"
            )
        return one(_left(x, axes, arguments["keepdim"]), x.dtype)

    return infer


@rule
def _cumprod(arguments: Arguments, inputs: Inputs) -> Inferred:
    x = tensor(inputs, "cumprod")
    dimension("cumprod", arguments["dim"], len(x.shape))
    wanted = arguments["dtype"]
    _differentiable("cumprod", x, wanted)
    if wanted == "bool":
        refuse("cumprod gives numbers, and dtype is bool", argument="dtype", code="NS402")
    return one(x.shape, wanted or (x.dtype if x.dtype in FLOATING else "int64"))


@rule
def _logcumsumexp(arguments: Arguments, inputs: Inputs) -> Inferred:
    x = tensor(inputs, "logcumsumexp")
    accepting("logcumsumexp", x, FLOATING)
    dimension("logcumsumexp", arguments["dim"], len(x.shape))
    return one(x.shape, x.dtype)


@rule
def _count_nonzero(arguments: Arguments, inputs: Inputs) -> Inferred:
    x = tensor(inputs, "count_nonzero")
    return one(_left(x, _axes("count_nonzero", arguments["dim"], len(x.shape)), False), "int64")


@rule
def _diff(arguments: Arguments, inputs: Inputs) -> Inferred:
    x = tensor(inputs, "diff")
    if not x.shape:
        refuse("diff takes a tensor with dimensions, and got one without")
    axis = dimension("diff", arguments["dim"], len(x.shape))
    size = x.shape[axis] - arguments["n"]
    if surely_below(size, 1):
        refuse(f"diff of order {arguments['n']} leaves nothing of {x.shape[axis]} values", argument="n", code="NS406")
    if isinstance(size, Dim) and arguments["n"] > 1:
        refuse(
            f"diff of order {arguments['n']} needs the size of dimension {arguments['dim']} as a number, "
            f"and {x.shape[axis]} is not known",
            argument="n",
            code="NS407",
        )
    return one((*x.shape[:axis], size, *x.shape[axis + 1 :]), x.dtype)


_KEEP = Argument(name="keepdim", kind="bool", default=False, doc="whether the reduced dimensions stay with size 1")
_DTYPE = Argument(name="dtype", kind="dtype?", default=None, doc="the input is converted to this first")
_DIMS = Argument(name="dim", kind="int|ints?", default=None, doc="the dimensions that are reduced; null: all of them")
_ONE = Argument(name="dim", kind="int?", default=None, doc="the dimension that is reduced; null: all of them")
_MUST = Argument(name="dim", kind="int", positional=True, doc="the dimension that is reduced")
_LAST = Argument(name="dim", kind="int", default=-1, doc="the dimension that is reduced")
_ALONG = Argument(name="dim", kind="int", positional=True, doc="the dimension along which it goes")
_CORRECTION = Argument(
    name="correction", kind="float", default=1, doc="taken from the number of values that the sum is divided by"
)
_PLACES = ("values", "indices")


def _function(
    name: str,
    arguments: tuple[Argument, ...],
    rule: Rule,
    doc: str,
    home: str = "torch.Tensor",
    returns: tuple[str, ...] = (),
) -> Entry:
    return Entry(
        name=name,
        category="function",
        target=f"{home}.{name}",
        arguments=arguments,
        inputs=(Port(name="x" if name == "vector_norm" else "input"),),
        rule=rule,
        doc=doc,
        returns=returns,
    )


ENTRIES: tuple[Entry, ...] = (
    _function("all", (_DIMS, _KEEP), _truth("all"), "Whether all values over dimensions are true (or not zero)."),
    _function("any", (_DIMS, _KEEP), _truth("any"), "Whether one value over dimensions is true (or not zero)."),
    _function("median", (_MUST, _KEEP), _pair("median", NUMBERS), "Middle value, and its place.", returns=_PLACES),
    _function(
        "nanmedian",
        (_MUST, _KEEP),
        _pair("nanmedian", NUMBERS),
        "Middle value of those that are numbers, and its place.",
        returns=_PLACES,
    ),
    _function("mode", (_LAST, _KEEP), _pair("mode", ALL), "Most frequent value, and its place.", returns=_PLACES),
    _function(
        "kthvalue",
        (Argument(name="k", kind="int", minimum=1, positional=True, doc="which one, counted from 1"), _LAST, _KEEP),
        _pair("kthvalue", NUMBERS),
        "The k-th smallest value, and its place.",
        returns=_PLACES,
    ),
    _function("cummax", (_ALONG,), _running("cummax"), "Largest value so far, and its place.", returns=_PLACES),
    _function("cummin", (_ALONG,), _running("cummin"), "Smallest value so far, and its place.", returns=_PLACES),
    _function(
        "aminmax",
        (_ONE, _KEEP),
        _aminmax,
        "Smallest and largest value over a dimension.",
        returns=("min", "max"),
    ),
    _function(
        "std_mean",
        (_DIMS, _CORRECTION, _KEEP),
        _and_mean("std_mean"),
        "Standard deviation and mean over dimensions.",
        "torch",
        ("std", "mean"),
    ),
    _function(
        "var_mean",
        (_DIMS, _CORRECTION, _KEEP),
        _and_mean("var_mean"),
        "Variance and mean over dimensions.",
        "torch",
        ("var", "mean"),
    ),
    _function("nansum", (_DIMS, _KEEP, _DTYPE), _without_nan("nansum"), "Sum of the values that are numbers."),
    _function("nanmean", (_DIMS, _KEEP, _DTYPE), _without_nan("nanmean"), "Mean of the values that are numbers."),
    _function(
        "quantile",
        (
            Argument(
                name="q", kind="float", minimum=0, maximum=1, positional=True, doc="the share of values that are below"
            ),
            _ONE,
            _KEEP,
            Argument(
                name="interpolation",
                kind="choice",
                default="linear",
                choices=("linear", "lower", "higher", "midpoint", "nearest"),
                doc="what is taken between two values",
            ),
        ),
        _quantile,
        "The value below which a share of all lies.",
    ),
    _function(
        "norm",
        (
            Argument(
                name="p",
                kind="float|choice",
                default="fro",
                choices=("fro",),
                positional=True,
                doc='the power of the norm; "fro" is 2',
            ),
            _DIMS,
            _KEEP,
        ),
        _norm("norm"),
        "Length of vectors along dimensions.",
    ),
    _function(
        "vector_norm",
        (Argument(name="ord", kind="float", default=2, positional=True, doc="the power of the norm"), _DIMS, _KEEP),
        _norm("vector_norm"),
        "Length of vectors along dimensions.",
        "torch.linalg",
    ),
    _function("cumprod", (_ALONG, _DTYPE), _cumprod, "Running product along a dimension."),
    _function("logcumsumexp", (_ALONG,), _logcumsumexp, "Logarithm of the running sum of exponentials."),
    _function("count_nonzero", (_DIMS,), _count_nonzero, "How many values over dimensions are not zero."),
    _function(
        "diff",
        (
            Argument(name="n", kind="int", default=1, minimum=1, doc="how often it is done"),
            Argument(name="dim", kind="int", default=-1, doc="the dimension along which it goes"),
        ),
        _diff,
        "Differences of neighbours along a dimension.",
    ),
)
