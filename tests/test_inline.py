"""`inline` on a block: its layers join the body around it, without a level in the keys."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

import netspec
from netspec.program import Program
from netspec.runtime.verify import verify

UNIT = {
    "params": {"width": "int", "act": "ReLU", "factor": 2},
    "inputs": {"x": ["N", "C", "H", "W"]},
    "let": {"inner": "$(width * factor)"},
    "layers": [
        {"type": "Conv2d", "out_channels": "$inner", "kernel_size": 1, "bias": False},
        {"type": "BatchNorm2d"},
        "$act",
    ],
}
UNIT["layers"][2] = {"type": "$act"}  # type: ignore[index]


def compile_layers(layers: Any, blocks: dict[str, Any], **params: Any) -> Program:
    model = {"inputs": {"x": ["N", 3, 8, 8]}, "layers": layers}
    return netspec.compile({"netspec": 1, "name": "net", "params": params, "blocks": blocks, "model": model})


def test_a_block_of_a_list_joins_a_list() -> None:
    program = compile_layers(
        {"body": [{"type": "Unit", "width": "$w", "inline": True}, {"type": "MaxPool2d", "kernel_size": 2}]},
        {"Unit": UNIT},
        w=4,
    )
    assert verify(program) == []
    assert [type(part) for part in program.module().body] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d]
    assert "nn.Conv2d(3, w * 2, kernel_size=1, bias=False)" in program.source()
    assert "class Unit" not in program.source()


def test_a_loop_of_them_stays_a_loop() -> None:
    program = compile_layers(
        {"body": [{"for": {"w": "$widths"}, "type": "Unit", "width": "$w", "inline": True}]},
        {"Unit": UNIT},
        widths=[4, 6, 5],
    )
    assert verify(program) == []
    assert len(program.module().body) == 9
    source = program.source()
    assert "for w in widths:" in source and "nn.Conv2d(size, w * 2" in source.replace("in_channels", "size")


def test_a_block_of_names_joins_a_mapping_and_shows_them() -> None:
    residual = {
        "params": {"scale": 1.0, "act": {"type": "LeakyReLU", "negative_slope": 0.2}},
        "inputs": {"x": ["N", "C", "H", "W"], "skip": ["N", "C", "H", "W"]},
        "layers": {
            "conv": {"type": "Conv2d", "from": "x", "out_channels": "$C", "kernel_size": 1},
            "act": {"type": "$act"},
            "sum": {"compute": "act * $scale + skip + x"},
        },
    }
    program = compile_layers(
        {
            "stem": {"type": "Conv2d", "out_channels": 5, "kernel_size": 1},
            "side": {"type": "Conv2d", "from": "x", "out_channels": 5, "kernel_size": 1},
            "unit": {"type": "Residual", "from": {"x": "stem", "skip": "side"}, "scale": 0.5, "inline": True},
            "out": {"compute": "sum + conv"},
        },
        {"Residual": residual},
    )
    assert verify(program) == []
    module = program.module(0)
    assert list(dict(module.named_children())) == ["stem", "side", "conv", "act"]
    x = torch.randn(2, 3, 8, 8)
    stem, side = module.stem(x), module.side(x)
    assert torch.equal(module(x), module.act(module.conv(stem)) * 0.5 + side + stem + module.conv(stem))


def test_it_is_left_out_where_its_condition_does_not_hold() -> None:
    layers = [{"type": "Unit", "width": 4, "inline": True, "if": "$deep"}, {"type": "MaxPool2d", "kernel_size": 2}]
    for deep, count in ((True, 4), (False, 1)):
        program = compile_layers({"body": layers}, {"Unit": UNIT}, deep=deep)
        assert verify(program) == []
        assert len(program.module().body) == count


def test_a_block_inside_a_block_joins_it() -> None:
    outer = {
        "params": {"width": "int"},
        "inputs": {"x": ["N", "C", "H", "W"]},
        "layers": [
            {"type": "Unit", "width": "$(width + C)", "inline": True},
            {"type": "Unit", "width": "$width", "inline": True, "factor": 1},
        ],
    }
    program = compile_layers(
        {"a": {"type": "Outer", "width": 4}, "b": {"type": "Outer", "width": 6}}, {"Unit": UNIT, "Outer": outer}
    )
    assert verify(program) == []
    assert program.source().count("class Outer") == 1
    assert len(program.module().a) == 6
