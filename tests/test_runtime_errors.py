"""What fails while a model runs names the spec: real runs on data that were made to break them."""

from __future__ import annotations

import copy
import errno
import os
import pickle
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import netspec
from netspec.cli import main
from netspec.program import Program

SHAPES = """\
netspec: 1
name: shapes
blocks:
  Down:
    params: {width: int}
    inputs: {x: [N, c, h, w]}
    layers:
      conv: {type: Conv2d, out_channels: $width, kernel_size: 3, padding: 1}
      relu: ReLU
      pool: {type: MaxPool2d, kernel_size: 2}
model:
  inputs: {image: [N, 3, 16, 16]}
  layers:
    features:
      - {type: Down, width: 4}
      - {type: Down, width: 8}
    flat: {type: flatten, start_dim: 1}
    hidden: {type: Linear, out_features: 8}
    head: {type: Linear, out_features: 2}
data:
  train: {source: {type: ImageFolder, root: images}}
  test: {source: {type: ImageFolder, root: images}}
  batch_size: 4
train: {epochs: 1, device: cpu, tensorboard: false, loss: CrossEntropyLoss, optimizer: {type: SGD, lr: 0.1}}
"""

TABLE = """\
netspec: 1
name: table
model:
  inputs: {features: {shape: [N, 4], dtype: DTYPE}}
  layers:
    LAYERS
data:
  train: {source: {type: NumPy, path: table.npz}}
  batch_size: 4
train:
  epochs: 1
  device: cpu
  tensorboard: false
  loss: LOSS
  optimizer: {type: SGD, lr: 0.1}
"""

MLP = """body:
      - {type: Linear, out_features: 8}
      - BatchNorm1d
      - ReLU
      - {type: Linear, out_features: 3}"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    """What data are like is looked at in headers and first samples, and told before the run; here nobody looks."""
    monkeypatch.setattr("netspec.recipe.read_data.with_header", lambda source, node, fields, *_: fields)
    monkeypatch.setattr("netspec.recipe.found.check_found", lambda *_, **__: None)


def write_shapes(size: int, old: str = "", new: str = "") -> str:
    """The spec, with images of that size beside it; gives its text."""
    for name in ("cat", "dog"):
        folder = Path("images", name)
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(4):
            Image.new("RGB", (size, size), (40 * number, 90, 20)).save(folder / f"{number}.png")
    text = SHAPES.replace(old, new)
    Path("spec.yaml").write_text(text, encoding="utf-8")
    return text


def write_table(
    features: Any, label: Any, layers: str = MLP, loss: str = "CrossEntropyLoss", dtype: str = "float32"
) -> str:
    """The same for a table of four columns, with a label a row."""
    np.savez("table.npz", features=features, label=label)
    text = TABLE.replace("LAYERS", layers).replace("LOSS", loss).replace("DTYPE", dtype)
    Path("spec.yaml").write_text(text, encoding="utf-8")
    return text


def place(text: str, words: str, file: str = "spec.yaml") -> str:
    """`spec.yaml:LINE:COL` of the first place where these words stand."""
    before = text[: text.index(words)]
    return f"{file}:{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}"


def failing(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """What the command says on stderr, which fails with exit code 3 and without a traceback."""
    capsys.readouterr()
    assert main(list(argv)) == 3
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said


# Through the command line


@pytest.mark.usefixtures("unseen")
def test_images_of_another_size(capsys: pytest.CaptureFixture[str]) -> None:
    text = write_shapes(20)
    said = failing(capsys, "train", "spec.yaml", "--run-dir", "run")
    assert said.startswith(
        "error[NS603]: layer `hidden` (Linear) in epoch 1, batch 1 of 2: the input is not as wide as "
    )
    assert f"--> {place(text, 'hidden:')}\n" in said
    assert "^^^^^^ it got input [4, 200] float32 on cpu, where the spec has [N, 128]" in said
    assert "----- the spec says [N, 3, 16, 16], and it got [4, 3, 20, 20]" in said
    assert "AdaptiveAvgPool2d" in said
    assert f"traceback: {Path('run', 'traceback.txt')}" in said
    kept = Path("run", "traceback.txt").read_text("utf-8")
    assert kept.startswith("Traceback") and "model.py" in kept and place(text, "hidden:") in kept
    assert '"failed"' in Path("run", "summary.json").read_text("utf-8")


@pytest.mark.parametrize("verb", [["train"], ["train", "--dry-run"]])
def test_images_of_another_size_are_told_before_the_run(verb: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    text = write_shapes(20)
    assert main([*verb, "spec.yaml"]) == 1
    said = capsys.readouterr().err
    assert "error[NS562]: the model's input `image` takes [N, 3, 16, 16], and a batch of the field" in said
    assert f"--> {place(text, 'image:')}\n" in said


@pytest.mark.usefixtures("unseen")
def test_the_traceback_is_shown_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    write_shapes(20)
    assert main(["train", "spec.yaml", "--run-dir", "run", "--traceback"]) == 3
    said = capsys.readouterr().err
    assert said.startswith("Traceback") and "in forward" in said and "error[NS603]" in said


@pytest.mark.usefixtures("unseen")
def test_a_rehearsal_tells_the_same_and_leaves_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_shapes(20)
    said = failing(capsys, "train", "spec.yaml", "--dry-run")
    assert "error[NS603]: layer `hidden` (Linear)" in said and "--traceback prints it" in said
    assert sorted(path.name for path in here.iterdir()) == ["images", "spec.yaml"]


@pytest.mark.usefixtures("unseen")
def test_a_module_inside_a_block_inside_a_sequential(capsys: pytest.CaptureFixture[str]) -> None:
    text = write_shapes(2)
    said = failing(capsys, "train", "spec.yaml", "--run-dir", "run")
    assert "error[NS605]: layer `features.1.pool` (MaxPool2d)" in said
    assert f"--> {place(text, 'pool:')}\n" in said
    assert "it got input [4, 8, 1, 1] float32 on cpu" in said
    assert "`features.1` is this Down" in said
    assert "- {type: Down, width: 8}" in said


@pytest.mark.usefixtures("unseen")
def test_a_function_in_forward_is_named_by_the_source_map(capsys: pytest.CaptureFixture[str]) -> None:
    change = "    flat: {type: flatten, start_dim: 1}\n", "    flat: {type: reshape, shape: [$N, 128]}\n"
    text = write_shapes(20, *change)
    said = failing(capsys, "train", "spec.yaml", "--run-dir", "run")
    assert "error[NS606]: layer `flat` (reshape) in epoch 1, batch 1 of 2" in said
    assert f"--> {place(text, 'flat:')}\n" in said
    assert "it got x [4, 8, 5, 5] float32 on cpu" in said
    write_shapes(16, *change)
    assert main(["train", "spec.yaml", "--run-dir", "good"]) == 0
    write_shapes(20, *change)
    resolved = Path("good", "resolved.yaml").read_text("utf-8")
    said = failing(capsys, "eval", "good")
    assert "error[NS606]: layer `flat` (reshape): " in said
    assert f"--> {place(resolved, 'flat:', str(Path('good', 'resolved.yaml')))}\n" in said


def test_eval_and_predict_speak_of_the_runs_own_spec(capsys: pytest.CaptureFixture[str]) -> None:
    write_shapes(16)
    assert main(["train", "spec.yaml", "--run-dir", "run"]) == 0
    write_shapes(20)
    resolved = Path("run", "resolved.yaml").read_text("utf-8")
    here = place(resolved, "hidden:", str(Path("run", "resolved.yaml")))
    for argv in (["eval", "run"], ["predict", "run", "images"]):
        said = failing(capsys, *argv)
        assert "error[NS603]: layer `hidden` (Linear)" in said
        assert f"--> {here}\n" in said
        assert "200] float32 on cpu, where the spec has [N, 128]" in said
        assert Path("run", "traceback.txt").is_file()
        Path("run", "traceback.txt").unlink()


def test_labels_that_are_no_class(capsys: pytest.CaptureFixture[str]) -> None:
    text = write_table(np.ones((8, 4), np.float32), np.array([0, 1, 2, -1] * 2))
    said = failing(capsys, "train", "spec.yaml", "--run-dir", "run")
    assert "error[NS611]: the loss CrossEntropyLoss in epoch 1, batch " in said
    assert "Target -1 is out of bounds." in said
    assert f"--> {place(text, 'loss:')}\n" in said
    assert "input [4, 3] float32 on cpu, target [4] int64 on cpu, from -1 to " in said


def test_a_last_batch_of_one(capsys: pytest.CaptureFixture[str]) -> None:
    text = write_table(np.ones((5, 4), np.float32), np.array([0, 1, 2, 0, 1]))
    said = failing(capsys, "train", "spec.yaml", "--run-dir", "run")
    assert "error[NS610]: layer `body.1` (BatchNorm1d) in epoch 1, batch 2 of 2" in said
    assert f"--> {place(text, 'BatchNorm1d')}\n" in said
    assert "it got input [1, 8] float32 on cpu" in said
    assert "`drop_last: true`" in said


def test_indices_beyond_an_embedding(capsys: pytest.CaptureFixture[str]) -> None:
    layers = """tokens: {type: Embedding, num_embeddings: 10, embedding_dim: 3}
    flat: {type: flatten, start_dim: 1}
    head: {type: Linear, out_features: 3}"""
    text = write_table(np.arange(32).reshape(8, 4), np.array([0, 1, 2, 1] * 2), layers, dtype="int64")
    said = failing(capsys, "train", "spec.yaml", "--run-dir", "run")
    assert "error[NS612]: layer `tokens` (Embedding) in epoch 1, batch 1 of 2" in said
    assert f"--> {place(text, 'tokens:')}\n" in said
    assert "it got input [4, 4] int64 on cpu, from " in said


@pytest.mark.usefixtures("unseen")
def test_whole_numbers_where_weights_are_floats(unseen: None, capsys: pytest.CaptureFixture[str]) -> None:
    text = write_table(np.arange(32).reshape(8, 4), np.array([0, 1, 2, 1] * 2))
    said = failing(capsys, "train", "spec.yaml", "--run-dir", "run")
    assert "error[NS602]: layer `body.0` (Linear) in epoch 1, batch 1 of 2" in said
    assert f"--> {place(text, '{type: Linear, out_features: 8}')}\n" in said
    assert "it got input [4, 4] int64 on cpu" in said
    assert "the spec says float32, and it got int64" in said


def test_a_gradient_that_was_written_over(capsys: pytest.CaptureFixture[str]) -> None:
    layers = """a: {type: Linear, out_features: 3}
    squashed: {type: Sigmoid}
    over: {type: ReLU, inplace: true}
    head: {compute: over + squashed}"""
    text = write_table(np.ones((8, 4), np.float32), np.array([0, 1, 2, 1] * 2), layers)
    said = failing(capsys, "train", "spec.yaml", "--run-dir", "run")
    assert "error[NS615]: the backward pass in epoch 1, batch 1 of 2" in said
    assert f"--> {place(text, 'loss:')}\n" in said
    assert "`over` writes over its input" in said


def test_one_of_several_losses(capsys: pytest.CaptureFixture[str]) -> None:
    losses = "{main: CrossEntropyLoss, twin: {type: NLLLoss, ignore_index: 1, weight: 0.5}}"
    text = write_table(np.ones((8, 4), np.float32), np.array([0, 1, -100, 2] * 2), loss=losses)
    said = failing(capsys, "train", "spec.yaml", "--run-dir", "run")
    assert "error[NS611]: the loss NLLLoss in epoch 1, batch " in said
    assert f"--> {place(text, 'twin:')}\n" in said


def test_a_layer_that_cannot_be_made(capsys: pytest.CaptureFixture[str]) -> None:
    layers = "small: {type: Linear, out_features: 3}\n    huge: {type: Linear, out_features: 1000000000000000}"
    text = write_table(np.ones((8, 4), np.float32), np.array([0, 1, 2, 1] * 2), layers)
    said = failing(capsys, "train", "spec.yaml", "--run-dir", "run")
    assert "error[NS910]: layer `huge`: the device has too little memory: " in said
    assert f"--> {place(text, 'huge:')}\n" in said


def test_numbers_that_grow_beyond_all_bounds(capsys: pytest.CaptureFixture[str]) -> None:
    layers = "first: {type: Linear, out_features: 3}\n    second: {type: Linear, out_features: 3}"
    layers = layers.replace("3}", "3, initialize: {weight: 1e20}}")
    text = write_table(np.ones((80, 4), np.float32), np.array([0, 1, 2, 1] * 20), layers)
    said = failing(capsys, "train", "spec.yaml", "--run-dir", "run")
    assert "error[NS902]" in said and "is `second` (Linear)" in said
    assert f"--> {place(text, 'second:')}\n" in said and "traceback" not in said


def test_a_damaged_image(capsys: pytest.CaptureFixture[str]) -> None:
    write_shapes(16)
    Path("images", "cat", "3.png").write_bytes(Path("images", "cat", "2.png").read_bytes()[:60])
    said = failing(capsys, "train", "spec.yaml", "--run-dir", "run")
    assert "error[NS921]" in said and str(Path("images", "cat", "3.png")) in said


def test_a_worker_that_dies(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    text = write_shapes(16, "  batch_size: 4\n", "  batch_size: 4\n  workers: 1\n  cache: false\n")
    monkeypatch.setattr("netspec.runtime.data.batches.BatchMaker.__getitem__", lambda *_: os._exit(1))
    said = failing(capsys, "train", "spec.yaml", "--run-dir", "run")
    assert "error[NS641]: the data in epoch 1, batch 1 of 2: a process that makes batches died" in said
    assert f"--> {place(text, 'data:')}\n" in said and "--shm-size" in said


def test_a_disk_that_is_full(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write_shapes(16)
    monkeypatch.setattr("netspec.runtime.journal.Journal.row", full)
    said = failing(capsys, "train", "spec.yaml", "--run-dir", "run")
    assert "error[NS644]: the run in epoch 1, batch 2 of 2: the disk is full: [Errno 28]" in said


def test_a_bug_of_ours_stays_an_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(_: object) -> bool:
        raise KeyError("gone")

    write_shapes(16)
    monkeypatch.setattr("netspec.runtime.loop.finished", lost)
    with pytest.raises(KeyError, match="gone"):
        main(["train", "spec.yaml", "--run-dir", "run"])


# From Python


@pytest.mark.usefixtures("unseen")
def test_the_exception_keeps_its_type(here: Path) -> None:
    text = write_shapes(20)
    with pytest.raises(RuntimeError, match="cannot be multiplied") as caught:
        netspec.train("spec.yaml", run_dir="run", progress="none")
    (note,) = caught.value.__notes__
    assert note.startswith(f"{place(text, 'hidden:')}: NS603 layer `hidden` (Linear) in epoch 1, batch 1 of 2")
    assert "[4, 200] float32 on cpu" in note and "help: " in note


def live(text: str) -> tuple[Program, nn.Module]:
    Path("spec.yaml").write_text(text, encoding="utf-8")
    program = netspec.compile("spec.yaml")
    return program, program.module(seed=0)


def note_of(module: nn.Module, *inputs: object) -> str:
    with pytest.raises(Exception) as caught:
        module(*inputs)
    (note,) = caught.value.__notes__
    return str(note)


GRAPH = """\
netspec: 1
name: twins
model:
  inputs: {x: [N, 3, 8, 8]}
  layers:
    a: {type: Conv2d, out_channels: 4, kernel_size: 3, padding: 1, from: x}
    small: {type: AvgPool2d, kernel_size: 2, from: x}
    b:
      layers:
        up: {type: interpolate, scale_factor: 2, from: small}
        conv: {type: Conv2d, out_channels: 4, kernel_size: 3, padding: 1}
    joined: {type: cat, from: [a, b], dim: 1}
    sum: {compute: joined * 2}
"""


def test_a_function_of_a_live_module(here: Path) -> None:
    text = GRAPH
    _, module = live(text)
    note = note_of(module, torch.ones(2, 3, 9, 9))
    assert note.startswith(f"{place(text, 'joined:')}: NS608 layer `joined` (cat): ")
    assert "it got a [2, 4, 9, 9] float32 on cpu, b [2, 4, 8, 8] float32 on cpu" in note
    assert f"{place(text, 'x: [N')}: the spec says [N, 3, 8, 8], and it got [2, 3, 9, 9]" in note


def test_both_doors_blame_the_same_layer(here: Path) -> None:
    """The emitted module in a run and the live one, for each way in which this input is wrong."""
    from netspec.runtime.load import import_source, model_class
    from netspec.runtime.notes import noted

    program, module = live(GRAPH)
    Path("model.py").write_text(program.source(), encoding="utf-8")
    emitted = model_class(import_source(Path("model.py")))()
    for wrong in (torch.ones(2, 3, 9, 9), torch.ones(2, 3, 8, 8, dtype=torch.float64), torch.ones(2, 1, 8, 8)):
        with pytest.raises(RuntimeError) as caught, noted(program, emitted):
            emitted(wrong)
        (ours,) = caught.value.__notes__
        assert ours.partition(": ")[0] == note_of(module, wrong).partition(": ")[0]
        assert ours.split("`")[1] == note_of(module, wrong).split("`")[1]


CHAIN = """\
netspec: 1
name: chain
model:
  inputs: {x: [N, 1, 8, 8]}
  layers:
    features:
      - {type: Conv2d, out_channels: 2, kernel_size: 3}
      - ReLU
      - {type: MaxPool2d, kernel_size: 2}
      - {type: Conv2d, out_channels: 2, kernel_size: 3}
    flat: Flatten
    head: {type: Linear, out_features: 2}
"""


def test_a_live_chain_is_a_sequential_whose_failures_are_told(here: Path) -> None:
    text = CHAIN
    _, module = live(text)
    assert isinstance(module, nn.Sequential) and repr(module).startswith("Sequential(\n  (features): Sequential(")
    note = note_of(module, torch.ones(2, 1, 4, 4))
    assert "NS605 layer `features.3` (Conv2d)" in note
    assert note.startswith(place(text, "{type: Conv2d, out_channels: 2, kernel_size: 3}\n    flat"))
    assert "it got input [2, 2, 1, 1] float32 on cpu, where the spec has [N, 2, 3, 3]" in note
    assert f"{place(text, 'x: [N')}: the spec says [N, 1, 8, 8], and it got [2, 1, 4, 4]" in note
    assert "NS620 the model chain" in note_of(module, torch.ones(1), torch.ones(1))


@pytest.mark.parametrize("text", [CHAIN, GRAPH], ids=["chain", "graph"])
def test_a_copy_of_a_live_module_is_the_same_module(text: str, here: Path) -> None:
    _, module = live(text)
    x = torch.ones(2, 1 if text is CHAIN else 3, 8, 8)
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module)) if text is CHAIN else module):
        assert torch.equal(other(x), module(x))
        assert list(other.state_dict()) == list(module.state_dict())
        with pytest.raises(RuntimeError):
            other(torch.ones(2, 7, 8, 8))


def test_an_input_too_few_and_a_dimension_too_few(here: Path) -> None:
    text = GRAPH
    _, module = live(text)
    assert "NS620 the model twins" in note_of(module)
    note = note_of(module, torch.ones(3, 8, 8))
    assert "NS609" in note and "the spec says [N, 3, 8, 8], and it got [3, 8, 8]" in note


def test_an_exception_that_no_one_knows(here: Path) -> None:
    text = GRAPH
    _, module = live(text)

    def refuse(*_: object) -> None:
        raise ZeroDivisionError("of a hook")

    convolution = module.get_submodule("b.conv")
    convolution.register_forward_pre_hook(refuse)
    note = note_of(module, torch.ones(2, 3, 8, 8))
    assert note.startswith(f"{place(text, 'conv: {')}: NS600 layer `b.conv` (Conv2d): it failed: of a hook")
    assert "it got input [2, 3, 8, 8] float32 on cpu" in note


def test_a_note_is_given_once(here: Path) -> None:
    from netspec.runtime.notes import noted

    program, module = live(GRAPH)
    with pytest.raises(RuntimeError) as caught, noted(program, module):
        module(torch.ones(2, 1, 8, 8))
    assert len(caught.value.__notes__) == 1


def test_a_loop_of_ones_own(here: Path) -> None:
    """An emitted class that a person imports as any other module."""
    program, _ = live(GRAPH)
    Path("twins_model.py").write_text(program.source(), encoding="utf-8")
    sys.path.insert(0, str(here))
    try:
        import twins_model  # type: ignore[import-not-found]
    finally:
        sys.path.remove(str(here))
    model = twins_model.Twins()
    with pytest.raises(RuntimeError) as caught, netspec.noted(program, model):
        model(torch.ones(2, 3, 9, 9))
    assert "layer `joined` (cat)" in caught.value.__notes__[0]


def test_what_torch_compile_could_not_translate(here: Path) -> None:
    """No frame of the model is left in the traceback; the message lists the lines."""
    from netspec.runtime.load import import_source, model_class

    write_shapes(20)
    program = netspec.compile("spec.yaml")
    Path("model.py").write_text(program.source(), encoding="utf-8")
    model = model_class(import_source(Path("model.py")))()
    compiled = torch.compile(model, backend="eager")
    with pytest.raises(Exception, match="fake tensor") as caught, netspec.noted(program, model):
        compiled(torch.ones(2, 3, 20, 20))
    (note,) = caught.value.__notes__
    assert note.startswith(f"{place(SHAPES, 'hidden:')}: NS603 layer `hidden` (Linear): ")
    assert "[2, 200] X [128, 8]" in note and "it got [2, 3, 20, 20]" in note


def test_an_explanation_that_fails_hides_nothing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program, module = live(GRAPH)

    def broken(*_: object) -> None:
        raise AssertionError("of our own")

    monkeypatch.setattr("netspec.runtime.notes.explain", broken)
    with pytest.raises(RuntimeError, match="expected input"), netspec.noted(program, module):
        module(torch.ones(2, 1, 8, 8))


def test_numbers_that_are_not_finite_are_said(here: Path) -> None:
    _, module = live(GRAPH)
    assert "float32 on cpu, not all of it finite" in note_of(module, torch.full((2, 1, 8, 8), float("nan")))


def test_a_run_that_goes_well_pays_nothing(here: Path) -> None:
    """No hook on any module, and what looks at tracebacks is not even imported."""
    write_shapes(16)
    program = netspec.compile("spec.yaml")
    for module in program.module().modules():
        hooks: Mapping[int, object] = {**module._forward_hooks, **module._forward_pre_hooks, **module._backward_hooks}
        assert not hooks
    script = (
        "import sys; from netspec.cli import main; assert main(['train', 'spec.yaml', '--dry-run']) == 0;"
        "sys.exit(sum(name in sys.modules for name in ('netspec.runtime.blame', 'netspec.runtime.frames')))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False, stdout=subprocess.DEVNULL).returncode == 0
