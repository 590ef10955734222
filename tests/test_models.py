"""Several models in one document: an nn.ModuleDict, one file with a class each, and each of them a part to take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import netspec
from netspec.cli.dispatch import main
from netspec.codegen import model_classes
from netspec.runtime.verify import emitted_module, same, verify
from netspec.table import totals

DCGAN = """\
netspec: 1
name: dcgan
params: {latent: 6, width: 4}
blocks:
  Up:
    params: {channels: int}
    inputs: {x: [N, C, H, W]}
    layers:
      - {type: ConvTranspose2d, out_channels: $channels, kernel_size: 4, stride: 2, padding: 1, bias: false}
      - BatchNorm2d
      - ReLU
models:
  generator:
    inputs: {z: [N, $latent, 1, 1]}
    layers:
      main:
        - {type: ConvTranspose2d, out_channels: $(width * 2), kernel_size: 4, bias: false}
        - {type: Up, channels: $width}
        - {type: ConvTranspose2d, out_channels: 3, kernel_size: 4, stride: 2, padding: 1, bias: false}
        - Tanh
    initialize: &weights
      - {match: [Conv2d, ConvTranspose2d], weight: {type: normal, std: 0.02}}
  discriminator:
    params: {slope: 0.2, wide: $(width * 2)}
    inputs: {image: [N, 3, 16, 16]}
    layers:
      conv: {type: Conv2d, out_channels: $wide, kernel_size: 4, stride: 2, padding: 1, bias: false}
      act: {type: LeakyReLU, negative_slope: $slope}
      head: {type: Conv2d, out_channels: 1, kernel_size: 8}
    outputs: {score: head, features: act}
    initialize: *weights
"""


class Discriminator(nn.Module):
    """The second one by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 4, stride=2, padding=1, bias=False)
        self.head = nn.Conv2d(8, 1, 8)
        for conv in (self.conv, self.head):
            nn.init.normal_(conv.weight, std=0.02)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = nn.functional.leaky_relu(self.conv(image), 0.2)
        return self.head(features), features


@pytest.fixture
def gan(tmp_path: Path) -> Path:
    path = tmp_path / "dcgan.yaml"
    path.write_text(DCGAN, encoding="utf-8")
    return path


def test_several_models_are_a_module_dict(gan: Path) -> None:
    program = netspec.compile(gan)
    assert verify(program) == []
    module = program.module(0)
    assert isinstance(module, nn.ModuleDict)
    assert list(module) == ["generator", "discriminator"]
    assert list(program.inputs) == ["generator.z", "discriminator.image"]
    assert list(program.outputs) == ["generator", "discriminator.score", "discriminator.features"]
    assert totals(program)["parameters"] == sum(p.numel() for p in module.parameters())
    image = torch.tanh(torch.randn(2, 3, 16, 16))
    reference = Discriminator()
    reference.load_state_dict(module["discriminator"].state_dict())
    assert same(tuple(module["discriminator"](image)), reference(image))
    assert module["generator"](torch.randn(2, 6, 1, 1)).shape == (2, 3, 16, 16)


def test_weights_are_drawn_in_the_order_of_the_file(gan: Path) -> None:
    program = netspec.compile(gan)
    torch.manual_seed(5)
    program.parts["generator"].module()
    expected = Discriminator().state_dict()
    for module in (program.module(5), emitted_module(program, 5)):
        found = module.get_submodule("discriminator").state_dict()
        assert list(found) == list(expected)
        assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_one_file_holds_a_class_each_and_what_they_share_once(gan: Path) -> None:
    program = netspec.compile(gan)
    source = program.source()
    assert model_classes(program) == {"generator": "Generator", "discriminator": "Discriminator"}
    assert [source.count(f"class {name}(") for name in ("Up", "Generator", "Discriminator")] == [1, 1, 1]
    assert "slope: float = 0.2" in source
    takes = """Takes `image` [N, 3, 16, 16], gives `score` [N, 1, 1, 1], `features`\n    [N, 8, 8, 8].\n"""
    assert takes in source


def test_a_part_is_a_program_and_a_model_that_other_files_take(gan: Path, tmp_path: Path) -> None:
    part = netspec.compile(gan).parts["generator"]
    assert list(part.inputs) == ["z"] and verify(part) == []
    user = tmp_path / "sampler.yaml"
    user.write_text("netspec: 1\nname: sampler\nmodel: {file: dcgan.yaml#models.generator, initialize: []}\n")
    program = netspec.compile(user)
    assert verify(program) == []
    assert list(program.module().state_dict()) == list(part.module().state_dict())


def test_parameters_are_shared_and_can_be_set(gan: Path) -> None:
    program = netspec.compile(gan, {"params.width": 5})
    assert program.module()["discriminator"].conv.out_channels == 10
    assert verify(program) == []


def test_values_of_a_file_are_read_in_the_document(gan: Path, tmp_path: Path) -> None:
    net = tmp_path / "net.yaml"
    net.write_text(
        "netspec: 1\nname: net\nparams: {classes: 10, width: 3}\n"
        "model:\n  inputs: {x: [N, 4]}\n"
        "  layers: [{type: Linear, out_features: $width}, {type: Linear, out_features: $classes}]\n"
    )
    both = tmp_path / "both.yaml"
    both.write_text(
        "netspec: 1\nname: both\nparams: {classes: 5}\nmodels:\n"
        "  teacher: {file: net.yaml, params: {classes: $classes, width: 8}}\n"
        "  student: {file: net.yaml, params: {classes: $(classes * 2)}}\n"
    )
    program = netspec.compile(both)
    assert verify(program) == []
    sizes = {name: [layer.out_features for layer in part] for name, part in program.module().items()}
    assert sizes == {"teacher": [8, 5], "student": [3, 10]}


def test_the_verbs_take_them(gan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", str(gan)]) == 0
    assert main(["show", str(gan)]) == 0
    assert "discriminator.image" in capsys.readouterr().out
    assert main(["build", str(gan), "-o", str(tmp_path / "out")]) == 0
    assert "class Discriminator" in (tmp_path / "out" / "dcgan.py").read_text()
    for name in ("x.mmd", "x.html", "x.dot"):
        assert main(["graph", str(gan), "-o", str(tmp_path / name)]) == 0


def test_training_several_is_refused_for_now() -> None:
    document: dict[str, Any] = {
        "netspec": 1,
        "name": "net",
        "models": {"a": {"inputs": {"x": ["N", 3]}, "layers": [{"type": "Linear", "out_features": 2}]}},
        "train": {"epochs": 1, "loss": "MSELoss", "optimizer": {"type": "SGD", "lr": 0.1}},
    }
    with pytest.raises(netspec.SpecError) as caught:
        netspec.compile(document)
    assert [d.code for d in caught.value.diagnostics] == ["NS190"]


def test_a_mistake_in_one_model_is_told_beside_those_of_the_others() -> None:
    document = {
        "netspec": 1,
        "name": "net",
        "models": {
            "a": {"inputs": {"x": ["N", 3]}, "layers": {"fc": {"type": "Conv2d", "out_channels": 2, "kernel_size": 3}}},
            "b": {"inputs": {"x": ["N", 3]}, "layers": {"out": {"compute": "x + y"}}},
        },
    }
    with pytest.raises(netspec.SpecError) as caught:
        netspec.compile(document)
    assert sorted(d.code for d in caught.value.diagnostics) == ["NS302", "NS401"]
