"""Every use of every block, with its values and shapes: the pass from what a spec says to what it means.

An `Instance` is made for each distinct use of a block (same block, same arguments, same input types), and a `Node` for
each copy of each layer in it. Sizes are numbers throughout; those that follow from a block's parameters or inputs
remember how (`netspec.origins`), so that emission can write the expression and not the number.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from netspec.absent import Absent
from netspec.call_parts import untraced_type
from netspec.calls import Caller
from netspec.catalog.entry import Entry, TypeLike
from netspec.choices import chosen_output
from netspec.diagnostics import Diagnostics, Label, Span
from netspec.each import over_list
from netspec.expressions import (
    ExpressionError,
    Literal,
    evaluate,
)
from netspec.frame import Frame, Poisoned, TooLarge
from netspec.instances import layers_in
from netspec.members import branch_outputs
from netspec.mistakes import got
from netspec.order import default_before, definition_order, names_are_written
from netspec.patterns import pattern_text, unlike
from netspec.program import Apply, Argument, Arithmetic, Call, Factory, Instance, Node, Ref, Reuse, walk
from netspec.schema.layer_rules import module_for
from netspec.schema.names import check_layer_name
from netspec.shapes import Dim, TensorType
from netspec.spec import Block, Body, Layer, Spec, Value, literal_names
from netspec.ties import resolve_ties
from netspec.values import FAILED

MOST_LAYERS = 50_000
"""Layers of a whole model, those in blocks counted for every use. Ten times the largest network that we know of."""


def elaborate(
    spec: Spec, diagnostics: Diagnostics, broken: tuple[Span, ...] = (), met: list[Block] | None = None
) -> Instance | None:
    """The model's instance, or None where the spec states no model. `met` receives the blocks that some layer names.

    `broken` are the places of mistakes that were reported already: a layer that holds one is left alone, and nothing is
    said about those who read it.
    """
    if spec.model is None:
        return None
    elaborator = Elaborator(spec, diagnostics, broken)
    model = elaborator.model(spec.model)
    if not model.failed:
        model.ties = resolve_ties(model, spec.model, diagnostics)
    if met is not None:
        met += elaborator.met.values()
    del elaborator.caller  # the two hold each other: parted, they are freed at once and not by the collector
    return model


class Elaborator(Absent):
    """Works out bodies, layers, blocks and groups."""

    def __init__(self, spec: Spec, diagnostics: Diagnostics, broken: tuple[Span, ...] = ()) -> None:
        super().__init__(spec, diagnostics)
        self.broken = broken
        self.objective = False
        """Whether the layers are those of `train`, where losses take a mask or one number as their target."""
        self.groups: dict[int, tuple[Layer, Block]] = {}
        self.orders: dict[int, tuple[Body, list[int]]] = {}
        self.caller = Caller(self)

    # Bodies

    def body(
        self,
        body: Body,
        frame: Frame,
        env: Mapping[str, Any],
        incoming: Ref | None,
        loops: tuple[tuple[Layer, int], ...],
    ) -> tuple[list[Node], Ref | None]:
        """The nodes of a list or mapping of layers in the file's order, and what the last of them gives."""
        order = self.order_of(body, env)
        results: dict[int, Ref | None] = {}
        nodes: dict[int, list[Node]] = {}
        outside, self.frame = self.frame, frame
        for i in order:
            default = None if frame.parallel else default_before(body, i)
            before = incoming if default is None else results.get(default)
            frame.current = next(iter(literal_names(body.layers[i])), "")
            known = {**env, **frame.live} if frame.live else env
            try:
                nodes[i], results[i] = self.unit(body.layers[i], frame, known, before, loops)
            except Poisoned:
                self.poison(body.layers[i], frame, env)
                nodes[i], results[i] = [], None
        self.frame = outside
        final = default_before(body, len(body.layers))
        last = incoming if final is None else results[final]
        return [node for i in sorted(nodes) for node in nodes[i]], last

    def order_of(self, body: Body, env: Mapping[str, Any]) -> list[int]:
        """In which order the layers are worked out. Where their names hold no `$` it is the same in every use."""
        known = self.orders.get(id(body))
        if known is not None:
            return known[1]
        order = definition_order(body, lambda value: self.name_of(value, env), self.diagnostics)
        if order is None:
            raise Poisoned
        if names_are_written(body):
            self.orders[id(body)] = (body, order)
        return order

    def poison(self, layer: Layer, frame: Frame, env: Mapping[str, Any]) -> None:
        """Let the names of a failed layer be known, so that nothing is said about those who read them."""
        for name in literal_names(layer):
            frame.names.setdefault(name, None)
        if layer.loop is None and layer.name is not None:
            known = self.name_of(layer.name, env)
            if known:
                frame.names.setdefault(known, None)
        elif layer.loop is not None:
            frame.names.setdefault("*", None)
        frame.instance.failed = True

    def name_of(self, expr: Any, env: Mapping[str, Any]) -> str | None:
        """The text of a name, or None where it depends on what is not known here."""
        try:
            return str(evaluate(expr, env))
        except ExpressionError:
            return None

    def unit(
        self,
        layer: Layer,
        frame: Frame,
        env: Mapping[str, Any],
        incoming: Ref | None,
        loops: tuple[tuple[Layer, int], ...],
    ) -> tuple[list[Node], Ref | None]:
        """One entry of `layers`, all copies of it."""
        if self.broken and self.is_broken(layer):
            raise Poisoned
        if layer.loop is None:
            return self.single(layer, frame, env, incoming, loops)
        return self.loop(layer, frame, env, incoming, loops)

    def is_broken(self, layer: Layer) -> bool:
        """Whether a mistake was reported in this layer itself, and not in one of the layers in it."""
        inner = layer.body.layers if layer.body is not None else ()
        return any(
            within(span, layer.extent) and not any(within(span, one.extent) or span == one.span for one in inner)
            for span in self.broken
        ) or any(span == layer.span for span in self.broken)

    # Layers

    def single(
        self,
        layer: Layer,
        frame: Frame,
        env: Mapping[str, Any],
        incoming: Ref | None,
        loops: tuple[tuple[Layer, int], ...],
        original: Layer | None = None,
    ) -> tuple[list[Node], Ref | None]:
        """One copy of a layer; `original` is the layer as written, where `layer` is a variant of it."""
        written = original or layer
        target: Any = None
        if layer.condition is not None:
            holds = self.evaluate(layer.condition, env)
            if holds is FAILED:
                raise Poisoned
            if isinstance(holds, str | Factory):
                self.diagnostics.error(
                    "NS103",
                    f"`if` takes true or false, and got {got(holds)}",
                    layer.condition.span,
                    labels=self.given_at(layer.condition),
                    help="compare it with something, as in `$(mode == 'deep')`",
                )
                raise Poisoned
            if not holds:
                return self.leave_out(layer, written, frame, env, incoming, loops)
        if layer.type is not None:
            target = self.target(layer.type, env)
            if target is FAILED:
                raise Poisoned
            if target is None:
                return self.leave_out(layer, written, frame, env, incoming, loops)
        if layer.body is not None and layer.inline:
            start = incoming
            if layer.inputs is not None:
                start = self.caller.only(layer, self.references(layer, frame, env, incoming))
            return self.body(layer.body, frame, env, start, loops)
        if layer.inline and layer.type is not None:
            return self.join(target, layer, frame, env, incoming, loops)
        node = self.node(layer, written, target, frame, env, incoming, loops)
        return [node], self.register(node, frame)

    def node(
        self,
        layer: Layer,
        written: Layer,
        target: Any,
        frame: Frame,
        env: Mapping[str, Any],
        incoming: Ref | None,
        loops: tuple[tuple[Layer, int], ...],
    ) -> Node:
        """A layer that is there, with what it reads and gives; its body does not know it yet."""
        name = self.node_name(layer, frame, env)
        refs: Any = {}
        if layer.compute is None:
            try:
                free = isinstance(target, Entry) and not target.inputs and layer.inputs is None
                refs = () if free else self.references(layer, frame, env, incoming)
            except Poisoned:
                if isinstance(target, Entry):
                    self.caller.entry_arguments(target, layer, env)
                elif isinstance(target, Block):
                    self.caller.block_arguments(target, layer, env)
                raise
        self.caller.check_replace(layer, target)
        op: Any

        def make(given: Any) -> tuple[Any, dict[str, TypeLike]]:
            return self.operation(layer, target, frame, env, given, name)

        if layer.each:
            op, types = over_list(layer, refs, name, lambda one: make((one,)), self.diagnostics)
        else:
            op, types = make(refs)
        key = name if _makes_module(op) else None
        if key is None and layer.name is None and not frame.instance.block.body.copies:
            self.function_in_list(layer, op)
            raise Poisoned
        node = Node(written, name, key, env, op, types, loops, each=refs[0] if layer.each else None)
        if layer.body is not None and layer.body.chosen_by is not None:
            node.chosen_by = self.chooser(layer.body.chosen_by, frame, env)
        if isinstance(op, Call) and op.entry.category == "function":
            for value in layer.arguments.values():
                node.measured.update(self.measured(value, env) if value.tensors else {})
        self.expect(layer, node, env)
        self.check_mode(node)
        return node

    def operation(
        self, layer: Layer, target: Any, frame: Frame, env: Mapping[str, Any], refs: Any, name: str
    ) -> tuple[Any, dict[str, TypeLike]]:
        """What a layer does with what it reads, and what it gives."""
        if layer.compute is not None:
            return self.caller.arithmetic(layer, frame, env, name)
        if layer.use is not None:
            return self.caller.reuse(layer, frame, env, refs, name)
        if layer.body is not None and isinstance(target, Entry):
            return self.computed(target, layer, env, name)
        if layer.body is not None:
            return self.group(layer, frame, env, refs, name)
        preset: Mapping[str, Argument] = {}
        if isinstance(target, Factory):
            target, preset = target.target, target.arguments
        if isinstance(target, Block):
            return self.caller.apply(target, layer, preset, env, refs, name)
        assert isinstance(target, Entry)
        return self.caller.call(target, layer, preset, env, refs, name)

    def function_in_list(self, layer: Layer, op: Any) -> None:
        name = _op_name(op)
        module = module_for(name)
        self.diagnostics.error(
            "NS111",
            f"`{name}` is a function, and a list holds modules only"
            if isinstance(op, Call)
            else "a list holds modules only, and this one has none",
            layer.span,
            labels=self.given_at(layer.type) if layer.type is not None else [],
            help=f"write `{module}`, the module for it"
            if module
            else "write the layers as a mapping from names to layers, where functions may stand",
        )

    def register(self, node: Node, frame: Frame) -> Ref:
        self.made += 1 + layers_in(node)
        if self.made > MOST_LAYERS:
            self.diagnostics.error(
                "NS325",
                f"the model has more than {MOST_LAYERS:,} layers",
                node.layer.span,
                help="loops in loops multiply: look at the counts of those around this layer",
            )
            raise TooLarge
        ref = Ref(node, "", node.type)
        other = frame.names.get(node.name)
        if other is not None and node.layer.name is not None:
            self.same_name(node, other, frame)
            raise Poisoned
        frame.names[node.name] = ref
        if node.key is not None:
            frame.modules[node.name] = node
        if node.layer.name is None:
            frame.count += 1
        frame.order.append(node)
        return ref

    def same_name(self, node: Node, other: Ref, frame: Frame) -> None:
        """Report a name that is taken by a layer, by another copy of the same loop, or by an input."""
        labels: list[Label] = []
        message, help = f"there are two layers named `{node.name}`", "give one of them another name"
        if other.node is None:
            message = f"`{node.name}` is the name of an input already"
            labels = [Label(i.span, "the input") for i in frame.instance.block.inputs if i.name == other.name]
        elif other.node.layer is node.layer:
            message = f"two copies of this layer are named `{node.name}`"
            help = "let the loop's name tell them apart, as in `layer$i`"
        else:
            labels = [Label(other.node.layer.span, "the first one")]
        self.diagnostics.error("NS306", message, node.layer.span, labels=labels, help=help)

    def node_name(self, layer: Layer, frame: Frame, env: Mapping[str, Any]) -> str:
        if layer.name is None:
            return str(frame.count)
        if isinstance(layer.name, Literal):
            name = layer.name.value
        else:
            name = self.evaluate(Value(expr=layer.name, span=layer.span), env)
        if name is FAILED:
            raise Poisoned
        problem = check_layer_name(str(name))
        if problem is not None:
            self.diagnostics.error("NS110", problem.message, layer.span, help=problem.help)
            raise Poisoned
        return str(name)

    def group(
        self, layer: Layer, frame: Frame, env: Mapping[str, Any], refs: Any, name: str
    ) -> tuple[Apply, dict[str, TypeLike]]:
        """An inline `layers`: an instance that shares the scope, and takes what it reads from around it as inputs."""
        assert layer.body is not None
        known = self.groups.get(id(layer.body))
        if known is None:
            block = Block(
                name=name,
                span=layer.span,
                params={},
                inputs=(),
                let={},
                body=layer.body,
                initialize=layer.initialize,
            )
            known = self.groups[id(layer.body)] = (layer, block)
        outer = self.caller.only(layer, refs) if refs else None
        types: dict[str, TypeLike]
        instance = Instance(block=known[1], group=True, scope=dict(env), inputs={})
        default = Ref(None, "x", outer.type) if outer is not None else None
        inner = Frame(instance, frame, default, layer.body.parallel, live=frame.live)
        if outer is not None:
            inner.captured["x"] = outer
            instance.inputs["x"] = outer.type
        nodes, last = self.body(layer.body, inner, env, default, ())
        instance.nodes, instance.order = nodes, inner.order
        instance.total = sum(1 + layers_in(one) for one in nodes)
        if last is None or (layer.body.parallel and instance.failed):
            frame.instance.failed = True
            raise Poisoned
        if layer.body.chosen_by is not None:
            types = chosen_output(instance, layer, self.diagnostics)
        elif layer.body.parallel:
            types = branch_outputs(instance, layer, self.diagnostics)
        else:
            instance.outputs, types = {"": last}, {"": last.type}
        gives = [ref for ref in instance.outputs.values() if ref.node is None and ref.name == "x"]
        reads_default = gives or any(
            ref.node is None and ref.name == "x" for node in inner.order for ref in node.inputs
        )
        # What a group without modules would let pass is its first input, though none of its layers reads it.
        passes = layer.condition is not None and not instance.has_modules
        if outer is not None and not reads_default and not passes:
            del inner.captured["x"], instance.inputs["x"]
        self.warn_unused(instance)
        return Apply(instance, {}, dict(inner.captured)), types

    def computed(
        self, entry: Entry, layer: Layer, env: Mapping[str, Any], name: str
    ) -> tuple[Call, dict[str, TypeLike]]:
        """A `Buffer` with `layers`: an instance without inputs, which runs once when the module is made."""
        assert layer.body is not None
        arguments = self.caller.entry_arguments(entry, layer, env)
        block = self.groups.setdefault(
            id(layer.body), (layer, Block(name=name, span=layer.span, params={}, inputs=(), let={}, body=layer.body))
        )[1]
        instance = Instance(block=block, group=True, scope=dict(env), inputs={})
        inner = Frame(instance, None, None)
        instance.nodes, last = self.body(layer.body, inner, env, None, ())
        instance.order = inner.order
        if last is None or instance.failed:
            raise Poisoned
        instance.outputs = {"": last}
        self.check_computed(instance, layer, name)
        self.warn_unused(instance)
        return Call(entry, arguments, {}, instance), {"output": untraced_type(last.type)}

    def check_computed(self, instance: Instance, layer: Layer, name: str) -> None:
        """What a buffer is computed by has no weights, and no size that is known only when the model runs."""
        for _, node in walk(instance):
            if node.key is not None or node.is_weight:
                self.diagnostics.error(
                    "NS340",
                    f"`{name}` is computed once, and `{node.name}` is a module of its own",
                    node.layer.span,
                    labels=[Label(layer.span, "the buffer")],
                    help="compute it by functions and arithmetic; modules stand beside the buffer",
                )
                raise Poisoned
            sizes = node.type.shape if isinstance(node.type, TensorType) else ()
            unknown = next((size for size in sizes if isinstance(size, Dim)), None)
            if unknown is not None or not isinstance(node.type, TensorType):
                self.diagnostics.error(
                    "NS341",
                    f"`{name}` is computed when the model is made, and `{unknown}` is known only when it runs"
                    if unknown is not None
                    else f"`{name}` is computed when the model is made, and `{node.name}` gives several tensors",
                    node.layer.span,
                    labels=[Label(layer.span, "the buffer")],
                    help="let its sizes follow from parameters, or compute it as a group of layers instead",
                )
                raise Poisoned

    def check_mode(self, node: Node) -> None:
        """What runs in one mode only gives nothing in the other: what runs with it may read it, and the outputs."""
        for ref in node.inputs:
            mode = ref.node.layer.when if ref.node is not None else ""
            if ref.node is not None and mode and mode != node.layer.when:
                self.diagnostics.error(
                    "NS324",
                    f"`{node.name}` reads `{ref.node.name}`, which gives nothing outside of {mode}",
                    node.layer.span,
                    labels=[Label(ref.node.layer.span, f"runs in {mode} only")],
                    help=f"let it read another layer, or give it `when: {mode}` too",
                )
                raise Poisoned

    def expect(self, layer: Layer, node: Node, env: Mapping[str, Any]) -> None:
        if layer.expect is None or not isinstance(node.type, TensorType):
            return
        wrong = unlike(layer.expect, node.type, dict(env), lambda dim: self.dim(dim, env))
        if wrong is not None:
            self.diagnostics.error(
                "NS411",
                f"`{node.name}` gives {node.type}, and {pattern_text(layer.expect)} was expected",
                layer.expect[wrong].span if layer.expect else layer.span,
                labels=[Label(layer.span, f"gives {node.type}")],
                help="correct the size, or the layers that lead here",
            )


def within(inner: Span, outer: Span | None) -> bool:
    """Whether one stretch of text lies in another."""
    return (
        outer is not None
        and inner.file == outer.file
        and (outer.line, outer.column) <= (inner.line, inner.column)
        and (inner.end_line, inner.end_column) <= (outer.end_line, outer.end_column)
    )


def _makes_module(op: Any) -> bool:
    if isinstance(op, Call):
        return op.entry.category not in ("function", "weight")
    if isinstance(op, Apply):
        body = op.instance.block.body
        computed = body.kind == "mapping" or (body.copies and op.instance.nodes)
        return not op.instance.group or op.instance.has_modules or not computed
    return False


def _op_name(op: Any) -> str:
    if isinstance(op, Call):
        return op.entry.name
    return "compute" if isinstance(op, Arithmetic) else "use" if isinstance(op, Reuse) else "this"
