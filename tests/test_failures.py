"""The index of PyTorch's usual failures, held against what the installed torch really says."""

from __future__ import annotations

import errno
import functools
import io
import multiprocessing
import os
import re
import socket
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset, RandomSampler

from netspec import failures
from netspec.cli import main
from netspec.pages import page, title

ones = torch.ones
LONG = torch.int64


def long(*shape: int) -> torch.Tensor:
    return ones(*shape, dtype=LONG)


def double(*shape: int) -> torch.Tensor:
    return ones(*shape, dtype=torch.float64)


class TwoInputs(nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a + b


class Dies(Dataset[torch.Tensor]):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> torch.Tensor:
        os._exit(1)


class Fails(Dies):
    def __getitem__(self, index: int) -> torch.Tensor:
        return ones(2, 3) @ ones(4, 5)


class HoldsLambda(Dies):
    def __init__(self) -> None:
        self.function: Callable[[int], int] = lambda index: index


def written_leaf() -> None:
    weight = ones(3, requires_grad=True)
    weight += 1


def written_result() -> None:
    result = ones(3, requires_grad=True).exp()
    result += 1
    result.sum().backward()


def written_view() -> None:
    first, _ = (ones(2, 3, requires_grad=True) * 1).unbind()
    first.add_(1)


def twice() -> None:
    weight = ones(3, requires_grad=True)
    loss = (weight * weight).sum()
    loss.backward()
    loss.backward()


def scaled(steps: Callable[[Any, Any], None], dtype: torch.dtype = torch.float32) -> None:
    scaler, weight = torch.amp.GradScaler("cpu"), nn.Parameter(ones(2, dtype=dtype))
    optimizer = torch.optim.SGD([weight], 0.1)
    loss = scaler.scale(weight.sum())
    if steps is not step_alone:
        loss.backward()
    steps(scaler, optimizer)


def step_alone(scaler: Any, optimizer: Any) -> None:
    scaler.step(optimizer)


def unscale_twice(scaler: Any, optimizer: Any) -> None:
    scaler.unscale_(optimizer)
    scaler.unscale_(optimizer)


def nan_gradient() -> None:
    with torch.autograd.set_detect_anomaly(True):
        x = torch.tensor(0.0, requires_grad=True)
        (x.sqrt() * 0).backward()


def not_deterministic() -> None:
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        ones(3).put_(torch.tensor([0]), ones(1), accumulate=False)
    finally:
        torch.use_deterministic_algorithms(before)


def port_in_use() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        torch.distributed.TCPStore("127.0.0.1", taken.getsockname()[1], 2, True)


def clip_infinite() -> None:
    weight = nn.Parameter(ones(1))
    weight.grad = torch.full((1,), float("nan"))
    nn.utils.clip_grad_norm_([weight], 1.0, error_if_nonfinite=True)


def no_image() -> None:
    from PIL import Image

    Image.open(io.BytesIO(b"no image"))


def cut_image() -> None:
    from PIL import Image

    whole = io.BytesIO()
    Image.frombytes("RGB", (64, 64), os.urandom(64 * 64 * 3)).save(whole, "JPEG")
    Image.open(io.BytesIO(whole.getvalue()[: len(whole.getvalue()) // 2])).load()


def raised(number: int) -> None:
    raise OSError(number, os.strerror(number))


def full_disk() -> None:
    with open("/dev/full", "w") as stream:
        stream.write("x" * 100_000)


PROVOKED: list[tuple[str, str, Callable[[], object]]] = [
    ("NS601", "a meta and a CPU tensor", lambda: ones(3, device="meta") + ones(3)),
    ("NS601", "a meta weight", lambda: nn.Linear(3, 4, device="meta")(ones(2, 3))),
    ("NS601", "a norm", lambda: nn.BatchNorm1d(3, device="meta")(ones(2, 3))),
    ("NS601", "a loss", lambda: F.cross_entropy(ones(2, 3, device="meta"), long(2))),
    ("NS601", "out of meta", lambda: ones(3, device="meta").cpu()),
    ("NS602", "linear double", lambda: nn.Linear(3, 4)(double(2, 3))),
    ("NS602", "linear long", lambda: nn.Linear(3, 4)(long(2, 3))),
    ("NS602", "linear half", lambda: nn.Linear(3, 4)(ones(2, 3, dtype=torch.float16))),
    ("NS602", "conv double", lambda: nn.Conv2d(1, 1, 1)(double(1, 1, 2, 2))),
    ("NS602", "conv uint8", lambda: nn.Conv2d(1, 1, 1)(ones(1, 1, 2, 2, dtype=torch.uint8))),
    ("NS602", "norm uint8", lambda: nn.BatchNorm1d(3)(ones(2, 3, dtype=torch.uint8))),
    ("NS602", "norm double", lambda: nn.BatchNorm1d(3)(double(2, 3))),
    ("NS602", "layer norm double", lambda: nn.LayerNorm(3)(double(2, 3))),
    ("NS602", "lstm double", lambda: nn.LSTM(3, 4)(double(2, 2, 3))),
    (
        "NS602",
        "attention",
        lambda: F.scaled_dot_product_attention(ones(1, 2, 3, 4), ones(1, 2, 3, 4), double(1, 2, 3, 4)),
    ),
    ("NS602", "matmul", lambda: ones(2, 2) @ double(2, 2)),
    ("NS602", "bmm half", lambda: torch.bmm(ones(1, 2, 2), ones(1, 2, 2, dtype=torch.float16))),
    ("NS602", "softmax long", lambda: F.softmax(long(2), 0)),
    ("NS602", "mean long", lambda: long(2).float().long().mean()),
    ("NS602", "relu bool", lambda: F.relu(ones(2, dtype=torch.bool))),
    ("NS602", "embedding float", lambda: nn.Embedding(3, 2)(ones(1))),
    ("NS602", "index float", lambda: ones(3)[ones(2)]),
    ("NS602", "add into long", lambda: long(2).add_(1.5)),
    ("NS602", "loss of longs", lambda: F.mse_loss(long(2, 3), long(2, 3))),
    ("NS602", "scores that are longs", lambda: F.cross_entropy(long(2, 3), long(2))),
    ("NS602", "targets that are longs", lambda: F.binary_cross_entropy_with_logits(ones(2), long(2))),
    ("NS603", "linear", lambda: nn.Linear(3, 4)(ones(2, 5))),
    ("NS603", "on meta", lambda: nn.Linear(3, 4, device="meta")(ones(2, 5, device="meta"))),
    ("NS603", "bmm", lambda: torch.bmm(ones(2, 3, 4), ones(2, 5, 6))),
    ("NS603", "matrix and vector", lambda: ones(2, 3) @ ones(4)),
    ("NS603", "vectors", lambda: ones(3) @ ones(4)),
    ("NS603", "einsum", lambda: torch.einsum("ij,jk", ones(2, 3), ones(4, 5))),
    ("NS603", "bilinear", lambda: nn.Bilinear(3, 4, 5)(ones(2, 3), ones(2, 3))),
    ("NS603", "lstm", lambda: nn.LSTM(3, 4)(ones(2, 2, 5))),
    ("NS603", "lstm state", lambda: nn.LSTM(3, 4)(ones(2, 2, 3), (ones(1, 3, 4), ones(1, 3, 4)))),
    ("NS603", "attention", lambda: nn.MultiheadAttention(4, 2)(*[ones(2, 3, 5)] * 3)),
    ("NS603", "layer norm", lambda: nn.LayerNorm(5)(ones(2, 4))),
    ("NS603", "rms norm", lambda: nn.RMSNorm(5)(ones(2, 4))),
    ("NS604", "conv", lambda: nn.Conv2d(3, 4, 3)(ones(2, 1, 9, 9))),
    ("NS604", "transposed conv", lambda: nn.ConvTranspose2d(3, 4, 3)(ones(2, 1, 9, 9))),
    ("NS604", "batch norm", lambda: nn.BatchNorm2d(3)(ones(2, 4, 5, 5))),
    ("NS604", "group norm", lambda: nn.GroupNorm(2, 4)(ones(2, 6, 3))),
    ("NS604", "group norm, odd", lambda: nn.GroupNorm(2, 4)(ones(2, 5, 3))),
    ("NS604", "instance norm", lambda: nn.InstanceNorm2d(3, affine=True)(ones(2, 4, 3, 3))),
    ("NS604", "prelu", lambda: nn.PReLU(3)(ones(2, 4))),
    ("NS604", "pixel shuffle", lambda: nn.PixelShuffle(2)(ones(1, 3, 2, 2))),
    ("NS604", "channel shuffle", lambda: nn.ChannelShuffle(2)(ones(1, 3, 2, 2))),
    ("NS605", "conv", lambda: nn.Conv2d(1, 1, 5)(ones(1, 1, 3, 3))),
    ("NS605", "max pool", lambda: nn.MaxPool2d(5)(ones(1, 1, 3, 3))),
    ("NS605", "average pool", lambda: nn.AvgPool2d(5)(ones(1, 1, 3, 3))),
    ("NS605", "max pool 1d", lambda: nn.MaxPool1d(5)(ones(1, 1, 3))),
    ("NS605", "reflection", lambda: nn.ReflectionPad2d(5)(ones(1, 1, 3, 3))),
    ("NS605", "unfold", lambda: nn.Unfold(5)(ones(1, 1, 3, 3))),
    ("NS605", "windows", lambda: ones(3).unfold(0, 5, 1)),
    ("NS605", "interpolate", lambda: F.interpolate(ones(1, 1, 2, 2), size=0)),
    ("NS606", "view", lambda: ones(2, 3).view(4, 2)),
    ("NS606", "reshape", lambda: ones(2, 3).reshape(4, -1)),
    ("NS606", "unflatten", lambda: ones(2, 6).unflatten(1, (4, 2))),
    ("NS606", "split", lambda: ones(5).split([2, 2])),
    ("NS606", "glu", lambda: nn.GLU()(ones(2, 3))),
    ("NS607", "view", lambda: ones(2, 3).t().view(6)),
    ("NS607", "channels last", lambda: ones(2, 3).to(memory_format=torch.channels_last)),
    ("NS608", "add", lambda: ones(2, 3) + ones(2, 4)),
    ("NS608", "cat", lambda: torch.cat([ones(2, 3), ones(3, 4)], 1)),
    ("NS608", "cat of ranks", lambda: torch.cat([ones(2, 3), ones(3)], 1)),
    ("NS608", "stack", lambda: torch.stack([ones(2), ones(3)])),
    ("NS608", "expand", lambda: ones(2, 3).expand(4, 3)),
    ("NS608", "in place", lambda: ones(3).add_(ones(2, 3))),
    ("NS609", "conv", lambda: nn.Conv2d(3, 4, 3)(ones(9, 9))),
    ("NS609", "batch norm", lambda: nn.BatchNorm2d(3)(ones(2, 3))),
    ("NS609", "gru", lambda: nn.GRU(3, 4)(ones(2, 2, 5, 3))),
    ("NS609", "flatten", lambda: ones(3).flatten(1)),
    ("NS609", "permute", lambda: ones(2, 3).permute(0, 2, 1)),
    ("NS610", "batch norm 1d", lambda: nn.BatchNorm1d(3)(ones(1, 3))),
    ("NS610", "batch norm 2d", lambda: nn.BatchNorm2d(3)(ones(1, 3, 1, 1))),
    ("NS610", "instance norm", lambda: nn.InstanceNorm2d(3)(ones(2, 3, 1, 1))),
    ("NS611", "cross entropy", lambda: F.cross_entropy(ones(2, 3), torch.tensor([0, 5]))),
    ("NS611", "nll", lambda: F.nll_loss(ones(2, 3), torch.tensor([0, -1]))),
    ("NS611", "per place", lambda: F.cross_entropy(ones(2, 3, 4, 4), 9 * long(2, 4, 4))),
    ("NS611", "one hot", lambda: F.one_hot(torch.tensor([0, 5]), 3)),
    ("NS611", "one hot, negative", lambda: F.one_hot(torch.tensor([0, -5]), 3)),
    ("NS611", "margin", lambda: F.multi_margin_loss(ones(2, 3), torch.tensor([0, 9]))),
    ("NS612", "embedding", lambda: nn.Embedding(3, 2)(torch.tensor([3]))),
    ("NS612", "bag", lambda: nn.EmbeddingBag(3, 2)(torch.tensor([[3]]))),
    ("NS612", "gather", lambda: ones(2, 3).gather(1, torch.tensor([[5], [0]]))),
    ("NS612", "indexing", lambda: ones(3)[torch.tensor([4])]),
    ("NS612", "take", lambda: ones(3).take(torch.tensor([9]))),
    ("NS613", "floats for classes", lambda: F.cross_entropy(ones(2, 3), ones(2))),
    ("NS613", "a column of classes", lambda: F.cross_entropy(ones(2, 3), long(2, 1))),
    ("NS613", "another batch", lambda: F.cross_entropy(ones(2, 3), long(3))),
    ("NS613", "weights", lambda: F.cross_entropy(ones(2, 3), long(2), weight=ones(4))),
    ("NS613", "places", lambda: F.nll_loss(ones(2, 3, 4, 4), long(2, 4))),
    ("NS613", "no probabilities", lambda: F.binary_cross_entropy(2 * ones(2), ones(2))),
    ("NS613", "no shares", lambda: F.binary_cross_entropy(ones(2), 5 * ones(2))),
    ("NS613", "bce shape", lambda: F.binary_cross_entropy(ones(2, 1), ones(2))),
    ("NS613", "logits shape", lambda: F.binary_cross_entropy_with_logits(ones(2, 1), ones(2))),
    ("NS613", "bce of longs", lambda: F.binary_cross_entropy(ones(2), long(2))),
    ("NS613", "one hot of floats", lambda: F.one_hot(ones(2))),
    ("NS615", "a leaf", written_leaf),
    ("NS615", "a result", written_result),
    ("NS615", "a view", written_view),
    ("NS616", "twice", twice),
    ("NS617", "no gradient", lambda: ones(1).sum().backward()),
    ("NS617", "no weights", lambda: torch.optim.SGD([], 0.1)),
    ("NS618", "a vector", lambda: (ones(2, requires_grad=True) * 1).backward()),
    ("NS619", "put_", not_deterministic),
    ("NS620", "too few", lambda: TwoInputs()(ones(1))),
    ("NS620", "too many", lambda: nn.Sequential()(1, 2)),
    ("NS620", "a tuple", lambda: nn.Linear(1, 1)((ones(1),))),
    ("NS620", "nothing", lambda: nn.Linear(1, 1)(None)),
    ("NS620", "a hole", lambda: torch.cat([ones(1), None])),  # type: ignore[list-item]
    ("NS621", "no checks", functools.partial(scaled, step_alone)),
    ("NS621", "unscaled twice", functools.partial(scaled, unscale_twice)),
    ("NS621", "16-bit weights", functools.partial(scaled, unscale_twice, torch.float16)),
    ("NS622", "anomaly", nan_gradient),
    ("NS622", "sampling", lambda: torch.multinomial(torch.tensor([float("nan"), 1]), 1)),
    ("NS622", "a distribution", lambda: torch.distributions.Normal(torch.tensor(float("nan")), 1.0)),
    ("NS622", "clipping", clip_infinite),
    ("NS630", "no xpu", lambda: ones(1, device="xpu")),
    ("NS630", "no such word", lambda: torch.device("gpu")),
    ("NS640", "sampler", lambda: RandomSampler([])),
    ("NS640", "stack of none", lambda: torch.stack([])),
    ("NS640", "largest of none", lambda: ones(0).max()),
    ("NS641", "worker", lambda: list(DataLoader(Dies(), num_workers=1))),
    ("NS642", "lambda", lambda: list(DataLoader(HoldsLambda(), num_workers=1, multiprocessing_context="spawn"))),
    ("NS603", "inside a worker", lambda: list(DataLoader(Fails(), num_workers=1))),
    ("NS643", "too many files", functools.partial(raised, errno.EMFILE)),
    ("NS644", "full", functools.partial(raised, errno.ENOSPC)),
    ("NS650", "port", port_in_use),
    ("NS651", "no group", lambda: torch.distributed.all_reduce(ones(1))),
    ("NS905", "other weights", lambda: nn.Linear(3, 4).load_state_dict({"weight": ones(2, 2), "x": ones(1)})),
    ("NS910", "CPU memory", lambda: torch.empty(10**15)),
    ("NS910", "overflow", lambda: torch.empty(2**60, 2**10)),
    ("NS910", "Python's memory", lambda: bytearray(2**62)),
    ("NS921", "no image", no_image),
    ("NS921", "half an image", cut_image),
]
"""What a CPU can be brought to raise: the code, a name, and how."""

KNOWN = [
    (code, kind, message.replace("\\n", "\n"))
    for line in (Path(__file__).parent / "golden" / "failures" / "gpu.txt").read_text("utf-8").splitlines()
    for code, kind, message in [re.fullmatch(r"(NS\d+) (\w+): (.*)", line).groups()]  # type: ignore[union-attr]
]
"""What a CPU cannot be brought to raise, as torch writes it: the code, the exception, its message."""


@pytest.mark.parametrize(("code", "how"), [(c, f) for c, _, f in PROVOKED], ids=[f"{c} {n}" for c, n, _ in PROVOKED])
@pytest.mark.filterwarnings("ignore")
def test_torch_says_what_the_table_expects(code: str, how: Callable[[], object]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(Exception) as caught:
            how()
    found = failures.find(caught.value)
    assert found is not None, f"{type(caught.value).__name__}: {caught.value}"
    assert found.code == code, f"{type(caught.value).__name__}: {caught.value}"
    for worker in multiprocessing.active_children():
        worker.terminate()


@pytest.mark.parametrize(("code", "kind", "message"), KNOWN, ids=[f"{c} {m[:40]}" for c, _, m in KNOWN])
def test_what_a_gpu_would_say(code: str, kind: str, message: str) -> None:
    found = failures.find(type(kind, (RuntimeError,), {})(message))
    assert found is not None and found.code == code


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_known() -> None:
    with pytest.raises(OSError) as caught:
        full_disk()
    found = failures.find(caught.value)
    assert found is not None and found.code == "NS644"


@pytest.mark.parametrize(
    "error", [ValueError("seventeen"), KeyError("image"), RuntimeError(""), TypeError("unhashable type: 'list'")]
)
def test_what_is_none_of_them(error: Exception) -> None:
    assert failures.find(error) is None


def test_each_row_is_provoked_and_has_a_page() -> None:
    tested = {code for code, *_ in PROVOKED} | {code for code, *_ in KNOWN}
    assert sorted({row.code for row in failures.FAILURES} - tested) == []
    for row in failures.FAILURES:
        assert row.patterns or row.types
        assert page(row.code) is not None
        assert row.means[0].islower() and not row.means.endswith(".") and not row.help.endswith(".")


def test_torchs_own_words_in_one_line() -> None:
    with pytest.raises(RuntimeError) as caught:
        list(DataLoader(Fails(), num_workers=1))
    said = failures.words(caught.value)
    assert said.startswith("RuntimeError: ") and "cannot be multiplied (2x3 and 4x5)" in said and "\n" not in said
    with pytest.raises(RuntimeError) as caught:
        nn.Linear(3, 4).load_state_dict({"weight": ones(4, 3)})
    assert 'Missing key(s) in state_dict: "bias"' in failures.words(caught.value)
    with pytest.raises(RuntimeError) as caught:
        written_result()
    assert "Hint" not in failures.words(caught.value)
    assert failures.words(MemoryError()) == "MemoryError"
    assert len(failures.words(RuntimeError("long " * 1000))) == failures.LONGEST


def test_explain_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "failures"]) == 0
    listed = capsys.readouterr().out
    for code in failures.codes():
        assert f"{code}  {title(code)}\n" in listed
    assert main(["explain", "codes"]) == 0
    every = capsys.readouterr().out
    from netspec.pages import codes

    assert [code for code in codes() if f"  {code}  {title(code)}\n" not in every] == []


def test_explain_takes_torchs_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "RuntimeError: mat1 and mat2 shapes cannot be multiplied (4x400 and 256x10)"]) == 0
    assert capsys.readouterr().out == page("NS603")
    assert main(["explain", "no such words"]) == 2
