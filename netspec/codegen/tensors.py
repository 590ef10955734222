"""How calls in `forward` are written: which tensors and arguments stand where, and what their results are called."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from typing import Any

from netspec.catalog.entry import Entry
from netspec.codegen.literals import literal
from netspec.program import Call, Node, Ref, Reuse
from netspec.shapes import ListType

Read = Callable[[Ref], tuple[str, int]]


def entry_of(node: Node) -> Entry | None:
    """What the catalog says of the layer that a node applies; None for blocks, groups and arithmetic."""
    op = node.op.target.op if isinstance(node.op, Reuse) else node.op
    return op.entry if isinstance(op, Call) else None


def written_tensors(entry: Entry, inputs: Mapping[str, Any], read: Read) -> tuple[list[str], list[str], int]:
    """The tensors by position and those by name, and how deep they are nested."""
    first: list[str] = []
    named: list[str] = []
    depth = 0
    for i, (argument, ports) in enumerate(entry.tensors.items()):
        texts: list[str] = []
        for port in ports:
            ref = inputs.get(port.name)
            if ref is None:
                continue
            if isinstance(ref, tuple) and len(ref) == 1 and isinstance(ref[0].type, ListType) and not port.spread:
                texts.append(read(ref[0])[0])
            elif isinstance(ref, tuple):
                parts = ", ".join(f"{'*' if isinstance(one.type, ListType) else ''}{read(one)[0]}" for one in ref)
                texts.append(parts if port.spread else f"[{parts}]")
            else:
                text, below = read(ref)
                depth = max(depth, below)
                texts.append(text)
        if not texts:
            continue
        text = f"({', '.join(texts)})" if len(ports) > 1 else texts[0]
        if len(first) == i and not ports[0].keyword:
            first.append(text)
        else:
            named.append(f"{argument}={text}")
    return first, named, depth


def written_arguments(entry: Entry, arguments: Mapping[str, str]) -> list[str]:
    """A function's arguments in torch's order, by position where the catalog says that people write them so."""
    texts: list[str] = []
    by_position = True
    after = [declared for declared in entry.arguments if not declared.leads]
    required = [declared.required for declared in after]
    for i, declared in enumerate(after):
        text = arguments.get(declared.name)
        leads = not declared.required and True in required[i:]
        if text is None and leads:
            # `arange` may leave its start out, but only where no step is stated.
            if any(a.name in arguments for a in after[required.index(True) + 1 :] if a.positional):
                texts.append(literal(declared.default))
            continue
        if text is None:
            by_position = False
            continue
        by_position = by_position and declared.positional
        if declared.training:
            text = f"{text} if self.training else 0.0"
        if by_position and declared.unpacked:
            text = _items(text)
        texts.append(text if by_position else f"{declared.name}={text}")
    return texts


def _items(text: str) -> str:
    """`0, 2, 1` of `(0, 2, 1)`; an expression that gives a list stays one, and so does a list of nothing."""
    tree = ast.parse(text, mode="eval").body
    return text[1:-1].rstrip(",") if isinstance(tree, ast.Tuple | ast.List) and tree.elts else text


def result_pattern(returns: tuple[str | tuple[str, ...], ...], names: Mapping[str, str]) -> str:
    """`output, (h_n, _)`: the names of what is read, underscores for the rest."""

    def one(part: str | tuple[str, ...]) -> str:
        if isinstance(part, str):
            return names.get(part, "_")
        return f"({', '.join(map(one, part))})" if any(port in names for port in part) else "_"

    return ", ".join(map(one, returns))


def is_simple(text: str) -> bool:
    """Whether a text needs no parentheses as an operand: a name, a call, a subscript."""
    depth = 0
    for char in text:
        if char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
        elif depth == 0 and not (char.isalnum() or char in "_."):
            return False
    return True
