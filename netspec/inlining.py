"""A block whose layers join the body around it: its definition with the values of one use written in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from netspec.expressions import Expr, Name, free_names, substitute
from netspec.spec import Block, Body, Dim, Layer, Loop, Rule, Value


def joined(block: Block, stated: Mapping[str, Value], sizes: Mapping[str, Expr]) -> Body:
    """The layers of a block in the names of the body that they join.

    `stated` are the arguments of the use, in the names around it; `sizes` are those that the block's inputs bind.
    """
    known: dict[str, Value | Expr] = {}
    for name, param in block.params.items():
        given = stated.get(name)
        if given is not None:
            known[name] = given
        elif param.default is not None:
            known[name] = _value(param.default, known)
    for name, size in sizes.items():
        known.setdefault(name, size)
    for name, let in block.let.items():
        known[name] = _value(let, known)
    return _body(block.body, known)


Known = Mapping[str, Value | Expr]


def _exprs(known: Known) -> dict[str, Expr]:
    return {name: found.expr if isinstance(found, Value) else found for name, found in known.items()}


def _value(value: Value, known: Known) -> Value:
    if value.layer is not None:
        return Value(expr=value.expr, span=value.span, layer=_layer(value.layer, known))
    if isinstance(value.expr, Name) and isinstance(found := known.get(value.expr.id), Value):
        return found
    if not value.names & known.keys():
        return value
    return Value(expr=substitute(value.expr, _exprs(known)), span=value.span, scalar=value.scalar)


def _optional(value: Value | None, known: Known) -> Value | None:
    return None if value is None else _value(value, known)


def _body(body: Body, known: Known) -> Body:
    return replace(body, layers=tuple(_layer(layer, known) for layer in body.layers))


def _layer(layer: Layer, known: Known) -> Layer:
    loop = layer.loop
    if loop is not None:
        values = tuple(_value(value, known) for value in loop.values)
        names = tuple(_apart(name, known) for name in loop.names)
        known = {**known, **{old: Name(new) for old, new in zip(loop.names, names, strict=True)}}
        loop = Loop(names=names, values=values, span=loop.span)
    inputs = layer.inputs
    return replace(
        layer,
        name=None if layer.name is None else substitute(layer.name, _exprs(known)),
        type=_optional(layer.type, known),
        inputs={port: _value(value, known) for port, value in inputs.items()}
        if isinstance(inputs, dict)
        else None
        if inputs is None
        else tuple(_value(value, known) for value in inputs),
        use=_optional(layer.use, known),
        compute=_optional(layer.compute, known),
        body=None if layer.body is None else _body(layer.body, known),
        condition=_optional(layer.condition, known),
        loop=loop,
        arguments={name: _value(value, known) for name, value in layer.arguments.items()},
        initialize=tuple(_rule(rule, known) for rule in layer.initialize),
        expect=None if layer.expect is None else tuple(_dim(dim, known) for dim in layer.expect),
    )


def _apart(name: str, known: Known) -> str:
    """A loop's name that no value around the block is read by."""
    taken = frozenset().union(*(free_names(expr) for expr in _exprs(known).values()))
    while name in taken:
        name += "_"
    return name


def _rule(rule: Rule, known: Known) -> Rule:
    return replace(rule, values={name: _value(value, known) for name, value in rule.values.items()})


def _dim(dim: Dim, known: Known) -> Dim:
    return dim if dim.expr is None else replace(dim, expr=substitute(dim.expr, _exprs(known)))
