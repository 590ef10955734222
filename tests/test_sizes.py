"""Sizes of a spec: inferred, bound by inputs, derived by `let`.

Every program that a test compiles is also held to the proof that both doors are equal.
"""

from __future__ import annotations

import pytest
import torch
from spec_support import BOUND, compiled, document, output, refused, shape

import netspec
from netspec.diagnostics import SpecError


def test_sizes_follow_from_the_input() -> None:
    program = compiled("""
        model:
          inputs: {image: [N, 3, 32, 32]}
          layers:
            conv: {type: Conv2d, out_channels: 8, kernel_size: 3, stride: 2}
            norm: BatchNorm2d
            flat: {type: flatten, start_dim: 1}
            fc: {type: Linear, out_features: 10}
    """)
    module = program.module()
    assert module.conv.in_channels == 3
    assert module.norm.num_features == 8
    assert module.fc.in_features == 8 * 15 * 15
    assert shape(program, "conv") == "[N, 8, 15, 15]"
    assert output(program) == "[N, 10]"


def test_an_input_binds_the_names_of_its_sizes_and_let_derives_more() -> None:
    program = compiled(BOUND)
    assert [tuple(w.shape[:2]) for k, w in program.module().state_dict().items() if k.endswith("weight")] == [
        (3, 3),
        (6, 3),
        (12, 6),
        (24, 12),
    ]


EQUAL = """
    params: {width: 8}
    blocks:
      Residual:
        params: {width: int}
        inputs: {x: [N, width]}
        layers:
          fc: {type: Linear, out_features: $width}
          sum: {compute: fc + x}
    model:
      inputs: {x: [N, 8]}
      layers:
        body: {type: Residual, width: $width}
"""


def test_a_name_that_is_parameter_and_size_makes_them_equal() -> None:
    assert output(compiled(EQUAL)) == "[N, 8]"
    with pytest.raises(SpecError, match="NS412 size 1 of `x` must be `width`, which is 16, and is 8"):
        netspec.compile(document(EQUAL), set={"params.width": 16})


def test_one_name_in_two_inputs_makes_their_sizes_equal() -> None:
    text = """
        blocks:
          Add:
            inputs: {{x: [N, C], y: [N, C]}}
            layers:
              sum: {{compute: x + y}}
              fc: {{type: Linear, out_features: $C}}
        model:
          inputs: {{a: [N, 8], b: [N, {width}]}}
          layers:
            add: {{type: Add, from: [a, b]}}
    """
    assert output(compiled(text.format(width=8))) == "[N, 8]"
    assert refused(text.format(width=1)) == ["NS412"]  # torch would broadcast, and the pattern says otherwise


def test_sizes_may_stay_open() -> None:
    program = compiled("""
        model:
          inputs: {image: [N, 3, H, W]}
          layers:
            conv: {type: Conv2d, out_channels: 8, kernel_size: 3, padding: 1}
            pool: {type: MaxPool2d, kernel_size: 2}
            mean: {type: AdaptiveAvgPool2d, output_size: 1}
            flat: {type: flatten, start_dim: 1}
            fc: {type: Linear, out_features: 2}
    """)
    assert shape(program, "conv") == "[N, 8, H, W]"
    assert output(program) == "[N, 2]"
    module = program.module().eval()
    for side in (7, 16):
        assert module(torch.zeros(2, 3, side, side + 1)).shape == (2, 2)


def test_a_multiple_divides() -> None:
    program = compiled("""
        model:
          inputs: {image: [N, 3, 16*h, 16*w]}
          layers:
            patches: {type: Conv2d, out_channels: 8, kernel_size: 16, stride: 16}
            up: {type: ConvTranspose2d, out_channels: 3, kernel_size: 16, stride: 16}
            sum: {compute: up + image}
    """)
    assert shape(program, "patches") == "[N, 8, h, w]"
    assert output(program) == "[N, 3, 16*h, 16*w]"


def test_a_block_with_a_multiple_binds_the_quotient() -> None:
    text = """
        blocks:
          Halve:
            inputs: {{x: [N, 2*half]}}
            layers:
              fc: {{type: Linear, out_features: $half}}
        model:
          inputs: {{x: [N, {width}]}}
          layers: {{body: Halve}}
    """
    assert output(compiled(text.format(width=10))) == "[N, 5]"
    assert refused(text.format(width=9)) == ["NS412"]


def test_a_size_that_is_open_is_refused_where_weights_depend_on_it() -> None:
    assert refused("""
        model:
          inputs: {x: [N, F]}
          layers: {fc: {type: Linear, out_features: 2}}
    """) == ["NS407"]


def test_a_block_without_inputs_takes_any_shape() -> None:
    program = compiled("""
        blocks:
          Twice:
            layers:
              fc: {type: Linear, out_features: 4}
              act: ReLU
        model:
          inputs: {a: [N, 8], b: [N, 3, 5]}
          layers:
            left: {type: Twice, from: a}
            right: {type: Twice, from: b}
          outputs: {left: left, right: right}
    """)
    assert {name: str(type_) for name, type_ in program.outputs.items()} == {"left": "[N, 4]", "right": "[N, 3, 4]"}


def test_let_comes_in_order_and_sees_no_later_name() -> None:
    assert refused("""
        blocks:
          B:
            let: {a: $(b + 1), b: 2}
            layers: {fc: {type: Linear, out_features: $a}}
        model:
          inputs: {x: [N, 8]}
          layers: {body: B}
    """) == ["NS210"]


def test_a_block_sees_its_own_names_only() -> None:
    assert refused("""
        params: {width: 4}
        blocks:
          B: {layers: {fc: {type: Linear, out_features: $width}}}
        model:
          inputs: {x: [N, 8]}
          layers: {body: B}
    """) == ["NS210"]
