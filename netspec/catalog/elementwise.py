"""Functions that work on each value alone."""

from __future__ import annotations

from netspec.catalog.activation import elementwise
from netspec.catalog.entry import Argument, Entry, Inferred, Port
from netspec.catalog.norm import over_last
from netspec.catalog.rules import (
    ALL,
    FLOATING,
    NUMBERS,
    Arguments,
    Inputs,
    accepting,
    dimension,
    floating,
    one,
    refuse,
    rule,
    tensor,
)

_PLAIN: tuple[tuple[str, tuple[str, ...], bool, str], ...] = (
    ("abs", NUMBERS, False, "Size without the sign."),
    ("neg", NUMBERS, False, "Changes the sign."),
    ("sign", ALL, False, "1, 0 or -1."),
    ("floor", NUMBERS, False, "Rounds down."),
    ("ceil", NUMBERS, False, "Rounds up."),
    ("exp", ALL, True, "e to the power of each value."),
    ("expm1", ALL, True, "exp(x) - 1, exact near zero."),
    ("log", ALL, True, "Natural logarithm."),
    ("log2", ALL, True, "Logarithm with base 2."),
    ("log10", ALL, True, "Logarithm with base 10."),
    ("log1p", ALL, True, "log(1 + x), exact near zero."),
    ("sqrt", ALL, True, "Square root."),
    ("rsqrt", ALL, True, "1 over the square root."),
    ("reciprocal", ALL, True, "1 over each value."),
    ("sin", ALL, True, "Sine of radians."),
    ("cos", ALL, True, "Cosine of radians."),
    ("erf", ALL, True, "Error function."),
)


@rule
def _square(arguments: Arguments, inputs: Inputs) -> Inferred:
    x = tensor(inputs, "square")
    return one(x.shape, "int64" if x.dtype == "bool" else x.dtype)


def _with_number(dtype: str, numbers: list[float]) -> str:
    """The dtype of a tensor combined with plain numbers."""
    if dtype in FLOATING:
        return dtype
    if any(isinstance(number, float) for number in numbers):
        return "float32"
    return "int64" if dtype == "bool" else dtype


@rule
def _clamp(arguments: Arguments, inputs: Inputs) -> Inferred:
    x = tensor(inputs, "clamp")
    limits = [limit for limit in (arguments["min"], arguments["max"]) if limit is not None]
    if not limits:
        refuse("clamp takes min, max or both, and got neither", argument="min", code="NS404")
    return one(x.shape, _with_number(x.dtype, limits))


@rule
def _pow(arguments: Arguments, inputs: Inputs) -> Inferred:
    x = tensor(inputs, "pow")
    exponent = arguments["exponent"]
    if x.dtype not in FLOATING and not isinstance(exponent, float) and exponent < 0:
        refuse(
            f"pow of {x.dtype} takes exponents from 0, and got {exponent}",
            help=f"write it as a float: {exponent}.0",
            argument="exponent",
            code="NS404",
        )
    return one(x.shape, _with_number(x.dtype, [exponent]))


@rule
def _round(arguments: Arguments, inputs: Inputs) -> Inferred:
    x = tensor(inputs, "round")
    accepting("round", x, NUMBERS)
    if arguments["decimals"] and x.dtype not in FLOATING:
        refuse(f"round of {x.dtype} takes no decimals", argument="decimals", code="NS404")
    return one(x.shape, x.dtype)


@rule
def _normalize(arguments: Arguments, inputs: Inputs) -> Inferred:
    x = tensor(inputs, "normalize")
    floating("normalize", x)
    dimension("normalize", arguments["dim"], len(x.shape))
    return one(x.shape, x.dtype)


@rule
def _layer_norm(arguments: Arguments, inputs: Inputs) -> Inferred:
    x = tensor(inputs, "layer_norm")
    floating("layer_norm", x)
    over_last("layer_norm", x, arguments)
    for port in ("weight", "bias"):
        if port not in inputs:
            continue
        given = tensor(inputs, "layer_norm", port)
        if given.shape != tuple(arguments["normalized_shape"]) or given.dtype != x.dtype:
            refuse(
                f"layer_norm takes a {port} of shape {list(arguments['normalized_shape'])} and dtype {x.dtype}, "
                f"and got {given} {given.dtype}",
                ports=(port,),
                code="NS403",
            )
    return one(x.shape, x.dtype)


@rule
def _one_hot(arguments: Arguments, inputs: Inputs) -> Inferred:
    x = tensor(inputs, "one_hot")
    accepting("one_hot", x, ("int64",))
    return one((*x.shape, arguments["num_classes"]), "int64")


def _limit(name: str, doc: str) -> Argument:
    return Argument(name=name, kind="float?", default=None, doc=doc)


ENTRIES: tuple[Entry, ...] = (
    *(
        Entry(name=name, category="function", target=f"torch.{name}", rule=elementwise(name, dtypes, lifts), doc=doc)
        for name, dtypes, lifts, doc in _PLAIN
    ),
    Entry(name="square", category="function", target="torch.square", rule=_square, doc="Each value times itself."),
    Entry(
        name="round",
        category="function",
        target="torch.round",
        arguments=(Argument(name="decimals", kind="int", default=0, doc="digits behind the point"),),
        rule=_round,
        doc="Rounds to the nearest number, halves to the even one.",
    ),
    Entry(
        name="clamp",
        category="function",
        target="torch.Tensor.clamp",
        arguments=(_limit("min", "lower limit; null: none"), _limit("max", "upper limit; null: none")),
        rule=_clamp,
        doc="Clips to a range.",
    ),
    Entry(
        name="pow",
        category="function",
        target="torch.Tensor.pow",
        arguments=(Argument(name="exponent", kind="float", positional=True, doc="the power"),),
        rule=_pow,
        doc="Raises each value to a power.",
    ),
    Entry(
        name="normalize",
        category="function",
        target="torch.nn.functional.normalize",
        arguments=(
            Argument(name="p", kind="float", default=2.0, doc="the power of the norm"),
            Argument(name="dim", kind="int", default=1, doc="the dimension over which the norm is taken"),
            Argument(name="eps", kind="float", default=1e-12, doc="least norm to divide by"),
        ),
        rule=_normalize,
        role="norm",
        doc="Divides vectors along a dimension by their norm.",
    ),
    Entry(
        name="layer_norm",
        category="function",
        target="torch.nn.functional.layer_norm",
        arguments=(
            Argument(
                name="normalized_shape",
                kind="ints",
                minimum=1,
                positional=True,
                doc="the sizes of the last dimensions, over which it normalises",
            ),
            Argument(name="eps", kind="float", default=1e-5, doc="added to the variance, against division by zero"),
        ),
        inputs=(
            Port(name="input"),
            Port(name="weight", optional=True, keyword=True),
            Port(name="bias", optional=True, keyword=True),
        ),
        rule=_layer_norm,
        role="norm",
        doc="Brings the last dimensions of each sample to mean 0 and variance 1, without weights of its own.",
    ),
    Entry(
        name="one_hot",
        category="function",
        target="torch.nn.functional.one_hot",
        arguments=(Argument(name="num_classes", kind="int", minimum=1, doc="the size of the new last dimension"),),
        rule=_one_hot,
        doc="Turns each class index into a row with one 1.",
    ),
)
