"""Functions that pick values: by a mask, by their places, by their size."""

from __future__ import annotations

from typing import Any

from netspec.broadcast import broadcast
from netspec.catalog.entry import Argument, Entry, Inferred, Port, Role, Rule
from netspec.catalog.merge import matrix_product
from netspec.catalog.rules import (
    FLOATING,
    NUMBERS,
    Arguments,
    Inputs,
    accepting,
    broadcasted,
    dimension,
    numel,
    one,
    promoted,
    refuse,
    rule,
    tensor,
)
from netspec.shapes import Dim, Problem, Size, TensorType, provably_less

INDICES = ("int64", "int32")


def _pair(values: TensorType) -> Inferred:
    return Inferred(outputs={"values": values, "indices": TensorType(values.shape, "int64")})


@rule
def _where(arguments: Arguments, inputs: Inputs) -> Inferred:
    condition, x, other = (tensor(inputs, "where", port) for port in ("condition", "input", "other"))
    if condition.dtype not in ("bool", "uint8"):
        refuse(
            f"where takes a condition of truth values, and got {condition.dtype}",
            help="compare it with something, as in `compute: mask > 0`",
            ports=("condition",),
            code="NS402",
        )
    if condition.dtype == "uint8":
        refuse("where takes truth values, and uint8 as a mask goes out of use", ports=("condition",), code="NS406")
    both = TensorType(broadcasted("where", x, other, ("input", "other")))
    return one(broadcasted("where", both, condition, ("condition", "input")), promoted(x, other))


@rule
def _masked_fill(arguments: Arguments, inputs: Inputs) -> Inferred:
    x, mask = tensor(inputs, "masked_fill"), tensor(inputs, "masked_fill", "mask")
    accepting("masked_fill", mask, ("bool",), "mask")
    value = arguments["value"]
    if x.dtype not in FLOATING and isinstance(value, float):
        refuse(f"masked_fill of {x.dtype} takes a whole number, and got {value}", argument="value", code="NS406")
    if x.dtype == "uint8" and value < 0:
        refuse(f"masked_fill of uint8 takes numbers from 0, and got {value}", argument="value", code="NS406")
    return one(broadcasted("masked_fill", x, mask, ("input", "mask")), x.dtype)


def _places(name: str, inputs: Inputs) -> TensorType:
    index = tensor(inputs, name, "index")
    if index.dtype not in INDICES:
        refuse(
            f"{name} takes places as int64, and got {index.dtype}",
            help="declare the input with its dtype: {shape: [N, T], dtype: int64}",
            ports=("index",),
            code="NS402",
        )
    return index


@rule
def _gather(arguments: Arguments, inputs: Inputs) -> Inferred:
    x, index = tensor(inputs, "gather"), _places("gather", inputs)
    axis = dimension("gather", arguments["dim"], len(x.shape))
    if max(len(index.shape), 1) != max(len(x.shape), 1):
        refuse(f"gather takes places with as many dimensions as the input {x}, and got {index}", ports=("index",))
    if index.shape and x.shape:
        for place, (have, wanted) in enumerate(zip(x.shape, index.shape, strict=True)):
            if place != axis and wanted != have and not provably_less(wanted, have):
                refuse(
                    f"gather takes places that are no larger than the input beside dimension {axis}: dimension "
                    f"{place} is {wanted} in the places and {have} in the input",
                    ports=("input", "index"),
                    code="NS403",
                )
    return one(index.shape, x.dtype)


@rule
def _index_select(arguments: Arguments, inputs: Inputs) -> Inferred:
    x, index = tensor(inputs, "index_select"), _places("index_select", inputs)
    axis = dimension("index_select", arguments["dim"], len(x.shape))
    if len(index.shape) > 1:
        refuse(f"index_select takes places [n], and got {index}", ports=("index",))
    count = index.shape[0] if index.shape else 1
    if not x.shape:
        if count != 1:
            refuse(f"index_select of a tensor without dimensions takes one place, and got {index}", ports=("index",))
        return one((), x.dtype)
    return one((*x.shape[:axis], count, *x.shape[axis + 1 :]), x.dtype)


def _extreme(name: str) -> Rule:
    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        x = tensor(inputs, name)
        axis = dimension(name, arguments["dim"], len(x.shape))
        kept = (1,) if arguments["keepdim"] and x.shape else ()
        return _pair(TensorType((*x.shape[:axis], *kept, *x.shape[axis + 1 :]), x.dtype))

    return infer


@rule
def _topk(arguments: Arguments, inputs: Inputs) -> Inferred:
    x = tensor(inputs, "topk")
    accepting("topk", x, NUMBERS)
    axis = dimension("topk", arguments["dim"], len(x.shape))
    wanted = arguments["k"]
    if not x.shape:
        if wanted > 1:
            refuse("topk of a tensor without dimensions takes k up to 1", argument="k", code="NS404")
        return _pair(TensorType((), x.dtype))
    if not isinstance(x.shape[axis], Dim) and wanted > x.shape[axis]:
        refuse(
            f"topk takes {wanted} of {x.shape[axis]} values in dimension {arguments['dim']}",
            argument="k",
            code="NS404",
        )
    return _pair(TensorType((*x.shape[:axis], wanted, *x.shape[axis + 1 :]), x.dtype))


def _sorted(name: str) -> Rule:
    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        x = tensor(inputs, name)
        dimension(name, arguments["dim"], len(x.shape))
        return _pair(x) if name == "sort" else one(x.shape, "int64")

    return infer


def _triangle(name: str) -> Rule:
    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        x = tensor(inputs, name)
        if len(x.shape) < 2:
            refuse(f"{name} takes matrices [..., rows, columns], and got {x}")
        return one(x.shape, x.dtype)

    return infer


def _truth(name: str) -> Rule:
    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        x = tensor(inputs, name)
        return one(x.shape, "bool")

    return infer


def _batched(name: str) -> Rule:
    ports = ("input", "mat2") if name == "bmm" else ("batch1", "batch2")

    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        a, b = (tensor(inputs, name, port) for port in ports)
        for port, x in zip(ports, (a, b), strict=True):
            if len(x.shape) != 3:
                refuse(f"{name} takes stacks of matrices [N, rows, columns], and got {x}", ports=(port,))
        if a.shape[0] != b.shape[0]:
            refuse(
                f"{name} takes two stacks of one length, and got {a.shape[0]} and {b.shape[0]}",
                help="`matmul` broadcasts",
                ports=ports,
                code="NS403",
            )
        product = matrix_product(name, a, b, ports)
        if name == "baddbmm":
            x = tensor(inputs, name)
            if x.dtype != a.dtype:
                refuse(f"{name} takes tensors of one dtype, and got {x.dtype} and {a.dtype}", code="NS402")
            for factor in ("beta", "alpha"):
                if a.dtype not in FLOATING and isinstance(arguments[factor], float):
                    refuse(f"{name} of {a.dtype} takes a whole {factor}", argument=factor, code="NS406")
            wide = broadcast(x.shape, product.shape)
            if isinstance(wide, Problem) or wide != product.shape:
                refuse(f"{name} adds {x} to products of shape {product}, and it does not fit", code="NS403")
        return one(product.shape, product.dtype)

    return infer


def _batched_flops(arguments: Arguments, inputs: Inputs, answer: Inferred) -> Size:
    output = answer.outputs["output"]
    assert isinstance(output, TensorType)
    left = inputs["batch1"] if "batch1" in inputs else inputs["input"]
    flops: Size = 2 * numel(output.shape) * left.shape[-1]
    return flops


_DIM = Argument(name="dim", kind="int", positional=True, doc="the dimension along which it picks")
_LAST = Argument(name="dim", kind="int", default=-1, doc="the dimension along which it compares")
_KEEP = Argument(name="keepdim", kind="bool", default=False, doc="whether the dimension stays with size 1")
_DESCENDING = Argument(name="descending", kind="bool", default=False, doc="whether the largest comes first")
_DIAGONAL = Argument(
    name="diagonal", kind="int", default=0, positional=True, doc="the diagonal that is the edge: 0 is the main one"
)
_PAIR = ("values", "indices")
_INPUT = (Port(name="input"),)
_INDEX = (Port(name="input"), Port(name="index", keyword=True))


def _function(
    name: str,
    arguments: tuple[Argument, ...],
    rule: Rule,
    doc: str,
    inputs: tuple[Port, ...] = _INPUT,
    module: str = "torch.Tensor",
    **more: Any,
) -> Entry:
    role: Role = "merge" if len(inputs) > 1 else ""
    return Entry(
        name=name,
        category="function",
        target=f"{module}.{name}",
        arguments=arguments,
        inputs=inputs,
        rule=rule,
        role=role,
        doc=doc,
        returns=_PAIR if name in ("max", "min", "topk", "sort") else (),
        **more,
    )


def _factor(name: str, doc: str) -> Argument:
    return Argument(name=name, kind="float", default=1, doc=doc)


ENTRIES: tuple[Entry, ...] = (
    _function(
        "where",
        (),
        _where,
        "Takes each value from the first tensor where the condition holds, from the second elsewhere.",
        (Port(name="condition"), Port(name="input"), Port(name="other")),
        "torch",
    ),
    _function(
        "masked_fill",
        (Argument(name="value", kind="float", positional=True, doc="what stands where the mask holds"),),
        _masked_fill,
        "Puts a number where a mask holds.",
        (Port(name="input"), Port(name="mask")),
    ),
    _function("gather", (_DIM,), _gather, "Picks along a dimension, another place for each value.", _INDEX),
    _function("index_select", (_DIM,), _index_select, "Picks whole entries of a dimension.", _INDEX),
    _function("max", (_DIM, _KEEP), _extreme("max"), "Largest values along a dimension, and their places."),
    _function("min", (_DIM, _KEEP), _extreme("min"), "Smallest values along a dimension, and their places."),
    _function(
        "topk",
        (
            Argument(name="k", kind="int", minimum=0, positional=True, doc="how many"),
            _LAST,
            Argument(name="largest", kind="bool", default=True, doc="whether the largest or the smallest ones"),
            Argument(name="sorted", kind="bool", default=True, doc="whether they come in order"),
        ),
        _topk,
        "The k largest values along a dimension, and their places.",
    ),
    _function("sort", (_LAST, _DESCENDING), _sorted("sort"), "The values of a dimension in order, and their places."),
    _function("argsort", (_LAST, _DESCENDING), _sorted("argsort"), "The places that put a dimension in order."),
    _function("tril", (_DIAGONAL,), _triangle("tril"), "Keeps what is below a diagonal, zeros above."),
    _function("triu", (_DIAGONAL,), _triangle("triu"), "Keeps what is above a diagonal, zeros below."),
    _function("logical_not", (), _truth("logical_not"), "True where a value is zero or false."),
    _function("isnan", (), _truth("isnan"), "True where a value is no number."),
    _function("isfinite", (), _truth("isfinite"), "True where a value is a finite number."),
    _function(
        "bmm",
        (),
        _batched("bmm"),
        "Product of two stacks of matrices, one by one.",
        (Port(name="input"), Port(name="mat2")),
        "torch",
        flops=_batched_flops,
    ),
    _function(
        "baddbmm",
        (_factor("beta", "factor on the input"), _factor("alpha", "factor on the products")),
        _batched("baddbmm"),
        "Adds products of two stacks of matrices to a tensor.",
        (Port(name="input"), Port(name="batch1"), Port(name="batch2")),
        "torch",
        flops=_batched_flops,
    ),
)
