"""Which tensor a name means: a layer, an input, a port, or something of the body around a group."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, NoReturn, TypeVar

from netspec.choices import refuse_text
from netspec.diagnostics import Span
from netspec.document import Scalar
from netspec.expressions import ExpressionError, ListExpr, evaluate, report
from netspec.frame import Frame, Poisoned
from netspec.members import all_of, gather, is_list, part_of, seen_from_outside
from netspec.program import Apply, Argument, Node, Ref
from netspec.shapes import TEXT, UNKNOWN, ListType, TensorType
from netspec.spec import Layer, Value, names_in
from netspec.suggest import suggest
from netspec.values import FAILED, Values

K = TypeVar("K")
V = TypeVar("V")
R = TypeVar("R")


def as_index(port: str) -> int | None:
    """The position that a part of a reference names, as in `downs.2` and `downs.-1`."""
    return int(port) if port.removeprefix("-").isdecimal() and len(port) < 7 else None


class References(Values):
    """The part of the elaboration that resolves references."""

    def references(
        self, layer: Layer, frame: Frame, env: Mapping[str, Any], incoming: Ref | None
    ) -> tuple[Ref, ...] | dict[str, Ref]:
        """What `from` names, or the default input."""
        if layer.inputs is not None:
            named = isinstance(layer.inputs, dict)
            values: dict[Any, Value] = layer.inputs if isinstance(layer.inputs, dict) else dict(enumerate(layer.inputs))
            refs = self.all_of(values, lambda value: self.resolve_any(value, frame, env, incoming))
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

    def resolve_any(self, value: Value, frame: Frame, env: Mapping[str, Any], incoming: Ref | None = None) -> Ref:
        """The tensor that a reference names, or the list of those that a list of references names."""
        if not isinstance(value.expr, ListExpr):
            return self.resolve(value, frame, env, incoming)
        texts = self.evaluate(value, env)
        if texts is FAILED:
            raise Poisoned
        named = {str(i): str(text) for i, text in enumerate(texts)}
        refs = self.all_of(named, lambda text: self.resolve_name(text, frame, value.span, incoming))
        return gather(f"[{', '.join(named.values())}]", refs, value.span, frame, self.diagnostics)

    def measured(self, value: Value, env: Mapping[str, Any]) -> dict[str, Ref]:
        """The tensors whose sizes a value reads, as in `shape(x)[2:]`, by their references."""
        assert self.frame is not None
        frame = self.frame
        try:
            texts = [t.name if isinstance(t.name, str) else str(evaluate(t.name, env)) for t in value.tensors]
        except ExpressionError as error:
            report(error, value.scalar or Scalar(value=None, span=value.span), self.diagnostics)
            raise Poisoned from None
        refs = self.all_of({t: t for t in texts}, lambda text: self.resolve_name(text, frame, value.span))
        for text, ref in refs.items():
            refuse_text([ref], "`shape`", value.span, self.diagnostics)
            if ref.type == UNKNOWN:
                self.diagnostics.error(
                    "NS565",
                    f"the shape of `{text}` is not known before the data are read",
                    value.span,
                    help="let an input of the model bear its name",
                )
                raise Poisoned
            if isinstance(ref.type, ListType):
                self.diagnostics.error(
                    "NS405",
                    f"`shape` takes a tensor, and `{text}` is a {ref.type}",
                    value.span,
                    help=f"name one of them, as in `shape({text}.0)`",
                )
                raise Poisoned
        return refs

    def measuring(self, value: Value, env: Mapping[str, Any]) -> Argument:
        """A layer's argument that reads the sizes of tensors."""
        refs = self.measured(value, env)
        sizes = {text: list(ref.type.shape) for text, ref in refs.items() if isinstance(ref.type, TensorType)}
        try:
            result = evaluate(value.expr, env, functions={"shape": sizes.__getitem__})
        except ExpressionError as error:
            report(error, value.scalar or Scalar(value=None, span=value.span), self.diagnostics)
            raise Poisoned from None
        return Argument(result, value.expr, measured=True)

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

    def chooser(self, value: Value, frame: Frame, env: Mapping[str, Any]) -> Ref:
        """The text that `select` names: an input."""
        ref = self.resolve(value, frame, env)
        if not isinstance(ref.type, TensorType) or not ref.type.is_text:
            text = self.evaluate(value, env)
            self.diagnostics.error(
                "NS331",
                f"`select` names the input that says which module runs, and `{text}` is a tensor: {ref.type}",
                value.span,
                help=f"declare a text among the inputs, as in `inputs: {{mode: {{dtype: {TEXT}}}}}`, and name that",
            )
            raise Poisoned
        return ref

    def find(self, text: str, frame: Frame, span: Span) -> Ref | None:
        ref = frame.names.get(text)
        if ref is not None:
            return ref
        base, dot, rest = text.partition(".")
        if dot and base in frame.names:
            owner = frame.names[base]
            if owner is None:
                raise Poisoned
            return self.port(owner, rest, text, span, frame)
        if frame.parent is not None and base not in frame.names:
            outer = self.find(text, frame.parent, span)
            if outer is None:
                return None
            default = frame.captured.get("x")
            if default is not None and default.node is outer.node and default.name == outer.name:
                return frame.default
            name = text.replace("*", "all").replace(".", "_").replace("-", "_")
            name = name if name != "x" or "x" not in frame.captured else "x_outer"
            frame.captured[name] = outer
            frame.instance.inputs[name] = outer.type
            return Ref(None, name, outer.type)
        return None

    def port(self, owner: Ref, port: str, text: str, span: Span, frame: Frame) -> Ref:
        node, base = owner.node, text.partition(".")[0]
        if port == "*":
            read = partial(self.port, owner, text=text, span=span, frame=frame)
            ref = frame.names[text] = all_of(owner, text, span, frame, self.diagnostics, read)
            return ref
        if node is not None and port in node.types:
            return Ref(node, port, node.types[port])
        if isinstance(owner.type, ListType):
            index = as_index(port)
            part = part_of(owner, index) if index is not None else None
            if part is None:
                self.no_such_member(base, text, port, len(owner.type.items), span)
            return part
        if node is not None and is_list(node):
            return self.member(node, port, text, span)
        ports = list(node.types) if node is not None else []
        inside = node.op.instance if node is not None and isinstance(node.op, Apply) else None
        if inside is not None and not inside.parallel and port.partition(".")[0] in inside.children:
            self.diagnostics.error(
                "NS310",
                f"`{text}` reads a layer inside `{base}`, which shows only what it gives",
                span,
                help="the members of a list can be read (`downs.2`), those of a mapping or a block cannot: "
                "name the layer beside the others, or among the block's `outputs`",
            )
            raise Poisoned
        if as_index(port) is not None and len(ports) <= 1:
            help = f"`{base}` gives one tensor and no list: write `{base}`"
        else:
            near = suggest(port, ports)
            known = ", ".join(f"`{p}`" for p in ports)
            help = f"did you mean `{base}.{near}`?" if near else f"it has {known}"
            help = help if len(ports) > 1 else f"it has one output only: write `{base}`"
            if port in ("shape", "size"):
                help = f"a size of a tensor is `$(shape({base})[1])`, counted from 0"
            elif port in ("T", "mT"):
                help = f"give it a layer of its own, `{{type: transpose, from: {base}, dim0: -2, dim1: -1}}`"
        self.diagnostics.error("NS302", f"`{base}` has no output `{port}`", span, help=help)
        raise Poisoned

    def no_such_member(self, base: str, text: str, port: str, count: int, span: Span) -> NoReturn:
        self.diagnostics.error(
            "NS302",
            f"`{base}` has {count} member{'' if count == 1 else 's'}, and `{text}` is none of them",
            span,
            help=f"they count from 0: `{base}.{count - 1}` or `{base}.-1` is the last, `{base}.*` are all"
            if count
            else "nothing can be read of an empty list",
        )
        raise Poisoned

    def member(self, node: Node, port: str, text: str, span: Span) -> Ref:
        """What a member of a chain gives: `downs.2` is the third layer of the list `downs`, `downs.-1` its last."""
        assert isinstance(node.op, Apply)
        inside = node.op.instance
        first, _, rest = port.partition(".")
        index, members = as_index(first), list(inside.by_name)
        base = text.partition(".")[0]
        if index is None or not -len(members) <= index < len(members):
            self.no_such_member(base, text, port, len(members), span)
        one = inside.by_name[members[index]]
        if rest:
            self.diagnostics.error(
                "NS310",
                f"`{text}` reads a layer inside `{base}.{first}`, which shows only what it gives",
                span,
                help="only the members themselves can be read: let each be a block that gives what is wanted",
            )
            raise Poisoned
        inside.members.add(one.name)
        return Ref(node, one.name, seen_from_outside(one.type, inside))

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
            names += [name for name in frame.names if not name.isdigit() and "*" not in name]
            frame = frame.parent
        return list(dict.fromkeys(names))
