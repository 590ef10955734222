"""One layer's call: its arguments, its inputs, and what it gives, for catalog entries, blocks and arithmetic."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from netspec.arithmetic import Refused, type_of
from netspec.catalog.entry import Argument as CatalogArgument
from netspec.catalog.entry import Entry, GivenModule, Inferred, TypeLike
from netspec.catalog.kinds import accepts, describe
from netspec.catalog.models import ModelEntry
from netspec.catalog.versions import lacking
from netspec.choices import refuse_text
from netspec.diagnostics import Label
from netspec.document import Scalar
from netspec.expressions import ExpressionError, Tensor, evaluate, report, tensors
from netspec.frame import Frame, Poisoned
from netspec.origins import origin_of, untraced
from netspec.program import Apply, Argument, Arithmetic, Call, Factory, Instance, Node, Pending, Ref, Reuse
from netspec.shapes import UNKNOWN, ListType, TensorType
from netspec.spec import Block, Layer, Value
from netspec.suggest import suggest as closest
from netspec.values import FAILED

if TYPE_CHECKING:
    pass
from netspec.call_parts import Refs, _words, name_span, spread, untraced_type, weights
from netspec.module_arguments import ArgumentCaller


class Caller(ArgumentCaller):
    """Makes the operation of a node, and reports what is wrong with it. Methods raise Poisoned after a report."""

    # Catalog entries

    def call(
        self, entry: Entry, layer: Layer, preset: Mapping[str, Argument], env: Mapping[str, Any], refs: Refs, name: str
    ) -> tuple[Call, dict[str, TypeLike]]:
        mask = None
        if here := lacking(entry.since, entry.target):
            self.diagnostics.error(
                "NS105",
                f"{here} has no `{entry.name}`",
                layer.span,
                help=f"it came with {entry.since}: install a newer one",
            )
            raise Poisoned
        if entry.category == "loss":
            layer, refs, mask = self.loss(entry, layer, refs, env, name)
        else:
            self.known(refs, layer, name)
        stated = {**preset, **self.entry_arguments(entry, layer, env)}
        ports = self.entry_inputs(entry, layer, refs, name)
        missing = [name for name in facts(entry).required if name not in stated]
        if missing:
            self.diagnostics.error(
                "NS107",
                f"`{self.name_of(layer, name)}`: `{entry.name}` needs {_words(missing)}",
                layer.span,
                help=f"add {', '.join(f'`{argument}: …`' for argument in missing)}",
            )
            raise Poisoned
        stated = self.with_modules(entry, stated, ports, layer)
        if isinstance(entry, ModelEntry):
            return self.model(entry, layer, stated, ports, env, name)
        inferred = self.infer(entry, layer, {k: a.value for k, a in stated.items()}, ports, name, mask)
        for argument, size in (inferred.arguments or {}).items():
            said = stated.get(argument)
            if said is None:
                stated[argument] = Argument(size, origin_of(size), inferred=True)
            else:
                assert said.value == size, f"the rule of {entry.name} let {argument} {said.value} pass"
        return Call(entry, stated, ports, mask=mask), dict(inferred.outputs)

    def entry_arguments(self, entry: Entry, layer: Layer, env: Mapping[str, Any]) -> dict[str, Argument]:
        stated: dict[str, Argument] = {}
        failed = False
        known = facts(entry).arguments
        for name, value in layer.arguments.items():
            declared = known.get(name)
            if declared is None:
                near = closest(name, [a.name for a in entry.arguments])
                self.diagnostics.error(
                    "NS106",
                    f"`{entry.name}` has no argument `{name}`",
                    layer.argument_spans.get(name, value.span),
                    help=f"did you mean `{near}`?" if near else None,
                )
                failed = True
                continue
            if here := lacking(declared.since, entry.target):
                self.diagnostics.error(
                    "NS106",
                    f"`{entry.name}` of {here} has no argument `{name}`",
                    layer.argument_spans.get(name, value.span),
                    help=f"it came with {declared.since}: install a newer one, or leave it out",
                )
                failed = True
                continue
            try:
                argument = self.value_of(declared, value, env)
            except Poisoned:
                failed = True
                continue
            if isinstance(argument.value, Pending):
                stated[name] = argument
                continue
            problem = accepts(declared, untraced(argument.value))
            if problem is not None:
                self.diagnostics.error(
                    problem.code,
                    problem.message,
                    value.span,
                    labels=self.elaborator.given_at(value),
                    help=problem.help or _mend(value, argument.value, entry),
                )
                failed = True
            if argument.measured and entry.category != "function":
                argument = Argument(argument.value, origin_of(argument.value), measured=True)
            stated[name] = argument
        if failed:
            raise Poisoned
        return stated

    def value_of(self, declared: CatalogArgument, value: Value, env: Mapping[str, Any]) -> Argument:
        """The value that an argument is given, whatever its kind."""
        if declared.takes_module:
            argument = self.pending(declared, value, env)
            if isinstance(argument.value, Pending):
                self.check_pending(argument.value)
            return argument
        if declared.takes_class:
            return self.given_class(declared, value, env)
        argument = self.elaborator.measuring(value, env) if value.tensors else self.elaborator.argument(value, env)
        if isinstance(argument.value, Factory):
            self.diagnostics.error(
                "NS103",
                f"`{declared.name}` takes {describe(declared)}, and got a layer",
                value.span,
                help="only what a plugin hints as `nn.Module`, or as a class of modules, takes a layer"
                if declared.kind.startswith("any")
                else None,
            )
            raise Poisoned
        if declared.takes_function and isinstance(argument.value, str):
            self.check_function(declared, value, argument.value)
        return argument

    def check_pending(self, pending: Pending) -> None:
        """What can be said of the arguments of a layer whose input is not known yet."""
        layer = pending.layer
        target = self.elaborator.target(layer.type, pending.env) if layer.type is not None else None
        if target is FAILED:
            raise Poisoned
        if isinstance(target, Entry):
            self.entry_arguments(target, layer, pending.env)
        elif isinstance(target, Block):
            self.block_arguments(target, layer, pending.env)

    def entry_inputs(self, entry: Entry, layer: Layer, refs: Refs, name: str) -> dict[str, Ref | tuple[Ref, ...]]:
        ports = entry.inputs
        refuse_text(refs.values() if isinstance(refs, dict) else refs, f"`{entry.name}`", layer.span, self.diagnostics)
        if not isinstance(refs, dict) and not (len(ports) == 1 and ports[0].variadic):
            refs = spread(refs)
        if isinstance(refs, dict):
            unknown = [port for port in refs if all(port != p.name for p in ports)]
            for port in unknown:
                near = closest(port, [p.name for p in ports])
                self.diagnostics.error(
                    "NS307",
                    f"`{entry.name}` has no input `{port}`",
                    layer.input_spans.get(port, layer.span),
                    help=f"did you mean `{near}`?" if near else f"it takes {_words([p.name for p in ports])}",
                )
            missing = [p.name for p in ports if not p.optional and p.name not in refs]
            if missing and not unknown:
                self.diagnostics.error(
                    "NS307",
                    f"`{name}`: `{entry.name}` also needs {_words(missing)}",
                    layer.span,
                    help=f"add {', '.join(f'`{port}: …`' for port in missing)} under `from`",
                )
            if missing or unknown:
                raise Poisoned
            variadic = {port.name for port in ports if port.variadic}
            return {port: (ref,) if port in variadic else ref for port, ref in refs.items()}
        if len(ports) == 1 and ports[0].variadic:
            return {ports[0].name: refs}
        needed = facts(entry).needed
        if not needed <= len(refs) <= len(ports):
            many = f"{needed}" if needed == len(ports) else f"{needed} to {len(ports)}"
            self.diagnostics.error(
                "NS307",
                f"`{name}`: `{entry.name}` takes {many} input{'s' if many != '1' else ''}, and gets {len(refs)}",
                layer.span,
                labels=[label for ref in refs for label in self.labels(ref)],
                help=f"name them in `from`, in this order: {_words([p.name for p in ports])}"
                if len(refs) < needed
                else "name one tensor in `from`; `cat` joins several"
                if len(ports) == 1
                else f"name only these in `from`: {_words([p.name for p in ports])}",
            )
            raise Poisoned
        return {port.name: ref for port, ref in zip(ports, refs, strict=False)}

    def infer(
        self,
        entry: Entry,
        layer: Layer,
        stated: dict[str, Any],
        ports: Mapping[str, Ref | tuple[Ref, ...]],
        name: str,
        mask: Ref | None = None,
    ) -> Inferred:
        assert entry.rule is not None, f"{entry.name} has no shape rule"
        given = {p: tuple(r.type for r in r_) if isinstance(r_, tuple) else r_.type for p, r_ in ports.items()}
        if mask is not None:
            given = {**self.of_rows(layer, ports, mask, name)}
        if entry.category == "loss" and (guessed := self.of_unknown(entry, stated, given)) is not None:
            return guessed
        answer = entry.rule({**facts(entry).defaults, **stated}, given)
        if isinstance(answer, Inferred):
            return answer
        span = layer.span
        if answer.argument in layer.arguments:
            span = layer.arguments[answer.argument].span
        elif isinstance(layer.inputs, tuple) and layer.inputs:
            span = layer.inputs[0].span if len(layer.inputs) == 1 else layer.span
        self.diagnostics.error(
            answer.code,
            f"`{self.name_of(layer, name)}`: {answer.message}",
            span,
            labels=self.input_labels(ports, answer),
            help=answer.help,
        )
        raise Poisoned

    # A module that exists already

    def reuse(
        self, layer: Layer, frame: Frame, env: Mapping[str, Any], refs: Refs, name: str
    ) -> tuple[Reuse, dict[str, TypeLike]]:
        assert layer.use is not None
        text = str(self.elaborator.argument(layer.use, env).value)
        target = frame.modules.get(text)
        if target is None:
            if text in frame.names and frame.names[text] is None:
                raise Poisoned
            near = closest(text, frame.modules)
            other = frame.names.get(text)
            what = "is not a module" if other is not None else "is no layer of these"
            self.diagnostics.error(
                "NS309",
                f"`use: {text}`: `{text}` {what}",
                layer.use.span,
                help=f"did you mean `{near}`?" if near else "`use` names a module of the same `layers`",
            )
            raise Poisoned
        return self.reuse_of(target, layer, frame, refs, name)

    def reuse_of(
        self, target: Node, layer: Layer, frame: Frame, refs: Refs, name: str
    ) -> tuple[Reuse, dict[str, TypeLike]]:
        op = target.op
        if not layer.grad and not self.elaborator.objective:
            self.diagnostics.error(
                "NS346",
                f"`{name}`: `grad: false` is for `use` in `train.layers`",
                layer.span,
                help="in a model the function `detach` cuts a tensor off from the gradient",
            )
            raise Poisoned
        if isinstance(op, Apply) and not op.instance.group:
            refs = as_inputs(op.instance, refs)
        self.known(refs, layer, name)
        if isinstance(op, Call):
            ports = self.entry_inputs(op.entry, layer, refs, name)
            if op.whole is not None:
                return Reuse(target, ports), self.model_again(op, layer, ports, name)
            arguments = self.with_modules(op.entry, op.arguments, ports, layer)
            self.same_modules(op, arguments, target, layer, name)
            stated = {k: a.value for k, a in arguments.items() if not a.inferred}
            inferred = self.infer(op.entry, layer, stated, ports, name)
            for argument, size in (inferred.arguments or {}).items():
                if op.arguments[argument].value != size:
                    self.misfit(target, layer, argument, op.arguments[argument].value, size, name)
            return Reuse(target, ports), dict(inferred.outputs)
        if isinstance(op, Apply) and not op.instance.group:
            block_ports = self.block_inputs(op.instance.block, layer, refs, name)
            given_types = {port: untraced_type(ref.type) for port, ref in block_ports.items()}
            values = {param: untraced(op.instance.scope[param]) for param in op.instance.block.params}
            instance = self.elaborator.instantiate(
                op.instance.block,
                values,
                given_types,
                layer.span,
                lambda port: self.labels(block_ports[port]),
            )
            if instance.failed:
                raise Poisoned
            if instance is not op.instance:
                for (path, first), (_, second) in zip(weights(op.instance), weights(instance), strict=True):
                    if first != second:
                        self.misfit(target, layer, path, first, second, name)
            first, again = ([ref.type for ref in ports.values()] for ports in (op.inputs, block_ports))
            if not target.layer.each and _traced(first) == _traced(again):
                return Reuse(target, dict(block_ports)), dict(target.types)  # with the expressions of their sizes
            return Reuse(target, dict(block_ports)), {o: untraced_type(r.type) for o, r in instance.outputs.items()}
        if target.chosen_by is not None or target.dissolved:
            self.diagnostics.error(
                "NS309",
                f"`{name}` uses `{target.name}`, which is a list of modules and no module that can be applied",
                layer.span,
                labels=[Label(target.layer.span, "made here")],
                help="write it as a block, and `use` the layer that is this block",
            )
            raise Poisoned
        only = self.only(layer, refs)
        if untraced_type(only.type) != untraced_type(next(iter(target.inputs)).type):
            self.misfit(target, layer, "the input", next(iter(target.inputs)).type, only.type, name)
        return Reuse(target, {"x": only}), dict(target.types)

    def same_modules(self, op: Call, again: Mapping[str, Argument], target: Node, layer: Layer, name: str) -> None:
        """Refuse another use of a module whose own modules would have other weights there."""
        for argument, first, second in differing(op.arguments, again):
            self.misfit(target, layer, argument, first, second, name)

    def misfit(self, target: Node, layer: Layer, what: str, first: Any, second: Any, name: str) -> None:
        self.diagnostics.error(
            "NS413",
            f"`{name}` uses `{target.name}` on an input that it was not made for: "
            f"{what} is {untraced(first)} there and would be {untraced(second)} here",
            layer.span,
            labels=[Label(target.layer.span, "made here")],
            help="weights can be shared only where their shapes are the same",
        )
        raise Poisoned

    # Arithmetic

    def arithmetic(
        self, layer: Layer, frame: Frame, env: Mapping[str, Any], name: str
    ) -> tuple[Arithmetic, dict[str, TypeLike]]:
        assert layer.compute is not None
        scalar = layer.compute.scalar or Scalar(value=None, span=layer.compute.span)
        value = layer.compute
        named = {tensor: tensor for tensor in tensors(value.expr)}
        found = self.elaborator.all_of(named, lambda tensor: self.tensor(tensor, value, frame, env))
        types: dict[Tensor, TensorType] = {}
        refuse_text([ref for _, ref in found.values()], "arithmetic", layer.compute.span, self.diagnostics)
        for tensor, (text, ref) in found.items():
            if isinstance(ref.type, ListType):
                self.diagnostics.error(
                    "NS405",
                    f"`{text}` is a list of tensors, and arithmetic takes tensors",
                    name_span(layer.compute, text),
                    labels=self.labels(ref),
                    help=f"name one of them, as in `{text}.0`",
                )
                raise Poisoned
            types[tensor] = ref.type
        if any(type_ == UNKNOWN for type_ in types.values()):
            return Arithmetic(value.expr, {text: ref for text, ref in found.values()}), {"": UNKNOWN}
        try:
            result = type_of(layer.compute.expr, types, env)
        except Refused as refused:
            labels = [label for _, ref in found.values() for label in self.labels(ref)]
            self.diagnostics.error(
                refused.problem.code,
                f"`{name}`: {refused.problem.message}",
                layer.compute.span,
                labels=list(dict.fromkeys(labels)),
                help=refused.problem.help,
            )
            raise Poisoned from None
        except ExpressionError as error:
            report(error, scalar, self.diagnostics)
            raise Poisoned from None
        if not isinstance(result, TensorType):
            self.no_tensor(name, layer)
            raise Poisoned
        return Arithmetic(layer.compute.expr, {text: ref for text, ref in found.values()}), {"": result}

    def tensor(self, tensor: Tensor, value: Value, frame: Frame, env: Mapping[str, Any]) -> tuple[str, Ref]:
        try:
            text = tensor.name if isinstance(tensor.name, str) else str(evaluate(tensor.name, env))
        except ExpressionError as error:
            report(error, value.scalar or Scalar(value=None, span=value.span), self.diagnostics)
            raise Poisoned from None
        return text, self.elaborator.resolve_name(text, frame, lambda: name_span(value, text))

    def first_tensor(self, layer: Layer, frame: Frame, env: Mapping[str, Any]) -> Ref:
        """The tensor that passes where an arithmetic layer is left out: the first that it names."""
        assert layer.compute is not None
        named = tensors(layer.compute.expr)
        if not named:
            self.no_tensor(self.name_of(layer, ""), layer)
            raise Poisoned
        return self.tensor(named[0], layer.compute, frame, env)[1]

    def no_tensor(self, name: str, layer: Layer) -> None:
        """Report arithmetic that computes no tensor."""
        assert layer.compute is not None
        called = f"`{name}`" if name else "this `compute`"
        self.diagnostics.error(
            "NS320", f"{called} computes no tensor", layer.compute.span, help="name a layer or an input in it"
        )


def as_inputs(instance: Instance, refs: Refs) -> Refs:
    """References to fields of which nothing is known with the types of the inputs that take them."""
    named = refs if isinstance(refs, dict) else dict(zip(instance.inputs, refs, strict=False))
    found = {
        port: Ref(ref.node, ref.name, untraced_type(instance.inputs[port]))
        if ref.type == UNKNOWN and port in instance.inputs
        else ref
        for port, ref in named.items()
    }
    return found if isinstance(refs, dict) else (*found.values(), *refs[len(found) :])


@dataclass(frozen=True, slots=True)
class Facts:
    """What every call of an entry needs of its arguments."""

    arguments: dict[str, CatalogArgument]
    required: tuple[str, ...]
    defaults: dict[str, Any]
    needed: int
    """How many inputs it has to have."""


_facts: dict[int, tuple[Entry, Facts]] = {}


def facts(entry: Entry) -> Facts:
    """An entry's arguments by name, worked out once."""
    known = _facts.get(id(entry))
    if known is None:
        made = Facts(
            {a.name: a for a in entry.arguments},
            tuple(a.name for a in entry.arguments if a.required),
            {a.name: a.default for a in entry.arguments if not a.required and not a.inferred},
            sum(not port.optional for port in entry.inputs),
        )
        known = _facts[id(entry)] = (entry, made)
    return known[1]


def differing(
    arguments: Mapping[str, Argument], others: Mapping[str, Argument]
) -> Iterator[tuple[str, tuple[int, ...], tuple[int, ...]]]:
    """The weights inside of modules among the arguments that have another shape elsewhere."""
    for name, argument in arguments.items():
        other = others[name].value if name in others else None
        if isinstance(argument.value, GivenModule) and isinstance(other, GivenModule):
            for path, shape in argument.value.parameters.items():
                if (found := other.parameters.get(path)) is not None and found != shape:
                    yield f"{name}.{path}", shape, found


def _traced(types: list[TypeLike]) -> list[Any]:
    """What has to be the same for two uses of a module to give the same sizes, whatever the parameters are."""
    members = [one for type_ in types for one in (type_.members if isinstance(type_, ListType) else (type_,))]
    return [types, [[origin_of(size) for size in one.shape] for one in members]]


def _mend(value: Value, result: Any, entry: Entry) -> str:
    """The help for a value that an argument does not take."""
    if isinstance(result, float) and value.scalar is not None and "/" in value.scalar.text:
        return "`//` gives a whole number, and so do `int(…)` and `round(…)`"
    return f"see `netspec explain {entry.name}`"
