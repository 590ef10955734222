"""The layer table: what each layer of a program is, what it gives, what it weighs and what it costs.

`netspec show` prints it, and notebooks show a `Program` as it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from html import escape
from math import prod
from typing import Any

from netspec.catalog.entry import TypeLike
from netspec.program import Apply, Arithmetic, Call, Gather, Instance, Node, Program, Ref, Reuse, Skip
from netspec.shapes import Dim, ListType, Size


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One layer. `parameters` and `flops` are its own and, for a block or a group, those of all that it holds.

    `flops` are for one sample and count 2 for a multiply-add, as torch's counter does: of convolutions, matrix products
    and attention alone. None where a size is not known before the program runs.
    """

    path: str
    type: str
    shape: TypeLike
    parameters: int
    flops: int | None
    frozen: bool = False

    @property
    def depth(self) -> int:
        return self.path.count(".")


def layer_table(program: Program, depth: int | None = None) -> list[Row]:
    """A row for each layer in the order of registration; with `depth`, of so many levels only."""
    rows = _rows(program.model, "", False, frozenset(".".join(tie.path) for tie in program.model.ties))
    return [row for row in rows if depth is None or row.depth < depth]


def parameter_count(program: Program) -> int:
    """How many numbers the model learns."""
    return sum(row.parameters for row in layer_table(program, 1))


def _rows(instance: Instance, prefix: str, frozen: bool, tied: frozenset[str]) -> list[Row]:
    rows: list[Row] = []
    for node in instance.nodes:
        path = prefix + node.name
        below: list[Row] = []
        still = frozen or node.layer.freeze
        if isinstance(node.op, Apply):
            below = _rows(node.op.instance, path + ".", still, tied)
            own = [row for row in below if row.depth == path.count(".") + 1]
            parameters = sum(row.parameters for row in own)
            flops = _flops(node) if node.each is not None else _total(row.flops for row in own)
        else:
            parameters = _parameters(node, path, tied)
            flops = _flops(node)
        rows.append(Row(path=path, type=_type(node), shape=node.type, parameters=parameters, flops=flops, frozen=still))
        rows += below
    return rows


def _type(node: Node) -> str:
    """What kind of layer it is, in the words of the spec."""
    match node.op:
        case Call(entry=entry):
            return entry.name
        case Apply(instance=instance):
            return instance.block.name if not instance.group else "branches" if instance.parallel else "layers"
        case Arithmetic(expr=expr):
            from netspec.expressions import to_text

            return to_text(expr)
        case Reuse(target=target):
            return f"use {target.name}"
        case Gather():
            return "list"
        case Skip():
            return "left out"


def _parameters(node: Node, path: str, tied: frozenset[str]) -> int:
    """How many numbers a layer learns, those apart that are another's."""
    if not isinstance(node.op, Call):
        return 0
    if node.op.whole is not None:
        shapes = node.op.whole.parameters
    elif node.op.entry.parameters is not None:
        shapes = node.op.entry.parameters(_arguments(node.op))
    else:
        return 0
    own = [shape for name, shape in shapes.items() if (f"{path}.{name}" if name else path) not in tied]
    return sum(prod(int(size) for size in shape) for shape in own)


def _flops(node: Node) -> int | None:
    if node.each is not None:
        return _flops_of_each(node, node.each)
    call = node.op.target.op if isinstance(node.op, Reuse) else node.op
    if isinstance(call, Apply):
        return _total(_flops(inner) for inner in call.instance.nodes)
    if isinstance(call, Call) and call.whole is not None:
        return _of_one_sample(call.whole.flops) if call.whole.flops is not None else None
    if not isinstance(call, Call) or call.entry.flops is None or call.entry.rule is None:
        return 0
    from netspec.catalog.entry import Inferred

    arguments = _arguments(call)
    inputs = {name: _types(ref) for name, ref in node.op.inputs.items()}
    answer = call.entry.rule(arguments, inputs)
    assert isinstance(answer, Inferred), f"{node.name} was shaped once already"
    return _of_one_sample(call.entry.flops(arguments, inputs, answer))


def _flops_of_each(node: Node, listed: Ref) -> int | None:
    """Of all tensors of a list together."""
    assert isinstance(listed.type, ListType)
    if listed.type.element is not None:
        return None if _flops(replace(node, each=None)) != 0 else 0
    if isinstance(node.op, Apply):
        used = (node.op.instance, *node.op.others)
        return _total(_flops(inner) for instance in used for inner in instance.nodes)
    total: list[int | None] = []
    for item in listed.type.items:
        inputs = {port: replace(ref, type=item) for port, ref in node.op.inputs.items() if isinstance(ref, Ref)}
        total.append(_flops(replace(node, each=None, op=replace(node.op, inputs=inputs))))  # type: ignore[arg-type]
    return _total(iter(total))


def _arguments(call: Call) -> dict[str, Any]:
    """All arguments by name, defaults filled in."""
    defaults = {a.name: a.default for a in call.entry.arguments if not a.required and not a.inferred}
    return defaults | {name: argument.value for name, argument in call.arguments.items()}


def _types(ref: Ref | tuple[Ref, ...]) -> TypeLike | tuple[TypeLike, ...]:
    return tuple(one.type for one in ref) if isinstance(ref, tuple) else ref.type


def _of_one_sample(flops: Size) -> int | None:
    if isinstance(flops, Dim):
        flops = flops.substitute({"N": 1})
    return None if isinstance(flops, Dim) else int(flops)


def _total(parts: Iterator[int | None]) -> int | None:
    known = list(parts)
    return None if None in known else sum(part for part in known if part is not None)


def short(count: int) -> str:
    """A large count for people: 8.2 G, 25.6 M, 640."""
    for unit, size in (("T", 10**12), ("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)


def totals(program: Program) -> Mapping[str, int | None]:
    """Of the whole model: `parameters`, those that are `trainable`, and `flops` for one sample."""
    rows = layer_table(program)
    whole = [row for row in rows if row.depth == 0]
    inner = {row.path.rpartition(".")[0] for row in rows}
    leaves = [row for row in rows if row.path not in inner]
    return {
        "parameters": sum(row.parameters for row in whole),
        "trainable": sum(row.parameters for row in leaves if not row.frozen),
        "flops": _total(row.flops for row in whole),
    }


def layer_table_html(program: Program) -> str:
    """The table for a notebook."""
    head = "".join(f"<th>{title}</th>" for title in ("layer", "type", "output", "parameters", "FLOPs"))
    body = "".join(
        f"<tr><td style='text-align:left;padding-left:{row.depth + 0.5}em'>{escape(row.path.rpartition('.')[2])}</td>"
        f"<td style='text-align:left'>{escape(row.type)}</td><td style='text-align:left'>{escape(str(row.shape))}</td>"
        f"<td>{row.parameters or ''}</td><td>{short(row.flops) if row.flops else ''}</td></tr>"
        for row in layer_table(program)
    )
    total = totals(program)["parameters"]
    return f"<table><caption>{escape(program.name)}: {total:,} parameters</caption><tr>{head}</tr>{body}</table>"
