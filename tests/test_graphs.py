"""`train.cuda_graphs`: which steps are recorded, what is done around them, and when it goes on without.

Without a GPU the recorder is a stand-in that does the work again, on the same memory: everything but the recording
itself is what runs on a GPU.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from test_resume import assert_same, deadly, in_child, start_or_resume
from training_support import MLP, StubProgram, TensorStream, digits, recipe

from netspec.recipe.seeing import Monitor
from netspec.recipe.train import (
    Checkpoint,
    ClipGrad,
    Duration,
    Ema,
    Optimizer,
    Scheduler,
    Thaw,
    TrainRecipe,
)
from netspec.runtime import graphs, prepare
from netspec.runtime.finite import Guard
from netspec.runtime.graphs import WARM, CudaRecorder, Graphs, detached
from netspec.runtime.job import Job
from netspec.runtime.objective_graph import Found
from netspec.runtime.run import Run, train

SGD = Optimizer(type="SGD", target="torch.optim.SGD", arguments={"lr": 0.05, "momentum": 0.9})
TORCH = "torch.optim.lr_scheduler"
COSINE = Scheduler(
    type="CosineAnnealingLR", target=f"{TORCH}.CosineAnnealingLR", arguments={"T_max": 60}, interval="step"
)
ONE_CYCLE = Scheduler(type="OneCycleLR", target=f"{TORCH}.OneCycleLR", arguments={"max_lr": 0.05}, interval="step")
BATCHES = 20
"""Of an epoch of the digits; the last is smaller."""


class Repeating:
    """A recorder that does the work again. It counts what it did."""

    def __init__(self) -> None:
        self.warm = self.recorded = self.replayed = 0
        self.guard: Any = None

    def beside(self) -> AbstractContextManager[None]:
        self.warm += 1
        return nullcontext()

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        self.recorded += 1

        def replay() -> None:
            self.replayed += 1
            step = self.guard.step  # Python does not run in a replay
            work()
            self.guard.step = step

        return replay


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Repeating:
    """Records on the CPU; with a fused optimizer the guard's answer stays in its tensor, as on a GPU."""
    made = Repeating()

    def make(job: Job, say: Callable[[str], None]) -> Graphs | None:
        made.guard = job.guard
        return original(job, say)

    def make_guard(optimizer: Any, device: Any, scaler: Any, **settings: Any) -> Guard:
        fused = all(group.get("fused") for group in optimizer.param_groups)
        settings.setdefault("withheld", 0)
        settings.setdefault("step", 0)
        return Guard(optimizer, device, deferred=fused and scaler is None, scaled=scaler is not None, **settings)

    original = graphs.make_graphs
    monkeypatch.setattr(prepare, "make_graphs", make)
    monkeypatch.setattr(prepare, "make_guard", make_guard)
    monkeypatch.setattr(graphs, "refusal", lambda job: None)
    monkeypatch.setattr(graphs, "make_recorder", lambda device: made)
    return made


@pytest.fixture(autouse=True)
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netspec.runtime.ending.draw_curves", lambda *_: None, raising=False)
    monkeypatch.setattr("netspec.runtime.run.draw_curves", lambda *_: None, raising=False)


def run(settings: TrainRecipe, folder: Path, source: str = MLP) -> tuple[Run, list[str]]:
    said: list[str] = []
    done = train(StubProgram(source, settings), run_dir=folder, data=digits(), progress="none", say=said.append)
    return done, said


LOOPED = {"optimizer": replace(SGD, arguments={**SGD.arguments, "fused": False})}
SETTINGS: dict[str, tuple[dict[str, Any], bool]] = {
    "adamw": ({}, True),
    "sgd-cosine": ({"optimizer": SGD, "scheduler": COSINE}, True),
    "clip": ({"clip_grad": ClipGrad(norm=0.5)}, True),
    "clip-value": ({"clip_grad": ClipGrad(value=0.01)}, True),
    "ema": ({"ema": Ema(decay=0.9)}, True),
    "bf16": ({"precision": "bf16"}, True),
    "unfreeze": ({"freeze": ("fc1.*",), "unfreeze": (Thaw(match="fc1.*", after=Duration(steps=25)),)}, True),
    "fp16": ({"precision": "fp16", "clip_grad": ClipGrad(norm=1.0)}, False),
    "accumulate": ({"accumulate": 3, "optimizer": SGD, "scheduler": COSINE}, False),
    "accumulate-fp16": ({"accumulate": 3, "precision": "fp16"}, False),
    "one-cycle": ({"optimizer": SGD, "scheduler": ONE_CYCLE}, False),
    "looped": (LOOPED, False),
}
"""Settings of a run, and whether its update can be recorded too."""
SLOW = ("clip-value", "bf16", "accumulate-fp16", "looped")


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.long) if n in SLOW else n for n in SETTINGS])
def test_a_run_gives_what_it_gives_without(
    name: str, tmp_path: Path, recorder: Repeating, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights, memory, generators and figures, to the last bit; all whole batches but the first few are replayed."""
    changes, whole = SETTINGS[name]
    settings = recipe(length=Duration(epochs=2), **changes)
    run(settings, tmp_path / "plain")
    made: list[Graphs] = []
    original = Graphs.run
    monkeypatch.setattr(Graphs, "run", lambda self, batch: (made.append(self), original(self, batch))[1])
    _, said = run(replace(settings, cuda_graphs=True), tmp_path / "recorded")
    assert said == [] and made[0].whole is whole
    assert_same(tmp_path / "plain", tmp_path / "recorded")
    # An update of the last batches of an epoch, fewer than `accumulate` or smaller, is not recorded.
    last = settings.accumulate if settings.accumulate == 1 else BATCHES % settings.accumulate
    times = 2 if name == "unfreeze" else 1
    assert recorder.recorded == times and recorder.warm == WARM * times
    assert recorder.warm + recorder.replayed == 2 * (BATCHES - last)


@pytest.mark.parametrize("name", ["ema", pytest.param("accumulate-fp16", marks=pytest.mark.long)])
def test_a_killed_run_goes_on_exactly(name: str, tmp_path: Path, recorder: Repeating) -> None:
    settings = recipe(
        length=Duration(epochs=2), cuda_graphs=True, checkpoint=Checkpoint(every=Duration(steps=3)), **SETTINGS[name][0]
    )
    program = StubProgram(MLP, settings)
    train(program, run_dir=tmp_path / "whole", data=digits(), progress="none")
    draw = random.Random(name)
    for _ in range(2):
        status = in_child(lambda: start_or_resume(program, tmp_path / "killed", deadly(draw.randrange(5, 25))))
        assert status in (0, -signal.SIGKILL)
    start_or_resume(program, tmp_path / "killed", digits())
    assert_same(tmp_path / "whole", tmp_path / "killed")


def test_numbers_that_are_not_finite_are_withheld(tmp_path: Path, recorder: Repeating) -> None:
    """The recorded look at the gradients counts, and the recorded update leaves the weights alone."""
    data = digits()
    data.splits["train"].fields["image"][40] = float("nan")
    settings = recipe(length=Duration(epochs=3), cuda_graphs=True, log_every=1)
    done = train(StubProgram(MLP, settings), run_dir=tmp_path / "run", data=data, progress="none")
    assert [row["withheld"] for row in done.history] == [1, 1, 1]
    assert done.results["test"]["accuracy"] > 0.8 and recorder.replayed > 50
    assert all(row["train.loss"] == row["train.loss"] for row in done.history)  # over the batches that were trained on


def test_an_update_that_is_looked_at_is_not_recorded(tmp_path: Path, recorder: Repeating) -> None:
    """Its hooks would not run."""
    watched = Monitor(every=5, watched={"activations": ("fc1",)})
    settings = recipe(length=Duration(epochs=1), cuda_graphs=True, monitor=watched)
    run(replace(settings, cuda_graphs=False), tmp_path / "plain")
    run(settings, tmp_path / "recorded")
    assert_same(tmp_path / "plain", tmp_path / "recorded")
    assert recorder.warm + recorder.replayed == BATCHES - BATCHES // 5


class Failing(Repeating):
    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nfurther words")


def test_what_cannot_be_recorded_goes_on_without(
    tmp_path: Path, recorder: Repeating, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = recipe(length=Duration(epochs=1))
    run(settings, tmp_path / "plain")
    monkeypatch.setattr(graphs, "make_recorder", lambda device: Failing())
    _, said = run(replace(settings, cuda_graphs=True), tmp_path / "fallen")
    (line,) = said
    assert line.endswith("launched by itself: CUDA error: operation not permitted when stream is capturing")
    assert_same(tmp_path / "plain", tmp_path / "fallen")


def test_a_model_that_draws_from_python_is_not_recorded(tmp_path: Path, recorder: Repeating) -> None:
    source = MLP.replace("import torch\n", "import random\n\nimport torch\n").replace(
        "self.dropout(x)", "self.dropout(x) * (1 + random.random() * 0.1)"
    )
    settings = recipe(length=Duration(epochs=1))
    run(settings, tmp_path / "plain", source)
    _, said = run(replace(settings, cuda_graphs=True), tmp_path / "fallen", source)
    (line,) = said
    assert "draws random numbers from Python's or numpy's generator" in line
    assert recorder.recorded == 0
    assert_same(tmp_path / "plain", tmp_path / "fallen")


def test_on_a_cpu_it_says_so(tmp_path: Path) -> None:
    settings = recipe(length=Duration(epochs=1))
    run(settings, tmp_path / "plain")
    _, said = run(replace(settings, cuda_graphs=True), tmp_path / "cpu")
    assert said == [
        "`cuda_graphs` does not work here, so each kernel is launched by itself: the device is cpu, and they are CUDA's"
    ]
    assert_same(tmp_path / "plain", tmp_path / "cpu")


def test_detached() -> None:
    x = torch.ones(2, requires_grad=True) * 2
    found = detached(Found(outputs=[x, (x,)], layers={"a": x}, loss=x.sum()))
    assert isinstance(found, Found)

    def tensors(value: Any) -> Iterator[torch.Tensor]:
        for item in value.values() if isinstance(value, dict) else value:
            yield from (item,) if isinstance(item, torch.Tensor) else tensors(item)

    assert not any(t.requires_grad for t in tensors([found.outputs, found.layers, found.loss]))
    assert detached(None) is None


def test_a_recording_that_fails_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch leaves the stream of a recording that fails the current one, its generator in the recording, and its
    memory as that of a recording that goes on."""
    told: list[object] = []
    current = ["main"]

    @contextmanager
    def stream(_: object) -> Iterator[None]:
        before, current[0] = current[0], "side"
        try:
            yield
        finally:
            current[0] = before

    class Graph:
        """As torch's: where the recording can't be ended, the stream is not put back."""

        def __init__(self, graph: object, *, pool: object, stream: object, capture_error_mode: str) -> None:
            assert capture_error_mode == "thread_local"

        def __enter__(self) -> None:
            current[0] = "side"

        def __exit__(self, *_: object) -> None:
            raise RuntimeError("operation failed due to a previous error during capture")

    class Generator:
        def clone_state(self) -> str:
            return "a clone"

        def graphsafe_set_state(self, state: object) -> None:
            told.append(state)

    side = SimpleNamespace(device=torch.device("cuda", 0), wait_stream=lambda other: None)
    cuda = {
        "Stream": lambda device: side,
        "current_stream": lambda device: SimpleNamespace(wait_stream=lambda other: None),
        "stream": stream,
        "CUDAGraph": lambda: SimpleNamespace(replay=lambda: None),
        "graph": Graph,
        "graph_pool_handle": lambda: (0, 7),
        "default_generators": (Generator(),),
    }
    for name, value in cuda.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(
        torch._C, "_cuda_endAllocateToPool", lambda index, pool: told.append((index, pool)), raising=False
    )
    with pytest.raises(RuntimeError, match="previous error"):
        CudaRecorder(torch.device("cuda")).record(lambda: None)
    assert current == ["main"]
    assert told == ["a clone", (0, (0, 7))]


class OnDevice(TensorStream):
    def batches(self, epoch: int, start: int = 0) -> Iterator[dict[str, torch.Tensor]]:
        for batch in super().batches(epoch, start):
            yield {name: value.cuda() for name, value in batch.items()}


CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs are recorded on a GPU of NVIDIA's")


@CUDA
@pytest.mark.parametrize("name", SETTINGS)
def test_on_a_gpu_a_run_gives_what_it_gives_without(name: str, tmp_path: Path) -> None:
    """The rates are read in 32 bits, so equal up to that."""
    changes, _ = SETTINGS[name]
    settings = recipe(length=Duration(epochs=2), device="cuda", **changes)
    said: list[str] = []
    results = []
    for recorded in (False, True):
        program = StubProgram(MLP, replace(settings, cuda_graphs=recorded))
        data = digits()
        data.splits = {split: OnDevice(**vars(stream)) for split, stream in data.splits.items()}
        done = train(program, run_dir=tmp_path / str(recorded), data=data, progress="none", say=said.append)
        results.append(done.history[-1]["train.loss"])
    assert said == []
    assert results[0] == pytest.approx(results[1], rel=1e-3)
