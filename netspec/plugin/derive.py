"""A catalog entry's arguments and inputs, from a signature, its type hints and its docstring."""

from __future__ import annotations

import collections.abc
import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from netspec.catalog.entry import REQUIRED, Argument, Port

_PLAIN = {int: "int", float: "float", bool: "bool", str: "str"}
_LISTS = {int: "ints", float: "floats", str: "strs", bool: "bools"}
_SEQUENCES = (list, tuple, collections.abc.Sequence, collections.abc.Iterable)


def is_module_class(thing: object) -> bool:
    """Whether it is a subclass of `nn.Module`, found out without importing torch."""
    return isinstance(thing, type) and any(
        base.__module__ == "torch.nn.modules.module" and base.__name__ == "Module" for base in thing.__mro__
    )


def constructor(thing: Any) -> Callable[..., Any]:
    """What takes the arguments: a class's `__init__`, or the function itself."""
    made: Callable[..., Any] = inspect.getattr_static(thing, "__init__") if isinstance(thing, type) else thing
    return made


def arguments_of(function: Callable[..., Any], skip: tuple[str, ...] = ()) -> tuple[Argument, ...]:
    """The arguments of a constructor or function, those in `skip` (tensors, `self`) left out.

    A type hint gives the kind; without one the default does; what is neither may hold any value.
    """
    hints, docs = hints_of(function), argument_docs(inspect.getdoc(function) or "")
    found = []
    for name, parameter in inspect.signature(function).parameters.items():
        if name in (*skip, "self") or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        found.append(_argument(name, parameter, hints.get(name, parameter.annotation), docs.get(name, "")))
    return tuple(found)


def ports_of(function: Callable[..., Any]) -> tuple[Port, ...]:
    """The tensors that a `forward` (or a function) takes: what is hinted so, and what has neither hint nor default."""
    found = []
    hints = hints_of(function)
    for name, parameter in inspect.signature(function).parameters.items():
        if name == "self" or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        hint = hints.get(name, parameter.annotation)
        free = parameter.default is parameter.empty
        if _is_tensor(hint) or (hint is parameter.empty and (free or parameter.default is None)):
            keyword = parameter.kind is parameter.KEYWORD_ONLY
            found.append(Port(name=name, optional=not free, keyword=keyword))
        elif any(_is_tensor(part) for part in typing.get_args(hint)) and typing.get_origin(hint) in _SEQUENCES:
            found.append(Port(name=name, optional=not free, variadic=True))
    return tuple(found)


def outputs_of(function: Callable[..., Any]) -> tuple[str, ...]:
    """The names of what it returns, where its hint is a NamedTuple."""
    hint = hints_of(function).get("return")
    fields = getattr(hint, "_fields", ())
    return tuple(fields) if isinstance(hint, type) and issubclass(hint, tuple) else ()


def hints_of(function: Callable[..., Any]) -> Mapping[str, Any]:
    """The type hints, evaluated; none where one of them cannot be."""
    try:
        return typing.get_type_hints(function)
    except (NameError, TypeError, AttributeError):
        return {}


def first_line(thing: object) -> str:
    """The first paragraph of its own docstring, in one line."""
    own = thing.__dict__.get("__doc__") if isinstance(thing, type) else getattr(thing, "__doc__", None)
    paragraph = inspect.cleandoc(own or "").split("\n\n")[0]
    return " ".join(paragraph.split())


def argument_docs(text: str) -> dict[str, str]:
    """What a docstring says of each argument: `name (type): words` as Google writes it, `:param name: words`."""
    found: dict[str, str] = {}
    last = ""
    inside = False
    for line in text.splitlines():
        if re.fullmatch(r"\s*(Args|Arguments|Parameters):\s*", line):
            inside, last = True, ""
        elif match := re.match(r"\s*:param\s+(?:\w+\s+)?(\w+):\s*(.*)", line):
            found[match[1]], last = match[2], ""
        elif inside and (match := re.match(r"\s+(\w+)\s*(?:\([^)]*\))?:\s+(\S.*)", line)):
            last = match[1]
            found[last] = match[2]
        elif inside and line.strip() and not line.startswith(" "):
            inside, last = False, ""
        elif last and line.strip():
            found[last] += f" {line.strip()}"
    return {name: _one_sentence(words) for name, words in found.items()}


def _one_sentence(text: str) -> str:
    return re.split(r"(?<=\.)\s", " ".join(text.replace("``", "`").split()))[0].removesuffix(".")


def _argument(name: str, parameter: inspect.Parameter, hint: Any, doc: str) -> Argument:
    kind, choices = _kind(hint) if hint is not parameter.empty else ("", ())
    default: Any = REQUIRED
    if parameter.default is not parameter.empty:
        default = parameter.default
        kind = kind or _kind_of_value(default)
        if default is None and not kind.endswith("?"):
            kind += "?"
        if not _is_plain(default):
            # A class, a function, a dtype: the code's own, which leaving the argument out keeps.
            words = getattr(default, "__name__", repr(default))
            doc, default = f"{doc + '; ' if doc else ''}left out: {words}", None
            kind = kind if kind.endswith("?") else kind + "?"
    return Argument(name=name, kind=kind or "any", default=default, choices=choices, doc=doc)


def _kind(hint: Any) -> tuple[str, tuple[str, ...]]:
    """The kind of a type hint and its choices; "any" for what the catalog has no word for."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if hint in _PLAIN:
        return _PLAIN[hint], ()
    if origin is typing.Literal and all(isinstance(part, str) for part in parts):
        return "choice", tuple(parts)
    if origin in (typing.Union, types.UnionType):
        kinds = [_kind(part) for part in parts if part is not type(None)]
        null = "?" if type(None) in parts else ""
        if any(kind == "any" for kind, _ in kinds):
            return "any" + null, ()
        return "|".join(dict.fromkeys(kind for kind, _ in kinds)) + null, sum((c for _, c in kinds), ())
    if origin in _SEQUENCES and parts and len({p for p in parts if p is not Ellipsis}) == 1 and parts[0] in _LISTS:
        return _LISTS[parts[0]], ()
    if _is_module(hint):
        return "module", ()
    if origin in (collections.abc.Callable, type) and parts and _is_module(parts[-1]):
        return "class", ()
    if origin is collections.abc.Callable and _is_tensor(parts[-1]):
        return "function", ()
    if getattr(hint, "__module__", "") == "torch" and getattr(hint, "__name__", "") == "dtype":
        return "dtype", ()
    return "any", ()


def _kind_of_value(value: Any) -> str:
    if type(value) in _PLAIN:
        return _PLAIN[type(value)]
    if isinstance(value, list | tuple) and value and len({type(item) for item in value}) == 1:
        return _LISTS.get(type(value[0]), "any")
    return "any"


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def _is_module(hint: Any) -> bool:
    """Whether a hint says `nn.Module`, or a class of modules."""
    named = getattr(hint, "__module__", "") == "torch.nn.modules.module" and getattr(hint, "__name__", "") == "Module"
    return named or is_module_class(hint)


def _is_tensor(hint: Any) -> bool:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return any(_is_tensor(part) for part in typing.get_args(hint))
    return getattr(hint, "__name__", "") == "Tensor" and str(getattr(hint, "__module__", "")).startswith("torch")
