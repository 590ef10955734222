"""Tied weights: which parameters of a model are one."""

from __future__ import annotations

from netspec.diagnostics import Diagnostics, Label, Span
from netspec.program import Instance, Node, Tie, parameters
from netspec.spec import Block, Tied
from netspec.suggest import suggest

Known = dict[str, tuple[Node, tuple[int, ...]]]


def resolve_ties(model: Instance, block: Block, diagnostics: Diagnostics) -> tuple[Tie, ...]:
    """What `tie` of the model says. Every mistake is reported; a tie that has one is left out."""
    if not block.tie:
        return ()
    known = parameters(model)
    stated = {tied.path: tied for tied in block.tie}
    ties = []
    for tied in block.tie:
        found = [_find(path, span, known, diagnostics) for path, span in _places(tied)]
        if None in found:
            continue
        (node, shape), (other, source_shape) = (known[tied.path], known[tied.source])
        again = stated.get(tied.source)
        if tied.path == tied.source:
            diagnostics.error("NS343", f"`{tied.path}` is tied to itself", tied.source_span, help="name another one")
        elif again is not None:
            diagnostics.error(
                "NS343",
                f"`{tied.path}` is tied to `{tied.source}`, which is tied itself",
                tied.source_span,
                labels=[Label(again.span, "tied here")],
                help=f"tie both to one: `{tied.path}: {again.source}`"
                if again.source != tied.path
                else "one of the two ties says it all",
            )
        elif shape != source_shape:
            diagnostics.error(
                "NS344",
                f"`{tied.path}` is {list(shape)} and `{tied.source}` {list(source_shape)}: they cannot be one",
                tied.source_span,
                labels=[
                    Label(node.layer.span, f"{list(shape)} from here"),
                    Label(other.layer.span, f"{list(source_shape)} from here"),
                ],
                help="parameters that are tied have the same shape",
            )
        else:
            ties.append(Tie(tuple(tied.path.split(".")), tuple(tied.source.split(".")), tied.span))
    return tuple(ties)


def _places(tied: Tied) -> tuple[tuple[str, Span], tuple[str, Span]]:
    return (tied.path, tied.span), (tied.source, tied.source_span)


def _find(path: str, span: Span, known: Known, diagnostics: Diagnostics) -> bool | None:
    if path in known:
        return True
    near = suggest(path, known)
    owned = [name for name in known if name.startswith(f"{path}.")]
    if near is None and len(owned) == 1:
        near = owned[0]
    listed = ", ".join(f"`{name}`" for name in (owned or list(known))[:6])
    diagnostics.error(
        "NS342",
        f"there is no parameter `{path}`",
        span,
        help=f"did you mean `{near}`?"
        if near
        else f"there are {listed}{', …' if len(known) > 6 else ''}"
        if known
        else "the model has no parameters at all",
    )
    return None
