"""A page of its own that shows a program's layers: blocks open in place, layers are searched, a panel tells of each.

Nothing in it comes from elsewhere, and its policy forbids the browser to load anything. What the spec says goes into
the page as JSON in which no character means anything to HTML, and onto the screen as text.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from itertools import takewhile
from typing import Any, Final

from netspec.catalog.entry import GivenClass, GivenModule, TypeLike
from netspec.graph import LayerGraph
from netspec.program import Apply, Argument, Arithmetic, Call, Factory, Node, Program, Reuse, Skip, walk
from netspec.shapes import ListType
from netspec.table import Row, flops_text, layer_table, short, totals

SCRIPTS: Final = ("layout.js", "page.js")
BY: Final = "\N{MULTIPLICATION SIGN}"


def to_page(program: Program, depth: int = 1) -> str:
    """The page, with so many levels of blocks shown at the start."""
    import jinja2
    from markupsafe import Markup

    loader = jinja2.PackageLoader("netspec", "graph_page")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)

    def text(file: str) -> str:
        return str(loader.get_source(environment, file)[0])

    script = "\n" + "\n".join(text(file) for file in SCRIPTS)
    page: str = environment.get_template("page.html").render(
        title=program.name,
        about=program.description,
        summary=_summary(program),
        style=Markup(text("page.css")),
        script=Markup(script),
        hashes=f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'",
        data=Markup(inert(page_data(program, depth))),
    )
    return page + "\n"


def inert(data: object) -> str:
    """JSON in which no character ends a script or means anything to HTML."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def page_data(program: Program, depth: int = 1) -> dict[str, Any]:
    """What the page draws: `nodes` with the number of the block that each stands in, `edges` between layers."""
    graph = LayerGraph.of(program)
    nodes: list[dict[str, Any]] = []
    number: dict[str, int] = {}

    def add(path: str, **facts: Any) -> None:
        number[path] = len(nodes)
        nodes.append({"path": path, "name": path, **NOTHING, **facts})

    def end(path: str, kind: str, type_: TypeLike, **facts: Any) -> None:
        add(path, kind=kind, type=kind, shape=str(type_), outputs=[("", _typed(type_))], **facts)

    for name, type_ in program.inputs.items():
        end(name, "input", type_, brief=getattr(type_, "dtype", ""))
    rows = {row.path: row for row in layer_table(program)}
    placed = list(walk(program.model))
    for path, node in placed:
        add(path, **_facts(node, path, rows[path]), parent=number.get(path.rpartition(".")[0], -1))
    paths: dict[int, list[str]] = {}
    for path, node in placed:
        paths.setdefault(id(node), []).append(path)
    for path, node in placed:
        if isinstance(node.op, Reuse):
            # Uses of a block that are alike are one object: the one meant stands in the same use.
            lender = max(paths[id(node.op.target)], key=lambda one: _shared(one, path))
            nodes[number[path]]["shares"] = number[lender]
    edges = [
        {"from": number[one], "to": number[other], "shape": data["shape"]}
        for one, other, data in graph.digraph.edges(data=True)
    ]
    for (name, type_), givers in zip(program.outputs.items(), graph.outputs, strict=True):
        end(f"output {name}", "output", type_, name=name if name in program.model.outputs else "")
        edges += [{"from": number[giver], "to": len(nodes) - 1, "shape": str(type_)} for giver in givers]
    return {"depth": depth, "nodes": nodes, "edges": edges}


def _shared(one: str, other: str) -> int:
    """How many levels two paths have in common."""
    levels = zip(one.split("."), other.split("."), strict=False)
    return sum(1 for _ in takewhile(lambda both: both[0] == both[1], levels))


NOTHING: Final[Mapping[str, Any]] = {
    "parent": -1,
    "shares": -1,
    "brief": "",
    "cost": "",
    "parameters": 0,
    "flops": 0,
    "frozen": False,
    "when": "",
    "place": "",
    "doc": "",
    "arguments": (),
}
"""What an input or an output has none of."""


def _facts(node: Node, path: str, row: Row) -> dict[str, Any]:
    op, span = node.op, node.layer.span
    entry = op.entry if isinstance(op, Call) else None
    stated: Mapping[str, Argument] = op.arguments if isinstance(op, Call | Apply) else {}
    return {
        "name": node.name,
        "kind": _kind(node),
        "type": _group(op) if isinstance(op, Apply) and op.instance.group else row.type,
        "brief": _brief(op) if isinstance(op, Call) else _members(op) if isinstance(op, Apply) else "",
        "cost": _cost(row),
        "shape": str(node.type),
        "outputs": [(port if len(node.types) > 1 else "", _typed(type_)) for port, type_ in node.types.items()],
        "parameters": row.parameters,
        "flops": row.flops,
        "frozen": row.frozen,
        "when": node.layer.when,
        "place": f"{span.file}:{span.line}",
        "doc": entry.doc if entry else "",
        "arguments": [(name, _text(one.value), "inferred" if one.inferred else "") for name, one in stated.items()]
        + [(a.name, _text(a.default), "default") for a in (entry.arguments if entry else ()) if _left_out(a, stated)],
    }


def _left_out(argument: Any, stated: Mapping[str, Argument]) -> bool:
    return argument.name not in stated and not argument.required and not argument.inferred


def _kind(node: Node) -> str:
    match node.op:
        case Call(entry=entry):
            if "Attention" in entry.name or "attention" in entry.name or "Transformer" in entry.name:
                return "attention"
            return "weight" if entry.category == "weight" else entry.role or "other"
        case Apply():
            return "block"
        case Arithmetic():
            return "compute"
        case Skip():
            return "dropout"
    return "other"


def _group(op: Apply) -> str:
    if op.instance.has_modules and op.instance.sequential:
        return "Sequential"
    if op.instance.block.body.chosen_by is not None:
        return "select"
    return op.instance.container or ("branches" if op.instance.parallel else "layers")


def _members(op: Apply) -> str:
    """Copies of what block it holds, or how many layers."""
    inner = [node.op.instance for node in op.instance.nodes if isinstance(node.op, Apply)]
    names = {instance.block.name for instance in inner if not instance.group}
    if len(inner) == len(op.instance.nodes) and len(names) == 1 and not any(one.group for one in inner):
        return f"{len(inner)} {BY} {names.pop()}"
    count = sum(not isinstance(node.op, Apply) for _, node in walk(op.instance))
    return f"{count} layers" if count != 1 else "1 layer"


def _brief(call: Call) -> str:
    """What tells a layer of its kind from others, in a few words."""
    value = {name: argument.value for name, argument in call.arguments.items()}
    words: list[str] = []
    layers = [one for one in value.values() if isinstance(one, GivenModule) and one.entry is not None and one.node]
    if layers and "num_layers" in value:
        words.append(f"{value['num_layers']} {BY} {layers[0].name}")
    for before, after in (("in_channels", "out_channels"), ("in_features", "out_features")):
        if after in value:
            words.append(f"{value[before]} → {value[after]}" if before in value else str(value[after]))
    if "kernel_size" in value:
        size = value["kernel_size"]
        sizes = size if isinstance(size, list | tuple) else [size] * (2 if call.entry.name.endswith("2d") else 1)
        words.append(BY.join(str(one) for one in sizes))
    if "num_heads" in value:
        words.append(f"{value['num_heads']} heads")
    for name in ("stride", "dilation", "groups", "hidden_size", "p", "output_size", "dim"):
        if name in value and not (name in ("stride", "dilation", "groups") and value[name] == 1):
            words.append(f"{name.replace('_', ' ')} {_text(value[name])}")
    return ", ".join(words)


def _cost(row: Row) -> str:
    parts = [f"{short(row.parameters)} params".replace(" k ", "k ").replace(" M ", "M ")] if row.parameters else []
    if row.flops is None:
        parts.append("? FLOPs")
    elif row.flops:
        parts.append(flops_text(row.flops))
    return " · ".join(parts)


def _summary(program: Program) -> str:
    whole = totals(program)
    parts = [f"{whole['parameters']:,} parameters"]
    if whole["flops"]:
        parts.append(f"{flops_text(whole['flops'])} for one sample")
    return " · ".join(parts)


def _typed(type_: TypeLike) -> str:
    return str(type_) if isinstance(type_, ListType) else f"{type_} {type_.dtype}"


def _text(value: Any) -> str:
    """A value in the words of a spec."""
    if isinstance(value, Factory):
        inner = ", ".join(f"{name}: {_text(one.value)}" for name, one in value.arguments.items())
        return value.target.name + (f" ({inner})" if inner else "")
    if isinstance(value, GivenModule | GivenClass):
        return value.name if isinstance(value, GivenModule) else value.entry.name
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{', '.join(_text(one) for one in value)}]"
    return str(value)
