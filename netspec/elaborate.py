"""Every use of every block, with its values and shapes: the pass from what a spec says to what it means.

An `Instance` is made for each distinct use of a block (same block, same arguments, same input types), and a `Node` for
each copy of each layer in it. Sizes are numbers throughout; those that follow from a block's parameters or inputs remember
how (`netspec.origins`), so that emission can write the expression and not the number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from netspec import catalog
from netspec.calls import Caller, Poisoned, translate_type
from netspec.catalog.entry import Entry, TypeLike
from netspec.diagnostics import Diagnostics, Label, Span
from netspec.document import Scalar
from netspec.expressions import (
    ExpressionError,
    Literal,
    Name,
    Subscript,
    describe,
    evaluate,
    free_names,
    report,
)
from netspec.mistakes import Mistakes
from netspec.order import definition_order
from netspec.origins import Opaque, Origin, Traced, names_of, origin_of, rename, trace, untraced
from netspec.patterns import bind, declare, pattern_text, unlike
from netspec.program import Apply, Argument, Arithmetic, Call, Carry, Factory, Instance, Loop, Node, Ref, Reuse, Skip
from netspec.schema.layer_rules import module_for
from netspec.schema.names import check_layer_name
from netspec.shapes import ListType, Problem, TensorType
from netspec.spec import Block, Body, Input, Layer, Spec, Value
from netspec.suggest import suggest

LONGEST_LOOP = 10_000
"""Copies that one loop may make."""

FAILED: Any = object()
"""The value of an expression that was reported already."""


@dataclass(slots=True, eq=False)
class Frame:
    """The names that one body of layers sees while it is elaborated."""

    instance: Instance
    parent: Frame | None
    default: Ref | None
    names: dict[str, Ref | None] = field(default_factory=dict)
    """Tensors by name; None where a layer failed."""
    modules: dict[str, Node] = field(default_factory=dict)
    captured: dict[str, Ref] = field(default_factory=dict)
    """A group's inputs beside its default one, as the enclosing body names them."""
    count: int = 0
    """The index that the next module of a list takes."""
    order: list[Node] = field(default_factory=list)
    previous: Ref | None = None
    current: str = ""
    """The layer that is worked out, where its name holds no `$`."""


def elaborate(spec: Spec, diagnostics: Diagnostics) -> Instance | None:
    """The model's instance, or None where its inputs could not even be read."""
    if spec.model is None:
        return None
    return Elaborator(spec, diagnostics).model(spec.model)


class Elaborator:
    def __init__(self, spec: Spec, diagnostics: Diagnostics) -> None:
        self.spec = spec
        self.diagnostics = Mistakes(diagnostics)
        self.memo: dict[Any, Instance] = {}
        self.groups: dict[int, tuple[Layer, Block]] = {}
        self.variants: dict[int, tuple[Layer, Layer]] = {}
        """Looping layers without their `from`, for the copies after the first."""
        self.loop_numbers: dict[int, tuple[Layer, int]] = {}
        self.using: list[Block] = []
        self.frame: Frame | None = None
        """The body that is worked out."""
        self.caller = Caller(self)

    # Values

    def evaluate(self, value: Value, env: Mapping[str, Any]) -> Any:
        """The value of an expression, integers with the expression as their origin; FAILED after a report."""
        if value.layer is not None:
            return self.factory(value, env)
        if isinstance(value.expr, Literal):
            return value.expr.value
        if isinstance(value.expr, Name) and value.expr.id in env:
            return _traced(env[value.expr.id], value)
        try:
            result = evaluate(value.expr, env)
        except ExpressionError as error:
            report(error, value.scalar or Scalar(value=None, span=value.span), self.diagnostics)
            return FAILED
        return _traced(result, value)

    def argument(self, value: Value, env: Mapping[str, Any]) -> Argument:
        """A stated value with its expression. Raises Poisoned where it cannot be evaluated."""
        result = self.evaluate(value, env)
        if result is FAILED:
            raise Poisoned
        return Argument(result, value.expr)

    def factory(self, value: Value, env: Mapping[str, Any]) -> Any:
        layer = value.layer
        assert layer is not None
        if layer.type is None:
            self.diagnostics.error(
                "NS314",
                "a layer that is given as a value needs a `type`",
                value.span,
                help="write the layers as a block, and name that here",
            )
            return FAILED
        target = self.target(layer.type, env)
        if target is FAILED or target is None:
            return target
        arguments = {name: self.argument(argument, env) for name, argument in layer.arguments.items()}
        if isinstance(target, Factory):
            return Factory(target.target, {**target.arguments, **arguments})
        return Factory(target, arguments)

    def target(self, value: Value, env: Mapping[str, Any]) -> Entry | Block | Factory | Any | None:
        """What `type` names. None for null, FAILED after a report."""
        name = self.evaluate(value, env)
        if name is FAILED or name is None or isinstance(name, Factory):
            return name
        if isinstance(name, str):
            found = self.spec.blocks.get(name) or catalog.lookup(name)
            if found is not None:
                return found
            near = suggest(name, [*self.spec.blocks, *catalog.names()])
            self.diagnostics.error(
                "NS105",
                f"there is no layer, function or block `{name}`",
                value.span,
                labels=self.given_at(value),
                help=f"did you mean `{near}`?"
                if near
                else f"define `{name}` under `blocks`, or take a layer of torch.nn by its own name",
            )
            return FAILED
        self.diagnostics.error(
            "NS103",
            f"`type` takes the name of a layer, a function or a block, and got {describe(untraced(name))}",
            value.span,
            labels=self.given_at(value),
            help="a name as torch has it, such as `Conv2d`, or one under `blocks`",
        )
        return FAILED

    def given_at(self, value: Value) -> list[Label]:
        """Where the document gives what an expression of the model reads of its parameters."""
        model = self.spec.model
        if self.using or model is None:
            return []
        read = [param for name, param in model.params.items() if name in free_names(value.expr)]
        return [Label(p.default.span, f"`{p.name}` is given here") for p in read if p.default is not None]

    def bind_param(self, name: str, value: Any) -> Any:
        """A parameter's value as its block sees it: integers, in lists too, remember the parameter."""
        if isinstance(value, list):
            return [
                trace(untraced(item), Subscript(Name(name), Literal(i))) if isinstance(item, int) else item
                for i, item in enumerate(value)
            ]
        return trace(untraced(value), Name(name))

    # Instances

    def model(self, block: Block) -> Instance:
        scope: dict[str, Any] = {}
        instance = Instance(block=block, group=False, scope=scope, inputs={})
        try:
            for name, param in block.params.items():
                if param.default is None:
                    self.diagnostics.error(
                        "NS315",
                        f"the model's parameter `{name}` has no value",
                        param.span,
                        help=f"give it one, as in `{name}: 10`, or with `--set params.{name}=10`",
                    )
                    raise Poisoned
                scope[name] = self.bind_param(name, self.argument(param.default, scope).value)
            for pattern in block.inputs:
                for dim in pattern.shape or ():
                    if dim.kind in ("symbol", "multiple") and dim.symbol in scope:
                        self.diagnostics.error(
                            "NS316",
                            f"`{dim.symbol}` is a parameter: as a size it is written `${dim.symbol}`",
                            dim.span,
                            help=f"write `${dim.symbol}`, or give the size a name of its own",
                        )
                        raise Poisoned
            sizes: dict[str, Any] = {}
            for pattern in block.inputs:
                given = declare(pattern, lambda dim: self.dim(dim, scope))
                if pattern.shape is None:
                    self.diagnostics.error(
                        "NS317",
                        f"the model's input `{pattern.name}` needs a shape",
                        pattern.span,
                        help=f"write `{pattern.name}: {{shape: [N, 128], dtype: {pattern.dtype or 'float32'}}}`",
                    )
                    raise Poisoned
                bound = bind(pattern, given, sizes, lambda dim: self.dim(dim, scope))
                assert isinstance(bound, TensorType)
                instance.inputs[pattern.name] = given
            scope.update({name: size for name, size in sizes.items() if not isinstance(size, int)})
            self.fill(instance)
        except Poisoned:
            instance.failed = True
        return instance

    def dim(self, dim: Any, scope: Mapping[str, Any]) -> Any:
        """The size that `$value` in a pattern gives."""
        result = self.evaluate(Value(expr=dim.expr, span=dim.span), scope)
        if result is FAILED:
            raise Poisoned
        if isinstance(result, bool) or not isinstance(result, int) or result < 1:
            self.diagnostics.error(
                "NS301",
                f"a size is an integer from 1, and this is {describe(untraced(result))}",
                dim.span,
                help="a size that is not known here bears a name: `N`",
            )
            raise Poisoned
        return result

    def instantiate(
        self,
        block: Block,
        values: dict[str, Any],
        given: dict[str, TypeLike],
        span: Span,
        labels: Mapping[str, list[Label]],
    ) -> Instance:
        """The instance of a block for these arguments and input types; one that was made before is shared.

        `span` is where the block is used, `labels` where each input comes from.
        """
        key = (
            id(block),
            tuple((param, _hashable(value)) for param, value in values.items()),
            tuple((port, type_) for port, type_ in given.items()),
        )
        if block in self.using:
            chain = " → ".join([*(b.name for b in self.using[self.using.index(block) :]), block.name])
            self.diagnostics.error(
                "NS312",
                f"block `{block.name}` contains itself ({chain})",
                span,
                labels=[Label(block.span, "defined here")],
                help="repeat a block with `for` or `repeat`, not by using it inside itself",
            )
            raise Poisoned
        known = self.memo.get(key)
        if known is not None:
            return known
        scope: dict[str, Any] = {param: self.bind_param(param, value) for param, value in values.items()}
        instance = Instance(block=block, group=False, scope=scope, inputs={})
        self.memo[key] = instance
        self.using.append(block)
        self.diagnostics.enter(block, values, span)
        try:
            self.bind_inputs(instance, given, labels)
            self.fill(instance)
        except Poisoned:
            instance.failed = True
        finally:
            self.using.pop()
            self.diagnostics.leave()
        return instance

    def bind_inputs(self, instance: Instance, given: dict[str, TypeLike], labels: Mapping[str, list[Label]]) -> None:
        block = instance.block
        for pattern in block.inputs or (UNNAMED,):
            if pattern.name not in given:
                continue
            bound = bind(pattern, given[pattern.name], instance.scope, lambda dim: self.dim(dim, instance.scope))
            if isinstance(bound, Problem):
                use = self.diagnostics.uses[-1].span
                self.diagnostics.error(
                    bound.code,
                    bound.message,
                    use,
                    labels=[Label(pattern.span, f"`{pattern.name}` of `{block.name}`"), *labels[pattern.name]],
                    help=bound.help or f"give `{block.name}` another tensor, or change its `inputs`",
                )
                raise Poisoned
            instance.inputs[pattern.name] = bound

    def fill(self, instance: Instance) -> None:
        """Elaborate the body of a block whose values and inputs are bound."""
        block, scope = instance.block, instance.scope
        for name, value in block.let.items():
            scope[name] = self.bind_param(name, self.argument(value, scope).value)
        inputs: dict[str, Ref | None] = {name: Ref(None, name, type_) for name, type_ in instance.inputs.items()}
        default = next(iter(inputs.values()), None)
        frame = Frame(instance, None, default, names=dict(inputs))
        nodes, last = self.body(block.body, frame, scope, default, ())
        instance.nodes, instance.order = nodes, frame.order
        self.finish(instance, frame, block, last)

    def finish(self, instance: Instance, frame: Frame, block: Block, last: Ref | None) -> None:
        if block.outputs is None:
            if last is None:
                raise Poisoned
            instance.outputs = {"": last}
        else:
            failed = False
            for name, value in block.outputs.items():
                try:
                    instance.outputs[name] = self.resolve(value, frame, instance.scope)
                except Poisoned:
                    failed = True
            if failed:
                raise Poisoned
        self.warn_unused(instance)

    def warn_unused(self, instance: Instance) -> None:
        used: set[int] = set()
        shared: set[int] = set()
        waiting = [ref.node for ref in instance.outputs.values() if ref.node]
        while waiting:
            node = waiting.pop()
            if id(node) in used:
                continue
            used.add(id(node))
            waiting.extend(ref.node for ref in node.inputs if ref.node)
            if isinstance(node.op, Reuse):
                shared.add(id(node.op.target))
        for node in instance.nodes:
            if id(node) not in used | shared and not isinstance(node.op, Skip):
                self.diagnostics.warning(
                    "NS304",
                    f"nothing uses the output of `{node.name}`",
                    node.layer.span,
                    help="name it in `outputs` or in another layer's `from`, or take it out",
                )

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
        order = definition_order(body, lambda value: self.name_of(value, env), self.diagnostics)
        if order is None:
            raise Poisoned
        results: dict[int, Ref | None] = {}
        nodes: dict[int, list[Node]] = {}
        outside, self.frame = self.frame, frame
        for i in order:
            before = results.get(i - 1) if i else incoming
            frame.current = next(iter(_literal_names(body.layers[i])), "")
            try:
                nodes[i], results[i] = self.unit(body.layers[i], frame, env, before, loops)
            except Poisoned:
                self.poison(body.layers[i], frame, env)
                nodes[i], results[i] = [], None
        self.frame = outside
        last = results[len(body.layers) - 1] if body.layers else incoming
        return [node for i in sorted(nodes) for node in nodes[i]], last

    def poison(self, layer: Layer, frame: Frame, env: Mapping[str, Any]) -> None:
        """Let the names of a failed layer be known, so that nothing is said about those who read them."""
        for name in _literal_names(layer):
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
        if layer.loop is None:
            return self.single(layer, frame, env, incoming, loops)
        return self.loop(layer, frame, env, incoming, loops)

    def loop(
        self,
        layer: Layer,
        frame: Frame,
        env: Mapping[str, Any],
        incoming: Ref | None,
        loops: tuple[tuple[Layer, int], ...],
    ) -> tuple[list[Node], Ref | None]:
        values = self.loop_values(layer, env)
        names = set(layer.loop.names) if layer.loop else set()
        afresh = _mentions(layer.inputs, names)
        if layer.inputs is not None and not afresh:
            refs = self.references(layer, frame, env, incoming)
            first = next(iter(refs.values())) if isinstance(refs, dict) else refs[0]
            incoming = first if len(refs) == 1 else incoming
        record = Loop(layer, env, tuple(values))
        rolled = layer.name is None or layer.inline
        frame.instance.loops.append(record)
        start = incoming
        nodes: list[Node] = []
        copies: list[tuple[dict[str, Any], Ref | None]] = []
        for k, step in enumerate(values):
            scope: dict[str, Any] = {**env, **step}
            previous = self.carry_in(layer, incoming, scope) if rolled else incoming
            frame.previous = previous
            single = (
                layer
                if afresh or (k == 0 and layer.inputs is not None and len(layer.inputs) > 1)
                else (self.without_inputs(layer))
            )
            copy_nodes, incoming = self.single(single, frame, scope, previous, (*loops, (layer, k)), original=layer)
            nodes += copy_nodes
            copies.append((scope, incoming))
            if incoming is None:
                raise Poisoned
            if not rolled:
                incoming = self.fix_names(record, k, copy_nodes, incoming, frame)
        if rolled and copies and start is not None and incoming is not None:
            incoming = self.carry_out(record, start, copies)
        return nodes, incoming

    def without_inputs(self, layer: Layer) -> Layer:
        if layer.inputs is None:
            return layer
        known = self.variants.get(id(layer))
        if known is None:
            known = self.variants[id(layer)] = (layer, replace(layer, inputs=None))
        return known[1]

    def loop_values(self, layer: Layer, env: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The loop's names with their values, a mapping for each copy."""
        assert layer.loop is not None
        columns: list[list[Any]] = []
        for value in layer.loop.values:
            given = self.evaluate(value, env)
            if given is FAILED:
                raise Poisoned
            if isinstance(given, int) and not isinstance(given, bool):
                if not 0 <= given <= LONGEST_LOOP:
                    self.diagnostics.error(
                        "NS318",
                        f"a loop makes from 0 to {LONGEST_LOOP} copies, and this one {given}",
                        value.span,
                        help="for no copy at all write 0" if given < 0 else "split it, or take fewer",
                    )
                    raise Poisoned
                columns.append(list(range(given)))
            elif isinstance(given, list):
                columns.append(given)
            else:
                self.diagnostics.error(
                    "NS318",
                    f"a loop runs over a number of copies or a list, and this is {describe(untraced(given))}",
                    value.span,
                    labels=self.given_at(value),
                    help="as in `repeat: 3`, `for: {i: 3}` or `for: {width: [16, 32]}`",
                )
                raise Poisoned
        if len({len(column) for column in columns}) > 1:
            lengths = ", ".join(
                f"`{name}` {len(column)}" for name, column in zip(layer.loop.names, columns, strict=True)
            )
            self.diagnostics.error(
                "NS319",
                f"the names of a loop advance together, and their lists differ in length: {lengths}",
                layer.loop.span,
                help="give each as many values as there are copies; a number `n` counts from 0 to n - 1",
            )
            raise Poisoned
        names = layer.loop.names
        if not names:
            return [{} for _ in columns[0]]
        return [
            {name: trace(untraced(item), Name(name)) for name, item in zip(names, row, strict=True)}
            for row in zip(*columns, strict=True)
        ]

    def fix_names(self, record: Loop, k: int, nodes: list[Node], out: Ref, frame: Frame) -> Ref:
        """After a copy of a loop that is written out: its sizes no longer speak of the loop's names."""
        step = self.step_origins(record, k)

        def fixed(ref: Ref) -> Ref:
            return Ref(ref.node, ref.name, translate_type(ref.type, step))

        for node in nodes:
            ref = frame.names.get(node.name)
            if ref is not None:
                frame.names[node.name] = fixed(ref)
        return fixed(out)

    def carry_in(self, layer: Layer, incoming: Ref | None, scope: dict[str, Any]) -> Ref | None:
        """The tensor that a copy of a rolled loop gets, its sizes under the loop's own names."""
        if incoming is None or not isinstance(incoming.type, TensorType):
            return incoming
        shape = []
        for axis, size in enumerate(incoming.type.shape):
            if isinstance(size, int):
                name = self.carry_name(layer, axis)
                size = trace(untraced(size), Name(name))
                scope[name] = size
            shape.append(size)
        return Ref(incoming.node, incoming.name, TensorType(tuple(shape), incoming.type.dtype))

    def carry_name(self, layer: Layer, axis: int) -> str:
        number = self.loop_numbers.setdefault(id(layer), (layer, len(self.loop_numbers)))[1]
        return f"loop {number} size {axis}"

    def carry_out(self, record: Loop, start: Ref, copies: list[tuple[dict[str, Any], Ref | None]]) -> Ref:
        """What the loop gives, its sizes in terms of the scope around it; records what each size does in the loop."""
        out = copies[-1][1]
        assert out is not None
        if not isinstance(out.type, TensorType) or not isinstance(start.type, TensorType):
            return out
        for axis, size in enumerate(start.type.shape):
            if isinstance(size, int):
                name = self.carry_name(record.layer, axis)
                record.carried[name] = Carry(size, partial(_update, name, axis, copies))
        last = self.step_origins(record, len(copies) - 1)
        shape = [
            _after_loop(self.carry_name(record.layer, axis), axis, record, last, copies)
            if isinstance(size, int)
            else size
            for axis, size in enumerate(out.type.shape)
        ]
        return Ref(out.node, out.name, TensorType(tuple(shape), out.type.dtype))

    def step_origins(self, record: Loop, k: int) -> dict[str, Origin]:
        """The loop's names as they are in copy `k`, in terms of the scope around the loop."""
        assert record.layer.loop is not None
        step: dict[str, Origin] = {}
        for name, value in zip(record.layer.loop.names, record.layer.loop.values, strict=False):
            listed = value.expr
            if isinstance(listed, Name) and isinstance(record.env.get(listed.id), list):
                step[name] = Subscript(listed, Literal(k))
            elif not free_names(listed):
                step[name] = Literal(untraced(record.values[k][name]))
            else:
                step[name] = Opaque(free_names(listed))
        return step

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
            if not holds:
                return self.leave_out(layer, written, frame, env, incoming, loops)
        if layer.type is not None:
            target = self.target(layer.type, env)
            if target is FAILED:
                raise Poisoned
            if target is None:
                return self.leave_out(layer, written, frame, env, incoming, loops)
        if layer.body is not None and layer.inline:
            start = self.references(layer, frame, env, incoming)[0] if layer.inputs is not None else incoming
            return self.body(layer.body, frame, env, start, loops)
        name = self.node_name(layer, frame, env)
        refs: Any = {}
        if layer.compute is None:
            try:
                refs = self.references(layer, frame, env, incoming)
            except Poisoned:
                if isinstance(target, Entry):
                    self.caller.entry_arguments(target, layer, env)
                raise
        op: Any
        if layer.compute is not None:
            op, types = self.caller.arithmetic(layer, frame, env, name)
        elif layer.use is not None:
            op, types = self.caller.reuse(layer, frame, env, refs, name)
        elif layer.body is not None:
            op, types = self.group(layer, frame, env, refs, name)
        elif isinstance(target, Block):
            op, types = self.caller.apply(target, layer, {}, env, refs, name)
        elif isinstance(target, Factory) and isinstance(target.target, Block):
            op, types = self.caller.apply(target.target, layer, target.arguments, env, refs, name)
        elif isinstance(target, Factory):
            assert isinstance(target.target, Entry)
            op, types = self.caller.call(target.target, layer, target.arguments, env, refs, name)
        else:
            op, types = self.caller.call(target, layer, {}, env, refs, name)
        key = name if _makes_module(op) else None
        if key is None and layer.name is None:
            self.function_in_list(layer, op)
            raise Poisoned
        node = Node(written, name, key, env, op, types, loops)
        self.expect(layer, node, env)
        return [node], self.register(node, frame)

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

    def leave_out(
        self,
        layer: Layer,
        written: Layer,
        frame: Frame,
        env: Mapping[str, Any],
        incoming: Ref | None,
        loops: tuple[tuple[Layer, int], ...],
    ) -> tuple[list[Node], Ref | None]:
        """A layer whose condition does not hold: its first input passes; a named module leaves an `nn.Identity`."""
        if layer.compute is not None:
            passed = self.caller.first_tensor(layer, frame, env)
        else:
            refs = self.references(layer, frame, env, incoming)
            passed = next(iter(refs.values())) if isinstance(refs, dict) else refs[0]
        if layer.name is None:
            return [], passed
        name = self.node_name(layer, frame, env)
        key = name if self.would_make_module(layer) else None
        node = Node(written, name, key, env, Skip({"input": passed}), {"": passed.type}, loops)
        return [node], self.register(node, frame)

    def would_make_module(self, layer: Layer) -> bool:
        """Whether a layer that is left out would have been a module."""
        if layer.body is not None:
            return any(self.would_make_module(inner) for inner in layer.body.layers)
        if layer.type is None or layer.use is not None:
            return False
        if not layer.type.literal:
            return True
        assert isinstance(layer.type.expr, Literal)
        name = str(layer.type.expr.value)
        entry = catalog.lookup(name)
        return name in self.spec.blocks or (entry is not None and entry.category != "function")

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
        outer = refs[0] if refs else None
        instance = Instance(block=known[1], group=True, scope=dict(env), inputs={})
        default = Ref(None, "x", outer.type) if outer is not None else None
        inner = Frame(instance, frame, default)
        if outer is not None:
            inner.captured["x"] = outer
            instance.inputs["x"] = outer.type
        nodes, last = self.body(layer.body, inner, env, default, ())
        instance.nodes, instance.order = nodes, inner.order
        if last is None:
            frame.instance.failed = True
            raise Poisoned
        instance.outputs = {"": last}
        reads_default = last.node is None or any(
            ref.node is None and ref.name == "x" for node in nodes for ref in node.inputs
        )
        if outer is not None and not reads_default:
            del inner.captured["x"], instance.inputs["x"]
        self.warn_unused(instance)
        return Apply(instance, {}, dict(inner.captured)), {"": last.type}

    def expect(self, layer: Layer, node: Node, env: Mapping[str, Any]) -> None:
        if layer.expect is None or not isinstance(node.type, TensorType):
            return
        wrong = unlike(layer.expect, node.type, dict(env), lambda dim: self.dim(dim, env))
        if wrong is not None:
            self.diagnostics.error(
                "NS411",
                f"`{node.name}` gives {node.type}, and {pattern_text(layer.expect)} was expected",
                wrong.span,
                labels=[Label(layer.span, f"gives {node.type}")],
                help="correct the size, or the layers that lead here",
            )

    # References

    def references(
        self, layer: Layer, frame: Frame, env: Mapping[str, Any], incoming: Ref | None
    ) -> tuple[Ref, ...] | dict[str, Ref]:
        """What `from` names, or the default input."""
        if isinstance(layer.inputs, dict):
            return {port: self.resolve(value, frame, env, incoming) for port, value in layer.inputs.items()}
        if layer.inputs is not None:
            return tuple(self.resolve(value, frame, env, incoming) for value in layer.inputs)
        if incoming is None:
            if frame.default is None and not frame.order and not frame.instance.failed:
                if self.needs_no_input(layer):
                    return ()
                self.diagnostics.error(
                    "NS308",
                    "the first layer has nothing to read: the model states no `inputs`",
                    layer.span,
                    help="add `inputs: {x: [N, 3, 224, 224]}`, or a `from`",
                )
            raise Poisoned
        return (incoming,)

    def needs_no_input(self, layer: Layer) -> bool:
        return layer.body is not None

    def resolve(self, value: Value, frame: Frame, env: Mapping[str, Any], incoming: Ref | None = None) -> Ref:
        text = self.evaluate(value, env)
        if text is FAILED:
            raise Poisoned
        return self.resolve_name(str(text), frame, value.span, incoming)

    def resolve_name(self, text: str, frame: Frame, span: Span, incoming: Ref | None = None) -> Ref:
        """The tensor of that name: a layer, an input, a port (`lstm.h_n`, `parts.0`), or `previous`."""
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
        if near is not None:
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
            self.diagnostics.error(
                "NS310",
                f"`{text}` reads a layer inside `{text.partition('.')[0]}`, which this version cannot do",
                span,
                help="name that layer beside the others instead of inside the group, and read it by its name",
            )
            raise Poisoned
        ports = list(node.types) if node is not None else []
        known = (
            f"it has {', '.join(f'`{p}`' for p in ports)}"
            if len(ports) > 1
            else f"it has one output only: write `{text.partition('.')[0]}`"
        )
        self.diagnostics.error("NS302", f"`{text.partition('.')[0]}` has no output `{port}`", span, help=known)
        raise Poisoned

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


UNNAMED = Input(name="x", span=Span("", 0, 0, 0, 0))
"""What a block without `inputs` takes."""


def _traced(result: Any, value: Value) -> Any:
    """What an expression gave, an integer with the expression as its origin."""
    if value.names and type(result) in (int, Traced):
        return Traced(int.__index__(result), value.expr, value.names)
    return result


def _hashable(value: Any) -> Any:
    if isinstance(value, Factory):
        arguments = tuple((name, _hashable(argument.value)) for name, argument in value.arguments.items())
        return ("factory", id(value.target), arguments)
    if isinstance(value, list):
        return tuple(_hashable(item) for item in value)
    plain = untraced(value)
    return (type(plain).__name__, plain)


def _gives(origin: Any, scope: Mapping[str, Any], size: int) -> bool:
    try:
        return bool(evaluate(origin, scope) == size)
    except ExpressionError:
        return False


Copies = list[tuple[dict[str, Any], Ref | None]]


def _sizes(axis: int, copies: Copies) -> list[tuple[dict[str, Any], int]] | None:
    """The scope and the size of every copy's output, or None where it is not a number in all of them."""
    sizes = []
    for scope, ref in copies:
        if ref is None or not isinstance(ref.type, TensorType) or len(ref.type.shape) <= axis:
            return None
        size = ref.type.shape[axis]
        if not isinstance(size, int):
            return None
        sizes.append((scope, size))
    return sizes


def _common_origin(axis: int, copies: Copies) -> Origin:
    """The expression that gives this size after every copy, or the names that it depends on."""
    sizes = _sizes(axis, copies)
    if sizes is None:
        return Opaque(frozenset())
    candidates = dict.fromkeys(origin_of(size) for _, size in sizes)
    for candidate in candidates:
        if not isinstance(candidate, Opaque) and all(_gives(candidate, scope, size) for scope, size in sizes):
            return candidate
    return Opaque(frozenset().union(*(names_of(c) for c in candidates)))


def _update(name: str, axis: int, copies: Copies) -> Origin | None:
    """What a copy makes of the size that the loop carries under this name; None where it leaves it alone."""
    origin = _common_origin(axis, copies)
    return None if origin == Name(name) else origin


def _after_loop(name: str, axis: int, record: Loop, last: Mapping[str, Origin], copies: Copies) -> Any:
    """A size that the loop gives, in terms of the scope around it."""
    sizes = _sizes(axis, copies)
    if sizes is None:
        return untraced(copies[-1][1].type.shape[axis])  # type: ignore[union-attr]
    inner = frozenset().union(*(size.names for _, size in sizes if isinstance(size, Traced)))
    names: dict[str, Origin | Traced] = dict(last)
    for carried, carry in record.carried.items():
        if carried in inner:
            names[carried] = Opaque(names_of(carry.size) if isinstance(carry.size, Traced) else frozenset())
    outer = frozenset().union(*(names_of(names[n]) if n in names else (n,) for n in inner))
    value = untraced(sizes[-1][1])

    def origin() -> Origin:
        update = _common_origin(axis, copies)
        if update == Name(name):
            return record.carried[name].before
        return rename(update, names)

    return Traced(value, origin, outer) if outer else value


def _mentions(inputs: Any, names: set[str]) -> bool:
    """Whether a `from` speaks of a loop's names or of `previous`, and so is evaluated for each copy."""
    if inputs is None:
        return False
    values = inputs.values() if isinstance(inputs, dict) else inputs
    return any(
        free_names(value.expr) & names or (isinstance(value.expr, Literal) and value.expr.value == "previous")
        for value in values
    )


def _literal_names(layer: Layer) -> list[str]:
    names = []
    if isinstance(layer.name, Literal):
        names.append(str(layer.name.value))
    if layer.inline and layer.body is not None:
        for inner in layer.body.layers:
            names += _literal_names(inner)
    return names


def names_in(body: Body) -> set[str]:
    """The names of a body's own layers, those without `$`."""
    return {name for layer in body.layers for name in _literal_names(layer)}


def _makes_module(op: Any) -> bool:
    if isinstance(op, Call):
        return op.entry.category != "function"
    if isinstance(op, Apply):
        return not op.instance.group or op.instance.has_modules or op.instance.block.body.kind == "list"
    return False


def _op_name(op: Any) -> str:
    if isinstance(op, Call):
        return op.entry.name
    return "compute" if isinstance(op, Arithmetic) else "use" if isinstance(op, Reuse) else "this"
