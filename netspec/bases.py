"""What a spec builds on: `extends` with `remove`, and the blocks of `imports`."""

from __future__ import annotations

from netspec.diagnostics import Label
from netspec.document import Mapping, Node, Scalar, Sequence, plain
from netspec.files import Files
from netspec.history import History, brief, merge
from netspec.paths import drop, find, names_at, with_key, without
from netspec.suggest import suggest


def extended(files: Files, document: Mapping, imported: Mapping | None, history: History) -> Mapping:
    """The document on top of what its base has and `remove` does not take, with the `imported` blocks."""
    reference = document.items.get("extends")
    removals = document.items.get("remove")
    own = without(document, "extends", "remove", "imports")
    base: Mapping | None = None
    if reference is not None:
        path = files.path(reference, "`extends`")
        part = None if path is None else files.part(path, str(path.value), "`extends`")
        if part is not None:
            base = part.document
            history.add(part.history)
    if removals is not None and (base is not None or reference is None):
        base = _removed(files, base, removals)
    if imported is not None:
        stated = own.items.get("blocks")
        inherited = base.items.get("blocks") if base is not None else None
        check_clashes(files, imported, stated)
        check_clashes(files, imported, inherited)
        joined = join(imported, stated)
        own = with_key(own, "blocks", joined, own.key_spans.get("blocks", imported.span))
    if base is None:
        return own
    merged = merge(base, own, history)
    assert isinstance(merged, Mapping)
    return merged


def _removed(files: Files, base: Mapping | None, removals: Node) -> Mapping | None:
    if base is None:
        files.error(
            "NS033", "`remove` takes from a base, and there is none", removals.span, help="name one: `extends: …`"
        )
        return None
    items = removals.items if isinstance(removals, Sequence) else (removals,)
    for item in items:
        path = item.value if isinstance(item, Scalar) else None
        if not isinstance(path, str):
            files.error(
                "NS033",
                f"`remove` lists paths, this is {brief(item)}",
                item.span,
                help="write paths into the base: `remove: [train.scheduler]`",
            )
            continue
        found = find(base, path)
        if found.rest:
            near = suggest(found.rest[0], names_at(found.node))
            meant = ".".join([*found.steps, near, *found.rest[1:]]) if near else ""
            where = f"`{'.'.join(found.steps)}` of the base" if found.steps else "the base"
            files.error(
                "NS033",
                f"there is no `{found.rest[0]}` in {where}",
                item.span,
                help=f"did you mean `{meant}`?" if meant else "what the base has not need not be removed",
            )
        else:
            changed = drop(base, found.steps)
            assert isinstance(changed, Mapping)
            base = changed
    return base


def imported_blocks(files: Files, document: Mapping) -> Mapping | None:
    """The blocks of all imported files."""
    node = document.items.get("imports")
    if node is None:
        return None
    joined: Mapping | None = None
    for item in node.items if isinstance(node, Sequence) else (node,):
        path = files.path(item, "`imports`")
        part = None if path is None else files.part(path, str(path.value), "`imports`")
        if part is None or path is None:
            continue
        blocks = part.document.items.get("blocks")
        if not isinstance(blocks, Mapping) or not blocks.items:
            files.error(
                "NS035",
                f"`{path.value}` has no blocks to import",
                path.span,
                help="`imports` brings in blocks; a section comes in with `file:`, a base with `extends:`",
            )
            continue
        if joined is not None:
            check_clashes(files, blocks, joined)
        joined = join(blocks, joined)
    return joined


def check_clashes(files: Files, blocks: Mapping, others: Node | None) -> None:
    """Report blocks of one name that say different things."""
    if not isinstance(others, Mapping):
        return
    for name, block in blocks.items.items():
        other = others.items.get(name)
        if other is not None and not same(block, other):
            files.error(
                "NS034",
                f"two blocks are called `{name}`",
                others.key_spans[name],
                labels=(Label(blocks.key_spans[name], "the other one"),),
                help="give one of them another name",
            )


def join(new: Mapping, own: Node | None) -> Mapping:
    """The entries of both, the own ones last and stronger."""
    if not isinstance(own, Mapping):
        return new
    return Mapping({**new.items, **own.items}, {**new.key_spans, **own.key_spans}, own.span)


def same(one: Node, other: Node) -> bool:
    """Whether two nodes say the same, wherever they stand."""
    return one is other or plain(one) == plain(other)
