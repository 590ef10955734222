"""Arguments that are layers, classes of layers and functions: as one writes them by hand, through both doors."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision import ops

import netspec
from netspec.cli import main
from netspec.costs import weights
from netspec.diagnostics import SpecError
from netspec.program import Program
from netspec.runtime.verify import emitted_module, example_inputs, verify
from netspec.table import layer_table, totals

LAYER = "{type: TransformerEncoderLayer, nhead: 2, dim_feedforward: 24, batch_first: true}"
STACK = f"type: TransformerEncoder, encoder_layer: {LAYER}, num_layers: 2, enable_nested_tensor: false"


def document(layers: str, inputs: str = "{x: [N, 7, 16]}", more: str = "{}") -> dict[str, Any]:
    model = {"inputs": yaml.safe_load(inputs), "layers": yaml.safe_load(layers)}
    return {"netspec": 1, "name": "net", "model": model, **yaml.safe_load(more)}


def compiled(layers: str, inputs: str = "{x: [N, 7, 16]}", more: str = "{}") -> Program:
    """The program of these layers, whose two doors are equal."""
    program = netspec.compile(document(layers, inputs, more))
    assert verify(program) == []
    return program


def mistakes(layers: str, inputs: str = "{x: [N, 7, 16]}", more: str = "{}") -> list[str]:
    with pytest.raises(SpecError) as caught:
        netspec.compile(document(layers, inputs, more))
    return [f"{d.code} {d.message}" for d in caught.value.diagnostics]


def encoder_layer(**arguments: Any) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(16, **{"nhead": 2, "dim_feedforward": 24, "batch_first": True, **arguments})


def decoder_layer() -> nn.TransformerDecoderLayer:
    return nn.TransformerDecoderLayer(16, nhead=2, dim_feedforward=24, batch_first=True)


def encoder(norm: nn.Module | None = None, **arguments: Any) -> nn.TransformerEncoder:
    return nn.TransformerEncoder(encoder_layer(**arguments), 2, norm, enable_nested_tensor=False)


BOTH = "{src: [N, 7, 16], tgt: [N, 5, 16], pad: {shape: [N, 7], dtype: bool}}"
CASES: dict[str, tuple[str, str, Callable[[], nn.Module], list[str]]] = {
    "encoder": (
        f"net: {{{STACK}, norm: LayerNorm}}",
        "{x: [N, 7, 16]}",
        lambda: encoder(nn.LayerNorm(16)),
        ["nn.TransformerEncoderLayer(16, 2, dim_feedforward=24, batch_first=True)", "norm=nn.LayerNorm(16)"],
    ),
    "decoder": (
        """net: {type: TransformerDecoder, from: [tgt, src], num_layers: 2,
                 decoder_layer: {type: TransformerDecoderLayer, nhead: 2, dim_feedforward: 24, batch_first: true}}""",
        "{tgt: [N, 5, 16], src: [N, 7, 16]}",
        lambda: nn.TransformerDecoder(decoder_layer(), 2),
        ["num_layers=2"],
    ),
    "transformer": (
        f"""net: {{type: Transformer, from: {{src: src, tgt: tgt}}, batch_first: true, num_decoder_layers: 1, nhead: 2,
                  dim_feedforward: 24, custom_encoder: {{{STACK}, norm: RMSNorm}}}}""",
        "{src: [N, 7, 16], tgt: [N, 5, 16]}",
        lambda: nn.Transformer(16, 2, 6, 1, 24, custom_encoder=encoder(nn.RMSNorm(16)), batch_first=True),
        ["custom_encoder=nn.TransformerEncoder("],
    ),
    "function": (
        f"net: {{{STACK.replace('batch_first', 'activation: silu, batch_first')}}}",
        "{x: [N, 7, 16]}",
        lambda: encoder(activation=F.silu),
        ["activation=F.silu"],
    ),
    "convolution": (
        "net: {type: Conv2dNormActivation, out_channels: 8, norm_layer: {type: GroupNorm, num_groups: 2, eps: 0.1},"
        " activation_layer: {type: GELU, approximate: tanh}, inplace: null}",
        "{x: [N, 3, 9, 9]}",
        lambda: ops.Conv2dNormActivation(
            3,
            8,
            norm_layer=partial(nn.GroupNorm, 2, eps=0.1),
            activation_layer=partial(nn.GELU, approximate="tanh"),
            inplace=None,
        ),
        [
            "from functools import partial",
            "norm_layer=partial(nn.GroupNorm, 2, eps=0.1)",
            'activation_layer=partial(nn.GELU, approximate="tanh")',
        ],
    ),
    "volumes": (
        "net: {type: Conv3dNormActivation, out_channels: 4, stride: 2, kernel_size: [1, 3, 3],"
        " norm_layer: InstanceNorm3d}",
        "{x: [N, 3, 4, 9, 9]}",
        lambda: ops.Conv3dNormActivation(3, 4, (1, 3, 3), stride=2, norm_layer=nn.InstanceNorm3d),
        ["norm_layer=nn.InstanceNorm3d"],
    ),
    "perceptron": (
        "net: {type: MLP, hidden_channels: [12, 5], norm_layer: LayerNorm, activation_layer: PReLU, dropout: 0.1}",
        "{x: [N, 6]}",
        lambda: ops.MLP(6, [12, 5], nn.LayerNorm, nn.PReLU, dropout=0.1),
        ["(12, 5)", "activation_layer=nn.PReLU"],
    ),
    "excitation": (
        "net: {type: SqueezeExcitation, squeeze_channels: 2, activation: SiLU, scale_activation: Hardsigmoid}",
        "{x: [N, 6, 4, 4]}",
        lambda: ops.SqueezeExcitation(6, 2, nn.SiLU, nn.Hardsigmoid),
        ["activation=nn.SiLU"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_both_doors_make_what_one_would_write(case: str) -> None:
    layers, inputs, byhand, written = CASES[case]
    program = compiled(layers, inputs)
    source = " ".join(program.source().split()).replace("( ", "(").replace(" )", ")").replace(", )", ")")
    assert all(text in source for text in written), source
    example = example_inputs(program)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        reference = byhand()
        state = reference.state_dict()
    for module in (program.module(0), emitted_module(program, 0)):
        mine = module.state_dict()
        assert list(mine) == [f"net.{key}" for key in state]
        assert all(torch.equal(mine[f"net.{key}"], value) for key, value in state.items())
        for mode in (True, False):
            torch.manual_seed(1)
            wanted = reference.train(mode)(*example)
            torch.manual_seed(1)
            given = module.train(mode)(*example)
            assert torch.equal(given, wanted)
            assert tuple(given.shape[1:]) == program.outputs["net"].shape[1:]  # type: ignore[union-attr]


@pytest.mark.parametrize("case", CASES)
def test_what_it_costs_is_torchs(case: str) -> None:
    layers, inputs, _, _ = CASES[case]
    program = netspec.compile(document(layers, inputs))
    module = program.module()
    assert totals(program)["parameters"] == sum(parameter.numel() for parameter in module.parameters())
    buffers = [tuple(buffer.shape) for buffer in module.buffers()]
    assert [weight.shape for weight in weights(program) if weight.buffer] == buffers
    example = [one[:1] for one in example_inputs(program)]
    with FlopCounterMode(display=False) as counter:
        module.train()(*(torch.cat([one, one]) for one in example))
    assert totals(program)["flops"] == counter.get_total_flops() // 2


def test_masks_reach_the_layers() -> None:
    program = compiled(f"net: {{{STACK}, from: {{src: src, src_key_padding_mask: pad}}}}", BOTH)
    byhand = encoder()
    byhand.load_state_dict({key.removeprefix("net."): value for key, value in program.module(0).state_dict().items()})
    src, pad = torch.randn(3, 7, 16), torch.arange(7) > torch.tensor([[6], [4], [2]])
    given = program.module(0).eval()(src, torch.randn(3, 5, 16), pad)
    assert torch.equal(given, byhand.eval()(src, src_key_padding_mask=pad))
    wrong = document(f"net: {{{STACK}, from: {{src: src, src_key_padding_mask: tgt}}}}", BOTH)
    with pytest.raises(SpecError, match="src_key_padding_mask"):
        netspec.compile(wrong)


def test_blocks_and_groups_are_given_too() -> None:
    blocks = """
blocks:
  Scaled:
    params: {factor: 0.5}
    inputs: {x: [..., C]}
    layers:
      norm: LayerNorm
      gain: {type: Parameter, shape: [$C], initialize: 1}
      out: {compute: norm * gain * $factor}
"""
    program = compiled(
        f"""
a: {{{STACK}, norm: {{type: Scaled, factor: 0.25}}}}
b: {{{STACK}, norm: {{layers: [LayerNorm, {{type: Linear, out_features: 8}}]}}}}
""",
        more=blocks,
    )
    assert "norm=Scaled(16, factor=0.25)" in program.source()
    assert "nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 8))" in program.source()
    assert program.outputs["b"].shape[-1] == 8  # type: ignore[union-attr]
    assert "a.norm.gain" in program.module().state_dict()


def test_values_in_it_follow_the_parameters() -> None:
    block = f"""
blocks:
  Encoder:
    params: {{heads: 2, ratio: 2, depth: 1, act: relu, norm: LayerNorm, layer: null}}
    inputs: {{x: [N, T, C]}}
    layers:
      stack:
        type: TransformerEncoder
        encoder_layer: {{type: TransformerEncoderLayer, nhead: $heads, dim_feedforward: $(ratio * C), batch_first: true,
                        activation: $act}}
        num_layers: $depth
        norm: $norm
        enable_nested_tensor: false
  Given:
    params: {{layer: {LAYER}}}
    layers:
      stack: {{type: TransformerEncoder, encoder_layer: $layer, num_layers: 1, enable_nested_tensor: false}}
"""
    program = compiled(
        """
narrow: {type: Linear, out_features: 8}
a: {type: Encoder}
b: {type: Encoder, heads: 4, depth: 2, norm: null}
wide: {type: Linear, out_features: 32}
c: {type: Encoder, act: tanh, norm: {type: RMSNorm, eps: 0.1}}
d: Given
e:
  type: Given
  layer: {type: TransformerEncoderLayer, nhead: 4, dim_feedforward: 8, batch_first: true, activation: silu}
""",
        more=block,
    )
    module = program.module()
    widths = {name: module.get_submodule(f"{name}.stack.layers.0.linear1").out_features for name in "abcde"}  # type: ignore[union-attr]
    assert widths == {"a": 16, "b": 16, "c": 64, "d": 24, "e": 8}
    assert "dim_feedforward=ratio * C" in program.source()


def test_copies_in_a_loop() -> None:
    program = compiled(
        """
stages:
  - for: {wide: [8, 24]}
    type: TransformerEncoder
    encoder_layer: {type: TransformerEncoderLayer, nhead: 2, dim_feedforward: $wide, batch_first: true}
    num_layers: 1
    norm: {type: Linear, out_features: $(2 * wide)}
    enable_nested_tensor: false
"""
    )
    assert "for wide in" in program.source()
    assert program.outputs["stages"].shape[-1] == 48  # type: ignore[union-attr]


def test_the_first_draws_its_weights_first() -> None:
    """Also where the second takes statements to be made."""
    program = compiled(
        f"net: {{{STACK}, norm: {{type: Linear, out_features: 4, initialize: {{weight: xavier_uniform, bias: 0}}}}}}"
    )
    torch.manual_seed(0)
    layer, norm = encoder_layer(), nn.Linear(16, 4)
    nn.init.xavier_uniform_(norm.weight)
    for module in (program.module(0), emitted_module(program, 0)):
        assert torch.equal(module.get_parameter("net.layers.1.linear1.weight"), layer.linear1.weight)
        assert torch.equal(module.get_parameter("net.norm.weight"), norm.weight)
        assert not module.get_parameter("net.norm.bias").any()


def test_it_is_used_again_and_on_every_tensor_of_a_list() -> None:
    program = compiled(f"a: {{{STACK}}}\nb: {{use: a}}\nc: {{compute: a + b}}")
    assert program.source().count("nn.TransformerEncoder(") == 1
    listed = compiled(f"a: {{{STACK}, each: x}}\nb: {{type: cat, dim: 1}}", "{x: {list: [[N, 7, 16], [N, 3, 16]]}}")
    assert listed.outputs["b"].shape[1] == 10  # type: ignore[union-attr]
    found = mistakes(f"a: {{{STACK}, each: x}}", "{x: {list: [[N, 7, 16], [N, 3, 8]]}}")
    assert found[0].startswith("NS413") and "in_proj_weight" in found[0]
    found = mistakes(f"a: {{{STACK}, from: x}}\nb: {{use: a, from: y}}", "{x: [N, 7, 16], y: [N, 7, 8]}")
    assert found[0].startswith("NS413")


def test_rules_of_initialize_find_it() -> None:
    rules = "{initialize: [{match: LayerNorm, weight: 2}, {match: '*.norm', bias: 3}]}"
    text = document(f"net: {{{STACK}, norm: LayerNorm}}")
    text["model"] |= yaml.safe_load(rules)
    program = netspec.compile(text)
    assert verify(program) == []
    for module in (program.module(0), emitted_module(program, 0)):
        assert set(module.get_parameter("net.norm.weight").tolist()) == {2.0}
        assert set(module.get_parameter("net.norm.bias").tolist()) == {3.0}
        assert set(module.get_parameter("net.layers.1.norm1.weight").tolist()) == {2.0}


COMPOSED = (
    "{type: TransformerEncoderLayer, nhead: 2, batch_first: true}",
    "{type: TransformerEncoderLayer, nhead: 2, batch_first: true, bias: false}",
    f"{{{STACK}}}",
    "{type: MLP, hidden_channels: [16, 16], norm_layer: LayerNorm}",
    "{type: MLP, hidden_channels: [16], bias: false}",
    "{type: Transformer, nhead: 2, num_encoder_layers: 1, num_decoder_layers: 1, from: [x, x], batch_first: true}",
)


@pytest.mark.parametrize("layer", COMPOSED)
def test_rules_of_initialize_find_what_a_layer_makes_itself(layer: str) -> None:
    """As the loop over `modules()` that one writes by hand: the layers of torch that hold others are no exception."""
    text = document(f"stem: {{type: Linear, out_features: 16, bias: false}}\nnet: {layer}")
    text["model"]["initialize"] = [{"match": "Linear", "weight": {"type": "normal", "std": 2}, "bias": 7}]
    program = netspec.compile(text)
    assert verify(program) == []
    torch.manual_seed(0)
    module = program.module(0)
    linear = [one for one in module.modules() if isinstance(one, nn.Linear)]
    assert len(linear) > 1
    for one in linear:
        assert 1.5 < one.weight.std() < 2.5
        assert one.bias is None or set(one.bias.tolist()) == {7.0}


def test_a_mistake_in_it_stands_at_its_own_place() -> None:
    text = document(
        "net: {type: TransformerEncoder, encoder_layer: {type: TransformerEncoderLayer, nhead: 3}, num_layers: 1}"
    )
    with pytest.raises(SpecError) as caught:
        netspec.compile(text)
    (one,) = caught.value.diagnostics
    assert one.code == "NS404" and "nhead 3 does not divide the 16 features" in one.message
    assert mistakes("net: {type: TransformerEncoder, num_layers: 1}")[0].startswith("NS107")
    assert mistakes(f"net: {{{STACK}, norm: {{type: LSTM, hidden_size: 3}}}}") == [
        "NS406 `net`: TransformerEncoder goes on with the one tensor that its norm gives, and LSTM gives several"
    ]
    assert mistakes(f"net: {{{STACK.replace('batch_first', 'activation: glu, batch_first')}}}")[0].startswith("NS404")


def test_a_spec_imports_nothing() -> None:
    for name in ("os.system", "torch.nn.functional.relu", "__import__", "eval"):
        found = mistakes(f"net: {{type: TransformerEncoderLayer, nhead: 2, activation: {name}}}")
        assert [one.split()[0] for one in found] == ["NS113"]
        found = mistakes(
            f"net: {{type: Conv2dNormActivation, out_channels: 2, norm_layer: {name}}}", "{x: [N, 3, 8, 8]}"
        )
        assert [one.split()[0] for one in found] == ["NS105"]


def test_it_is_explained_and_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    main(["explain", "TransformerEncoder.encoder_layer"])
    assert "a layer (TransformerEncoderLayer)" in capsys.readouterr().out
    main(["explain", "TransformerEncoderLayer.activation"])
    assert "the name of a function" in capsys.readouterr().out
    program = netspec.compile(document(f"net: {{{STACK}, norm: LayerNorm}}"))
    (row,) = layer_table(program)
    assert row.parameters == sum(parameter.numel() for parameter in program.module().parameters())
    assert program.graph.nodes["net"]["parameters"] == row.parameters


def test_functions_of_two_tensors() -> None:
    program = compiled(
        "loss: {type: TripletMarginWithDistanceLoss, from: [a, b, c], distance_function: pairwise_distance}",
        "{a: [N, 4], b: [N, 4], c: [N, 4]}",
    )
    assert "distance_function=F.pairwise_distance" in program.source()
    x: list[Tensor] = [torch.randn(3, 4) for _ in range(3)]
    wanted = nn.TripletMarginWithDistanceLoss(distance_function=F.pairwise_distance)(*x)
    assert torch.equal(program.module()(*x), wanted)
    found = mistakes(
        "loss: {type: TripletMarginWithDistanceLoss, from: [a, b, c], distance_function: relu}",
        "{a: [N, 4], b: [N, 4], c: [N, 4]}",
    )
    assert found[0].startswith("NS404")


PLUGIN = '''
from collections.abc import Callable

from torch import Tensor, nn

import netspec


@netspec.plugin.layer
class Residual(nn.Module):
    """Adds what a module makes of its input."""

    def __init__(
        self,
        module: nn.Module,
        scale: float = 1.0,
        norm_layer: Callable[..., nn.Module] | None = None,
        act: Callable[[Tensor], Tensor] | None = None,
        other=None,
    ) -> None:
        super().__init__()
        self.module = module
        self.norm = norm_layer(8) if norm_layer is not None else nn.Identity()
        self.act = act
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.module(x))
        return x + (y if self.act is None else self.act(y)) * self.scale
'''


def test_a_plugins_layer_is_given_layers_too(tmp_path: Path) -> None:
    file = tmp_path / "given_layers.py"
    file.write_text(PLUGIN, encoding="utf-8")
    deep = "{layers: [{type: Linear, out_features: 16}, ReLU, {type: Linear, out_features: 8}]}"
    text = f"""
a: {{type: Residual, module: {{type: Linear, out_features: 8}}, act: gelu}}
b: {{type: Residual, module: {deep}, norm_layer: {{type: LayerNorm, eps: 0.5}}}}
c: {{type: Residual, module: {{type: Residual, module: {{type: Linear, out_features: 8, bias: false}}}}}}
"""
    program = netspec.compile(document(text, "{x: [N, 8]}"), plugins=[file])
    assert verify(program) == []
    assert "Residual(nn.Linear(8, 8), act=F.gelu)" in program.source()
    assert [row.parameters for row in layer_table(program)] == [72, 296, 64]
    assert totals(program)["flops"] == 2 * (64 + 256 + 64)
    wrong = [
        ("a: {type: Residual, module: {type: Linear, out_features: 4}}", "NS409"),
        ("a: {type: Residual, module: ReLU, other: {type: ReLU}}", "NS103"),
        ("a: {type: Residual, module: relu}", "NS347"),
    ]
    for layers, code in wrong:
        with pytest.raises(SpecError) as caught:
            netspec.compile(document(layers, "{x: [N, 8]}"), plugins=[file])
        assert [one.code for one in caught.value.diagnostics] == [code]


GROUP = "{layers: {fc: {type: Linear, out_features: $wide}, act: ReLU, sum: {compute: act * 2 + fc}}}"


@pytest.mark.parametrize("layer", [GROUP, f"{{{STACK}, norm: {GROUP}}}"], ids=["group", "norm"])
def test_a_group_follows_a_size_that_has_no_name(layer: str) -> None:
    """The block takes any `x`: what the class of its group needs of it, the block's own constructor takes too."""
    program = compiled(
        "a: {type: Unit, wide: 6}\nb: {type: Unit, wide: 4}",
        "{x: [N, 8]}",
        f"{{blocks: {{Unit: {{params: {{wide: int}}, layers: {{one: {layer}}}}}}}}}",
    )
    assert program.outputs["b"].shape[-1] == 4  # type: ignore[union-attr]
    assert "class Unit" in program.source()
