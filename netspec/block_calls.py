"""A block as a layer: its arguments, its inputs, and its sizes in the names of its caller."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from netspec.catalog.entry import TypeLike
from netspec.diagnostics import Label
from netspec.expressions import Literal
from netspec.frame import Poisoned
from netspec.mistakes import got
from netspec.origins import Names, Opaque, Origin, Traced, origin_of, reach, rename, untraced
from netspec.patterns import size_name
from netspec.program import Apply, Argument, Instance, Ref
from netspec.shapes import Dim, ListType, TensorType
from netspec.spec import Block, Layer, Value
from netspec.suggest import suggest as closest

if TYPE_CHECKING:
    from netspec.elaborate import Elaborator

from netspec.call_parts import CallParts, Refs, _words, spread, translate_type, untraced_type


def renamed(inside: Any, let: Value, names: Mapping[str, Origin | Traced]) -> Origin | Traced:
    """A `let` of a block in its caller's names, put together only when somebody asks."""
    if not isinstance(inside, int) or isinstance(inside, bool):
        return rename(let.expr, names)
    outer = reach(let.names, names)
    known = dict(names)
    return Traced(int(inside), (rename, let.expr, known), outer) if outer else Literal(int(inside))


def _origin(argument: Argument) -> Origin:
    if isinstance(argument.origin, Literal | Opaque) and isinstance(argument.value, int):
        return origin_of(argument.value)
    return argument.origin


def _default_origin(argument: Argument, names: Mapping[str, Origin | Traced]) -> Origin:
    return rename(argument.origin, names)


_ARTICLE = {
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "str": "a string",
    "list": "a list",
}


class BlockCaller(CallParts):
    """Makes the operation of a node that is a block."""

    def __init__(self, elaborator: Elaborator) -> None:
        super().__init__(elaborator)
        self.checked: dict[int, Block] = {}
        """The blocks whose defaults have been looked at."""

    def apply(
        self, block: Block, layer: Layer, preset: Mapping[str, Argument], env: Mapping[str, Any], refs: Refs, name: str
    ) -> tuple[Apply, dict[str, TypeLike]]:
        stated = {**preset, **self.block_arguments(block, layer, env)}
        ports = self.block_inputs(block, layer, refs, name)
        self.check_defaults(block)
        values: dict[str, Any] = {}
        names = Names()
        for param in block.params.values():
            if param.name in stated:
                argument = stated[param.name]
            elif param.default is not None:
                argument = self.elaborator.argument(param.default, values)
            else:
                self.diagnostics.error(
                    "NS107",
                    f"`{name}`: block `{block.name}` needs `{param.name}`",
                    layer.span,
                    labels=[Label(param.span, "declared here, without a default")],
                    help=f"add `{param.name}: …`",
                )
                raise Poisoned
            self.check_word(param.word, param.name, argument.value, layer, block)
            values[param.name] = argument.value
            names[param.name] = _origin(argument) if param.name in stated else _default_origin(argument, names)
        given = {port: ref.type for port, ref in ports.items()}
        instance = self.elaborator.instantiate(
            block,
            {k: untraced(v) for k, v in values.items()},
            {p: untraced_type(t) for p, t in given.items()},
            layer.span,
            lambda port: self.labels(ports[port]),
        )
        if instance.failed:
            raise Poisoned
        self.name_sizes(instance, given, names)
        for let, value in block.let.items():
            names[let] = renamed(instance.scope[let], value, names)
        types = {output: translate_type(ref.type, names) for output, ref in instance.outputs.items()}
        return Apply(instance, stated, ports), types

    def check_defaults(self, block: Block) -> None:
        """Work out the defaults that depend on nothing, or on what is not there, once: every use may state its own."""
        if id(block) in self.checked:
            return
        self.checked[id(block)] = block
        before: dict[str, Any] = {}
        for param in block.params.values():
            default = param.default
            if default is not None and default.layer is None and (not default.names or default.names - before.keys()):
                self.elaborator.argument(default, before)
            before[param.name] = 1

    def name_sizes(self, instance: Instance, given: Mapping[str, TypeLike], names: dict[str, Origin | Traced]) -> None:
        """What the sizes bound by the block's inputs are in the caller's scope."""
        for port, inside in instance.inputs.items():
            outside = given[port]
            if isinstance(inside, ListType) and isinstance(outside, ListType):
                for i, (one, other) in enumerate(zip(inside.members, outside.members, strict=True)):
                    self.name_sizes_of(f"{port}.{i}", one, other, names)
            if not isinstance(inside, TensorType) or not isinstance(outside, TensorType):
                continue
            self.name_sizes_of(port, inside, outside, names)

    def name_sizes_of(
        self, port: str, inside: TensorType, outside: TensorType, names: dict[str, Origin | Traced]
    ) -> None:
        for axis, (bound, size) in enumerate(zip(inside.shape, outside.shape, strict=True)):
            if not isinstance(bound, int):
                continue
            origin = origin_of(bound)
            for name in (getattr(origin, "id", None), size_name(port, axis)):
                if name is not None and name not in names:
                    names[name] = size if isinstance(size, Traced) else Literal(size)

    def block_arguments(self, block: Block, layer: Layer, env: Mapping[str, Any]) -> dict[str, Argument]:
        stated: dict[str, Argument] = {}
        failed = False
        for name, value in layer.arguments.items():
            if name not in block.params:
                near = closest(name, block.params)
                self.diagnostics.error(
                    "NS106",
                    f"block `{block.name}` has no parameter `{name}`",
                    layer.argument_spans.get(name, value.span),
                    labels=[Label(block.span, "defined here")],
                    help=f"did you mean `{near}`?"
                    if near
                    else f"it has {_words(list(block.params))}"
                    if block.params
                    else "it has none: declare it under the block's `params`",
                )
                failed = True
                continue
            try:
                stated[name] = self.stated(name, value, env)
            except Poisoned:
                failed = True
        if failed:
            raise Poisoned
        return stated

    def stated(self, name: str, value: Value, env: Mapping[str, Any]) -> Argument:
        if not value.tensors:
            return self.elaborator.argument(value, env)
        argument = self.elaborator.measuring(value, env)
        given = argument.value if isinstance(argument.value, list) else [argument.value]
        unknown = next((size for size in given if isinstance(size, Dim)), None)
        if unknown is None:
            return Argument(argument.value, origin_of(argument.value), measured=True)
        self.diagnostics.error(
            "NS407",
            f"`{name}` has to be known when the model is built, and the size {unknown} is not",
            value.span,
            help="give the input that size as a number, or let the block read it from a tensor among its inputs",
        )
        raise Poisoned

    def check_word(self, word: str, name: str, value: Any, layer: Layer, block: Block) -> None:
        kinds: dict[str, Any] = {"int": int, "float": (int, float), "bool": bool, "str": str, "list": list}
        if word not in kinds:
            return
        fits = isinstance(value, kinds[word]) and (word == "bool" or not isinstance(value, bool))
        if not fits:
            span = layer.arguments[name].span if name in layer.arguments else layer.span
            self.diagnostics.error(
                "NS103",
                f"`{name}` of block `{block.name}` takes {_ARTICLE[word]}, and got {got(value)}",
                span,
                labels=[Label(block.params[name].span, f"declared as {word} here")],
                help=f"give it {_ARTICLE[word]}, or declare `{name}` as something else",
            )
            raise Poisoned

    def block_inputs(self, block: Block, layer: Layer, refs: Refs, name: str) -> dict[str, Ref]:
        ports = [pattern.name for pattern in block.inputs] or ["x"]
        if isinstance(refs, dict):
            given = dict(refs)
        else:
            refs = spread(refs) if len(refs) < len(ports) else refs
            if len(refs) > len(ports):
                self.diagnostics.error(
                    "NS307",
                    f"`{name}`: block `{block.name}` takes {len(ports)} input{'s' if len(ports) > 1 else ''} "
                    f"({_words(ports)}), and gets {len(refs)}",
                    layer.span,
                    labels=[Label(block.span, "defined here")],
                    help="a block takes what stands under its `inputs`; one without them takes a single tensor `x`",
                )
                raise Poisoned
            given = dict(zip(ports, refs, strict=False))
        missing = [port for port in ports if port not in given]
        unknown = [port for port in given if port not in ports]
        for port in unknown:
            near = closest(port, missing)
            self.diagnostics.error(
                "NS307",
                f"block `{block.name}` has no input `{port}`",
                layer.input_spans.get(port, layer.span),
                labels=[Label(block.span, "defined here")],
                help=f"did you mean `{near}`?" if near else f"it takes {_words(ports)}",
            )
        if unknown:
            raise Poisoned
        if missing:
            self.diagnostics.error(
                "NS307",
                f"`{name}`: block `{block.name}` also needs {_words(missing)}",
                layer.span,
                labels=[Label(block.span, "defined here")],
                help=f"it takes {_words(ports)}: name each in `from`",
            )
            raise Poisoned
        return {port: given[port] for port in ports}

    def only(self, layer: Layer, refs: Refs) -> Ref:
        """The one tensor that a group takes."""
        if isinstance(refs, tuple) and len(refs) == 1:
            return refs[0]
        self.diagnostics.error(
            "NS307",
            f"a group of layers takes one tensor by `from`, and gets {len(refs)}"
            if isinstance(refs, tuple)
            else "a group of layers takes one tensor by `from`, and no names for it",
            layer.span,
            help="its layers may read whatever stands around the group by its name",
        )
        raise Poisoned
