"""What the values of a spec are in a scope: expressions evaluated, types looked up, layers as values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from netspec import catalog
from netspec.catalog.entry import Entry
from netspec.diagnostics import Diagnostics, Label
from netspec.document import Scalar
from netspec.expressions import ExpressionError, Literal, Name, Subscript, describe, evaluate, report
from netspec.frame import Frame, Poisoned
from netspec.mistakes import Mistakes
from netspec.origins import Traced, trace, untraced
from netspec.program import Argument, Factory
from netspec.spec import Block, Spec, Value
from netspec.suggest import suggest

FAILED: Any = object()
"""The value of an expression that was reported already."""


class Values:
    """The part of the elaboration that evaluates."""

    def __init__(self, spec: Spec, diagnostics: Diagnostics) -> None:
        self.spec = spec
        self.diagnostics = Mistakes(diagnostics)
        self.using: list[Block] = []
        """The blocks that are worked out, outermost first."""
        self.met: dict[int, Block] = {}
        """The blocks that some layer names."""
        self.frame: Frame | None = None
        """The body that is worked out."""

    def evaluate(self, value: Value, env: Mapping[str, Any]) -> Any:
        """The value of an expression, integers with the expression as their origin; FAILED after a report."""
        if value.layer is not None:
            return self.factory(value, env)
        if isinstance(value.expr, Literal):
            return value.expr.value
        if isinstance(value.expr, Name) and value.expr.id in env:
            return _traced(env[value.expr.id], value)
        try:
            result = evaluate(value.expr, env)
        except ExpressionError as error:
            report(error, value.scalar or Scalar(value=None, span=value.span), self.diagnostics)
            return FAILED
        return _traced(result, value)

    def argument(self, value: Value, env: Mapping[str, Any]) -> Argument:
        """A stated value with its expression. Raises Poisoned where it cannot be evaluated."""
        result = self.evaluate(value, env)
        if result is FAILED:
            raise Poisoned
        return Argument(result, value.expr)

    def factory(self, value: Value, env: Mapping[str, Any]) -> Any:
        layer = value.layer
        assert layer is not None
        if layer.type is None:
            self.diagnostics.error(
                "NS314",
                "a layer that is given as a value needs a `type`",
                value.span,
                help="write the layers as a block, and name that here",
            )
            return FAILED
        target = self.target(layer.type, env)
        if target is FAILED or target is None:
            return target
        arguments = {name: self.argument(argument, env) for name, argument in layer.arguments.items()}
        if isinstance(target, Factory):
            return Factory(target.target, {**target.arguments, **arguments})
        return Factory(target, arguments)

    def target(self, value: Value, env: Mapping[str, Any]) -> Entry | Block | Factory | Any | None:
        """What `type` names. None for null, FAILED after a report."""
        name = self.evaluate(value, env)
        if name is FAILED or name is None or isinstance(name, Factory):
            return name
        if isinstance(name, str):
            found = self.spec.blocks.get(name) or catalog.lookup(name)
            if isinstance(found, Block):
                self.met[id(found)] = found
            if found is not None:
                return found
            left_out = catalog.instead(name)
            near = suggest(name, [*self.spec.blocks, *catalog.names()])
            self.diagnostics.error(
                "NS105",
                f"there is no layer, function or block `{name}`",
                value.span,
                labels=self.given_at(value),
                help=left_out
                if left_out
                else f"did you mean `{near}`?"
                if near
                else f"define `{name}` under `blocks`, or take a layer of torch.nn by its own name",
            )
            return FAILED
        self.diagnostics.error(
            "NS103",
            f"`type` takes the name of a layer, a function or a block, and got {describe(untraced(name))}",
            value.span,
            labels=self.given_at(value),
            help="a name as torch has it, such as `Conv2d`, or one under `blocks`",
        )
        return FAILED

    def names_layer(self, value: Value, env: Mapping[str, Any]) -> bool:
        """Whether a value is the name of a layer, or a layer with arguments. Raises Poisoned where it has no value."""
        return isinstance(self.argument(value, env).value, str | Factory)

    def given_at(self, value: Value) -> list[Label]:
        """Where the document gives what an expression of the model reads of its parameters."""
        model = self.spec.model
        if self.using or model is None:
            return []
        read = [param for name, param in model.params.items() if name in value.names]
        return [Label(p.default.span, f"`{p.name}` is given here") for p in read if p.default is not None]

    def bind_param(self, name: str, value: Any) -> Any:
        """A parameter's value as its block sees it: integers, in lists too, remember the parameter."""
        if isinstance(value, list):
            return [
                trace(untraced(item), Subscript(Name(name), Literal(i))) if isinstance(item, int) else item
                for i, item in enumerate(value)
            ]
        return trace(untraced(value), Name(name))

    def dim(self, dim: Any, scope: Mapping[str, Any]) -> Any:
        """The size that `$value` in a pattern gives."""
        result = self.evaluate(Value(expr=dim.expr, span=dim.span), scope)
        if result is FAILED:
            raise Poisoned
        if isinstance(result, bool) or not isinstance(result, int) or result < 1:
            self.diagnostics.error(
                "NS301",
                f"a size is an integer from 1, and this is {describe(untraced(result))}",
                dim.span,
                help="a size that is not known here bears a name: `N`",
            )
            raise Poisoned
        return result


def _traced(result: Any, value: Value) -> Any:
    """What an expression gave, an integer with the expression as its origin."""
    if value.names and type(result) in (int, Traced):
        return Traced(int.__index__(result), value.expr, value.names)
    return result
