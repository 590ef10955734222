"""Tensors that stand alone: `Parameter` and `Buffer`, through both doors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import netspec
from netspec.program import Program
from netspec.runtime.verify import verify


def compile_layers(layers: dict[str, Any], **document: Any) -> Program:
    model = {"inputs": {"x": ["N", 5, "$width"]}, "layers": layers}
    return netspec.compile({"netspec": 1, "name": "net", "params": {"width": 8}, "model": model, **document})


def test_a_parameter_is_learned_and_stands_in_the_state_dict() -> None:
    program = compile_layers(
        {
            "cls": {"type": "Parameter", "shape": [1, 1, "$width"], "initialize": {"type": "normal", "std": 0.02}},
            "first": {"type": "expand", "from": "cls", "size": ["$N", -1, -1]},
            "tokens": {"type": "cat", "from": ["first", "x"], "dim": 1},
            "fc": {"type": "Linear", "out_features": 2},
        }
    )
    assert verify(program) == []
    module = program.module(seed=3)
    assert [name for name, _ in module.named_parameters()] == ["cls", "fc.weight", "fc.bias"]
    torch.manual_seed(3)
    assert torch.equal(module.cls, nn.init.normal_(torch.empty(1, 1, 8), std=0.02))
    assert program.outputs["fc"].shape[1] == 6


@pytest.mark.parametrize(
    ("start", "written", "value"),
    [
        (0, "torch.zeros(8)", 0.0),
        (1, "torch.ones(8)", 1.0),
        (0.5, "torch.full((8,), 0.5)", 0.5),
        (None, "torch.zeros(8)", 0.0),
    ],
)
def test_how_it_starts(start: float | None, written: str, value: float) -> None:
    gamma: dict[str, Any] = {"type": "Parameter", "shape": [8]}
    if start is not None:
        gamma["initialize"] = start
    program = compile_layers({"gamma": gamma, "out": {"compute": "x * gamma"}})
    assert f"self.gamma = nn.Parameter({written})" in program.source()
    assert torch.equal(program.module().gamma, torch.full((8,), value))
    assert verify(program) == []


def test_a_buffer_is_kept_but_not_learned() -> None:
    program = compile_layers(
        {
            "steps": {"type": "Buffer", "shape": [5, 1], "initialize": 2},
            "hidden": {"type": "Buffer", "shape": [1], "dtype": "int64", "persistent": False},
            "sum": {"compute": "x * steps + hidden"},
            "fc": {"type": "Linear", "out_features": 2},
        }
    )
    module = program.module()
    assert list(module.state_dict()) == ["steps", "fc.weight", "fc.bias"]
    assert {name for name, _ in module.named_buffers()} == {"steps", "hidden"}
    assert module.hidden.dtype == torch.int64
    assert verify(program) == []


def test_the_flow_passes_by_weights() -> None:
    program = compile_layers(
        {
            "fc": {"type": "Linear", "out_features": 4},
            "scale": {"type": "Parameter", "shape": [4], "initialize": 1},
            "relu": "ReLU",
            "out": {"compute": "relu * scale"},
        }
    )
    assert program.outputs["out"].shape[-1] == 4
    assert verify(program) == []


def test_draws_stand_in_the_order_of_the_file() -> None:
    program = compile_layers(
        {
            "a": {"type": "Linear", "out_features": 4},
            "w": {"type": "Parameter", "shape": [4], "initialize": "normal"},
            "b": {"type": "Linear", "from": "a", "out_features": 4},
            "out": {"compute": "b * w"},
        }
    )
    module = program.module(seed=0)
    torch.manual_seed(0)
    nn.Linear(8, 4)
    assert torch.equal(module.w, nn.init.normal_(torch.empty(4)))
    assert verify(program) == []


def test_a_block_holds_weights_of_its_own() -> None:
    program = compile_layers(
        {"first": {"type": "Scale", "start": 0.1}, "second": "Scale"},
        blocks={
            "Scale": {
                "params": {"start": 1.0},
                "inputs": {"x": ["N", "T", "C"]},
                "layers": {
                    "gamma": {"type": "Parameter", "shape": ["$C"], "initialize": "$start"},
                    "out": {"compute": "x * gamma"},
                },
            }
        },
    )
    source = program.source()
    assert source.count("class Scale") == 1
    assert "self.gamma = nn.Parameter(torch.full((C,), start))" in source
    assert list(program.module().state_dict()) == ["first.gamma", "second.gamma"]
    assert verify(program) == []
