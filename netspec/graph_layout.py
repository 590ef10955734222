"""A place for every layer of a graph: rows by the longest way from the inputs, few crossings, straight chains.

The layered drawing of Sugiyama et al. in its plainest form. An edge over several rows passes through a stand-in on each
row between, so that it bends around what lies there.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

import networkx as nx

SWEEPS = 12
GAP = 28.0
"""Between neighbours on a row, in the unit of the widths."""
BEND_WIDTH = 8.0


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things lie. `x` is the centre of a node, `row` counts from the top; `paths` holds (x, row) of each bend."""

    x: Mapping[Hashable, float]
    row: Mapping[Hashable, int]
    paths: Mapping[tuple[Hashable, Hashable], Sequence[tuple[float, int]]]
    width: float
    rows: int


def lay_out(graph: nx.DiGraph, widths: Mapping[Hashable, float]) -> Layout:
    """Lay out an acyclic graph; `widths` gives the width of each node. The same graph always gets the same layout."""
    row = _rows(graph)
    chains = {(u, v): [u, *((u, v, r) for r in range(row[u] + 1, row[v])), v] for u, v in graph.edges}
    above: dict[Hashable, list[Hashable]] = {}
    below: dict[Hashable, list[Hashable]] = {}
    lines: list[list[Hashable]] = [[] for _ in range(max(row.values(), default=-1) + 1)]
    for node in graph.nodes:
        lines[row[node]].append(node)
    for chain in chains.values():
        for bend in chain[1:-1]:
            assert isinstance(bend, tuple)
            lines[bend[2]].append(bend)
        for upper, lower in pairwise(chain):
            below.setdefault(upper, []).append(lower)
            above.setdefault(lower, []).append(upper)

    _uncross(lines, above, below)
    x = _straighten(lines, above, below, {**{n: BEND_WIDTH for line in lines for n in line}, **widths})
    left = min((x[n] - widths.get(n, BEND_WIDTH) / 2 for line in lines for n in line), default=0.0)
    x = {node: centre - left for node, centre in x.items()}
    return Layout(
        x=x,
        row=row,
        paths={
            edge: [(x[node], row[chain[0]] + step) for step, node in enumerate(chain)] for edge, chain in chains.items()
        },
        width=max((x[n] + widths.get(n, BEND_WIDTH) / 2 for line in lines for n in line), default=0.0),
        rows=len(lines),
    )


def _rows(graph: nx.DiGraph) -> dict[Hashable, int]:
    """The row of each node: one below the lowest that it takes from; an input stands just above its reader."""
    row: dict[Hashable, int] = {}
    for node in nx.topological_sort(graph):
        row[node] = max((row[before] + 1 for before in graph.predecessors(node)), default=0)
    for node in graph.nodes:
        readers = [row[after] for after in graph.successors(node)]
        if graph.in_degree(node) == 0 and readers:
            row[node] = min(readers) - 1
    return row


def _uncross(
    lines: list[list[Hashable]], above: Mapping[Hashable, list[Hashable]], below: Mapping[Hashable, list[Hashable]]
) -> None:
    """Order each row by the mean place of its neighbours, down and up in turn."""
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        neighbours = above if down else below
        for index in range(1, len(lines)) if down else range(len(lines) - 2, -1, -1):
            fixed = {node: place for place, node in enumerate(lines[index - 1 if down else index + 1])}
            places = {
                node: sum(fixed[n] for n in neighbours[node]) / len(neighbours[node]) if neighbours.get(node) else place
                for place, node in enumerate(lines[index])
            }
            lines[index].sort(key=places.__getitem__)


def _straighten(
    lines: list[list[Hashable]],
    above: Mapping[Hashable, list[Hashable]],
    below: Mapping[Hashable, list[Hashable]],
    widths: Mapping[Hashable, float],
) -> dict[Hashable, float]:
    """Draw every node towards the middle of its neighbours, as far as the others on its row let it."""
    x: dict[Hashable, float] = {}
    for line in lines:
        for node, centre in zip(line, _spread([0.0] * len(line), [widths[n] for n in line]), strict=True):
            x[node] = centre
    for sweep in range(SWEEPS):
        neighbours = above if sweep % 2 == 0 else below
        for line in lines if sweep % 2 == 0 else reversed(lines):
            wanted = [median(x[n] for n in neighbours[node]) if neighbours.get(node) else x[node] for node in line]
            for node, centre in zip(line, _spread(wanted, [widths[n] for n in line]), strict=True):
                x[node] = centre
    return x


def _spread(wanted: Sequence[float], widths: Sequence[float]) -> list[float]:
    """The centres nearest to those wanted (least squares) that keep the order and the gaps of a row."""
    offsets = [0.0]
    for before, after in pairwise(widths):
        offsets.append(offsets[-1] + (before + after) / 2 + GAP)
    # With the gaps taken off, the centres only have to ascend: pool adjacent violators.
    pools: list[tuple[float, int]] = []
    for goal, offset in zip(wanted, offsets, strict=False):
        mean, count = goal - offset, 1
        while pools and pools[-1][0] > mean:
            other, size = pools.pop()
            mean, count = (mean * count + other * size) / (count + size), count + size
        pools.append((mean, count))
    flat = [mean for mean, count in pools for _ in range(count)]
    return [centre + offset for centre, offset in zip(flat, offsets, strict=False)]
