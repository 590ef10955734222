"""The page that a run leaves, in a real browser: what it shows is what the run's files say, and it loads nothing."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser_support import CHROMIUM, Browser, browser
from training_support import MLP, StubProgram, TensorStream, digits, recipe

from netspec.recipe.train import Loss, Optimizer, Reference
from netspec.runtime.report.curves import Series, curve, ticks
from netspec.runtime.run import Run, train

SPEC = """\
netspec: 1
name: digits
description: "</title><script>window.broken = 1</script><img src=x onerror='window.broken = 2'>"
model:
  inputs: {image: [N, 1, 8, 8]}
  layers:
    conv: {type: Conv2d, out_channels: 8, kernel_size: 3}
    relu: ReLU
    flat: Flatten
    fc: {type: Linear, out_features: 10}
data: {source: Digits, split: {train: 0.7, val: 0.15, test: 0.15}, batch_size: 64}
train:
  epochs: 3
  device: cpu
  loss: CrossEntropyLoss
  metrics: [Accuracy]
  optimizer: {type: AdamW, lr: 0.01}
  tensorboard: false
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("report")
    (folder / "spec.yaml").write_text(SPEC, encoding="utf-8")
    return train(folder / "spec.yaml", run_dir=folder / "run", progress="none")


@pytest.fixture(scope="module")
def page(run: Run) -> Iterator[tuple[Browser, Path]]:
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    assert run.directory is not None
    with browser() as tab:
        tab.open((run.directory / "report.html").as_uri())
        yield tab, run.directory
        assert tab.problems == []


def texts(tab: Browser, selector: str) -> list[str]:
    found = tab.evaluate(f"[...document.querySelectorAll({selector!r})].map(e => e.textContent.trim())")
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_renders_without_a_complaint_and_asks_for_nothing(page: tuple[Browser, Path], scheme: str) -> None:
    tab, folder = page
    tab.prefer(scheme)
    tab.open((folder / "report.html").as_uri())
    assert tab.evaluate("document.compatMode") == "CSS1Compat"
    assert tab.evaluate("typeof window.broken") == "undefined"
    assert "<script>window.broken" in texts(tab, "header p")[0]
    assert tab.evaluate("document.querySelectorAll('script').length") == 0
    assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert tab.evaluate("[...document.images].every(i => i.complete && i.naturalWidth === 8)")
    assert tab.problems == []


def test_its_figures_are_those_of_the_run(page: tuple[Browser, Path], run: Run) -> None:
    tab, folder = page
    assert texts(tab, ".status") == ["finished"]
    tiles = dict(zip(texts(tab, ".tile span"), texts(tab, ".tile b"), strict=True))
    assert tiles["test accuracy"] == f"{run.results['test']['accuracy']:.4f}"
    assert tiles["epochs"] == "3"
    assert texts(tab, ".curve .title") == ["loss", "accuracy", "lr", "samples per second"]
    assert len(texts(tab, ".curve circle.val")) == 6
    assert f"epoch 3: val {run.history[-1]['val.loss']:.4f}" in texts(tab, ".curve circle.val title")
    cells = [int(cell or 0) for cell in texts(tab, ".matrix td")]
    assert sum(cells) == 270
    assert sum(cells[::11]) / 270 == pytest.approx(run.results["test"]["accuracy"])
    wrong = texts(tab, ".samples .wrong")
    assert 0 < len(wrong) <= min(12, 270 - sum(cells[::11]))
    assert texts(tab, ".layers tbody th") == ["conv", "relu", "flat", "fc"]
    assert texts(tab, "pre")[0] == (folder / "resolved.yaml").read_text("utf-8").strip()
    assert "torch" in texts(tab, "dt")


def test_the_table_of_classes_is_sklearns(run: Run) -> None:
    from sklearn.metrics import precision_recall_fscore_support

    assert run.directory is not None
    with (run.directory / "classes.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    assert [row["class"] for row in rows] == list("0123456789")
    page = (run.directory / "report.html").read_text("utf-8")
    cells = re.findall(r'title="(\d) answered as (\d): (\d+)"', page)
    true = [int(one) for one, _, count in cells for _ in range(int(count))]
    answer = [int(other) for _, other, count in cells for _ in range(int(count))]
    wanted = precision_recall_fscore_support(true, answer, zero_division=0)
    for key, values in zip(("precision", "recall", "f1_score", "samples"), wanted, strict=True):
        assert [float(row[key]) for row in rows] == pytest.approx(list(values))
    assert (run.directory / "confusion.png").read_bytes().startswith(b"\x89PNG")


def test_a_regression_has_a_page_without_classes(tmp_path: Path) -> None:
    target = Reference(kind="field", name="target")
    data = digits(samples=200)
    for stream in data.splits.values():
        assert isinstance(stream, TensorStream)
        stream.fields["target"] = stream.fields.pop("label").float().unsqueeze(1)
    changed = recipe(
        losses=(
            Loss(
                name="loss",
                type="MSELoss",
                target="torch.nn.MSELoss",
                inputs=(Reference(kind="output", name="fc2"), target),
            ),
        ),
        optimizer=Optimizer(type="SGD", target="torch.optim.SGD", arguments={"lr": 0.001}),
        metrics=(),
    )
    source = MLP.replace("num_classes: int = 10", "num_classes: int = 1")
    run = train(StubProgram(source, changed), run_dir=tmp_path / "run", data=data, progress="none")  # type: ignore[arg-type]
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert "Confusion" not in page and "Samples" not in page and run.status == "finished"
    assert not (tmp_path / "run" / "classes.csv").exists()


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [
        (0.0, 1.0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (1, 12, [0, 2.5, 5, 7.5, 10, 12.5]),
        (-3e-4, 1e-4, [-3e-4, -2e-4, -1e-4, 0, 1e-4]),
    ],
)
def test_ticks_are_round_and_hold_all(low: float, high: float, wanted: list[float]) -> None:
    assert ticks(low, high, 5) == pytest.approx(wanted)


def test_a_curve_takes_what_is_not_finite_and_what_does_not_change() -> None:
    nan = float("nan")
    assert "nothing finite" in curve("loss", [Series("train", [(1, nan), (2, nan)])])
    assert curve("<b>", [Series("train", [(1, 0.5), (2, nan), (3, 0.5)])]).count("<circle") == 2
    assert "&lt;b&gt;" in curve("<b>", [Series("train", [(1, 0.5)])])
