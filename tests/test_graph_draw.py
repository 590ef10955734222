"""The layout of pictures: nothing overlaps, everything flows down, and a chain is straight."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import netspec
from netspec import graph_draw
from netspec.graph_layout import GAP, lay_out


@st.composite
def acyclic_graphs(draw: st.DrawFn) -> nx.DiGraph:
    """A graph whose edges all point from a lower number to a higher one."""
    size = draw(st.integers(1, 14))
    graph = nx.DiGraph()
    graph.add_nodes_from(range(size))
    for upper in range(size):
        for lower in draw(st.sets(st.integers(0, size - 1), max_size=4)):
            if lower > upper:
                graph.add_edge(upper, lower)
    return graph


@given(acyclic_graphs(), st.integers(20, 300))
def test_boxes_of_a_row_do_not_overlap_and_edges_go_down(graph: nx.DiGraph, width: int) -> None:
    widths = {node: float(width + 10 * (node % 3)) for node in graph}
    layout = lay_out(graph, widths)
    for a in graph:
        assert layout.x[a] - widths[a] / 2 >= -1e-6
        assert layout.x[a] + widths[a] / 2 <= layout.width + 1e-6
        for b in graph:
            if a < b and layout.row[a] == layout.row[b]:
                assert abs(layout.x[a] - layout.x[b]) >= (widths[a] + widths[b]) / 2 + GAP - 1e-6
    for edge, path in layout.paths.items():
        assert [row for _, row in path] == list(range(layout.row[edge[0]], layout.row[edge[1]] + 1))
        assert path[0][0] == layout.x[edge[0]] and path[-1][0] == layout.x[edge[1]]


@given(acyclic_graphs())
def test_the_same_graph_gets_the_same_layout(graph: nx.DiGraph) -> None:
    widths = dict.fromkeys(graph, 50.0)
    assert lay_out(graph, widths) == lay_out(graph, widths)


def test_a_chain_is_straight() -> None:
    layout = lay_out(nx.path_graph(6, create_using=nx.DiGraph), dict.fromkeys(range(6), 80.0))
    assert set(layout.x.values()) == {40.0}
    assert layout.width == 80.0 and layout.rows == 6


def test_a_skip_goes_around_what_it_skips() -> None:
    graph = nx.DiGraph([(0, 1), (1, 2), (2, 3), (0, 3)])
    widths = dict.fromkeys(range(4), 80.0)
    layout = lay_out(graph, widths)
    for x, row in layout.paths[0, 3][1:-1]:
        assert abs(x - layout.x[row]) >= 40.0


def test_collapsing_keeps_parameters_and_flow() -> None:
    graph: nx.DiGraph = nx.DiGraph()
    for path, parameters in (("x", 0), ("a.conv", 7), ("a.inner.fc", 5), ("head", 3)):
        graph.add_node(path, path=path, type="T", shape=f"[{len(path)}]", parameters=parameters)
    nx.add_path(graph, ["x", "a.conv", "a.inner.fc", "head"])
    small = graph_draw.collapse(graph, 1)
    assert list(small.edges) == [("x", "a"), ("a", "head")]
    assert small.nodes["a"]["parameters"] == 12
    assert small.nodes["a"]["shape"] == graph.nodes["a.inner.fc"]["shape"]


def test_names_that_mean_something_to_a_format_are_quoted() -> None:
    graph: nx.DiGraph = nx.DiGraph()
    graph.add_node("end", path="end", type='x < "y" & z', shape="[N]", parameters=0)
    assert '["end  x &lt; #quot;y#quot; &amp; z<br>[N]"]' in graph_draw.to_mermaid(graph)
    assert '\\"y\\"' in graph_draw.to_dot(graph, "end")
    assert "x &lt; " in graph_draw.to_svg(graph, "<end>")


SHARED = """\
netspec: 1
name: shared
model:
  inputs: {tokens: {shape: [N, 8], dtype: int64}}
  layers:
    embed: {type: Embedding, num_embeddings: 10, embedding_dim: 4}
    body:
      layers:
        one: {type: Linear, out_features: 4}
        act: ReLU
        two: {use: one}
        again: {use: act}
        low: {compute: two * (two < one)}
    head: {type: Linear, out_features: 10, bias: false}
  tie: {head.weight: embed.weight}
"""

MERMAID = """\
flowchart TD
  n0["tokens  input"]:::input
  n1["embed  Embedding<br>40 parameters"]:::weights
  subgraph g0 ["body"]
    n2["body.one  Linear<br>20 parameters"]:::weights
    n3["body.act  ReLU"]
    n4["body.two  use one<br>weights of body.one"]
    n5["body.again  use act<br>[N, 8, 4]"]
    n6["body.low  compute"]
  end
  n7["head  Linear<br>[N, 8, 10]<br>weight = embed.weight"]
  n0 -->|"[N, 8]"| n1
  n1 -->|"[N, 8, 4]"| n2
  n2 -->|"[N, 8, 4]"| n3
  n2 -->|"[N, 8, 4]"| n6
  n3 -->|"[N, 8, 4]"| n4
  n4 -->|"[N, 8, 4]"| n5
  n4 -->|"[N, 8, 4]"| n6
  n6 -->|"[N, 8, 4]"| n7
  n2 -.- n4
  n1 -.- n7
"""


@pytest.fixture
def shared(tmp_path: Path) -> nx.DiGraph:
    (tmp_path / "shared.yaml").write_text(SHARED, encoding="utf-8")
    return netspec.compile(tmp_path / "shared.yaml").graph


def test_shapes_stand_on_edges_and_shared_weights_are_joined(shared: nx.DiGraph) -> None:
    assert graph_draw.to_mermaid(shared).partition("  classDef")[0] == MERMAID
    dot = graph_draw.to_dot(shared, "shared")
    assert '"embed" -> "body.one" [label="[N, 8, 4]"];' in dot
    assert '"body.one" -> "body.two" [style=dashed, dir=none, constraint=false];' in dot
    assert '"embed" -> "head" [style=dashed, dir=none, constraint=false];' in dot
    svg = graph_draw.to_svg(shared, "shared")
    assert svg.count("weights of body.one</text>") == svg.count("weight = embed.weight</text>") == 1
    assert svg.count('class="flow"') == 6  # one under each layer that is read
    ElementTree.fromstring(svg)


def test_a_closed_block_has_its_name_its_weights_and_what_it_gives() -> None:
    program = netspec.compile(Path(__file__).parent.parent / "specs/imagenet/googlenet.yaml")
    mermaid = graph_draw.to_mermaid(graph_draw.collapse(program.graph, 1))
    assert '["inception3a  Inception<br>156k parameters"]:::weights' in mermaid
    assert "subgraph" not in mermaid and '-->|"[N, 1024, 7, 7]"|' in mermaid


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
def test_graphviz_draws_what_we_write(shared: nx.DiGraph) -> None:
    graph = shared.copy()
    graph.add_node('odd "one"', type="<b>\\n</b>", shape="[N]", parameters=1)
    for text in (graph_draw.to_dot(graph, 'a "b"'), graph_draw.to_dot(graph_draw.collapse(graph, 1), "x")):
        drawn = subprocess.run(["dot", "-Tsvg"], input=text, capture_output=True, text=True, check=True, timeout=60)
        assert not drawn.stderr
        texts = {text for text in ElementTree.fromstring(drawn.stdout).itertext() if text.strip()}
        assert {"40 parameters", "weight = embed.weight", 'odd "one"'} <= texts
        assert any("<b>\\n</b>" in text for text in texts)
