"""The layer graph: what flows from which layer into which, over networkx.

Blocks and groups are dissolved: a node is a layer that computes something, named by its path, and an edge a tensor.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import networkx as nx

from netspec.program import Apply, Arithmetic, Call, Gather, Instance, Node, Program, Ref, Reuse
from netspec.table import layer_table


@dataclass(frozen=True, slots=True)
class LayerGraph:
    """A directed acyclic graph of layers. `digraph` has the attributes `type`, `shape`, `dtype`, `parameters` and
    `file`, `line` on its nodes (inputs are of type `input`), and `shape` on its edges. A node that has weights of
    another's has `shares`, the path of that layer, and `tied`, the names of weights with those that they are. The
    graph's attribute `blocks` has type, shape and parameters of each block and group by its path.
    """

    digraph: nx.DiGraph[str]
    outputs: tuple[tuple[str, ...], ...]
    """The layers that give each of the model's outputs: one, or those of a list."""

    @classmethod
    def of(cls, program: Program) -> LayerGraph:
        """The graph of a program's model."""
        graph: nx.DiGraph[str] = nx.DiGraph()
        for name, type_ in program.model.inputs.items():
            graph.add_node(name, type="input", shape=str(type_), dtype=getattr(type_, "dtype", ""), parameters=0)
        rows = {row.path: row for row in layer_table(program)}
        parameters = {path: row.parameters for path, row in rows.items()}
        builder = _Builder(graph, parameters)
        results = builder.instance(program.model, "", {name: [name] for name in program.model.inputs})
        for tie in program.model.ties:
            owner, _, name = ".".join(tie.path).rpartition(".")
            if owner in graph:
                graph.nodes[owner].setdefault("tied", {})[name] = ".".join(tie.source)
        graph.graph["blocks"] = {
            path: {"type": row.type, "shape": str(row.shape), "parameters": row.parameters}
            for path, row in rows.items()
            if path not in graph
        }
        return cls(graph, tuple(tuple(dict.fromkeys(paths)) for paths in results.values()))

    @property
    def order(self) -> list[str]:
        """The layers' paths, each after those that it reads."""
        return list(nx.lexicographical_topological_sort(self.digraph, key=list(self.digraph).index))


class _Builder:
    def __init__(self, graph: nx.DiGraph[str], parameters: dict[str, int]) -> None:
        self.graph = graph
        self.parameters = parameters

    def instance(self, instance: Instance, prefix: str, inputs: dict[str, list[str]]) -> dict[str, list[str]]:
        """Add the layers of an instance; `inputs` says which graph node stands for each of its inputs."""
        standing: dict[int, dict[str, list[str]]] = {}

        def of(ref: Ref) -> list[str]:
            if ref.node is None:
                return inputs.get(ref.name) or inputs[ref.name.partition(".")[0]]
            given = standing[id(ref.node)]
            if ref.name in given or "" in given:
                return given.get(ref.name) or given[""]
            listed = isinstance(ref.node.op, Apply) and ref.node.op.instance.block.body.kind == "list"
            return [path for paths in given.values() for path in paths] if listed else next(iter(given.values()))

        for node in instance.order:
            path = prefix + node.name
            if isinstance(node.op, Apply):
                given = {port: of(ref) for port, ref in node.op.inputs.items()}
                standing[id(node)] = self.instance(node.op.instance, f"{path}.", given)
                continue
            if isinstance(node.op, Gather):
                standing[id(node)] = {"": [one for ref in node.inputs for one in of(ref)]}
                continue
            self.add(node, path, prefix)
            for ref in node.inputs:
                for source in of(ref):
                    self.edge(source, path, str(ref.type))
            standing[id(node)] = {"": [path]}
        given = {name: of(ref) for name, ref in instance.outputs.items()}
        if instance.members:  # of a chain each layer can be read
            one = next(iter(instance.outputs.values()))
            given |= {name: of(replace(one, node=instance.by_name[name], name="")) for name in sorted(instance.members)}
        return given

    def edge(self, source: str, path: str, shape: str) -> None:
        """An edge for all that flows from one layer into another."""
        if self.graph.has_edge(source, path):
            shape = joined(self.graph.edges[source, path]["shape"], shape)
        self.graph.add_edge(source, path, shape=shape)

    def add(self, node: Node, path: str, prefix: str) -> None:
        op = node.op
        if isinstance(op, Call):
            kind = op.entry.name
        elif isinstance(op, Arithmetic):
            kind = "compute"
        elif isinstance(op, Reuse):
            kind = f"use {op.target.name}"
        else:
            kind = "Identity" if node.key is not None else "pass"
        self.graph.add_node(
            path,
            type=kind,
            shape=str(node.type),
            dtype=getattr(node.type, "dtype", ""),
            parameters=self.parameters.get(path, 0),
            file=node.layer.span.file,
            line=node.layer.span.line,
        )
        if isinstance(op, Reuse) and self.parameters.get(prefix + op.target.name):
            self.graph.nodes[path]["shares"] = prefix + op.target.name


def joined(shapes: str, other: str) -> str:
    """The shapes of an edge, each once."""
    return "; ".join(dict.fromkeys([*filter(None, shapes.split("; ")), other]))
