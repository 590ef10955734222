"""What a spec means: names, blocks, loops, references, sharing and initialisation, seen through the compiled program.

Every program that a test compiles is also held to the proof that both doors are equal.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

import netspec
from netspec.diagnostics import SpecError
from netspec.program import Program
from netspec.runtime.verify import emitted_module, verify


def document(text: str) -> dict[str, Any]:
    """A document from YAML, its head added."""
    loaded = yaml.safe_load(text)
    assert isinstance(loaded, dict)
    return {"netspec": 1, "name": "net", **loaded}


def compiled(text: str, **overrides: Any) -> Program:
    """The program of a document whose two doors are equal."""
    program = netspec.compile(document(text), set={path.replace("__", "."): value for path, value in overrides.items()})
    assert verify(program) == []
    return program


def refused(text: str) -> list[str]:
    """The codes of what is wrong with a document."""
    with pytest.raises(SpecError) as caught:
        netspec.compile(document(text))
    return [d.code for d in caught.value.diagnostics if d.severity == "error"]


def keys(program: Program) -> list[str]:
    return list(program.module().state_dict())


def shape(program: Program, name: str) -> str:
    return str(program.shapes[name])


def output(program: Program) -> str:
    (type_,) = program.outputs.values()
    return str(type_)


# Sizes


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


BOUND = """
    blocks:
      Widen:
        params: {factor: 2}
        inputs: {x: [N, in_channels, H, W]}
        let: {width: $(in_channels * factor), half: $(width // 2)}
        layers:
          conv1: {type: Conv2d, out_channels: $half, kernel_size: 1}
          conv2: {type: Conv2d, out_channels: $width, kernel_size: 1}
    model:
      inputs: {image: [N, 3, 8, 8]}
      layers:
        a: Widen
        b: {type: Widen, factor: 4}
"""


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


# Conditions


IF = """
    params: {keep: true}
    blocks:
      B:
        params: {keep: bool}
        layers:
          fc: {type: Linear, out_features: 8}
          norm: {type: BatchNorm1d, if: $keep}
          list:
            - {type: Linear, out_features: 8}
            - {type: ReLU, if: $keep}
            - {type: Linear, out_features: 4}
          flat: {type: flatten, start_dim: 1, if: $keep}
          scaled: {compute: flat * 2, if: $keep}
    model:
      inputs: {x: [N, 8]}
      layers:
        body: {type: B, keep: $keep}
"""


def test_if_holds() -> None:
    module = compiled(IF).module()
    assert isinstance(module.body.norm, nn.BatchNorm1d)
    assert [type(m).__name__ for m in module.body.list] == ["Linear", "ReLU", "Linear"]
    assert "body.list.2.weight" in module.state_dict()


def test_if_does_not_hold() -> None:
    program = compiled(IF, params__keep=False)
    module = program.module()
    assert isinstance(module.body.norm, nn.Identity)
    assert [type(m).__name__ for m in module.body.list] == ["Linear", "Linear"]
    assert "body.list.1.weight" in module.state_dict()
    assert not hasattr(module.body, "flat")
    assert output(program) == "[N, 4]"


def test_both_choices_in_one_model_are_one_class() -> None:
    program = compiled("""
        blocks:
          B:
            params: {stride: 1}
            inputs: {x: [N, C, H, W]}
            layers:
              conv: {type: Conv2d, out_channels: $C, kernel_size: 3, padding: 1, stride: $stride}
              shortcut:
                from: x
                if: $(stride != 1)
                layers: [{type: Conv2d, out_channels: $C, kernel_size: 1, stride: $stride}]
              sum: {compute: conv + shortcut}
        model:
          inputs: {x: [N, 3, 8, 8]}
          layers:
            a: B
            b: {type: B, stride: 2}
    """)
    module = program.module()
    assert isinstance(module.a.shortcut, nn.Identity)
    assert isinstance(module.b.shortcut, nn.Sequential)
    assert program.source().count("class ") == 2


def test_a_condition_is_no_text() -> None:
    assert refused("""
        params: {mode: deep}
        model:
          inputs: {x: [N, 8]}
          layers: {fc: {type: Linear, out_features: 8, if: $mode}}
    """) == ["NS103"]


# Loops


def test_copies_in_a_list_take_the_next_indices() -> None:
    program = compiled("""
        params: {widths: [16, 32, 64]}
        model:
          inputs: {x: [N, 8]}
          layers:
            body:
              - {type: Linear, out_features: 8}
              - {for: {width: $widths}, type: Linear, out_features: $width}
              - ReLU
              - {repeat: 2, type: Linear, out_features: 64}
    """)
    module = program.module()
    assert isinstance(module.body, nn.Sequential)
    assert [getattr(m, "out_features", None) for m in module.body] == [8, 16, 32, 64, None, 64, 64]


def test_names_of_a_loop_advance_together_and_a_number_counts_from_0() -> None:
    program = compiled("""
        params: {widths: [16, 32]}
        model:
          inputs: {x: [N, 8]}
          layers:
            stage$(i + 1):
              for: {i: 2, width: $widths}
              layers:
                - {type: Linear, out_features: $width}
                - {type: Dropout, p: $(i * 0.25)}
    """)
    module = program.module()
    assert [name for name, _ in module.named_children()] == ["stage1", "stage2"]
    assert [(s[0].in_features, s[0].out_features, s[1].p) for s in module.children()] == [(8, 16, 0.0), (16, 32, 0.25)]


def test_a_loop_under_a_plain_name_is_a_chain() -> None:
    program = compiled("""
        model:
          inputs: {x: [N, 8]}
          layers:
            body: {for: {width: [4, 2]}, type: Linear, out_features: $width}
    """)
    module = program.module()
    assert isinstance(module.body, nn.Sequential)
    assert keys(program) == ["body.0.weight", "body.0.bias", "body.1.weight", "body.1.bias"]


def test_an_inline_loop_leaves_no_level() -> None:
    program = compiled("""
        model:
          inputs: {image: [N, 3, 16, 16]}
          layers:
            features:
              - for: {width: [4, 8]}
                inline: true
                layers:
                  - {type: Conv2d, out_channels: $width, kernel_size: 3}
                  - ReLU
              - Flatten
            rest:
              inline: true
              layers:
                fc1: {type: Linear, out_features: 8}
                fc2: {type: Linear, out_features: 2}
    """)
    module = program.module()
    assert [type(m).__name__ for m in module.features] == ["Conv2d", "ReLU", "Conv2d", "ReLU", "Flatten"]
    assert [name for name, _ in module.named_children()] == ["features", "fc1", "fc2"]


def test_loops_within_loops() -> None:
    program = compiled("""
        params: {depths: [1, 2], widths: [4, 8]}
        model:
          inputs: {x: [N, 3]}
          layers:
            stage$s:
              for: {s: 2, depth: $depths, width: $widths}
              layers:
                - {for: {i: $depth}, type: Linear, out_features: $(width + i)}
    """)
    assert [tuple(w.shape) for k, w in program.module().state_dict().items() if k.endswith("weight")] == [
        (4, 3),
        (8, 4),
        (9, 8),
    ]


def test_a_loop_that_makes_no_copy_passes_its_input() -> None:
    program = compiled("""
        params: {depth: 0}
        model:
          inputs: {x: [N, 8]}
          layers:
            fc: {type: Linear, out_features: 4}
            body: [{repeat: $depth, type: Linear, out_features: 2}]
            last: {type: Linear, out_features: 3}
    """)
    assert program.module().last.in_features == 4


def test_from_feeds_the_first_copy() -> None:
    program = compiled("""
        model:
          inputs: {x: [N, 8]}
          layers:
            stem: {type: Linear, out_features: 4}
            other: {type: Linear, from: x, out_features: 6}
            fc$i: {for: {i: 2}, from: stem, type: Linear, out_features: 5}
          outputs: {a: fc1, b: other}
    """)
    module = program.module()
    assert (module.fc0.in_features, module.fc1.in_features) == (4, 5)


def test_from_that_names_the_loop_is_read_for_each_copy() -> None:
    program = compiled("""
        model:
          inputs: {a0: [N, 8], a1: [N, 6]}
          layers:
            fc$i: {for: {i: 2}, from: a$i, type: Linear, out_features: 5}
            sum: {compute: fc0 + fc1}
    """)
    module = program.module()
    assert (module.fc0.in_features, module.fc1.in_features) == (8, 6)


def test_previous_is_the_copy_before() -> None:
    program = compiled("""
        model:
          inputs: {x: [N, 8]}
          layers:
            skip: {type: Linear, out_features: 4}
            join$i:
              for: {i: 3}
              type: cat
              from: [previous, skip]
              dim: 1
    """)
    assert output(program) == "[N, 16]"


# Groups


def test_a_group_sees_what_stands_around_it() -> None:
    program = compiled(
        """
        model:
          inputs: {x: [N, 8]}
          layers:
            stem: {type: Linear, out_features: 6}
            head:
              layers:
                fc: {type: Linear, out_features: 6}
                sum: {compute: fc + stem}
                out: {type: Linear, out_features: 3}
                late: {compute: out * x}
          outputs: head
    """.replace("late: {compute: out * x}", "late: {type: cat, from: [out, x], dim: 1}")
    )
    assert output(program) == "[N, 11]"
    assert keys(program) == [
        *("stem.weight", "stem.bias", "head.fc.weight", "head.fc.bias", "head.out.weight", "head.out.bias")
    ]


def test_a_group_of_functions_leaves_no_level() -> None:
    program = compiled("""
        model:
          inputs: {x: [N, 2, 4]}
          layers:
            flat: {layers: {turned: {type: transpose, dim0: 1, dim1: 2}, flat: {type: flatten, start_dim: 1}}}
            fc: {type: Linear, out_features: 3}
    """)
    assert keys(program) == ["fc.weight", "fc.bias"]


# Sharing


def test_use_shares_the_weights() -> None:
    program = compiled("""
        model:
          inputs: {a: [N, 8], b: [N, 8]}
          layers:
            encoder: {layers: [{type: Linear, out_features: 4}, ReLU]}
            second: {use: encoder, from: b}
            sum: {compute: encoder + second}
    """)
    for module in (program.module(), emitted_module(program)):
        assert len(list(module.parameters())) == 2
        x = torch.randn(2, 8)
        torch.testing.assert_close(module(x, x), 2 * module.encoder(x), rtol=0, atol=0)


def test_using_a_block_twice_makes_new_weights() -> None:
    program = compiled("""
        blocks:
          Mlp: {layers: {fc: {type: Linear, out_features: 8}}}
        model:
          inputs: {x: [N, 8]}
          layers: {a: Mlp, b: Mlp, c: {use: a}}
    """)
    module = program.module()
    assert module.a.fc.weight is not module.b.fc.weight
    assert not hasattr(module, "c")
    assert len(list(module.parameters())) == 4


def test_a_shared_activation_in_a_block() -> None:
    program = compiled("""
        blocks:
          B:
            layers:
              fc1: {type: Linear, out_features: 8}
              act: ReLU
              fc2: {type: Linear, out_features: 4}
              act2: {use: act}
        model:
          inputs: {x: [N, 8]}
          layers: {a: B}
    """)
    assert [name for name, _ in program.module().a.named_children()] == ["fc1", "act", "fc2"]


# Blocks and layers as values


LAYER = """
    params: {act: {type: LeakyReLU, negative_slope: 0.25}, norm: BatchNorm1d, block: Wide}
    blocks:
      Wide:
        params: {act: ReLU, norm: null}
        layers:
          fc: {type: Linear, out_features: 8}
          norm: {type: $norm}
          act: {type: $act}
          body: [{type: Linear, out_features: 4}, {type: $norm}, {type: $act}]
      Narrow:
        params: {act: layer, norm: null}
        layers:
          fc: {type: Linear, out_features: 2}
          act: {type: $act}
    model:
      inputs: {x: [N, 8]}
      layers:
        body: {type: $block, act: $act, norm: $norm}
"""


def test_a_parameter_may_be_a_layer() -> None:
    module = compiled(LAYER).module()
    assert module.body.act.negative_slope == 0.25
    assert [type(m).__name__ for m in module.body.body] == ["Linear", "BatchNorm1d", "LeakyReLU"]
    assert module.body.norm is not module.body.body[1]


def test_a_layer_may_be_null() -> None:
    module = compiled(LAYER, params__norm=None).module()
    assert isinstance(module.body.norm, nn.Identity)
    assert [type(m).__name__ for m in module.body.body] == ["Linear", "LeakyReLU"]


def test_a_parameter_may_be_a_block() -> None:
    program = compiled(LAYER, params__block="Narrow")
    assert output(program) == "[N, 2]"
    assert "class Narrow" in program.source()
    assert "class Wide" not in program.source()


def test_a_list_of_blocks() -> None:
    program = compiled("""
        blocks:
          A: {layers: {fc: {type: Linear, out_features: 4}}}
          B: {layers: {fc: {type: Linear, out_features: 6, bias: false}}}
        params: {kinds: [A, B, A]}
        model:
          inputs: {x: [N, 8]}
          layers:
            body: [{for: {kind: $kinds}, type: $kind}]
    """)
    assert [tuple(w.shape) for w in program.module().parameters()] == [(4, 8), (4,), (6, 4), (4, 6), (4,)]


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


# Initialisation


class ByHand(nn.Module):
    """What the spec of `test_one_seed_gives_the_weights_of_the_hand_written_model` says, as one writes it."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1 = nn.Linear(8, 8)
            self.bn = nn.BatchNorm1d(8)
            self.fc2 = nn.Linear(8, 8)
            for module in self.modules():
                if isinstance(module, nn.Linear):
                    nn.init.xavier_normal_(module.weight)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(4, 8)
        nn.init.uniform_(self.stem.weight, a=-0.5, b=0.5)
        self.body = nn.Sequential(self.Block(), self.Block())
        self.head = nn.Linear(8, 2, bias=False)
        for name, module in self.named_modules():
            if name.endswith(".fc2"):
                nn.init.zeros_(module.weight)
            elif isinstance(module, nn.Linear):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.constant_(module.bias, 1 / module.in_features)
            elif isinstance(module, nn.BatchNorm1d):
                nn.init.zeros_(module.weight)


def test_one_seed_gives_the_weights_of_the_hand_written_model() -> None:
    program = compiled("""
        blocks:
          Block:
            layers: {fc1: {type: Linear, out_features: 8}, bn: BatchNorm1d, fc2: {type: Linear, out_features: 8}}
            initialize:
              - {match: Linear, weight: xavier_normal}
        model:
          inputs: {x: [N, 4]}
          layers:
            stem: {type: Linear, out_features: 8, initialize: {weight: {type: uniform, a: -0.5, b: 0.5}}}
            body: [Block, Block]
            head: {type: Linear, out_features: 2, bias: false}
          initialize:
            - match: Linear
              weight: {type: kaiming_normal, mode: fan_out, nonlinearity: relu}
              bias: $(1 / in_features)
            - {match: BatchNorm1d, weight: 0}
            - {match: "*.fc2", weight: 0}
    """)
    torch.manual_seed(3)
    expected = ByHand().state_dict()
    for module in (program.module(seed=3), emitted_module(program, seed=3)):
        found = module.state_dict()
        assert list(found) == list(expected)
        for key, value in expected.items():
            assert torch.equal(found[key], value), key


def test_for_each_parameter_the_last_matching_rule_runs_alone() -> None:
    program = compiled(
        """
        model:
          inputs: {x: [N, 4]}
          layers: {fc: {type: Linear, out_features: 3}, head: {type: Linear, out_features: 2}}
          initialize:
            - {match: Linear, weight: 1, bias: 2}
            - {match: [head, "nothing*", BatchNorm2d], weight: 3}
    """.replace(', "nothing*", BatchNorm2d', "")
    )
    state = program.module().state_dict()
    assert {key: value.unique().tolist() for key, value in state.items()} == {
        "fc.weight": [1],
        "fc.bias": [2],
        "head.weight": [3],
        "head.bias": [2],
    }


def test_an_outer_rule_runs_after_those_of_its_children() -> None:
    text = """
        blocks:
          B:
            layers: {{fc: {{type: Linear, out_features: 3, initialize: {{weight: 1, bias: 1}}}}}}
            initialize: [{{match: fc, weight: 2}}]
        model:
          inputs: {{x: [N, 4]}}
          layers:
            group: {{layers: [{{type: Linear, out_features: 3}}], initialize: [{{match: "0", weight: 5}}]}}
            a: B
            b: {{type: B, initialize: [{{match: fc, weight: 3}}]}}
          initialize: [{{match: {match}, bias: 4}}]
    """
    state = compiled(text.format(match="a.fc")).module().state_dict()
    assert [state[f"{name}.weight"].unique().item() for name in ("group.0", "a.fc", "b.fc")] == [5, 2, 3]
    assert [state[f"{name}.bias"].unique().item() for name in ("a.fc", "b.fc")] == [4, 1]


def test_rules_may_stand_anywhere() -> None:
    program = compiled("""
        blocks:
          Chain:
            params: {flag: true}
            layers:
              - {type: Linear, out_features: 4, initialize: {weight: 2, bias: $(1 / in_features)}}
              - {type: Linear, out_features: 4, if: $flag, initialize: {weight: 3}}
              - ReLU
          Named:
            params: {flag: true}
            layers:
              a-b: {type: Linear, out_features: 4, initialize: {weight: 3}}
              c: {type: Linear, out_features: 4, if: $flag, initialize: {weight: 4}}
              d:
                if: $flag
                initialize: [{match: Linear, weight: 5}]
                layers:
                  fc: {type: Linear, out_features: 4}
                  sum: {compute: fc + x}
                  out: {type: Linear, out_features: 4}
              e:
                if: $flag
                initialize: [{match: "*", bias: 6}]
                layers: [{type: Linear, out_features: 4}, ReLU]
        model:
          inputs: {x: [N, 4]}
          layers:
            a: Chain
            b: {type: Chain, flag: false, initialize: [{match: "0", bias: 7}]}
            c: Named
            d: {type: Named, flag: false, initialize: [{match: "a-*", weight: $(1 / fan_in)}]}
            e:
              - {type: Chain, initialize: [{match: Linear, bias: 8}]}
              - {for: {i: 2}, type: Chain, initialize: [{match: Linear, bias: $i}]}
            f$i: {for: {i: 2}, type: Linear, out_features: 4, initialize: {weight: $(i + 1)}}
    """)
    state = program.module().state_dict()
    filled = {
        "a.0.weight": 2,
        "a.0.bias": 0.25,
        "a.1.weight": 3,
        "b.0.bias": 7,
        "c.a-b.weight": 3,
        "c.c.weight": 4,
        "c.d.out.weight": 5,
        "c.e.0.bias": 6,
        "d.a-b.weight": 0.25,
        "e.0.1.bias": 8,
        "e.2.0.bias": 1,
        "f1.weight": 2,
    }
    assert {key: state[key].unique().item() for key in filled} == filled


def test_values_see_arguments_and_fans() -> None:
    program = compiled("""
        params: {gain: 2}
        model:
          inputs: {image: [N, 3, 8, 8]}
          layers:
            conv:
              type: Conv2d
              out_channels: 8
              kernel_size: 3
              initialize: {weight: $(gain / fan_out), bias: $out_channels}
    """)
    conv = program.module().conv
    assert conv.weight.unique().item() == pytest.approx(2 / (8 * 9))
    assert conv.bias.unique().item() == 8


def test_a_seed_leaves_the_global_random_state_alone() -> None:
    program = compiled("model: {inputs: {x: [N, 4]}, layers: {fc: {type: Linear, out_features: 3}}}")
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, second = program.module(seed=1), program.module(seed=1)
    assert torch.equal(first.fc.weight, second.fc.weight)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(program.module().fc.weight, program.module().fc.weight)


# Freezing


def test_freeze() -> None:
    program = compiled("""
        blocks:
          B: {layers: {fc: {type: Linear, out_features: 4}, bn: BatchNorm1d}}
        model:
          inputs: {x: [N, 4]}
          layers:
            backbone: {type: B, freeze: true}
            body: {freeze: true, layers: [{type: Linear, out_features: 4}, {type: Dropout}]}
            head: {type: Linear, out_features: 2}
    """)
    for module in (program.module(), emitted_module(program)):
        assert [n for n, p in module.named_parameters() if p.requires_grad] == ["head.weight", "head.bias"]
        module.train()
        assert module.training and module.head.training
        assert not any(part.training for part in (*module.backbone.modules(), *module.body.modules()))
        before = module.backbone.bn.running_mean.clone()
        module(torch.randn(8, 4))
        assert torch.equal(module.backbone.bn.running_mean, before)


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
