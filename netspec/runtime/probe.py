"""Layers without a shape rule, looked at: built and run on tensors without storage, or on real ones where they must.

Nothing here changes the random state, and nothing is trained: a layer is looked at in evaluation mode.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from netspec.catalog.entry import Entry, GivenModule
from netspec.probing import Seen, TypeLike
from netspec.runtime import calls
from netspec.shapes import ListType, TensorType

MOST_REAL = 2**22
"""Numbers in the weights and inputs up to which a layer is also run on real tensors: those without storage forgive
some dtypes that real ones refuse."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The weights of a module by name, and the modules in it: each path with the dotted names of its classes."""

    parameters: Mapping[str, tuple[int, ...]]
    buffers: Mapping[str, tuple[int, ...]]
    modules: Sequence[tuple[str, tuple[str, ...]]]


def parts(target: str, arguments: Mapping[str, Any]) -> Parts:
    """What a module of these arguments is made of. Raises what its constructor raises."""
    return _parts(target, _key(arguments))


@lru_cache(maxsize=64)
def _parts(target: str, key: Any) -> Parts:
    return describe(_made(target, key, "meta"))


def describe(module: nn.Module) -> Parts:
    """What a module is made of."""
    return Parts(
        parameters={name: tuple(one.shape) for name, one in module.named_parameters()},
        buffers={name: tuple(one.shape) for name, one in module.named_buffers()},
        modules=[(path, _classes(one)) for path, one in module.named_modules()],
    )


def forget() -> None:
    """Empty what is kept of modules that were looked at: their code has changed."""
    _parts.cache_clear()
    _module.cache_clear()
    calls.resolve.cache_clear()


def run(
    entry: Entry,
    arguments: Mapping[str, Any],
    inputs: Mapping[str, Any],
    watched: Sequence[str] = (),
    *,
    real: bool = True,
) -> Seen | str:
    """Run a module or function of the catalog on inputs of these types; a text says why it cannot be.

    `watched` are children whose first input is told. `real`: hold what meta tensors say against small real ones.
    """
    seen = _run(entry, arguments, inputs, watched, "meta")
    if isinstance(seen, Seen) and not (real and _is_small(entry, arguments, inputs)):
        return seen
    return _run(entry, arguments, inputs, watched, "cpu")


def _run(
    entry: Entry, arguments: Mapping[str, Any], inputs: Mapping[str, Any], watched: Sequence[str], device: str
) -> Seen | str:
    of_call = {a.name for a in entry.arguments if a.call or entry.category == "function"}
    named = _python(entry, {k: v for k, v in arguments.items() if k in of_call})
    made = _python(entry, {k: v for k, v in arguments.items() if k not in of_call})
    if entry.category == "function" and entry.training:
        named["training"] = False
    try:
        target = calls.resolve(entry.target)
        if entry.category != "function":
            target = _module(entry.target, _key(made), device)
    except Exception as error:  # whatever a constructor raises is its answer
        return _words(error)
    return look(entry, target, named, inputs, watched, device)


def look(
    entry: Entry,
    target: Callable[..., Any],
    named: Mapping[str, Any],
    inputs: Mapping[str, Any],
    watched: Sequence[str],
    device: str,
) -> Seen | str:
    """Call a module or function on tensors of these types on a device, and say what came of it."""
    given: dict[str, TypeLike] = {}
    handles = [
        child.register_forward_pre_hook(_noting(given, path))
        for path in watched
        if isinstance(target, nn.Module) and (child := target.get_submodule(path))
    ]
    counter = FlopCounterMode(display=False)
    try:
        with quietly(), torch.device(device), torch.no_grad(), counter:
            names = {port: port for port in inputs}
            result = calls.invoke(
                target, entry, names, lambda port: _tensors(inputs[port], device), named, entry.returns
            )
    except Exception as error:  # whatever a layer raises is its answer
        return _words(error)
    finally:
        for handle in handles:
            handle.remove()
    values = result if entry.returns and isinstance(result, tuple) else (result,)
    outputs = [_type(value) for value in values]
    if None in outputs:
        kind = type(next(v for v, t in zip(values, outputs, strict=True) if t is None)).__name__
        return f"it gives a {kind}, and only tensors and lists of them can be read"
    return Seen(outputs=[one for one in outputs if one is not None], flops=counter.get_total_flops(), given=given)


@contextmanager
def quietly() -> Iterator[None]:
    """Leave the random state as it was, and say nothing."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _python(entry: Entry, arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {name: calls.python_value(entry, name, value) for name, value in arguments.items()}


class Unfilled(TorchFunctionMode):
    """Tensors that a constructor makes only to fill them stand without storage; those that it computes with are real.

    All of them on `meta` would not do: some constructors work out their widths with tensors.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in FILLED and kwargs.get("device") is None:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


FILLED = frozenset({torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn, torch.full})


def _made(target: str, key: Any, device: str) -> nn.Module:
    """The module in evaluation mode. Without storage where that can be, else moved there once it has been built."""
    factory = calls.resolve(target)
    with quietly():
        if device == "meta":
            try:
                with Unfilled():
                    made = factory(**_value(key))
            except (RuntimeError, NotImplementedError):
                made = factory(**_value(key))
            made = made.to("meta")
        else:
            made = factory(**_value(key))
    if not isinstance(made, nn.Module):
        raise TypeError(f"{target} makes a {type(made).__name__}, and no nn.Module")
    return made.eval()


_module = lru_cache(maxsize=8)(_made)


def _noting(given: dict[str, TypeLike], path: str) -> Callable[[nn.Module, Any], None]:
    def note(module: nn.Module, args: Any) -> None:
        found = _type(args[0]) if args else None
        if found is not None:
            given.setdefault(path, found)

    return note


def _is_small(entry: Entry, arguments: Mapping[str, Any], inputs: Mapping[str, Any]) -> bool:
    sizes = [prod(type_.shape) for given in inputs.values() for type_ in _listed(given)]
    if entry.category != "function":
        of_call = {a.name for a in entry.arguments if a.call}
        made = _python(entry, {k: v for k, v in arguments.items() if k not in of_call})
        sizes += [prod(shape) for shape in parts(entry.target, made).parameters.values()]
    return sum(sizes) <= MOST_REAL


def _listed(given: Any) -> Sequence[TensorType]:
    parts_ = given if isinstance(given, tuple) else (given,)
    return [one for part in parts_ for one in (part.items if isinstance(part, ListType) else (part,))]


def _tensors(given: Any, device: str) -> Any:
    if isinstance(given, tuple):
        return [_tensors(one, device) for one in given]
    if isinstance(given, ListType):
        return [_tensors(one, device) for one in given.items]
    dtype = getattr(torch, given.dtype)
    if dtype.is_floating_point:
        return torch.rand(given.shape, device=device).to(dtype)
    return torch.zeros(given.shape, dtype=dtype, device=device)


def _type(value: Any) -> TypeLike | None:
    if isinstance(value, Tensor):
        return TensorType(tuple(value.shape), str(value.dtype).removeprefix("torch."))
    if isinstance(value, list) and all(isinstance(one, Tensor) for one in value):
        return ListType(tuple(TensorType(tuple(v.shape), str(v.dtype).removeprefix("torch.")) for v in value))
    return None


def _words(error: Exception) -> str:
    text = str(error).strip()
    first = text.splitlines()[0] if text else ""
    return first or type(error).__name__


def _classes(module: nn.Module) -> tuple[str, ...]:
    bases = type(module).__mro__
    return tuple(f"{base.__module__}.{base.__qualname__}" for base in bases if issubclass(base, nn.Module))


def _key(value: Any) -> Any:
    """A hashable form of arguments, that `_value` turns back."""
    if isinstance(value, Mapping):
        return ("mapping", tuple((name, _key(one)) for name, one in value.items()))
    if isinstance(value, list | tuple):
        return (type(value).__name__, tuple(_key(one) for one in value))
    return ("value", type(value).__name__, value)


def _value(key: Any) -> Any:
    if key[0] == "mapping":
        return {name: _value(one) for name, one in key[1]}
    if key[0] in ("list", "tuple"):
        return (list if key[0] == "list" else tuple)(_value(one) for one in key[1])
    if isinstance(key[2], GivenModule):
        from netspec.runtime.modules import child

        return child(key[2].node)
    return key[2]
