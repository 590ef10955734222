"""`select`: one of several modules, chosen by a text among the inputs when the model runs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import netspec
from netspec.choices import choices
from netspec.program import Program
from netspec.runtime.verify import emitted_module, example_inputs, verify

ACTS = {"relu": "ReLU", "gelu": "GELU"}
INPUTS = {"x": ["N", 6], "mode": {"dtype": "str"}}


def compile_layers(layers: Any, inputs: Any = INPUTS, **document: Any) -> Program:
    return netspec.compile({"netspec": 1, "name": "net", "model": {"inputs": inputs, "layers": layers}, **document})


class ByHand(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 4)
        self.act = nn.ModuleDict({"relu": nn.ReLU(), "deep": nn.Sequential(nn.Linear(4, 4), nn.Tanh())})

    def forward(self, x: Tensor, mode: str) -> Tensor:
        return self.act[mode](self.fc(x))


def test_a_text_chooses_a_module_as_one_would_write_it() -> None:
    deep = [{"type": "Linear", "out_features": 4}, "Tanh"]
    program = compile_layers(
        {"fc": {"type": "Linear", "out_features": 4}, "act": {"select": "mode", "of": {"relu": "ReLU", "deep": deep}}}
    )
    assert verify(program) == [] and not program.warnings
    assert "self.act[mode](x)" in program.source() and "mode: str" in program.source()
    torch.manual_seed(0)
    byhand, x = ByHand(), torch.randn(3, 6)
    for module in (program.module(0), emitted_module(program, 0)):
        assert list(module.state_dict()) == list(byhand.state_dict())
        for mode in ("relu", "deep"):
            assert torch.equal(module(x, mode), byhand(x, mode))
        with pytest.raises(KeyError):
            module(x, "swish")


def test_a_text_goes_into_blocks_groups_and_loops_and_need_not_come_last() -> None:
    unit = {
        "inputs": {"mode": {"dtype": "str"}, "x": ["N", "C"]},
        "layers": {"fc": {"type": "Linear", "out_features": 6}, "act": {"select": "mode", "of": ACTS}},
    }
    program = compile_layers(
        {
            "units": {"for": {"i": 3}, "from": ["mode", "previous"], "type": "Unit"},
            "ones": {"type": "ones", "size": [6]},
            "sum": {"compute": "units + ones"},
            "group": {
                "layers": {
                    "fc": {"type": "Linear", "out_features": 5},
                    "act": {"select": "mode", "of": {"gelu": "GELU", "relu": "Sigmoid"}},
                    "sum": {"compute": "fc + act"},
                }
            },
        },
        {"mode": {"dtype": "str"}, "x": ["N", 6]},
        blocks={"Unit": unit},
    )
    assert choices(program.model) == {"mode": ["relu", "gelu"]}
    assert [example_inputs(program, 0, turn)[0] for turn in range(3)] == ["relu", "gelu", "relu"]
    assert verify(program) == []
    x = torch.randn(2, 6)
    module = program.module(0)
    assert not torch.equal(module("relu", x), module("gelu", x))


@pytest.mark.parametrize("chosen", [True, False])
def test_a_select_may_be_left_out(chosen: bool) -> None:
    program = compile_layers(
        {
            "a": {"type": "Unit", "from": ["x", "mode"], "on": True},
            "b": {"type": "Unit", "from": ["a", "mode"], "on": "$chosen"},
        },
        params={"chosen": chosen},
        blocks={
            "Unit": {
                "params": {"on": "bool"},
                "inputs": {"x": ["N", 6], "mode": {"dtype": "str"}},
                "layers": {
                    "fc": {"type": "Linear", "out_features": 6},
                    "act": {"select": "mode", "if": "$on", "of": ACTS},
                },
            }
        },
    )
    assert verify(program) == []


def test_each_of_a_loop_chooses_for_itself() -> None:
    program = compile_layers(
        {
            "fc$(i + 1)": {
                "for": {"i": 2},
                "select": "mode",
                "of": {k: {"type": "Linear", "out_features": 6} for k in "ab"},
            }
        }
    )
    assert verify(program) == []
    assert list(program.module().state_dict())[-1] == "fc2.b.bias"
