"""What a kind of argument means, stated once: its JSON Schema, the values it accepts, and its description in words.

A kind is one of the atoms below, or several joined by `|`, and may end in `?` where null is allowed:

| atom | values |
| --- | --- |
| `int`, `float`, `bool`, `str` | the YAML scalar (a float may be written as an integer) |
| `any` | everything |
| `size`, `sizes` | a size that may be symbolic, a list of them |
| `size2` | an integer or a list of 2; any digit |
| `output2` | the same, where each may be null |
| `ints`, `floats`, `strs`, `bools` | a list |
| `float2` | a list of exactly 2 numbers; any digit |
| `tensor` | numbers in lists, all rows of one length, that become a tensor |
| `dtype` | a name of torch's, `float32` |
| `choice` | one of the argument's choices |
| `mapping` | keys and values |
| `module` | a layer, made beforehand |
| `class` | the name of a layer, or a mapping with some of its arguments, of which layers are made later |
| `function` | the name of a function of the catalog |
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, Final, NamedTuple

from netspec.catalog.entry import REQUIRED, Argument, GivenClass, GivenModule
from netspec.shapes import Dim, Problem

DTYPES: Final = (
    "float32",
    "float64",
    "float16",
    "bfloat16",
    "int64",
    "int32",
    "int16",
    "int8",
    "uint8",
    "bool",
)

Json = dict[str, Any]


class _Atom(NamedTuple):
    words: Callable[[Argument, int], list[str]]
    holds: Callable[[Argument, int, Any], bool]
    schema: Callable[[Argument, int], Json]


def json_schema(argument: Argument) -> Json:
    """The JSON Schema (draft-07) of the argument's value, with its description and default.

    Expressions (`$width`) are strings that any place accepts; the caller adds them.
    """
    alternatives = [atom.schema(argument, count) for atom, count in _atoms(argument)]
    if argument.kind.endswith("?"):
        alternatives.append({"type": "null"})
    schema: Json = dict(alternatives[0]) if len(alternatives) == 1 else {"anyOf": alternatives}
    if argument.doc:
        schema["description"] = argument.doc
    if argument.default is not REQUIRED:
        schema["default"] = list(argument.default) if isinstance(argument.default, tuple) else argument.default
    return schema


def accepts(argument: Argument, value: Any) -> Problem | None:
    """None where the value is of the argument's kind and within its limits, else what is wrong with it."""
    if value is None and argument.kind.endswith("?"):
        return None
    if _holds(argument, value):
        return None
    if isinstance(value, Dim) or (isinstance(value, list | tuple) and any(isinstance(v, Dim) for v in value)):
        return Problem(
            f"`{argument.name}` has to be known when the model is built, and {_show(value)} is not",
            help="give the input that size as a number",
            argument=argument.name,
            code="NS407",
        )
    anything = replace(argument, minimum=None, maximum=None)
    outside = (isinstance(value, str) and "choice" in argument.kind) or _holds(anything, value)
    return Problem(
        f"`{argument.name}` takes {describe(argument)}, and got {_show(value)}",
        argument=argument.name,
        code="NS104" if outside else "NS103",
    )


def _holds(argument: Argument, value: Any) -> bool:
    """Whether an atom of the argument's kind holds the value."""
    return any(atom.holds(argument, count, value) for atom, count in _atoms(argument))


def describe(argument: Argument) -> str:
    """The values that the argument takes, in words: "an integer from 1 or a list of 2"."""
    words = [word for atom, count in _atoms(argument) for word in atom.words(argument, count)]
    if argument.kind.endswith("?"):
        words.append("null")
    return _either(words)


def _atoms(argument: Argument) -> list[tuple[_Atom, int]]:
    return _atoms_of(argument.kind)


@cache
def _atoms_of(kind: str) -> list[tuple[_Atom, int]]:
    found = []
    for part in kind.removesuffix("?").split("|"):
        name = part.rstrip("0123456789")
        digits = part[len(name) :]
        found.append((_ATOMS[name + "#" if digits else name], int(digits or 0)))
    return found


def _either(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _show(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, list | tuple):
        return f"[{', '.join(_show(item) for item in value)}]"
    return str(value)


def _limits(argument: Argument) -> str:
    if argument.minimum is not None and argument.maximum is not None:
        return f" from {argument.minimum:g} to {argument.maximum:g}"
    if argument.minimum is not None:
        return f" from {argument.minimum:g}"
    return f" up to {argument.maximum:g}" if argument.maximum is not None else ""


def _within(argument: Argument, value: float) -> bool:
    if argument.minimum is not None and not value >= argument.minimum:
        return False
    return argument.maximum is None or value <= argument.maximum


def _limited(argument: Argument, schema: Json) -> Json:
    if argument.minimum is not None:
        schema["minimum"] = argument.minimum
    if argument.maximum is not None:
        schema["maximum"] = argument.maximum
    return schema


def _is_int(argument: Argument, value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and _within(argument, value)


def _is_float(argument: Argument, value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and _within(argument, value)


def _is_size(argument: Argument, value: Any) -> bool:
    return isinstance(value, Dim) or _is_int(argument, value)


def _all(test: Callable[[Any], bool], value: Any, count: int | None = None) -> bool:
    return isinstance(value, list | tuple) and (count is None or len(value) == count) and all(map(test, value))


def _int_schema(argument: Argument) -> Json:
    return _limited(argument, {"type": "integer"})


def _float_schema(argument: Argument) -> Json:
    return _limited(argument, {"type": "number"})


def _array(items: Json, count: int | None = None) -> Json:
    schema: Json = {"type": "array", "items": items}
    return schema if count is None else {**schema, "minItems": count, "maxItems": count}


def _tensor_shape(value: Any) -> tuple[int, ...] | None:
    """The shape of numbers in nested lists, or None where they are ragged or no numbers."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return ()
    if not isinstance(value, list | tuple):
        return None
    rows: Iterable[tuple[int, ...] | None] = {_tensor_shape(item) for item in value}
    shapes = list(rows)
    if len(shapes) > 1 or shapes == [None]:
        return None
    return (len(value), *(shapes[0] or ())) if shapes else (0,)


def tensor_shape(value: Any) -> tuple[int, ...]:
    """The shape of the tensor that a value of kind `tensor` becomes."""
    shape = _tensor_shape(value)
    assert shape is not None, "a value that `accepts` has not seen"
    return shape


def _scalar(words: str, kind: type, schema: str) -> _Atom:
    return _Atom(lambda a, n: [words], lambda a, n, v: isinstance(v, kind), lambda a, n: {"type": schema})


_ATOMS: Final[dict[str, _Atom]] = {
    "int": _Atom(lambda a, n: [f"an integer{_limits(a)}"], lambda a, n, v: _is_int(a, v), lambda a, n: _int_schema(a)),
    "float": _Atom(
        lambda a, n: [f"a number{_limits(a)}"], lambda a, n, v: _is_float(a, v), lambda a, n: _float_schema(a)
    ),
    "bool": _scalar("true or false", bool, "boolean"),
    "str": _scalar("a string", str, "string"),
    "any": _Atom(lambda a, n: ["any value"], lambda a, n, v: True, lambda a, n: {}),
    "mapping": _scalar("a mapping", dict, "object"),
    "size": _Atom(lambda a, n: [f"a size{_limits(a)}"], lambda a, n, v: _is_size(a, v), lambda a, n: _int_schema(a)),
    "sizes": _Atom(
        lambda a, n: ["a list of sizes"],
        lambda a, n, v: _all(lambda item: _is_size(a, item), v),
        lambda a, n: _array(_int_schema(a)),
    ),
    "size#": _Atom(
        lambda a, n: [f"an integer{_limits(a)}", f"a list of {n}"],
        lambda a, n, v: _is_int(a, v) or _all(lambda item: _is_int(a, item), v, n),
        lambda a, n: {"anyOf": [_int_schema(a), _array(_int_schema(a), n)]},
    ),
    "output#": _Atom(
        lambda a, n: [f"an integer{_limits(a)}", "null", f"a list of {n} of these"],
        lambda a, n, v: v is None or _is_int(a, v) or _all(lambda item: item is None or _is_int(a, item), v, n),
        lambda a, n: {
            "anyOf": [
                {"type": "null"},
                _int_schema(a),
                _array({"anyOf": [_int_schema(a), {"type": "null"}]}, n),
            ]
        },
    ),
    "ints": _Atom(
        lambda a, n: [f"a list of integers{_limits(a)}"],
        lambda a, n, v: _all(lambda item: _is_int(a, item), v),
        lambda a, n: _array(_int_schema(a)),
    ),
    "floats": _Atom(
        lambda a, n: [f"a list of numbers{_limits(a)}"],
        lambda a, n, v: _all(lambda item: _is_float(a, item), v),
        lambda a, n: _array(_float_schema(a)),
    ),
    "float#": _Atom(
        lambda a, n: [f"a list of {n} numbers{_limits(a)}"],
        lambda a, n, v: _all(lambda item: _is_float(a, item), v, n),
        lambda a, n: _array(_float_schema(a), n),
    ),
    "strs": _Atom(
        lambda a, n: ["a list of strings"],
        lambda a, n, v: _all(lambda item: isinstance(item, str), v),
        lambda a, n: _array({"type": "string"}),
    ),
    "bools": _Atom(
        lambda a, n: ["a list of true and false"],
        lambda a, n, v: _all(lambda item: isinstance(item, bool), v),
        lambda a, n: _array({"type": "boolean"}),
    ),
    "tensor": _Atom(
        lambda a, n: ["numbers in lists"],
        lambda a, n, v: _tensor_shape(v) is not None,
        lambda a, n: {"type": ["number", "array"]},
    ),
    "dtype": _Atom(
        lambda a, n: [f"a dtype ({', '.join(DTYPES)})"],
        lambda a, n, v: v in DTYPES,
        lambda a, n: {"enum": list(DTYPES)},
    ),
    "choice": _Atom(
        lambda a, n: [f'"{choice}"' for choice in a.choices],
        lambda a, n, v: v in a.choices,
        lambda a, n: {"enum": list(a.choices)},
    ),
    "module": _Atom(
        lambda a, n: [f"a layer ({_either(list(a.types))})" if a.types else "a layer"],
        lambda a, n, v: isinstance(v, GivenModule),
        lambda a, n: {"type": ["string", "object"]},
    ),
    "class": _Atom(
        lambda a, n: ["the name of a layer", "a mapping with some of its arguments"],
        lambda a, n, v: isinstance(v, str | GivenClass),
        lambda a, n: {"type": ["string", "object"]},
    ),
    "function": _scalar("the name of a function", str, "string"),
}
