"""The layout of pictures: nothing overlaps, everything flows down, and a chain is straight."""

from __future__ import annotations

import networkx as nx
from hypothesis import given
from hypothesis import strategies as st

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
