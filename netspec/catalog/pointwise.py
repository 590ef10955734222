"""Functions of each value, and of the values of two or three tensors that stand in the same place."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

from netspec.catalog.activation import elementwise
from netspec.catalog.entry import Argument, Entry, Inferred, Port, Rule
from netspec.catalog.rules import (
    ALL,
    FLOATING,
    INTEGERS,
    NUMBERS,
    Arguments,
    Inputs,
    accepting,
    broadcasted,
    one,
    promoted,
    refuse,
    rule,
    tensor,
)
from netspec.shapes import TensorType

_BITS = (*INTEGERS, "bool")

# name, dtypes, whether integers become float32, doc
_PLAIN: tuple[tuple[str, tuple[str, ...], bool, str], ...] = (
    ("tan", ALL, True, "Tangent of radians."),
    ("asin", ALL, True, "Angle in radians that has this sine."),
    ("acos", ALL, True, "Angle in radians that has this cosine."),
    ("atan", ALL, True, "Angle in radians that has this tangent."),
    ("sinh", ALL, True, "Hyperbolic sine."),
    ("cosh", ALL, True, "Hyperbolic cosine."),
    ("asinh", ALL, True, "Inverse of the hyperbolic sine."),
    ("acosh", ALL, True, "Inverse of the hyperbolic cosine."),
    ("atanh", ALL, True, "Inverse of the hyperbolic tangent."),
    ("exp2", ALL, True, "2 to the power of each value."),
    ("erfc", ALL, True, "1 minus the error function."),
    ("erfinv", ALL, True, "Inverse of the error function."),
    ("lgamma", ALL, True, "Logarithm of the size of the gamma function."),
    ("digamma", ALL, True, "Slope of the logarithm of the gamma function."),
    ("deg2rad", ALL, True, "Degrees as radians."),
    ("rad2deg", ALL, True, "Radians as degrees."),
    ("sinc", ALL, True, "The sine of pi x divided by pi x, and 1 at zero."),
    ("trunc", NUMBERS, False, "Rounds towards zero."),
    ("frac", FLOATING, False, "What stands behind the point."),
    ("bitwise_not", _BITS, False, "Turns every bit over."),
)
_TRUTH = (
    ("isinf", "True where a value is infinite."),
    ("isposinf", "True where a value is infinite and above zero."),
    ("isneginf", "True where a value is infinite and below zero."),
    ("signbit", "True where a value is below zero."),
)
_CASTS = (
    ("float", "float32"),
    ("double", "float64"),
    ("half", "float16"),
    ("bfloat16", "bfloat16"),
    ("long", "int64"),
    ("int", "int32"),
    ("short", "int16"),
    ("char", "int8"),
    ("byte", "uint8"),
    ("bool", "bool"),
)
_COMPARISONS = (
    ("eq", "True where two values are equal."),
    ("ne", "True where two values differ."),
    ("gt", "True where the first is greater."),
    ("ge", "True where the first is greater or equal."),
    ("lt", "True where the first is less."),
    ("le", "True where the first is less or equal."),
    ("logical_and", "True where both are true (or not zero)."),
    ("logical_or", "True where one of two is true (or not zero)."),
    ("logical_xor", "True where exactly one of two is true (or not zero)."),
)
# name, dtypes, what becomes of the dtype (see `_two`), doc
_PAIRS = (
    ("bitwise_and", _BITS, "same", "Bits that both have."),
    ("bitwise_or", _BITS, "same", "Bits that one of two has."),
    ("bitwise_xor", _BITS, "same", "Bits that exactly one of two has."),
    ("fmod", ALL, "mod", "Rest of a division, with the sign of the first."),
    ("remainder", ALL, "mod", "Rest of a division, with the sign of the second."),
    ("fmax", ALL, "same", "The larger of two values, and the number beside one that is none."),
    ("fmin", ALL, "same", "The smaller of two values, and the number beside one that is none."),
    ("atan2", ALL, "angle", "Angle in radians of the point with these two coordinates."),
    ("hypot", ALL, "only", "Length of the vector with these two coordinates."),
    ("logaddexp", ALL, "only", "Logarithm of the sum of two exponentials, computed stably."),
    ("copysign", ALL, "float", "The size of the first with the sign of the second."),
    ("xlogy", ALL, "float", "The first times the logarithm of the second; 0 where it is 0."),
)
TWO = (Port(name="input"), Port(name="other"))


def _as(name: str, dtype: str) -> Rule:
    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        return one(tensor(inputs, name).shape, dtype)

    return infer


@rule
def _to(arguments: Arguments, inputs: Inputs) -> Inferred:
    return one(tensor(inputs, "to").shape, arguments["dtype"])


@rule
def _type_as(arguments: Arguments, inputs: Inputs) -> Inferred:
    return one(tensor(inputs, "type_as").shape, tensor(inputs, "type_as", "other").dtype)


def _together(name: str, inputs: Inputs, ports: Sequence[str]) -> TensorType:
    """What several tensors are stretched to, and the dtype that holds all of them."""
    parts = [tensor(inputs, name, port) for port in ports]

    def join(done: TensorType, other: TensorType) -> TensorType:
        return TensorType(broadcasted(name, done, other, (ports[0], ports[-1])))

    return TensorType(reduce(join, parts).shape, promoted_all(parts))


def promoted_all(parts: Sequence[TensorType]) -> str:
    """The dtype of arithmetic on several tensors: those without dimensions yield to the others, taken together."""
    sides = [[x.dtype for x in parts if bool(x.shape) == dimensions] for dimensions in (True, False)]
    strong, weak = (
        reduce(lambda a, b: promoted(TensorType((), a), TensorType((), b)), side) if side else None for side in sides
    )
    if strong is None or weak is None:
        found = strong or weak
        assert found is not None
        return found
    return promoted(TensorType((1,), strong), TensorType((), weak))


def _compared(name: str) -> Rule:
    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        return one(_together(name, inputs, ("input", "other")).shape, "bool")

    return infer


def _equal_dtypes(name: str, a: TensorType, b: TensorType, port: str) -> None:
    if a.dtype != b.dtype:
        refuse(
            f"{name} takes tensors of one dtype, and got {a.dtype} and {b.dtype}",
            help=f"convert one of them: `{{type: to, dtype: {a.dtype}}}`",
            ports=("input", port),
            code="NS402",
        )


@rule
def _isclose(arguments: Arguments, inputs: Inputs) -> Inferred:
    a, b = tensor(inputs, "isclose"), tensor(inputs, "isclose", "other")
    _equal_dtypes("isclose", a, b, "other")
    for argument in ("rtol", "atol"):
        if arguments[argument] < 0:
            refuse(f"isclose takes {argument} from 0", argument=argument, code="NS404")
    return one(broadcasted("isclose", a, b, ("input", "other")), "bool")


def _two(name: str, dtypes: tuple[str, ...], result: str) -> Rule:
    """`result`: "same" as promoted, "mod" the same without bool, "float" where integers become float32, "angle" the
    same without pairs of bool and float, "only" where it has to be floating point.
    """

    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        a, b = tensor(inputs, name), tensor(inputs, name, "other")
        accepting(name, a, dtypes, "input")
        accepting(name, b, dtypes, "other")
        both = _together(name, inputs, ("input", "other"))
        lifted = both.dtype not in FLOATING
        if lifted and result == "only":
            refuse(
                f"{name} takes floating point, and got {a.dtype} and {b.dtype}", ports=("input", "other"), code="NS402"
            )
        if result in ("only", "angle") and not lifted and "bool" in (a.dtype, b.dtype):
            refuse(  # torch has a gradient for some of these, and for others none
                f"{name} takes two tensors of numbers, and got {a.dtype} and {b.dtype}",
                ports=("input", "other"),
                code="NS402" if (a.dtype == "bool" and name != "hypot") or name == "logaddexp" else "NS406",
            )
        if both.dtype == "bool" and result == "mod":
            refuse(f"{name} takes numbers, and got bool", ports=("input", "other"), code="NS402")
        return one(both.shape, "float32" if lifted and result in ("float", "angle") else both.dtype)

    return infer


@rule
def _float_power(arguments: Arguments, inputs: Inputs) -> Inferred:
    return one(_together("float_power", inputs, ("input", "exponent")).shape, "float64")


@rule
def _lerp(arguments: Arguments, inputs: Inputs) -> Inferred:
    a, b = tensor(inputs, "lerp"), tensor(inputs, "lerp", "end")
    accepting("lerp", a, FLOATING)
    _equal_dtypes("lerp", a, b, "end")
    return one(broadcasted("lerp", a, b, ("input", "end")), a.dtype)


def _with_product(name: str) -> Rule:
    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        ports = ("input", "tensor1", "tensor2")
        result = _together(name, inputs, ports)
        value = arguments["value"]
        if result.dtype == "bool":
            refuse(f"{name} takes numbers, and got bool", ports=ports, code="NS402")
        if result.dtype not in FLOATING and isinstance(value, float):
            refuse(f"{name} of {result.dtype} takes a whole value, and got {value}", argument="value", code="NS406")
        parts = [tensor(inputs, name, port).dtype for port in ports[1:]]
        if name == "addcdiv" and any(dtype not in FLOATING for dtype in parts):
            refuse(
                f"addcdiv divides floating point, and got {' and '.join(parts)}",
                ports=ports[1:],
                code="NS402" if parts[1] not in FLOATING else "NS406",
            )
        return one(result.shape, result.dtype)

    return infer


@rule
def _nan_to_num(arguments: Arguments, inputs: Inputs) -> Inferred:
    x = tensor(inputs, "nan_to_num")
    return one(x.shape, x.dtype)


def _function(
    name: str,
    rule: Rule,
    doc: str,
    arguments: tuple[Argument, ...] = (),
    inputs: tuple[Port, ...] = (Port(name="input"),),
    home: str = "torch",
) -> Entry:
    return Entry(
        name=name,
        category="function",
        target=f"{home}.{name}",
        arguments=arguments,
        inputs=inputs,
        rule=rule,
        role="merge" if len(inputs) > 1 else "",
        doc=doc,
    )


def _number(name: str, default: float | None, doc: str, kind: str = "float") -> Argument:
    return Argument(name=name, kind=kind, default=default, doc=doc)


_THREE = (Port(name="input"), Port(name="tensor1"), Port(name="tensor2"))
_VALUE = _number("value", 1, "factor on what is added")

ENTRIES: tuple[Entry, ...] = (
    *(_function(name, elementwise(name, dtypes, lifts), doc) for name, dtypes, lifts, doc in _PLAIN),
    *(_function(name, _as(name, "bool"), doc) for name, doc in _TRUTH),
    _function(
        "logit",
        elementwise("logit", ALL, True),
        "Inverse of the sigmoid.",
        (_number("eps", None, "values are clipped to lie this far from 0 and 1; null: not at all", "float?"),),
    ),
    _function(
        "nan_to_num",
        _nan_to_num,
        "Puts numbers where a value is none or infinite.",
        (
            _number("nan", 0.0, "stands where a value is no number", "float?"),
            _number("posinf", None, "stands for infinity; null: the largest number", "float?"),
            _number("neginf", None, "stands for minus infinity; null: the least number", "float?"),
        ),
    ),
    *(_function(name, _as(name, dtype), f"Converts to {dtype}.", home="torch.Tensor") for name, dtype in _CASTS),
    _function(
        "to",
        _to,
        "Converts to a dtype.",
        (Argument(name="dtype", kind="dtype", positional=True, doc="the dtype of the result"),),
        home="torch.Tensor",
    ),
    _function("type_as", _type_as, "Converts to the dtype of another tensor.", inputs=TWO, home="torch.Tensor"),
    *(_function(name, _compared(name), doc, inputs=TWO) for name, doc in _COMPARISONS),
    _function(
        "isclose",
        _isclose,
        "True where two values are nearly equal.",
        (
            _number("rtol", 1e-5, "how far they may differ, as a share of the second"),
            _number("atol", 1e-8, "how far they may differ beside that"),
            Argument(name="equal_nan", kind="bool", default=False, doc="whether two that are no number are equal"),
        ),
        TWO,
    ),
    *(_function(name, _two(name, dtypes, result), doc, inputs=TWO) for name, dtypes, result, doc in _PAIRS),
    _function(
        "float_power",
        _float_power,
        "The first to the power of the second, as float64.",
        inputs=(Port(name="input"), Port(name="exponent")),
    ),
    _function(
        "lerp",
        _lerp,
        "Goes a part of the way from one tensor to another.",
        (Argument(name="weight", kind="float", positional=True, doc="the part of the way"),),
        (Port(name="input"), Port(name="end")),
    ),
    _function("addcmul", _with_product("addcmul"), "Adds the product of two tensors.", (_VALUE,), _THREE),
    _function("addcdiv", _with_product("addcdiv"), "Adds the quotient of two tensors.", (_VALUE,), _THREE),
)
