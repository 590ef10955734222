"""The compiled spec: every block once as it was written, and every use of it with its values and shapes.

A `Program` is what both doors read: `runtime.modules` makes live modules from it, `codegen` writes Python. It keeps
`spec.Block` and `spec.Layer` (the definition, with its expressions) beside `Instance` and `Node` (a use of it, with
numbers), because what was flattened can't be written well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from netspec.catalog.entry import Entry, GivenModule, TypeLike
from netspec.diagnostics import Diagnostic, Span
from netspec.expressions import Expr
from netspec.origins import Origin, origin_of
from netspec.shapes import Size
from netspec.spec import Block, Body, Layer, Spec

if TYPE_CHECKING:
    import networkx as nx
    import torch

    from netspec.document import Mapping as MappingNode
    from netspec.graph import LayerGraph


@dataclass(slots=True, eq=False)
class Ref:
    """A tensor inside an instance: an input of it by name (`node` is None), or a node's output by port."""

    node: Node | None
    name: str
    """The input's name, or the port (empty for a node's only or first output)."""
    type: TypeLike
    """As the reader sees it: inside a loop the sizes carried from copy to copy bear the loop's own names."""
    parts: tuple[Ref, ...] = ()
    """What `x.*` names one by one, where that is known: for what takes several inputs and no list."""


@dataclass(slots=True, eq=False)
class Argument:
    """A value with where it came from: the expression as written, or the origin of an inferred size."""

    value: Any
    origin: Origin
    inferred: bool = False
    measured: bool = False
    """Whether it reads the sizes of tensors, as `shape(x)` does."""
    pending: Pending | None = None
    """For a module: the layer that it was made of, so that it can be asked for another input."""


@dataclass(frozen=True, slots=True, eq=False)
class Factory:
    """A layer as a value: a catalog entry or a block, with the arguments stated where it was written."""

    target: Entry | Block
    arguments: Mapping[str, Argument]


@dataclass(frozen=True, slots=True, eq=False)
class Pending:
    """A layer that stands as an argument, before it is known what it gets."""

    layer: Layer
    env: Mapping[str, Any]
    factory: Factory | None = None
    """Where it comes as a value, and not as written here."""


@dataclass(slots=True, eq=False)
class Whole:
    """What is known of a library's model that is used whole."""

    replaced: dict[str, Node] = field(default_factory=dict)
    """The layers that take the place of its children, by path, in the order of the spec."""
    parameters: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """The shapes of its weights by name, those of the replacements among them."""
    modules: Sequence[tuple[str, tuple[str, ...]]] = ()
    """The modules in it: each path with the dotted names of its classes."""
    flops: Size | None = None


@dataclass(slots=True, eq=False)
class Call:
    """A catalog module or function, with the arguments that are stated or inferred (defaults are left out)."""

    entry: Entry
    arguments: dict[str, Argument]
    inputs: dict[str, Ref | tuple[Ref, ...]]
    body: Instance | None = None
    """The layers that compute a `Buffer`, once, when the module is made."""
    whole: Whole | None = None
    """For a library's model."""
    mask: Ref | None = None
    """For a loss of an objective: the rows that count."""

    @property
    def passes_arguments(self) -> bool:
        """Whether its module's `forward` is given more than tensors."""
        return any(declared.call and declared.name in self.arguments for declared in self.entry.arguments)

    @property
    def returned(self) -> tuple[str | tuple[str, ...], ...]:
        """How the ports stand in what it gives, where that is a tuple."""
        return self.entry.returned({name: argument.value for name, argument in self.arguments.items()})


@dataclass(slots=True, eq=False)
class Apply:
    """A block, or a group of layers, with the arguments that its use states."""

    instance: Instance
    arguments: dict[str, Argument]
    inputs: dict[str, Ref]
    others: tuple[Instance, ...] = ()
    """The same module as it is for each of the other tensors, where it is applied to every one of a list."""


@dataclass(slots=True, eq=False)
class Arithmetic:
    """`compute`: an expression whose `Tensor` leaves are the references."""

    expr: Expr
    inputs: dict[str, Ref]


@dataclass(slots=True, eq=False)
class Reuse:
    """A module that exists already, applied again."""

    target: Node
    inputs: dict[str, Ref | tuple[Ref, ...]]


@dataclass(slots=True, eq=False)
class Skip:
    """A layer whose `if` does not hold: an `nn.Identity` where a module would stand, nothing where a function would."""

    inputs: dict[str, Ref]


@dataclass(slots=True, eq=False)
class Gather:
    """Tensors put into one list: `[a, b]` where a list is wanted, or all members of a chain, `downs.*`."""

    inputs: dict[str, Ref]


Op = Call | Apply | Arithmetic | Reuse | Skip | Gather


@dataclass(slots=True, eq=False)
class Node:
    """One layer of an instance: a copy of a `spec.Layer` with its values."""

    layer: Layer
    name: str
    """What references call it; in a list, its index."""
    key: str | None
    """The attribute or child name of its module; None where it has none."""
    env: Mapping[str, Any]
    """Every name that its expressions may use, with its value in this copy."""
    op: Op
    types: dict[str, TypeLike]
    """What it gives, by port; the first is the default."""
    loops: tuple[tuple[Layer, int], ...] = ()
    """The inline loops that it stands in, outermost first, each with the copy's number."""
    measured: dict[str, Ref] = field(default_factory=dict)
    """The tensors whose sizes its arguments read when it runs, by their references."""
    each: Ref | None = None
    """The list whose every tensor it is applied to. What `op` says is said of the first of them then."""
    chosen_by: Ref | None = None
    """The text that names, at run time, the one of its modules that is applied: `select`."""
    other: Node | None = None
    """Of what the sizes of an input leave out: what runs in its place where they are others."""

    @property
    def type(self) -> TypeLike:
        return next(iter(self.types.values()))

    @property
    def dissolved(self) -> bool:
        """Whether it is a group whose layers the body around it runs itself: one without modules, or a ModuleList
        or ModuleDict.
        """
        if self.chosen_by is not None or not isinstance(self.op, Apply):
            return False
        return self.key is None or bool(self.op.instance.container)

    @property
    def is_weight(self) -> bool:
        """Whether it is a tensor of the module's own: a `Parameter` or a `Buffer`."""
        return isinstance(self.op, Call) and self.op.entry.category == "weight"

    @property
    def inputs(self) -> Iterator[Ref]:
        for ref in self.op.inputs.values():
            if isinstance(ref, tuple):
                yield from ref
            else:
                yield ref
        yield from self.measured.values()
        if isinstance(self.op, Call) and self.op.mask is not None:
            yield self.op.mask
        if self.chosen_by is not None:
            yield self.chosen_by


class Carry:
    """A size that a rolled loop hands from copy to copy: what it is before the loop and after each copy.

    `update` is None where the copies leave it as it is, and an `Opaque` where no one expression holds for all of them.
    It is worked out when somebody asks: most sizes appear in no constructor.
    """

    def __init__(self, size: int, update: Callable[[], Origin | None]) -> None:
        self.size = size
        self._update = update
        self.after: int | None = None
        """The size after the last copy, where it is a number."""

    @property
    def before(self) -> Origin:
        return origin_of(self.size)

    @cached_property
    def update(self) -> Origin | None:
        return self._update()

    @property
    def value(self) -> int:
        """The size before the loop."""
        return int(self.size)


@dataclass(slots=True, eq=False)
class Loop:
    """What one run of a rolled loop did: how many copies it made, and the sizes that it carries."""

    layer: Layer
    env: Mapping[str, Any]
    """The scope in which the loop's own expressions were evaluated."""
    values: tuple[dict[str, Any], ...]
    """The loop's names in each copy."""
    carried: dict[str, Carry] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Tie:
    """Two parameters that are one: the one at `path` is the one at `source`."""

    path: tuple[str, ...]
    """The names of the layers on the way and of the parameter."""
    source: tuple[str, ...]
    span: Span


@dataclass(slots=True, eq=False)
class Instance:
    """One use of a block (or of a group of layers): its values, its input types, its layers."""

    block: Block
    group: bool
    """A group shares the scope of the block in which it stands; a block has its own."""
    scope: dict[str, Any]
    inputs: dict[str, TypeLike]
    nodes: list[Node] = field(default_factory=list)
    """In the order of registration, which is the file's."""
    order: list[Node] = field(default_factory=list)
    """In the order of execution."""
    outputs: dict[str, Ref] = field(default_factory=dict)
    loops: list[Loop] = field(default_factory=list)
    failed: bool = False
    total: int = 0
    """How many layers it holds, in whatever depth."""
    members: set[str] = field(default_factory=set)
    """The children of a group whose own outputs are read from outside it (`downs.2`)."""
    joined: dict[int, list[Body]] = field(default_factory=dict)
    """The layers of blocks that joined this body (`inline`), by the `id` of the layer that uses the block."""
    ties: tuple[Tie, ...] = ()
    """Of a model: its parameters that are one. They are tied when it is made, before its rules of `initialize` run."""

    @property
    def children(self) -> dict[str, Node]:
        return {node.key: node for node in self.nodes if node.key is not None}

    @property
    def has_modules(self) -> bool:
        return any(node.key is not None or node.is_weight for node in self.nodes)

    @property
    def sequential(self) -> bool:
        """Whether it is an `nn.Sequential` of its children."""
        return not self.members and not self.parallel and self.is_chain

    @property
    def parallel(self) -> bool:
        """Whether its layers are branches: it gives what each of them gives."""
        return self.group and self.block.body.parallel

    @property
    def container(self) -> str:
        """`ModuleList` or `ModuleDict` where the body around it calls its members one by one, else nothing."""
        if self.parallel and not self.nodes and self.block.body.kind == "list":
            return "ModuleList"  # of no branch at all
        if not self.group or not self.has_modules or self.sequential:
            return ""
        if self.block.body.kind == "list":
            return "ModuleList"
        return "ModuleDict" if self.parallel else ""

    @property
    def by_name(self) -> dict[str, Node]:
        """Its layers by their names, in a list by their positions."""
        return {node.name: node for node in self.nodes}

    @property
    def is_chain(self) -> bool:
        """Whether each child reads the one before and nothing else."""
        if len(self.inputs) != 1 or len(self.outputs) != 1 or not self.nodes:
            return self.block.body.kind == "list" and not self.nodes and len(self.inputs) == 1
        previous: Node | None = None
        if len(self.nodes) != len(self.order):
            return False
        for node, executed in zip(self.nodes, self.order, strict=True):
            if node is not executed or node.key is None or node.each is not None or isinstance(node.op, Reuse):
                return False
            if isinstance(node.op, Call) and (node.op.returned or node.op.passes_arguments):
                return False  # it gives a tuple, of which the next one reads a part, or takes more than a tensor
            if isinstance(node.op, Apply) and node.op.instance.container:
                return False
            refs = list(node.inputs)
            if len(refs) != 1 or refs[0].node is not previous or (previous is not None and refs[0].name):
                return False
            previous = node
        (output,) = self.outputs.values()
        return output.node is previous and not output.name


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Program:
    """A checked and shaped spec. `module()` and `source()` are the two doors; both give the same bits."""

    spec: Spec
    document: MappingNode
    """The resolved document."""
    file: str
    """The path as it was given."""
    model: Instance
    """The network. Of several `models` it is what holds them: each is one of its layers, and it runs none."""
    several: bool = False
    """Whether the document states `models`."""
    recipe: Any = None
    """What `data` and `train` say, or None."""
    warnings: tuple[Diagnostic, ...] = ()

    @property
    def name(self) -> str:
        return self.spec.name

    @cached_property
    def parts(self) -> dict[str, Program]:
        """The models by name, each as a program of its own; empty where there is but one."""
        found = {}
        for node in self.model.nodes if self.several else ():
            assert isinstance(node.op, Apply)
            found[node.name] = replace(self, model=node.op.instance, several=False, recipe=None, warnings=())
        return found

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the resolved document: comments and layout don't change it, a changed base does."""
        from hashlib import sha256

        from netspec.compose import document_text

        return sha256(document_text(self.document).encode()).hexdigest()

    @property
    def description(self) -> str:
        return self.spec.description

    @property
    def inputs(self) -> dict[str, TypeLike]:
        """The model's inputs by name."""
        return dict(self.model.inputs)

    @property
    def outputs(self) -> dict[str, TypeLike]:
        """The model's outputs by name; a single unnamed one under the name of the layer that gives it."""
        return {name or (ref.node.name if ref.node else ref.name): ref.type for name, ref in self.model.outputs.items()}

    @property
    def graph(self) -> nx.DiGraph[str]:
        """The layers and what flows between them, as a `networkx.DiGraph`."""
        return self.layer_graph().digraph

    def layer_graph(self) -> LayerGraph:
        from netspec.graph import LayerGraph

        return LayerGraph.of(self)

    @property
    def shapes(self) -> dict[str, TypeLike]:
        """The output type of every layer by its path."""
        return {path: node.type for path, node in walk(self.model)}

    def module(self, seed: int | None = None) -> torch.nn.Module:
        """The model as a live module; several in an `nn.ModuleDict`. With a seed the weights are drawn from it and
        the global random state is left alone.
        """
        from netspec.runtime.modules import build

        return build(self, seed)

    def source(self, name: str | None = None) -> str:
        """The model as Python source. `name` is the spec's path for the first line; default: the path as given."""
        from netspec.codegen import emit

        return emit(self, name)

    def __repr__(self) -> str:
        def types(named: dict[str, TypeLike]) -> str:
            return ", ".join(f"{name} {type_}" for name, type_ in named.items())

        return f"<Program {self.name}: {types(self.inputs)} → {types(self.outputs)}>"

    def _repr_html_(self) -> str:
        from netspec.table import layer_table_html

        return layer_table_html(self)


def walk(instance: Instance, prefix: str = "") -> Iterator[tuple[str, Node]]:
    """Every node below an instance with its dotted path, in the order of registration."""
    for node in instance.nodes:
        path = prefix + node.name
        yield path, node
        if isinstance(node.op, Apply):
            yield from walk(node.op.instance, path + ".")


def parameters(model: Instance) -> dict[str, tuple[Node, tuple[int, ...]]]:
    """The layer and the shape of each parameter by path, in torch's order of registration."""
    found: dict[str, tuple[Node, tuple[int, ...]]] = {}
    for path, node in walk(model):
        for name, shape in _own(node):
            found[f"{path}.{name}" if name else path] = node, shape
    return found


def _own(node: Node) -> Iterator[tuple[str, tuple[int, ...]]]:
    call = node.op
    if not isinstance(call, Call) or call.entry.parameters is None or not (node.is_weight or node.key is not None):
        return
    arguments: dict[str, Any] = {a.name: a.default for a in call.entry.arguments if not a.required}
    arguments |= {name: argument.value for name, argument in call.arguments.items()}
    for name, shape in call.entry.parameters(arguments).items():
        yield name, tuple(int(size) for size in shape)


def instances(instance: Instance) -> Iterator[Instance]:
    """This instance and all below it, each once, children first."""
    seen: set[int] = set()

    def visit(current: Instance) -> Iterator[Instance]:
        if id(current) in seen:
            return
        seen.add(id(current))
        for node in with_inner(current.nodes):
            if isinstance(node.op, Apply):
                for used in (node.op.instance, *node.op.others):
                    yield from visit(used)
        yield current

    yield from visit(instance)


def with_inner(nodes: Sequence[Node]) -> Iterator[Node]:
    """Nodes, and those that no body holds: arguments that are modules, and what replaces children of library models."""
    for node in nodes:
        yield node
        if isinstance(node.op, Call):
            yield from with_inner(given_nodes(node.op))
            if node.op.whole is not None:
                yield from with_inner(list(node.op.whole.replaced.values()))


def given_nodes(call: Call) -> list[Node]:
    """The arguments of a call that are modules, in the order of torch's signature."""
    values = [call.arguments[a.name].value for a in call.entry.arguments if a.takes_module and a.name in call.arguments]
    return [value.node for value in values if isinstance(value, GivenModule)]
