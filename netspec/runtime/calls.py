"""Calls of what the catalog names: modules made and applied, functions run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from netspec.catalog.entry import Argument, Entry, GivenClass, GivenModule
from netspec.catalog.given import function, leading
from netspec.origins import untraced
from netspec.program import Argument as Given
from netspec.program import Call, Node, Ref
from netspec.shapes import ListType

Inputs = Mapping[str, Ref | tuple[Ref, ...]]
Get = Callable[[Ref], Any]


def make(call: Call, child: Callable[[Node], nn.Module]) -> nn.Module:
    """The module of a call; what its `forward` takes is left to `apply`. `child` makes the modules that it is given."""
    stated = _stated(call, _plain, in_call=False)
    for argument in call.entry.arguments:  # in torch's order, in which the emitted code makes them too
        given = stated.get(argument.name)
        if isinstance(given, GivenModule):
            stated[argument.name] = child(given.node)
    made: nn.Module = resolve(call.entry.target)(**stated)
    return made


def apply(module: nn.Module, call: Call, inputs: Inputs, get: Get) -> Any:
    """What a module of the catalog gives for these inputs: a tensor, a list of them, or a tuple in the ports' order."""
    return invoke(module, call.entry, inputs, get, _stated(call, _plain, in_call=True), call.returned)


def of_rows(module: nn.Module, call: Call, rows: Tensor, get: Get) -> Tensor:
    """A loss of the rows where a tensor is true; of none it is zero, where torch's mean is no number."""
    first = next(iter(call.inputs.values()))
    assert isinstance(first, Ref)
    if not rows.any():
        nothing: Tensor = get(first)[rows].sum()
        return nothing
    found: Tensor = apply(module, call, call.inputs, lambda ref: get(ref)[rows])
    return found


def run(call: Call, get: Get, value: Callable[[Given], Any], owner: nn.Module, inputs: tuple[Any, ...]) -> Any:
    """What a function of the catalog gives. `owner` says whether it trains; `inputs` are those of the block."""
    entry = call.entry
    arguments = _stated(call, value, in_call=False)
    for argument in entry.arguments:
        if argument.training and not owner.training:
            arguments[argument.name] = 0.0
    if entry.training:
        arguments["training"] = owner.training
    if entry.creates:
        arguments = {**_leading(entry, arguments), "device": _device(owner, inputs)}
    return invoke(resolve(entry.target), entry, call.inputs, get, arguments, call.returned)


def _plain(argument: Given) -> Any:
    return untraced(argument.value)


def _stated(call: Call, value: Callable[[Given], Any], in_call: bool) -> dict[str, Any]:
    found = {}
    for name, argument in call.arguments.items():
        declared = call.entry.argument(name)
        assert declared is not None
        if declared.call == in_call:
            found[name] = _python(declared, value(argument))
    return found


def python_value(entry: Entry, name: str, value: Any) -> Any:
    """A value of an entry's argument as torch takes it."""
    declared = entry.argument(name)
    return _python(declared, value) if declared is not None else value


def _python(declared: Argument, value: Any) -> Any:
    """A value as torch takes it: the dtype, the function or the class of that name, a tensor of numbers in lists."""
    if declared.kind.startswith("dtype") and isinstance(value, str):
        return getattr(torch, value)
    if declared.kind.startswith("tensor") and isinstance(value, list | tuple):
        return torch.tensor(value, dtype=torch.float32)
    if isinstance(value, GivenClass):
        return _class(value)
    if isinstance(value, str) and value not in declared.choices and declared.takes_function:
        entry = function(value)
        assert entry is not None
        return resolve(entry.target)
    return value


def _class(given: GivenClass) -> Any:
    """A class of layers, what is said of it beforehand bound to it."""
    made = resolve(given.entry.target)
    values = {name: python_value(given.entry, name, value) for name, value in given.arguments.items()}
    first = [values.pop(name) for name in leading(given)]
    return partial(made, *first, **values) if first or values else made


def _leading(entry: Entry, arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments with the defaults that cannot be left out: `arange` takes a step only after a start."""
    required = [argument.required for argument in entry.arguments]
    defaults = {a.name: a.default for a in entry.arguments[: required.index(True)]} if any(required) else {}
    return {**defaults, **arguments}


def _device(owner: nn.Module, inputs: tuple[Any, ...]) -> torch.device | None:
    """Where the block's first input is; without inputs, where its weights are."""
    first = next((value for value in inputs if not isinstance(value, str)), None)
    first = first if first is not None else next(owner.parameters(), None)
    if isinstance(first, list | tuple):
        first = first[0]
    return first.device if isinstance(first, Tensor) else None


def invoke(
    target: Callable[..., Any],
    entry: Entry,
    inputs: Mapping[str, Any],
    get: Callable[[Any], Any],
    arguments: Mapping[str, Any],
    returns: tuple[str | tuple[str, ...], ...],
) -> Any:
    """Tensors by position as long as none is left out, then by name; before them what stands before them."""
    leading = [arguments[argument.name] for argument in entry.arguments if argument.leads]
    arguments = {k: v for k, v in arguments.items() if not leading or not _leads(entry, k)}
    positional: list[Any] = []
    named: dict[str, Any] = {}
    for argument, ports in entry.tensors.items():
        given = [inputs[port.name] for port in ports if port.name in inputs]
        if not given:
            continue
        values = [_listed(ref, get) if isinstance(ref, tuple) else get(ref) for ref in given]
        value = tuple(values) if len(ports) > 1 else values[0]
        if not ports[0].keyword and len(positional) == list(entry.tensors).index(argument):
            positional += value if ports[0].spread else [value]
        else:
            named[argument] = value
    result = target(*leading, *positional, **named, **arguments)
    return _unpacked(result, returns) if returns else result


def _leads(entry: Entry, name: str) -> bool:
    declared = entry.argument(name)
    return declared is not None and declared.leads


def _listed(refs: tuple[Ref, ...], get: Get) -> list[Any]:
    """The tensors for a port that takes a list; a list among them counts as its parts."""
    found: list[Any] = []
    for ref in refs:
        value = get(ref)
        found += value if isinstance(ref.type, ListType) else [value]
    return found


def _unpacked(result: Any, returns: tuple[str | tuple[str, ...], ...]) -> Any:
    """The tensors of a result that comes as nested tuples, in the order of the ports; a single one alone."""
    found = []
    for part, value in zip(returns, result, strict=True):
        found += list(value) if isinstance(part, tuple) else [value]
    tensors = tuple(value for value in found if value is not None)
    return tensors if len(tensors) > 1 else tensors[0]


@cache
def resolve(target: str) -> Any:
    """The Python object of a catalog entry's target, which the catalog states and never a spec."""
    module, _, name = target.rpartition(".")
    if module == "torch.Tensor":
        return getattr(Tensor, name)
    return getattr(import_module(module), name)
