"""Places, other than layers, that name an entry of the catalog: optimizers, losses, transforms, initializers …"""

from __future__ import annotations

from netspec import catalog
from netspec.catalog.left_out import why_not
from netspec.document import Mapping, Scalar
from netspec.schema import words
from netspec.schema.structure import KINDS
from netspec.schema.typed import CATEGORIES
from netspec.schema.walk import Place, Walk, entry_owner, judge_of_entry, judge_of_kind, judge_without_entry
from netspec.suggest import suggest


def check_named(walk: Walk, place: Place) -> None:
    node, kind = place.node, place.kind
    if judge_of_kind(kind).choose(node) is None:
        walk.wrong_type(place, KINDS[kind])
    elif isinstance(node, Mapping):
        _check_mapping(walk, place, walk.supported(kind, node))
    elif isinstance(node, Scalar) and isinstance(node.value, str):
        _check_type(walk, place, Mapping({}, {}, node.span), node)


def _check_mapping(walk: Walk, place: Place, node: Mapping) -> None:
    kind, type_node = place.kind, node.items.get("type")
    if isinstance(type_node, Scalar) and isinstance(type_node.value, str):
        _check_type(walk, place, node, type_node)
    elif type_node is None and kind == "loss":
        walk.waiting.append(Place(node=node, kind="losses", title=place.title, span=place.span, scope=place.scope))
    elif type_node is None and not (kind == "scheduler" and "warmup" in node.items):
        _report_no_type(walk, place, node)
    else:
        walk.check(place, node, judge_without_entry(kind), place.owner)


def _check_type(walk: Walk, place: Place, node: Mapping, type_node: Scalar) -> None:
    """`node` holds what stands beside the type; nothing, where the name stands alone."""
    name, category = str(type_node.value), CATEGORIES[place.kind]
    entry = catalog.lookup(name, category)
    if entry is not None:
        owner = entry_owner(entry, place.title, type_node.span)
        walk.check(place, node, judge_of_entry(place.kind, name), owner)
    elif "$" in name or (category == "metric" and name.startswith("torchmetrics.")):
        walk.check(place, node, judge_without_entry(place.kind), place.owner)
    else:
        meant = catalog.suggest(name, category)
        some = ", ".join(catalog.names(category)[:12])
        walk.error(
            words.UNKNOWN_NAME,
            f"there is no {category} `{name}`",
            type_node.span,
            why_not(name, category) or (f"did you mean `{meant}`?" if meant else f"some that there are: {some}"),
        )


def _report_no_type(walk: Walk, place: Place, node: Mapping) -> None:
    typo = next((key for key in node.items if suggest(key, ["type"])), None)
    if typo is not None:
        walk.error(
            words.UNKNOWN_KEY, f"unknown key `{typo}` in {place.title}", node.key_spans[typo], "did you mean `type`?"
        )
        return
    noun = CATEGORIES[place.kind]
    walk.error(
        words.MISSING_KEY,
        f"{place.title} does not say which {noun} it is",
        place.span,
        f"add `type:` with the name of the {noun}",
    )
