"""What a model costs: how much memory it takes to run and to train, from shapes alone.

Parameters, gradients and optimizer state are counted exactly. Activations are those that autograd keeps for the
backward pass (`netspec.costs.keep` says which), and at inference the most that live at once. What the kernels borrow
for a moment, the loss and the batch's targets are not counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

from netspec.call_parts import arguments_of
from netspec.costs.optimizer import ASSUMED, state_size
from netspec.costs.tensors import WIDTH, size_of
from netspec.costs.walk import Setting, Trace
from netspec.program import Apply, Call, Instance, Program, walk
from netspec.shapes import Size, TensorType
from netspec.table import batch_symbol, size_text

HALF = {"bf16": "bfloat16", "fp16": "float16"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes, for a batch of `batch_size`. None where a size, the optimizer's state or the inside of a library's
    model is not known beforehand."""

    batch_size: int
    precision: str
    optimizer: str
    assumed: bool
    """Whether the spec states no optimizer, and the usual one is counted."""
    parameters: int
    buffers: int
    gradients: int
    optimizer_state: int | None
    activations: int | None
    """At inference: the most that live at once, the model's inputs included."""
    kept_activations: int | None
    """In training: what autograd keeps for the backward pass."""
    half_weights: int
    """Copies of weights in 16 bits, which autocast keeps until the backward pass."""

    @property
    def inference(self) -> int | None:
        return _sum(self.parameters, self.buffers, self.activations)

    @property
    def training(self) -> int | None:
        parts = (self.parameters, self.buffers, self.gradients, self.optimizer_state)
        return _sum(*parts, self.kept_activations, self.half_weights)

    def as_json(self) -> dict[str, Any]:
        """Plain data with stable names; all but the first four are bytes."""
        return {**asdict(self), "inference": self.inference, "training": self.training}

    def lines(self) -> list[str]:
        """Both sums in words, one line each."""
        model = self.parameters + self.buffers
        running = f"{size_text(model)} weights + {size_text(self.activations)} activations"
        optimizer = f"{self.optimizer}{' (assumed)' if self.assumed else ''}"
        parts = [f"{size_text(model)} weights", f"{size_text(self.gradients)} gradients"]
        parts.append(f"{size_text(self.optimizer_state)} {optimizer}")
        parts.append(f"{size_text(_sum(self.kept_activations, self.half_weights))} kept")
        batch = f"batch of {self.batch_size}, {self.precision}"
        return [
            f"  to run    {size_text(self.inference)}: {running}  ({batch})",
            f"  to train  {size_text(self.training)}: {' + '.join(parts)}",
        ]


@dataclass(frozen=True, slots=True)
class Weight:
    """A parameter or a buffer of the model."""

    shape: tuple[int, ...]
    dtype: str = "float32"
    buffer: bool = False
    frozen: bool = False

    @property
    def size(self) -> int:
        return prod(self.shape) * WIDTH[self.dtype]


def weights(program: Program) -> Iterator[Weight]:
    """All parameters and buffers; a tied parameter once."""
    tied = {".".join(tie.path) for tie in program.model.ties}
    yield from _weights(program.model, "", False, tied)


def _weights(instance: Instance, prefix: str, frozen: bool, tied: set[str]) -> Iterator[Weight]:
    for node in instance.nodes:
        path, still = prefix + node.name, frozen or node.layer.freeze
        if isinstance(node.op, Apply):
            yield from _weights(node.op.instance, path + ".", still, tied)
        elif isinstance(node.op, Call):
            entry, arguments = node.op.entry, arguments_of(node.op)
            if entry.name == "Buffer":
                assert isinstance(node.type, TensorType)
                yield Weight(tuple(int(size) for size in node.type.shape), node.type.dtype, buffer=True)  # type: ignore[arg-type]
                continue
            own = entry.parameters(arguments) if entry.parameters else {}
            for name, shape in (node.op.whole.parameters if node.op.whole is not None else own).items():
                if (f"{path}.{name}" if name else path) not in tied:
                    yield Weight(tuple(int(size) for size in shape), frozen=still)
            for shape in entry.buffers(arguments).values() if entry.buffers else ():
                yield Weight(tuple(int(size) for size in shape), "float32" if shape else "int64", buffer=True)


def memory(program: Program, batch_size: int | None = None, sizes: Mapping[str, int] | None = None) -> Memory:
    """What running and training the model takes, by what its `train` and `data` say.

    `sizes` gives symbols other than the batch's their values (`{"T": 128}`).
    """
    recipe = program.recipe
    train = getattr(recipe, "train", None)
    data = getattr(recipe, "data", None)
    batch = batch_size or (data.batch_size if data is not None else 1)
    precision = train.precision if train is not None else "fp32"
    stated = train.optimizer if train is not None else None
    name = stated.type if stated is not None else ASSUMED
    arguments = stated.arguments if stated is not None else {}
    all_weights = list(weights(program))
    trained = [one for one in all_weights if not one.buffer and not one.frozen]
    states = [state_size(name, arguments, one.shape) for one in trained]
    given: dict[str, Size] = {**(sizes or {}), batch_symbol(program): batch}
    run = Trace.of(program, Setting(sizes=given, training=False, half=HALF.get(precision, "")))
    learn = Trace.of(program, Setting(sizes=given, training=True, half=HALF.get(precision, "")))
    return Memory(
        batch_size=batch,
        precision=precision,
        optimizer=name,
        assumed=stated is None,
        parameters=sum(one.size for one in all_weights if not one.buffer),
        buffers=sum(one.size for one in all_weights if one.buffer),
        gradients=sum(one.size for one in trained),
        optimizer_state=_sum(*states),
        activations=run.peak,
        kept_activations=_sum(*(storage.size for storage in learn.kept)),
        half_weights=sum(storage.size or 0 for storage in learn.casts.values()),
    )


def layer_memory(program: Program, sizes: Mapping[str, int] | None = None) -> dict[str, tuple[int | None, int | None]]:
    """By path and for one sample in float32: the bytes of a layer's outputs, and of what is kept for its backward pass.

    What two layers keep counts for the one that runs first; a block has what its layers have.
    """
    given: dict[str, Size] = {**(sizes or {}), batch_symbol(program): 1}
    trace = Trace.of(program, Setting(sizes=given, training=True))
    kept: dict[str, list[int | None]] = {}
    for storage, path in trace.kept.items():
        parts = path.split(".")
        for end in range(1, len(parts) + 1):
            kept.setdefault(".".join(parts[:end]), []).append(storage.size)
    found = {}
    for path, node in walk(program.model):
        types = [trace.sized(type_) for type_ in node.types.values()]
        flat = [one for type_ in types for one in ([type_] if isinstance(type_, TensorType) else type_)]
        found[path] = _sum(*(size_of(one) for one in flat)), _sum(*kept.get(path, ()))
    return found


def _sum(*parts: int | None) -> int | None:
    return None if None in parts else sum(part for part in parts if part is not None)
