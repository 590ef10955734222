"""Where the values of a composed document come from, and what each of them replaced."""

from __future__ import annotations

from netspec.diagnostics import Span
from netspec.document import Mapping, Node, Scalar, Sequence
from netspec.paths import Steps

Origin = tuple[Span, str]
"""A place and what it said, in words."""


class History:
    """The values that stood at a path before the one that counts, oldest first."""

    def __init__(self, replaced: dict[Steps, tuple[Node, ...]] | None = None) -> None:
        self._replaced = dict(replaced or {})

    def replace(self, steps: Steps, old: Node) -> None:
        """Note that `old` stood at `steps` and counts no more."""
        self._replaced[steps] = (*self._replaced.get(steps, ()), old)

    def moved(self, steps: Steps, to: Steps) -> History:
        """What is known about the values below `steps`, as if they stood below `to`."""
        length = len(steps)
        return History({to + key[length:]: old for key, old in self._replaced.items() if key[:length] == steps})

    def add(self, other: History) -> None:
        """Take over what `other` knows about paths that this one knows nothing of."""
        self._replaced = {**other._replaced, **self._replaced}

    def of(self, steps: Steps, node: Node) -> list[Origin]:
        """The places that stated a value, oldest first; `node` is the one that counts."""
        values = [*self._replaced.get(steps, ()), node]
        first, *later = values
        return [(first.span, brief(first)), *((one.span, f"replaces it with {brief(one)}") for one in later)]


def brief(node: Node) -> str:
    """The value in a few words, for messages."""
    match node:
        case Scalar(value=value, text=text):
            shown = text or ("null" if value is None else str(value))
            return f"`{shown if len(shown) <= 40 else shown[:39] + '…'}`"
        case Sequence(items=items):
            return f"a list of {len(items)}"
        case Mapping(items=entries):
            kind = entries.get("type")
            return brief(kind) if isinstance(kind, Scalar) else f"a mapping of {len(entries)} keys"


def merge(base: Node, over: Node, history: History, steps: Steps = ()) -> Node:
    """`over` on top of `base`: mappings merge, the rest is replaced. The base's keys come first, in its order."""
    if base is over:  # one block, imported by both
        return over
    if not (isinstance(base, Mapping) and isinstance(over, Mapping)):
        history.replace(steps, base)
        return over
    items, spans = dict(base.items), {**base.key_spans, **over.key_spans}
    for key, node in over.items.items():
        items[key] = merge(items[key], node, history, (*steps, key)) if key in items else node
    return Mapping(items, spans, over.span)
