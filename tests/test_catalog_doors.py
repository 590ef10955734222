"""What is particular about some layers of the catalog, through both doors: tuples, tensors made of nothing, arguments
of the call.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import netspec
from netspec.runtime.verify import verify

IMAGE = {"x": ["N", 3, 16, 16]}
TOKENS = {"tokens": {"shape": ["N", "T"], "dtype": "int64"}}
STEPS = {"x": ["N", "T", 8]}
WORDS = {"type": "Embedding", "num_embeddings": 20, "embedding_dim": 12}

MODELS: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    "positions": (
        TOKENS,
        {
            "wte": WORDS,
            "positions": {"type": "arange", "end": "$T"},
            "wpe": {"type": "Embedding", "num_embeddings": 32, "embedding_dim": 12},
            "sum": {"compute": "wte + wpe"},
        },
        ["torch.arange(T, device=tokens.device)"],
    ),
    "steps": (
        STEPS,
        {
            "even": {"type": "arange", "end": 16, "step": 2},
            "late": {"type": "arange", "start": 8, "end": 16, "dtype": "float32"},
            "noise": {"type": "randn", "size": ["$N", "$T", 8]},
            "sum": {"compute": "x + even + late + noise"},
        },
        [
            "torch.arange(0, 16, 2, device=x.device)",
            "torch.arange(8, 16, dtype=torch.float32, device=x.device)",
            "torch.randn((N, T, 8), device=x.device)",
        ],
    ),
    "attention": (
        STEPS,
        {
            "q": {"type": "Linear", "out_features": 8},
            "k": {"type": "Linear", "from": "x", "out_features": 8},
            "seen": {"type": "ones", "size": ["$T", "$T"]},
            "mask": {"type": "tril"},
            "mixed": {
                "type": "scaled_dot_product_attention",
                "from": {"query": "q", "key": "k", "value": "x", "attn_mask": "mask"},
                "dropout_p": 0.3,
            },
        },
        ["attn_mask=out", "dropout_p=0.3 if self.training else 0.0"],
    ),
    "several results": (
        STEPS,
        {
            "top": {"type": "topk", "k": 3},
            "picked": {"type": "gather", "from": {"input": "x", "index": "top.indices"}, "dim": 2},
            "sum": {"compute": "picked + top.values"},
        },
        ["values, indices = x.topk(3)", "x.gather(2, index=indices)"],
    ),
    "one of several results": (
        STEPS,
        {"largest": {"type": "max", "dim": 1}, "fc": {"type": "Linear", "out_features": 2}},
        ["x, _ = x.max(1)"],
    ),
    "the states of an LSTM": (
        TOKENS,
        {
            "embedding": WORDS,
            "lstm": {"type": "LSTM", "hidden_size": 6, "num_layers": 2, "bidirectional": True, "batch_first": True},
            "last": {"compute": "lstm.h_n[-2:]"},
            "pooled": {"type": "transpose", "dim0": 0, "dim1": 1},
            "flat": {"type": "flatten", "start_dim": 1},
            "fc": {"type": "Linear", "out_features": 2},
        },
        ["_, (x, _) = self.lstm(x)"],
    ),
    "an LSTM that hands its states on": (
        STEPS,
        {
            "encoder": {"type": "LSTM", "hidden_size": 6, "batch_first": True},
            "decoder": {
                "type": "LSTM",
                "from": {"input": "encoder.output", "h_0": "encoder.h_n", "c_0": "encoder.c_n"},
                "hidden_size": 6,
                "batch_first": True,
            },
            "row": {"compute": "decoder[:, -1]"},
            "cell": {"type": "LSTMCell", "hidden_size": 4},
        },
        ["output, (h_n, c_n) = self.encoder(x)", "x, _ = self.decoder(output, (h_n, c_n))", "x, _ = self.cell("],
    ),
    "a GRU that is read": (
        STEPS,
        {"gru": {"type": "GRU", "hidden_size": 6}, "fc": {"type": "Linear", "out_features": 2}},
        ["x, _ = self.gru(x)"],
    ),
    "attention of a sequence to itself": (
        STEPS,
        {
            "attention": {
                "type": "MultiheadAttention",
                "from": {"query": "x", "key": "x", "value": "x"},
                "num_heads": 2,
                "batch_first": True,
                "need_weights": False,
            },
            "sum": {"compute": "x + attention"},
        },
        ["nn.MultiheadAttention(8, 2, batch_first=True)", "out, _ = self.attention(x, x, x, need_weights=False)"],
    ),
    "attention with a mask and weights": (
        {**STEPS, "padding": {"shape": ["N", "T"], "dtype": "bool"}},
        {
            "attention": {
                "type": "MultiheadAttention",
                "from": {"query": "x", "key": "x", "value": "x", "key_padding_mask": "hidden"},
                "num_heads": 2,
                "batch_first": True,
            },
            "hidden": {"type": "zeros_like", "from": "padding"},
            "mixed": {"compute": "attention.attn_output_weights @ attention"},
        },
        ["attn_output, attn_output_weights = self.attention(", "key_padding_mask="],
    ),
    "a transformer": (
        STEPS,
        {
            "mask": {"type": "ones", "size": ["$T", "$T"], "dtype": "bool"},
            "later": {"type": "triu", "diagonal": 1},
            "encoder": {
                "type": "TransformerEncoderLayer",
                "from": {"src": "x", "src_mask": "later"},
                "nhead": 2,
                "dim_feedforward": 16,
                "batch_first": True,
                "is_causal": True,
            },
            "decoder": {
                "type": "TransformerDecoderLayer",
                "from": ["x", "encoder"],
                "nhead": 2,
                "dim_feedforward": 16,
                "batch_first": True,
            },
        },
        ["nn.TransformerEncoderLayer( 8, 2, dim_feedforward=16, ", ", is_causal=True)", "self.decoder(x, "],
    ),
    "pooling undone": (
        IMAGE,
        {
            "pool": {"type": "MaxPool2d", "kernel_size": 2, "return_indices": True},
            "conv": {"type": "Conv2d", "out_channels": 3, "kernel_size": 3, "padding": 1},
            "unpool": {"type": "MaxUnpool2d", "from": {"input": "conv", "indices": "pool.indices"}, "kernel_size": 2},
            "again": {"type": "max_pool2d", "kernel_size": 2, "return_indices": True},
            "last": {"compute": "again.output + pool.output"},
        },
        ["indices = self.pool(x)", "self.unpool(", "F.max_pool2d("],
    ),
    "a sequence of pools, of which none gives its places": (
        IMAGE,
        {
            "trunk": {
                "layers": [{"type": "MaxPool2d", "kernel_size": 2}, {"type": "AdaptiveMaxPool2d", "output_size": 1}]
            }
        },
        ["nn.Sequential("],
    ),
    "a whole transformer": (
        STEPS,
        {
            "later": {"type": "Linear", "out_features": 8},
            "transformer": {
                "type": "Transformer",
                "from": {"src": "x", "tgt": "later"},
                "nhead": 2,
                "num_encoder_layers": 1,
                "num_decoder_layers": 1,
                "dim_feedforward": 16,
                "batch_first": True,
            },
        },
        ["self.transformer(x, "],
    ),
    "values one by one": (
        STEPS,
        {
            "wave": {"type": "atan2", "from": ["x", "x"]},
            "near": {"type": "lerp", "from": ["wave", "x"], "weight": 0.25},
            "small": {"type": "half", "from": "near"},
            "back": {"type": "type_as", "from": ["small", "x"]},
            "above": {"type": "gt", "from": ["back", "x"]},
            "last": {"type": "where", "from": ["above", "back", "x"]},
        },
        ["torch.atan2(x, x)", "torch.lerp(", "0.25)", ".half()", ".type_as(x)"],
    ),
    "an equation of letters": (
        STEPS,
        {
            "scores": {"type": "einsum", "from": ["x", "x"], "equation": "bqd,bkd->bqk"},
            "mixed": {"type": "einsum", "from": ["scores", "x"], "equation": "bqk,bkd->bqd"},
            "spread": {"type": "std_mean", "dim": -1, "keepdim": True},
            "even": {"compute": "(mixed - spread.mean) / (spread.std + 1)"},
            "sorted": {"type": "median", "dim": 1},
            "last": {"type": "vector_norm", "dim": -1, "from": "even"},
        },
        ['torch.einsum("bqd,bkd->bqk", x, x)', "std, mean = torch.std_mean(", "torch.linalg.vector_norm("],
    ),
    "weights that are tensors": (
        IMAGE,
        {
            "window": {"type": "ones", "size": [3, 1, 3, 3]},
            "blurred": {"type": "conv2d", "from": {"input": "x", "weight": "window"}, "padding": 1, "groups": 3},
            "map": {"type": "zeros", "size": ["$N", 2, 3]},
            "grid": {"type": "affine_grid", "size": ["$N", 3, 8, 8], "align_corners": False},
            "sampled": {"type": "grid_sample", "from": ["blurred", "grid"], "align_corners": False},
            "rows": {"type": "arange", "end": 8},
            "places": {"type": "meshgrid", "from": ["rows", "rows"], "indexing": "ij"},
            "column": {"compute": "sampled + places.0"},
            "wide": {"type": "hstack", "from": ["column", "sampled"]},
            "part": {"type": "narrow", "dim": 1, "start": 0, "length": 4},
        },
        ["F.conv2d(", "groups=3)", "F.affine_grid(", "F.grid_sample(", "torch.meshgrid(", "torch.hstack(["],
    ),
    "values put at places": (
        STEPS,
        {
            "order": {"type": "argsort", "dim": 1},
            "moved": {"type": "scatter", "from": {"input": "x", "index": "order", "src": "x"}, "dim": 1},
            "marked": {"type": "scatter", "from": {"input": "moved", "index": "order"}, "dim": 1, "value": 0.5},
            "added": {"type": "scatter_add", "from": {"input": "x", "index": "order", "src": "marked"}, "dim": 1},
            "taken": {"type": "take_along_dim", "from": ["added", "order"], "dim": 1},
        },
        ["x.scatter(1, index=", "value=0.5", "torch.take_along_dim("],
    ),
    "modules of torchvision": (
        IMAGE,
        {
            "conv": {"type": "Conv2d", "out_channels": 4, "kernel_size": 1},
            "frozen": "FrozenBatchNorm2d",
            "drop": {"type": "StochasticDepth", "p": 0.5, "mode": "row"},
            "last": {"type": "Permute", "dims": [0, 2, 3, 1]},
        },
        ["import torchvision", "torchvision.ops.StochasticDepth(0.5, "],
    ),
}


def compiled(name: str) -> netspec.Program:
    inputs, layers, _ = MODELS[name]
    return netspec.compile({"netspec": 1, "name": "net", "model": {"inputs": inputs, "layers": layers}})


@pytest.mark.parametrize("name", MODELS)
def test_both_doors_are_equal(name: str) -> None:
    assert verify(compiled(name)) == []


@pytest.mark.parametrize("name", MODELS)
def test_it_is_written_as_people_write_it(name: str) -> None:
    source = " ".join(compiled(name).source("net.yaml").split())
    for text in MODELS[name][2]:
        assert text in source


def test_it_is_formatted_and_clean(tmp_path: Path) -> None:
    for number, name in enumerate(MODELS):
        (tmp_path / f"model{number}.py").write_text(compiled(name).source("net.yaml"), "utf-8")
    for arguments in (("format", "--diff"), ("check", "--no-cache")):
        command = [sys.executable, "-m", "ruff", arguments[0], "--isolated", *arguments[1:], str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
