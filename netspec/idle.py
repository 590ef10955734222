"""Parameters that nothing reads: setting them changes nothing, which is seldom what was meant."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from netspec.diagnostics import Diagnostics, Label
from netspec.document import Mapping, Node, Scalar, Sequence

_NAME = re.compile(r"[A-Za-z_]\w*")


def check_params(document: Mapping, diagnostics: Diagnostics) -> None:
    """Warn of each parameter of the document, of a model or of a block that no expression in its reach names."""
    blocks = document.items.get("blocks")
    blocks = blocks if isinstance(blocks, Mapping) else None
    outside = [node for key, node in document.items.items() if key != "blocks"]
    taken = {name: _params(block) for name, block in (blocks.items if blocks is not None else {}).items()}
    _warn(document, outside, taken, diagnostics)
    models = document.items.get("models")
    for body in (document.items.get("model"), *(models.items.values() if isinstance(models, Mapping) else ())):
        if isinstance(body, Mapping):
            _warn(body, [body], taken, diagnostics)
    if any("$" in text for text in _types(document)):
        return  # blocks that stand in for one another take the same parameters, and not each reads all of them
    for name, block in (blocks.items if blocks is not None else {}).items():
        if isinstance(block, Mapping):
            _warn(block, [block], {other: params for other, params in taken.items() if other != name}, diagnostics)


def _warn(owner: Mapping, reach: list[Node], taken: dict[str, Mapping | None], diagnostics: Diagnostics) -> None:
    params = _params(owner)
    if params is None:
        return
    named = {name for node in reach for text in _expressions(node) for name in _NAME.findall(text)}
    for name, span in params.key_spans.items():
        if name in named:
            continue
        same = next((block for block, theirs in taken.items() if theirs is not None and name in theirs.items), None)
        there = taken[same] if same is not None else None
        diagnostics.warning(
            "NS304",
            f"nothing reads the parameter `{name}`: another value changes nothing",
            span,
            labels=[Label(there.key_spans[name], f"`{same}` has a `{name}` of its own")] if there is not None else [],
            help=f"hand it over where `{same}` is used, as in `{{type: {same}, {name}: ${name}}}`, or take it out"
            if same is not None
            else f"write `${name}` where it is meant, or take it out",
        )


def _params(owner: Node) -> Mapping | None:
    params = owner.items.get("params") if isinstance(owner, Mapping) else None
    return params if isinstance(params, Mapping) else None


def _types(node: Node) -> Iterator[str]:
    """What names a type anywhere below a node: `type`, and a layer that is its type alone."""
    if isinstance(node, Mapping):
        for key, item in node.items.items():
            if key == "type":
                yield from _texts([item])
            elif key in ("layers", "branches") and isinstance(item, Mapping):
                yield from _texts(item.items.values())
            elif key in ("layers", "branches") and isinstance(item, Sequence):
                yield from _texts(item.items)
            yield from _types(item)
    elif isinstance(node, Sequence):
        for item in node.items:
            yield from _types(item)


def _texts(nodes: Iterable[Node]) -> Iterator[str]:
    return (node.value for node in nodes if isinstance(node, Scalar) and isinstance(node.value, str))


def _expressions(node: Node) -> Iterator[str]:
    """All texts below a node that hold a value or an expression, keys among them."""
    if isinstance(node, Mapping):
        for key, item in node.items.items():
            if "$" in key:
                yield key
            yield from _expressions(item)
    elif isinstance(node, Sequence):
        for item in node.items:
            yield from _expressions(item)
    elif isinstance(node, Scalar) and isinstance(node.value, str) and "$" in node.value:
        yield node.value
