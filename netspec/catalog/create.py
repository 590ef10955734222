"""Functions that make tensors: of nothing but sizes, or as large as another one.

Both doors put them on the device of the block's first input.
"""

from __future__ import annotations

from math import ceil
from typing import Any

from netspec.catalog.entry import REQUIRED, Argument, Entry, Inferred, Rule
from netspec.catalog.rules import FLOATING, Arguments, Inputs, accepting, one, refuse, rule, tensor
from netspec.shapes import Dim, Size


def _random(name: str, dtype: str) -> None:
    if dtype not in FLOATING:
        refuse(f"{name} makes floating point, and dtype is {dtype}", ports=(), argument="dtype", code="NS402")


def _filled(value: Any) -> str:
    """The dtype of a tensor that is filled with this number."""
    if isinstance(value, bool):
        return "bool"
    return "float32" if isinstance(value, float) else "int64"


def _sized(name: str) -> Rule:
    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        dtype = arguments["dtype"] or (_filled(arguments["fill_value"]) if name == "full" else "float32")
        if name.startswith("rand"):
            _random(name, dtype)
        return one(arguments["size"], dtype)

    return infer


@rule
def _arange(arguments: Arguments, inputs: Inputs) -> Inferred:
    start, end, step = arguments["start"], arguments["end"], arguments["step"]
    whole = not any(isinstance(value, float) for value in (start, end, step))
    dtype = arguments["dtype"] or ("int64" if whole else "float32")
    if step == 0:
        refuse("arange takes a step other than 0", ports=(), argument="step", code="NS404")
    if dtype == "bool":
        refuse("arange counts, and dtype is bool", ports=(), argument="dtype", code="NS402")
    if dtype not in FLOATING and not whole:
        refuse(f"arange as {dtype} takes whole numbers", ports=(), argument="dtype", code="NS406")
    if dtype == "uint8" and (start < 0 or end < 0 or step < 0):
        refuse("arange as uint8 takes numbers from 0", ports=(), argument="dtype", code="NS406")
    count: Size
    if not whole:
        count = ceil((float(end) - float(start)) / float(step))
    elif step == 1:
        count = end if not isinstance(start, Dim) and start == 0 else end - start
    else:
        count = -((start - end) // step)
    symbolic = any(isinstance(value, Dim) for value in (start, end, step))
    if not symbolic and (end - start) * step < 0:
        refuse(
            f"arange goes from {start} to {end}, and a step of {step} leads away from there",
            ports=(),
            argument="step",
            code="NS404",
        )
    return one((count,), dtype)


@rule
def _linspace(arguments: Arguments, inputs: Inputs) -> Inferred:
    dtype = arguments["dtype"] or "float32"
    if dtype == "bool":
        refuse("linspace gives numbers, and dtype is bool", ports=(), argument="dtype", code="NS406")
    if dtype == "uint8" and min(arguments["start"], arguments["end"]) < 0:
        refuse("linspace as uint8 takes numbers from 0", ports=(), argument="dtype", code="NS406")
    return one((arguments["steps"],), dtype)


@rule
def _eye(arguments: Arguments, inputs: Inputs) -> Inferred:
    rows, columns = arguments["n"], arguments["m"]
    return one((rows, rows if columns is None else columns), arguments["dtype"] or "float32")


def _like(name: str) -> Rule:
    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        x = tensor(inputs, name)
        dtype = arguments["dtype"] or x.dtype
        if name.startswith("rand"):
            if arguments["dtype"] is None:
                accepting(name, x, FLOATING)
            _random(name, dtype)
        if name == "full_like":
            value = arguments["fill_value"]
            if dtype == "uint8" and value < 0:
                refuse(f"{name} of uint8 takes numbers from 0", argument="fill_value", code="NS406")
            if dtype not in FLOATING and isinstance(value, float):
                refuse(f"{name} as {dtype} cuts {value} off", argument="fill_value", code="NS406")
        return one(x.shape, dtype)

    return infer


_SIZE = Argument(name="size", kind="sizes", minimum=1, positional=True, doc="the sizes of the tensor")
_DTYPE = Argument(name="dtype", kind="dtype?", default=None, doc="dtype of the values; null: float32")
_OWN = Argument(name="dtype", kind="dtype?", default=None, doc="dtype of the values; null: the input's")
_VALUE = Argument(name="fill_value", kind="float", positional=True, doc="what it holds")


def _number(name: str, doc: str, default: Any = REQUIRED) -> Argument:
    return Argument(name=name, kind="size|float", default=default, positional=True, doc=doc)


def _by_dtype(argument: Argument, words: str) -> Argument:
    return Argument(name=argument.name, kind=argument.kind, default=argument.default, doc=words)


_WHOLE = _by_dtype(_DTYPE, "dtype of the values; null: int64 where all numbers are whole, float32 otherwise")


def _make(name: str, arguments: tuple[Argument, ...], rule: Rule, doc: str) -> Entry:
    return Entry(
        name=name,
        category="function",
        target=f"torch.{name}",
        arguments=arguments,
        inputs=(),
        rule=rule,
        doc=doc,
    )


def _as(name: str, arguments: tuple[Argument, ...], doc: str) -> Entry:
    return Entry(
        name=name,
        category="function",
        target=f"torch.{name}",
        arguments=arguments,
        rule=_like(name),
        doc=doc,
    )


ENTRIES: tuple[Entry, ...] = (
    _make(
        "arange",
        (
            _number("start", "the first number", 0),
            _number("end", "the number before which it ends"),
            _number("step", "distance between neighbours", 1),
            _WHOLE,
        ),
        _arange,
        "Counts from a number up to another, which is left out.",
    ),
    _make(
        "linspace",
        (
            Argument(name="start", kind="float", positional=True, doc="the first number"),
            Argument(name="end", kind="float", positional=True, doc="the last number"),
            Argument(name="steps", kind="size", minimum=1, positional=True, doc="how many numbers"),
            _DTYPE,
        ),
        _linspace,
        "Numbers in equal steps from one to another, both of them included.",
    ),
    _make("zeros", (_SIZE, _DTYPE), _sized("zeros"), "A tensor of zeros."),
    _make("ones", (_SIZE, _DTYPE), _sized("ones"), "A tensor of ones."),
    _make(
        "full",
        (_SIZE, _VALUE, _by_dtype(_DTYPE, "dtype of the values; null: that of the number")),
        _sized("full"),
        "A tensor that holds one number everywhere.",
    ),
    _make("rand", (_SIZE, _DTYPE), _sized("rand"), "Random numbers, even between 0 and 1."),
    _make("randn", (_SIZE, _DTYPE), _sized("randn"), "Random numbers, normal with mean 0 and variance 1."),
    _make(
        "eye",
        (
            Argument(name="n", kind="size", minimum=1, positional=True, doc="rows"),
            Argument(name="m", kind="size?", default=None, minimum=1, doc="columns; null: as many as rows"),
            _DTYPE,
        ),
        _eye,
        "A matrix with ones on its diagonal and zeros elsewhere.",
    ),
    _as("zeros_like", (_OWN,), "Zeros in the shape of another tensor."),
    _as("ones_like", (_OWN,), "Ones in the shape of another tensor."),
    _as("full_like", (_VALUE, _OWN), "One number everywhere, in the shape of another tensor."),
    _as("rand_like", (_OWN,), "Random numbers, even between 0 and 1, in the shape of another tensor."),
    _as("randn_like", (_OWN,), "Random numbers, normal, in the shape of another tensor: for sampling in a VAE."),
)
