"""What the help of NS209 says to write in place of a call compiles, and gives what torch's call gives."""

from __future__ import annotations

import re

import pytest
import torch
import yaml

import netspec

TEXTS = {
    "x.mean(1)": lambda x: x.mean(1),
    "x.mean(dim=[2, 3])": lambda x: x.mean(dim=[2, 3]),
    "x.sum(1, keepdim=True)": lambda x: x.sum(1, keepdim=True),
    "torch.sum(x, 1)": lambda x: torch.sum(x, 1),
    "x.amax((2, 3))": lambda x: x.amax((2, 3)),
    "x.view(-1, 12)": lambda x: x.view(-1, 12),
    "x.reshape([2, 48])": lambda x: x.reshape([2, 48]),
    "x.permute(0, 2, 3, 1)": lambda x: x.permute(0, 2, 3, 1),
    "x.transpose(1, -1)": lambda x: x.transpose(1, -1),
    "x.unsqueeze(1)": lambda x: x.unsqueeze(1),
    "x.squeeze()": lambda x: x.squeeze(),
    "x.flatten(1)": lambda x: x.flatten(1),
    "softmax(x, -1)": lambda x: torch.softmax(x, -1),
    "torch.nn.functional.softmax(x, dim=1)": lambda x: torch.softmax(x, 1),
    "torch.cat([x, x], 1)": lambda x: torch.cat([x, x], 1),
    "F.relu(x)": torch.relu,
    "x.clamp(0, 1)": lambda x: x.clamp(0, 1),
    "x.matmul(x)": lambda x: x.matmul(x),
    "x.exp()": torch.exp,
}


def told(text: str) -> tuple[str, str | None]:
    """Message and help for a `compute` of this text."""
    layers = {"out": {"compute": text}, "end": {"compute": "out * 1"}}
    model = {"inputs": {"x": [2, 3, 4, 4]}, "layers": layers}
    with pytest.raises(netspec.SpecError) as wrong:
        netspec.compile({"netspec": 1, "name": "net", "model": model})
    (found,) = [one for one in wrong.value.diagnostics if one.severity == "error"]
    assert found.code in ("NS209", "NS302")
    return found.message, found.help


@pytest.mark.parametrize("text", TEXTS)
def test_the_layer_that_is_suggested_gives_the_same(text: str) -> None:
    _, help = told(text)
    found = re.search(r"`(\{type: .*?\})`", help or "")
    assert found, help
    layer = yaml.safe_load(found[1])
    program = netspec.compile(
        {"netspec": 1, "name": "net", "model": {"inputs": {"x": [2, 3, 4, 4]}, "layers": {"out": layer}}}
    )
    x = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 0.5
    assert torch.equal(program.module()(x), TEXTS[text](x))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x.numpy()", "there is no layer `numpy`"),
        ("x.sofmax(1)", "there is no layer `sofmax`; did you mean `softmax`?"),
        ("(x + 1).mean(1)", "`{type: mean, from: …, dim: 1}`, and name that layer here; what stands for `…`"),
        ("x.size(1) * x", "the size of a tensor is `$(shape(x)[1])`"),
        ("x.shape[1] * x", "a size of a tensor is `$(shape(x)[1])`"),
        ("x.T", "{type: transpose, from: x, dim0: -2, dim1: -1}"),
    ],
)
def test_what_has_no_layer_is_told(text: str, said: str) -> None:
    assert said in (told(text)[1] or "")
