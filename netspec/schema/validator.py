"""Checks a document's structure and every argument that is written out, and says all that is wrong with it.

In two stages: every place is checked against the structure of its kind; what it names (a layer's `type`, an optimizer)
is looked up, and its arguments are checked by a small validator for that name alone, which is kept. One schema for the
whole document would be slow, and its `anyOf` over all layers would hide every cause.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from netspec.diagnostics import Diagnostics
from netspec.document import Mapping
from netspec.schema.layers import check_layer
from netspec.schema.named_places import check_named
from netspec.schema.plain_places import check_plain
from netspec.schema.typed import CATEGORIES
from netspec.schema.walk import Place, Walk

HANDLERS: Final[dict[str, Callable[[Walk, Place], None]]] = {
    **dict.fromkeys(("layer", "member", "module", "value"), check_layer),
    **dict.fromkeys(CATEGORIES, check_named),
}
"""What judges a place of each kind; `check_plain` judges the others."""


def validate(document: Mapping, diagnostics: Diagnostics) -> None:
    """Add every mistake in the structure, the names and the written-out arguments of a composed document.

    A value that is an expression passes; `netspec.catalog.kinds.accepts` judges it once it has been evaluated.
    """
    blocks = document.items.get("blocks")
    walk = Walk(diagnostics, blocks if isinstance(blocks, Mapping) else None)
    first = next(iter(document.key_spans.values()), document.span)
    walk.waiting.append(Place(node=document, kind="document", title="the document", span=first))
    while walk.waiting:
        place = walk.waiting.pop()
        HANDLERS.get(place.kind, check_plain)(walk, place)
