"""A library's model used whole: its weights, the children that a spec replaces, and what it gives then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from netspec.block_calls import BlockCaller
from netspec.call_parts import untraced_type
from netspec.catalog.entry import Entry, TypeLike
from netspec.catalog.models import FILES, ModelEntry
from netspec.diagnostics import Span
from netspec.expressions import Literal
from netspec.frame import Frame, Poisoned
from netspec.origins import untraced
from netspec.probing import Told, tell
from netspec.program import Argument, Call, Factory, Instance, Node, Ref, Whole
from netspec.shapes import Problem
from netspec.spec import Block, Body, Layer
from netspec.suggest import suggest

Ports = Mapping[str, Ref | tuple[Ref, ...]]


class ModelCaller(BlockCaller):
    """Makes the calls of library models. Methods raise Poisoned after a report."""

    def model(
        self,
        entry: ModelEntry,
        layer: Layer,
        stated: dict[str, Argument],
        ports: Ports,
        env: Mapping[str, Any],
        name: str,
    ) -> tuple[Call, dict[str, TypeLike]]:
        """The call of a model, with the layers that replace its children worked out in it."""
        self.check_model(entry, layer, stated)
        by_name = is_named(_value(stated, "weights"))
        if entry.heads and not by_name:
            stated = {**stated, **{key: Argument(entry_default(entry, key), Literal(entry_default(entry, key)))
                                   for key in ("aux_logits", "init_weights") if key not in stated}}  # fmt: skip
        call = Call(entry, stated, dict(ports))
        whole = call.whole = Whole()
        paths = self.child_paths(call, layer)
        for path, given in layer.replace.items():
            span = given.span
            if path not in paths:
                near = suggest(path, paths) or suggest(path, [p for p in paths if "." not in p])
                children = ", ".join(f"`{one}`" for one in paths if "." not in one)
                self.refuse_replace(
                    f"`{entry.name}` has no child `{path}`",
                    span,
                    f"did you mean `{near}`?" if near else f"it has {children}",
                )
            told = self.told(call, layer, ports, name, (path,))
            if path not in told.given:
                self.refuse_replace(
                    f"`{path}` of `{entry.name}` is not run, so nothing tells what its replacement would get",
                    span,
                    None,
                )
            whole.replaced[path] = self.replacement(path, given, span, told.given[path], env)
        told = self.told(call, layer, ports, name)
        self.describe(call, told)
        return call, {"output": told.outputs[0]}

    def model_again(self, call: Call, layer: Layer, ports: Ports, name: str) -> dict[str, TypeLike]:
        """What the model of an earlier layer gives for other inputs."""
        return {"output": self.told(call, layer, ports, name).outputs[0]}

    def check_model(self, entry: ModelEntry, layer: Layer, stated: Mapping[str, Argument]) -> None:
        """Settings that do not go together."""
        weights = _value(stated, "weights")
        if is_named(weights):
            assert isinstance(weights, str)
            bare = weights.rpartition(".")[2]
            if bare not in (*entry.weights, "default", "DEFAULT"):
                listed = ", ".join(f"`{one}`" for one in entry.weights)
                self.wrong(
                    layer,
                    "weights",
                    f"`{entry.name}` has no weights `{weights}`",
                    f"it has {listed} and `default`; a file ends in {', '.join(FILES)}",
                )
            classes = _value(stated, "num_classes")
            if classes not in (None, 1000):
                self.wrong(
                    layer,
                    "num_classes",
                    f"`num_classes` {classes} and the weights {weights}, which score 1000 classes, exclude each other",
                    f"replace the head, as in `replace: {{fc: {{type: Linear, out_features: {classes}}}}}`",
                )
            if entry.keeps_heads and not layer.freeze:
                self.wrong(
                    layer,
                    "weights",
                    f"`{entry.name}` keeps an auxiliary head with its weights, and gives a tuple in training",
                    "`freeze: true` keeps it in evaluation, where it gives one tensor; or take another model",
                )
        elif weights is not None and not str(weights).endswith(FILES):
            raise AssertionError(f"{weights!r} is a file or a name")
        if _value(stated, "aux_logits") is True:
            self.wrong(
                layer,
                "aux_logits",
                f"`{entry.name}` with auxiliary heads gives a tuple in training and a tensor after it",
                "leave `aux_logits` out",
            )

    def wrong(self, layer: Layer, argument: str, message: str, help: str) -> None:
        value = layer.arguments.get(argument)
        self.diagnostics.error("NS404", message, value.span if value is not None else layer.span, help=help)
        raise Poisoned

    def refuse_replace(self, message: str, span: Span, help: str | None) -> None:
        self.diagnostics.error("NS326", message, span, help=help)
        raise Poisoned

    def check_replace(self, layer: Layer, target: Any) -> None:
        """Refuse `replace` on what is no library's model, as an expression may turn out."""
        entry = target.target if isinstance(target, Factory) else target
        if layer.replace and not isinstance(entry, ModelEntry):
            self.refuse_replace(
                "`replace` stands on a library's model used whole, and this is none",
                next(iter(layer.replace.values())).span,
                "a block's layers are named in the block itself",
            )

    def child_paths(self, call: Call, layer: Layer) -> list[str]:
        """The paths of all children, those of the first level first."""
        from netspec.runtime import probe

        found = probe.parts(call.entry.target, _settings(call)).modules if layer.replace else []
        return sorted((path for path, _ in found if path), key=lambda path: path.count("."))

    def told(self, call: Call, layer: Layer, ports: Ports, name: str, watched: tuple[str, ...] = ()) -> Told:
        """What the model gives with its children replaced so far."""
        from netspec.runtime import library

        given = {p: untraced_type(ref.type) for p, ref in ports.items() if isinstance(ref, Ref)}
        with library.Probe(call, _settings(call)) as probe:
            told = tell(call.entry.name, given, lambda types: probe.run(types, watched))
        if not isinstance(told, Problem):
            return told
        self.diagnostics.error(
            told.code,
            f"`{self.name_of(layer, name)}`: {told.message}",
            layer.span,
            labels=self.input_labels(ports, told),
            help=told.help,
        )
        raise Poisoned

    def describe(self, call: Call, told: Told) -> None:
        """Note what the layer table and the check of `initialize` ask for."""
        from netspec.runtime import library

        assert call.whole is not None
        with library.Probe(call, _settings(call)) as probe:
            parts = probe.parts()
        call.whole.parameters, call.whole.modules = parts.parameters, parts.modules
        call.whole.flops = told.flops

    def replacement(self, path: str, layer: Layer, span: Span, type_: TypeLike, env: Mapping[str, Any]) -> Node:
        """The layer that takes a child's place, given what that child gets."""
        steered = [
            key
            for key, said in (
                ("from", layer.inputs),
                ("use", layer.use),
                ("compute", layer.compute),
                ("if", layer.condition),
                ("for", layer.loop),
                ("when", layer.when),
                ("freeze", layer.freeze),
                ("inline", layer.inline),
            )
            if said
        ]
        if steered:
            self.refuse_replace(
                f"`{steered[0]}` cannot stand on a layer that replaces a child of a library's model",
                span,
                "give its `type` with arguments, or a list of layers",
            )
        body = Body(kind="list", layers=(replace(layer, name=None),), span=span)
        block = Block(name=path.rpartition(".")[2], span=span, params={}, inputs=(), let={}, body=body)
        instance = Instance(block=block, group=True, scope=dict(env), inputs={"x": type_})
        default = Ref(None, "x", type_)
        nodes, _ = self.elaborator.body(body, Frame(instance, None, default, names={"x": default}), env, default, ())
        if instance.failed or len(nodes) != 1:
            raise Poisoned
        return nodes[0]


def is_named(weights: Any) -> bool:
    """Whether `weights` is a name and not a file."""
    return isinstance(weights, str) and not weights.endswith(FILES)


def entry_default(entry: Entry, name: str) -> Any:
    argument = entry.argument(name)
    assert argument is not None
    return argument.default


def _value(stated: Mapping[str, Argument], name: str) -> Any:
    return untraced(stated[name].value) if name in stated else None


def _settings(call: Call) -> dict[str, Any]:
    """The builder's arguments without the weights, which change no shape."""
    return {name: untraced(argument.value) for name, argument in call.arguments.items() if name != "weights"}
