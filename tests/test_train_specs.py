"""Real specs from the command line to the weights: train, kill, resume, evaluate, predict."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes, load_digits
from sklearn.linear_model import LinearRegression
from test_resume import assert_same

import netspec
from netspec.cli import main
from netspec.runtime.evaluate import evaluate, load_run
from netspec.runtime.predict import predict, predictions

CLI = "import sys; from netspec.cli import main; sys.exit(main())"
SETTINGS = ("train.epochs=4", "train.checkpoint={every: {steps: 7}}", "train.device=cpu", "train.threads=1")
OVERRIDES = [word for setting in SETTINGS for word in ("--set", setting)]


@pytest.fixture(scope="module")
def digits_run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LeNet on the digits for four epochs."""
    folder = tmp_path_factory.mktemp("digits") / "run"
    assert main(["train", str(root / "specs" / "digits.yaml"), "--run-dir", str(folder), *OVERRIDES]) == 0
    return folder


def test_a_killed_process_goes_on_bit_by_bit(root: Path, digits_run: Path, tmp_path: Path) -> None:
    """SIGKILL from outside, at whatever instruction it hits, then `--resume` on the folder alone."""
    folder = tmp_path / "killed"
    command = [sys.executable, "-uc", CLI, "train", str(root / "specs" / "digits.yaml"), "--run-dir", str(folder)]
    with subprocess.Popen([*command, *OVERRIDES], stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("epoch 2/4"):
                process.send_signal(signal.SIGKILL)
                break
        process.stdout.read()
    assert process.returncode == -signal.SIGKILL
    assert main(["train", "--resume", str(folder)]) == 0
    assert_same(digits_run, folder)


def test_both_doors_train_the_same(root: Path, digits_run: Path) -> None:
    """What the run trained is what `program.module` gives under the seed: the live module takes its weights."""
    program = netspec.compile(root / "specs" / "digits.yaml")
    run = load_run(digits_run)
    module = program.module(seed=0)
    module.load_state_dict(run.model.state_dict())
    image = torch.tensor(load_digits().images[:50], dtype=torch.float32).unsqueeze(1) / 16
    assert torch.equal(module.eval()(image), run.model(image))


def test_eval_gives_what_training_reported(digits_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reported = json.loads((digits_run / "summary.json").read_text())["results"]
    for split in ("val", "test"):
        assert evaluate(digits_run, split) == reported[split]
    assert reported["test"]["accuracy"] > 0.95
    assert evaluate(digits_run, "test", checkpoint_name="last") == reported["test"]


def test_predictions_are_the_models(digits_run: Path) -> None:
    images = torch.tensor(load_digits().images[:100], dtype=torch.float32).unsqueeze(1) / 16
    run = load_run(digits_run)
    with torch.no_grad():
        expected = run.model(images).softmax(1)
    found = list(predictions(run, ((f"digit {i}", {"image": image}) for i, image in enumerate(images)), batch_size=32))
    assert [row["input"] for row in found] == [f"digit {i}" for i in range(100)]
    assert [row["class"] for row in found] == [str(int(i)) for i in expected.argmax(1)]
    for row, wanted in zip(found, expected, strict=True):
        assert list(row["probabilities"].values()) == pytest.approx(wanted.tolist(), abs=1e-6)
        assert row["probabilities"][row["class"]] == max(row["probabilities"].values())


def test_predict_reads_images_as_the_data_are(digits_run: Path, tmp_path: Path) -> None:
    """Digits written as grey PNGs give the classes that the digits themselves give."""
    from PIL import Image

    digits = load_digits()
    for index in range(20):
        Image.fromarray((digits.images[index] * 255 / 16).round().astype("uint8")).save(tmp_path / f"{index:02}.png")
    found = list(predict(digits_run, [tmp_path]))
    assert [Path(row["input"]).name for row in found] == [f"{index:02}.png" for index in range(20)]
    right = sum(row["prediction"] == digits.target[index] for index, row in enumerate(found))
    assert right >= 19


def test_linear_regression_is_least_squares(root: Path, tmp_path: Path) -> None:
    """R² on the held-out part is that of the closed form on the same split, to within 0.001."""
    spec = str(root / "specs" / "linear_regression.yaml")
    assert main(["train", spec, "--run-dir", str(tmp_path / "run"), "--set", "train.device=cpu"]) == 0
    results = json.loads((tmp_path / "run" / "summary.json").read_text())["results"]
    from netspec.runtime.data import open_data

    data = open_data(netspec.compile(spec).recipe.data, seed=0, device=torch.device("cpu"))
    arrays = {}
    for split in ("train", "test"):
        batches = list(data.splits[split].batches(0))
        arrays[split] = [np.concatenate([batch[name].numpy() for batch in batches]) for name in ("features", "target")]
    data.close()
    oracle = LinearRegression().fit(*arrays["train"])
    assert results["test"]["r2_score"] == pytest.approx(oracle.score(*arrays["test"]), abs=1e-3)
    assert len(arrays["train"][0]) + len(arrays["test"][0]) == len(load_diabetes().target)


def test_the_path_of_a_spec_can_be_trained(tmp_path: Path) -> None:
    spec = Path(__file__).parents[1] / "specs" / "logistic_regression.yaml"
    run = netspec.train(spec, set={"train.epochs": 2}, run_dir=tmp_path / "run", progress="none")
    assert run.status == "finished"
    assert run.epochs == 2
