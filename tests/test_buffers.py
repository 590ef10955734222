"""Buffers that layers compute, and what `forward` decides by the sizes of its input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision import models

import netspec
from netspec.program import Program
from netspec.runtime.verify import emitted_class, emitted_module, verify

SWIN = Path(__file__).resolve().parent.parent / "specs" / "imagenet" / "swin_t.yaml"


def compile_layers(layers: dict[str, Any], inputs: dict[str, Any] | None = None, **document: Any) -> Program:
    model = {"inputs": inputs or {"x": ["N", 5, "$width"]}, "layers": layers}
    return netspec.compile({"netspec": 1, "name": "net", "params": {"width": 8}, "model": model, **document})


def test_layers_compute_a_buffer_once() -> None:
    program = compile_layers(
        {
            "angles": {
                "type": "Buffer",
                "layers": {
                    "place": {"type": "arange", "end": "$width", "dtype": "float32"},
                    "scaled": {"compute": "place / $width"},
                    "curve": {"type": "sin"},
                },
            },
            "out": {"compute": "x + angles"},
        }
    )
    assert verify(program) == []
    module = program.module()
    assert list(module.state_dict()) == ["angles"] and not list(module.parameters())
    assert torch.equal(module.angles, torch.sin(torch.arange(8.0) / 8))
    source = program.source()
    constructor = source[source.index("def __init__") : source.index("def forward")]
    assert "torch.arange(width, dtype=torch.float32)" in constructor
    assert "return x + self.angles" in source


def test_a_computed_buffer_may_stay_out_of_the_state() -> None:
    layers = {"place": {"type": "arange", "end": 8}}
    program = compile_layers(
        {"steps": {"type": "Buffer", "persistent": False, "layers": layers}, "out": {"compute": "x + steps"}}
    )
    assert verify(program) == []
    assert "self.steps = nn.Buffer(torch.arange(8), persistent=False)" in program.source()
    for module in (program.module(), emitted_module(program)):
        assert module.state_dict() == {} and [name for name, _ in module.named_buffers()] == ["steps"]


def test_a_buffer_that_draws_takes_its_turn() -> None:
    program = compile_layers(
        {
            "first": {"type": "Linear", "out_features": 4},
            "noise": {"type": "Buffer", "layers": {"drawn": {"type": "randn", "size": [4]}}},
            "second": {"type": "Linear", "out_features": 4},
            "out": {"compute": "second + noise"},
        }
    )
    assert verify(program) == []
    torch.manual_seed(0)
    nn.Linear(8, 4)
    assert torch.equal(program.module(seed=0).noise, torch.randn(4))


WINDOWS = {
    "Windows": {
        "params": {"size": "int"},
        "inputs": {"x": ["N", "T", "C"]},
        "let": {"extra": "$((size - T % size) % size)", "count": "$((T + extra) // size)"},
        "layers": {
            "padded": {"type": "pad", "if": "$(extra > 0)", "pad": [0, 0, 0, "$extra"]},
            "cut": {"type": "reshape", "shape": ["$N", "$count", "$size", "$C"]},
            "marked": {
                "if": "$(count > 2)",
                "layers": {
                    "which": {"type": "arange", "end": "$count"},
                    "sum": {"compute": "cut + which[:, None, None]"},
                },
            },
            "mean": {"type": "mean", "dim": 2},
            "fc": {"type": "Linear", "out_features": "$C"},
        },
    }
}


def windows(length: int) -> Program:
    layers = {"first": {"type": "Windows", "size": 4}, "second": {"type": "Windows", "size": 2}}
    return compile_layers(layers, {"x": ["N", length, 6]}, blocks=WINDOWS)


@pytest.mark.parametrize("length", [7, 8, 9, 16])
def test_uses_that_differ_by_the_size_of_their_input_are_one_class(length: int) -> None:
    program = windows(length)
    assert verify(program) == []
    assert program.source().count("class Windows") == 1


def test_a_condition_on_a_size_is_asked_in_forward() -> None:
    program = windows(9)
    source = program.source()
    assert "extra = (self.size - T % self.size) % self.size" in source
    assert "        if extra > 0:\n            x = F.pad(x, (0, 0, 0, extra))\n" in source
    assert "        if count > 2:\n" in source
    written = emitted_module(program, 0)
    for length in (7, 9, 16, 32):
        x = torch.randn(2, length, 6)
        assert torch.equal(written(x), windows(length).module(0)(x))


@pytest.mark.parametrize("compiled", [32, 17, 6, 4])
def test_both_doors_ask_conditions_on_sizes_anew_at_every_size(compiled: int) -> None:
    program = windows(compiled)
    live, written = program.module(0), emitted_module(program, 0)
    for length in (4, 6, 7, 8, 9, 16, 17, 40):
        x = torch.randn(2, length, 6)
        expected = windows(length).module(0)(x)
        assert torch.equal(live(x), expected), length
        assert torch.equal(written(x), expected), length


def test_what_every_use_leaves_out_by_a_size_is_asked_in_forward_too() -> None:
    block = {
        "inputs": {"x": ["N", "T"], "other": ["N", "T"]},
        "layers": {
            "long": {"type": "cat", "from": ["x", "other"], "dim": 1, "if": "$(T > 8)"},
            "mean_of_two": {"compute": "long / 2"},
            "sum": {"compute": "mean_of_two + 1", "if": "$(T > 4)"},
        },
    }
    program = compile_layers(
        {"twice": {"compute": "x * 2"}, "out": {"type": "Unit", "from": ["x", "twice"]}},
        {"x": ["N", 3]},
        blocks={"Unit": block},
    )
    assert verify(program) == []
    assert "if T > 8" in program.source() and "if T > 4" in program.source()
    live, written = program.module(), emitted_module(program)
    for length in (3, 5, 9):
        x = torch.randn(2, length)
        expected = (torch.cat([x, x * 2], dim=1) if length > 8 else x) / 2
        expected = expected + 1 if length > 4 else expected
        assert torch.equal(live(x), expected)
        assert torch.equal(written(x), expected)


def test_a_use_that_leaves_out_a_function_of_two_tensors_still_writes_both() -> None:
    block = {
        "params": {"join": "bool"},
        "inputs": {"x": ["N", "T"], "other": ["N", "T"]},
        "layers": {"joined": {"type": "cat", "from": ["x", "other"], "dim": 1, "if": "$join"}},
    }
    program = compile_layers(
        {
            "a": {"type": "Unit", "from": ["x", "x"], "join": False},
            "b": {"type": "Unit", "from": ["a", "x"], "join": True},
        },
        {"x": ["N", 3]},
        blocks={"Unit": block},
    )
    assert verify(program) == []


@pytest.mark.parametrize("compiled", [2, 8])
@pytest.mark.parametrize("stated", [True, False])
def test_what_a_group_lets_pass_is_what_it_would_be_given(compiled: int, stated: bool) -> None:
    """Though none of its layers reads it: they read another input."""
    group: dict[str, Any] = {
        "if": "$(T > 3)",
        "layers": {"a": {"type": "relu", "from": "y"}, "b": {"compute": "a * 2"}},
    }
    block = {
        "inputs": {"x": ["N", "T"], "y": ["N", "T"]},
        "layers": {
            "scaled": {"compute": "x * 3"},
            "maybe": {**group, "from": "scaled"} if stated else group,
            "sum": {"compute": "maybe + 1"},
        },
    }
    program = compile_layers(
        {"unit": {"type": "Unit", "from": ["x", "y"]}},
        {"x": ["N", compiled], "y": ["N", compiled]},
        blocks={"Unit": block},
    )
    assert verify(program) == []
    live, written = program.module(), emitted_module(program)
    for length in (2, 8):
        x, y = torch.randn(2, length), torch.randn(2, length)
        expected = (torch.relu(y) * 2 if length > 3 else x * 3) + 1
        assert torch.equal(live(x, y), expected)
        assert torch.equal(written(x, y), expected)


def test_a_bool_times_one_is_a_number() -> None:
    program = compile_layers({"count": {"compute": "(x > 0) * 1 + (x > 1) * 1"}})
    assert program.outputs["count"].dtype == "int64"
    assert verify(program) == []


@pytest.mark.parametrize("size", [(288, 288), (200, 256)])
def test_swin_takes_other_images(size: tuple[int, int]) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        reference = models.swin_t().eval()
        written = emitted_class(netspec.compile(SWIN))().eval()
    written.load_state_dict(reference.state_dict())
    live = netspec.compile(SWIN).module().eval()
    live.load_state_dict(reference.state_dict())
    image = torch.randn(1, 3, *size)
    with torch.no_grad():
        assert torch.equal(written(image), reference(image))
        assert torch.equal(live(image), reference(image))
