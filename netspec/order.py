"""In which order the layers of a body are worked out: the file's, except where a layer names a later one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush

from netspec.diagnostics import Diagnostics, Label
from netspec.expressions import Expr, ListExpr, Literal, Template
from netspec.spec import Body, Layer, Value, text_of

WEIGHTS = ("Parameter", "Buffer")
"""Layers without an input, which the flow from layer to layer passes by."""


def definition_order(body: Body, name_of: Callable[[Expr], str | None], diagnostics: Diagnostics) -> list[int] | None:
    """The layers' positions, each after those that it reads; ties in the file's order. None after a cycle was
    reported.
    """
    owner: dict[str, int] = {}
    for i, layer in enumerate(body.layers):
        for name in names_of_layer(layer, name_of):
            owner.setdefault(name, i)
    later = False
    needs: list[set[int]] = []
    for i, layer in enumerate(body.layers):
        mine = {owner[base] for base in _bases(layer) if base in owner}
        mine.discard(i)
        default = default_before(body, i) if _reads_default(layer) and not body.parallel else None
        if default is not None:
            mine.add(default)
        later = later or any(j > i for j in mine)
        needs.append(mine)
    if not later:
        return list(range(len(body.layers)))
    readers: list[list[int]] = [[] for _ in needs]
    missing = [len(mine) for mine in needs]
    for i, mine in enumerate(needs):
        for j in mine:
            readers[j].append(i)
    ready = [i for i, count in enumerate(missing) if count == 0]
    heapify(ready)
    order: list[int] = []
    while ready:
        i = heappop(ready)
        order.append(i)
        for reader in readers[i]:
            missing[reader] -= 1
            if missing[reader] == 0:
                heappush(ready, reader)
    if len(order) < len(needs):
        _report_cycle(body, needs, missing, diagnostics)
        return None
    return order


def _report_cycle(body: Body, needs: list[set[int]], missing: list[int], diagnostics: Diagnostics) -> None:
    here = next(i for i, count in enumerate(missing) if count)
    path: list[int] = []
    while here not in path:
        path.append(here)
        here = min(j for j in needs[here] if missing[j])
    cycle = path[path.index(here) :]
    start = min(cycle)
    at = cycle.index(start)
    cycle = cycle[at:] + cycle[:at]
    words = [text_of(body.layers[i].name) for i in (*cycle, cycle[0])]
    diagnostics.error(
        "NS303",
        f"these layers wait for each other: {' reads '.join(f'`{word}`' for word in words)}",
        body.layers[start].span,
        labels=[Label(body.layers[i].span, "part of the cycle") for i in cycle[1:]],
        help="let one of them read something that is known before it",
    )


def default_before(body: Body, i: int) -> int | None:
    """The layer whose output the one at `i` reads by default: the one before, layers aside left out."""
    for j in range(i - 1, -1, -1):
        if not stands_aside(body.layers[j]):
            return j
    return None


def stands_aside(layer: Layer) -> bool:
    """Whether the flow from layer to layer passes by: weights that stand alone, and what runs in one mode only."""
    return is_weight(layer) or bool(layer.when)


def is_weight(layer: Layer) -> bool:
    return layer.type is not None and isinstance(layer.type.expr, Literal) and layer.type.expr.value in WEIGHTS


def names_of_layer(layer: Layer, name_of: Callable[[Expr], str | None]) -> Iterator[str]:
    """The names that a layer defines in its body, as far as they don't depend on a loop."""
    if layer.name is not None and not layer.inline:
        name = name_of(layer.name)
        if name is not None:
            yield name
    if layer.inline and layer.body is not None:
        for inner in layer.body.layers:
            yield from names_of_layer(inner, name_of)


def names_are_written(body: Body) -> bool:
    """Whether no name of the body's own layers is an expression."""
    return all(
        layer.name is None or isinstance(layer.name, Literal)
        if layer.body is None or not layer.inline
        else names_are_written(layer.body)
        for layer in body.layers
    )


def _reads_default(layer: Layer) -> bool:
    return layer.compute is None and layer.inputs is None and not is_weight(layer)


def _bases(layer: Layer) -> Iterator[str]:
    """The first parts of the names that a layer reads, in whatever depth, where they are written out."""
    inputs = layer.inputs.values() if isinstance(layer.inputs, dict) else layer.inputs or ()
    for value in (*inputs, *((layer.use,) if layer.use else ())):
        for expr in value.expr.items if isinstance(value.expr, ListExpr) else (value.expr,):
            if (base := _base(expr)) is not None:
                yield base
    read = [name for value in stated_values(layer) for name in value.tensors]
    if layer.compute is not None:
        read += layer.compute.tensors
    for tensor in read:
        if (base := _base(tensor.name)) is not None:
            yield base
    if layer.body is not None:
        own = {text_of(inner.name) for inner in layer.body.layers if inner.name is not None and not layer.inline}
        for inner in layer.body.layers:
            yield from (base for base in _bases(inner) if base not in own)


def stated_values(layer: Layer) -> Iterator[Value]:
    """The values of a layer's arguments, those of layers among them too."""
    for value in layer.arguments.values():
        yield value
        if value.layer is not None:
            if value.layer.type is not None:
                yield value.layer.type
            yield from stated_values(value.layer)


def _base(name: Expr | str) -> str | None:
    """The first part of a reference, where it is written out: `downs` of `downs.$i`."""
    if isinstance(name, Literal):
        name = name.value if isinstance(name.value, str) else ""
    elif isinstance(name, Template):
        first = name.parts[0]
        name = first if isinstance(first, str) and "." in first else ""
    return name.partition(".")[0] or None if isinstance(name, str) else None
