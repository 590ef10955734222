"""The layers of a program as TensorBoard's graph, from what is known without running it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netspec.graph import LayerGraph
from netspec.program import Program

if TYPE_CHECKING:
    from tensorboard.compat.proto.graph_pb2 import GraphDef


def graph_def(program: Program) -> GraphDef:
    """A node for each layer that computes, with its type, output shape and place in the spec; blocks are its scopes."""
    from tensorboard.compat.proto.attr_value_pb2 import AttrValue
    from tensorboard.compat.proto.graph_pb2 import GraphDef
    from tensorboard.compat.proto.node_def_pb2 import NodeDef
    from tensorboard.compat.proto.versions_pb2 import VersionDef

    found = LayerGraph.of(program)

    def node(name: str, kind: str, inputs: list[str], **facts: str) -> NodeDef:
        attributes = {key: AttrValue(s=value.encode()) for key, value in facts.items() if value}
        return NodeDef(name=name, op=kind, input=[one.replace(".", "/") for one in inputs], attr=attributes)

    nodes = []
    for path in found.order:
        facts = found.digraph.nodes[path]
        place = f"{facts['file']}:{facts['line']}" if facts.get("line") else ""
        weights = str(facts["parameters"]) if facts["parameters"] else ""
        inputs = list(found.digraph.predecessors(path))
        nodes.append(
            node(path.replace(".", "/"), facts["type"], inputs, shape=facts["shape"], parameters=weights, spec=place)
        )
    for (name, type_), givers in zip(program.outputs.items(), found.outputs, strict=True):
        nodes.append(node(f"output_{name}", "output", list(givers), shape=str(type_)))
    return GraphDef(node=nodes, versions=VersionDef(producer=22))
