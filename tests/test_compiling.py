"""`train.compile`: the model through torch's compiler, exact within the setting, and without it where it fails."""

from __future__ import annotations

import random
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from test_resume import assert_same, deadly, in_child, start_or_resume
from torch import nn
from training_support import MLP, StubProgram, digits, recipe

import netspec
from netspec.recipe.train import Checkpoint, Compile, Duration, Ema, Optimizer, TrainRecipe
from netspec.runtime import checkpoint
from netspec.runtime.compiling import reason
from netspec.runtime.evaluate import evaluate
from netspec.runtime.run import train

EAGER = Compile(backend="aot_eager")
COUNTING, COUNTING_AOT = Compile(backend="counting"), Compile(backend="counting_aot")
SGD = Optimizer(type="SGD", target="torch.optim.SGD", arguments={"lr": 0.05, "momentum": 0.9})
BREAKING = MLP.replace("        x = self.relu", "        print(end='')\n        x = self.relu")


@pytest.fixture(autouse=True)
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netspec.runtime.run.draw_curves", lambda *_: None)


QUICK = ("plain", "fp16")


def register(name: str, backend: Any) -> None:
    """Make a compiler of the test's own known to torch, in place of one of that name."""
    from torch._dynamo.backends.registry import _BACKENDS, _COMPILER_FNS

    _BACKENDS[name] = None
    _COMPILER_FNS[name] = backend


@pytest.fixture
def graphs() -> list[int]:
    """The batch sizes for which `counting` and `counting_aot` are asked for a graph."""
    from torch._dynamo.backends import debugging

    found: list[int] = []

    def wrapped(backend: Any) -> Any:
        def counting(module: Any, inputs: Any, **arguments: Any) -> Any:
            found.extend(value.shape[0] for value in inputs if value.dim() == 4)
            return backend(module, inputs, **arguments)

        return counting

    register("counting", wrapped(debugging.eager))
    register("counting_aot", wrapped(debugging.aot_eager))
    return found


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(checkpoint.stored(folder / "checkpoints")[-1].path / "model.safetensors")


def run(settings: TrainRecipe, folder: Path, source: str = MLP) -> tuple[netspec.Run, list[str]]:
    said: list[str] = []
    done = train(StubProgram(source, settings), run_dir=folder, data=digits(), progress="none", say=said.append)
    return done, said


SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "bf16": {"precision": "bf16"},
    "fp16": {"precision": "fp16"},
    "accumulate-ema": {"accumulate": 3, "ema": Ema(decay=0.9)},
    "lbfgs": {
        "length": Duration(steps=4),
        "optimizer": Optimizer(type="LBFGS", target="torch.optim.LBFGS", arguments={"lr": 0.1, "max_iter": 3}),
    },
}


@pytest.mark.parametrize(
    "name", [*QUICK, *(pytest.param(n, marks=pytest.mark.long) for n in SETTINGS if n not in QUICK)]
)
def test_the_weights_are_those_of_the_plain_model(name: str, tmp_path: Path, graphs: list[int]) -> None:
    """Through a backend that computes what eager torch does: same bits, same keys; whole batches alone are compiled.

    (`aot_eager` takes the backward pass of autocast apart, and rounds elsewhere.)
    """
    settings = recipe(**{"length": Duration(epochs=2), "optimizer": SGD, **SETTINGS[name]})
    plain, _ = run(settings, tmp_path / "plain")
    done, said = run(replace(settings, compile=COUNTING if "16" in name else COUNTING_AOT), tmp_path / "compiled")
    assert said == []
    assert_same(tmp_path / "plain", tmp_path / "compiled")
    assert done.results == plain.results
    assert set(graphs) == {64} and len(graphs) == 2, "once to train and once to evaluate"


def test_evaluating_a_run_compiles_too(tmp_path: Path, graphs: list[int]) -> None:
    program = StubProgram(MLP, recipe(compile=COUNTING, length=Duration(epochs=1)))
    done = train(program, run_dir=tmp_path / "run", data=digits(), progress="none")
    graphs.clear()
    assert evaluate(tmp_path / "run", "test", program=program, data=digits()) == done.results["test"]  # type: ignore[arg-type]
    assert graphs == [64]


def test_a_killed_run_goes_on_exactly(tmp_path: Path) -> None:
    settings = recipe(
        compile=EAGER,
        checkpoint=Checkpoint(every=Duration(steps=3)),
        length=Duration(epochs=2),
        accumulate=2,
        ema=Ema(decay=0.9),
    )
    program = StubProgram(MLP, settings)
    train(program, run_dir=tmp_path / "whole", data=digits(), progress="none")
    draw = random.Random(0)
    for _ in range(2):
        status = in_child(lambda: start_or_resume(program, tmp_path / "killed", deadly(draw.randrange(5, 25))))
        assert status in (0, -signal.SIGKILL)
    start_or_resume(program, tmp_path / "killed", digits())
    assert_same(tmp_path / "whole", tmp_path / "killed")


FAILURES = {
    "no such backend": (MLP, Compile(backend="nonesuch"), "Invalid backend: 'nonesuch'"),
    "fullgraph": (BREAKING, Compile(backend="eager", fullgraph=True), "Dynamo does not know how to trace .*model.py"),
    "backend": (MLP, Compile(backend="failing"), "there is no such machine"),
    "backward": (MLP, Compile(backend="failing_backward"), "no way back"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_it_goes_on_without_the_compiler_where_that_fails(name: str, tmp_path: Path) -> None:
    """One line says why, and the weights are those of a run that never tried, dropout and running means included."""
    from functorch.compile import make_boxed_func
    from torch._dynamo.backends.common import aot_autograd

    def failing(module: Any, inputs: Any) -> Any:
        raise OSError("there is no such machine")

    def no_way_back(module: Any, inputs: Any) -> Any:
        raise RuntimeError("no way back")

    backward = aot_autograd(fw_compiler=lambda m, _: make_boxed_func(m.forward), bw_compiler=no_way_back)
    register("failing", failing)
    register("failing_backward", backward)
    source, rule, why = FAILURES[name]
    settings = recipe(length=Duration(epochs=1))
    run(settings, tmp_path / "plain", source)
    done, said = run(replace(settings, compile=rule), tmp_path / "fallen", source)
    assert done.status == "finished"
    (line,) = said
    assert line.startswith("`compile` does not work here, so the model runs uncompiled: ") and len(line) < 400
    assert re.search(why, line)
    assert_same(tmp_path / "plain", tmp_path / "fallen")


def test_a_graph_break_alone_is_no_failure(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    settings = recipe(length=Duration(epochs=1))
    run(settings, tmp_path / "plain", BREAKING)
    _, said = run(replace(settings, compile=EAGER), tmp_path / "compiled", BREAKING)
    assert said == []
    assert_same(tmp_path / "plain", tmp_path / "compiled")


def test_a_model_that_fails_by_itself_says_so(tmp_path: Path) -> None:
    wrong = MLP.replace("nn.Linear(32, num_classes)", "nn.Linear(33, num_classes)")
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        run(recipe(compile=EAGER), tmp_path / "run", wrong)


def test_hooks_see_what_layers_give(tmp_path: Path, graphs: list[int]) -> None:
    """A look at a layer finds the same figures as in a run that is not compiled."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = []
    for name, rule in (("plain", None), ("compiled", {"backend": "counting"})):
        spec = digits_spec(compile=rule) if rule else digits_spec()
        netspec.train(netspec.compile(spec), run_dir=tmp_path / name, progress="none")
        events = EventAccumulator(str(tmp_path / name / "tensorboard"))
        events.Reload()
        found.append({tag: [s.value for s in events.Scalars(tag)] for tag in events.Tags()["scalars"] if "act" in tag})
    assert found[0] == found[1] and any(found[0].values())
    assert set(graphs) == {32}, "and what is not looked at is compiled"


def digits_spec(**settings: Any) -> dict[str, Any]:
    return {
        "netspec": 1,
        "name": "small",
        "model": {
            "inputs": {"image": ["N", 1, 8, 8]},
            "layers": {
                "flat": "Flatten",
                "body": {"type": "Linear", "out_features": 16},
                "relu": "ReLU",
                "head": {"type": "Linear", "out_features": 10},
            },
        },
        "data": {"source": "Digits", "split": {"train": 0.1, "val": 0.1, "test": 0.8}, "batch_size": 32},
        "train": {
            "steps": 10,
            "loss": "CrossEntropyLoss",
            "optimizer": "SGD",
            "device": "cpu",
            "threads": 1,
            "monitor": {"every": 4, "activations": "body"},
            **settings,
        },
    }


def test_the_model_within_an_objective_of_layers_is_compiled(tmp_path: Path, graphs: list[int]) -> None:
    layers = {
        "scores": {"use": "model", "from": "image"},
        "loss": {"type": "CrossEntropyLoss", "from": ["scores", "label"], "label_smoothing": 0.1},
    }
    found = []
    for name, rule in (("plain", False), ("compiled", {"backend": "counting"})):
        spec = digits_spec(compile=rule, layers=layers)
        del spec["train"]["loss"], spec["train"]["monitor"]
        done = netspec.train(netspec.compile(spec), run_dir=tmp_path / name, progress="none")
        found.append((done.results, weights(tmp_path / name)))
    assert set(graphs) == {32} and found[0][0] == found[1][0]
    assert all(torch.equal(value, found[1][1][key]) for key, value in found[0][1].items())


def test_the_reason_is_one_line() -> None:
    assert reason(RuntimeError("first\n\nsecond")) == "first"
    assert reason(RuntimeError("")) == "RuntimeError"
    assert len(reason(RuntimeError("x" * 5000))) == 240


@pytest.mark.long
@pytest.mark.parametrize("mode", ["default", "max-autotune-no-cudagraphs"])
def test_inductor_trains_and_resumes_exactly(mode: str, tmp_path: Path) -> None:
    settings = recipe(
        compile=Compile(mode=mode), length=Duration(epochs=2), checkpoint=Checkpoint(every=Duration(steps=3))
    )
    program = StubProgram(MLP, settings)
    said: list[str] = []
    done = train(program, run_dir=tmp_path / "whole", data=digits(), progress="none", say=said.append)
    assert said == [] and done.results["test"]["accuracy"] > 0.9
    script = (
        "import sys; sys.path[:0] = sys.argv[3:]\n"
        "from test_compiling import *\n"
        "settings = recipe(compile=Compile(mode=sys.argv[2]), length=Duration(epochs=2),"
        " checkpoint=Checkpoint(every=Duration(steps=3)))\n"
        "start_or_resume(StubProgram(MLP, settings), Path(sys.argv[1]), deadly(27))\n"
    )
    here = Path(__file__).resolve().parent
    command = [sys.executable, "-c", script, str(tmp_path / "killed"), mode, str(here), str(here.parent)]
    assert subprocess.run(command, check=False, timeout=500).returncode == -signal.SIGKILL
    start_or_resume(program, tmp_path / "killed", digits())
    assert_same(tmp_path / "whole", tmp_path / "killed")
    assert evaluate(tmp_path / "whole", "test", program=program, data=digits()) == done.results["test"]  # type: ignore[arg-type]
    plain = nn.Module.state_dict(program_module())
    assert weights(tmp_path / "whole").keys() == plain.keys()


def program_module() -> nn.Module:
    names: dict[str, Any] = {}
    exec(MLP, names)
    module: nn.Module = names["Mlp"]()
    return module
