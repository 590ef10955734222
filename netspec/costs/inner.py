"""Modules that are made of layers which they are given, run layer by layer: stacks, and torchvision's composed ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from netspec.catalog.entry import GivenModule, Part
from netspec.catalog.vision_blocks import in_order, through
from netspec.costs.tensors import Held
from netspec.expressions import Literal
from netspec.program import Apply, Argument, Call, Node, Ref
from netspec.shapes import TensorType

if TYPE_CHECKING:
    from netspec.costs.walk import Many, Trace

Get = Callable[[Ref], "Many | None"]


def runs_inside(call: Call) -> bool:
    """Whether it is known which layers run inside of it, one after the other."""
    return in_order(call.entry.name) is not None or call.entry.name in ("TransformerEncoder", "TransformerDecoder")


def run_inside(trace: Trace, call: Call, node: Node, here: str, get: Get, frozen: bool) -> Many | None:
    """What the layers inside give in the end."""
    arguments = trace.arguments(call)
    if in_order(call.entry.name) is None:
        return _stack(trace, call, here, get, frozen)
    x = get(next(ref for ref in call.inputs.values() if isinstance(ref, Ref)))
    assert isinstance(x, Held)
    start = x
    for number, (part, given, made) in enumerate(_parts(call.entry.name, arguments, x.type)):
        inner = _call(part, given)
        one = Node(node.layer, part.place, part.place, {}, inner, {"": made})
        x = trace.call(inner, one, here, f"{here}.{number}", _constantly(x), frozen)[""]
        assert isinstance(x, Held)
    if call.entry.name == "SqueezeExcitation":
        return trace.product(here, x, start)
    return x


def _parts(name: str, arguments: dict[str, Any], x: TensorType) -> Iterator[tuple[Part, TensorType, TensorType]]:
    parts = in_order(name)
    assert parts is not None
    return through(name, parts(arguments), x)


def _call(part: Part, x: TensorType) -> Call:
    arguments = {name: Argument(value, Literal(None)) for name, value in part.arguments.items()}
    return Call(part.entry, arguments, {part.entry.inputs[0].name: Ref(None, "", x)})


def _stack(trace: Trace, call: Call, here: str, get: Get, frozen: bool) -> Many | None:
    """The copies of the layer, each on what the one before gave, and the norm after them."""
    main = call.inputs[call.entry.inputs[0].name]
    assert isinstance(main, Ref)
    x = get(main)
    values = {name: argument.value for name, argument in call.arguments.items()}
    for declared in call.entry.arguments:
        given = values.get(declared.name)
        if not isinstance(given, GivenModule) or declared.places is None:
            continue
        for place in declared.places(values):
            x = _run(trace, given.node, f"{here}.{place}", here, _instead(main, x, get), frozen)
    return x


def _run(trace: Trace, node: Node, path: str, here: str, get: Get, frozen: bool) -> Many | None:
    if isinstance(node.op, Apply):
        given = {name: get(ref) for name, ref in node.op.inputs.items()}
        return next(iter(trace.run(node.op.instance, f"{path}.", given, frozen).values()))
    assert isinstance(node.op, Call)
    return next(iter(trace.call(node.op, node, here, path, get, frozen).values()))


def _constantly(x: Many | None) -> Get:
    return lambda ref: x


def _instead(main: Ref, x: Many | None, get: Get) -> Get:
    return lambda ref: x if ref is main else get(ref)
