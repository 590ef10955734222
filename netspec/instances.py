"""An instance of a block: made once for each distinct use, its inputs bound, its outputs named."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from netspec.catalog.entry import TypeLike
from netspec.choices import is_text, refuse_text
from netspec.diagnostics import Diagnostics, Label, Span
from netspec.frame import Frame, Poisoned, TooLarge
from netspec.loops import Loops
from netspec.origins import untraced
from netspec.patterns import bind, declare
from netspec.program import Apply, Factory, Instance, Node, Ref, Reuse, Skip
from netspec.shapes import TEXT, Problem
from netspec.spec import Block, Body, Input, Layer, Spec, Value

UNNAMED = Input(name="x", span=Span("", 0, 0, 0, 0))
"""What a block without `inputs` takes."""


def layers_in(node: Node) -> int:
    """How many layers a node holds."""
    return node.op.instance.total if isinstance(node.op, Apply) else 0


def _hashable(value: Any) -> Any:
    if isinstance(value, Factory):
        arguments = tuple((name, _hashable(argument.value)) for name, argument in value.arguments.items())
        return ("factory", id(value.target), arguments)
    if isinstance(value, list):
        return tuple(_hashable(item) for item in value)
    plain = untraced(value)
    return (type(plain).__name__, plain)


class Instances(Loops):
    """The part of the elaboration that makes instances."""

    @abstractmethod
    def body(
        self,
        body: Body,
        frame: Frame,
        env: Mapping[str, Any],
        incoming: Ref | None,
        loops: tuple[tuple[Layer, int], ...],
    ) -> tuple[list[Node], Ref | None]:
        """The nodes of a list or mapping of layers in the file's order, and what the last of them gives."""

    def __init__(self, spec: Spec, diagnostics: Diagnostics) -> None:
        super().__init__(spec, diagnostics)
        self.memo: dict[Any, Instance] = {}
        self.made = 0
        """Layers so far, those inside blocks counted for every use."""

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
                for dim in (dim for dims in (pattern.shape or (), *(pattern.items or ())) for dim in dims):
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
                if pattern.shape is None and pattern.items is None and pattern.dtype != TEXT:
                    self.diagnostics.error(
                        "NS317",
                        f"the model's input `{pattern.name}` needs a shape",
                        pattern.span,
                        help=f"write `{pattern.name}: {{shape: [N, 128], dtype: {pattern.dtype or 'float32'}}}`",
                    )
                    raise Poisoned
                bound = bind(pattern, given, sizes, lambda dim: self.dim(dim, scope))
                assert not isinstance(bound, Problem)
                instance.inputs[pattern.name] = given
            scope.update({name: size for name, size in sizes.items() if not isinstance(size, int)})
            self.fill(instance)
        except (Poisoned, TooLarge):
            instance.failed = True
        return instance

    def instantiate(
        self,
        block: Block,
        values: dict[str, Any],
        given: dict[str, TypeLike],
        span: Span,
        labels: Callable[[str], list[Label]],
    ) -> Instance:
        """The instance of a block for these arguments and input types; one that was made before is shared.

        `span` is where the block is used, `labels` says where each input comes from.
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

    def bind_inputs(self, instance: Instance, given: dict[str, TypeLike], labels: Callable[[str], list[Label]]) -> None:
        block = instance.block
        for pattern in block.inputs or (UNNAMED,):
            if pattern.name not in given:
                continue
            bound = bind(pattern, given[pattern.name], instance.scope, lambda dim: self.dim(dim, instance.scope))
            if isinstance(bound, Problem):
                use = self.diagnostics.uses[-1][2]
                self.diagnostics.error(
                    bound.code,
                    bound.message,
                    use,
                    labels=[Label(pattern.span, f"`{pattern.name}` of `{block.name}`"), *labels(pattern.name)],
                    help=bound.help or f"give `{block.name}` another tensor, or change its `inputs`",
                )
                raise Poisoned
            instance.inputs[pattern.name] = bound

    def fill(self, instance: Instance, modules: Mapping[str, Node] | None = None) -> None:
        """Elaborate the body of a block whose values and inputs are bound; `modules` exist already, for `use`."""
        block, scope = instance.block, instance.scope
        for name, value in block.let.items():
            scope[name] = self.bind_param(name, self.argument(value, scope).value)
        inputs: dict[str, Ref | None] = {name: Ref(None, name, type_) for name, type_ in instance.inputs.items()}
        default = next((ref for ref in inputs.values() if ref is not None and not is_text(ref.type)), None)
        frame = Frame(instance, None, default, names=dict(inputs), modules=dict(modules or {}))
        nodes, last = self.body(block.body, frame, scope, default, ())
        instance.nodes, instance.order = nodes, frame.order
        instance.total = sum(1 + layers_in(node) for node in nodes)
        self.finish(instance, frame, block, last)

    def finish(self, instance: Instance, frame: Frame, block: Block, last: Ref | None) -> None:
        if block.outputs is None:
            if last is None:
                raise Poisoned
            instance.outputs = {"": last}
        else:
            instance.outputs = self.all_of(block.outputs, lambda value: self.resolve_any(value, frame, instance.scope))
        for name, ref in instance.outputs.items():
            span = block.outputs[name].span if block.outputs is not None else block.span
            refuse_text([ref], "an output", span, self.diagnostics)
        self.warn_unused(instance)

    def warn_unused(self, instance: Instance) -> None:
        read = {id(ref.node) for node in instance.order for ref in node.inputs}
        read |= {id(ref.node) for node in instance.order if node.other is not None for ref in node.other.inputs}
        read.update(id(ref.node) for ref in instance.outputs.values())
        if instance.block.body.chosen_by is not None:
            return  # one of them is
        # Of a branch that leads nowhere only the end is told.
        unread = [node for node in instance.nodes if id(node) not in read and not isinstance(node.op, Skip)]
        shared = _shared(instance) if unread else set()
        for node in unread:
            if id(node) not in shared:
                left = _left_out(node, instance)
                self.diagnostics.warning(
                    "NS304",
                    f"nothing uses the output of `{node.name}`",
                    node.layer.span,
                    labels=[Label(left.layer.span, "its `if` does not hold: only the first tensor passes")]
                    if left is not None
                    else [],
                    help=f"write `{node.name}` first in that `compute`, so that it passes where the rest is left out"
                    if left is not None
                    else "name it in `outputs` or in another layer's `from`, or take it out",
                )
        self.warn_unused_branches(instance)
        if instance.block is self.spec.model:
            refs = [*instance.outputs.values(), *(ref for node in instance.order for ref in node.inputs)]
            named = {ref.name.partition(".")[0] for ref in refs if ref.node is None}
            for pattern in instance.block.inputs:
                if pattern.name not in named:
                    self.diagnostics.warning(
                        "NS304",
                        f"nothing reads the input `{pattern.name}`",
                        pattern.span,
                        help="name it in a layer's `from`, or take it out",
                    )

    def warn_unused_branches(self, instance: Instance) -> None:
        """Branches that nobody reads, where others of the same list or mapping are read one by one."""
        branches = [node for node in instance.nodes if isinstance(node.op, Apply) and node.op.instance.parallel]
        if not branches:
            return
        read: dict[int, set[str]] = {}
        for ref in (*instance.outputs.values(), *(ref for node in instance.order for ref in node.inputs)):
            if ref.node is not None:
                read.setdefault(id(ref.node), set()).add(ref.name or next(iter(ref.node.types)))
        for node in branches:
            assert isinstance(node.op, Apply)
            mine = read.get(id(node), {""})
            for name, branch in node.op.instance.by_name.items():
                if "" not in mine and name not in mine and not branch.is_weight:
                    self.diagnostics.warning(
                        "NS304",
                        f"nothing uses the output of `{node.name}.{name}`",
                        branch.layer.span,
                        help=f"read it, or all of them as `{node.name}.*`, or take it out",
                    )


def _left_out(node: Node, instance: Instance) -> Node | None:
    """The arithmetic that would read a node, and is left out."""
    left = (one for one in instance.nodes if isinstance(one.op, Skip) and one.layer.compute is not None)
    return next((one for one in left if one.layer.compute and _reads(one.layer.compute, node.name)), None)


def _reads(compute: Value, name: str) -> bool:
    return any(tensor.name == name for tensor in compute.tensors)


def _shared(instance: Instance) -> set[int]:
    """The nodes whose modules are applied again on the way to an output."""
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
    return shared
