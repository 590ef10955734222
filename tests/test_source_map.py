"""From a line of emitted code to the place in the spec that it was written from."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import netspec
from netspec.codegen import emit, emit_with_map

ROOT = Path(__file__).resolve().parent.parent
SPECS = sorted(p for p in (ROOT / "specs").rglob("*.yaml") if "blocks" not in p.parts)


@pytest.mark.parametrize("spec", SPECS, ids=lambda p: p.stem)
def test_every_line_of_a_class_leads_to_the_spec(spec: Path) -> None:
    program = netspec.compile(spec)
    source, map_ = emit_with_map(program)
    assert source == emit(program)
    lines = source.split("\n")
    texts = {path: Path(path).read_text("utf-8").split("\n") for path in {p.span.file for p in map_.all}}
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef) or node.name not in ("__init__", "forward"):
            continue
        for statement in node.body:
            line = lines[statement.lineno - 1].strip()
            place = map_.at(statement.lineno)
            assert place is not None, line
            child = re.match(r"self\.(\w+) = (?!self|\w+$)", line)
            if child and place.paths:
                assert {path.rpartition(".")[2] for path in place.paths} == {child[1]}
                written = texts[place.span.file][place.span.line - 1][place.span.column - 1 :]
                assert "$" in written or written.startswith(child[1]), line


def test_a_layer_inside_an_expression_has_its_own_place() -> None:
    source, map_ = emit_with_map(netspec.compile(ROOT / "specs/imagenet/resnet50.yaml"))
    lines = source.split("\n")
    number = next(i for i, line in enumerate(lines, 1) if "self.relu(self.bn1(self.conv1(x)))" in line)
    line = lines[number - 1]
    found = {name: map_.at(number, line.index(f"self.{name}") + 1) for name in ("relu", "bn1", "conv1")}
    assert {name: place and place.name for name, place in found.items()} == {n: n for n in found}
    assert found["bn1"] is not None and found["bn1"].paths[0] == "layer1.0.bn1" and len(found["bn1"].paths) == 16
    number = next(i for i, line in enumerate(lines, 1) if line.strip() == "nn.BatchNorm2d(planes * 4),")
    place = map_.at(number)
    assert place is not None and place.paths[0] == "layer1.0.downsample.1"


def test_lines_that_stand_in_every_file_lead_nowhere() -> None:
    _, map_ = emit_with_map(netspec.compile(ROOT / "specs/digits.yaml"))
    assert map_.at(1) is None and map_.at(100_000) is None
