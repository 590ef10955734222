"""What a run shows in TensorBoard, read back with TensorBoard's own reader."""

from __future__ import annotations

import time
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.pr_curve.metadata import parse_plugin_metadata
from tensorboard.util import tensor_util

import netspec
from netspec.runtime.load import import_source, model_class
from netspec.runtime.monitors.events import read_histograms
from netspec.runtime.run import Run, train

SPEC = """\
netspec: 1
name: digits
model:
  inputs: {image: [N, 1, 8, 8]}
  layers:
    conv1: {type: Conv2d, out_channels: 4, kernel_size: 3, padding: 1}
    relu1: {type: ReLU, inplace: $inplace}
    body:
      layers: [{type: Conv2d, out_channels: 6, kernel_size: 3, padding: 1}, BatchNorm2d, ReLU]
    pool: {type: AdaptiveAvgPool2d, output_size: 1}
    flat: Flatten
    drop: {type: Dropout, p: 0.1}
    fc: {type: Linear, out_features: 10}
params: {inplace: false}
data: {source: Digits, split: {train: 0.7, val: 0.15, test: 0.15}, batch_size: 64}
train:
  epochs: 2
  device: cpu
  loss: CrossEntropyLoss
  metrics: [Accuracy]
  optimizer: {type: AdamW, lr: 0.01}
  log_every: 10
"""
EVERY_KIND = """\
  tensorboard: {histograms: {steps: 10}, embeddings: true, pr_curves: {epochs: 1}, confusion: {epochs: 1}}
  monitor:
    every: 10
    activations: [conv1, "body.*"]
    inputs: fc
    gradients: body
    parameters: "*.weight"
    feature_maps: conv1
    cam: {layer: body, images: 4}
"""


def run_of(folder: Path, more: str = "", **values: Any) -> Run:
    spec = folder / "spec.yaml"
    spec.write_text(SPEC + more, encoding="utf-8")
    return train(spec, set=values, run_dir=folder / "run", progress="none")


def events(folder: Path, split: str = "") -> EventAccumulator:
    everything = {"scalars": 0, "tensors": 0, "images": 0, "histograms": 0}
    return EventAccumulator(str(folder / "run" / "tensorboard" / split), size_guidance=everything).Reload()


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    folder = tmp_path_factory.mktemp("watched")
    return folder, run_of(folder, EVERY_KIND)


@pytest.fixture(scope="module")
def unwatched(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_of(tmp_path_factory.mktemp("unwatched"), "  tensorboard: false\n")


def weights(run: Run) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    assert run.checkpoint is not None
    return load_file(run.checkpoint / "model.safetensors")


def test_train_and_val_stand_in_one_chart(watched: tuple[Path, Run]) -> None:
    folder, run = watched
    for split in ("train", "val"):
        found = [event.value for event in events(folder, split).Scalars("loss")]
        assert found == pytest.approx([row[f"{split}.loss"] for row in run.history])
    assert events(folder).Scalars("samples_per_second")[-1].value > 0


def test_histograms_hold_the_weights_and_their_gradients(watched: tuple[Path, Run]) -> None:
    folder, run = watched
    found = events(folder)
    last = found.Histograms("weights/fc.weight")[-1]
    true = weights(run)["fc.weight"].double()
    assert last.step == run.steps
    value = last.histogram_value
    assert (value.min, value.max, value.num) == (true.min(), true.max(), true.numel())
    assert value.sum == pytest.approx(float(true.sum()), rel=1e-5)
    counted, _ = torch.histogram(true.float(), 64)
    assert value.bucket == counted.tolist()
    gradients = found.Histograms("weights_grad/fc.weight")
    assert [event.step for event in gradients] == [10, 20, 30, 40]
    assert all(event.histogram_value.sum_squares > 0 for event in gradients)


def test_a_histogram_leaves_out_what_is_not_finite() -> None:
    found = read_histograms({"x": torch.tensor([1.0, torch.nan, 3.0, torch.inf]), "none": torch.tensor([torch.nan])})
    assert list(found) == ["x"]
    assert (found["x"]["min"], found["x"]["max"], found["x"]["num"]) == (1, 3, 2)
    assert sum(found["x"]["bucket_counts"]) == 2


def test_the_graph_is_that_of_the_spec(watched: tuple[Path, Run]) -> None:
    graph = events(watched[0]).Graph()
    nodes = {node.name: node for node in graph.node}
    assert list(nodes) == [
        *("image", "conv1", "relu1", "body/0", "body/1", "body/2", "pool", "flat", "drop", "fc", "output_fc")
    ]
    assert (nodes["body/0"].op, list(nodes["body/0"].input)) == ("Conv2d", ["relu1"])
    assert nodes["fc"].attr["parameters"].s == b"70"
    assert nodes["fc"].attr["shape"].s == b"[N, 10]"


def test_curves_and_matrices_are_those_of_the_answers(watched: tuple[Path, Run]) -> None:
    from sklearn.metrics import precision_recall_curve

    folder, run = watched
    found = events(folder)
    summary = found.summary_metadata["pr/val/3"]
    assert summary.plugin_data.plugin_name == "pr_curves"
    assert parse_plugin_metadata(summary.plugin_data.content).num_thresholds == 127
    assert [event.step for event in found.Tensors("pr/val/3")] == [20, 40]
    scores, label = answers(run, "val")
    rows = tensor_util.make_ndarray(found.Tensors("pr/val/3")[-1].tensor_proto)
    true_positives, false_positives = rows[0], rows[1]
    for threshold in (10, 60):
        above = scores[:, 3] >= threshold / 126
        assert abs(true_positives[threshold] - int((above & (label == 3)).sum())) <= 1
        assert abs(false_positives[threshold] - int((above & (label != 3)).sum())) <= 1
    precision, recall, _ = precision_recall_curve((label == 3).numpy(), scores[:, 3].numpy())
    assert rows[4][1] == pytest.approx(precision[recall >= rows[5][1]][-1], abs=0.1)

    table = tensor_util.make_ndarray(found.Tensors("confusion/test/text_summary")[-1].tensor_proto)[0].decode()
    scores, label = answers(run, "test")
    counts = [[int(cell) for cell in line.split("|")[2:-1]] for line in table.splitlines()[2:]]
    wanted = torch.zeros(10, 10, dtype=torch.int64)
    wanted.index_put_((label, scores.argmax(1)), torch.ones(len(label), dtype=torch.int64), accumulate=True)
    assert counts == wanted.tolist()
    assert sum(counts[i][i] for i in range(10)) / len(label) == pytest.approx(run.results["test"]["accuracy"])


def answers(run: Run, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    """What the final weights say of a split, computed here."""
    from netspec.runtime.data import open_data

    assert run.directory is not None
    program = netspec.compile(run.directory.parent / "spec.yaml")
    model = model_class(import_source(run.directory / "model.py"))()
    model.load_state_dict(weights(run))
    stream = open_data(program.recipe.data, seed=0, device=torch.device("cpu")).splits[split]
    with torch.no_grad():
        pairs = [(model.eval()(batch["image"]).softmax(1), batch["label"]) for batch in stream.batches(0)]
    return torch.cat([scores for scores, _ in pairs]), torch.cat([label for _, label in pairs])


def test_pictures_are_pictures(watched: tuple[Path, Run]) -> None:
    found = events(watched[0])
    sizes = {}
    for tag in found.Tags()["images"]:
        data = found.Images(tag)[-1].encoded_image_string
        sizes[tag] = Image.open(BytesIO(data)).size
    # 16 digits of 8 by 8, four a row, with a frame of one around each.
    assert sizes["batch/image"] == (4 * 9 + 1, 4 * 9 + 1)
    assert sizes["feature_maps/conv1"] == (2 * 33 + 1, 2 * 33 + 1)
    assert sizes["cam"] == (8 * 9 + 1, 10)
    assert {"confusion/val", "confusion/test"} <= set(sizes)
    assert len(found.Images("batch/image")) == 1


def test_the_projector_has_features_with_names(watched: tuple[Path, Run]) -> None:
    folder, run = watched
    board = folder / "run" / "tensorboard"
    assert 'tensor_name: "features_test:' in (board / "projector_config.pbtxt").read_text()
    (rows,) = board.glob(f"*{run.steps}/features_test/tensors.tsv")
    features = [line.split("\t") for line in rows.read_text().splitlines()]
    assert (len(features), len(features[0])) == (270, 6)
    _, label = answers(run, "test")
    assert (rows.parent / "metadata.tsv").read_text().split() == [str(int(index)) for index in label]
    assert (rows.parent / "sprite.png").is_file()


def test_hooks_see_what_passes_and_change_nothing(watched: tuple[Path, Run], unwatched: Run) -> None:
    folder, run = watched
    found = events(folder)
    assert [event.step for event in found.Scalars("activations/body.2/zeros")] == [10, 20, 30, 40]
    # Half or so of what a batch norm gives is below zero.
    assert 0.2 < found.Scalars("activations/body.2/zeros")[0].value < 0.8
    assert abs(found.Scalars("activations/body.1/mean")[0].value) < 0.5
    assert found.Scalars("gradients/body/norm")[0].value > 0
    # Without clipping what arrives at a weight is what the update takes.
    arrived = found.Histograms("parameters/fc.weight")[1].histogram_value
    assert arrived == found.Histograms("weights_grad/fc.weight")[1].histogram_value
    assert {"inputs/fc", "activations/conv1"} <= set(found.Tags()["histograms"])
    after, before = weights(run), weights(unwatched)
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_backward_hooks_and_tensor_hooks_see_the_same(watched: tuple[Path, Run], tmp_path: Path) -> None:
    """Where a layer writes into what it gets, the gradient is taken from the tensor."""
    more = '  tensorboard: false\n  monitor: {every: 10, gradients: ["conv1", "body"]}\n'
    run = run_of(tmp_path, more, **{"params.inplace": True})
    ours, theirs = events(tmp_path), events(watched[0])
    found, wanted = ([event.histogram_value for event in one.Histograms("gradients/body")] for one in (ours, theirs))
    assert found == wanted
    assert run.status == "finished" and ours.Histograms("gradients/conv1")


def test_there_are_no_hooks_between_two_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from netspec.runtime.monitors.hooks import Hooks

    opened, hooks = [], Hooks.open

    def counted(self: Hooks) -> None:
        hooks(self)
        opened.append(len(self._handles))

    monkeypatch.setattr(Hooks, "open", counted)
    seen: list[int] = []
    real = torch.nn.Linear.forward

    def forward(self: torch.nn.Linear, x: torch.Tensor) -> torch.Tensor:
        seen.append(len(self._forward_hooks))
        return real(self, x)

    monkeypatch.setattr(torch.nn.Linear, "forward", forward)
    run_of(tmp_path, "  tensorboard: false\n  monitor: {every: 15, activations: fc}\n")
    assert opened == [1, 1]
    assert sum(seen) == 2 and len(seen) > 40


def test_by_default_what_is_seen_costs_next_to_nothing(tmp_path: Path) -> None:
    from netspec.runtime.monitors import watcher

    spec = tmp_path / "spec.yaml"
    spec.write_text(SPEC, encoding="utf-8")
    program = netspec.compile(spec)
    recipe = program.recipe.train
    assert recipe is not None

    class Objective:
        model = program.module()
        fields = ("image",)

    seen = watcher.Watcher(recipe, Objective(), None, lambda _: None, images="image", started=0)  # type: ignore[arg-type]
    began = time.perf_counter()
    for step in range(1, 20_001):
        seen.due(step, ends=False, epoch=1)
    assert (time.perf_counter() - began) / 20_000 < 20e-6  # some 0.2 µs; a loaded machine takes longer
    assert seen.due(20, ends=True, epoch=1)  # the inputs, once
    assert seen._now == {"images"}
    assert seen.due(40, ends=True, epoch=2)
    assert "histograms" in seen._now  # the last epoch
