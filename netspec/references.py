"""Which tensor a name means: a layer, an input, a port, or something of the body around a group."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from netspec.catalog.entry import TypeLike
from netspec.diagnostics import Span
from netspec.frame import Frame, Poisoned
from netspec.origins import Opaque, trace
from netspec.program import Apply, Instance, Node, Ref
from netspec.shapes import ListType, TensorType
from netspec.spec import Layer, Value, names_in
from netspec.suggest import suggest
from netspec.values import FAILED, Values

K = TypeVar("K")
V = TypeVar("V")
R = TypeVar("R")


def seen_from_outside(type_: TypeLike, inside: Instance) -> TypeLike:
    """The type of a group's member: its sizes are numbers, which may depend on all names that the group reads."""
    if not isinstance(type_, TensorType):
        return type_
    read: set[str] = set()
    for node in inside.nodes:
        for value in node.layer.arguments.values():
            read |= value.names
        for layer, _ in node.loops:
            read |= {name for value in (layer.loop.values if layer.loop else ()) for name in value.names}
    known = Opaque(frozenset(read & inside.scope.keys()))
    return TensorType(tuple(trace(s, known) if isinstance(s, int) else s for s in type_.shape), type_.dtype)


class References(Values):
    """The part of the elaboration that resolves references."""

    def references(
        self, layer: Layer, frame: Frame, env: Mapping[str, Any], incoming: Ref | None
    ) -> tuple[Ref, ...] | dict[str, Ref]:
        """What `from` names, or the default input."""
        if layer.inputs is not None:
            named = isinstance(layer.inputs, dict)
            values: dict[Any, Value] = layer.inputs if isinstance(layer.inputs, dict) else dict(enumerate(layer.inputs))
            refs = self.all_of(values, lambda value: self.resolve(value, frame, env, incoming))
            return {str(port): ref for port, ref in refs.items()} if named else tuple(refs.values())
        if incoming is None:
            if frame.default is None and not frame.order and not frame.instance.failed:
                if self.needs_no_input(layer):
                    return ()
                if frame.instance.group:
                    self.diagnostics.error(
                        "NS308",
                        "the first layer of a buffer has nothing to read: it is computed without inputs",
                        layer.span,
                        help="begin with a function that makes a tensor, as `arange` or `linspace` do",
                    )
                    raise Poisoned
                self.diagnostics.error(
                    "NS308",
                    "the first layer has nothing to read: the model states no `inputs`",
                    layer.span,
                    help="add `inputs: {x: [N, 3, 224, 224]}`, or a `from`",
                )
            raise Poisoned
        return (incoming,)

    def all_of(self, values: Mapping[K, V], resolve: Callable[[V], R]) -> dict[K, R]:
        """What each value names. Raises Poisoned after all were looked at, so that every mistake is reported."""
        found: dict[K, R] = {}
        for key, value in values.items():
            with suppress(Poisoned):
                found[key] = resolve(value)
        if len(found) < len(values):
            raise Poisoned
        return found

    def first(self, refs: tuple[Ref, ...] | dict[str, Ref]) -> Ref:
        return next(iter(refs.values())) if isinstance(refs, dict) else refs[0]

    def needs_no_input(self, layer: Layer) -> bool:
        return layer.body is not None

    def resolve(self, value: Value, frame: Frame, env: Mapping[str, Any], incoming: Ref | None = None) -> Ref:
        text = self.evaluate(value, env)
        if text is FAILED:
            raise Poisoned
        return self.resolve_name(str(text), frame, value.span, incoming)

    def resolve_name(
        self, text: str, frame: Frame, place: Span | Callable[[], Span], incoming: Ref | None = None
    ) -> Ref:
        """The tensor of that name: a layer, an input, a port (`lstm.h_n`, `parts.0`), or `previous`.

        `place` says where the name stands; it may be a function, which is asked when there is something to report.
        """
        known = frame.names.get(text)
        if known is not None:
            return known
        span = place() if callable(place) else place
        if text == "previous":
            found = incoming or frame.previous
            if found is not None:
                return found
        found = self.find(text, frame, span)
        if found is not None:
            return found
        if self.poisoned(text, frame):
            raise Poisoned
        if text.partition(".")[0] == frame.current:
            self.diagnostics.error(
                "NS303", f"`{frame.current}` reads itself", span, help="name the layer or input that it should read"
            )
            raise Poisoned
        names = self.visible(frame)
        near = suggest(text, names)
        if near is None and frame.instance.group and frame.parent is None:
            help = "the layers of a buffer run when the module is made, and read nothing from around it"
        elif near is not None:
            help = f"did you mean `{near}`?"
        elif self.using and self.spec.model is not None and text in names_in(self.spec.model.body):
            help = (
                f"`{text}` stands outside of block `{self.using[-1].name}`, which sees its own inputs and layers only"
            )
        else:
            help = f"known here: {', '.join(f'`{name}`' for name in names[:12]) or 'nothing'}"
        self.diagnostics.error("NS302", f"there is no layer or input named `{text}` here", span, help=help)
        raise Poisoned

    def find(self, text: str, frame: Frame, span: Span) -> Ref | None:
        ref = frame.names.get(text)
        if ref is not None:
            return ref
        base, dot, rest = text.partition(".")
        if dot and base in frame.names:
            owner = frame.names[base]
            if owner is None:
                raise Poisoned
            return self.port(owner, rest, text, span)
        if frame.parent is not None and base not in frame.names:
            outer = self.find(text, frame.parent, span)
            if outer is None:
                return None
            default = frame.captured.get("x")
            if default is not None and default.node is outer.node and default.name == outer.name:
                return frame.default
            name = text.replace(".", "_").replace("-", "_")
            name = name if name != "x" or "x" not in frame.captured else "x_outer"
            frame.captured[name] = outer
            frame.instance.inputs[name] = outer.type
            return Ref(None, name, outer.type)
        return None

    def port(self, owner: Ref, port: str, text: str, span: Span) -> Ref:
        node = owner.node
        if node is not None and port in node.types:
            return Ref(node, port, node.types[port])
        if isinstance(owner.type, ListType) and port.lstrip("-").isdigit():
            items = owner.type.items
            if -len(items) <= int(port) < len(items):
                return Ref(node, port, items[int(port)])
            self.diagnostics.error(
                "NS302",
                f"`{text.partition('.')[0]}` gives {len(items)} tensors, and `{text}` is none of them",
                span,
                help=f"they count from 0: `{text.partition('.')[0]}.{len(items) - 1}` is the last",
            )
            raise Poisoned
        if node is not None and isinstance(node.op, Apply) and port.split(".")[0] in node.op.instance.children:
            return self.member(node, node.op.instance, port, text, span)
        ports = list(node.types) if node is not None else []
        known = (
            f"it has {', '.join(f'`{p}`' for p in ports)}"
            if len(ports) > 1
            else f"it has one output only: write `{text.partition('.')[0]}`"
        )
        self.diagnostics.error("NS302", f"`{text.partition('.')[0]}` has no output `{port}`", span, help=known)
        raise Poisoned

    def member(self, node: Node, inside: Instance, port: str, text: str, span: Span) -> Ref:
        """What a member of a chain gives: `downs.2` is the third layer of the list `downs`."""
        if not inside.group or inside.block.body.kind != "list" or port not in inside.children:
            self.diagnostics.error(
                "NS310",
                f"`{text}` reads a layer inside `{text.partition('.')[0]}`, which shows only what it gives",
                span,
                help="the members of a list can be read (`downs.2`), those of a mapping or a block cannot: "
                "name the layer beside the others, or among the block's `outputs`",
            )
            raise Poisoned
        inside.members.add(port)
        return Ref(node, port, seen_from_outside(inside.children[port].type, inside))

    def poisoned(self, text: str, frame: Frame | None) -> bool:
        while frame is not None:
            base = text.partition(".")[0]
            if "*" in frame.names or (base in frame.names and frame.names[base] is None):
                return True
            frame = frame.parent
        return False

    def visible(self, frame: Frame | None) -> list[str]:
        names: list[str] = []
        while frame is not None:
            names += [name for name in frame.names if not name.isdigit()]
            frame = frame.parent
        return list(dict.fromkeys(names))
