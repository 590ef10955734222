"""Compiling and emitting take work in proportion to the layers: counted in steps of the interpreter, not in seconds."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

import netspec


def written_out(count: int) -> dict[str, Any]:
    return _spec([{"type": "Linear", "out_features": 8} for _ in range(count)])


def named(count: int) -> dict[str, Any]:
    """Every layer reads the one before by its name."""
    layers = {f"fc{i}": {"type": "Linear", "out_features": 8, "from": f"fc{i - 1}" if i else "x"} for i in range(count)}
    return _spec(layers, initialize=[{"match": "Linear", "bias": 0}])


def repeated(count: int) -> dict[str, Any]:
    return _spec([{"repeat": count, "type": "Linear", "out_features": 8}])


def named_by_a_loop(count: int) -> dict[str, Any]:
    return _spec({"fc$i": {"for": {"i": count}, "type": "Linear", "out_features": 8}})


def distinct_blocks(count: int) -> dict[str, Any]:
    block = {
        "params": {"width": "int"},
        "inputs": {"x": ["N", "d"]},
        "layers": {"fc": {"type": "Linear", "out_features": "$width"}, "act": "ReLU"},
    }
    return _spec([{"type": "Block", "width": i + 1} for i in range(count)], blocks={"Block": block})


def _spec(layers: Any, blocks: Any = None, **model: Any) -> dict[str, Any]:
    document = {"netspec": 1, "name": "grown", "model": {"inputs": {"x": ["N", 8]}, "layers": layers, **model}}
    return {**document, "blocks": blocks} if blocks else document


def steps(work: Callable[[], object]) -> int:
    """How many bytecodes the interpreter runs, which is the same each time."""
    count = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal count
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize("make", [written_out, named, repeated, named_by_a_loop, distinct_blocks])
@pytest.mark.parametrize("emit", [False, True], ids=["compile", "source"])
def test_work_grows_in_proportion(make: Callable[[int], dict[str, Any]], emit: bool) -> None:
    """What the second half of the layers adds is twice what the first half added: 4 times would be quadratic."""

    def measured(count: int) -> int:
        spec = make(count)
        if not emit:
            return steps(lambda: netspec.compile(spec))
        program = netspec.compile(spec)
        return steps(program.source)

    measured(2)  # imports and what is worked out once for all compiles
    low, middle, high = (measured(count) for count in (25, 50, 100))
    assert high - middle <= 2.2 * (middle - low)
