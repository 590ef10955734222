"""Texts: characters, bytes and numbers of tokens as windows with the tokens that come next."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from data_support import epoch, equal, joined, opened, recipe

import netspec
from netspec.runtime.data.sources import load
from netspec.runtime.errors import RunError
from netspec.runtime.evaluate import evaluate
from netspec.runtime.run import train

WORDS = "to be, or not to be: that is the question.\n" * 5


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "hamlet.txt").write_text(WORDS, encoding="utf-8")
    return tmp_path / "hamlet.txt"


def source(path: object, more: str = "") -> str:
    return f"{{type: Text, path: {path}, length: 8{more}}}"


def test_each_position_is_asked_for_the_next_character(file: Path) -> None:
    stream = opened(f"train: {{source: {source(file)}, shuffle: false}}").splits["train"]
    batches = epoch(stream)
    tokens, after = joined(batches, "tokens"), joined(batches, "next")
    assert stream.classes == tuple(sorted(set(WORDS)))
    read = ["".join(stream.classes[i] for i in row) for row in tokens.tolist()]
    assert read == [WORDS[i : i + 8] for i in range(0, len(WORDS) - 8, 8)]
    asked = ["".join(stream.classes[i] for i in row) for row in after.tolist()]
    assert asked == [WORDS[i + 1 : i + 9] for i in range(0, len(WORDS) - 8, 8)]


def test_what_is_told_is_what_is_read(file: Path) -> None:
    for more in (
        "",
        ", tokens: bytes",
        ", stride: 3",
        f", vocabulary: {''.join(sorted(set(WORDS)))!r}".replace("\\n", "\n"),
    ):
        if "\n" in more:
            continue
        made = recipe(f"train: {{source: {source(file, more)}}}")
        told, stream = made.splits["train"].fields, opened(f"train: {{source: {source(file, more)}}}").splits["train"]
        assert told is not None
        for name in ("tokens", "next"):
            assert told[name].shape == stream.fields[name].shape == (8,)
            assert told[name].dtype == stream.fields[name].dtype == "int64"
            assert told[name].num_classes in (None, stream.fields[name].num_classes)


def test_strides_overlap_without_taking_memory(file: Path) -> None:
    samples = load(recipe(f"train: {{source: {source(file, ', stride: 1')}}}").splits["train"].source)
    assert len(samples) == len(WORDS) - 8
    column = samples.column("tokens")
    assert column.untyped_storage().nbytes() < 10 * len(WORDS)
    assert torch.equal(column[5], samples.column("next")[4])


def test_little_memory_changes_no_value(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"source: {source(file, ', stride: 1')}\nsplit: {{train: 0.8, val: 0.2, shuffle: false}}\nbatch_size: 8"
    plenty = opened(text)
    expected = [epoch(plenty.splits[name]) for name in ("train", "val")]
    monkeypatch.setattr("netspec.runtime.data.storage.free_bytes", lambda _: 100)
    little = opened(text)
    for name, batches in zip(("train", "val"), expected, strict=True):
        assert equal(epoch(little.splits[name]), batches)
    assert torch.equal(joined(epoch(little.splits["val"]), "tokens")[1:, :-1], joined(expected[1], "tokens")[:-1, 1:])


def test_the_training_text_gives_the_vocabulary(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text("not to question that\nbe\n", encoding="utf-8")
    text = f"train: {{source: {source(file)}}}\nval: {{source: {source(other)}}}"
    data = opened(text)
    classes = data.splits["val"].classes
    assert classes == data.splits["train"].classes is not None
    assert "".join(classes[i] for i in joined(epoch(data.splits["val"]), "tokens")[0].tolist()) == "not to q"
    other.write_text("not to\nbe Zealous, he said\n", encoding="utf-8")
    with pytest.raises(RunError, match=r"line 2 of .* has the character 'Z'") as caught:
        opened(text)
    assert "`tokens: bytes`" in str(caught.value.help)


def test_bytes_of_several_files(file: Path, tmp_path: Path) -> None:
    more = tmp_path / "more.txt"
    more.write_text("çà et là", encoding="utf-8")
    stream = opened(f"train: {{source: {source(f'[{file}, {more}]', ', tokens: bytes')}, shuffle: false}}").splits[
        "train"
    ]
    data = file.read_bytes() + more.read_bytes()
    assert joined(epoch(stream), "tokens").flatten().tolist() == list(data[: len(data) - (len(data) - 1) % 8 - 1])
    assert stream.fields["next"].num_classes == 256


def test_numbers_of_tokens(tmp_path: Path) -> None:
    tokens = np.arange(50) * 7 % 31
    np.save(tmp_path / "x.npy", tokens)
    tokens.astype("<u2").tofile(tmp_path / "x.bin")
    batches = [
        epoch(opened(f"train: {{source: {source(tmp_path / name)}}}").splits["train"]) for name in ("x.npy", "x.bin")
    ]
    assert equal(*batches)
    assert sorted(joined(batches[0], "tokens").flatten().tolist()) == sorted(tokens[:48].tolist())


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda p: None, "NS920 there is no file"),
        (lambda p: p.write_text("short"), "NS925 .* has 5 tokens, and a sample takes 9"),
        (lambda p: p.write_bytes(b"\xff\xfe\xfa" * 9), "NS921 .* can't be read as text in UTF-8"),
    ],
)
def test_a_text_that_cannot_be_read(tmp_path: Path, write: object, message: str) -> None:
    write(tmp_path / "x.txt")  # type: ignore[operator]
    with pytest.raises(RunError, match=message):
        opened(f"train: {{source: {source(tmp_path / 'x.txt')}}}")


# The small GPT of the specs on the prose beside it

SMALL = {
    "params.context": 32,
    "params.depth": 2,
    "params.width": 64,
    "params.num_heads": 4,
    "params.dropout": 0.0,
    "train.device": "cpu",
    "train.tensorboard": False,
}


def test_the_gpt_of_the_specs_learns_to_write(root: Path, tmp_path: Path) -> None:
    """Its loss on text that it has not seen falls well below what the frequencies of characters alone would give."""
    text = (root / "specs" / "data" / "prose.txt").read_text(encoding="utf-8")
    counts = torch.bincount(torch.tensor([ord(character) for character in text]))
    shares = counts[counts > 0].double() / len(text)
    entropy = float(-(shares * shares.log()).sum())
    settings = {**SMALL, "train.steps": 300, "train.optimizer.lr": 3e-3, "train.log_every": 100}
    program = netspec.compile(root / "specs" / "gpt.yaml", settings)
    run = train(program, run_dir=tmp_path / "run", progress="none")
    assert entropy == pytest.approx(3.0, abs=0.1)
    assert run.results["val"]["loss"] < 0.8 * entropy
    assert evaluate(tmp_path / "run", "val")["loss"] == run.results["val"]["loss"]


def test_a_text_of_more_characters_than_the_model_knows(root: Path, tmp_path: Path) -> None:
    program = netspec.compile(root / "specs" / "gpt.yaml", {**SMALL, "params.vocab_size": 20})
    with pytest.raises(RunError, match=r"NS913 the data have .* different tokens, and no embedding"):
        train(program, run_dir=tmp_path / "run", progress="none")
