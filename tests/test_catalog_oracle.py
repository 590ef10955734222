"""The catalog's rules against torch itself, on small CPU tensors in training mode, with gradients.

For every entry random configurations of a declared domain (`catalog_domain`) are drawn, right and wrong ones. What the
rule says has to be what torch does: refuse or accept, shapes, dtypes, parameters, buffers and counted operations. Each
tenth configuration is repeated with symbolic sizes and with integers that remember where they came from. `pytest -m
long` draws more, and repeats all.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import partial
from importlib import import_module
from random import Random
from typing import Any

import catalog_domain as domain
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from netspec import catalog
from netspec.catalog import Entry, GivenClass, GivenModule, Inferred
from netspec.catalog.entry import Part
from netspec.catalog.given import leading
from netspec.catalog.kinds import accepts
from netspec.catalog.versions import lacking
from netspec.shapes import Dim, ListType, Problem, TensorType, substitute, symbols

NAMES = [name for name in catalog.names() if name not in catalog.names("weight")]
"""Without the tensors that stand alone, which torch has no call for: they have the shape that is stated."""
REFUSED = (
    RuntimeError,
    ValueError,
    TypeError,
    IndexError,
    NotImplementedError,
    AssertionError,
    ZeroDivisionError,
    AttributeError,  # of a tuple, where a module that was given gives several tensors
)


def make(kind: TensorType, whole: int, gradient: bool) -> torch.Tensor:
    """Numbers between 0 and 1; for integers all the same, 0 for the targets of losses and 1 elsewhere."""
    dtype = getattr(torch, kind.dtype)
    if dtype.is_floating_point:
        values = torch.rand(kind.shape, dtype=torch.float32) * 0.8 + 0.1
        return values.to(dtype).requires_grad_() * 1 if gradient else values.to(dtype)
    return torch.full(kind.shape, whole).to(dtype)


def real(
    entry: Entry, arguments: Mapping[str, Any], inputs: domain.Inputs, *, backward: bool, counted: bool
) -> tuple[Any, nn.Module | None, int | None]:
    """(outputs, the module if it is one, operations) as torch gives them; raises where it refuses."""
    # An argument that equals its default is not written in code: `mean(keepdim=False)` without `dim` is an error.
    values = {
        argument.name: value(entry, argument.name, arguments[argument.name])
        for argument in entry.arguments
        if argument.name in arguments and (entry.name == "arange" or arguments[argument.name] != argument.default)
    }
    tensors = {
        port.name: build(
            given,
            domain.WHOLE.get(entry.name, {}).get(port.name, 0 if entry.category == "loss" else 1),
            port.name not in ("target", "targets"),
        )
        for port, given in zip(entry.inputs, inputs, strict=True)
        if given is not None
    }
    module: nn.Module | None = None
    function: Any = found(entry.target)
    if isinstance(function, type):
        in_call = {argument.name for argument in entry.arguments if argument.call}
        module = function(**{name: given for name, given in values.items() if name not in in_call})
        function = module
        values = {name: given for name, given in values.items() if name in in_call}
    if entry.training:
        values["training"] = True
    by_name = {port.name for i, port in enumerate(entry.inputs) if port.keyword or left_out_before(inputs, i)}
    parts = [port for port in entry.inputs if port.part_of and port.name in tensors]
    if parts:
        values[parts[0].part_of] = tuple(tensors.pop(port.name) for port in parts)
    values |= {name: tensor for name, tensor in tensors.items() if name in by_name}
    leading = [values.pop(argument.name) for argument in entry.arguments if argument.leads]
    spread = {port.name for port in entry.inputs if port.spread}
    given = list(leading)
    for name, tensor in tensors.items():
        if name not in values:
            given += tensor if name in spread else [tensor]
    outputs = function(*given, **values)
    for output in flat(outputs) if backward else ():
        if output.requires_grad:
            output.sum().backward(retain_graph=True)
            break
    if not counted:
        return outputs, module, None
    # Counted in a second run: under the counter some operations run by other kernels.
    with FlopCounterMode(display=False) as counter:
        function(*given, **values)
    return outputs, module, counter.get_total_flops()


def left_out_before(inputs: domain.Inputs, position: int) -> bool:
    return any(given is None for given in inputs[:position])


def flat(outputs: Any) -> list[torch.Tensor]:
    """The tensors of nested tuples, in order."""
    if outputs is None:
        return []
    if isinstance(outputs, torch.Tensor):
        return [outputs]
    return [tensor for output in outputs for tensor in flat(output)]


def value(entry: Entry, name: str, given: Any) -> Any:
    argument = entry.argument(name)
    assert argument is not None
    if given is None:
        return None
    if isinstance(given, domain.Draft):
        return module_of(given)
    if isinstance(given, GivenClass):
        values = {key: value(given.entry, key, one) for key, one in given.arguments.items()}
        first = [values.pop(key) for key in leading(given)]
        return partial(found(given.entry.target), *first, **values)
    if isinstance(given, str) and given not in argument.choices and "function" in argument.kind:
        called = catalog.lookup(given, "function")
        assert called is not None
        return found(called.target)
    if argument.kind.startswith("dtype"):
        return getattr(torch, given)
    if argument.kind.startswith("tensor"):
        return torch.tensor(given, dtype=torch.float32)
    return tuple(given) if isinstance(given, list) else given


def found(target: str) -> Any:
    home, _, name = target.rpartition(".")
    return getattr(torch.Tensor if home == "torch.Tensor" else import_module(home), name)


def module_of(draft: domain.Draft) -> nn.Module:
    """A module that is given to another, as a person would make it."""
    values = {name: value(draft.entry, name, given) for name, given in draft.arguments.items()}
    made: nn.Module = found(draft.entry.target)(**values)
    return made


def build(given: Any, whole: int, gradient: bool) -> Any:
    if isinstance(given, tuple):
        return [build(item, whole, gradient) for item in given]
    if isinstance(given, ListType):
        return [make(item, whole, gradient) for item in given.items]
    return make(given, whole, gradient)


def types_of(outputs: Any) -> Any:
    if isinstance(outputs, torch.Tensor):
        return TensorType(tuple(outputs.shape), str(outputs.dtype).removeprefix("torch."))
    found = [types_of(output) for output in flat(outputs)]
    return found[0] if any(output is None for output in outputs) else found


def answered(answer: Inferred) -> Any:
    outputs = [list(o.items) if isinstance(o, ListType) else o for o in answer.outputs.values()]
    return outputs[0] if len(outputs) == 1 else outputs


def ask(entry: Entry, arguments: Mapping[str, Any], inputs: domain.Inputs) -> Inferred | Problem:
    """What the catalog says of a layer with these stated arguments."""
    given = settled(entry, arguments, inputs)
    if isinstance(given, Problem):
        return given
    defaults = {a.name: a.default for a in entry.arguments if not a.required and not a.inferred}
    assert entry.rule is not None, f"{entry.name} has no rule"
    return entry.rule({**defaults, **given}, ports_of(entry, inputs))


def ports_of(entry: Entry, inputs: domain.Inputs) -> dict[str, Any]:
    return {port.name: given for port, given in zip(entry.inputs, inputs, strict=True) if given is not None}


def settled(entry: Entry, arguments: Mapping[str, Any], inputs: domain.Inputs) -> dict[str, Any] | Problem:
    """The arguments with the layers among them as rules see them, or what is wrong with one of those."""
    found = dict(arguments)
    for argument in entry.arguments:
        draft = arguments.get(argument.name)
        if isinstance(draft, domain.Draft):
            fed = domain.fed(entry, argument, draft.entry, inputs)
            answer = ask(draft.entry, draft.arguments, fed)
            if isinstance(answer, Problem):
                return answer
            inner = filled(draft.entry, draft.arguments, answer, fed)
            ports = ports_of(draft.entry, fed)
            found[argument.name] = GivenModule(
                name=draft.entry.name,
                entry=draft.entry,
                arguments=inner,
                outputs=answer.outputs,
                parameters=draft.entry.parameters(inner) if draft.entry.parameters else {},
                buffers=draft.entry.buffers(inner) if draft.entry.buffers else {},
                flops=draft.entry.flops(inner, ports, answer) if draft.entry.flops else 0,
            )
    return found


def filled(entry: Entry, arguments: Mapping[str, Any], answer: Inferred, inputs: domain.Inputs) -> dict[str, Any]:
    defaults = {a.name: a.default for a in entry.arguments if not a.required and not a.inferred}
    given = settled(entry, arguments, inputs)
    assert isinstance(given, dict), given
    return {**defaults, **given, **(answer.arguments or {})}


def completed(entry: Entry, arguments: Mapping[str, Any], inputs: domain.Inputs, what: str) -> dict[str, Any]:
    """The arguments as torch takes them: the inferred ones too, guessed where the rule refuses."""
    answer = ask(entry, arguments, inputs)
    complete = dict(arguments)
    for argument in entry.arguments:
        draft = complete.get(argument.name)
        if isinstance(draft, domain.Draft):
            fed = domain.fed(entry, argument, draft.entry, inputs)
            complete[argument.name] = domain.Draft(draft.entry, completed(draft.entry, draft.arguments, fed, what))
        if argument.inferred and argument.name not in complete:
            if isinstance(answer, Inferred):
                assert answer.arguments is not None and argument.name in answer.arguments, what
                complete[argument.name] = answer.arguments[argument.name]
            else:
                complete[argument.name] = domain.guess(entry, argument.name, inputs)
    return complete


def refused_by_limits(entry: Entry, arguments: Mapping[str, Any]) -> bool:
    """Whether a value is outside of limits that the catalog may draw closer than torch does."""
    for argument in entry.arguments:
        given = arguments.get(argument.name)
        if isinstance(given, domain.Draft):
            if refused_by_limits(given.entry, given.arguments):
                return True
        elif argument.name in arguments and accepts(argument, given):
            return True
    return False


def check(entry: Entry, random: Random, thorough: bool = True) -> bool:
    """One configuration; whether it was accepted.

    A thorough check runs the gradient of what the rule accepts, counts operations, and asks the rule again with symbols
    and with integers that remember where they came from.
    """
    inputs = domain.inputs_of(random, entry)
    arguments = domain.arguments_of(random, entry, inputs)
    what = f"{entry.name}({arguments}) on {inputs}"
    if refused_by_limits(entry, arguments):
        return False  # no layer has 0 features
    answer = ask(entry, arguments, inputs)
    if isinstance(answer, Problem) and answer.code == "NS406" and entry.name in domain.CRASHES:
        return False
    complete = completed(entry, arguments, inputs, what)
    torch.manual_seed(random.randrange(1 << 30))
    try:
        # What the rule refuses may be refused by the gradient alone.
        backward = thorough or isinstance(answer, Problem)
        outputs, module, operations = real(entry, complete, inputs, backward=backward, counted=thorough)
    except REFUSED as refusal:
        assert isinstance(answer, Problem), f"{what}: torch refuses ({refusal}), the rule says {answer}"
        return False
    if isinstance(answer, Problem):
        # NS406 is what torch accepts and hardly anyone means: broadcasting in a loss, say.
        assert answer.code == "NS406", f"{what}: torch gives {types_of(outputs)}, the rule says {answer}"
        return False
    assert answered(answer) == types_of(outputs), what
    given = filled(entry, arguments, answer, inputs)
    parameters = {n: tuple(p.shape) for n, p in module.named_parameters()} if module else {}
    assert list((entry.parameters(given) if entry.parameters else {}).items()) == list(parameters.items()), what
    if module is not None:
        check_parts(entry, given, module)
    buffers = {n: tuple(b.shape) for n, b in module.named_buffers()} if module else {}
    assert list((entry.buffers(given) if entry.buffers else {}).items()) == list(buffers.items()), what
    if not thorough:
        return True
    ports = ports_of(entry, inputs)
    # Products of integers run by other kernels.
    if answer_dtype(answer) in domain.FLOATS and entry.name not in domain.UNCOUNTED:
        assert (entry.flops(given, ports, answer) if entry.flops else 0) == operations, what
    check_remembering(entry, arguments, inputs, answer)
    check_symbolic(entry, arguments, inputs, answer, random)
    return True


def check_parts(entry: Entry, given: Mapping[str, Any], module: nn.Module) -> None:
    """What the catalog says is inside of a module, against what is: where, of which class, with which weights."""
    told = parts_of(entry, given)
    places = [p for a in entry.arguments if a.places and given[a.name] is not None for p in a.places(given)]
    for path, inner in module.named_modules():
        own = {name: tuple(p.shape) for name, p in inner.named_parameters(recurse=False)}
        if not path or not own or any(path == place or path.startswith(f"{place}.") for place in places):
            continue
        assert path in told, f"{entry.name} has a {type(inner).__name__} at {path}"
        part = told.pop(path)
        assert isinstance(inner, found(part.entry.target)), path
        assert part.entry.parameters is not None
        shapes = part.entry.parameters(part.arguments)
        assert {name: shape for name, shape in shapes.items() if "." not in name} == own, path
    for path, part in told.items():
        assert isinstance(module.get_submodule(path), found(part.entry.target)), path


def parts_of(entry: Entry, given: Mapping[str, Any], path: str = "") -> dict[str, Part]:
    told: dict[str, Part] = {}
    for part in entry.inner(given) if entry.inner is not None else ():
        told[path + part.place] = part
        told |= parts_of(part.entry, part.arguments, f"{path}{part.place}.")
    return told


def answer_dtype(answer: Inferred) -> str:
    output = next(iter(answer.outputs.values()))
    return output.items[0].dtype if isinstance(output, ListType) else output.dtype


class Marked(int):
    """An integer whose arithmetic gives such integers again, as those of the compiler do."""


for _operator in ("add", "radd", "sub", "rsub", "mul", "rmul", "floordiv", "rfloordiv", "mod", "rmod", "neg"):

    def _method(self: Marked, *others: int, name: str = f"__{_operator}__") -> Any:
        result = getattr(int, name)(self, *others)
        return Marked(result) if isinstance(result, int) else result

    setattr(Marked, f"__{_operator}__", _method)


def map_sizes(thing: Any, change: Any) -> Any:
    if isinstance(thing, TensorType):
        return TensorType(tuple(change(size) for size in thing.shape), thing.dtype)
    if isinstance(thing, ListType):
        return ListType(tuple(map_sizes(item, change) for item in thing.items))
    if isinstance(thing, domain.Draft):
        return domain.Draft(thing.entry, {name: map_sizes(given, change) for name, given in thing.arguments.items()})
    if isinstance(thing, tuple | list):
        return type(thing)(map_sizes(item, change) for item in thing)
    if isinstance(thing, int) and not isinstance(thing, bool):
        return change(thing)
    return thing


def check_remembering(entry: Entry, arguments: dict[str, Any], inputs: domain.Inputs, answer: Inferred) -> None:
    marked = ask(entry, {k: map_sizes(v, Marked) for k, v in arguments.items()}, map_sizes(inputs, Marked))
    assert isinstance(marked, Inferred), marked
    assert answered(marked) == answered(answer)
    for output in marked.outputs.values():
        for item in output.items if isinstance(output, ListType) else (output,):
            for size in item.shape:
                assert isinstance(size, Marked) or size == 1 or entry.name in domain.COUNTS, (entry.name, size)


def check_symbolic(
    entry: Entry, arguments: dict[str, Any], inputs: domain.Inputs, answer: Inferred, random: Random
) -> None:
    """The same with symbols for some sizes: the answer has to hold for the sizes that they stood for."""
    batch_only = random.random() < 0.5
    batched = (
        not inputs or not isinstance(inputs[0], TensorType) or len(inputs[0].shape) >= domain.BATCHED.get(entry.name, 0)
    )
    names: dict[tuple[bool, int], Any] = {}
    values: dict[str, int] = {}

    def symbol(size: int, position: int) -> Any:
        batch = position == 0 and batched
        if (batch, size) not in names:
            names[batch, size] = choose(size, batch) if size != 1 else size
        return names[batch, size]

    def choose(size: int, batch: bool) -> Any:
        if batch:
            values[f"N{size}"] = size
            return Dim(f"N{size}") if random.random() < 0.9 else size
        if batch_only or random.random() < 0.5:
            return size
        scale = random.choice([d for d in (1, 2, 3) if size % d == 0])
        offset = random.choice((0, 1)) if scale == 1 else 0
        values[f"s{size}"] = (size - offset) // scale
        return scale * Dim(f"s{size}") + offset

    def change(thing: Any) -> Any:
        if isinstance(thing, TensorType):
            return TensorType(tuple(symbol(size, i) for i, size in enumerate(thing.shape)), thing.dtype)
        if isinstance(thing, ListType):
            return ListType(tuple(change(item) for item in thing.items))
        return tuple(change(item) for item in thing) if isinstance(thing, tuple) else thing

    changed = [change(given) if given is not None else None for given in inputs]
    what = f"{entry.name}({arguments}) on {changed}, where {values}"
    symbolic = ask(entry, arguments, changed)
    if isinstance(symbolic, Problem):
        named = [name for name in values if name in symbolic.message]
        assert named, f"{what}: {symbolic}"
        assert not batch_only or entry.name in domain.NEEDS_BATCH, f"{what}: {symbolic}"
        return
    concrete = Inferred(
        outputs={
            name: ListType(tuple(TensorType(substitute(i.shape, values), i.dtype) for i in output.items))
            if isinstance(output, ListType)
            else TensorType(substitute(output.shape, values), output.dtype)
            for name, output in symbolic.outputs.items()
        }
    )
    assert answered(concrete) == answered(answer), what
    assert not symbols(tuple(v for v in (symbolic.arguments or {}).values() if isinstance(v, int | Dim))), what


def run(name: str, count: int, thorough: int = 1) -> None:
    """`count` configurations of an entry, one in `thorough` of them checked thoroughly."""
    entry = catalog.lookup(name)
    assert entry is not None
    if old := lacking(entry.since, entry.target):
        pytest.skip(f"{old} is without it")
    if old := lacking(domain.MENDED.get(name, ""), entry.target):
        pytest.skip(f"{old} has a fault there")
    random = Random(f"oracle {name}")
    accepted = 0
    with warnings.catch_warnings():
        # Undefined use that torch lets pass with a warning: dropout of unbatched images, an implicit softmax dimension.
        warnings.simplefilter("ignore")
        for i in range(count):
            accepted += check(entry, random, i % thorough == 0)
    assert accepted >= count * 0.1, f"only {accepted} of {count} drawn configurations of {name} are accepted"


@pytest.mark.parametrize("name", NAMES)
def test_a_rule_says_what_torch_does(name: str) -> None:
    run(name, 500, thorough=10)


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_a_rule_says_what_torch_does_in_a_thousand_ways(name: str) -> None:
    run(name, 1200)
