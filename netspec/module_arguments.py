"""Arguments that are modules, classes of layers or functions: made of what the spec writes there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from netspec import catalog
from netspec.call_parts import Refs, _words
from netspec.catalog.entry import Argument as CatalogArgument
from netspec.catalog.entry import Entry, GivenClass, GivenModule
from netspec.catalog.given import no_function
from netspec.diagnostics import Span
from netspec.expressions import Literal
from netspec.frame import Frame, Poisoned
from netspec.loss_calls import LossCaller
from netspec.mistakes import got
from netspec.model_calls import Ports
from netspec.origins import untraced
from netspec.program import Apply, Argument, Call, Factory, Instance, Node, Pending, Ref, parameters, walk
from netspec.spec import Block, Body, Layer, Value
from netspec.suggest import suggest
from netspec.values import FAILED

_NOT_HERE = ("inputs", "each", "use", "compute", "condition", "loop", "when", "freeze", "inline", "replace")
_KEYS = {"inputs": "from", "condition": "if", "loop": "for"}


class ArgumentCaller(LossCaller):
    """Makes arguments that are no plain values. Methods raise Poisoned after a report."""

    def __init__(self, elaborator: Any) -> None:
        super().__init__(elaborator)
        self.written: dict[int, tuple[Value, Layer]] = {}
        """The layers that are written as a name or an expression."""

    # Modules

    def pending(self, declared: CatalogArgument, value: Value, env: Mapping[str, Any]) -> Argument:
        """A layer as it is written, not made yet, for its input has to be known; null where nothing is given."""
        if value.layer is not None:
            return Argument(Pending(value.layer, env), value.expr)
        found = self.elaborator.argument(value, env)
        if isinstance(found.value, str | Factory):
            kept = self.written.setdefault(
                id(value), (value, Layer(name=None, span=value.span, extent=value.span, type=value))
            )
            return Argument(Pending(kept[1], env), value.expr)
        if found.value is None and declared.kind.endswith("?"):
            return found
        null = " or null" if declared.kind.endswith("?") else ""
        self.diagnostics.error(
            "NS103",
            f"`{declared.name}` takes a layer{null}, and got {got(found.value)}",
            value.span,
            labels=self.elaborator.given_at(value),
            help=f"a list of layers is written `{declared.name}: {{layers: […]}}`"
            if isinstance(found.value, list) and not declared.types
            else f"as in `{declared.name}: {{type: {(declared.types or ('LayerNorm',))[0]}, …}}`",
        )
        raise Poisoned

    def with_modules(
        self, entry: Entry, stated: Mapping[str, Argument], ports: Ports, layer: Layer
    ) -> dict[str, Argument]:
        """The arguments of a layer with their modules made for these inputs."""
        made = dict(stated)
        for declared in entry.arguments:
            given = made.get(declared.name)
            if given is None:
                continue
            if isinstance(given.value, Factory | str):
                given = self.of_value(declared, given, layer)
            if isinstance(given.value, Pending | GivenModule):
                given = self.module(entry, declared, given, ports)
            made[declared.name] = given
        return made

    def of_value(self, declared: CatalogArgument, given: Argument, layer: Layer) -> Argument:
        """An argument of a layer that is itself the value of a parameter: a layer in it was not looked at yet."""
        if declared.takes_function and isinstance(given.value, str):
            self.check_function(declared, Value(expr=given.origin, span=layer.span), given.value)  # type: ignore[arg-type]
        if not (declared.takes_module or declared.takes_class):
            return given
        target = given.value
        if isinstance(target, str):
            target = self.elaborator.target(Value(expr=Literal(target), span=layer.span), {})
        if target is FAILED:
            raise Poisoned
        factory = target if isinstance(target, Factory) else Factory(target, {})
        if declared.takes_class:
            return Argument(self.class_of(declared, factory, layer.span, {}), given.origin)
        written = Layer(name=None, span=layer.span, extent=layer.span)
        return Argument(Pending(written, {}, factory), given.origin)

    def module(self, entry: Entry, declared: CatalogArgument, given: Argument, ports: Ports) -> Argument:
        """The module of an argument, as it is for these inputs."""
        pending = given.value if isinstance(given.value, Pending) else given.pending
        assert pending is not None
        layer, env = pending.layer, pending.env
        self.check_keys(declared, layer)
        target: Any = pending.factory or (self.elaborator.target(layer.type, env) if layer.type is not None else None)
        if target is FAILED:
            raise Poisoned
        if layer.type is not None and target is None:
            if declared.kind.endswith("?"):
                return Argument(None, given.origin)
            self.refuse_layer(declared, layer, "is null", "name a layer")
        self.check_target(entry, declared, layer, target)
        fed = {inner: ports[outer] for inner, outer in declared.fed if outer in ports}
        known = {inner: ref for inner, ref in fed.items() if isinstance(ref, Ref)}
        refs: Refs = tuple(known.values()) if "" in known or len(known) == 1 else known
        node = self.node_of(declared, layer, target, env, refs)
        return Argument(described(node), given.origin, pending=pending)

    def node_of(self, declared: CatalogArgument, layer: Layer, target: Any, env: Mapping[str, Any], refs: Refs) -> Node:
        """The layer as a node that no body holds."""
        body = Body(kind="list", layers=(layer,), span=layer.span)
        block = Block(name=declared.name, span=layer.span, params={}, inputs=(), let={}, body=body)
        frame = Frame(Instance(block=block, group=True, scope=dict(env), inputs={}), None, None)
        op, types = self.elaborator.operation(layer, target, frame, env, refs, declared.name)
        node = Node(layer, declared.name, declared.name, env, op, types)
        if isinstance(op, Apply) and op.instance.group and not op.instance.has_modules:
            self.refuse_layer(declared, layer, "has no module among its layers", "write these layers as a block")
        self.elaborator.expect(layer, node, env)
        return node

    def check_keys(self, declared: CatalogArgument, layer: Layer) -> None:
        key = next((key for key in _NOT_HERE if getattr(layer, key)), None)
        if key is None and layer.body is not None and layer.body.parallel:
            key = "select" if layer.body.chosen_by is not None else "branches"
        if key is not None:
            self.refuse_layer(
                declared,
                layer,
                f"has `{_KEYS.get(key, key)}`, and it is the module around it that calls it",
                "give its `type` with arguments, or `layers`",
            )

    def check_target(self, entry: Entry, declared: CatalogArgument, layer: Layer, target: Any) -> None:
        """Refuse what is no module, and what the module around it cannot call."""
        named = target.target if isinstance(target, Factory) else target
        wanted = _words(list(declared.types))
        if isinstance(named, Entry) and named.category not in ("layer", "loss"):
            what = {"function": "a function", "weight": "a tensor"}.get(named.category, "a library's model")
            from netspec.schema.layer_rules import module_for

            module = module_for(named.name) if named.category == "function" else None
            self.refuse_layer(
                declared,
                layer,
                f"is `{named.name}`, {what} and no layer",
                f"write `{module}`, the module for it" if module else f"write a layer{f': {wanted}' if wanted else ''}",
            )
        stated = {*layer.arguments, *(target.arguments if isinstance(target, Factory) else ())}
        passed = [a.name for a in named.arguments if a.call and a.name in stated] if isinstance(named, Entry) else []
        if passed:
            self.refuse_layer(
                declared,
                layer,
                f"states `{passed[0]}`, which `{entry.name}` gives to it by itself",
                f"leave `{passed[0]}` out here, and state it beside `{declared.name}`",
                layer.argument_spans.get(passed[0]),
            )
        if declared.types and not (isinstance(named, Entry) and {named.name, *named.ancestors} & set(declared.types)):
            self.refuse_layer(
                declared,
                layer,
                f"is `{named.name}`, and `{entry.name}` takes {wanted} there"
                if named is not None
                else f"is a group of layers, and `{entry.name}` takes {wanted} there",
                "write the layers one after the other instead, as a group or a block with `repeat`",
            )

    def refuse_layer(self, declared: CatalogArgument, layer: Layer, what: str, help: str, span: Any = None) -> None:
        self.diagnostics.error(
            "NS347", f"the layer for `{declared.name}` {what}", span or _span(layer), help=help or None
        )
        raise Poisoned

    # Classes and functions

    def given_class(self, declared: CatalogArgument, value: Value, env: Mapping[str, Any]) -> Argument:
        """The class of layers that an argument names, with what is said of it beforehand."""
        layer = value.layer
        if layer is not None:
            self.check_keys(declared, layer)
            if layer.type is None or layer.initialize:
                what = "has `initialize`" if layer.type is not None else "is a group of layers"
                self.refuse_layer(declared, layer, f"{what}, and only the name of a layer with arguments will do", "")
            stated_type = layer.type
            assert stated_type is not None
        else:
            stated_type = value
        if layer is None and not self.elaborator.names_layer(value, env):
            return self.elaborator.argument(value, env)  # null, or what `accepts` refuses
        target = self.elaborator.target(stated_type, env)
        if target is FAILED:
            raise Poisoned
        if target is None:
            return Argument(None, value.expr)
        factory = target if isinstance(target, Factory) else Factory(target, {})
        return Argument(self.class_of(declared, factory, stated_type.span, env, layer), value.expr)

    def class_of(
        self,
        declared: CatalogArgument,
        factory: Factory,
        span: Span,
        env: Mapping[str, Any],
        layer: Layer | None = None,
    ) -> GivenClass:
        """The class that a layer names, with its own arguments and those that `layer` states beside it."""
        target = factory.target
        if not isinstance(target, Entry) or target.category != "layer":
            what = "a block" if isinstance(target, Block) else f"a {target.category}"
            near = suggest(target.name, catalog.names("layer"))
            self.diagnostics.error(
                "NS347",
                f"`{declared.name}` takes a layer of the catalog, and `{target.name}` is {what}",
                span,
                help=f"did you mean `{near}`?" if near else "the module makes layers of it by itself",
            )
            raise Poisoned
        stated = dict(factory.arguments)
        if layer is not None:
            stated |= self.elaborator.caller.entry_arguments(target, layer, env)
        return GivenClass(entry=target, arguments={name: untraced(given.value) for name, given in stated.items()})

    def check_function(self, declared: CatalogArgument, value: Value, name: str) -> None:
        """Refuse a name that no function has which a module could call."""
        problem = no_function(declared, name)
        if problem is None:
            return
        self.diagnostics.error(
            problem.code, problem.message, value.span, labels=self.elaborator.given_at(value), help=problem.help
        )
        raise Poisoned


def _span(layer: Layer) -> Any:
    return layer.type.span if layer.type is not None else layer.span


def described(node: Node) -> GivenModule:
    """A node as rules see it. FLOPs are counted where somebody asks."""
    op = node.op
    if isinstance(op, Call):
        entry = op.entry
        arguments = {a.name: a.default for a in entry.arguments if not a.required and not a.inferred}
        arguments |= {name: untraced(argument.value) for name, argument in op.arguments.items()}
        return GivenModule(
            name=entry.name,
            entry=entry,
            arguments=arguments,
            outputs=node.types,
            parameters=entry.parameters(arguments) if entry.parameters is not None else {},
            buffers=entry.buffers(arguments) if entry.buffers is not None else {},
            flops=None,
            node=node,
        )
    assert isinstance(op, Apply)
    return GivenModule(
        name=f"the block {op.instance.block.name}" if not op.instance.group else "this group of layers",
        outputs=node.types,
        parameters={path: shape for path, (_, shape) in parameters(op.instance).items()},
        buffers=_buffers(op.instance),
        flops=None,
        node=node,
    )


def _buffers(instance: Instance) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for path, node in walk(instance):
        if isinstance(node.op, Call) and node.op.entry.name == "Buffer":
            found[path] = tuple(int(size) for size in node.type.shape)  # type: ignore[union-attr, arg-type]
        elif isinstance(node.op, Call) and node.key is not None:
            found |= {f"{path}.{name}": shape for name, shape in described(node).buffers.items()}
    return found
