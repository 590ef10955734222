"""Groups, shared modules, and blocks and layers as values.

Every program that a test compiles is also held to the proof that both doors are equal.
"""

from __future__ import annotations

import torch
from spec_support import compiled, keys, output
from torch import nn

from netspec.runtime.verify import emitted_module

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
