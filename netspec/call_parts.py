"""What all kinds of calls share: labels for their inputs, types in another scope."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from netspec.catalog.entry import TypeLike
from netspec.diagnostics import Label, Span
from netspec.origins import Origin, Traced, translate, untraced
from netspec.program import Apply, Call, Instance, Node, Ref
from netspec.shapes import ListType, Problem, TensorType
from netspec.spec import Layer, Value

if TYPE_CHECKING:
    from netspec.elaborate import Elaborator


Refs = tuple[Ref, ...] | dict[str, Ref]


def spread(refs: tuple[Ref, ...]) -> tuple[Ref, ...]:
    """The tensors for what takes several inputs: those of `pair.*` one by one."""
    return tuple(part for ref in refs for part in (ref.parts or (ref,)))


def name_span(value: Value, text: str) -> Span:
    """Where a tensor's name stands in an arithmetic text."""
    from netspec.expressions.parser import name_span as find

    return find(value.scalar, text) if value.scalar is not None else value.span


def title(node: Node) -> str:
    """A layer in messages: by its name, in a list by what it is."""
    if node.layer.name is not None:
        return f"`{node.name}`"
    return f"this `{node.op.entry.name}`" if isinstance(node.op, Call) else "this layer"


def shown_type(type_: TypeLike) -> str:
    """A type in messages, its dtype where it is not the usual one."""
    if isinstance(type_, ListType) or type_.is_text or type_.dtype == "float32":
        return str(type_)
    return f"{type_} {type_.dtype}"


def untraced_type(type_: TypeLike) -> TypeLike:
    """A type without the origins of its sizes."""
    if isinstance(type_, TensorType):
        return TensorType(untraced(type_.shape), type_.dtype)
    return type_.with_members(TensorType(untraced(item.shape), item.dtype) for item in type_.members)


def translate_type(type_: TypeLike, names: Mapping[str, Origin | Traced]) -> TypeLike:
    """A type of a block's scope in its caller's."""
    if isinstance(type_, TensorType):
        return TensorType(tuple(translate(size, names) for size in type_.shape), type_.dtype)
    return type_.with_members(
        TensorType(tuple(translate(s, names) for s in item.shape), item.dtype) for item in type_.members
    )


def arguments_of(call: Call) -> dict[str, Any]:
    """All arguments of a call by name: those that are stated or inferred, and the defaults of the others."""
    defaults = {a.name: a.default for a in call.entry.arguments if not a.required and not a.inferred}
    return defaults | {name: argument.value for name, argument in call.arguments.items()}


def weights(instance: Instance, prefix: str = "") -> list[tuple[str, Any]]:
    """The inferred arguments below an instance by path: what decides the shapes of its weights."""
    found: list[tuple[str, Any]] = []
    for node in instance.nodes:
        if isinstance(node.op, Call):
            found += [(f"{prefix}{node.name}.{k}", a.value) for k, a in node.op.arguments.items() if a.inferred]
        elif isinstance(node.op, Apply):
            found += weights(node.op.instance, f"{prefix}{node.name}.")
    return found


def _words(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


class CallParts:
    """What a call says about its inputs."""

    def __init__(self, elaborator: Elaborator) -> None:
        self.elaborator = elaborator
        self.diagnostics = elaborator.diagnostics

    def input_labels(self, ports: Mapping[str, Ref | tuple[Ref, ...]], problem: Problem) -> list[Label]:
        labels = []
        for port, ref in ports.items():
            if problem.ports and port not in problem.ports:
                continue
            for one in ref if isinstance(ref, tuple) else (ref,):
                labels += self.labels(one)
        return list(dict.fromkeys(labels))

    def labels(self, ref: Ref) -> list[Label]:
        """Where a tensor comes from: the layer, or the input as the block around it declares it."""
        frame = self.elaborator.frame
        while ref.node is None and frame is not None and frame.instance.group:
            if ref.name not in frame.captured:
                return []
            ref, frame = frame.captured[ref.name], frame.parent
        if ref.node is not None:
            return [Label(ref.node.layer.span, f"{shown_type(ref.type)} from {title(ref.node)}")]
        declared = frame.instance.block.inputs if frame is not None else ()
        return [Label(i.span, f"`{i.name}` is {shown_type(ref.type)}") for i in declared if i.name == ref.name]

    def name_of(self, layer: Layer, name: str) -> str:
        """A layer's name in messages; in a list it says whose item it is."""
        frame = self.elaborator.frame
        if layer.name is None and frame is not None and frame.instance.group:
            return f"{frame.instance.block.name}.{name}"
        return name
