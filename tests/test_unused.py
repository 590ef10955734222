"""Blocks that no layer names: what is wrong with them is found, and what is right is left alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import netspec
from netspec.compiler import check
from netspec.diagnostics import Diagnostics

ROOT = Path(__file__).parent.parent


def codes(block: dict[str, Any]) -> list[str]:
    document = {
        "netspec": 1,
        "name": "net",
        "blocks": {"Spare": block},
        "model": {"inputs": {"x": ["N", 8]}, "layers": ["ReLU"]},
    }
    try:
        netspec.compile(document)
    except netspec.SpecError as error:
        return [found.code for found in error.diagnostics]
    return []


@pytest.mark.parametrize(
    ("layers", "found"),
    [
        ({"a": {"type": "ReLU", "from": "y"}}, ["NS302"]),
        ({"a": {"type": "Linear", "out_features": "$width"}}, ["NS210"]),
        ({"a": {"compute": "x + y"}}, ["NS302"]),
        ({"a": {"use": "b"}}, ["NS302"]),
        ({"a": {"type": "ReLU", "from": "b"}, "b": {"type": "ReLU", "from": "a"}}, ["NS303"]),
        ({"a": {"layers": {"b": {"compute": "x + z"}}}}, ["NS302"]),
        ([{"for": {"i": "$count"}, "type": "ReLU"}], ["NS210"]),
        ({"a": {"branches": [{"type": "ReLU", "from": "q"}]}}, ["NS302"]),
    ],
)
def test_a_mistake_in_a_block_that_nothing_uses_is_found(layers: Any, found: list[str]) -> None:
    assert codes({"layers": layers}) == found


@pytest.mark.parametrize(
    "layers",
    [
        {"a": {"type": "ReLU", "from": "b"}, "b": {"type": "Tanh", "from": "x"}},
        {"downs": {"repeat": 3, "type": "Linear", "out_features": 8}, "s": {"compute": "downs.0 + downs.2 + x"}},
        {"l$i": {"for": {"i": 2}, "type": "ReLU"}, "s": {"compute": "l0 + l1"}},
        {"u": {"for": {"i": 2}, "from": ["previous", "x"], "type": "cat", "dim": 1}},
        {"g": {"inline": True, "layers": {"a": "ReLU"}}, "b": {"compute": "a + x"}},
        {
            "a": "ReLU",
            "g": {"layers": {"c": {"use": "d"}, "d": {"type": "ReLU", "from": "a"}}},
        },
        {"a": {"type": "Linear", "out_features": "$(N * 2)", "if": "$(N > 2)"}},
    ],
)
def test_what_is_right_in_it_is_left_alone(layers: Any) -> None:
    assert codes({"inputs": {"x": ["N", 4]}, "layers": layers}) == []


def test_files_of_blocks_alone_are_right() -> None:
    for file in sorted((ROOT / "specs/blocks").glob("*.yaml")):
        diagnostics = Diagnostics()
        check(file, [], diagnostics)
        assert not diagnostics.has_errors, file
