"""Blocks that nothing uses: what is wrong with them whatever they are given, as far as names and order tell."""

from __future__ import annotations

from collections.abc import Iterable

from netspec.call_parts import name_span
from netspec.diagnostics import Diagnostics
from netspec.document import Scalar
from netspec.expressions import (
    Expr,
    ExpressionError,
    ListExpr,
    Literal,
    Name,
    Template,
    evaluate,
    free_names,
    report,
    walk,
)
from netspec.order import definition_order, stated_values
from netspec.spec import Block, Body, Layer, Spec, Value, literal_names
from netspec.suggest import suggest


def check_unused(spec: Spec, used: Iterable[Block], diagnostics: Diagnostics) -> None:
    """Report unknown names, layers that wait for each other, and values that cannot be worked out, in the blocks that
    are used nowhere. Shapes stay unknown: they follow from what a block is given.
    """
    met = {id(block) for block in used}
    for block in spec.blocks.values():
        if id(block) not in met:
            Unused(block, diagnostics).check()


class Unused:
    """The check of one block."""

    def __init__(self, block: Block, diagnostics: Diagnostics) -> None:
        self.block = block
        self.diagnostics = diagnostics

    def check(self) -> None:
        """Report what is wrong."""
        patterns = self.block.inputs
        dims = [dim for pattern in patterns for shape in (pattern.shape or (), *(pattern.items or ())) for dim in shape]
        scope = {*self.block.params, *(dim.symbol for dim in dims if dim.symbol)}
        for dim in dims:
            if dim.expr is not None:
                self.value(Value(expr=dim.expr, span=dim.span), self.block.params)
        known: set[str] = set()
        for param in self.block.params.values():
            if param.default is not None:
                self.value(param.default, known)
            known.add(param.name)
        for name, value in self.block.let.items():
            self.value(value, scope)
            scope.add(name)
        tensors = {pattern.name for pattern in self.block.inputs} or {"x"}
        self.body(self.block.body, scope, tensors, set())
        names, open_ = names_of(self.block.body)
        for value in (self.block.outputs or {}).values():
            self.reference(value, tensors | names, open_)

    def body(self, body: Body, scope: set[str], tensors: set[str], modules: set[str]) -> None:
        names, open_ = names_of(body)
        definition_order(body, _literal, self.diagnostics)
        for layer in body.layers:
            self.layer(layer, scope, tensors | names, modules | names, open_)

    def layer(self, layer: Layer, scope: set[str], tensors: set[str], modules: set[str], open_: bool) -> None:
        """A layer, in a body where `open_` says that some names depend on values."""
        if layer.loop is not None:
            for value in layer.loop.values:
                self.value(value, scope)
            scope = {*scope, *layer.loop.names}
        if layer.name is not None:
            self.names(layer.name, Value(expr=layer.name, span=layer.span), scope)
        for one in (layer.type, layer.condition, *layer.arguments.values()):
            if one is not None:
                self.value(one, scope)
        for one in layer.inputs.values() if isinstance(layer.inputs, dict) else layer.inputs or ():
            self.value(one, scope)
            self.reference(one, tensors, open_)
        if layer.compute is not None:
            self.value(layer.compute, scope)
        for one in (layer.compute, *stated_values(layer)):
            if one is not None:
                for tensor in one.tensors:
                    self.known(_base(tensor.name), one, tensors, open_)
        if layer.use is not None:
            self.value(layer.use, scope)
            self.reference(layer.use, modules, open_)
        if layer.body is not None:
            inner = names_of(layer.body)
            if layer.inline:  # its layers are those of the body around it
                for one_layer in layer.body.layers:
                    self.layer(one_layer, scope, tensors, modules, open_)
                return
            names, inside = inner
            definition_order(layer.body, _literal, self.diagnostics)
            for one_layer in layer.body.layers:
                self.layer(one_layer, scope, tensors | names, names, open_ or inside)

    def value(self, value: Value, scope: Iterable[str]) -> None:
        """An expression: its names, and what it gives where it has none."""
        if value.layer is not None:
            for one in (value.layer.type, *value.layer.arguments.values()):
                if one is not None:
                    self.value(one, scope)
            return
        if self.names(value.expr, value, scope) or value.names or value.tensors:
            return
        try:
            evaluate(value.expr, {})
        except ExpressionError as error:
            report(error, value.scalar or Scalar(value=None, span=value.span), self.diagnostics)

    def names(self, expr: Expr, value: Value, scope: Iterable[str]) -> bool:
        """Report the first name of an expression that nothing has."""
        missing = free_names(expr) - set(scope)
        name = next((part for part in walk(expr) if isinstance(part, Name) and part.id in missing), None)
        if name is None:
            return False
        try:
            evaluate(name, dict.fromkeys(sorted(scope), 0))
        except ExpressionError as error:
            report(error, value.scalar or Scalar(value=None, span=value.span), self.diagnostics)
        return True

    def reference(self, value: Value, names: set[str], open_: bool) -> None:
        for expr in value.expr.items if isinstance(value.expr, ListExpr) else (value.expr,):
            self.known(_base(expr), value, names, open_)

    def known(self, base: str | None, value: Value, names: set[str], open_: bool) -> None:
        if base is None or open_ or base == "previous" or base in names:
            return
        near = suggest(base, sorted(names))
        all_names = ", ".join(f"`{name}`" for name in sorted(names)[:12])
        self.diagnostics.error(
            "NS302",
            f"there is no layer or input named `{base}` in block `{self.block.name}`",
            name_span(value, base) if value.tensors else value.span,
            help=f"did you mean `{near}`?" if near else f"known here: {all_names}",
        )


def names_of(body: Body) -> tuple[set[str], bool]:
    """The names of a body's layers, and whether there are others that depend on values."""
    names = {name for layer in body.layers for name in literal_names(layer)}
    return names, any(_depends(layer) for layer in body.layers)


def _depends(layer: Layer) -> bool:
    """Whether a layer's name, or the names of those that join the body through it, are not written out."""
    if layer.inline and layer.body is not None:
        return any(_depends(inner) for inner in layer.body.layers)
    return layer.inline or (layer.name is not None and not isinstance(layer.name, Literal))


def _literal(expr: Expr) -> str | None:
    return str(expr.value) if isinstance(expr, Literal) else None


def _base(name: Expr | str) -> str | None:
    """The first part of a reference, where it is written out."""
    if isinstance(name, Literal):
        name = str(name.value)
    if isinstance(name, Template) and isinstance(name.parts[0], str) and "." in name.parts[0]:
        name = name.parts[0]
    return name.partition(".")[0] if isinstance(name, str) else None
