"""Reading the members of a list: `downs.2`. The list is an nn.ModuleList then, and each member a value of its own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import netspec
from netspec.program import Program
from netspec.runtime.verify import verify

CONV = {"type": "Conv2d", "out_channels": "$width", "kernel_size": 3, "padding": 1}


def compile_layers(layers: dict[str, Any], **document: Any) -> Program:
    model = {"inputs": {"x": ["N", 3, "8*h", "8*w"]}, "layers": layers}
    return netspec.compile({"netspec": 1, "name": "net", "model": model, **document})


def test_a_list_whose_members_are_read_is_a_module_list() -> None:
    program = compile_layers(
        {
            "stages": {"for": {"width": "$widths"}, **CONV, "stride": 2},
            "one": {"type": "Conv2d", "from": "stages.0", "out_channels": 5, "kernel_size": 1},
            "low": {"type": "interpolate", "from": "stages", "scale_factor": 4},
            "sum": {"type": "cat", "from": ["one", "low"], "dim": 1},
        },
        params={"widths": [4, 6, 5]},
    )
    module = program.module()
    assert isinstance(module.stages, nn.ModuleList)
    assert list(module.state_dict())[:2] == ["stages.0.weight", "stages.0.bias"]
    image = torch.randn(2, 3, 16, 24)
    first = module.stages[0](image)
    last = module.stages[2](module.stages[1](first))
    low = nn.functional.interpolate(last, scale_factor=4)
    assert torch.equal(module(image), torch.cat([module.one(first), low], dim=1))
    assert verify(program) == []
    assert "self.stages = nn.ModuleList(" in program.source()


def test_a_list_that_nobody_looks_into_is_a_sequential() -> None:
    program = compile_layers(
        {"stages": {"for": {"width": [4, 6]}, **CONV}, "pool": {"type": "MaxPool2d", "kernel_size": 2}}
    )
    assert isinstance(program.module().stages, nn.Sequential)


def test_an_encoder_and_a_decoder_that_reads_it_backwards() -> None:
    program = compile_layers(
        {
            "downs": {
                "for": {"i": "$(len(widths))", "width": "$widths"},
                "layers": {"pool": {"type": "MaxPool2d", "kernel_size": 2, "if": "$(i > 0)"}, "conv": CONV},
            },
            "ups": {
                "for": {"i": "$(reversed(range(len(widths) - 1)))"},
                "type": "Up",
                "width": "$(widths[i])",
                "from": ["previous", "downs.$i"],
            },
            "head": {"type": "Conv2d", "out_channels": 2, "kernel_size": 1},
        },
        params={"widths": [4, 8, 16]},
        blocks={
            "Up": {
                "params": {"width": "int"},
                "inputs": {"x": ["N", "C", "h", "w"], "skip": ["N", "width", "H", "W"]},
                "layers": {
                    "up": {
                        "type": "ConvTranspose2d",
                        "from": "x",
                        "out_channels": "$width",
                        "kernel_size": 2,
                        "stride": 2,
                    },
                    "sum": {"compute": "up + skip"},
                },
            }
        },
    )
    assert verify(program) == []
    assert {type(m).__name__ for m in (program.module().downs, program.module().ups)} == {"ModuleList"}
    assert str(program.outputs["head"]) == "[N, 2, 8*h, 8*w]"
    longer = netspec.compile(program_document(program, [4, 8, 16, 16]))
    assert verify(longer) == []


def program_document(program: Program, widths: list[int]) -> dict[str, Any]:
    from netspec.document import plain

    return {**plain(program.document), "params": {"widths": widths}}


def test_members_of_members() -> None:
    program = compile_layers(
        {
            "stages": [
                {**CONV, "out_channels": 4},
                [{**CONV, "out_channels": 6}, "ReLU", {**CONV, "out_channels": 8}],
                "ReLU",
            ],
            "pool": {"type": "adaptive_avg_pool2d", "from": "stages.1", "output_size": 1},
            "other": {"type": "adaptive_avg_pool2d", "from": "stages", "output_size": 1},
            "sum": {"compute": "pool + other"},
        }
    )
    assert verify(program) == []


@pytest.mark.parametrize("name", ["stages.7", "stages.conv", "group.conv"])
def test_what_is_no_member(name: str) -> None:
    with pytest.raises(netspec.SpecError) as raised:
        compile_layers(
            {
                "stages": {"for": {"width": [4, 6]}, **CONV},
                "group": {"layers": {"conv": {**CONV, "out_channels": 2}, "relu": "ReLU"}},
                "bad": {"type": "relu", "from": name},
            }
        )
    (only,) = raised.value.diagnostics
    assert only.code in ("NS302", "NS310")
    assert only.help
