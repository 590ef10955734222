"""What a run leaves for use elsewhere: exports against the module, `netspec.load`, predictions of what one has."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from sklearn.datasets import load_digits

import netspec
from netspec.cli import main
from netspec.runtime.errors import RunError
from netspec.runtime.evaluate import load_run
from netspec.runtime.export import export
from netspec.runtime.run import train

SPEC: dict[str, Any] = {
    "netspec": 1,
    "name": "small",
    "model": {
        "inputs": {"image": ["N", 1, 8, 8]},
        "layers": {
            "body": {
                "freeze": True,
                "layers": [{"type": "Conv2d", "out_channels": 4, "kernel_size": 3}, "BatchNorm2d", "ReLU", "Dropout"],
            },
            "flat": "Flatten",
            "head": {"type": "Linear", "out_features": 10},
            "side": {"type": "Linear", "out_features": 2, "from": "flat"},
        },
        "outputs": {"logits": "head", "extra": "side"},
    },
    "data": {
        "train": {
            "source": "Digits",
            "transforms": [{"type": "RandomErasing", "p": 0.5}, {"type": "Normalize", "mean": [0.3], "std": [0.4]}],
        },
        "split": {"train": 0.1, "val": 0.1},
        "batch_size": 32,
    },
    "train": {
        "epochs": 1,
        "loss": {"type": "CrossEntropyLoss", "from": ["logits", "label"]},
        "optimizer": {"type": "SGD", "lr": 0.1},
        "device": "cpu",
        "threads": 1,
        "tensorboard": False,
    },
}


def spec() -> dict[str, Any]:
    data = SPEC["data"]
    return {**SPEC, "data": {**data["train"], "split": data["split"], "batch_size": 32}}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "run"
    train(netspec.compile(spec()), run_dir=folder, progress="none")
    return folder


def card_of(path: Path) -> dict[str, Any]:
    if path.suffix == ".onnx":
        import onnxruntime

        text = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map["netspec"]
    elif path.suffix == ".pt2":
        extra = {"netspec.json": ""}
        torch.export.load(path, extra_files=extra)
        text = extra["netspec.json"]
    elif path.suffix == ".safetensors":
        with safe_open(path, "pt") as file:
            text = file.metadata()["netspec"]
    else:
        text = path.with_suffix(".json").read_text()
    found: dict[str, Any] = json.loads(text)
    return found


@pytest.mark.parametrize("ending", ["onnx", "pt2", "safetensors", "pt"])
def test_an_export_gives_what_the_module_gives(run: Path, tmp_path: Path, ending: str) -> None:
    """Loaded by others' loaders, in a batch size that the export itself did not look at."""
    path = tmp_path / f"m.{ending}"
    assert main(["export", str(run), "-o", str(path)]) == 0
    assert not [one for one in tmp_path.iterdir() if "tmp" in one.name or one.name.endswith(".data")]
    model = load_run(run).model
    images = torch.randn(7, 1, 8, 8)
    with torch.no_grad():
        logits, extra = model(images)
    if ending == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path)
        assert [one.name for one in session.get_inputs()] == ["image"]
        assert session.get_inputs()[0].shape[1:] == [1, 8, 8] and isinstance(session.get_inputs()[0].shape[0], str)
        given = [torch.from_numpy(one) for one in session.run(["logits", "extra"], {"image": images.numpy()})]
    elif ending == "pt2":
        given = list(torch.export.load(path).module()(images))
    else:
        weights = torch.load(path, weights_only=True) if ending == "pt" else safetensors_of(path)
        other = netspec.compile(spec()).module(seed=5)
        other.load_state_dict(weights)
        with torch.no_grad():
            given = list(other.eval()(images))
    torch.testing.assert_close(given[0], logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(given[1], extra, atol=1e-5, rtol=1e-5)
    card = card_of(path)
    assert card["inputs"] == {"image": {"shape": ["N", 1, 8, 8], "dtype": "float32"}}
    assert list(card["outputs"]) == ["logits", "extra"] and card["classes"] == [str(i) for i in range(10)]
    assert card["preprocessing"] == [{"type": "Normalize", "mean": [0.3], "std": [0.4]}], "the random ones stay out"


def safetensors_of(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(path)


def test_an_export_that_differs_leaves_no_file(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "m.pt2"
    with pytest.raises(RunError) as error:
        export(run, tmp_path / "m.xyz")
    assert error.value.code == "NS941"
    original = torch.export.load

    class Wrong:
        def __init__(self, made: Any) -> None:
            self.made = made

        def module(self) -> Any:
            return lambda *inputs: [value + 0.01 for value in self.made.module()(*inputs)]

    monkeypatch.setattr(torch.export, "load", lambda *a, **k: Wrong(original(*a, **k)))
    assert main(["export", str(run), "-o", str(path)]) == 3
    assert "NS942" in capsys.readouterr().err and not list(tmp_path.iterdir())
    assert main(["export", str(run), "-o", str(path), "--tolerance", "0.1"]) == 0 and path.is_file()

    def refuses(*_: Any, **__: Any) -> Any:
        raise RuntimeError("data-dependent\nand more")

    monkeypatch.setattr(torch.export, "export", refuses)
    assert main(["export", str(run), "-o", str(tmp_path / "n.pt2")]) == 3
    shown = capsys.readouterr().err
    assert "NS941" in shown and "data-dependent" in shown and "and more" not in shown


def test_a_loaded_run_is_called_and_asked(run: Path, tmp_path: Path) -> None:
    trained = netspec.load(run)
    assert trained.classes == tuple(str(i) for i in range(10)) and trained.device.type == "cpu"
    digits = load_digits().images[:5]
    pixels = np.rint(digits * 255 / 16).astype(np.uint8)
    paths = []
    for index, picture in enumerate(pixels):
        paths.append(tmp_path / f"{index}.png")
        Image.fromarray(picture).save(paths[-1])
    np.savez(tmp_path / "all.npz", image=pixels)
    ready = (torch.from_numpy(pixels).float()[:, None] / 255 - 0.3) / 0.4
    torch.testing.assert_close(trained.preprocess(paths), ready)
    logits, extra = trained(ready)
    assert not logits.requires_grad
    for given in (paths, tmp_path, tmp_path / "all.npz", list(pixels), [Image.fromarray(one) for one in pixels]):
        inputs = [tmp_path / "all.npz"] if given == tmp_path / "all.npz" else given
        found = trained.predict(inputs, batch_size=2)
        assert [row["class"] for row in found] == [str(int(one)) for one in logits.argmax(1)], given
        torch.testing.assert_close(
            torch.tensor([list(row["probabilities"].values()) for row in found]), logits.softmax(1), atol=1e-5, rtol=0
        )
        torch.testing.assert_close(
            torch.tensor([row["outputs"]["extra"]["prediction"] for row in found]), extra, atol=1e-5, rtol=0
        )
    for one in (pixels[0], Image.fromarray(pixels[0]), paths[0], str(paths[0])):
        assert trained.predict(one) == [{**trained.predict(paths[:1])[0], "input": trained.predict(one)[0]["input"]}]
    with pytest.raises(RunError, match="uint8"):
        trained.predict([digits[0]])


def test_files_that_cannot_be_read_are_counted(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no image")
    assert main(["predict", str(run), str(tmp_path)]) == 0
    shown = capsys.readouterr()
    assert len(shown.out.splitlines()) == 1 and "b.png" in shown.err and "1 of 2 could not be read" in shown.err
    assert main(["predict", str(run), str(tmp_path / "b.png")]) == 3
    assert main(["predict", str(run), str(tmp_path), "--format", "csv"]) == 0
    row = next(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert {"input", "prediction", "class", "probability of 3", "extra: prediction 1"} <= row.keys()


def test_an_evaluation_tells_of_each_class(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """scikit-learn counts the same."""
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    from netspec.runtime.data import open_data

    assert main(["eval", str(run), "--split", "val", "--classes", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    trained = netspec.load(run)
    data = open_data(
        trained.program.recipe.data, seed=0, device=torch.device("cpu"), splits=["val"], state=trained.run.data_state
    )
    truth, answers = [], []
    for batch in data.splits["val"].batches(0):
        truth += batch["label"].tolist()
        answers += trained(batch["image"])[0].argmax(1).tolist()
    assert found["confusion"] == confusion_matrix(truth, answers, labels=range(10)).tolist()
    precision, recall, f1, support = precision_recall_fscore_support(truth, answers, labels=range(10), zero_division=0)
    for index, one in enumerate(found["classes"]):
        expected = [precision[index], recall[index], f1[index]]
        assert [one["precision"], one["recall"], one["f1_score"]] == pytest.approx(expected)
        assert one["support"] == support[index]
    assert main(["eval", str(run), "--split", "val", "--classes"]) == 0
    assert "| true \\ answered |" in capsys.readouterr().out
