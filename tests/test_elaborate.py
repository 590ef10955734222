"""What a block gives, in which order its layers are registered and run, and what a document is refused for.

Every program that a test compiles is also held to the proof that both doors are equal.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from spec_support import BOUND, compiled, document, keys, output, refused

import netspec
from netspec.diagnostics import SpecError
from netspec.runtime.verify import emitted_module

# Expectations, outputs, order


def test_expect() -> None:
    text = """
        params: {{width: 8}}
        model:
          inputs: {{image: [N, 3, 16, 16]}}
          layers:
            conv: {{type: Conv2d, out_channels: $width, kernel_size: 3, expect: {expected}}}
    """
    right = ["[N, 8, 14, 14]", "[N, $width, 14, 14]", "[_, 8, ...]", "[N, ..., 14]", "[N, 8, s, s]", "[N, C, 2*h, 2*w]"]
    wrong = ["[N, 8, 14, 15]", "[N, 8, 14]", "[N, s, s, s]", "[N, 8, 4*h, 14]", "[14, ...]", "[N, 8, 14, 14, ..., 1]"]
    for good in right:
        compiled(text.format(expected=good))
    for bad in wrong:
        assert refused(text.format(expected=bad)) == ["NS411"], bad


def test_several_outputs_are_a_named_tuple() -> None:
    program = compiled("""
        model:
          inputs: {x: [N, 8]}
          layers:
            features: {type: Linear, out_features: 6}
            head: {type: Linear, out_features: 2}
          outputs: {scores: head, features: features}
    """)
    for module in (program.module(), emitted_module(program)):
        found = module(torch.zeros(3, 8))
        assert found._fields == ("scores", "features")
        assert (found.scores.shape, found.features.shape) == ((3, 2), (3, 6))


def test_outputs_of_a_block_are_ports() -> None:
    program = compiled("""
        blocks:
          Two:
            layers:
              a: {type: Linear, out_features: 4}
              b: {type: Linear, from: x, out_features: 6}
            outputs: {first: a, second: b}
        model:
          inputs: {x: [N, 8]}
          layers:
            two: Two
            plain: {type: Linear, from: two, out_features: 1}
            named: {type: Linear, from: two.second, out_features: 1}
            sum: {compute: plain + named + two.first}
    """)
    module = program.module()
    assert (module.plain.in_features, module.named.in_features) == (4, 6)


def test_an_output_may_be_another_layer_than_the_last() -> None:
    program = compiled(
        """
        model:
          inputs: {x: [N, 8]}
          layers:
            first: {type: Linear, out_features: 6}
            second: {type: Linear, out_features: 2}
            third: {compute: first + second.sum}
          outputs: first
    """.replace("            third: {compute: first + second.sum}\n", "")
    )
    assert output(program) == "[N, 6]"
    assert [(d.code, d.severity) for d in program.warnings] == [("NS304", "warning")]


def test_registration_follows_the_file_and_execution_the_graph() -> None:
    program = compiled("""
        model:
          inputs: {x: [N, 8]}
          layers:
            head: {type: Linear, from: act, out_features: 2}
            fc: {type: Linear, from: x, out_features: 4}
            act: ReLU
          outputs: head
    """)
    assert keys(program) == ["head.weight", "head.bias", "fc.weight", "fc.bias"]
    assert program.module().head.in_features == 4
    assert [node.name for node in program.model.order] == ["fc", "act", "head"]


def test_a_function_may_read_a_later_layer() -> None:
    program = compiled("""
        model:
          inputs: {x: [N, 8]}
          layers:
            sum: {compute: a + b}
            a: {type: Linear, from: x, out_features: 2}
            b: {type: Linear, from: x, out_features: 2}
          outputs: sum
    """)
    assert output(program) == "[N, 2]"


# Doors


def test_a_file_and_a_mapping_are_the_same(tmp_path: Path) -> None:
    file = tmp_path / "net.yaml"
    file.write_text(yaml.safe_dump(document(BOUND), sort_keys=False), encoding="utf-8")
    from_file, from_mapping = netspec.compile(file), netspec.compile(document(BOUND))
    assert from_file.digest == from_mapping.digest
    assert from_file.source("x.yaml") == from_mapping.source("x.yaml")


def test_a_document_without_a_model_cannot_be_compiled() -> None:
    with pytest.raises(SpecError, match="NS323 the document states no `model`"):
        netspec.compile(document("blocks: {B: {layers: {fc: {type: Linear, out_features: 4}}}}"))


def test_every_mistake_is_found_in_one_go() -> None:
    assert refused("""
        params: {depth: 2}
        model:
          inputs: {x: [N, 8]}
          layers:
            a: {type: Linear, out_features: $(depth - 2)}
            b: {type: Dropout, p: $(depth * 0.6)}
            c: {type: Linear, from: y, out_features: $(depth / 0)}
            d: {compute: a + e}
            f: {type: Linear, from: x, in_features: 9, out_features: 2}
          outputs: {out: f, more: g}
    """) == ["NS104", "NS104", "NS302", "NS211", "NS302", "NS403", "NS302"]


def test_a_size_that_no_name_explains_after_a_loop(tmp_path: Path, root: Path) -> None:
    """Without the pooling the head's width is a product that grew in a loop: too long to be written with names."""
    spec = tmp_path / "flat.yaml"
    base = root / "specs" / "imagenet" / "swin_t.yaml"
    spec.write_text(f"netspec: 1\nname: flat\nextends: {base}\nremove: [model.layers.avgpool]\n")
    program = netspec.compile(spec)
    assert [str(kind) for kind in program.outputs.values()] == ["[N, 1000]"]
    assert "nn.Linear(37632, num_classes)" in program.source()


@pytest.mark.parametrize(
    ("layer", "code"),
    [
        ({"compute": "1 + 2", "if": False}, "NS320"),
        ({"type": "Block", "width": 4}, "NS210"),
    ],
)
def test_what_no_use_asks_for_is_looked_at_all_the_same(layer: dict[str, Any], code: str) -> None:
    """A `compute` that is left out, and a default that every use overrides."""
    block = {"params": {"width": "$missing"}, "layers": [{"type": "Linear", "out_features": "$width"}]}
    model = {
        "inputs": {"x": ["N", 4]},
        "layers": {"first": "ReLU", "one": layer, "last": {"type": "ReLU", "from": "first"}},
    }
    with pytest.raises(SpecError) as caught:
        netspec.compile({"netspec": 1, "name": "net", "blocks": {"Block": block}, "model": model})
    assert code in {d.code for d in caught.value.diagnostics}
