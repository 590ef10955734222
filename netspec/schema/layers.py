"""Layers: what each one is, and whether its arguments are those of what it names."""

from __future__ import annotations

from netspec import catalog
from netspec.document import Mapping, Scalar, Sequence
from netspec.schema import layer_rules
from netspec.schema.engine import Judge
from netspec.schema.structure import KINDS
from netspec.schema.walk import Place, Walk, entry_owner, judge_of_bare_layer, judge_of_entry, judge_without_entry
from netspec.schema.words import Owner


def check_layer(walk: Walk, place: Place) -> None:
    """`place.kind` is "member" in a list, "module" for an argument that is a layer, "value" for a layer among a
    person's own values, else "layer"."""
    node = place.node
    if isinstance(node, Sequence):
        walk.waiting.append(Place(node=node, kind="layers", title=place.title, span=place.span, scope=place.scope))
    elif isinstance(node, Mapping):
        _check_mapping(walk, place, node)
    elif isinstance(node.value, str):
        _check_type(walk, place, Mapping({}, {}, node.span), node)
    elif node.value is not None or place.kind != "module":
        walk.wrong_type(place, KINDS["layer"])


def _check_mapping(walk: Walk, place: Place, node: Mapping) -> None:
    if walk.supported("layer", node) is not node:
        return
    type_node = node.items.get("type")
    contradiction = layer_rules.contradiction(node)
    if contradiction is not None:
        walk.add(contradiction)
        _check(walk, place, node, judge_without_entry("layer"), _owner(place))
    elif type_node is None:
        _check_without_type(walk, place, node)
    elif isinstance(type_node, Scalar) and isinstance(type_node.value, str):
        _check_type(walk, place, node, type_node)
    else:
        _check(walk, place, node, judge_without_entry("layer"), _owner(place))


def _check_without_type(walk: Walk, place: Place, node: Mapping) -> None:
    if not layer_rules.has_body(node):
        walk.add(layer_rules.no_body(node, place.title, place.span))
        _check(walk, place, node, judge_without_entry("layer"), _owner(place))
        return
    if place.kind == "member" and "compute" in node.items:
        walk.add(layer_rules.compute_in_list(node))
    _check(walk, place, node, judge_of_bare_layer(), layer_rules.owner_without_type(node, place.title, place.span))


def _check_type(walk: Walk, place: Place, node: Mapping, type_node: Scalar) -> None:
    """`node` holds what stands beside the type; nothing, where the name stands alone."""
    name = str(type_node.value)
    if "$" in name:
        _check(walk, place, node, judge_without_entry("layer"), _owner(place))
    elif walk.blocks is not None and name in walk.blocks.items:
        _check(walk, place, node, *walk.block(name, place, type_node.span))
    elif (entry := catalog.lookup(name)) is not None:
        if place.kind == "member" and entry.category == "function":
            walk.add(layer_rules.function_in_list(name, type_node.span))
        if name == "Buffer":
            walk.add(layer_rules.nothing_kept(node, place.title, type_node.span))
        _check(walk, place, node, judge_of_entry("layer", name), entry_owner(entry, place.title, type_node.span))
    elif layer_rules.is_unsupported_type(name):
        walk.not_yet(f"`type: {name}`", type_node.span)
    else:
        walk.add(layer_rules.unknown_type(type_node, walk.types(modules_only=place.kind == "member")))
        _check(walk, place, node, judge_without_entry("layer"), _owner(place))


def _check(walk: Walk, place: Place, node: Mapping, judge: Judge, owner: Owner) -> None:
    walk.check(place, node, judge, owner, layer_rules.names_bound(node))


def _owner(place: Place) -> Owner:
    return Owner(subject="a layer", title=place.title, span=place.span)
