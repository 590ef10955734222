"""`if`, `for` and `repeat`: which layers there are.

Every program that a test compiles is also held to the proof that both doors are equal.
"""

from __future__ import annotations

from spec_support import compiled, keys, output, refused
from torch import nn

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
