"""Pictures of a layer graph: Graphviz's dot, Mermaid, and SVG by a layout of our own.

All take a `networkx.DiGraph` whose nodes are layers named by their paths, with the attributes `type`, `shape` and
`parameters`; layers of one block or group stand in one frame.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape
from typing import Any, Final

import networkx as nx

from netspec.graph_layout import lay_out

BOX_HEIGHT: Final = 46
ROW_HEIGHT: Final = 78
MARGIN: Final = 24
LETTER: Final = 7.3
"""The width of a letter in pixels; generous, so that text stays in its box where the font differs."""

STYLE: Final = """\
.graph { font: 12px ui-monospace, "SF Mono", Menlo, Consolas, monospace; background: #fff; }
.graph rect { fill: #f6f8fa; stroke: #8c959f; } .graph .weights rect { fill: #ddf4ff; stroke: #0969da; }
.graph .input rect { fill: #fff8c5; stroke: #9a6700; } .graph text { fill: #1f2328; text-anchor: middle; }
.graph .quiet { fill: #59636e; } .graph path { fill: none; stroke: #59636e; stroke-width: 1.2; }
.graph marker path { fill: #59636e; stroke: none; }
@media (prefers-color-scheme: dark) {
  .graph { background: #0d1117; } .graph rect { fill: #151b23; stroke: #59636e; }
  .graph .weights rect { fill: #0c2d6b; stroke: #4493f8; } .graph .input rect { fill: #341a00; stroke: #d29922; }
  .graph text { fill: #f0f6fc; } .graph .quiet { fill: #9198a1; } .graph path { stroke: #9198a1; }
  .graph marker path { fill: #9198a1; }
}"""


def to_dot(graph: nx.DiGraph, title: str) -> str:
    """Graphviz's language; a frame for every block."""
    lines = [f"digraph {_quoted(title)} {{", "  node [shape=box, fontname=monospace];"]

    def frame(name: str, depth: int) -> str:
        return f"{'  ' * depth}subgraph {_quoted('cluster_' + name)} {{ label={_quoted(name)};"

    def node(path: str, depth: int) -> str:
        label = "\\n".join(text.replace("\\", "\\\\").replace('"', '\\"') for text in _labels(path, graph.nodes[path]))
        return f'{"  " * depth}{_quoted(path)} [label="{label}"];'

    lines += _nested(graph, frame, node, "}")
    lines += [f"  {_quoted(u)} -> {_quoted(v)};" for u, v in graph.edges]
    return "\n".join([*lines, "}"]) + "\n"


def to_mermaid(graph: nx.DiGraph) -> str:
    """Mermaid's flowchart; a subgraph for every block."""
    # Mermaid takes no dots in names, and `end` ends a subgraph: number them.
    names = {path: f"n{number}" for number, path in enumerate(graph.nodes)}

    def text(value: str) -> str:
        return '"' + escape(value, quote=False).replace('"', "#quot;") + '"'

    def frame(name: str, depth: int) -> str:
        return f"{'  ' * depth}subgraph g_{name.replace('.', '_')} [{text(name)}]"

    def node(path: str, depth: int) -> str:
        label = "<br>".join(text(part)[1:-1] for part in _labels(path, graph.nodes[path]))
        return f'{"  " * depth}{names[path]}["{label}"]'

    lines = ["flowchart TD", *_nested(graph, frame, node, "end")]
    lines += [f"  {names[u]} --> {names[v]}" for u, v in graph.edges]
    return "\n".join(lines) + "\n"


def to_svg(graph: nx.DiGraph, title: str) -> str:
    """A drawing from top to bottom: a box for a layer, blue where it holds weights, yellow for an input."""
    labels = {path: _labels(path, data) for path, data in graph.nodes(data=True)}
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
    for path in layout.paths.values():
        (x, row), *rest = ((MARGIN + x, row) for x, row in path)
        steps, y = [f"M{x:.1f} {top(row) + BOX_HEIGHT:.1f}"], top(row) + BOX_HEIGHT
        for place, (to, at) in enumerate(rest):
            arrives = top(at)
            middle = (y + arrives) / 2
            steps.append(f"C{x:.1f} {middle:.1f} {to:.1f} {middle:.1f} {to:.1f} {arrives:.1f}")
            if place < len(rest) - 1:
                steps.append(f"V{arrives + BOX_HEIGHT:.1f}")
            x, y = to, arrives + BOX_HEIGHT
        lines.append(f'<path d="{" ".join(steps)}" marker-end="url(#arrow)"/>')
    for path, texts in labels.items():
        x, y = MARGIN + layout.x[path], top(layout.row[path])
        left = x - widths[path] / 2
        kind = "weights" if graph.nodes[path].get("parameters") else "layer" if graph.in_degree(path) else "input"
        lines.append(
            f'<g class="{kind}"><title>{escape(" · ".join(texts))}</title>'
            f'<rect x="{left:.1f}" y="{y:.1f}" width="{widths[path]:.1f}" height="{BOX_HEIGHT}" rx="6"/>'
        )
        for place, text in enumerate(texts[:2]):
            baseline = y + (19 + 18 * place if len(texts) > 1 else 28)
            quiet = ' class="quiet"' if place else ""
            lines.append(f'<text x="{x:.1f}" y="{baseline:.1f}"{quiet}>{escape(text)}</text>')
        lines.append("</g>")
    return "\n".join([*lines, "</svg>"]) + "\n"


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
    small: nx.DiGraph = nx.DiGraph()
    where = {path: ".".join(path.split(".")[:depth]) for path in graph.nodes}
    for path, data in graph.nodes(data=True):
        short = where[path]
        if short == path:
            small.add_node(path, **data)
        elif short in small:
            # The last member to run gives what the whole gives.
            small.nodes[short].update(
                shape=data.get("shape"),
                parameters=small.nodes[short]["parameters"] + int(data.get("parameters") or 0),
            )
        else:
            small.add_node(short, **{**data, "path": short, "type": "", "parameters": int(data.get("parameters") or 0)})
    small.add_edges_from(dict.fromkeys((where[u], where[v]) for u, v in graph.edges if where[u] != where[v]))
    return small


def _labels(path: str, data: Mapping[str, Any]) -> list[str]:
    """What stands in a box: its name and type, its shape, its parameters."""
    kind = str(data.get("type") or "")
    shape = str(data.get("shape") or "")
    parameters = int(data.get("parameters") or 0)
    first = f"{path}  {kind}" if kind else path
    return [text for text in (first, shape, f"{parameters:,} parameters" if parameters else "") if text]


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


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
