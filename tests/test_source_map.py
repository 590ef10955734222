"""From a line of emitted code to the place in the spec that it was written from."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import netspec
from netspec.cli import main
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


# The same from the command line, and the verb from Python


SPEC = """\
netspec: 1
name: tiny
params: {width: 4}
model:
  inputs: {image: [N, 1, 6, 6]}
  layers:
    conv: {type: Conv2d, out_channels: $width, kernel_size: 3}
    body:
      - ReLU
      - Flatten
"""


@pytest.fixture
def generated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("specs/nets").mkdir(parents=True)
    Path("specs/nets/tiny.yaml").write_text(SPEC, encoding="utf-8")
    assert netspec.build("specs") == [Path("generated/nets/tiny.py")]
    return Path("generated/nets/tiny.py")


def explained(what: str, capsys: pytest.CaptureFixture[str], code: int = 0) -> list[str]:
    assert main(["explain", what]) == code
    said = capsys.readouterr()
    return (said.out if code < 2 else said.err).splitlines()


def test_explain_a_generated_line(generated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = generated.read_text("utf-8").splitlines()
    number = next(i for i, line in enumerate(lines, 1) if "nn.Conv2d" in line)
    assert explained(f"{generated}:{number}", capsys) == [
        f"{generated}:{number}: self.conv = nn.Conv2d(1, width, kernel_size=3)",
        "specs/nets/tiny.yaml:7:5: `conv`",
        "    conv: {type: Conv2d, out_channels: $width, kernel_size: 3}",
        "stands for conv",
    ]
    assert "in no one place" in explained(f"{generated}:1", capsys)[1]
    assert f"has {len(lines)} lines" in explained(f"{generated}:999", capsys, 2)[-1]


def test_explain_says_where_there_is_nothing_to_explain(generated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = Path("other.py")
    assert "cannot be read" in explained("other.py:1", capsys, 2)[-1]
    other.write_text("import torch\n", encoding="utf-8")
    assert "not written by netspec" in explained("other.py:1", capsys, 2)[-1]
    spec = Path("specs/nets/tiny.yaml")
    spec.write_text(SPEC.replace("kernel_size: 3", "kernel_size: 5"), encoding="utf-8")
    assert explained(f"{generated}:20", capsys, 1) == [f"{generated} is not what {spec} says now: netspec build {spec}"]
    spec.unlink()
    assert "is not found" in explained(f"{generated}:20", capsys, 2)[-1]


def test_build_from_python_writes_what_the_verb_writes(generated: Path) -> None:
    assert main(["build", "specs", "-o", "by_verb"]) == 0
    assert Path("by_verb/nets/tiny.py").read_bytes() == generated.read_bytes()
    before = generated.stat().st_mtime_ns
    assert netspec.build("specs/nets/tiny.yaml", set={"params.width": 4}) == [generated]
    assert generated.stat().st_mtime_ns == before
    (wide,) = netspec.build("specs", output="wide", set={"params.width": 9})
    assert "width: int = 9" in wide.read_text("utf-8")


def test_build_writes_nothing_where_a_spec_is_wrong(generated: Path) -> None:
    Path("specs/a.yaml").write_text(SPEC.replace("Flatten", "Flaten"), encoding="utf-8")
    Path("specs/z.yaml").write_text(SPEC.replace("$width", "$with"), encoding="utf-8")
    with pytest.raises(netspec.SpecError) as caught:
        netspec.build("specs", output="fresh")
    assert len(caught.value.diagnostics) == 2
    assert not Path("fresh").exists()


def test_two_specs_that_would_become_one_file(generated: Path) -> None:
    Path("tiny.yaml").write_text(SPEC, encoding="utf-8")
    Path("more").mkdir()
    Path("more/tiny.yaml").write_text(SPEC, encoding="utf-8")
    with pytest.raises(ValueError, match="two specs would both become"):
        netspec.build("tiny.yaml", "more/tiny.yaml")


def test_source_is_the_same_for_any_hash_seed_and_folder(tmp_path: Path) -> None:
    spec = ROOT / "specs/imagenet/densenet121.yaml"
    texts = set()
    for seed, folder in (("0", ROOT), ("1", tmp_path), ("4242", ROOT / "specs")):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "netspec", "build", "--stdout", str(spec)]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=True)
        texts.add(done.stdout)
    assert texts == {(ROOT / "generated/imagenet/densenet121.py").read_bytes()}
