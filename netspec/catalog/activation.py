"""Activations: the modules of torch.nn, and the functions of torch.nn.functional with the same arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from netspec.catalog.entry import Argument, Entry, Inferred, Rule
from netspec.catalog.rules import (
    ALL,
    FLOATING,
    NUMBERS,
    Arguments,
    Inputs,
    accepting,
    dimension,
    known,
    one,
    refuse,
    rule,
    tensor,
    weighted,
)
from netspec.shapes import Dim

INPLACE = Argument(name="inplace", kind="bool", default=False, doc="whether to overwrite the input, which saves memory")


_SLOPES = {
    "LeakyReLU": "negative_slope",
    "leaky_relu": "negative_slope",
    "ELU": "alpha",
    "elu": "alpha",
    "CELU": "alpha",
    "celu": "alpha",
}
"""The argument whose sign decides whether the function can be undone in the backward pass when it worked in place."""


def elementwise(name: str, dtypes: tuple[str, ...], lifts: bool = False) -> Rule:
    """Same shape; same dtype, or float32 for integers where the function `lifts` them."""

    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        x = tensor(inputs, name)
        accepting(name, x, dtypes)
        if name in ("CELU", "celu") and arguments["alpha"] == 0:
            refuse(f"{name} divides by alpha, and alpha is 0", argument="alpha", code="NS404")
        if x.dtype == "uint8" and min(arguments.get("threshold", 0), arguments.get("value", 0)) < 0:
            refuse(f"{name} of uint8 takes numbers from 0", argument="value", code="NS404")
        slope = arguments.get(_SLOPES.get(name, ""), 0)
        if slope < 0 and arguments["inplace"] and x.dtype in FLOATING:
            refuse(f"{name} with a negative slope cannot work in place", help="leave inplace out", argument="inplace")
        lifted = lifts and x.dtype not in FLOATING
        if lifted and arguments.get("inplace"):
            refuse(
                f"{name} of {x.dtype} gives float32, which cannot overwrite the input",
                help="leave inplace out",
                argument="inplace",
                code="NS402",
            )
        return one(x.shape, "float32" if lifted else x.dtype)

    return infer


def _number(name: str, default: float, doc: str) -> Argument:
    return Argument(name=name, kind="float", default=default, doc=doc)


_ALPHA = _number("alpha", 1.0, "scale of the negative part")
_LAMBD = _number("lambd", 0.5, "half width of the stretch around zero")
_HALF_WIDTH = Argument(name="lambd", kind="float", default=0.5, minimum=0, doc="half width of the stretch around zero")

# name, name of the function, arguments, dtypes, whether integers become float32, doc
_PLAIN: tuple[tuple[str, str, tuple[Argument, ...], tuple[str, ...], bool, str], ...] = (
    ("ReLU", "relu", (INPLACE,), NUMBERS, False, "Sets what is negative to zero."),
    ("ReLU6", "relu6", (INPLACE,), NUMBERS, False, "Clips to the range from 0 to 6."),
    (
        "LeakyReLU",
        "leaky_relu",
        (_number("negative_slope", 0.01, "slope of the negative part"), INPLACE),
        FLOATING,
        False,
        "Scales what is negative by a small slope.",
    ),
    (
        "RReLU",
        "rrelu",
        (
            _number("lower", 1.0 / 8, "least slope of the negative part"),
            _number("upper", 1.0 / 3, "greatest slope of the negative part"),
            INPLACE,
        ),
        ("float32", "float64", "bfloat16"),
        False,
        "Scales what is negative by a slope drawn at random in training.",
    ),
    (
        "GELU",
        "gelu",
        (
            Argument(
                name="approximate",
                kind="choice",
                default="none",
                choices=("none", "tanh"),
                doc='"tanh" computes it approximately',
            ),
        ),
        FLOATING,
        False,
        "Weighs each value by the normal distribution function.",
    ),
    ("SiLU", "silu", (INPLACE,), FLOATING, False, "Multiplies each value by its sigmoid; also called swish."),
    ("ELU", "elu", (_ALPHA, INPLACE), FLOATING, False, "Bends what is negative towards -alpha exponentially."),
    ("SELU", "selu", (INPLACE,), FLOATING, False, "Scaled ELU with the constants that keep mean 0 and variance 1."),
    ("CELU", "celu", (_ALPHA, INPLACE), FLOATING, False, "ELU with a continuous slope at zero."),
    ("Sigmoid", "sigmoid", (), ALL, True, "Squeezes each value into the range from 0 to 1."),
    ("Tanh", "tanh", (), ALL, True, "Squeezes each value into the range from -1 to 1."),
    ("LogSigmoid", "logsigmoid", (), FLOATING, False, "Logarithm of the sigmoid, computed stably."),
    ("Hardswish", "hardswish", (INPLACE,), FLOATING, False, "SiLU made of straight pieces, cheaper to compute."),
    ("Hardsigmoid", "hardsigmoid", (INPLACE,), FLOATING, False, "Sigmoid made of straight pieces."),
    (
        "Hardtanh",
        "hardtanh",
        (_number("min_val", -1.0, "lower limit"), _number("max_val", 1.0, "upper limit"), INPLACE),
        NUMBERS,
        False,
        "Clips to a range.",
    ),
    ("Mish", "mish", (INPLACE,), FLOATING, False, "Multiplies each value by the tanh of its softplus."),
    (
        "Softplus",
        "softplus",
        (_number("beta", 1.0, "sharpness of the bend"), _number("threshold", 20.0, "from here on it is linear")),
        FLOATING,
        False,
        "Smooth version of ReLU.",
    ),
    ("Softshrink", "softshrink", (_HALF_WIDTH,), FLOATING, False, "Moves each value towards zero by lambd."),
    ("Hardshrink", "hardshrink", (_LAMBD,), FLOATING, False, "Sets values within lambd of zero to zero."),
    ("Softsign", "softsign", (), NUMBERS, True, "Divides each value by 1 plus its size."),
    ("Tanhshrink", "tanhshrink", (), NUMBERS, True, "Subtracts from each value its tanh."),
    (
        "Threshold",
        "threshold",
        (
            Argument(name="threshold", kind="float", doc="values up to here are replaced"),
            Argument(name="value", kind="float", doc="what replaces them"),
            INPLACE,
        ),
        NUMBERS,
        False,
        "Replaces values that are not above a threshold.",
    ),
)


def _pair(
    name: str, function: str, arguments: tuple[Argument, ...], dtypes: tuple[str, ...], lifts: bool, doc: str
) -> tuple[Entry, Entry]:
    target = f"torch.{function}" if function in ("sigmoid", "tanh") else f"torch.nn.functional.{function}"
    return (
        Entry(
            name=name,
            category="layer",
            target=f"torch.nn.{name}",
            arguments=arguments,
            rule=elementwise(name, dtypes, lifts),
            role="activation",
            doc=doc,
            ancestors=("Hardtanh",) if name == "ReLU6" else (),
        ),
        Entry(
            name=function,
            category="function",
            target=target,
            arguments=arguments,
            rule=elementwise(function, dtypes, lifts),
            role="activation",
            training=function == "rrelu",
            doc=doc,
        ),
    )


def along(name: str, required: bool = True) -> Rule:
    """Same shape, over one dimension that must exist; `dtype` converts first."""

    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        x = tensor(inputs, name)
        dtype = arguments.get("dtype")
        if dtype is None:
            accepting(name, x, FLOATING)
        elif dtype not in FLOATING:
            refuse(f"{name} computes in floating point, and dtype is {dtype}", argument="dtype", code="NS402")
        elif x.dtype == "bool" and name == "softmin":
            refuse("softmin changes the sign of its input, and got bool", code="NS402")
        dim = arguments["dim"]
        if dim is None:
            # torch guesses a dimension with a warning: 0 for ranks 0, 1 and 3, else 1.
            dim = 0 if len(x.shape) in (0, 1, 3) else 1
        dimension(name, dim, len(x.shape))
        return one(x.shape, dtype or x.dtype)

    return infer


def _softmax(name: str, function: str, doc: str) -> tuple[Entry, Entry]:
    dim = Argument(name="dim", kind="int?", default=None, doc="the dimension over which the values are compared")
    return (
        Entry(
            name=name,
            category="layer",
            target=f"torch.nn.{name}",
            arguments=(dim,),
            rule=along(name),
            role="activation",
            doc=doc,
        ),
        Entry(
            name=function,
            category="function",
            target=f"torch.nn.functional.{function}",
            arguments=(
                dim,
                Argument(name="dtype", kind="dtype?", default=None, doc="the input is converted to this first"),
            ),
            rule=along(function),
            role="activation",
            doc=doc,
        ),
    )


@rule
def _softmax2d(arguments: Arguments, inputs: Inputs) -> Inferred:
    x = tensor(inputs, "Softmax2d")
    if len(x.shape) not in (3, 4):
        refuse(f"Softmax2d takes [N, C, H, W] or [C, H, W], and got {x}", help="use Softmax with a `dim`")
    accepting("Softmax2d", x, FLOATING)
    return one(x.shape, x.dtype)


def _glu(name: str) -> Rule:
    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        x = tensor(inputs, name)
        accepting(name, x, FLOATING)
        if not x.shape:
            refuse(f"{name} halves a dimension, and got a tensor without dimensions")
        dim = dimension(name, arguments["dim"], len(x.shape))
        size = x.shape[dim]
        if not isinstance(size, Dim) and size % 2:
            refuse(
                f"{name} halves dimension {arguments['dim']}, and its size {size} is odd",
                help="make the layer before twice as wide as the result",
                argument="dim",
            )
        return one((*x.shape[:dim], size // 2, *x.shape[dim + 1 :]), x.dtype)

    return infer


@rule
def _prelu(arguments: Arguments, inputs: Inputs) -> Inferred:
    x = tensor(inputs, "PReLU")
    weighted("PReLU", x)
    count = arguments["num_parameters"]
    if count != 1:
        channels = known("PReLU", x.shape[1], "the number of channels") if len(x.shape) > 1 else 1
        if not x.shape:
            refuse(f"PReLU with num_parameters {count} takes [N, C, ...], and got a tensor without dimensions")
        if channels != count:
            refuse(
                f"PReLU has num_parameters {count}, and its input {x} has {channels} channels",
                help="num_parameters is 1, or the number of channels (dimension 1)",
                argument="num_parameters",
                code="NS403",
            )
    return one(x.shape, x.dtype)


def _prelu_weights(arguments: Mapping[str, Any]) -> Mapping[str, tuple[int, ...]]:
    return {"weight": (arguments["num_parameters"],)}


_GLU_DIM = Argument(name="dim", kind="int", default=-1, doc="the dimension that is split into values and gates")
_GLU_DOC = "Splits a dimension in two halves and gates one by the sigmoid of the other."

ENTRIES: tuple[Entry, ...] = (
    *(entry for row in _PLAIN for entry in _pair(*row)),
    *_softmax("Softmax", "softmax", "Turns values into shares that sum to 1."),
    *_softmax("LogSoftmax", "log_softmax", "Logarithm of the softmax, computed stably."),
    *_softmax("Softmin", "softmin", "Softmax of the negated values."),
    Entry(
        name="Softmax2d",
        category="layer",
        target="torch.nn.Softmax2d",
        rule=_softmax2d,
        role="activation",
        doc="Softmax over the channels at each place of an image.",
    ),
    Entry(
        name="GLU",
        category="layer",
        target="torch.nn.GLU",
        arguments=(_GLU_DIM,),
        rule=_glu("GLU"),
        role="activation",
        doc=_GLU_DOC,
    ),
    Entry(
        name="glu",
        category="function",
        target="torch.nn.functional.glu",
        arguments=(_GLU_DIM,),
        rule=_glu("glu"),
        role="activation",
        doc=_GLU_DOC,
    ),
    Entry(
        name="PReLU",
        category="layer",
        target="torch.nn.PReLU",
        arguments=(
            Argument(
                name="num_parameters",
                kind="int",
                default=1,
                minimum=1,
                positional=True,
                doc="1, or the number of channels",
            ),
            Argument(name="init", kind="float", default=0.25, doc="slope to start with"),
        ),
        rule=_prelu,
        parameters=_prelu_weights,
        role="activation",
        doc="Scales what is negative by a learned slope.",
    ),
)
