"""What a training run does, seen from its directory and its figures."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from training_support import LABEL, MLP, OUTPUT, StubProgram, TensorData, TensorStream, digits, recipe

from netspec.recipe.seeing import TensorBoard
from netspec.recipe.train import (
    ClipGrad,
    Duration,
    EarlyStopping,
    Group,
    Loss,
    Metric,
    Optimizer,
    Reference,
)
from netspec.runtime import checkpoint, device
from netspec.runtime.cores import lent_cores
from netspec.runtime.errors import RunError
from netspec.runtime.evaluate import evaluate
from netspec.runtime.finite import Guard
from netspec.runtime.load import import_source, model_class
from netspec.runtime.optimizers import bare_step, grouped, make_optimizer
from netspec.runtime.run import Run, train
from netspec.runtime.state import copied

LINEAR = '''"""One layer."""

from torch import Tensor, nn


class Linear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc2 = nn.Linear(64, 10)

    def forward(self, image: Tensor) -> Tensor:
        return self.fc2(image.flatten(1))
'''


def go(program: StubProgram, folder: Path, data: Any = None, **more: Any) -> Run:
    return train(program, run_dir=folder, data=data or digits(), progress="none", **more)


def test_it_is_the_loop_that_one_would_write(tmp_path: Path) -> None:
    """The same losses and weights as a loop by hand over the same batches, dropout and batch norm included."""
    program = StubProgram(MLP, recipe())
    run = go(program, tmp_path / "run")

    data = digits()
    torch.manual_seed(0)
    model = model_class(import_source(tmp_path / "run" / "model.py"))()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, fused=True)
    for epoch in range(3):
        total = 0.0
        for batch in data.splits["train"].batches(epoch):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(batch["image"]), batch["label"])
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch["label"])
        assert run.history[epoch]["train.loss"] == pytest.approx(total / 1258, rel=1e-12)
    model.eval()
    test = data.splits["test"].fields
    accuracy = (model(test["image"]).argmax(1) == test["label"]).double().mean().item()
    assert run.results["test"]["accuracy"] == accuracy
    assert evaluate(tmp_path / "run", "test", data=data, program=program) == run.results["test"]
    assert evaluate(tmp_path / "run", "val", data=data, program=program)["loss"] == run.history[-1]["val.loss"]


def test_what_a_run_directory_holds(tmp_path: Path) -> None:
    said: list[str] = []
    run = train(
        StubProgram(MLP, recipe(tensorboard=TensorBoard(), log_every=5)),
        run_dir=tmp_path / "run",
        data=digits(),
        overrides=["train.epochs=3"],
        progress="plain",
        say=said.append,
    )
    folder = tmp_path / "run"
    assert sorted(path.name for path in folder.iterdir()) == [
        ".lock",
        "checkpoints",
        "classes.csv",
        "confusion.png",
        "curves.png",
        "environment.json",
        "metrics.csv",
        "model.py",
        "report.html",
        "resolved.yaml",
        "summary.json",
        "tensorboard",
    ]
    assert (folder / "model.py").read_text() == MLP
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    with (folder / "metrics.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["val.loss"]) for row in rows] == [row["val.loss"] for row in run.history]
    assert [row["step"] for row in rows] == ["20", "40", "60"]
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["status"] == "finished"
    assert summary["overrides"] == ["train.epochs=3"]
    assert summary["results"]["test"] == run.results["test"]
    assert json.loads((folder / "environment.json").read_text())["device"] == "cpu"
    assert [path.name for path in sorted((folder / "checkpoints").iterdir())] == ["step-40", "step-60"]

    assert len([line for line in said if line.startswith("epoch ")]) == 3
    assert said[0].startswith("mlp: 2,474 weights, 1,258 training samples, 3 epochs")
    assert any(line.startswith("test: loss ") and "accuracy 0." in line for line in said)
    assert said[-1].startswith(f"results in {folder}")


def test_tensorboard_shows_epochs_and_steps(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = go(StubProgram(MLP, recipe(tensorboard=TensorBoard(), log_every=5)), tmp_path / "run")
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("loss/train")] == list(range(5, 61, 5))
    found = [event.value for event in events.Scalars("accuracy/val_epoch")]
    assert found == pytest.approx([row["val.accuracy"] for row in run.history])
    # Four points of five steps each make an epoch of 20 batches, the last of which is smaller.
    points = [event.value for event in events.Scalars("loss/train")][:4]
    mean = (320 * sum(points[:3]) + 298 * points[3]) / 1258
    assert mean == pytest.approx(run.history[0]["train.loss"], rel=1e-5)


def test_a_terminal_gets_a_bar_and_the_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = StubProgram(MLP, recipe(length=Duration(epochs=2), log_every=1))
    train(program, run_dir=tmp_path / "run", data=digits(), progress="bar")
    printed = capsys.readouterr().out
    assert "epoch 2/2  train loss" in printed
    assert "results in" in printed


def test_many_epochs_are_not_all_printed(tmp_path: Path) -> None:
    said: list[str] = []
    small = TensorData({"train": TensorStream(digits(samples=20).splits["train"].fields, batch_size=64)})
    program = StubProgram(LINEAR, recipe(length=Duration(epochs=1000)))
    run = train(program, run_dir=tmp_path / "run", data=small, progress="plain", say=said.append)
    assert len(run.history) == 1000
    assert len([line for line in said if line.startswith("epoch")]) == 200
    assert any(line.startswith("epoch 1000/1000") for line in said)


def test_a_dry_run_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said: list[str] = []
    run = train(StubProgram(MLP, recipe()), data=digits(), dry_run=True, say=said.append)
    assert run.directory is None
    assert not list(tmp_path.iterdir())
    assert "a batch holds image [64, 1, 8, 8], label [64]" in said
    assert "nothing was written" in said[-1]


def test_run_directories_are_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    program = StubProgram(MLP, recipe(length=Duration(steps=1)))
    for number in ("1", "2"):
        run = train(program, data=digits(), progress="none")
        assert run.directory == Path("runs/mlp") / number


def test_a_used_directory_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match=r"NS901 .* is not empty") as caught:
        go(StubProgram(MLP, recipe()), tmp_path)
    assert caught.value.help is not None and "--resume" in caught.value.help
    with pytest.raises(RunError, match=r"NS901 .* is no run"):
        train(StubProgram(MLP, recipe()), resume=tmp_path, data=digits())
    with pytest.raises(RunError, match=r"NS901 .* does not exist"):
        train(StubProgram(MLP, recipe()), resume=tmp_path / "absent", data=digits())
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_changed_source_is_not_run(tmp_path: Path) -> None:
    """A run's `model.py` is code: where it is not what the spec says, it runs only by the person's word."""
    program = StubProgram(MLP, recipe())
    go(program, tmp_path / "run")
    path = tmp_path / "run" / "model.py"
    path.write_text(
        MLP.replace(
            "import torch\n", f"import pathlib\npathlib.Path({str(tmp_path / 'trap')!r}).touch()\nimport torch\n", 1
        )
    )
    for attempt in (
        lambda: train(program, resume=tmp_path / "run", data=digits(), progress="none"),
        lambda: evaluate(tmp_path / "run", data=digits(), program=program),
    ):
        with pytest.raises(RunError, match=r"NS904 model\.py of this run is not what its spec says") as caught:
            attempt()
        assert "trap" in caught.value.message
    assert not (tmp_path / "trap").exists()
    assert evaluate(tmp_path / "run", data=digits(), program=program, trust=True)["accuracy"] > 0.9
    assert (tmp_path / "trap").exists()


def test_steps_instead_of_epochs(tmp_path: Path) -> None:
    """The run ends in the middle of an epoch, and is evaluated there."""
    run = go(StubProgram(MLP, recipe(length=Duration(steps=25))), tmp_path / "run")
    assert [(row["epoch"], row["step"]) for row in run.history] == [(1, 20), (2, 25)]
    assert run.steps == 25
    assert run.results["test"]["accuracy"] > 0.5


def test_without_val_metrics_are_those_of_training(tmp_path: Path) -> None:
    data = digits()
    del data.splits["val"]
    run = go(StubProgram(MLP, recipe()), tmp_path / "run", data)
    columns = ["epoch", "step", "train.loss", "train.accuracy", "lr", "samples_per_second", "seconds", "withheld"]
    assert list(run.history[0]) == columns
    assert 0.5 < run.history[-1]["train.accuracy"] < 1
    assert list(run.results) == ["test"]


def test_accumulated_batches_are_one_larger_batch(tmp_path: Path) -> None:
    """Four batches of 16 make the update of one of 64, and the two left at the end of an epoch that of one of 32."""
    sgd = Optimizer(type="SGD", target="torch.optim.SGD", arguments={"lr": 0.1})
    fields = {name: value[:288] for name, value in digits().splits["train"].fields.items()}
    ends = []
    for size, count in ((16, 4), (64, 1)):
        data = TensorData({"train": TensorStream(fields, batch_size=size, shuffle=False)})
        run = go(StubProgram(LINEAR, recipe(optimizer=sgd, accumulate=count)), tmp_path / str(count), data)
        assert run.steps == 15
        ends.append(checkpoint.load(tmp_path / str(count) / "checkpoints" / "step-15").model["fc2.weight"])
    torch.testing.assert_close(*ends)


def test_early_stopping(tmp_path: Path) -> None:
    """A rate of zero improves nothing: the run ends after `patience` epochs without improvement."""
    frozen = Optimizer(type="SGD", target="torch.optim.SGD", arguments={"lr": 0.0})
    rule = EarlyStopping(monitor="val.loss", patience=2)
    run = go(
        StubProgram(LINEAR, recipe(length=Duration(epochs=50), optimizer=frozen, early_stopping=rule)), tmp_path / "r"
    )
    assert len(run.history) == 3
    assert run.status == "finished"


def test_clipping_bounds_the_update(tmp_path: Path) -> None:
    sgd = Optimizer(type="SGD", target="torch.optim.SGD", arguments={"lr": 1.0})
    one = {"length": Duration(steps=1), "optimizer": sgd}
    for rule, bound in (
        (ClipGrad(norm=0.01), lambda change: change.norm()),
        (ClipGrad(value=0.002), lambda c: c.abs().max()),
    ):
        folder = tmp_path / repr(rule)
        go(StubProgram(LINEAR, recipe(**one, clip_grad=rule)), folder)
        torch.manual_seed(0)
        start = model_class(import_source(folder / "model.py"))()
        end = checkpoint.load(folder / "checkpoints" / "step-1").model
        change = torch.cat([(end[name] - value).flatten() for name, value in start.state_dict().items()])
        expected = rule.norm or rule.value
        assert float(bound(change)) == pytest.approx(expected, rel=1e-3)


class TestNotFinite:
    def poisoned(self, batches: set[int]) -> TensorData:
        """Digits whose batches of these numbers, over all epochs, hold an infinity."""

        class Poisoned(TensorStream):
            def batches(self, epoch: int, start: int = 0) -> Iterator[dict[str, Tensor]]:
                for index, batch in enumerate(super().batches(epoch, start), start):
                    if epoch * self.batches_per_epoch + index in batches:
                        batch = {**batch, "image": batch["image"].index_fill(0, torch.tensor([3]), math.inf)}
                    yield batch

        data = digits()
        data.splits["train"] = Poisoned(**vars(data.splits["train"]))
        return data

    def test_a_few_are_skipped(self, tmp_path: Path) -> None:
        """The update is withheld, the weights stay finite, and the line of the epoch says so."""
        said: list[str] = []
        run = train(
            StubProgram(LINEAR, recipe()),
            run_dir=tmp_path / "run",
            data=self.poisoned({3, 4, 25}),
            say=said.append,
            progress="plain",
        )
        assert [row["withheld"] for row in run.history] == [2, 1, 0]
        assert "2 updates withheld (not finite)" in said[1]
        assert run.results["test"]["accuracy"] > 0.9

    def test_too_many_stop_the_run(self, tmp_path: Path) -> None:
        with pytest.raises(RunError) as caught:
            go(StubProgram(LINEAR, recipe()), tmp_path / "run", self.poisoned(set(range(5, 30))))
        assert caught.value.code == "NS902"
        assert "10 updates were withheld" in caught.value.message
        assert "epoch 1, batch 15 of 20" in caught.value.message
        assert "the field `image` of the batch itself" in caught.value.message
        summary = json.loads((tmp_path / "run" / "summary.json").read_text())
        assert summary["status"] == "failed" and "NS902" in summary["error"]

    def test_clipping_does_not_mend_them(self, tmp_path: Path) -> None:
        run = go(StubProgram(LINEAR, recipe(clip_grad=ClipGrad(norm=1.0))), tmp_path / "run", self.poisoned({3}))
        assert run.history[0]["withheld"] == 1
        assert math.isfinite(run.history[0]["val.loss"])

    @pytest.mark.parametrize(
        "line,words",
        [
            ("x = self.fc1(image.flatten(1)); x = self.bn1(x * 1e30 * 1e30)", "is that of `mul` (model.py, line "),
            ("x = self.bn1(self.fc1(image.flatten(1))).sqrt()", "is that of `sqrt` (model.py, line "),
            ("x = self.fc1(image.flatten(1) * 1e30 * 1e10)", "is that of `mul` (model.py, line "),
            (
                "x = self.fc1(image.flatten(1) * 0 + 3e38 * self.fc1.weight[0].sign())",
                "is not finite is `fc1` (Linear)",
            ),
            (
                "x = self.fc1(image.flatten(1)).abs(); x = (x - x).sqrt()",
                "the first gradient that is not is that of `fc1.",
            ),
        ],
    )
    def test_the_first_layer_is_named(self, tmp_path: Path, line: str, words: str) -> None:
        source = MLP.replace("x = self.relu(self.bn1(self.fc1(image.flatten(1))))", line)
        with pytest.raises(RunError) as caught:
            go(StubProgram(source, recipe()), tmp_path / "run")
        assert words in caught.value.message

    def test_hooks_and_profilers_see_the_step(self) -> None:
        """The loop leaves torch's mark around a step out, but not where somebody waits for it."""
        weight = nn.Parameter(torch.ones(2))
        made, twin = torch.optim.SGD([weight], lr=0.5), torch.optim.SGD([nn.Parameter(torch.ones(2))], lr=0.5)
        for optimizer, step in ((made, bare_step(made)), (twin, twin.step)):
            optimizer.param_groups[0]["params"][0].grad = torch.full((2,), 0.3)
            step()
        assert torch.equal(weight, twin.param_groups[0]["params"][0])
        assert bare_step(made) != made.step
        with torch.profiler.profile(acc_events=True) as found:
            bare_step(made)()
        assert any(event.key == "Optimizer.step#SGD.step" for event in found.key_averages())
        seen: list[object] = []
        made.register_step_post_hook(lambda *_: seen.append(1))
        bare_step(made)()
        assert seen == [1]

    @pytest.mark.parametrize("kind", ["AdamW", "SGD"])
    def test_on_the_device_the_optimizer_looks_for_itself(self, kind: str) -> None:
        """What a GPU does, where nothing waits for the answer: weights and moments stay as they were."""
        model = nn.Linear(3, 2)
        settings = {"momentum": 0.9} if kind == "SGD" else {}
        made = make_optimizer(
            model, Optimizer(type=kind, target=f"torch.optim.{kind}", arguments={"lr": 0.1, **settings})
        )
        guard = Guard(made, torch.device("cpu"), deferred=True, withheld=0, step=0)

        def update(value: float) -> dict[str, Any]:
            loss = (model(torch.ones(4, 3)) * value).sum()
            loss.backward()
            assert guard.check(loss.detach(), [p.grad for p in model.parameters() if p.grad is not None])
            made.step()
            model.zero_grad()
            return copied({"weights": model.state_dict(), "memory": made.state_dict()["state"]})

        first, second, third, fourth = update(1.0), update(math.inf), update(math.nan), update(1.0)
        for name in ("weight", "bias"):
            assert torch.equal(first["weights"][name], second["weights"][name])
            assert torch.equal(first["weights"][name], third["weights"][name])
            assert not torch.equal(first["weights"][name], fourth["weights"][name])
        for name, value in first["memory"][0].items():
            assert torch.equal(value, third["memory"][0][name]), name
        assert (guard.read(), guard.last, guard.step) == (2, 3, 4)

    def test_the_loss_is_named(self, tmp_path: Path) -> None:
        """Class indices beyond what BCE can do: log of a negative number."""
        loss = Loss(
            name="loss",
            type="PoissonNLLLoss",
            target="torch.nn.PoissonNLLLoss",
            arguments={"log_input": False},
            inputs=(OUTPUT, Reference(kind="field", name="wide")),
        )
        data = digits()
        for stream in data.splits.values():
            stream.fields["wide"] = torch.ones(stream.size, 10)
        with pytest.raises(RunError, match="the loss is not finite, while the model's output is"):
            go(StubProgram(LINEAR, recipe(losses=(loss,))), tmp_path / "run", data)


class TestOptimizer:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
            self.head = nn.Linear(4, 2)

    def optimizer(self, *groups: Group) -> Optimizer:
        return Optimizer(type="AdamW", target="torch.optim.AdamW", arguments={"lr": 1e-3}, groups=groups)

    def test_groups_merge_and_later_ones_win(self) -> None:
        groups = (
            Group(match=("backbone.*",), arguments={"lr": 1e-4}),
            Group(match=("*.bias", "backbone.1.*"), arguments={"weight_decay": 0.0}),
            Group(match=("head.bias",), arguments={"lr": 1e-2}),
        )
        found = grouped(list(self.Model().named_parameters()), self.optimizer(*groups))
        assert [(settings, [name for name, _ in members]) for settings, members in found] == [
            ({"lr": 1e-4}, ["backbone.0.weight"]),
            ({"lr": 1e-4, "weight_decay": 0.0}, ["backbone.0.bias", "backbone.1.weight", "backbone.1.bias"]),
            ({}, ["head.weight"]),
            ({"weight_decay": 0.0, "lr": 1e-2}, ["head.bias"]),
        ]

    def test_torch_gets_the_merged_settings(self) -> None:
        model = self.Model()
        made = make_optimizer(model, self.optimizer(Group(match=("head.*",), arguments={"lr": 0.5})))
        assert [(group["lr"], group["weight_decay"], len(group["params"])) for group in made.param_groups] == [
            (1e-3, 1e-2, 4),
            (0.5, 1e-2, 2),
        ]
        assert all(group["fused"] for group in made.param_groups)

    def test_frozen_weights_are_left_out(self) -> None:
        model = self.Model()
        model.backbone.requires_grad_(False)
        assert sum(len(group["params"]) for group in make_optimizer(model, self.optimizer()).param_groups) == 2
        model.requires_grad_(False)
        with pytest.raises(RunError, match="NS908 the model has no weights to train"):
            make_optimizer(model, self.optimizer())

    def test_what_torch_refuses_is_said(self) -> None:
        bad = Optimizer(type="Muon", target="torch.optim.Muon")
        with pytest.raises(RunError, match="NS908 Muon refuses its settings: Muon only supports 2D"):
            make_optimizer(self.Model(), bad)


def test_several_losses_and_named_outputs(tmp_path: Path) -> None:
    source = MLP.replace("import torch\n", "from typing import NamedTuple\n\nimport torch\n").replace(
        "        return self.fc2(self.dropout(x))", "        return Outputs(self.fc2(self.dropout(x)), self.aux(x))"
    )
    source = source.replace("        self.relu", "        self.aux = nn.Linear(32, 10)\n        self.relu").replace(
        "-> Tensor", "-> Outputs"
    )
    source = source.replace(
        "class Mlp", "class Outputs(NamedTuple):\n    logits: Tensor\n    aux: Tensor\n\n\nclass Mlp"
    )
    logits, aux = (Reference(kind="output", name=name) for name in ("logits", "aux"))
    losses = tuple(
        Loss(name=name, type="CrossEntropyLoss", target="torch.nn.CrossEntropyLoss", inputs=(out, LABEL), factor=factor)
        for name, out, factor in (("main", logits, 1.0), ("aux", aux, 0.3))
    )
    metrics = tuple(
        Metric(name=name, type="Accuracy", inputs=(out, LABEL)) for name, out in (("main", logits), ("aux", aux))
    )
    program = StubProgram(source, recipe(losses=losses, metrics=metrics), outputs={"logits": None, "aux": None})
    run = go(program, tmp_path / "run")
    assert run.results["test"]["main"] > 0.9
    assert run.results["test"]["aux"] > 0.9


def test_fields_that_the_data_do_not_have(tmp_path: Path) -> None:
    with pytest.raises(
        RunError, match=r"NS913 the model's input `image` takes the field `picture`, and the data have `image`"
    ):
        go(StubProgram(MLP, recipe(inputs={"image": "picture"})), tmp_path / "run")


def test_classes_that_only_the_data_know(tmp_path: Path) -> None:
    data = digits()
    stream = data.splits["train"]
    assert isinstance(stream, TensorStream)
    known = {"image": SimpleNamespace(num_classes=None), "label": SimpleNamespace(num_classes=12)}
    typed = type("Typed", (TensorStream,), {"fields": property(lambda self: known)})
    data.splits["train"] = typed.__new__(typed)
    with pytest.raises(RunError, match="NS913 the data have 12 classes, and the model's output `fc2` has 10 scores"):
        go(StubProgram(MLP, recipe(), outputs={"fc2": SimpleNamespace(shape=(64, 10))}), tmp_path / "run", data)


def test_a_spec_without_training(tmp_path: Path) -> None:
    program = SimpleNamespace(name="bare", recipe=None)
    with pytest.raises(RunError, match="NS912 bare has no `train` section"):
        train(program, run_dir=tmp_path / "run")


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
def test_every_precision_learns(tmp_path: Path, precision: Any) -> None:
    run = go(StubProgram(MLP, recipe(precision=precision)), tmp_path / "run")
    assert run.results["test"]["accuracy"] > 0.85


class TestDevice:
    def test_a_device_that_is_not_there(self) -> None:
        with pytest.raises(RunError, match="NS906 this machine has no device `cuda:77`"):
            device.choose_device("cuda:77")

    def test_a_small_step_takes_one_thread(self) -> None:
        before = torch.get_num_threads()
        try:
            torch.set_num_threads(2)
            cpu = torch.device("cpu")
            if lent_cores() > 1:
                assert device.set_threads(None, cpu, lambda: 1e12) == 2
            assert device.set_threads(None, cpu, lambda: 9e8) == 1  # two threads pay from a GFLOP on
            torch.set_num_threads(2)
            assert device.set_threads(None, cpu, lambda: 1e6) == 1
            assert device.set_threads(2, cpu, lambda: 1e6) == 2
        finally:
            torch.set_num_threads(before)

    def test_a_quota_counts(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("netspec.runtime.cores.GROUPS", tmp_path)
        whole = lent_cores()
        (tmp_path / "cpu.max").write_text("50000 100000\n")
        (tmp_path / "cpu").mkdir()
        (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("50000\n")
        (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
        assert lent_cores() == 1
        (tmp_path / "cpu.max").write_text("max 100000\n")
        (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("-1\n")
        assert lent_cores() == whole

    def test_a_run_leaves_the_number_of_threads_alone(self, tmp_path: Path) -> None:
        before = torch.get_num_threads()
        go(StubProgram(MLP, recipe(threads=3)), tmp_path / "run")
        assert torch.get_num_threads() == before

    def test_the_work_of_a_step(self) -> None:
        """Checked against torch's own counter: a training step is about three forward passes."""
        from torch.utils.flop_counter import FlopCounterMode

        model = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 7 * 7, 5))
        image = torch.zeros(4, 3, 16, 16)
        with FlopCounterMode(display=False) as counter:
            model(image)
        assert device.step_flops(model, lambda: model(image)) == 3 * counter.get_total_flops()
        assert model.training
