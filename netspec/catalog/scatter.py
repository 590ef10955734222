"""Functions that put values at places, or find the places of values."""

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
    refuse,
    rule,
    tensor,
)
from netspec.catalog.select import INDICES
from netspec.shapes import Dim, TensorType, provably_less


def _places(name: str, inputs: Inputs, port: str = "index", dtypes: tuple[str, ...] = INDICES) -> TensorType:
    index = tensor(inputs, name, port)
    if index.dtype not in dtypes:
        refuse(
            f"{name} takes places as int64, and got {index.dtype}",
            help="declare the input with its dtype: {shape: [N, T], dtype: int64}",
            ports=(port,),
            code="NS402",
        )
    return index


def _same_dtype(name: str, x: TensorType, source: TensorType, port: str) -> None:
    if x.dtype != source.dtype:
        refuse(
            f"{name} takes tensors of one dtype, and got {x.dtype} and {source.dtype}",
            help=f"convert one of them: `{{type: to, dtype: {x.dtype}}}`",
            ports=("input", port),
            code="NS402",
        )


def _fits(name: str, index: TensorType, other: TensorType, port: str, but: int | None = None) -> None:
    """Refuse places that are larger than a tensor, beside the dimension `but`."""
    if max(len(index.shape), 1) != max(len(other.shape), 1):
        refuse(
            f"{name} takes places with as many dimensions as the {port} {other}, and got {index}",
            ports=(port, "index"),
        )
    if not index.shape or not other.shape:
        return
    for axis, (wanted, have) in enumerate(zip(index.shape, other.shape, strict=True)):
        if axis != but and wanted != have and not provably_less(wanted, have):
            refuse(
                f"{name}: dimension {axis} is {wanted} in the places and {have} in the {port}",
                help="places must not be larger",
                ports=(port, "index"),
                code="NS403",
            )


def _scatter(name: str) -> Rule:
    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        x, index = tensor(inputs, name), _places(name, inputs)
        axis = dimension(name, arguments["dim"], len(x.shape))
        value = arguments.get("value")
        if name == "scatter" and ("src" in inputs) == (value is not None):
            given = "both" if value is not None else "neither"
            refuse(f"scatter takes a tensor `src` or a `value`, and got {given}", argument="value", code="NS404")
        if value is not None:
            if x.dtype not in FLOATING and (isinstance(value, float) or value < 0):
                refuse(f"scatter of {x.dtype} takes a whole value from 0", argument="value", code="NS406")
            _fits(name, index, x, "input", axis)
            return one(x.shape, x.dtype)
        source = tensor(inputs, name, "src")
        _same_dtype(name, x, source, "src")
        if name == "scatter_reduce" and x.dtype == "bool":
            refuse("scatter_reduce takes numbers, and got bool", code="NS406")
        _fits(name, index, x, "input", axis)
        _fits(name, index, source, "src")
        if x.dtype in FLOATING and source.shape != index.shape:
            # torch computes it, and then has no gradient for the source
            refuse(
                f"{name} takes a src as large as the places {index}, and got {source}",
                ports=("src", "index"),
                code="NS406",
            )
        return one(x.shape, x.dtype)

    return infer


def _along(name: str) -> Rule:
    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        dtypes = ("int64",) if name == "index_copy" else INDICES
        x, index, source = tensor(inputs, name), _places(name, inputs, "index", dtypes), tensor(inputs, name, "source")
        axis = dimension(name, arguments["dim"], len(x.shape))
        _same_dtype(name, x, source, "source")
        if not x.shape:
            refuse(f"{name} takes a tensor with dimensions, and got one without", code="NS406")
        if len(index.shape) != 1:
            refuse(f"{name} takes places [n], and got {index}", ports=("index",), code="NS406")
        wanted = (*x.shape[:axis], index.shape[0], *x.shape[axis + 1 :])
        if source.shape != wanted:
            refuse(
                f"{name} takes a source {TensorType(wanted)}, and got {source}",
                ports=("input", "index", "source"),
                code="NS403" if len(source.shape) > 0 else "NS406",
            )
        alpha = arguments.get("alpha", 1)
        if x.dtype not in FLOATING and isinstance(alpha, float):
            refuse(f"{name} of {x.dtype} takes a whole alpha", argument="alpha", code="NS406")
        return one(x.shape, x.dtype)

    return infer


@rule
def _index_fill(arguments: Arguments, inputs: Inputs) -> Inferred:
    x, index = tensor(inputs, "index_fill"), _places("index_fill", inputs, dtypes=("int64",))
    dimension("index_fill", arguments["dim"], len(x.shape))
    if len(index.shape) > 1:
        refuse(f"index_fill takes places [n], and got {index}", ports=("index",))
    value = arguments["value"]
    if x.dtype not in FLOATING and (isinstance(value, float) or value < 0):
        refuse(f"index_fill of {x.dtype} takes a whole value from 0", argument="value", code="NS406")
    return one(x.shape, x.dtype)


@rule
def _take_along(arguments: Arguments, inputs: Inputs) -> Inferred:
    name = "take_along_dim"
    x, index = tensor(inputs, name), _places(name, inputs, "indices", ("int64",))
    if len(x.shape) != len(index.shape):
        refuse(f"{name} takes places with as many dimensions as {x}, and got {index}", ports=("input", "indices"))
    if not x.shape:
        refuse(f"{name} takes tensors with dimensions, and got one without", code="NS406")
    axis = dimension(name, arguments["dim"], len(x.shape))
    sides = [TensorType((*t.shape[:axis], 1, *t.shape[axis + 1 :])) for t in (x, index)]
    shape = broadcasted(name, sides[0], sides[1], ("input", "indices"))
    return one((*shape[:axis], index.shape[axis], *shape[axis + 1 :]), x.dtype)


def _buckets(name: str) -> Rule:
    edges_port = "boundaries" if name == "bucketize" else "sorted_sequence"
    values_port = "input" if name == "bucketize" else "values"

    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        values, edges = tensor(inputs, name, values_port), tensor(inputs, name, edges_port)
        if len(edges.shape) != 1 and (name == "bucketize" or not edges.shape):
            refuse(f"{name} takes {edges_port} [n], and got {edges}", ports=(edges_port,))
        if len(edges.shape) > 1 and (len(values.shape) != len(edges.shape) or values.shape[:-1] != edges.shape[:-1]):
            refuse(
                f"{name} takes values whose shape begins as that of {edges_port} {edges}, and got {values}",
                ports=(values_port, edges_port),
                code="NS403",
            )
        if values.dtype != edges.dtype:
            refuse(
                f"{name} takes two tensors of one dtype, and got {values.dtype} and {edges.dtype}",
                ports=(values_port, edges_port),
                code="NS406",
            )
        accepting(name, values, NUMBERS, values_port)
        return one(values.shape, "int32" if arguments["out_int32"] else "int64")

    return infer


@rule
def _embedding(arguments: Arguments, inputs: Inputs) -> Inferred:
    name = "embedding"
    x, weight = _places(name, inputs, "input"), tensor(inputs, name, "weight")
    if len(weight.shape) != 2:
        refuse(f"embedding takes a weight [rows, features], and got {weight}", ports=("weight",))
    if weight.dtype not in FLOATING:
        refuse(f"embedding takes a weight in floating point, and got {weight.dtype}", ports=("weight",), code="NS406")
    rows, padding = weight.shape[0], arguments["padding_idx"]
    if padding is not None and not isinstance(rows, Dim) and not -rows <= padding < rows:
        refuse(f"embedding: padding_idx {padding} is no row of {rows}", argument="padding_idx", code="NS404")
    return one((*x.shape, weight.shape[1]), weight.dtype)


_DIM = Argument(name="dim", kind="int", positional=True, doc="the dimension along which places count")
_INPUT = Port(name="input")
_INDEX = Port(name="index", keyword=True)
_SRC = Port(name="src", keyword=True)
_SOURCE = Port(name="source", keyword=True)
_INT32 = Argument(name="out_int32", kind="bool", default=False, doc="whether places are int32, not int64")
_RIGHT = Argument(name="right", kind="bool", default=False, doc="whether a value that is an edge belongs before it")


def _function(
    name: str,
    arguments: tuple[Argument, ...],
    rule: Rule,
    doc: str,
    inputs: tuple[Port, ...],
    home: str = "torch.Tensor",
) -> Entry:
    return Entry(
        name=name,
        category="function",
        target=f"{home}.{name}",
        arguments=arguments,
        inputs=inputs,
        rule=rule,
        role="merge",
        doc=doc,
    )


ENTRIES: tuple[Entry, ...] = (
    _function(
        "scatter",
        (_DIM, Argument(name="value", kind="float?", default=None, doc="a number instead of the tensor `src`")),
        _scatter("scatter"),
        "Puts values at places along a dimension.",
        (_INPUT, _INDEX, Port(name="src", optional=True, keyword=True)),
    ),
    _function("scatter_add", (_DIM,), _scatter("scatter_add"), "Adds values at places.", (_INPUT, _INDEX, _SRC)),
    _function(
        "scatter_reduce",
        (
            _DIM,
            Argument(
                name="reduce",
                kind="choice",
                choices=("sum", "prod", "mean", "amax", "amin"),
                doc="what becomes of values at one place",
            ),
            Argument(name="include_self", kind="bool", default=True, doc="whether what is there counts too"),
        ),
        _scatter("scatter_reduce"),
        "Puts sums, means or extremes of values at places.",
        (_INPUT, _INDEX, _SRC),
    ),
    _function(
        "index_add",
        (_DIM, Argument(name="alpha", kind="float", default=1, doc="factor on what is added")),
        _along("index_add"),
        "Adds whole entries of a dimension at places.",
        (_INPUT, _INDEX, _SOURCE),
        "torch",
    ),
    _function(
        "index_copy",
        (_DIM,),
        _along("index_copy"),
        "Puts whole entries of a dimension at places.",
        (_INPUT, _INDEX, _SOURCE),
        "torch",
    ),
    _function(
        "index_fill",
        (_DIM, Argument(name="value", kind="float", doc="what stands there")),
        _index_fill,
        "Puts a number at whole entries of a dimension.",
        (_INPUT, _INDEX),
    ),
    _function(
        "take_along_dim",
        (Argument(name="dim", kind="int", doc="the dimension along which it picks"),),
        _take_along,
        "Picks along a dimension, at places that `argsort` or `argmax` give.",
        (_INPUT, Port(name="indices")),
        "torch",
    ),
    _function(
        "bucketize",
        (_INT32, _RIGHT),
        _buckets("bucketize"),
        "In which of several ranges each value lies.",
        (_INPUT, Port(name="boundaries")),
        "torch",
    ),
    _function(
        "searchsorted",
        (_INT32, _RIGHT),
        _buckets("searchsorted"),
        "Where each value belongs in a sorted row.",
        (Port(name="sorted_sequence"), Port(name="values")),
        "torch",
    ),
    _function(
        "embedding",
        (Argument(name="padding_idx", kind="int?", default=None, doc="index whose row has no gradient"),),
        _embedding,
        "Looks up a row of a tensor for each index.",
        (_INPUT, Port(name="weight")),
        "torch.nn.functional",
    ),
)
