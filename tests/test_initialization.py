"""How weights start, by rules and seeds, and what is frozen.

Every program that a test compiles is also held to the proof that both doors are equal.
"""

from __future__ import annotations

import pytest
import torch
from spec_support import compiled
from torch import nn

from netspec.runtime.verify import emitted_module

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


@pytest.mark.parametrize(
    "pattern,written,found",
    [
        ("*.fc", '.endswith(".fc")', {"body.fc"}),
        ("body*", '.startswith("body")', {"body.fc", "body.fd"}),
        ("b?dy.fc", 'fnmatchcase(name, "b?dy.fc")', {"body.fc"}),
        ("*d*", 'fnmatchcase(name, "*d*")', {"body.fc", "body.fd", "head"}),
        ("[hb]*", 'fnmatchcase(name, "[hb]*")', {"body.fc", "body.fd", "head"}),
        ("*.f[cd]", 'fnmatchcase(name, "*.f[cd]")', {"body.fc", "body.fd"}),
    ],
)
def test_a_pattern_of_paths_is_written_in_plain_words(pattern: str, written: str, found: set[str]) -> None:
    program = compiled(f"""
        model:
          inputs: {{x: [N, 4]}}
          layers:
            body: {{layers: {{fc: {{type: Linear, out_features: 4}}, fd: {{type: Linear, out_features: 4}}}}}}
            head: {{type: Linear, out_features: 2}}
          initialize:
            - {{match: Linear, weight: 0.5}}
            - {{match: "{pattern}", weight: 3}}
    """)
    assert written in program.source()
    for module in (program.module(0), emitted_module(program, 0)):
        layers = {name: one for name, one in module.named_modules() if isinstance(one, nn.Linear)}
        assert {name for name, one in layers.items() if set(one.weight.flatten().tolist()) == {3.0}} == found
