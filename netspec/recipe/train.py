"""What the `train` section says, checked and with every default filled in: all that the runtime needs to know.

`read_train` (in `netspec.recipe.read_train`) makes these from the document. Everything here is plain data, so a recipe
can be compared, printed and written down; nothing imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from netspec.recipe.seeing import Monitor, TensorBoard, Tracker

if TYPE_CHECKING:
    from netspec.expressions import Expr
    from netspec.program import Instance

Precision = Literal["fp32", "tf32", "bf16", "fp16"]
Interval = Literal["step", "epoch"]
Mode = Literal["min", "max"]

FUNCTIONS: Final = {"lr_lambda": "epoch", "scale_fn": "x"}
"""Arguments that torch wants as a function, and the name that stands for its argument in an expression."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Duration:
    """A stretch of training: `{epochs: 3}` or `{steps: 500}`; one is given. A step is an update of the weights."""

    epochs: int | None = None
    steps: int | None = None

    def __str__(self) -> str:
        count, unit = (self.epochs, "epoch") if self.epochs is not None else (self.steps, "step")
        return f"{count} {unit}" + ("" if count == 1 else "s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A tensor that a loss or metric takes: an output of the model, a field of the batch, a layer of the objective."""

    kind: Literal["output", "field", "layer"]
    name: str

    def __str__(self) -> str:
        return f"{self.kind} `{self.name}`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mask:
    """The rows that count: a tensor of truth values by name, or what is compared (`label >= 0`)."""

    text: str
    """As the spec writes it."""
    expr: Expr
    """The same with the spec's values in their places."""
    reads: Mapping[str, Reference]
    """What its names mean."""

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of a batch that it reads."""
        return tuple(reference.name for reference in self.reads.values() if reference.kind == "field")


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """One term of the objective: a loss of the catalog, what it takes in the order of its ports, and its factor."""

    name: str
    """What the log calls it where there are several terms."""
    type: str
    target: str
    """The dotted Python name, `torch.nn.CrossEntropyLoss`."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[Reference, ...]
    factor: float = 1.0
    mask: Mask | None = None
    constant: float | None = None
    """The target of all samples, where it is one number; then `inputs` are the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Settings for the parameters whose names match one of the globs."""

    match: tuple[str, ...]
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimizer:
    type: str
    target: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    groups: tuple[Group, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmUp:
    """The rate times a factor that rises linearly, step by step, from `start_factor` to 1 over this stretch."""

    length: Duration
    start_factor: float = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheduler:
    """`type` is empty where there is a warm-up alone."""

    type: str
    target: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """An argument that is a function (`lr_lambda`) is an expression of one name, `epoch`."""
    interval: Interval = "epoch"
    monitor: str | None = None
    """What `ReduceLROnPlateau` watches."""
    warmup: WarmUp | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A figure of an evaluation: `name` is its column (`accuracy` in `val.accuracy`)."""

    name: str
    type: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[Reference, Reference]
    mask: Mask | None = None
    scores: Literal["raw", "probabilities"] = "raw"
    """What the model gives for two classes in one number: a logit (compared with 0) or a probability (with 0.5)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """When the state is written, and what is kept: the `keep` newest (two at least), and the best by `monitor`.

    `every` is None where the spec does not say: then at the end of an epoch, though not more often than a few seconds
    apart, and at the end of the run.
    """

    every: Duration | None = None
    keep: int = 2
    monitor: str | None = None
    mode: Mode = "min"


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyStopping:
    """Stop when `monitor` has not improved by more than `min_delta` in `patience` epochs."""

    monitor: str
    mode: Mode = "min"
    patience: int = 10
    min_delta: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipGrad:
    """Exactly one is given: the largest norm of all gradients together, or the largest absolute value of any."""

    norm: float | None = None
    value: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ema:
    """An exponential average of the weights: after each update `decay` of it stays, and the rest is the new weights.

    With `use_buffers` the buffers are averaged too; else they are those of the model.
    """

    decay: float = 0.999
    use_buffers: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Swa:
    """Stochastic weight averaging: the mean of the weights at the ends of the epochs after the first `start`.

    `swa_lr` is where the rate goes, in `anneal_epochs` epochs; None leaves it to the schedule.
    """

    start: int
    swa_lr: float | None = None
    anneal_epochs: int = 10
    anneal_strategy: Literal["cos", "linear"] = "cos"
    evaluate: bool = False
    """Whether each epoch's figures are those of the average, else the last one's alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compile:
    """What `torch.compile` is told. With `dynamic` its kernels serve batches of every size; else each serves one size,
    and a batch that is not whole runs without them."""

    backend: str = "inductor"
    mode: str = "default"
    dynamic: bool = False
    fullgraph: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribute:
    """How several processes train one model; `arguments` go to torch."""

    type: str = "ddp"
    arguments: Mapping[str, Any] = field(default_factory=dict)
    match: tuple[str, ...] = ()
    """Globs over the modules that `fsdp` cuts as one; the model's own blocks where there are none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Where the weights come from that training starts with, and how their names become the model's."""

    source: str
    """A file (of `package`, where that is given), the folder of a run or a checkpoint, or torchvision's name."""
    package: str | None = None
    renames: Mapping[str, str] = field(default_factory=dict)
    """One after the other: a prefix and what takes its place, or two globs whose stars stand for the same."""
    skip: tuple[str, ...] = ()
    """Globs over the model's names: what starts anew."""
    strict: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Thaw:
    """Parameters that a run freezes at its start are trained from here on."""

    match: str
    after: Duration


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainRecipe:
    """The whole section. `length` is where training ends; `inputs` gives the batch field of each input of the model."""

    length: Duration
    inputs: Mapping[str, str]
    losses: tuple[Loss, ...]
    optimizer: Optimizer
    scheduler: Scheduler | None = None
    metrics: tuple[Metric, ...] = ()
    precision: Precision = "fp32"
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    early_stopping: EarlyStopping | None = None
    seed: int = 0
    device: str = "auto"
    threads: int | None = None
    """None: one for a small model on the CPU, else as many as the machine lends."""
    clip_grad: ClipGrad | None = None
    accumulate: int = 1
    withheld_limit: int = 10
    """At how many updates withheld, as loss or gradients were not finite, a run stops."""
    ema: Ema | None = None
    swa: Swa | None = None
    channels_last: bool | None = None
    """How images lie in memory; None: so on a GPU, where the model has convolutions over images."""
    compile: Compile | None = None
    cuda_graphs: bool = False
    """Whether steps are recorded as CUDA graphs."""
    distribute: Distribute | None = None
    """None: as `ddp` where there are several processes."""
    sync_batchnorm: bool = False
    """Whether batch norms take the statistics of the whole batch, and not of a process's part."""
    log_every: int = 50
    objective: Instance | None = None
    """The graph of `train.layers`. What it applies to fields and outputs directly stands in `losses` as well."""
    tensorboard: TensorBoard | None = field(default_factory=TensorBoard)
    monitor: Monitor | None = None
    track: tuple[Tracker, ...] = ()
    weights: Weights | None = None
    freeze: tuple[str, ...] = ()
    """Globs over the names of parameters that are not trained."""
    unfreeze: tuple[Thaw, ...] = ()
    """Until when they are not; the last that matches a parameter counts."""
    paths: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The places of the document that name files, with the absolute paths."""

    @property
    def sharded(self) -> bool:
        """Whether several processes cut the weights among them."""
        return self.distribute is not None and self.distribute.type == "fsdp"
