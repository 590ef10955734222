"""Exports of models that are no image classifiers: recurrent, attention over tokens, several inputs and outputs, open
sizes. Each file is loaded by another's loader and asked at sizes that the export did not look at."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

import netspec
from netspec.runtime.errors import RunError
from netspec.runtime.export import export, flat
from netspec.runtime.export_inputs import shape_of

DRAW = np.random.default_rng(0)
TRAIN: dict[str, Any] = {
    "steps": 3,
    "optimizer": "AdamW",
    "device": "cpu",
    "threads": 1,
    "tensorboard": False,
}


def arrays(folder: Path, **columns: Any) -> dict[str, Any]:
    """Data of 64 samples as they lie in a file."""
    np.savez(folder / "data.npz", **columns)
    return {"source": {"type": "NumPy", "path": str(folder / "data.npz")}, "batch_size": 16}


def classes() -> Any:
    return DRAW.integers(0, 3, 64)


def tokens(*shape: int, high: int = 20) -> Tensor:
    return torch.from_numpy(DRAW.integers(0, high, shape))


def document(model: dict[str, Any], data: dict[str, Any], **settings: Any) -> dict[str, Any]:
    return {"netspec": 1, "name": "small", "model": model, "data": data, "train": {**TRAIN, **settings}}


def lstm(folder: Path) -> dict[str, Any]:
    """An LSTM over words that classifies a text."""
    model = {
        "inputs": {"tokens": {"shape": ["N", "T"], "dtype": "int64"}},
        "layers": {
            "words": {"type": "Embedding", "num_embeddings": 20, "embedding_dim": 8},
            "rnn": {"type": "LSTM", "hidden_size": 8, "num_layers": 2, "bidirectional": True, "batch_first": True},
            "last": {"compute": "rnn.output[:, -1]"},
            "head": {"type": "Linear", "out_features": 3},
        },
    }
    data = arrays(folder, tokens=tokens(64, 12).numpy(), label=classes())
    return document(model, data, loss="CrossEntropyLoss")


def gru(folder: Path) -> dict[str, Any]:
    """A GRU over measurements that predicts a number, and its hidden state."""
    model = {
        "inputs": {"signal": ["N", "T", 4]},
        "layers": {
            "rnn": {"type": "GRU", "hidden_size": 8, "batch_first": True},
            "last": {"compute": "rnn.h_n[0]"},
            "head": {"type": "Linear", "out_features": 1},
        },
        "outputs": {"value": "head", "hidden": "last"},
    }
    data = arrays(folder, signal=DRAW.normal(size=(64, 9, 4)).astype("float32"), target=DRAW.normal(size=(64, 1)))
    return document(model, data, loss={"type": "MSELoss", "from": ["value", "target"]})


def encoder(folder: Path) -> dict[str, Any]:
    """A Transformer encoder whose mask comes from the tokens."""
    model = {
        "inputs": {"tokens": {"shape": ["N", "T"], "dtype": "int64"}},
        "layers": {
            "words": {"type": "Embedding", "num_embeddings": 20, "embedding_dim": 8, "padding_idx": 0},
            "padding": {"compute": "tokens == 0"},
            "layer": {
                "type": "TransformerEncoderLayer",
                "from": {"src": "words", "src_key_padding_mask": "padding"},
                "nhead": 2,
                "dim_feedforward": 16,
                "batch_first": True,
            },
            "first": {"compute": "layer[:, 0]"},
            "head": {"type": "Linear", "out_features": 3},
        },
    }
    data = arrays(folder, tokens=tokens(64, 12).clamp(min=1).numpy(), label=classes())
    return document(model, data, loss="CrossEntropyLoss")


def two_and_two(folder: Path) -> dict[str, Any]:
    """Two inputs, one of them whole numbers, and two outputs."""
    model = {
        "inputs": {"kind": {"shape": ["N"], "dtype": "int64"}, "features": ["N", 4]},
        "layers": {
            "embedded": {"type": "Embedding", "num_embeddings": 20, "embedding_dim": 8, "from": "kind"},
            "both": {"type": "cat", "dim": 1, "from": ["embedded", "features"]},
            "body": {"type": "Linear", "out_features": 8},
            "logits": {"type": "Linear", "out_features": 3},
            "value": {"type": "Linear", "out_features": 1, "from": "body"},
        },
        "outputs": {"logits": "logits", "value": "value"},
    }
    data = arrays(
        folder, kind=tokens(64).numpy(), features=DRAW.normal(size=(64, 4)).astype("float32"), label=classes()
    )
    return document(model, data, loss={"type": "CrossEntropyLoss", "from": ["logits", "label"]})


def open_image(folder: Path) -> dict[str, Any]:
    """Images of any size."""
    model = {
        "inputs": {"image": ["N", 1, "H", "W"]},
        "layers": [
            {"type": "Conv2d", "out_channels": 4, "kernel_size": 3},
            "BatchNorm2d",
            "ReLU",
            {"type": "AdaptiveAvgPool2d", "output_size": 1},
            "Flatten",
            {"type": "Linear", "out_features": 3},
        ],
        "outputs": {"scores": "5"},
    }
    data = arrays(folder, image=DRAW.normal(size=(64, 1, 9, 9)).astype("float32"), label=classes())
    return document(model, data, loss={"type": "CrossEntropyLoss", "from": ["scores", "label"]})


def gpt(folder: Path) -> Any:
    """specs/gpt.yaml, small: tied weights, positions from the length, causal attention, its loss in `train.layers`."""
    (folder / "text.txt").write_text("a text of few words, again and again. " * 40, encoding="utf-8")
    return {
        "params.depth": 1,
        "params.width": 24,
        "params.num_heads": 2,
        "params.context": 64,
        "data.source.path": str(folder / "text.txt"),
        "data.batch_size": 8,
        "train.steps": 2,
        "train.device": "cpu",
        "train.threads": 1,
        "train.tensorboard": False,
    }


KINDS: dict[str, tuple[Callable[[Path], Any], Callable[..., list[Tensor]]]] = {
    "lstm": (lstm, lambda length=7: [tokens(5, length)]),
    "gru": (gru, lambda length=11: [torch.randn(5, length, 4)]),
    "encoder": (encoder, lambda: [torch.cat([tokens(5, 6).clamp(min=1), torch.zeros(5, 3, dtype=torch.int64)], 1)]),
    "two inputs and outputs": (two_and_two, lambda: [tokens(5), torch.randn(5, 4)]),
    "open sizes": (open_image, lambda: [torch.randn(5, 1, 13, 21)]),
    "gpt": (gpt, lambda: [tokens(5, 19)]),
}
"""A spec, and inputs for its model, in sizes of their own."""
UNROLLED = {"lstm": 12, "gru": 9}
"""Where torch.export writes out every step, and the length stays that of the data."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    @cache
    def run(name: str) -> Path:
        folder = tmp_path_factory.mktemp("kind")
        stated = KINDS[name][0](folder)
        spec = Path(__file__).resolve().parent.parent / "specs" / "gpt.yaml"
        program = netspec.compile(spec, stated) if name == "gpt" else netspec.compile(stated)
        netspec.train(program, run_dir=folder / "run", progress="none")
        return folder / "run"

    return run


@pytest.mark.parametrize(
    "ending", ["pt2", pytest.param("onnx", marks=pytest.mark.long), pytest.param("safetensors", marks=pytest.mark.long)]
)
@pytest.mark.parametrize("name", KINDS)
def test_an_export_gives_what_the_module_gives(
    name: str, ending: str, runs: Callable[[str], Path], tmp_path: Path
) -> None:
    path = tmp_path / f"m.{ending}"
    done = export(runs(name), path)
    assert list(done.fixed) == (["T"] if ending == "pt2" and name in UNROLLED else [])
    trained = netspec.load(runs(name))
    inputs = KINDS[name][1](UNROLLED[name]) if done.fixed else KINDS[name][1]()
    expected = flat(trained(*inputs))
    if ending == "safetensors":
        with safe_open(path, "pt") as file:
            card = json.loads(file.metadata()["netspec"])
        assert all(torch.equal(value, load_file(path)[key]) for key, value in trained.model.state_dict().items())
        given = expected
    elif ending == "pt2":
        extra = {"netspec.json": ""}
        given = flat(torch.export.load(path, extra_files=extra).module()(*inputs))
        card = json.loads(extra["netspec.json"])
    else:
        import onnxruntime

        session = onnxruntime.InferenceSession(path)
        named = zip((one.name for one in session.get_inputs()), inputs, strict=True)
        given = [torch.from_numpy(one) for one in session.run(None, {key: value.numpy() for key, value in named})]
        card = json.loads(session.get_modelmeta().custom_metadata_map["netspec"])
    assert len(given) == len(expected)
    for one, other in zip(given, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    assert list(card["inputs"]) == list(trained.program.inputs)
    assert list(card["outputs"]) == list(trained.program.outputs)


def test_sizes_other_than_the_batchs_are_compared_too(runs: Callable[[str], Path], tmp_path: Path) -> None:
    """A file that is right at the length that it was traced with alone is refused."""
    original = torch.export.load

    class Short:
        def __init__(self, made: Any) -> None:
            self.made = made

        def module(self) -> Any:
            model = self.made.module()
            return lambda x: model(x) + (x.shape[1] != 12)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.export, "load", lambda *a, **k: Short(original(*a, **k)))
        with pytest.raises(RunError, match="NS942"):
            export(runs("encoder"), tmp_path / "m.pt2")


def test_what_is_no_tensor_cannot_be_exported() -> None:
    layers = {"act": {"select": "mode", "of": {"relu": "ReLU", "tanh": "Tanh"}, "from": "image"}}
    model = {"inputs": {"image": ["N", 4], "mode": {"dtype": "str"}}, "layers": layers}
    inputs = netspec.compile({"netspec": 1, "name": "chosen", "model": model}).inputs
    assert shape_of(inputs["image"])[1:] == (4,)
    with pytest.raises(RunError, match="NS941 a model that takes lists of tensors, or texts"):
        shape_of(inputs["mode"])
