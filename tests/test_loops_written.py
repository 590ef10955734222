"""Loops in emitted constructors: named siblings, and the widths that grow from copy to copy in a local variable."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import netspec
from netspec.program import Program
from netspec.runtime.verify import emitted_class, verify

GROW = {
    "params": {"by": "int"},
    "inputs": {"x": ["N", "width", "L"]},
    "layers": {
        "norm": "BatchNorm1d",
        "conv": {"type": "Conv1d", "out_channels": "$by", "kernel_size": 1},
        "cat": {"type": "cat", "from": ["x", "conv"], "dim": 1},
    },
}
HALVE = {
    "inputs": {"x": ["N", "width", "L"]},
    "layers": {"conv": {"type": "Conv1d", "out_channels": "$(width // 2)", "kernel_size": 1}},
}


def conv(width: Any, **more: Any) -> dict[str, Any]:
    return {"type": "Conv1d", "out_channels": width, "kernel_size": 1, **more}


def compile_model(layers: Any, **params: Any) -> Program:
    model = {"inputs": {"x": ["N", 4, 8]}, "layers": layers}
    blocks = {"Grow": GROW, "Halve": HALVE}
    return netspec.compile({"netspec": 1, "name": "net", "params": params, "blocks": blocks, "model": model})


def check(layers: Any, *changes: dict[str, Any], **params: Any) -> str:
    """Both doors agree, and the emitted class takes other values as the spec does; returns the source."""
    program = compile_model(layers, **params)
    assert verify(program) == []
    written = emitted_class(program)
    for change in changes:
        with torch.device("meta"):
            live = compile_model(layers, **{**params, **change}).module().state_dict()
            made = written(**change).state_dict()
        assert {key: value.shape for key, value in made.items()} == {key: v.shape for key, v in live.items()}, change
        assert list(made) == list(live)
    return program.source()


DENSE = {
    "features": {
        "layers": {
            "stem": conv("$start"),
            "stages": {
                "for": {"s": "$(len(depths))", "depth": "$depths"},
                "inline": True,
                "layers": {
                    "block$(s + 1)": {
                        "layers": {"layer$(i + 1)": {"for": {"i": "$depth"}, "type": "Grow", "by": "$by"}}
                    },
                    "transition$(s + 1)": {"type": "Halve", "if": "$(s < len(depths) - 1)"},
                },
            },
            "norm": "BatchNorm1d",
        }
    },
    "head": conv(3),
}


def test_stages_of_growing_width() -> None:
    source = check(
        DENSE, {"depths": [1, 2, 3]}, {"by": 7}, {"start": 16, "depths": [3]}, {"depths": [1, 1, 1, 1]},
        start=8, depths=[2, 3], by=4,
    )  # fmt: skip
    assert "for s, depth in enumerate(depths):" in source
    assert 'block.add_module(f"layer{i + 1}", Grow(width, by))' in source
    assert "width += by" in source
    assert "width //= 2" in source
    assert "nn.BatchNorm1d(width)" in source
    assert source.count("Grow(") == 2  # its class, and one call


def test_literal_stages_are_a_statement_each() -> None:
    stages = {
        "for": {"s": 2, "depth": "$depths"},
        "inline": True,
        "layers": {
            **DENSE["features"]["layers"]["stages"]["layers"],
            "transition$(s + 1)": {"type": "Halve", "if": "$(s < 1)"},
        },
    }
    layers = {**DENSE, "features": {"layers": {**DENSE["features"]["layers"], "stages": stages}}}
    source = check(layers, {"depths": [1, 3]}, {"by": 6}, start=8, depths=[2, 3], by=4)
    assert "self.features.block1 = nn.Sequential()" in source and "self.features.block2 = nn.Sequential()" in source
    assert source.count('add_module(f"layer{i + 1}", Grow(width, by))') == 2


def test_a_loop_of_padded_convolutions_leaves_the_rest_of_the_image_alone() -> None:
    """What flattens the result still follows the width: the length that a copy gives is the one that it got."""
    layers = {
        "stem": conv("$start"),
        "body": {"repeat": "$depth", **conv("$start", padding=1), "kernel_size": 3},
        "flat": "Flatten",
        "head": {"type": "Linear", "out_features": 3},
    }
    source = check(layers, {"depth": 3}, {"start": 10}, start=6, depth=2)
    assert "self.head = nn.Linear(start * 8, 3)" in source


def test_a_width_from_before_a_loop_is_read_after_it() -> None:
    layers = {
        "stem": conv("$start"),
        "grown": {"for": {"i": "$depth"}, "type": "Grow", "by": "$by"},
        "skip": {**conv(5), "from": "stem"},
        "more": {"for": {"i": "$depth"}, "type": "Grow", "by": 3, "from": "grown"},
        "first": {**conv(5), "from": "grown"},
        "last": {**conv(5), "from": "more"},
        "sum": {"compute": "skip + first + last"},
    }
    check(layers, {"depth": 5}, {"by": 9}, {"start": 10}, start=6, depth=2, by=4)


def test_an_inner_loop_and_the_width_of_the_outer_one() -> None:
    inner = [
        {"for": {"w": "$widths"}, "inline": True, "layers": [
            {"for": {"i": "$depth"}, "type": "Grow", "by": "$w"},
            conv("$(w * 2)"),
            {"for": {"i": "$depth"}, "inline": True, "layers": [conv("$(w * 3)"), "ReLU"]},
        ]},
        "BatchNorm1d",
    ]  # fmt: skip
    check({"body": inner}, {"depth": 3}, {"widths": [2, 7, 4]}, widths=[3, 5], depth=2)


@pytest.mark.parametrize("depth", [0, 1, 4])
def test_a_loop_may_make_no_copy(depth: int) -> None:
    layers = {"body": {"layers": {
        "stem": conv(6), "grow-$i": {"for": {"i": "$depth"}, "type": "Grow", "by": 2}, "norm": "BatchNorm1d",
    }}}  # fmt: skip
    source = check(layers, {"depth": depth}, depth=3)
    assert 'add_module(f"grow-{i}", Grow(width, 2))' in source


def test_siblings_that_pass_the_width_on() -> None:
    layers = {"body": {"layers": {"unit$i": {"for": {"i": "$depth"}, **conv(4)}}}, "head": conv("$out")}
    source = check(layers, {"depth": 1}, {"depth": 7}, {"out": 3}, depth=3, out=2)
    assert 'self.body.add_module(f"unit{i}", nn.Conv1d(4, 4, kernel_size=1))' in source


def test_copies_under_a_condition_leave_an_identity() -> None:
    layers = {"body": {"layers": {"unit$i": {"for": {"i": "$depth"}, "if": "$(i > skip)", **conv("$width")}}}}
    check(layers, {"depth": 4}, {"width": 9}, {"skip": -1}, {"skip": 8}, depth=3, width=6, skip=0)


def test_a_copy_that_is_read_by_name_keeps_its_number() -> None:
    layers = {
        "a$i": {"for": {"i": "$depth"}, "type": "Grow", "by": "$by"},
        "early": {**conv(5), "from": "a0"},
        "late": {**conv(5), "from": "a2"},
        "sum": {"compute": "early + late"},
    }
    check(layers, {"by": 3}, depth=3, by=2)


def test_a_rule_on_a_named_copy_runs_in_the_loop() -> None:
    layers = {"body": {"layers": {"unit$i": {"for": {"i": "$depth"}, **conv(4), "initialize": {"weight": 0}}}}}
    source = check(layers, {"depth": 1}, depth=2)
    assert 'nn.init.zeros_(self.body.get_submodule(f"unit{i}").weight)' in source


def test_a_width_that_takes_a_call_is_computed_once_in_a_copy() -> None:
    unit = {
        "params": {"width": "int"},
        "inputs": {"x": ["N", "in_channels", "L"]},
        "layers": {"conv": conv("$width"), "act": "ReLU"},
    }
    each = {"for": {"w": "$widths"}, "type": "Unit", "width": "$(make_divisible(w * by, 8))"}

    def program(**params: Any) -> Program:
        model = {"inputs": {"x": ["N", 4, 8]}, "layers": {"body": [each]}}
        return netspec.compile(
            {"netspec": 1, "name": "net", "params": params, "blocks": {"Unit": unit}, "model": model}
        )

    first = program(widths=[8, 24, 40], by=1.0)
    assert verify(first) == []
    assert first.source().count("make_divisible(w * by, 8)") == 1
    assert "in_channels = width" in first.source()
    wide = emitted_class(first)(by=2.5).state_dict()
    live = program(widths=[8, 24, 40], by=2.5).module().state_dict()
    assert {key: value.shape for key, value in wide.items()} == {key: value.shape for key, value in live.items()}
