"""What a checked spec says about its models: blocks, layers, arguments, each with the place where it stands.

`models.read_spec` turns the composed document, whose structure the schema has approved, into frozen dataclasses.
Expressions are parsed here, once; nothing is evaluated.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal as OneOf

from netspec.diagnostics import Diagnostics, Span
from netspec.document import Mapping, Node, Scalar, Sequence
from netspec.expressions import (
    Expr,
    ListExpr,
    Literal,
    Template,
    Tensor,
    free_names,
    parse_compute,
    parse_scalar,
    tensors,
)
from netspec.shapes import TEXT

_WHAT = ("type", "use", "compute", "layers", "branches", "select", "of", "replace")
_WHERE = ("from", "each", "if", "for", "repeat", "inline", "when")
_HOW = ("initialize", "freeze", "grad", "expect")
STEERING = frozenset((*_WHAT, *_WHERE, *_HOW))
"""The keys of a layer that are not arguments of its type."""

TYPE_WORDS = frozenset({"int", "float", "bool", "str", "list", "layer", "block"})
"""What a parameter without a default may be declared as."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Value:
    """A value that a person wrote: an expression (or a literal), or a layer written as a mapping."""

    expr: Expr
    span: Span
    layer: Layer | None = None
    scalar: Scalar | None = None
    """The text itself where it is one scalar, so that a mistake in it can be shown at its column."""
    names: frozenset[str] = field(init=False)
    """The names of the scope that it reads."""
    tensors: tuple[Tensor, ...] = field(init=False)
    """The tensors that it names, as in `shape(x)`."""

    def __post_init__(self) -> None:
        literal = isinstance(self.expr, Literal)
        object.__setattr__(self, "names", frozenset() if literal else free_names(self.expr))
        object.__setattr__(self, "tensors", () if literal else tensors(self.expr))

    @property
    def literal(self) -> bool:
        return isinstance(self.expr, Literal)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Dim:
    """One size of an input's pattern: a number or `$value`, a name, a multiple (`16*h`), `_`, or `...`."""

    kind: OneOf["value", "symbol", "multiple", "any", "rest"]
    span: Span
    expr: Expr | None = None
    symbol: str = ""
    factor: int = 1


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Input:
    """A tensor that a block takes, or a list of them: its name, the pattern of its shape (None: any), its dtype."""

    name: str
    span: Span
    shape: tuple[Dim, ...] | None = None
    dtype: str = ""
    listed: bool = False
    """Whether it is a list: of any number, each of that shape, or with the shapes of `items`."""
    items: tuple[tuple[Dim, ...], ...] | None = None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Param:
    """A block's parameter: a type word, or a default."""

    name: str
    span: Span
    word: str = ""
    default: Value | None = None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Rule:
    """An initialisation rule: which modules (types or globs over paths), and how each parameter of theirs starts."""

    match: tuple[str, ...]
    match_spans: dict[str, Span] = field(default_factory=dict)
    values: dict[str, Value]
    value_spans: dict[str, Span] = field(default_factory=dict)
    """Where the names of the parameters stand."""
    span: Span


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Loop:
    """`for`: names that advance together over what each expression gives; `repeat` has no name."""

    names: tuple[str, ...]
    values: tuple[Value, ...]
    span: Span

    @property
    def computed(self) -> bool:
        """Whether parameters decide how many copies there are; else the number, or the list, stands here."""
        return all(value.names for value in self.values)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Layer:
    """One entry of `layers`, as written: a copy is made of it for each step of its loop."""

    name: Expr | None
    """The key in a mapping, maybe with `$` in it; None in a list."""
    span: Span
    extent: Span | None = None
    """All that it is written on, where `span` is its name alone."""
    type: Value | None = None
    inputs: tuple[Value, ...] | dict[str, Value] | None = None
    each: bool = False
    """Whether the one input is a list, and the layer is applied to every tensor in it."""
    input_spans: dict[str, Span] = field(default_factory=dict)
    """Where the names of inputs stand, if `from` is a mapping."""
    use: Value | None = None
    compute: Value | None = None
    body: Body | None = None
    condition: Value | None = None
    loop: Loop | None = None
    inline: bool = False
    arguments: dict[str, Value] = field(default_factory=dict)
    argument_spans: dict[str, Span] = field(default_factory=dict)
    initialize: tuple[Rule, ...] = ()
    freeze: bool = False
    grad: bool = True
    """Of `use`: whether a gradient flows back through what it applies."""
    when: str = ""
    """The mode in which it runs, "training" or "evaluation"; empty: both."""
    expect: tuple[Dim, ...] | None = None
    replace: dict[str, Layer] = field(default_factory=dict)
    """What takes the place of a library model's children, by path."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Body:
    """The entries of a `layers`: a list (children `0`, `1`, …) or a mapping (named children)."""

    kind: OneOf["list", "mapping"]
    layers: tuple[Layer, ...]
    span: Span
    parallel: bool = False
    """Whether all entries read the same input and none the one before: `branches`."""
    copies: bool = False
    """Whether it is the list of the copies that a loop under a name makes. These may be computations alone."""
    chosen_by: Value | None = None
    """The input whose text names the one entry that runs: `select`."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Tied:
    """`tie`: the parameter at `path` is the one at `source`."""

    path: str
    span: Span
    source: str
    source_span: Span


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Block:
    """A parametrised sub-graph; a model is one too."""

    name: str
    span: Span
    params: dict[str, Param]
    inputs: tuple[Input, ...]
    let: dict[str, Value]
    body: Body
    outputs: dict[str, Value] | None = None
    """By output name; a single unnamed output stands under the empty name. None: the last layer."""
    initialize: tuple[Rule, ...] = ()
    tie: tuple[Tied, ...] = ()
    """Of a model alone."""
    description: str = ""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Spec:
    """The model half of a document."""

    name: str
    description: str
    model: Block | None
    blocks: dict[str, Block]
    models: dict[str, Block] = field(default_factory=dict)
    """Several models by name, where the document states `models`."""


class Reader:
    """Reads nodes into dataclasses, and reports to `diagnostics`. `paths`: whether expressions may hold dotted paths of
    the document, as those of `train` may.
    """

    def __init__(self, diagnostics: Diagnostics, *, paths: bool = False) -> None:
        self.diagnostics = diagnostics
        self.paths = paths

    def value(self, node: Node) -> Value:
        if isinstance(node, Scalar):
            return Value(expr=parse_scalar(node, self.diagnostics, paths=self.paths), span=node.span, scalar=node)
        if isinstance(node, Sequence):
            items = [self.value(item) for item in node.items]
            return Value(expr=ListExpr(tuple(item.expr for item in items)), span=node.span)
        return Value(expr=Literal(None), span=node.span, layer=self.layer(None, node.span, node))

    def reference(self, node: Node) -> Value:
        return self.value(node)

    def dims(self, node: Node) -> tuple[Dim, ...]:
        assert isinstance(node, Sequence)
        return tuple(self.dim(item) for item in node.items)

    def dim(self, node: Node) -> Dim:
        assert isinstance(node, Scalar)
        text = node.value
        if isinstance(text, str) and "$" not in text:
            text = text.strip()
            if text == "_":
                return Dim(kind="any", span=node.span)
            if text == "...":
                return Dim(kind="rest", span=node.span)
            factor, star, symbol = text.partition("*")
            if star and _is_factor(factor.strip()) and _is_size_name(symbol.strip()):
                return Dim(kind="multiple", span=node.span, symbol=symbol.strip(), factor=int(factor))
            if _is_size_name(text):
                return Dim(kind="symbol", span=node.span, symbol=text)
            self.diagnostics.error(
                "NS301",
                f"`{text}` is not a size",
                node.span,
                help="a size is a number, a name (`N`), `$value`, a multiple (`16*h`), `_` or `...`",
            )
            return Dim(kind="any", span=node.span)
        return Dim(kind="value", span=node.span, expr=parse_scalar(node, self.diagnostics))

    def input(self, name: str, span: Span, node: Node) -> Input:
        if isinstance(node, Mapping):
            shape, dtype, listed = node.items.get("shape"), node.items.get("dtype"), node.items.get("list")
            items = None
            if isinstance(listed, Sequence) and any(isinstance(item, Sequence) for item in listed.items):
                items = tuple(self.dims(item) for item in listed.items)
            elif listed is not None:
                shape = listed
            if isinstance(dtype, Scalar) and dtype.value == TEXT and (shape is not None or items is not None):
                self.diagnostics.error(
                    "NS331",
                    f"`{name}` is a text, and a text has no shape",
                    dtype.span,
                    help="leave `shape` and `list` out, or give the tensor another dtype",
                )
            return Input(
                name=name,
                span=span,
                shape=self.dims(shape) if shape is not None else None,
                dtype=str(dtype.value) if isinstance(dtype, Scalar) else "",
                listed=listed is not None,
                items=items,
            )
        return Input(name=name, span=span, shape=self.dims(node))

    def rules(self, node: Node | None) -> tuple[Rule, ...]:
        """A list of rules, or on a single layer a mapping parameter → initializer."""
        if node is None:
            return ()
        if isinstance(node, Mapping) and "type" in node.items:
            return (Rule(match=(), values={"": self.value(node)}, span=node.span),)
        if isinstance(node, Mapping):
            return (Rule(match=(), values=self.initializers(node), value_spans=node.key_spans, span=node.span),)
        if not isinstance(node, Sequence):
            return (Rule(match=(), values={"": self.value(node)}, span=node.span),)
        rules = []
        for item in node.items:
            assert isinstance(item, Mapping)
            match = item.items["match"]
            patterns = match.items if isinstance(match, Sequence) else (match,)
            spans = {str(p.value): p.span for p in patterns if isinstance(p, Scalar)}
            rules.append(
                Rule(
                    match=tuple(spans),
                    match_spans=spans,
                    values=self.initializers(item),
                    value_spans=item.key_spans,
                    span=match.span,
                )
            )
        return tuple(rules)

    def initializers(self, node: Mapping) -> dict[str, Value]:
        return {key: self.value(value) for key, value in node.items.items() if key != "match"}

    def ties(self, node: Node | None) -> tuple[Tied, ...]:
        return tuple(
            Tied(path=path, span=node.key_spans[path], source=str(source.value), source_span=source.span)
            for path, source in (node.items.items() if isinstance(node, Mapping) else ())
            if isinstance(source, Scalar) and isinstance(node, Mapping)
        )

    def loop(self, node: Node) -> Loop:
        if isinstance(node, Mapping):
            return Loop(
                names=tuple(node.items), values=tuple(self.value(v) for v in node.items.values()), span=node.span
            )
        return Loop(names=(), values=(self.value(node),), span=node.span)

    def layer(self, name: Expr | None, span: Span, node: Node) -> Layer:
        if isinstance(node, Scalar):
            return Layer(name=name, span=span, extent=node.span, type=self.value(node))
        if isinstance(node, Sequence):
            return Layer(name=name, span=span, extent=node.span, body=self.body(node))
        assert isinstance(node, Mapping)
        items = node.items
        compute = items.get("compute")
        sources = items.get("from")
        loop = items.get("for", items.get("repeat"))
        inputs: tuple[Value, ...] | dict[str, Value] | None = None
        if isinstance(sources, Mapping):
            inputs = {key: self.reference(value) for key, value in sources.items.items()}
        elif isinstance(sources, Sequence):
            inputs = tuple(self.reference(value) for value in sources.items)
        elif sources is not None:
            inputs = (self.reference(sources),)
        elif "each" in items:
            inputs = (self.reference(items["each"]),)
        # A mistake in one layer leaves the others to be read: what stands here may be of a wrong form.
        held, branches = items.get("layers"), items.get("branches")
        body = self.body(held) if isinstance(held, Sequence | Mapping) else None
        if isinstance(branches, Sequence | Mapping):
            body = replace(self.body(branches), parallel=True)
        choice, members = items.get("select"), items.get("of")
        if isinstance(choice, Scalar) and isinstance(members, Mapping):
            body = replace(self.body(members), parallel=True, chosen_by=self.reference(choice))
        expect, replaced = items.get("expect"), items.get("replace")
        read = Layer(
            name=name,
            span=span,
            extent=node.span,
            type=self.value(items["type"]) if "type" in items else None,
            inputs=inputs,
            each="each" in items,
            input_spans=sources.key_spans if isinstance(sources, Mapping) else {},
            use=self.reference(items["use"]) if "use" in items else None,
            compute=Value(
                expr=parse_compute(compute, self.diagnostics, paths=self.paths), span=compute.span, scalar=compute
            )
            if isinstance(compute, Scalar)
            else None,
            body=body,
            condition=self.value(items["if"]) if "if" in items else None,
            loop=self.loop(loop) if loop is not None else None,
            inline=_flag(items.get("inline")),
            arguments={k: self.value(v) for k, v in items.items() if k not in STEERING},
            argument_spans={k: s for k, s in node.key_spans.items() if k not in STEERING},
            initialize=self.rules(items.get("initialize")),
            freeze=_flag(items.get("freeze")),
            grad="grad" not in items or _flag(items["grad"]),
            when=_word(items.get("when")),
            expect=self.dims(expect) if isinstance(expect, Sequence) else None,
            replace={k: self.layer(None, replaced.key_spans[k], v) for k, v in replaced.items.items()}
            if isinstance(replaced, Mapping)
            else {},
        )
        return _as_chain(read)

    def body(self, node: Node) -> Body:
        if isinstance(node, Sequence):
            return Body(
                kind="list", layers=tuple(self.layer(None, item.span, item) for item in node.items), span=node.span
            )
        assert isinstance(node, Mapping)
        layers = []
        for key, value in node.items.items():
            span = node.key_spans[key]
            name = parse_scalar(Scalar(value=key, span=span, text=key), self.diagnostics)
            layers.append(self.layer(name, span, value))
        return Body(kind="mapping", layers=tuple(layers), span=node.span)

    def param(self, name: str, span: Span, node: Node) -> Param:
        if isinstance(node, Scalar) and node.value in TYPE_WORDS and not node.quoted:
            return Param(name=name, span=span, word=str(node.value))
        return Param(name=name, span=span, default=self.value(node))

    def params(self, node: Node | None) -> dict[str, Param]:
        if not isinstance(node, Mapping):
            return {}
        return {name: self.param(name, node.key_spans[name], value) for name, value in node.items.items()}

    def block(self, name: str, span: Span, node: Mapping, params: Mapping | None = None) -> Block:
        items = node.items
        own = items.get("params")
        params = params if params is not None else own if isinstance(own, Mapping) else None
        inputs, let, outputs = items.get("inputs"), items.get("let"), items.get("outputs")
        read_outputs: dict[str, Value] | None = None
        if isinstance(outputs, Mapping):
            read_outputs = {key: self.reference(value) for key, value in outputs.items.items()}
        elif outputs is not None:
            read_outputs = {"": self.reference(outputs)}
        description = items.get("description")
        return Block(
            name=name,
            span=span,
            params=self.params(params),
            inputs=tuple(self.input(k, inputs.key_spans[k], v) for k, v in inputs.items.items())
            if isinstance(inputs, Mapping)
            else (),
            let={k: self.value(v) for k, v in let.items.items()} if isinstance(let, Mapping) else {},
            body=self.body(items["layers"]),
            outputs=read_outputs,
            initialize=self.rules(items.get("initialize")),
            tie=self.ties(items.get("tie")),
            description=str(description.value) if isinstance(description, Scalar) else "",
        )


def _as_chain(layer: Layer) -> Layer:
    """`h: {for: …, type: Block}` is a chain named `h`: a list whose only entry is the loop."""
    if layer.loop is None or layer.name is None or layer.inline or free_names(layer.name) & set(layer.loop.names):
        return layer
    entry = replace(layer, name=None)
    return Layer(
        name=layer.name,
        span=layer.span,
        extent=layer.extent,
        body=Body(kind="list", layers=(entry,), span=layer.span, copies=True),
    )


def _is_size_name(text: str) -> bool:
    """Whether a size may be called so: a module's own code means itself by `self`."""
    return text.isidentifier() and text != "self"


def _is_factor(text: str) -> bool:
    """Whether a text is an integer from 1, of a length that a size can have."""
    return text.isdecimal() and len(text) < 19 and int(text) > 0


def _word(node: Node | None) -> str:
    return str(node.value) if isinstance(node, Scalar) else ""


def _flag(node: Node | None) -> bool:
    return isinstance(node, Scalar) and node.value is True


def text_of(expr: Expr | None) -> str:
    """A name without `$`, or the template as the spec's text shows it, for messages."""
    if isinstance(expr, Literal):
        return str(expr.value)
    if isinstance(expr, Template):
        return "".join(part if isinstance(part, str) else "$(…)" for part in expr.parts)
    return "$…"


def literal_names(layer: Layer) -> list[str]:
    """The names that an entry gives to its body, those without `$`."""
    names = []
    if isinstance(layer.name, Literal):
        names.append(str(layer.name.value))
    if layer.inline and layer.body is not None:
        for inner in layer.body.layers:
            names += literal_names(inner)
    return names


def names_in(body: Body) -> set[str]:
    """The names of a body's own layers, those without `$`."""
    return {name for layer in body.layers for name in literal_names(layer)}
