"""Emitted source: it reads well, stands on its own, says what the live module says, and runs no text of a spec."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import netspec
from netspec.codegen.printer import wrap
from netspec.program import Program
from netspec.runtime.verify import emitted_class, same, verify

ROOT = Path(__file__).parents[1]
SPECS = sorted(
    file
    for file in (ROOT / "specs").rglob("*.yaml")
    if "blocks" not in file.parts and "\nextends:" not in file.read_text("utf-8")
)
"""Those with a model of their own: `test_zoo.py` takes the variants of a network."""


def compile_mapping(model: dict[str, Any], **document: Any) -> Program:
    return netspec.compile({"netspec": 1, "name": "net", **document, "model": model})


# One parameter of each spec, set to another value


def model_of(spec: Path, **params: Any) -> Program:
    """The spec's model alone: its data may fix what is changed here."""
    stated = yaml.safe_load(spec.read_text("utf-8"))
    document: dict[str, Any] = {
        "netspec": 1,
        "extends": str(spec),
        "remove": [k for k in ("data", "train", "sweep") if k in stated],
    }
    return netspec.compile(document, set={f"params.{name}": value for name, value in params.items()})


def changes(spec: Path) -> list[tuple[str, Any]]:
    """A second value for every parameter that the emitted constructor takes."""
    found = []
    for name, parameter in inspect.signature(emitted_class(model_of(spec))).parameters.items():
        value = parameter.default
        if isinstance(value, bool):
            found.append((name, not value))
        elif isinstance(value, int):
            found.append((name, value * 2))
        elif isinstance(value, float):
            found.append((name, value / 2))
        elif isinstance(value, tuple) and all(isinstance(item, int) for item in value):
            found.append((name, [max(1, item - 1) if item < 16 else item * 2 for item in value]))
    return found


@pytest.mark.parametrize("spec", SPECS, ids=lambda p: p.stem)
def test_a_constructor_argument_does_what_the_parameter_does(spec: Path) -> None:
    program = model_of(spec)
    for name, value in changes(spec):
        try:
            changed = model_of(spec, **{name: value})
        except netspec.SpecError:
            continue  # no model has this value: groups that do not divide the width, say
        with torch.device("meta"):
            written = emitted_class(program)(**{name: value}).state_dict()
            live = changed.module().state_dict()
        assert {k: v.shape for k, v in written.items()} == {k: v.shape for k, v in live.items()}, f"{name} = {value}"
        assert list(written) == list(live)


def test_a_parameter_that_no_expression_carries_is_no_argument() -> None:
    """`size` decides the width of the flattened image through eight floor divisions: too long to be written."""
    layers: dict[str, Any] = {}
    for i in range(8):
        layers[f"conv{i}"] = {"type": "Conv2d", "out_channels": 2, "kernel_size": 3, "stride": 1 + i % 2}
    layers["flat"] = "Flatten"
    layers["fc"] = {"type": "Linear", "out_features": 2}
    model = {"inputs": {"x": ["N", 1, "$size", "$size"]}, "layers": layers}
    program = compile_mapping(model, params={"size": 200, "bias": True})
    assert "size" not in inspect.signature(emitted_class(program)).parameters
    assert verify(program) == []


# Blocks become classes


def test_a_block_is_one_class_whatever_its_uses() -> None:
    program = compile_mapping(
        {
            "inputs": {"x": ["N", 3, 8, 8]},
            "layers": {
                "a": {"type": "Unit", "width": 4},
                "b": {"type": "Unit", "width": 8, "act": "GELU"},
                "c": {"type": "Unit", "width": 8, "act": None},
            },
        },
        blocks={
            "Unit": {
                "params": {"width": "int", "act": "ReLU"},
                "layers": [{"type": "Conv2d", "out_channels": "$width", "kernel_size": 1}, "$act"],
            }
        },
    )
    source = program.source()
    assert source.count("class Unit") == 1
    assert "act: Callable[[], nn.Module] | None = nn.ReLU" in source
    assert verify(program) == []


def test_uses_that_no_argument_tells_apart_get_classes_of_their_own() -> None:
    program = compile_mapping(
        {
            "inputs": {"x": ["N", 4]},
            "layers": {"a": {"type": "Unit", "kind": "LayerNorm"}, "b": {"type": "Unit", "kind": "BatchNorm1d"}},
        },
        blocks={"Unit": {"params": {"kind": "layer"}, "layers": {"it": {"type": "$kind"}}}},
    )
    source = program.source()
    assert "class UnitLayerNorm" in source and "class UnitBatchNorm1d" in source
    assert verify(program) == []


def test_widths_that_grow_in_a_loop_are_a_local_variable() -> None:
    program = compile_mapping(
        {
            "inputs": {"x": ["N", 3, 32, 32]},
            "layers": {
                "body": [
                    {
                        "for": {"width": "$widths"},
                        "inline": True,
                        "layers": [{"type": "Conv2d", "out_channels": "$width", "kernel_size": 3}, "ReLU"],
                    }
                ]
            },
        },
        params={"widths": [4, 8, 16]},
    )
    source = program.source()
    assert "for width in widths:" in source
    assert "nn.Conv2d(in_channels, width, kernel_size=3)" in source
    assert "in_channels = width" in source
    wider = emitted_class(program)(widths=[5, 7])
    assert [p.shape[0] for n, p in wider.named_parameters() if n.endswith("weight")] == [5, 7]


CONV = {
    "params": {"out": "int", "norm": "BatchNorm2d", "act": "ReLU"},
    "layers": [{"type": "Conv2d", "out_channels": "$out", "kernel_size": 1}, "$norm", "$act"],
}
WIDE = {"params": {"out": "int"}, "inputs": {"x": ["N", "C", "H", "W"]}, "layers": [{"type": "Conv", "out": "$out"}]}
NARROW = {**WIDE, "layers": [{"type": "Conv", "out": "$(out // 2)"}, {"type": "Conv", "out": "$out"}]}
IMAGE = {"image": ["N", 3, 8, 8]}


def test_a_layer_given_with_arguments_fits_every_use() -> None:
    layers = [{"for": {"w": [8, 16]}, "type": "Conv", "out": "$w", "norm": "$norm"}]
    program = compile_mapping(
        {"inputs": IMAGE, "layers": layers},
        params={"norm": {"type": "BatchNorm2d", "eps": 0.001}},
        blocks={"Conv": CONV},
    )
    assert verify(program) == []
    assert "nn.BatchNorm2d(out, eps=0.001)" in program.source()


@pytest.mark.parametrize(
    "params, loop, act, written",
    [
        ({"acts": ["ReLU", None, "SiLU"]}, {"act": "$acts"}, "$act", "for act in [nn.ReLU, None, nn.SiLU]:"),
        ({"first": 2}, {"i": 3}, "$('ReLU' if i < first else 'SiLU')", "act = nn.ReLU if i < first else nn.SiLU"),
    ],
)
def test_a_loop_whose_copies_have_other_layers_stays_a_loop(
    params: dict[str, Any], loop: dict[str, Any], act: str, written: str
) -> None:
    layers = [{"for": loop, "type": "Conv", "out": 8, "act": act}]
    program = compile_mapping({"inputs": IMAGE, "layers": layers}, params=params, blocks={"Conv": CONV})
    assert verify(program) == []
    assert written in program.source()


def test_a_loop_whose_copies_are_other_blocks_stays_a_loop() -> None:
    layers = [{"for": {"i": 4}, "type": "$('Wide' if i < few else 'Narrow')", "out": "$(8 + 2 * i)"}]
    blocks = {"Conv": CONV, "Wide": WIDE, "Narrow": NARROW}
    program = compile_mapping({"inputs": IMAGE, "layers": layers}, params={"few": 2}, blocks=blocks)
    assert verify(program) == []
    assert "block = Wide if i < few else Narrow" in program.source()


def test_layers_under_one_condition_stand_under_one_if() -> None:
    pair = [{"type": "Conv2d", "if": "$deep", "out_channels": 4, "kernel_size": 1}, {"type": "ReLU", "if": "$deep"}]
    program = compile_mapping({"inputs": IMAGE, "layers": [*pair, "Tanh"]}, params={"deep": True})
    assert verify(program) == []
    assert program.source().count("if deep:") == 1


# Safety

TEXTS = [
    '"""',
    "'''",
    "\\",
    '\\"""',
    "a\nimport os",
    "{{ 7 * 7 }}",
    "{% raw %}",
    "'\"\\\n",
    "\u2028",
    "\u00e9",
    '"',
    "# x\ny",
    "\x00"[:0],
]


LINEAR = {"inputs": {"x": ["N", 4]}, "layers": {"fc": {"type": "Linear", "out_features": 2}}}


@pytest.mark.parametrize("text", TEXTS)
def test_no_description_becomes_code(text: str) -> None:
    described = compile_mapping(LINEAR, description=text)
    assert skeleton(described.source()) == skeleton(compile_mapping(LINEAR).source())


PRINTABLE = st.characters(exclude_categories=["Cs", "Cc", "Cn", "Co"], exclude_characters="$")
"""What YAML can hold; a dollar would begin an expression."""


@settings(max_examples=60, deadline=None)
@given(text=st.text(PRINTABLE, max_size=40), name=st.text(PRINTABLE, max_size=12))
def test_strings_stay_strings(text: str, name: str) -> None:
    program = compile_mapping(LINEAR, description=text, params={"note": text})
    tree = ast.parse(program.source(name or None))
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call)]
    assert {ast.unparse(c.func) for c in calls} <= {"super", "super().__init__", "nn.Linear", "self.fc"}


def skeleton(source: str) -> str:
    """The source without its docstrings and comments."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef) and isinstance(node.body[0], ast.Expr):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


# Standing alone


@pytest.mark.parametrize("file", sorted((ROOT / "generated").rglob("*.py")), ids=lambda p: p.stem)
def test_generated_modules_import_no_netspec(file: Path) -> None:
    tree = ast.parse(file.read_text("utf-8"))
    roots = {
        alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    roots |= {(node.module or "").split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert roots <= {"torch", "torchvision", *sys.stdlib_module_names}


def test_resnet50_is_short() -> None:
    lines = (ROOT / "generated/imagenet/resnet50.py").read_text("utf-8").splitlines()
    classes = [line.split("(")[0].removeprefix("class ") for line in lines if line.startswith("class ")]
    assert classes == ["Bottleneck", "Resnet50"]
    assert len(lines) < 130


# The printer

NAMES = st.sampled_from(["x", "width", "in_channels", "a_rather_long_name", "kernel_size", "nn.Conv2d", "self.conv1"])
ARGUMENTS = st.recursive(
    st.one_of(NAMES, st.integers(0, 10**6).map(str), st.just('"text, (with) commas"')),
    lambda inner: st.one_of(
        st.tuples(NAMES, st.lists(inner, max_size=7)).map(lambda t: f"{t[0]}({', '.join(t[1])})"),
        st.lists(inner, min_size=2, max_size=5).map(lambda items: f"[{', '.join(items)}]"),
        st.tuples(inner, inner).map(lambda t: f"nn.Sequential(*({t[0]} for i in range({t[1]})))"),
    ),
    max_leaves=14,
)


@settings(max_examples=12, deadline=None)
@given(st.lists(st.tuples(ARGUMENTS, st.sampled_from([0, 4, 8, 12])), min_size=25, max_size=25))
def test_long_statements_break_as_ruff_breaks_them(statements: list[tuple[str, int]]) -> None:
    lines: list[str] = []
    for text, indent in statements:
        lines += [" " * level + "if x:" for level in range(0, indent, 4)]
        lines += wrap(f"self.layer = {text}", indent)
        lines += ["", *wrap(f"self.append({text})", 0)]
    source = "\n".join(lines) + "\n"
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "format", "--isolated", "-"], input=source, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.replace("\n\n", "\n") == source.replace("\n\n", "\n")


def test_same_tells_tensors_apart() -> None:
    assert same([torch.ones(2)], [torch.ones(2)])
    assert not same(torch.ones(2), torch.ones(2, dtype=torch.float64))
    assert not same((torch.ones(2), 1), (torch.zeros(2), 1))


def test_a_residual_that_some_uses_leave_out_reads_the_input() -> None:
    """The first use has none: what the sum of the others reads must still be there when it is computed."""
    program = compile_mapping(
        {
            "inputs": {"x": ["N", 4, 8, 8]},
            "layers": {"a": {"type": "Unit", "width": 6}, "b": {"type": "Unit", "width": 6}},
        },
        blocks={
            "Unit": {
                "params": {"width": "int"},
                "inputs": {"x": ["N", "in_channels", "H", "W"]},
                "layers": {
                    "conv": {"type": "Conv2d", "out_channels": "$width", "kernel_size": 1},
                    "norm": "BatchNorm2d",
                    "sum": {"compute": "norm + x", "if": "$(in_channels == width)"},
                },
            }
        },
    )
    assert program.source().count("class Unit") == 1
    assert "out + x if self.has_sum else out" in program.source()
    assert verify(program) == []


@pytest.mark.parametrize(
    ("layer", "written"),
    [
        ({"type": "flatten", "start_dim": 1}, "x.flatten(1)"),
        ({"type": "flatten", "start_dim": 1, "end_dim": 2}, "x.flatten(1, 2)"),
        ({"type": "flatten", "end_dim": 1}, "x.flatten(end_dim=1)"),
        ({"type": "permute", "dims": [0, 2, 1]}, "x.permute(0, 2, 1)"),
        ({"type": "transpose", "dim0": 1, "dim1": 2}, "x.transpose(1, 2)"),
        ({"type": "reshape", "shape": [6, -1]}, "x.reshape(6, -1)"),
        ({"type": "reshape", "shape": [-1]}, "x.reshape(-1)"),
        ({"type": "unflatten", "dim": 2, "sizes": [2, 2]}, "x.unflatten(2, (2, 2))"),
        ({"type": "unsqueeze", "dim": 1}, "x.unsqueeze(1)"),
        ({"type": "squeeze"}, "x.squeeze()"),
        ({"type": "expand", "size": "$([5] + shape)"}, "x.expand([5] + self.shape)"),
        ({"type": "mean", "dim": [1, 2]}, "x.mean(dim=(1, 2))"),
        ({"type": "roll", "shifts": 1, "dims": 1}, "x.roll(shifts=1, dims=1)"),
        ({"type": "cat", "from": ["x", "x"], "dim": 1}, "torch.cat([x, x], dim=1)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_functions_are_called_as_people_call_them(layer: dict[str, Any], written: str) -> None:
    """In the order and the spelling of the catalog: by position where torch's users leave the name out."""
    program = compile_mapping({"inputs": {"x": [2, 3, 4]}, "let": {"shape": [2, 3, 4]}, "layers": {"out": layer}})
    assert f"return {written}" in program.source()
    assert verify(program) == []


@pytest.mark.parametrize("name", ["None_", "class_", "true_"])
def test_a_name_that_would_become_a_keyword(name: str) -> None:
    assert verify(netspec.compile({"netspec": 1, "name": name, "model": LINEAR})) == []


def test_a_loop_may_have_the_name_of_a_width() -> None:
    program = compile_mapping(
        {
            "inputs": {"x": ["N", 3]},
            "layers": {"body": [{"for": {"in_features": [4, 6, 8]}, "type": "Linear", "out_features": "$in_features"}]},
        }
    )
    assert verify(program) == []


def test_a_program_says_what_it_is_in_a_line() -> None:
    assert repr(compile_mapping(LINEAR)) == "<Program net: x [N, 4] → fc [N, 2]>"


@pytest.mark.parametrize("length", range(70, 100))
def test_docstrings_of_any_length_are_as_ruff_writes_them(length: int) -> None:
    text = ("word " * 30)[:length].strip() + "."
    source = compile_mapping(LINEAR, description=text).source()
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "format", "--isolated", "-"], input=source, capture_output=True, text=True
    )
    assert done.stdout == source


@pytest.mark.parametrize("length", range(1, 20, 3))
def test_a_shape_in_a_docstring_stays_on_one_line(length: int) -> None:
    name = "x" * length
    inputs = {name: ["N", 4], "image": ["N", 3, 32, 32], "more": ["N", 4, "T", 5]}
    layers = {"fc": {"type": "Linear", "from": name, "out_features": 2}}
    source = compile_mapping({"inputs": inputs, "layers": layers}).source()
    assert all(shape in source for shape in ("[N, 4]", "[N, 3, 32, 32]", "[N, 4, T, 5]", "[N, 2]"))


def test_a_loop_may_hand_on_its_own_name() -> None:
    """The last block's width is the next one's input, and nothing else in the loop reads the name."""
    block = {
        "params": {"width": "int"},
        "let": {"inner": "$(max(width // 2, 1))"},
        "layers": {
            "paths": {
                "branches": {
                    "a": {"type": "Linear", "out_features": "$inner"},
                    "b": {"type": "Linear", "out_features": 4},
                }
            },
            "one": {"type": "relu", "from": "paths.b"},
            "main": {"type": "Linear", "out_features": "$width"},
        },
    }
    model = {"inputs": {"x": ["N", 2]}, "layers": {"stack": [{"for": {"w": "$widths"}, "type": "B", "width": "$w"}]}}
    document = {"netspec": 1, "name": "net", "params": {"widths": [2, 6]}, "blocks": {"B": block}, "model": model}
    program = netspec.compile(document)
    assert verify(program) == []
    assert "for w in widths:" in program.source()
    assert "nn.Linear(4, width)" in program.source()


def test_what_only_dead_arithmetic_reads_still_runs() -> None:
    """A dropout draws, whether its value is used or not: both doors draw alike."""
    layers = {
        "group": [{"type": "Linear", "out_features": 4}, {"type": "Dropout", "p": 0.5}],
        "sum": {"compute": "x + group"},
        "again": {"compute": "sum * 2"},
        "fc": {"type": "Linear", "out_features": 4, "from": "x"},
        "drop": {"type": "Dropout", "p": 0.5},
    }
    program = compile_mapping({"inputs": {"x": ["N", 4]}, "layers": layers})
    assert verify(program) == []
    assert "        self.group(x)\n" in program.source()


PAIR = """
netspec: 1
name: pair
params: {width: 4}
blocks:
  Encoder:
    params: {width: int}
    inputs: {x: [N, c]}
    layers:
      fc: {type: Linear, out_features: $width}
model:
  inputs: {left: [N, 3], right: [N, 3]}
  layers:
    encoder: {type: Encoder, width: $width}
    other: {use: encoder, from: right}
    both: {type: cat, from: [encoder, other], dim: 1}
    head: {type: Linear, out_features: 2}
"""
SMALLER = """
netspec: 1
name: smaller
model:
  inputs: {image: [N, 3, H, W]}
  layers:
    - {type: Conv2d, out_channels: 2, kernel_size: 3, stride: 2}
    - {type: MaxPool2d, kernel_size: 4}
"""


def test_a_module_used_again_gives_sizes_that_follow_the_parameters() -> None:
    """What reads the second use is as wide as the parameter says, not as its default."""
    program = netspec.compile(yaml.safe_load(PAIR))
    assert verify(program) == []
    assert emitted_class(program)(width=7)(torch.ones(2, 3), torch.ones(2, 3)).shape == (2, 2)


def test_the_doors_are_compared_on_images_that_the_model_can_halve() -> None:
    assert verify(netspec.compile(yaml.safe_load(SMALLER))) == []
