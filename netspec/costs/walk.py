"""A program run on shapes alone, in its order of execution: which tensors live when, and what autograd keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from netspec.arithmetic import type_of
from netspec.broadcast import broadcast
from netspec.call_parts import arguments_of
from netspec.catalog.entry import TypeLike
from netspec.costs.inner import run_inside, runs_inside
from netspec.costs.keep import factors, rule_of
from netspec.costs.tensors import Held, Storage, numel, size_of, straight
from netspec.costs.work import Work
from netspec.expressions import Binary, Compare, Expr, Subscript, Tensor, TupleExpr, Unary, evaluate, tensors
from netspec.program import Apply, Arithmetic, Call, Gather, Instance, Node, Program, Ref, Reuse, Skip
from netspec.shapes import ListType, Size, TensorType, substitute

Many = Held | tuple[Held, ...]

VIEWS: Final = frozenset(
    [
        "Identity",
        "Flatten",
        "flatten",
        "Unflatten",
        "unflatten",
        "reshape",
        "squeeze",
        "unsqueeze",
        "Permute",
        "permute",
        "transpose",
        "movedim",
        "expand",
        "chunk",
        "split",
        "unbind",
        "detach",
    ]
)
LOWER: Final = frozenset(
    [
        "Conv1d",
        "Conv2d",
        "Conv3d",
        "ConvTranspose1d",
        "ConvTranspose2d",
        "ConvTranspose3d",
        "Linear",
        "matmul",
        "bmm",
        "baddbmm",
        "scaled_dot_product_attention",
        "MultiheadAttention",
        "LSTM",
        "GRU",
        "RNN",
    ]
)
"""What autocast computes in 16 bits."""
FULL: Final = frozenset(
    [
        "LayerNorm",
        "layer_norm",
        "GroupNorm",
        "Softmax",
        "softmax",
        "LogSoftmax",
        "log_softmax",
        "Softmin",
        "softmin",
        "Softmax2d",
        "exp",
        "expm1",
        "log",
        "log2",
        "log10",
        "log1p",
        "pow",
        "rsqrt",
        "reciprocal",
        "cumsum",
        "prod",
        "sum",
        "normalize",
        "cosine_similarity",
        "CosineSimilarity",
        "Softplus",
        "softplus",
    ]
)
"""What autocast on a GPU computes in float32."""


@dataclass(slots=True, kw_only=True)
class Setting:
    """What a run is like. `sizes` gives the symbols their values, `half` is the 16-bit format of autocast."""

    sizes: Mapping[str, Size]
    training: bool
    half: str = ""
    gpu: bool = True


@dataclass(slots=True)
class Trace:
    """What a run does, step by step."""

    setting: Setting
    steps: list[tuple[list[Storage], list[Storage]]] = field(default_factory=list)
    """What each step reads, and what it makes."""
    kept: dict[Storage, str] = field(default_factory=dict)
    """What autograd keeps, with the layer that is the first to do so."""
    casts: dict[tuple[str, int], Storage] = field(default_factory=dict)
    outputs: list[Storage] = field(default_factory=list)
    inputs: list[Storage] = field(default_factory=list)

    @classmethod
    def of(cls, program: Program, setting: Setting) -> Trace:
        """Run the model once."""
        trace = cls(setting)
        given = {name: trace.fresh(trace.sized(type_)) for name, type_ in program.model.inputs.items()}
        trace.inputs = [one.storage for value in given.values() for one in many(value)]
        results = trace.run(program.model, "", given, frozen=False)
        trace.outputs = [one.storage for value in results.values() if value is not None for one in many(value)]
        return trace

    @property
    def peak(self) -> int | None:
        """The most bytes of tensors that live at once; a tensor lives until its last reader has run."""
        last: dict[Storage, int] = {}
        for place, (reads, makes) in enumerate(self.steps):
            for storage in (*reads, *makes):
                last[storage] = place
        for storage in (*self.outputs, *self.inputs):
            last[storage] = len(self.steps)
        born: list[list[Storage]] = [[*dict.fromkeys(self.inputs)], *([] for _ in self.steps)]
        seen = set(born[0])
        for place, (_, makes) in enumerate(self.steps):
            for storage in makes:
                if storage not in seen:
                    seen.add(storage)
                    born[place].append(storage)
        if any(storage.size is None for storage in seen if not storage.lasting):
            return None
        dying: dict[int, list[Storage]] = {}
        for storage in seen:
            dying.setdefault(last.get(storage, len(self.steps)), []).append(storage)
        live = most = 0
        for place, storages in enumerate(born):
            live += sum(one.size or 0 for one in storages if not one.lasting)
            most = max(most, live)
            live -= sum(one.size or 0 for one in dying.get(place, ()) if not one.lasting)
        return most

    def sized(self, type_: TypeLike) -> TypeLike:
        """A type with the sizes of this run."""
        if isinstance(type_, ListType):
            return ListType(tuple(TensorType(substitute(one.shape, self.setting.sizes), one.dtype) for one in type_))
        return TensorType(substitute(type_.shape, self.setting.sizes), type_.dtype)

    def fresh(self, type_: TypeLike, grad: bool = False, lasting: bool = False) -> Many:
        if isinstance(type_, ListType):
            return tuple(held for one in type_ for held in many(self.fresh(one, grad, lasting)))
        return Held(type=type_, storage=Storage(size_of(type_), lasting), grad=grad, order=straight(type_))

    def run(
        self, instance: Instance, path: str, inputs: Mapping[str, Many | None], frozen: bool
    ) -> dict[str, Many | None]:
        values: dict[int, dict[str, Many | None]] = {}

        def get(ref: Ref) -> Many | None:
            if ref.parts:
                return tuple(one for part in ref.parts if (value := get(part)) is not None for one in many(value))
            given = inputs if ref.node is None else values[id(ref.node)]
            if ref.name in given:
                return given[ref.name]
            name, _, member = ref.name.rpartition(".")
            value = given.get(name) if ref.node is None else next(iter(given.values()), None)
            if isinstance(value, tuple) and member.lstrip("-").isdigit() and -len(value) <= int(member) < len(value):
                return value[int(member)]
            # A member of a chain, read from outside it.
            return value if value is not None and not ref.name else self.fresh(self.sized(ref.type), True)

        other = "evaluation" if self.setting.training else "training"
        for node in instance.order:
            if node.layer.when == other:
                values[id(node)] = dict.fromkeys(node.types)
                continue
            here = path + node.name
            still = frozen or node.layer.freeze
            op = node.op.target.op if isinstance(node.op, Reuse) else node.op
            if node.each is not None:
                values[id(node)] = self.other(node, here, [get(node.each)])
            elif isinstance(op, Gather):
                found = [get(ref) for ref in node.inputs]
                values[id(node)] = {"": tuple(one for value in found if value is not None for one in many(value))}
            elif isinstance(op, Apply):
                passed = {name: get(ref) for name, ref in node.op.inputs.items() if isinstance(ref, Ref)}
                results = self.run(op.instance, here + ".", passed, still)
                values[id(node)] = {port: result for port, result in zip(node.types, results.values(), strict=False)}
            elif isinstance(op, Call):
                owner = path + node.op.target.name if isinstance(node.op, Reuse) else here
                values[id(node)] = self.call(op, node, here, owner, get, still)
            elif isinstance(op, Arithmetic):
                named = {name: get(ref) for name, ref in op.inputs.items()}
                values[id(node)] = {"": self.compute(op.expr, node, here, named)}
            elif isinstance(op, Skip):
                (only,) = node.inputs
                values[id(node)] = {"": get(only)}
            else:
                values[id(node)] = self.other(node, here, [get(ref) for ref in node.inputs])
        return {name: get(ref) for name, ref in instance.outputs.items()}

    def other(self, node: Node, here: str, given: list[Many | None]) -> dict[str, Many | None]:
        """What no rule speaks of: its inputs are kept, and its outputs are tensors of their own."""
        inputs = [one for value in given if value is not None for one in many(value)]
        grad = any(one.grad for one in inputs)
        made: dict[str, Many | None] = {port: self.fresh(self.sized(type_), grad) for port, type_ in node.types.items()}
        outputs = [one.storage for value in made.values() if value is not None for one in many(value)]
        self.steps.append(([one.storage for one in inputs], outputs))
        if grad and self.setting.training:
            self.keep(here, [one.storage for one in inputs])
        return made

    def library(self, node: Node, here: str, frozen: bool) -> dict[str, Many | None]:
        """A library's model used whole: what lives inside of it is not known."""
        made: dict[str, Many | None] = {
            port: self.fresh(self.sized(type_), not frozen) for port, type_ in node.types.items()
        }
        inside = Storage(None)
        self.steps.append(([], [inside, *(one.storage for value in made.values() if value for one in many(value))]))
        if self.setting.training and not frozen:
            self.keep(here, [inside])
        return made

    def arguments(self, call: Call) -> dict[str, Any]:
        """All arguments of a call, defaults filled in."""
        return arguments_of(call)

    def product(self, here: str, a: Held, b: Held) -> Held:
        """What two tensors multiplied with each other give."""
        shape = broadcast(a.type.shape, b.type.shape)
        assert isinstance(shape, tuple)
        made = Held(type=TensorType(shape, b.type.dtype), storage=Storage(size_of(b.type)), grad=a.grad or b.grad)
        self.steps.append(([a.storage, b.storage], [made.storage]))
        if self.setting.training:
            self.keep(here, factors([a, b], False))
        return replace(made, order=straight(made.type))

    def call(self, call: Call, node: Node, here: str, owner: str, get: Any, frozen: bool) -> dict[str, Many | None]:
        entry = call.entry
        if entry.category == "weight":
            learns = entry.name == "Parameter" and not frozen
            return {port: self.fresh(self.sized(type_), learns, True) for port, type_ in node.types.items()}
        if call.whole is not None:
            return self.library(node, here, frozen)
        if runs_inside(call):
            return {next(iter(node.types)): run_inside(self, call, node, here, get, frozen)}
        arguments = {**arguments_of(call), "frozen": frozen}
        refs = node.op.inputs
        inputs: dict[str, tuple[Held, ...]] = {}
        for name, ref in refs.items():
            found = [get(one) for one in (ref if isinstance(ref, tuple) else (ref,))]
            inputs[name] = tuple(one for value in found if value is not None for one in many(value))
        weights = entry.parameters is not None and bool(entry.parameters(arguments))
        learns = weights and not frozen
        inputs = self.cast(entry.name, inputs, here, owner, call, learns)
        all_inputs = [one for group in inputs.values() for one in group]
        grad = learns or any(one.grad for one in all_inputs)
        outputs = self.results(entry.name, arguments, all_inputs, node, grad)
        held = tuple(one for value in outputs.values() for one in many(value))
        self.steps.append(([one.storage for one in all_inputs], [one.storage for one in held]))
        silent = all(any(one.storage is given.storage for given in all_inputs) for one in held)
        if grad and self.setting.training and not (silent and not arguments.get("inplace")):
            work = Work(
                entry=entry, arguments=arguments, inputs=inputs, outputs=held, trained=learns, gpu=self.setting.gpu
            )
            rule_of(entry)(work)
            self.keep(here, work.kept)
        return {port: value for port, value in outputs.items()}

    def keep(self, here: str, storages: Sequence[Storage]) -> None:
        for storage in storages:
            if not storage.lasting:
                self.kept.setdefault(storage, here)

    def cast(
        self, name: str, inputs: dict[str, tuple[Held, ...]], here: str, owner: str, call: Call, learns: bool
    ) -> dict[str, tuple[Held, ...]]:
        """The inputs in the format that autocast computes in; the weights too, which it casts once."""
        half = self.setting.half
        to = half if half and name in LOWER else "float32" if half and self.setting.gpu and name in FULL else ""
        if not to:
            return inputs
        if to == half and call.entry.parameters is not None and learns:
            for place, shape in enumerate(call.entry.parameters(arguments_of(call)).values()):
                if len(shape) > 1 and (owner, place) not in self.casts:
                    self.casts[owner, place] = Storage(2 * (numel(shape) or 0))
        changed = {}
        for port, group in inputs.items():
            changed[port] = tuple(_cast(one, to) for one in group)
        return changed

    def results(
        self, name: str, arguments: Mapping[str, Any], inputs: list[Held], node: Node, grad: bool
    ) -> dict[str, Many]:
        """The outputs: views of the first input, that itself, or tensors of their own."""
        made: dict[str, Many] = {}
        first = inputs[0] if inputs else None
        through = first is not None and (
            arguments.get("inplace")
            or (_drops(name) and (not self.setting.training or not arguments.get("p", 1)))
            or name == "Identity"
        )
        for port, given in node.types.items():
            type_ = self.formatted(name, self.sized(given), inputs)
            if isinstance(type_, ListType):
                views = first if name in VIEWS else None
                made[port] = tuple(
                    replace(views, type=one, grad=grad, order=None)
                    if views is not None
                    else Held(type=one, storage=Storage(size_of(one)), grad=grad, order=straight(one))
                    for one in type_
                )
                continue
            floating = type_.dtype.startswith(("float", "bfloat"))
            if first is not None and through:
                made[port] = replace(first, grad=grad)
            elif first is not None and name in VIEWS:
                made[port] = replace(_view(name, arguments, first, type_), grad=grad and name != "detach")
            else:
                order = _order(name, first, type_)
                made[port] = Held(type=type_, storage=Storage(size_of(type_)), grad=grad and floating, order=order)
        return made

    def formatted(self, name: str, type_: TypeLike, inputs: list[Held]) -> TypeLike:
        """The type in the number format of this run: 16 bits where autocast computes so, or all inputs have them."""
        half = self.setting.half
        if not half or isinstance(type_, ListType) or type_.dtype != "float32" or not inputs:
            return type_
        formats = {one.type.dtype for one in inputs if one.type.dtype.startswith(("float", "bfloat"))}
        lower = name in LOWER or formats == {half}
        return TensorType(type_.shape, half if lower else "float32")

    def compute(self, expr: Expr, node: Node, here: str, named: Mapping[str, Many | None]) -> Many:
        """Tensor arithmetic, each operation a step of its own."""
        if isinstance(expr, Tensor):
            name = expr.name if isinstance(expr.name, str) else str(evaluate(expr.name, node.env))
            value = named[name]
            assert value is not None
            return value
        parts: list[Expr] = []
        match expr:
            case Unary(_, operand):
                parts = [operand]
            case Binary(_, left, right):
                parts = [left, right]
            case Compare(left, _, comparators):
                parts = [left, *comparators]
            case Subscript(base, index):
                parts = [base, *(index.items if isinstance(index, TupleExpr) else [index])]
        held = [self.compute(part, node, here, named) if tensors(part) else None for part in parts]
        both = [one for value in held if value is not None for one in many(value)]
        types = {leaf: one.type for leaf in tensors(expr) for one in many(self.compute(leaf, node, here, named))}
        found = type_of(expr, types, node.env)
        assert isinstance(found, TensorType)
        type_ = self.sized(found)
        assert isinstance(type_, TensorType)
        floating = type_.dtype.startswith(("float", "bfloat"))
        grad = floating and any(one.grad for one in both)
        half = self.setting.half
        if half and isinstance(expr, Binary) and expr.op == "@":
            both = [_cast(one, half) for one in both]
            type_ = TensorType(type_.shape, half)
        if isinstance(expr, Subscript) and len(both) == 1:
            return replace(both[0], type=type_, order=None)
        order = both[0].order if both and len(both[0].type.shape) == len(type_.shape) else straight(type_)
        made = Held(type=type_, storage=Storage(size_of(type_)), grad=grad, order=order)
        self.steps.append(([one.storage for one in both], [made.storage]))
        if grad and self.setting.training and isinstance(expr, Binary) and expr.op in ("*", "/", "@", "**"):
            if len(both) == 2:
                self.keep(here, factors(both, expr.op == "@"))
            elif expr.op == "**" or (expr.op == "/" and held[0] is None):
                self.keep(here, [both[0].storage])
        return made


def _cast(held: Held, to: str) -> Held:
    """The tensor in another floating-point format: a copy where it has not that one yet."""
    if held.type.dtype not in ("float16", "bfloat16", "float32") or held.type.dtype == to:
        return held
    type_ = TensorType(held.type.shape, to)
    return replace(held, type=type_, storage=Storage(size_of(type_)))


def many(value: Many) -> tuple[Held, ...]:
    return value if isinstance(value, tuple) else (value,)


def _drops(name: str) -> bool:
    return "ropout" in name or name in ("StochasticDepth", "DropBlock2d", "DropBlock3d")


def _view(name: str, arguments: Mapping[str, Any], first: Held, type_: TensorType) -> Held:
    """A view of a tensor; a copy where the numbers do not lie so that one can be."""
    if name in ("permute", "Permute", "transpose", "movedim"):
        dims = _turned(name, arguments, len(type_.shape))
        if first.order is None or dims is None:
            return replace(first, type=type_, order=None)
        return replace(first, type=type_, order=tuple(dims.index(axis) for axis in first.order))
    if first.contiguous:
        return replace(first, type=type_, order=straight(type_))
    if name in ("squeeze", "unsqueeze", "expand"):
        return replace(first, type=type_, order=None)
    sizes = [size for size in first.type.shape if size != 1]
    if sizes == [size for size in type_.shape if size != 1]:
        return replace(first, type=type_, order=straight(type_))
    return Held(type=type_, storage=Storage(size_of(type_)), order=straight(type_))


def _turned(name: str, arguments: Mapping[str, Any], rank: int) -> list[int] | None:
    if name in ("permute", "Permute"):
        return [axis % rank for axis in arguments["dims"]]
    if name == "transpose":
        dims = list(range(rank))
        a, b = arguments["dim0"] % rank, arguments["dim1"] % rank
        dims[a], dims[b] = dims[b], dims[a]
        return dims
    return None


def _order(name: str, first: Held | None, type_: TensorType) -> tuple[int, ...]:
    """How an output lies: elementwise work leaves the order of its input, and so do the kernels of images."""
    rank = len(type_.shape)
    if (
        first is not None
        and first.order is not None
        and len(first.order) == rank
        and name not in ("Linear", "LayerNorm")
    ):
        return first.order
    return tuple(range(rank))
