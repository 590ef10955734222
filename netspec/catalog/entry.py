"""What a catalog entry is: one definition from which schema, completion, inference, emission and docs derive."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

from netspec.shapes import ListType, Problem, Size, TensorType

Category = Literal[
    "layer",
    "function",
    "loss",
    "weight",
    "model",
    "initializer",
    "optimizer",
    "scheduler",
    "transform",
    "source",
    "metric",
    "sampler",
    "pruner",
]
Role = Literal["", "activation", "norm", "dropout", "pool", "conv", "linear", "reshape", "merge"]


class _Required:
    def __repr__(self) -> str:
        return "REQUIRED"


REQUIRED: Final = _Required()


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """One argument of a catalog entry, by torch's name.

    `kind` is a small vocabulary that `catalog.kinds` defines once (what JSON Schema it has, what values it accepts,
    how it is described): "int", "float", "bool", "str", "size2" (an int or 2 ints), "ints", "floats", "dtype",
    "choice", "any", "module" … Alternatives are joined by "|" ("int|ints"); a kind may end in "?" where null is
    allowed.
    """

    name: str
    kind: str
    default: Any = REQUIRED
    doc: str = ""
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    inferred: bool = False
    """True where the graph gives the value (`in_channels`): it may be left out, and the rule returns it."""
    positional: bool = False
    """True where people write the value without its name: `nn.Linear(512, 10)`, `x.flatten(1)`."""
    unpacked: bool = False
    """True where a list is written as separate values: `x.permute(0, 2, 1)`."""
    call: bool = False
    """True for a module's argument that its `forward` takes and not its constructor (`need_weights`)."""
    training: bool = False
    """True for a number that holds in training only: both doors pass 0.0 in evaluation (`dropout_p`)."""
    leads: bool = False
    """True where it stands before the tensors: `torch.einsum("bqd,bkd->bqk", q, k)`."""
    since: str = ""
    """A version of the library that has it, where the oldest that we support has not."""
    types: tuple[str, ...] = ()
    """Of a module: the names of the layers that will do, where not any will."""
    fed: tuple[tuple[str, str], ...] = ()
    """Of a module: what it is called with. Each of its inputs, by name, with the input of this entry whose type it
    has; one without a name goes to whatever it calls its first."""
    places: Callable[[Mapping[str, Any]], Sequence[str]] | None = None
    """Of a module: places(arguments) -> the paths at which it stands inside, one for each copy."""

    @property
    def takes_module(self) -> bool:
        """Whether it takes a layer that is made beforehand."""
        return "module" in self.kinds

    @property
    def takes_class(self) -> bool:
        """Whether it takes a class, of which layers are made later."""
        return "class" in self.kinds

    @property
    def takes_function(self) -> bool:
        """Whether it takes the name of a function."""
        return "function" in self.kinds

    @property
    def kinds(self) -> list[str]:
        """The alternatives of its kind."""
        return self.kind.removesuffix("?").split("|")

    @property
    def required(self) -> bool:
        return self.default is REQUIRED and not self.inferred


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """A tensor that an entry takes, by torch's argument name (`input`, `query`, `target`)."""

    name: str
    optional: bool = False
    variadic: bool = False
    """True for `tensors` of `cat`: takes a list of tensors."""
    spread: bool = False
    """True where these are written one by one: `torch.meshgrid(x, y)`."""
    keyword: bool = False
    """True where it is passed by name, since an argument stands before it: `x.gather(1, index=places)`."""
    part_of: str = ""
    """The argument of torch that it is a part of, where that is a tuple: `h_0` and `c_0` of LSTM's `hx`."""


TypeLike = TensorType | ListType


@dataclass(frozen=True, slots=True, eq=False, kw_only=True, repr=False)
class GivenModule:
    """A module that is the value of an argument, as rules see it: what it was made with and what it gives.

    Its values are for the inputs at hand; a second use of the same module has another.
    """

    name: str
    """What it is, as a spec says it."""
    entry: Entry | None = None
    """None where it is a block or a group of layers."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """All of them, for an entry."""
    outputs: Mapping[str, TypeLike]
    parameters: Mapping[str, tuple[int, ...]]
    """The shapes of its weights by path, in torch's order of registration."""
    buffers: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    flops: Size | None = 0
    """None where they are not known."""
    node: Any = None
    """What the compiler made of it, and both doors make a module from."""

    def __repr__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True, eq=False, kw_only=True, repr=False)
class GivenClass:
    """A layer's class that is the value of an argument: the module makes layers of it by itself (`norm_layer`)."""

    entry: Entry
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """What is said of it beforehand."""

    def __repr__(self) -> str:
        said = ", ".join(f"{name}: {value}" for name, value in self.arguments.items())
        return f"{{type: {self.entry.name}, {said}}}" if said else self.entry.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Inferred:
    """What a rule answers: the outputs by port name in order, and the arguments that the inputs determine."""

    outputs: Mapping[str, TypeLike]
    arguments: Mapping[str, Size] | None = None


Rule = Callable[[Mapping[str, Any], Mapping[str, Any]], Inferred | Problem]
"""rule(arguments, inputs): all arguments by name with defaults filled in (inferred ones that the spec left out are
absent), the inputs by port name (a tuple of types for a variadic port, unconnected optional ones absent)."""


class Part(NamedTuple):
    """A module inside of another: its place, what it is with all arguments, and which of the outer one it comes of."""

    place: str
    entry: Entry
    arguments: Mapping[str, Any]
    argument: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    name: str
    category: Category
    target: str
    """The dotted Python name: `torch.nn.Conv2d`, `torch.nn.functional.relu`, `torch.cat`, `torch.Tensor.flatten`."""
    arguments: tuple[Argument, ...] = ()
    """In the order of torch's signature, tensors left out."""
    inputs: tuple[Port, ...] = (Port(name="input"),)
    returns: tuple[str | tuple[str, ...], ...] = ()
    """Where torch returns a tuple: its ports, nested as they come, `("output", ("h_n", "c_n"))`."""
    returns_if: str = ""
    """The argument that has to be true for this tuple, where torch returns a single tensor else (`return_indices`)."""
    rule: Rule | None = None
    parameters: Callable[[Mapping[str, Any]], Mapping[str, tuple[int, ...]]] | None = None
    """parameters(arguments) -> the shapes of its weights by name in torch's order of registration, absent ones left
    out. `arguments` has inferred ones filled in. None: it has none."""
    buffers: Callable[[Mapping[str, Any]], Mapping[str, tuple[int, ...]]] | None = None
    flops: Callable[[Mapping[str, Any], Mapping[str, Any], Inferred], Size] | None = None
    """Counted as torch.utils.flop_counter counts (2 per multiply-add; only matmuls, convolutions and attention)."""
    role: Role = ""
    training: bool = False
    """A function that takes `training=` (dropout): both doors pass `self.training`."""
    doc: str = ""
    """One line, ours: goes into `explain`, hover texts and the reference."""
    since: str = ""
    """A version of the library that has it, where the oldest that we support has not."""
    ancestors: tuple[str, ...] = ()
    """Names of the catalog classes that it is a subclass of (`isinstance` in `initialize: match`)."""
    plugin: str = ""
    """The plugin that registered it; empty for what netspec has itself."""
    inner: Callable[[Mapping[str, Any]], Iterable[Part]] | None = None
    """inner(arguments) -> the modules inside it that it makes itself, those in them left out, so that a rule under
    `initialize` finds them. Those that are given to it are not among them."""
    modules: Callable[[Mapping[str, Any]], Sequence[tuple[str, tuple[str, ...]]]] | None = None
    """modules(arguments) -> the modules inside it, each as its path and the dotted names of its classes. Only for what
    is used whole: a plugin's layer, a library's model."""

    @property
    def creates(self) -> bool:
        """Whether it is a function that makes a tensor of nothing: both doors pass the device of the block's input."""
        return self.category == "function" and len(self.inputs) == 0

    @property
    def tensors(self) -> dict[str, list[Port]]:
        """The tensor arguments of torch with their ports: one each, several where torch takes a tuple."""
        found: dict[str, list[Port]] = {}
        for port in self.inputs:
            found.setdefault(port.part_of or port.name, []).append(port)
        return found

    def returned(self, arguments: Mapping[str, Any]) -> tuple[str | tuple[str, ...], ...]:
        """How the ports stand in what a call with these arguments gives, where that is a tuple."""
        return self.returns if not self.returns_if or arguments.get(self.returns_if) else ()

    def argument(self, name: str) -> Argument | None:
        return next((a for a in self.arguments if a.name == name), None)
