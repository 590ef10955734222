"""What a plugin's layer does, found by running it: its shapes where no rule states them, its weights, its FLOPs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from netspec.catalog.entry import Entry, GivenModule, Inferred, Rule
from netspec.catalog.rules import inferred, known, rule, tensor
from netspec.origins import untraced
from netspec.probing import Told, tell
from netspec.shapes import Dim, ListType, Problem, Size, TensorType

Places = Mapping[str, tuple[str, int]]
"""For each argument that is inferred: the input, and the position of the size in its shape."""


def probed(entry: Entry, places: Places, stated: Rule | None) -> Entry:
    """The entry with all that inference and the layer table ask for; `stated` is the plugin's own shape rule."""
    if entry.category == "function":
        return replace(entry, rule=stated or _shapes(entry, {}), flops=_flops(entry))
    return replace(
        entry,
        rule=stated or _shapes(entry, places),
        parameters=lambda arguments: _parts(entry, arguments).parameters,
        buffers=lambda arguments: _parts(entry, arguments).buffers,
        modules=lambda arguments: _parts(entry, arguments).modules,
        flops=_flops(entry),
    )


def _shapes(entry: Entry, places: Places) -> Rule:
    @rule
    def sizes(arguments: Mapping[str, Any], inputs: Mapping[str, Any]) -> Inferred:
        found: dict[str, Size] = {}
        for argument, (port, place) in places.items():
            x = tensor(inputs, entry.name, port)
            if not -len(x.shape) <= place < len(x.shape):
                from netspec.catalog.rules import refuse

                refuse(f"{entry.name} takes {argument} from size {place} of {port}, and got {x}", ports=(port,))
            size = known(entry.name, x.shape[place], argument, port)
            found[argument] = inferred(entry.name, arguments, argument, size, f"at size {place} of {port}", port)
        return Inferred(outputs={}, arguments=found)

    def answer(arguments: Mapping[str, Any], inputs: Mapping[str, Any]) -> Inferred | Problem:
        ready = sizes(arguments, inputs)
        if isinstance(ready, Problem):
            return ready
        told = observed(entry, {**arguments, **(ready.arguments or {})}, inputs)
        if isinstance(told, Problem):
            return told
        names = [name for part in entry.returns for name in ((part,) if isinstance(part, str) else part)] or ["output"]
        if len(names) != len(told.outputs):
            return Problem(
                f"{entry.name} gives {len(told.outputs)} tensors, and its plugin states {len(names)}",
                help="the plugin names them: `outputs=(…)`",
                code="NS408",
            )
        return Inferred(outputs=dict(zip(names, told.outputs, strict=True)), arguments=ready.arguments)

    return answer


_kept: dict[Any, Told | Problem] = {}
_entries: dict[int, Entry] = {}
MOST_KEPT = 4096


def observed(entry: Entry, arguments: Mapping[str, Any], inputs: Mapping[str, Any]) -> Told | Problem:
    """What the layer gives; the same question is answered once."""
    from netspec.runtime import probe

    given = _stated(entry, arguments)
    # Two modules of one type are not the same, whatever they are called.
    said = tuple((name, one if isinstance(one, GivenModule) else repr(one)) for name, one in given.items())
    key = (id(entry), said, tuple((port, repr(_plain(type_))) for port, type_ in inputs.items()))
    if key not in _kept:
        if len(_kept) >= MOST_KEPT:
            _kept.clear()
        _entries[id(entry)] = entry  # what is kept under its id must not outlive it
        _kept[key] = tell(entry.name, inputs, lambda types: probe.run(entry, given, types))
    return _kept[key]


def forget() -> None:
    """Empty what is kept: code has changed."""
    import sys

    _kept.clear()
    _entries.clear()
    if "netspec.runtime.probe" in sys.modules:
        from netspec.runtime import probe

        probe.forget()


def _plain(type_: Any) -> Any:
    if isinstance(type_, tuple | ListType):
        return tuple(_plain(one) for one in (type_.items if isinstance(type_, ListType) else type_))
    assert isinstance(type_, TensorType)
    return (tuple(str(size) if isinstance(size, Dim) else int(size) for size in type_.shape), type_.dtype)


def _stated(entry: Entry, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that differ from their defaults: the others are the code's own."""
    given = {}
    for argument in entry.arguments:
        value = untraced(arguments[argument.name]) if argument.name in arguments else None
        if argument.name in arguments and (argument.required or argument.inferred or value != argument.default):
            given[argument.name] = value
    return given


def _parts(entry: Entry, arguments: Mapping[str, Any]) -> Any:
    from netspec.runtime import calls, probe

    given = {
        name: calls.python_value(entry, name, value)
        for name, value in _stated(entry, arguments).items()
        if not any(a.name == name and a.call for a in entry.arguments)
    }
    return probe.parts(entry.target, given)


def _flops(entry: Entry) -> Any:
    def count(arguments: Mapping[str, Any], inputs: Mapping[str, Any], answer: Inferred) -> Size:
        told = observed(entry, {**arguments, **(answer.arguments or {})}, inputs)
        if isinstance(told, Problem) or told.flops is None:
            return Dim("unknown")
        return told.flops

    return count
