"""`select`: modules of which a text among the inputs names the one that runs, and where such texts lead."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from netspec.catalog.entry import TypeLike
from netspec.diagnostics import Label, Span
from netspec.frame import Poisoned
from netspec.members import seen_from_outside
from netspec.program import Apply, Call, Instance, Node, Ref, Reuse
from netspec.shapes import ListType, TensorType
from netspec.spec import Layer


def is_text(type_: TypeLike) -> bool:
    """Whether a value is a text, or a list with one in it."""
    members = type_.members if isinstance(type_, ListType) else (type_,)
    return any(isinstance(member, TensorType) and member.is_text for member in members)


def refuse_text(refs: Iterable[Ref], what: str, span: Span, diagnostics: Any) -> None:
    """Report a text where `what` takes tensors. Raises Poisoned after a report."""
    for ref in refs:
        if is_text(ref.type):
            diagnostics.error(
                "NS331",
                f"{what} takes tensors, and `{ref.node.name if ref.node else ref.name}` is a text",
                span,
                help="a text chooses among modules: name it under `select`, or hand it to a block; "
                "name the tensor in `from`",
            )
            raise Poisoned


def chosen_output(instance: Instance, layer: Layer, diagnostics: Any) -> dict[str, TypeLike]:
    """What the modules of a `select` give, whichever runs; they have to be called alike and to agree in what they give.

    Raises Poisoned after a report.
    """
    nodes = instance.nodes
    if not nodes:
        diagnostics.error("NS109", f"`{instance.block.name}` has nothing to choose from", layer.span, help="name one")
        raise Poisoned
    for node in nodes:
        problem = _unfit(node, instance)
        if problem is not None:
            diagnostics.error(
                "NS332",
                f"`{node.name}` of `{instance.block.name}` {problem}",
                node.layer.span,
                labels=[Label(layer.span, "one of these is chosen at run time, and all are called alike")],
                help="let each be a module that takes the one tensor that `select` reads and gives one: "
                "a layer, a list of layers, or a block",
            )
            raise Poisoned
    first = nodes[0]
    for other in nodes[1:]:
        if other.type != first.type:
            diagnostics.error(
                "NS332",
                f"`{instance.block.name}` gives {_shown(first.type)} as `{first.name}` and {_shown(other.type)} "
                f"as `{other.name}`",
                other.layer.span,
                labels=[Label(first.layer.span, f"gives {_shown(first.type)}")],
                help="what follows reads either: let all give the same shape and dtype",
            )
            raise Poisoned
    instance.outputs = {"": Ref(first, "", first.type)}
    return {"": seen_from_outside(first.type, instance)}


def _shown(type_: TypeLike) -> str:
    return f"{type_} {type_.dtype}" if isinstance(type_, TensorType) else str(type_)


def _unfit(node: Node, instance: Instance) -> str | None:
    """Why a module cannot be called as `self.act[mode](x)`, in words."""
    op = node.op
    if node.key is None:
        return "is no module"
    if node.layer.when:
        return "runs in one mode only"
    if isinstance(op, Apply) and (op.instance.container or node.chosen_by is not None):
        return "is a list of modules, of which none is called by itself"
    if isinstance(op, Call) and (op.returned or op.passes_arguments):
        return "gives several tensors" if op.returned else "takes more than tensors when it runs"
    refs = list(node.inputs)
    if node.each is not None or len(refs) != 1 or refs[0].node is not None or refs[0].name != "x":
        return "does not read the one tensor that `select` reads"
    if isinstance(node.type, ListType) or len(node.types) > 1:
        return "gives several tensors"
    return None if set(instance.inputs) <= {"x"} else "reads what stands around it"


def choices(model: Instance) -> dict[str, list[str]]:
    """The texts that each text input of a model may be: names that every `select` has which reads it."""
    found: dict[str, list[str]] = {}
    seen: set[tuple[int, tuple[tuple[str, str], ...]]] = set()

    def visit(instance: Instance, names: Mapping[str, str]) -> None:
        key = (id(instance), tuple(names.items()))
        if key in seen:
            return
        seen.add(key)
        for node in instance.nodes:
            op = node.op.target.op if isinstance(node.op, Reuse) else node.op
            if not isinstance(op, Apply):
                continue
            if node.chosen_by is not None and node.chosen_by.name in names:
                texts, name = list(op.instance.by_name), names[node.chosen_by.name]
                found[name] = [text for text in found.get(name, texts) if text in texts]
            inner = {
                port: names[ref.name]
                for port, ref in node.op.inputs.items()
                if isinstance(ref, Ref) and ref.node is None and ref.name in names
            }
            visit(op.instance, inner)

    visit(model, {name: name for name, type_ in model.inputs.items() if is_text(type_)})
    return found
