"""Arguments that are modules, classes of layers and functions: what rules ask of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from netspec.catalog.entry import REQUIRED, Argument, Entry, GivenClass, GivenModule, Part, TypeLike
from netspec.catalog.kinds import accepts
from netspec.catalog.registry import lookup, names
from netspec.catalog.rules import refuse
from netspec.shapes import Problem, Size, TensorType
from netspec.suggest import suggest

Weights = dict[str, tuple[int, ...]]


def gives(name: str, argument: str, module: GivenModule) -> TensorType:
    """The one tensor that a module gives; refuses one that gives a list, or several."""
    outputs = list(module.outputs.values())
    returned = module.entry is not None and module.entry.returned(module.arguments)
    if len(outputs) != 1 or returned or not isinstance(outputs[0], TensorType):
        refuse(
            f"{name} goes on with the one tensor that its {argument} gives, and {module.name} gives several",
            help="write a block around it that gives one of them",
            argument=argument,
            ports=(),
            code="NS406",
        )
    return outputs[0]


def keeps(name: str, argument: str, module: GivenModule, x: TensorType) -> None:
    """Refuse a module that does not give what it gets."""
    given = gives(name, argument, module)
    if given != x:
        refuse(
            f"{name} takes a {argument} that keeps the shape, and {module.name} makes {given} of {x}",
            argument=argument,
            ports=(),
        )


def layer_at(place: str, name: str, **stated: Any) -> Part:
    """A layer of the catalog inside of a module."""
    entry = lookup(name)
    assert entry is not None
    defaults = {a.name: a.default for a in entry.arguments if not a.required and not a.inferred}
    return Part(place, entry, {**defaults, **stated})


def inside(place: str, shapes: Mapping[str, tuple[int, ...]]) -> Weights:
    """Weights by their names in the module in which their own stands at that place."""
    return {f"{place}.{name}": shape for name, shape in shapes.items()}


# Functions


def function(name: str) -> Entry | None:
    """The entry of a function that a module can call by itself, or None where there is none of that name."""
    entry = lookup(name, "function")
    return None if entry is None or entry.creates or entry.training else entry


def no_function(argument: Argument, name: str) -> Problem | None:
    """What is wrong with a name that an argument is given for a function, if anything is."""
    if name in argument.choices or function(name) is not None:
        return None
    known = [*argument.choices, *(one for one in names("function") if function(one) is not None)]
    near, entry = suggest(name, known), lookup(name, "function")
    return Problem(
        f"`{argument.name}` takes the name of a function, and there is no function `{name}`"
        if entry is None
        else f"`{argument.name}` takes a function of tensors alone, and `{name}` is none",
        help=f"did you mean `{near}`?" if near and near != name else f"as in `{argument.name}: {known[0]}`",
        argument=argument.name,
        code="NS113",
    )


def applied(name: str, argument: str, called: str, *types: TensorType) -> TypeLike:
    """What a function gives that the module calls with these tensors and nothing else."""
    entry = function(called)
    assert entry is not None, f"{called} was looked up before"
    ports = entry.inputs[: len(types)]
    needed = [a.name for a in entry.arguments if a.required]
    more = [port.name for port in entry.inputs[len(types) :] if not port.optional]
    if needed or more or len(ports) < len(types) or any(port.variadic or port.keyword for port in ports):
        what = "one tensor" if len(types) == 1 else f"{len(types)} tensors"
        _refuse_function(name, argument, f"{what} and nothing else, and {called} takes {_takes(entry)}")
    assert entry.rule is not None
    answer = entry.rule(_defaults(entry), {port.name: type_ for port, type_ in zip(ports, types, strict=True)})
    if isinstance(answer, Problem):
        _refuse_function(name, argument, f"{', '.join(map(str, types))}: {answer.message}")
    if len(answer.outputs) != 1:
        _refuse_function(name, argument, f"{', '.join(map(str, types))}, and {called} gives several tensors")
    return next(iter(answer.outputs.values()))


def _refuse_function(name: str, argument: str, what: str) -> NoReturn:
    refuse(f"{name} calls its {argument} with {what}", argument=argument, ports=(), code="NS404")


def _takes(entry: Entry) -> str:
    taken = [port.name for port in entry.inputs if not port.optional]
    taken += [argument.name for argument in entry.arguments if argument.required]
    return ", ".join(taken) or "no tensor"


# Classes of layers


def class_of(value: str | GivenClass | None) -> GivenClass | None:
    """The class of layers that an argument names; a default is a plain name."""
    if isinstance(value, str):
        entry = lookup(value)
        assert entry is not None
        return GivenClass(entry=entry)
    return value


def filled(name: str, argument: str, given: GivenClass, *positional: Any, **named: Any) -> dict[str, Any]:
    """All arguments of the layer that a module makes of a class, called with these values."""
    entry = given.entry
    if entry.name == "Identity":  # takes whatever it is given
        return {}
    stated = dict(given.arguments)
    first = next(iter(free(given)), None)
    for value in positional:
        if first is None or not (first.required or first.inferred):
            said = next((a.name for a in entry.arguments if a.inferred and a.name in stated), None)
            if said is not None:
                _refuse_class(f"{name} gives {entry.name} its {said} by itself", f"leave `{said}` out", argument)
            _refuse_class(
                f"{name} makes its {argument} for a number of channels, and {entry.name} takes none",
                f"leave the layer out by `{argument}: null`, or write the layers one by one",
                argument,
                "NS406",
            )
        stated[first.name] = value
    for key, value in named.items():
        if entry.argument(key) is None:
            _refuse_class(
                f"{name} makes its {argument} with `{key}`, and {entry.name} takes none",
                f"write `{key}: null`",
                argument,
            )
        stated[key] = value
    missing = [a.name for a in entry.arguments if a.default is REQUIRED and a.name not in stated and not a.call]
    if missing:
        _refuse_class(
            f"{name}: the {argument} {entry.name} needs {', '.join(missing)} too",
            f"write `{argument}: {{type: {entry.name}, {', '.join(f'{one}: …' for one in missing)}}}`",
            argument,
        )
    for declared in entry.arguments:
        problem = accepts(declared, stated[declared.name]) if declared.name in stated else None
        if problem is not None:
            _refuse_class(f"{name}: {entry.name}: {problem.message}", None, argument)
    return {**_defaults(entry), **stated}


def _refuse_class(message: str, help: str | None, argument: str, code: str = "NS404") -> NoReturn:
    refuse(message, help=help, argument=argument, ports=(), code=code)


def answered(name: str, argument: str, entry: Entry, arguments: Mapping[str, Any], x: TensorType) -> TensorType:
    """What a layer inside gives; `argument` is what it comes of, empty where it is always there."""
    assert entry.rule is not None
    answer = entry.rule(arguments, {entry.inputs[0].name: x})
    if isinstance(answer, Problem):
        what = f"{name} with {argument} {entry.name}: {answer.message}" if argument else answer.message
        refuse(
            what.replace(entry.name, name) if not argument else what,
            help=answer.help,
            argument=argument or answer.argument,
            code=answer.code,
        )
    (output,) = answer.outputs.values()
    if not isinstance(output, TensorType):
        refuse(f"{name} with {argument} {entry.name} gives several tensors", argument=argument, code="NS404")
    return output


def free(given: GivenClass) -> list[Any]:
    """The arguments that nothing is said of beforehand, from the first on: a value without a name goes there."""
    return [a for a in given.entry.arguments if a.name not in given.arguments]


def leading(given: GivenClass) -> list[str]:
    """What was said of the arguments before the one that a value without a name goes to: said without names too."""
    found: list[str] = []
    for declared in given.entry.arguments:
        if declared.name not in given.arguments:
            return found if declared.required or declared.inferred else []
        found.append(declared.name)
    return []


def times(flops: Size | None, count: int) -> Size | None:
    return None if flops is None else flops * count


def total(parts: Sequence[Size | None]) -> Size:
    """A sum of FLOPs; unknown where one of them is."""
    from netspec.shapes import Dim

    found: Size = 0
    for part in parts:
        if part is None:
            return Dim("unknown")
        found = found + part
    return found


def _defaults(entry: Entry) -> dict[str, Any]:
    return {a.name: a.default for a in entry.arguments if not a.required and not a.inferred}
