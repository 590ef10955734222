"""`netspec predict` over texts: what a run writes after a prompt, against a loop of generation written by hand."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import netspec
from netspec.cli import main
from netspec.runtime.errors import RunError
from netspec.runtime.run import train

TEXT = "to be, or not to be: that is the question.\n" * 8
WINDOW = 16
RECURRENT = """\
netspec: 1
name: writer
params: {classes: 17}
model:
  inputs: {tokens: {shape: [N, T], dtype: int64}}
  layers:
    embed: {type: Embedding, num_embeddings: $classes, embedding_dim: 8}
    rnn: {type: GRU, hidden_size: 24, batch_first: true}
    fc: {type: Linear, from: rnn.output, out_features: $classes}
    scores: {type: transpose, dim0: 1, dim1: 2}
data:
  source: {type: Text, path: hamlet.txt, length: 16}
  batch_size: 8
train:
  epochs: 6
  layers:
    scores: {use: model}
    loss: {type: CrossEntropyLoss, from: [scores, next]}
  optimizer: {type: Adam, lr: 0.02}
  device: cpu
  tensorboard: false
"""


def trained(folder: Path, change: dict[str, Any] | None = None, spec: str = RECURRENT) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "hamlet.txt").write_text(TEXT, encoding="utf-8")
    (folder / "spec.yaml").write_text(spec, encoding="utf-8")
    train(netspec.compile(folder / "spec.yaml", change), run_dir=folder / "run", progress="none")
    return folder / "run"


@pytest.fixture(scope="module")
def recurrent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GRU over characters that gives its scores as [N, classes, T]."""
    return trained(tmp_path_factory.mktemp("recurrent"))


@pytest.fixture(scope="module")
def gpt(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The GPT of the specs, small, with scores as [N, T, classes]."""
    folder = tmp_path_factory.mktemp("gpt")
    (folder / "hamlet.txt").write_text(TEXT, encoding="utf-8")
    change = {
        "params": {"vocab_size": 40, "context": WINDOW, "depth": 2, "num_heads": 2, "width": 16, "dropout": 0.2},
        "data.source": {"type": "Text", "path": str(folder / "hamlet.txt"), "length": WINDOW, "stride": 4},
        "train.steps": 30,
        "train.scheduler.warmup.steps": 5,
        "train.device": "cpu",
        "train.tensorboard": False,
    }
    train(netspec.compile(root / "specs" / "gpt.yaml", change), run_dir=folder / "run", progress="none")
    return folder / "run"


def by_hand(
    run: Path,
    row: list[int],
    count: int,
    *,
    tokens: int,
    temperature: float,
    top_k: int | None,
    seed: int,
    by_class: bool,
) -> list[int]:
    """The loop of generation as papers and tutorials have it."""
    model, generator = netspec.load(run), torch.Generator().manual_seed(seed)
    written: list[int] = []
    for _ in range(tokens):
        scores = model(torch.tensor([[*row, *written][-WINDOW:]]))
        last = (scores[:, :, -1] if by_class else scores[:, -1, :])[:, :count]
        if temperature == 0:
            written.append(int(last.argmax(1)))
            continue
        last = last / temperature
        if top_k is not None:
            last[last < torch.topk(last, top_k).values[:, [-1]]] = -float("inf")
        written.append(int(torch.multinomial(torch.softmax(last, 1), 1, generator=generator)))
    return written


@pytest.mark.parametrize(
    ("temperature", "top_k", "seed"), [(0.0, None, 0), (1.0, None, 3), (0.7, 5, 11), (1.5, 1, 2)], ids=str
)
@pytest.mark.parametrize("model", ["gpt", "recurrent"])
def test_what_is_written_is_what_a_loop_by_hand_draws(
    model: str,
    temperature: float,
    top_k: int | None,
    seed: int,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run: Path = request.getfixturevalue(model)
    vocabulary = sorted(set(TEXT))
    prompts = ["to", "that is the question, or not"]  # the second is longer than the model's window
    options = ["--tokens", "40", "--temperature", str(temperature), "--seed", str(seed)]
    options += ["--top-k", str(top_k)] if top_k is not None else []
    texts = [part for prompt in prompts for part in ("--text", prompt)]
    assert main(["predict", str(run), *texts, *options]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["input"] for row in rows] == prompts
    for prompt, row in zip(prompts, rows, strict=True):
        expected = by_hand(
            run,
            [vocabulary.index(character) for character in prompt],
            len(vocabulary),
            tokens=40,
            temperature=temperature,
            top_k=top_k,
            seed=seed,
            by_class=model == "recurrent",
        )
        assert row["prediction"] == "".join(vocabulary[token] for token in expected)
        same = netspec.load(run).generate(prompt, tokens=40, temperature=temperature, top_k=top_k, seed=seed)
        assert same == row["prediction"]


def test_a_model_that_has_learnt_writes_what_it_has_read(recurrent: Path) -> None:
    """Its text is one sentence over and over, and other seeds draw other texts."""
    writer = netspec.load(recurrent)
    draws = {writer.generate("to be", seed=seed, tokens=30) for seed in range(4)}
    assert len(draws) == 4
    assert set("".join(draws)) <= set(TEXT)
    assert writer.generate("to be", temperature=1e-30, tokens=30) == writer.generate("to be", temperature=0, tokens=30)
    assert writer.generate("to be", tokens=0) == ""


def test_prompts_from_files_and_the_standard_input(
    recurrent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line break that ends the last line of a file is no part of the prompt."""
    file = tmp_path / "prompt.txt"
    file.write_bytes(b"or not\r\nto be\r\n")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"or not\nto be\n")))
    options = ["--tokens", "20", "--format", "csv"]
    assert main(["predict", str(recurrent), str(file), "-", "--text", "or not\nto be", *options]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["input"] for row in rows] == ["or not\nto be", str(file), "-"]
    expected = netspec.load(recurrent).generate("or not\nto be", tokens=20)
    assert [row["prediction"] for row in rows] == [expected] * 3 and len(expected) == 20


def refusals(*command: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = main(["predict", *command])
    said = capsys.readouterr()
    assert not said.out
    return code, said.err


def test_prompts_that_a_run_does_not_know(recurrent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(recurrent)
    code, said = refusals(run, "--text", "to", "--text", "be\nor Zealous", capsys=capsys)
    assert code == 3
    assert "error[NS924]: line 2 of prompt 2 has the character 'Z', which the vocabulary does not have" in said
    assert r"it was trained on \n ,.:abehinoqrstu" in said
    for prompt in ("to\udcff", ""):
        assert refusals(run, "--text", prompt, capsys=capsys)[0] == 3
    (tmp_path / "odd.txt").write_bytes(b"\xff\xfe")
    assert "NS921" in refusals(run, str(tmp_path / "odd.txt"), capsys=capsys)[1]
    assert "NS920" in refusals(run, str(tmp_path / "none.txt"), capsys=capsys)[1]


@pytest.mark.parametrize(
    "options",
    [
        ["--temperature", "-1"],
        ["--temperature", "nan"],
        ["--top-k", "0"],
        ["--seed", str(2**64)],
        ["--batch-size", "2"],
    ],
    ids=lambda options: " ".join(options)[:20],
)
def test_options_out_of_their_range(recurrent: Path, options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert refusals(str(recurrent), "--text", "to", *options, capsys=capsys)[0] == 2


def test_options_of_texts_are_for_texts(
    recurrent: Path, tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = refusals(str(recurrent), capsys=capsys)
    assert code == 2 and "name what to go on with: --text PROMPT, a file, or -" in said
    spec = netspec.compile(root / "specs" / "digits.yaml", {"train.epochs": 1, "train.device": "cpu"})
    train(spec, run_dir=tmp_path / "digits", progress="none")
    code, said = refusals(str(tmp_path / "digits"), "x.png", "--top-k", "3", capsys=capsys)
    assert code == 2 and "--top-k is for runs over texts, and this is none" in said
    assert refusals(str(tmp_path / "digits"), capsys=capsys)[0] == 2
    with pytest.raises(RunError, match="NS932 this run has not learnt from a text"):
        netspec.load(tmp_path / "digits").generate("to")
    with pytest.raises(ValueError, match="top_k is one from 1"):
        netspec.load(recurrent).generate("to", top_k=0)


def written(run: Path, row: Sequence[int], count: int) -> list[int]:
    return by_hand(run, list(row), count, tokens=24, temperature=1.0, top_k=None, seed=0, by_class=True)


def test_bytes_and_numbers_of_tokens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Bytes that form no character are shown as such; numbers go in and come out as numbers."""
    run = trained(tmp_path / "bytes", {"data.source.tokens": "bytes", "train.epochs": 1, "params.classes": 256})
    assert main(["predict", str(run), "--text", "çà", "--tokens", "24"]) == 0
    told = json.loads(capsys.readouterr().out)["prediction"]
    assert told == bytes(written(run, "çà".encode(), 256)).decode("utf-8", errors="replace")

    tokens = np.arange(300) * 7 % 31
    (tmp_path / "numbers").mkdir()
    np.save(tmp_path / "numbers" / "x.npy", tokens)
    np.save(tmp_path / "prompt.npy", tokens[:5])
    run = trained(
        tmp_path / "numbers",
        {"data.source.path": str(tmp_path / "numbers" / "x.npy"), "train.epochs": 1, "params.classes": 31},
    )
    prompt = " ".join(map(str, tokens[:5]))
    assert main(["predict", str(run), str(tmp_path / "prompt.npy"), "--text", prompt, "--tokens", "24"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    expected = written(run, tokens[:5].tolist(), 31)
    assert [[int(token) for token in row["prediction"].split()] for row in rows] == [expected] * 2
    for wrong in ("3 x", "-1", "31", "9" * 30, ""):
        assert "NS924" in refusals(str(run), "--text", wrong, capsys=capsys)[1]


def test_a_model_of_one_length_takes_no_shorter_prompt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = RECURRENT.replace("[N, T]", "[N, 16]").replace(OBJECTIVE, "\n  loss: {type: CrossEntropyLoss}")
    run = trained(tmp_path, {"train.epochs": 1, "train.loss.from": ["scores", "next"]}, short)
    code, said = refusals(str(run), "--text", "to be", capsys=capsys)
    assert code == 3 and "error[NS932]: prompt 1 has 5 tokens, and the model takes 16 and no fewer" in said
    vocabulary = sorted(set(TEXT))
    expected = written(run, [vocabulary.index(character) for character in TEXT[:20]], len(vocabulary))
    found = netspec.load(run).generate(TEXT[:20], tokens=24)
    assert found == "".join(vocabulary[token] for token in expected)


OBJECTIVE = """
  layers:
    scores: {use: model}
    loss: {type: CrossEntropyLoss, from: [scores, next]}"""


def test_a_model_of_any_length_has_its_loss_in_the_short_form(tmp_path: Path) -> None:
    """`[N, T]` is of the length that the data have, where a loss compares the scores with what comes next."""
    short = RECURRENT.replace(OBJECTIVE, "\n  loss: {type: CrossEntropyLoss, from: [scores, next]}")
    assert short != RECURRENT
    run = trained(tmp_path, {"train.epochs": 1}, short)
    assert len(netspec.load(run).generate("to be", tokens=3)) == 3
    with pytest.raises(netspec.SpecError, match=r"NS552 .*scores \[N, 16, 17\]"):
        netspec.compile(tmp_path / "spec.yaml", {"train.loss.from": ["fc", "next"]} | SCORES_LAST)


SCORES_LAST = {"model.outputs": {"fc": "fc"}}
MEAN = """\
    mean: {type: mean, from: rnn.output, dim: 2}
    fc: {type: Linear, from: mean, in_features: 16, out_features: 16}
"""


def test_a_model_of_another_shape_does_not_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    head, rest = RECURRENT.split("    fc:")[0], RECURRENT[RECURRENT.index("data:") :]
    spec = head.replace("[N, T]", "[N, 16]") + MEAN + rest
    loss = "\n  layers:\n    y: {use: model}\n    size: {type: mean, from: y}\n    loss: {compute: size * size}"
    spec = spec.replace(OBJECTIVE, loss)
    run = trained(tmp_path, {"train.epochs": 1}, spec)
    code, said = refusals(str(run), "--text", "to be", capsys=capsys)
    assert code == 3
    assert "error[NS932]: a model that writes gives scores of each next token, [N, T, classes] or" in said
    assert "and this one gives fc [N, 16]" in said
