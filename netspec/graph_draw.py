"""Pictures of a layer graph: Graphviz's dot, Mermaid, and SVG by a layout of our own.

All take a `networkx.DiGraph` whose nodes are layers named by their paths, as `netspec.graph` describes it. What flows
stands on the edges. In dot and Mermaid the layers of one block or group stand in one frame, and a dashed line joins a
layer to the one whose weights it has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape
from typing import Any, Final

import networkx as nx

from netspec.graph import joined
from netspec.graph_layout import lay_out
from netspec.table import short

BOX_HEIGHT: Final = 46
ROW_HEIGHT: Final = 84
MARGIN: Final = 24
LETTER: Final = 7.3
"""The width of a letter in pixels; generous, so that text stays in its box where the font differs."""

STYLE: Final = """\
.graph { font: 12px ui-monospace, "SF Mono", Menlo, Consolas, monospace; background: #fff; }
.graph rect { fill: #f6f8fa; stroke: #8c959f; } .graph .weights rect { fill: #ddf4ff; stroke: #0969da; }
.graph .input rect { fill: #fff8c5; stroke: #9a6700; } .graph text { fill: #1f2328; text-anchor: middle; }
.graph .quiet { fill: #59636e; } .graph path { fill: none; stroke: #59636e; stroke-width: 1.2; }
.graph marker path { fill: #59636e; stroke: none; }
.graph .borrows rect { stroke-dasharray: 4 3; }
.graph .flow { font-size: 10px; text-anchor: start; fill: #59636e; stroke: #fff; stroke-width: 4; paint-order: stroke; }
@media (prefers-color-scheme: dark) {
  .graph { background: #0d1117; } .graph rect { fill: #151b23; stroke: #59636e; }
  .graph .weights rect { fill: #0c2d6b; stroke: #4493f8; } .graph .input rect { fill: #341a00; stroke: #d29922; }
  .graph text { fill: #f0f6fc; } .graph .quiet { fill: #9198a1; } .graph path { stroke: #9198a1; }
  .graph marker path { fill: #9198a1; } .graph .flow { stroke: #0d1117; fill: #9198a1; }
}"""


def to_dot(graph: nx.DiGraph, title: str) -> str:
    """Graphviz's language; a frame for every block."""
    lines = [
        f"digraph {_quoted(title)} {{",
        '  node [shape=box, style="rounded,filled", fillcolor="#f6f8fa", fontname=monospace, fontsize=11];',
        "  edge [fontname=monospace, fontsize=9];",
    ]

    def frame(name: str, depth: int) -> str:
        label = _quoted(_frame_label(graph, name))
        return f"{'  ' * depth}subgraph {_quoted('cluster_' + name)} {{ label={label}; fontname=monospace; fontsize=11;"

    def node(path: str, depth: int) -> str:
        label = "\\n".join(_escaped(text) for text in _labels(path, graph))
        colour = {"weights": ', fillcolor="#ddf4ff"', "input": ', fillcolor="#fff8c5"'}.get(_class(path, graph), "")
        dashed = ', style="rounded,filled,dashed"' if _borrows(graph.nodes[path]) else ""
        return f'{"  " * depth}{_quoted(path)} [label="{label}"{colour}{dashed}];'

    lines += _nested(graph, frame, node, "}")
    for u, v, shape in graph.edges(data="shape"):
        flows = f" [label={_quoted(shape)}]" if shape else ""
        lines.append(f"  {_quoted(u)} -> {_quoted(v)}{flows};")
    for path, lender in _lenders(graph):
        lines.append(f"  {_quoted(lender)} -> {_quoted(path)} [style=dashed, dir=none, constraint=false];")
    return "\n".join([*lines, "}"]) + "\n"


def to_mermaid(graph: nx.DiGraph) -> str:
    """Mermaid's flowchart; a subgraph for every block."""
    # Mermaid takes no dots in names, and `end` ends a subgraph: number them.
    names = {path: f"n{number}" for number, path in enumerate(graph.nodes)}
    frames: dict[str, str] = {}

    def text(value: str) -> str:
        return escape(value.replace("#", "#35;"), quote=False).replace('"', "#quot;")

    def frame(name: str, depth: int) -> str:
        number = frames.setdefault(name, f"g{len(frames)}")
        return f'{"  " * depth}subgraph {number} ["{text(_frame_label(graph, name))}"]'

    def node(path: str, depth: int) -> str:
        label = "<br>".join(text(part) for part in _labels(path, graph))
        kind = _class(path, graph)
        mark = f":::{kind}" if kind in ("weights", "input") else ""
        return f'{"  " * depth}{names[path]}["{label}"]{mark}'

    lines = ["flowchart TD", *_nested(graph, frame, node, "end")]
    for u, v, shape in graph.edges(data="shape"):
        flows = f'|"{text(shape)}"|' if shape else ""
        lines.append(f"  {names[u]} -->{flows} {names[v]}")
    lines += [f"  {names[lender]} -.- {names[path]}" for path, lender in _lenders(graph)]
    lines += ["  classDef weights fill:#ddf4ff,stroke:#0969da,color:#1f2328"]
    lines += ["  classDef input fill:#fff8c5,stroke:#9a6700,color:#1f2328"]
    return "\n".join(lines) + "\n"


def to_svg(graph: nx.DiGraph, title: str) -> str:
    """A drawing from top to bottom: a box for a layer, blue where it holds weights, yellow for an input."""
    labels = {path: _labels(path, graph) for path in graph.nodes}
    widths = {path: max(len(text) for text in texts) * LETTER + 20 for path, texts in labels.items()}
    layout = lay_out(graph, widths)
    width = layout.width + 2 * MARGIN
    height = layout.rows * ROW_HEIGHT - (ROW_HEIGHT - BOX_HEIGHT) + 2 * MARGIN

    def top(row: int) -> float:
        return MARGIN + row * ROW_HEIGHT

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="graph" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>{STYLE}</style>",
        '<marker id="arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 8 4 0 8z"/></marker>',
    ]
    captions: list[str] = []
    alike = {path: len({shape for *_, shape in graph.out_edges(path, data="shape")}) == 1 for path in graph}
    for path in graph:
        shape = next((shape for *_, shape in graph.out_edges(path, data="shape")), None)
        if shape and alike[path]:  # what all readers get stands once, under the layer
            captions.append(_caption(MARGIN + layout.x[path], top(layout.row[path]) + BOX_HEIGHT + 16, shape))
    for edge, path in layout.paths.items():
        (x, row), *rest = ((MARGIN + x, row) for x, row in path)
        steps, y = [f"M{x:.1f} {top(row) + BOX_HEIGHT:.1f}"], top(row) + BOX_HEIGHT
        for place, (to, at) in enumerate(rest):
            arrives = top(at)
            middle = (y + arrives) / 2
            if not place and not alike[edge[0]] and (shape := graph.edges[edge].get("shape")):
                captions.append(_caption((x + to) / 2, middle + 3, shape))
            steps.append(f"C{x:.1f} {middle:.1f} {to:.1f} {middle:.1f} {to:.1f} {arrives:.1f}")
            if place < len(rest) - 1:
                steps.append(f"V{arrives + BOX_HEIGHT:.1f}")
            x, y = to, arrives + BOX_HEIGHT
        lines.append(f'<path d="{" ".join(steps)}" marker-end="url(#arrow)"/>')
    for path, texts in labels.items():
        x, y = MARGIN + layout.x[path], top(layout.row[path])
        left = x - widths[path] / 2
        kind = _class(path, graph) + (" borrows" if _borrows(graph.nodes[path]) else "")
        lines.append(
            f'<g class="{kind}"><title>{escape(" · ".join(texts))}</title>'
            f'<rect x="{left:.1f}" y="{y:.1f}" width="{widths[path]:.1f}" height="{BOX_HEIGHT}" rx="6"/>'
        )
        for place, text in enumerate(texts):
            baseline = y + (28 if len(texts) == 1 else 19 + 18 * place if len(texts) == 2 else 14 + 13 * place)
            quiet = ' class="quiet"' if place else ""
            lines.append(f'<text x="{x:.1f}" y="{baseline:.1f}"{quiet}>{escape(text)}</text>')
        lines.append("</g>")
    return "\n".join([*lines, *captions, "</svg>"]) + "\n"


def _caption(x: float, y: float, text: str) -> str:
    """What flows, beside its line."""
    return f'<text class="flow" x="{x + 5:.1f}" y="{y:.1f}">{escape(text)}</text>'


def to_json(graph: nx.DiGraph) -> dict[str, list[dict[str, Any]]]:
    """`nodes` with their attributes, `edges` with the paths of both ends; as plain data."""
    return {
        "nodes": [
            {
                "path": path,
                "type": str(data.get("type") or ""),
                "shape": str(data.get("shape") or ""),
                "parameters": int(data.get("parameters") or 0),
            }
            for path, data in graph.nodes(data=True)
        ],
        "edges": [{"from": u, "to": v} for u, v in graph.edges],
    }


def collapse(graph: nx.DiGraph, depth: int) -> nx.DiGraph:
    """The graph with only so many levels of names: what lies deeper becomes one node, with all its parameters."""
    blocks = {path: data for path, data in graph.graph.get("blocks", {}).items() if path.count(".") < depth}
    small: nx.DiGraph = nx.DiGraph(blocks=blocks)
    where = {path: ".".join(path.split(".")[:depth]) for path in graph.nodes}
    for path, data in graph.nodes(data=True):
        whole = where[path]
        if whole == path:
            small.add_node(path, **data)
        elif whole in small:
            # The last member to run gives what the whole gives.
            small.nodes[whole].update(
                shape=data.get("shape"),
                parameters=small.nodes[whole]["parameters"] + int(data.get("parameters") or 0),
            )
        else:
            small.add_node(whole, type="", shape=data.get("shape"), parameters=int(data.get("parameters") or 0))
    for path, data in small.nodes(data=True):
        data.update(blocks.get(path, {}))
        if "shares" in data:
            data["shares"] = where.get(data["shares"], data["shares"])
    for u, v, shape in graph.edges(data="shape"):
        one, other = where[u], where[v]
        if one != other:
            before = small.edges[one, other]["shape"] if small.has_edge(one, other) else ""
            small.add_edge(one, other, shape=joined(before, shape) if shape else before)
    return small


def _labels(path: str, graph: nx.DiGraph) -> list[str]:
    """What stands in a box: its name and type; whose weights it has; its shape, where no edge bears it."""
    data = graph.nodes[path]
    kind = str(data.get("type") or "")
    shape = str(data.get("shape") or "") if not graph.out_degree(path) else ""
    parameters = int(data.get("parameters") or 0)
    count = f"{short(parameters)} parameters".replace(" k ", "k ").replace(" M ", "M ").replace(" G ", "G ")
    shared = ", ".join(f"{name} = {other}" for name, other in (data.get("tied") or {}).items())
    if "shares" in data and not kind.endswith(data["shares"]):
        shared = f"weights of {data['shares']}"
    below = " · ".join(text for text in (count if parameters else "", shared) if text)
    return [text for text in (f"{path}  {kind}" if kind else path, shape, below) if text]


def _frame_label(graph: nx.DiGraph, path: str) -> str:
    kind = graph.graph.get("blocks", {}).get(path, {}).get("type", "")
    return f"{path}  {kind}" if kind and kind != "layers" else path


def _class(path: str, graph: nx.DiGraph) -> str:
    data = graph.nodes[path]
    return "weights" if data.get("parameters") else "input" if data.get("type") == "input" else "layer"


def _borrows(data: Mapping[str, Any]) -> bool:
    """Whether a layer has weights of another's."""
    return bool(data.get("shares") or data.get("tied"))


def _lenders(graph: nx.DiGraph) -> list[tuple[str, str]]:
    """Layers that have weights of others, each with the layer that they belong to."""
    found = []
    for path, data in graph.nodes(data=True):
        tied = [other.rpartition(".")[0] for other in (data.get("tied") or {}).values()]
        for lender in dict.fromkeys([data["shares"]] if "shares" in data else tied):
            if lender in graph and lender != path:
                found.append((path, lender))
    return found


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _quoted(text: str) -> str:
    return f'"{_escaped(text)}"'


def _nested(
    graph: nx.DiGraph, frame: Callable[[str, int], str], node: Callable[[str, int], str], closing: str
) -> list[str]:
    """The nodes, each inside the frames of the blocks that it stands in."""
    tree: dict[str, Any] = {}
    for path in graph.nodes:
        parts = path.split(".")
        place = tree
        for end in range(1, len(parts)):
            place = place.setdefault(".".join(parts[:end]), {})
        place[path] = None

    def write(level: Mapping[str, Any], depth: int) -> list[str]:
        lines: list[str] = []
        for name, inner in level.items():
            if inner is None:
                lines.append(node(name, depth))
            else:
                lines += [frame(name, depth), *write(inner, depth + 1), "  " * depth + closing]
        return lines

    return write(tree, 1)
