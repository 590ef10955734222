"""The layer table: what each layer of a program is, what it gives, what it weighs and what it costs.

`netspec show` prints it, and notebooks show a `Program` as it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from html import escape
from math import prod
from typing import Any

from netspec.call_parts import arguments_of
from netspec.catalog.entry import GivenModule, TypeLike
from netspec.program import Apply, Arithmetic, Call, Gather, Instance, Node, Program, Ref, Reuse, Skip
from netspec.shapes import Dim, ListType, Size, TensorType

Sizes = Mapping[str, Size]


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
    when: str = ""
    """The only mode in which it runs, where there is one. What runs in training alone is in no sum of `flops`."""

    @property
    def depth(self) -> int:
        return self.path.count(".")


def layer_table(program: Program, depth: int | None = None, sizes: Mapping[str, int] | None = None) -> list[Row]:
    """A row for each layer in the order of registration; with `depth`, of so many levels only.

    `sizes` gives values to symbols of shapes (`{"T": 128}`), for the FLOPs.
    """
    known: Sizes = {**(sizes or {}), batch_symbol(program): 1}
    rows = _rows(program.model, "", False, frozenset(".".join(tie.path) for tie in program.model.ties), known)
    return [row for row in rows if depth is None or row.depth < depth]


def parameter_count(program: Program) -> int:
    """How many numbers the model learns."""
    return sum(row.parameters for row in layer_table(program, 1))


def _rows(instance: Instance, prefix: str, frozen: bool, tied: frozenset[str], sizes: Sizes) -> list[Row]:
    rows: list[Row] = []
    for node in instance.nodes:
        path = prefix + node.name
        below: list[Row] = []
        still = frozen or node.layer.freeze
        if isinstance(node.op, Apply):
            below = _rows(node.op.instance, path + ".", still, tied, sizes)
            own = [row for row in below if row.depth == path.count(".") + 1]
            parameters = sum(row.parameters for row in own)
            once = _total(row.flops for row in own if row.when != "training")
            flops = _flops(node, sizes) if node.each is not None else once
        else:
            parameters = _parameters(node, path, tied)
            flops = _flops(node, sizes)
        rows.append(
            Row(
                path=path,
                type=_type(node),
                shape=node.type,
                parameters=parameters,
                flops=flops,
                frozen=still,
                when=node.layer.when,
            )
        )
        rows += below
    return rows


def _type(node: Node) -> str:
    """What kind of layer it is, in the words of the spec."""
    match node.op:
        case Call(entry=entry):
            return entry.name
        case Apply(instance=instance):
            return (
                instance.block.name
                if not instance.group
                else "select"
                if instance.block.body.chosen_by is not None
                else "branches"
                if instance.parallel
                else "layers"
            )
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
        shapes = node.op.entry.parameters(arguments_of(node.op))
    else:
        return 0
    own = [shape for name, shape in shapes.items() if (f"{path}.{name}" if name else path) not in tied]
    return sum(prod(int(size) for size in shape) for shape in own)


def _flops(node: Node, sizes: Sizes) -> int | None:
    if node.each is not None:
        return _flops_of_each(node, node.each, sizes)
    call = node.op.target.op if isinstance(node.op, Reuse) else node.op
    if isinstance(call, Arithmetic):
        return _products(call, node, sizes)
    if isinstance(call, Apply):
        return _total(_flops(inner, sizes) for inner in call.instance.nodes if inner.layer.when != "training")
    if isinstance(call, Call) and call.whole is not None:
        return _known(call.whole.flops, sizes) if call.whole.flops is not None else None
    if not isinstance(call, Call) or call.entry.flops is None or call.entry.rule is None:
        return 0
    from netspec.catalog.entry import Inferred

    arguments = {
        name: replace(value, flops=_flops(value.node, sizes)) if isinstance(value, GivenModule) else value
        for name, value in arguments_of(call).items()
    }
    inputs = {name: _types(ref) for name, ref in node.op.inputs.items()}
    answer = call.entry.rule(arguments, inputs)
    assert isinstance(answer, Inferred), f"{node.name} was shaped once already"
    return _known(call.entry.flops(arguments, inputs, answer), sizes)


def _flops_of_each(node: Node, listed: Ref, sizes: Sizes) -> int | None:
    """Of all tensors of a list together."""
    assert isinstance(listed.type, ListType)
    if listed.type.element is not None:
        return None if _flops(replace(node, each=None), sizes) != 0 else 0
    if isinstance(node.op, Apply):
        used = (node.op.instance, *node.op.others)
        return _total(_flops(inner, sizes) for instance in used for inner in instance.nodes)
    total: list[int | None] = []
    for item in listed.type.items:
        inputs = {port: replace(ref, type=item) for port, ref in node.op.inputs.items() if isinstance(ref, Ref)}
        total.append(_flops(replace(node, each=None, op=replace(node.op, inputs=inputs)), sizes))  # type: ignore[arg-type]
    return _total(iter(total))


def _products(op: Arithmetic, node: Node, sizes: Sizes) -> int | None:
    """The matrix products in tensor arithmetic."""
    from netspec.arithmetic import type_of
    from netspec.catalog import lookup
    from netspec.catalog.entry import Inferred
    from netspec.expressions import Binary, evaluate, tensors, walk

    products = [part for part in walk(op.expr) if isinstance(part, Binary) and part.op == "@"]
    if not products:
        return 0
    types: dict[Any, TensorType] = {}
    for leaf in tensors(op.expr):
        name = leaf.name if isinstance(leaf.name, str) else str(evaluate(leaf.name, node.env))
        given = op.inputs[name].type
        assert isinstance(given, TensorType)
        types[leaf] = given
    entry = lookup("matmul")
    assert entry is not None and entry.flops is not None
    counts = []
    for part in products:
        ports = zip(entry.inputs, (part.left, part.right), strict=True)
        inputs = {port.name: type_of(side, types, node.env) for port, side in ports}
        result = type_of(part, types, node.env)
        assert isinstance(result, TensorType)
        counts.append(_known(entry.flops({}, inputs, Inferred(outputs={"output": result})), sizes))
    return _total(iter(counts))


def _types(ref: Ref | tuple[Ref, ...]) -> TypeLike | tuple[TypeLike, ...]:
    return tuple(one.type for one in ref) if isinstance(ref, tuple) else ref.type


def _known(flops: Size, sizes: Sizes) -> int | None:
    if isinstance(flops, Dim):
        flops = flops.substitute(sizes)
    return None if isinstance(flops, Dim) else int(flops)


def batch_symbol(program: Program) -> str:
    """What the size of a batch is called: the first size of the first input, if that is a name."""
    for type_ in program.model.inputs.values():
        if isinstance(type_, TensorType) and type_.shape and isinstance(type_.shape[0], Dim):
            name = str(type_.shape[0])
            if type_.shape[0] == Dim(name):
                return name
    return "N"


def _total(parts: Iterator[int | None]) -> int | None:
    known = list(parts)
    return None if None in known else sum(part for part in known if part is not None)


def short(count: int) -> str:
    """A large count for people: 8.2 G, 25.6 M, 640."""
    for unit, size in (("T", 10**12), ("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return str(count)


def flops_text(flops: int) -> str:
    """FLOPs for people: 3.64 GFLOPs, 72 FLOPs."""
    return f"{short(flops)}FLOPs" if flops >= 1000 else f"{flops} FLOPs"


def size_text(size: int | None) -> str:
    """Bytes for people: 97.5 MiB."""
    if size is None:
        return "?"
    for unit, scale in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= scale:
            return f"{size / scale:.3g} {unit}" if size < 1000 * scale else f"{size / scale:.0f} {unit}"
    return f"{size} B"


def totals(program: Program, sizes: Mapping[str, int] | None = None) -> Mapping[str, int | None]:
    """Of the whole model: `parameters`, those that are `trainable`, and `flops` for one sample."""
    rows = layer_table(program, sizes=sizes)
    whole = [row for row in rows if row.depth == 0]
    inner = {row.path.rpartition(".")[0] for row in rows}
    leaves = [row for row in rows if row.path not in inner]
    return {
        "parameters": sum(row.parameters for row in whole),
        "trainable": sum(row.parameters for row in leaves if not row.frozen),
        "flops": _total(row.flops for row in whole if row.when != "training"),
    }


def layer_table_html(program: Program) -> str:
    """The table for a notebook."""
    from netspec.costs import layer_memory, memory

    titles = ("layer", "type", "output", "parameters", "FLOPs", "kept")
    head = "".join(f"<th>{title}</th>" for title in titles)
    held = layer_memory(program)
    lines = []
    for row in layer_table(program):
        kept = held[row.path][1]
        flops = short(row.flops) if row.flops else "" if row.flops == 0 else "?"
        lines.append(
            f"<tr><td style='text-align:left;padding-left:{row.depth + 0.5}em'>"
            f"{escape(row.path.rpartition('.')[2])}</td><td style='text-align:left'>{escape(row.type)}</td>"
            f"<td style='text-align:left'>{escape(str(row.shape))}</td><td>{row.parameters or ''}</td>"
            f"<td>{flops}</td><td>{'' if kept == 0 else size_text(kept)}</td></tr>"
        )
    total = totals(program)["parameters"]
    foot = "".join(
        f"<tr><td colspan='6' style='text-align:left'>{escape(line)}</td></tr>" for line in memory(program).lines()
    )
    caption = f"{escape(program.name)}: {total:,} parameters"
    return f"<table><caption>{caption}</caption><tr>{head}</tr>{''.join(lines)}{foot}</table>"
