"""torchvision's models used whole: equal to its own, their children replaced, their weights by name or from a file."""

from __future__ import annotations

import inspect
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import nn
from torchvision import models

import netspec
from netspec import catalog
from netspec.catalog.models import ENTRIES, ModelEntry
from netspec.cli import main
from netspec.diagnostics import SpecError
from netspec.program import Program
from netspec.runtime import probe
from netspec.runtime.errors import RunError
from netspec.runtime.evaluate import evaluate
from netspec.runtime.verify import emitted_module, verify
from netspec.table import layer_table, totals

ROOT = Path(__file__).resolve().parent.parent


def document(layers: str, size: int = 64, channels: int = 3) -> dict[str, Any]:
    loaded = yaml.safe_load(textwrap.dedent(layers))
    model = {"inputs": {"image": ["N", channels, size, size]}, "layers": loaded}
    return {"netspec": 1, "name": "net", "params": {"classes": 2}, "model": model}


def compiled(layers: str, size: int = 64) -> Program:
    """The program of these layers, whose two doors are equal."""
    program = netspec.compile(document(layers, size))
    assert verify(program) == []
    return program


def mistakes(layers: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        netspec.compile(document(layers))
    return [f"{d.code} {d.message}" for d in caught.value.diagnostics]


# The table against the installed torchvision


def test_the_table_names_every_classifier() -> None:
    assert [e.name for e in ENTRIES] == [f"torchvision.{name}" for name in sorted(models.list_models(module=models))]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_weights_are_those_of_the_library(entry: ModelEntry) -> None:
    theirs = models.get_model_weights(entry.name.partition(".")[2])
    assert [weights.name for weights in theirs] == list(entry.weights)
    assert "DEFAULT" in theirs.__members__


def one_a_family() -> list[ModelEntry]:
    families: dict[Any, ModelEntry] = {}
    for entry in ENTRIES:
        families.setdefault(tuple(entry.arguments[1:]), entry)
    return list(families.values())


@pytest.mark.parametrize("entry", one_a_family(), ids=lambda entry: entry.name)
def test_builders_take_the_arguments_of_the_table(entry: ModelEntry) -> None:
    values = {"int": 7, "float": 0.25, "bool": False}
    given = {a.name: values[a.kind] for a in entry.arguments if a.name != "weights"}
    if "init_weights" in given and entry.heads:
        given["init_weights"] = True
    assert probe.parts(entry.target, given).parameters
    known = inspect.signature(models.get_model_builder(entry.name.partition(".")[2])).parameters
    assert "weights" in known


# What a model is in a spec


def test_a_frozen_backbone_with_a_head_of_ones_own() -> None:
    program = compiled("""
        backbone: {type: torchvision.resnet18, freeze: true, replace: {fc: Identity}}
        head: {type: Linear, out_features: $classes}
    """)
    assert [str(type_) for type_ in program.shapes.values()] == ["[N, 512]", "[N, 2]"]
    module = program.module(seed=0)
    expected = [f"backbone.{name}" for name in models.resnet18().state_dict() if not name.startswith("fc.")]
    assert list(module.state_dict()) == [*expected, "head.weight", "head.bias"]
    trained = [name for name, p in module.named_parameters() if p.requires_grad]
    assert trained == ["head.weight", "head.bias"]
    module.train()
    assert not module.get_submodule("backbone.bn1").training
    counted = {name: sum(p.numel() for p in part.parameters()) for name, part in module.named_children()}
    assert {row.path: row.parameters for row in layer_table(program)} == counted
    assert totals(program)["trainable"] == counted["head"]
    source = program.source()
    assert "from torchvision import models\n" in source
    assert "self.backbone = models.resnet18()\n        self.backbone.fc = nn.Identity()\n" in source
    assert "self.head = nn.Linear(512, classes)" in source


def test_weights_and_outputs_are_the_librarys() -> None:
    program = compiled("net: {type: torchvision.shufflenet_v2_x0_5, num_classes: 7}")
    torch.manual_seed(3)
    theirs = models.shufflenet_v2_x0_5(num_classes=7).eval()
    ours = program.module(seed=3).eval()
    image = torch.randn(2, 3, 64, 64)
    for (name, mine), (key, original) in zip(ours.state_dict().items(), theirs.state_dict().items(), strict=True):
        assert name == f"net.{key}" and torch.equal(mine, original)
    assert torch.equal(ours(image), theirs(image))


def test_replacements_get_what_the_child_got() -> None:
    program = compiled("""
        net:
          type: torchvision.mobilenet_v3_small
          replace:
            features.0.0: {type: Conv2d, out_channels: 16, kernel_size: 3, stride: 2, padding: 1, bias: false}
            classifier.3: [{type: Linear, out_features: 32, initialize: {bias: 0.5}}, ReLU,
                           {type: Linear, out_features: $classes}]
    """)
    assert str(program.shapes["net"]) == "[N, 2]"
    torch.manual_seed(5)
    hand = models.mobilenet_v3_small()
    hand.features[0][0] = nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False)
    hand.classifier[3] = nn.Sequential(nn.Linear(1024, 32), nn.ReLU(), nn.Linear(32, 2))
    first = hand.classifier[3][0]
    assert isinstance(first, nn.Linear)
    nn.init.constant_(first.bias, 0.5)
    ours = program.module(seed=5)
    for mine, theirs in zip(ours.state_dict().values(), hand.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)
    assert "self.net.features[0][0] = nn.Conv2d(" in program.source()


def test_parameters_and_flops_are_those_of_torchvision() -> None:
    program = netspec.compile(document("net: torchvision.resnet18", size=224))
    meta = models.ResNet18_Weights.IMAGENET1K_V1.meta
    assert totals(program)["parameters"] == meta["num_params"]
    flops = totals(program)["flops"]
    assert flops is not None and abs(flops / 2e9 - meta["_ops"]) < 0.01


def test_images_of_any_size_and_a_model_used_twice() -> None:
    layers = yaml.safe_load("""
        net: {type: torchvision.squeezenet1_1, num_classes: 5}
        again: {use: net, from: image}
        both: {compute: net + again}
    """)
    model = {"inputs": {"image": ["N", 3, "H", "W"]}, "layers": layers}
    program = netspec.compile({"netspec": 1, "name": "net", "model": model})
    assert str(program.shapes["both"]) == "[N, 5]"
    assert program.module()(torch.randn(2, 3, 80, 90)).shape == (2, 5)


def test_models_in_blocks_lists_and_by_parameter() -> None:
    loaded = {
        "netspec": 1,
        "name": "net",
        "blocks": yaml.safe_load("""
            Tower:
              params: {arch: torchvision.squeezenet1_1, width: int}
              inputs: {x: [N, C, H, W]}
              layers:
                net: {type: $arch, num_classes: 8}
                fc: {type: Linear, out_features: $width}
        """),
        "model": {
            "inputs": {"image": ["N", 3, 64, 64]},
            "layers": yaml.safe_load("""
                a: {type: Tower, width: 4}
                list: {from: image, layers: [{type: torchvision.shufflenet_v2_x0_5, replace: {fc: Identity}}, ReLU]}
                b: {type: Tower, from: image, arch: torchvision.shufflenet_v2_x0_5, width: 4}
                sum: {compute: a + b}
                out: {type: cat, from: [sum, list], dim: 1}
            """),
        },
    }
    program = netspec.compile(loaded)
    assert verify(program) == []
    assert str(program.shapes["out"]) == "[N, 1028]"


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_auxiliary_heads_are_left_out(name: str) -> None:
    program = netspec.compile(document(f"net: {{type: torchvision.{name}}}", size=96))
    module = emitted_module(program, seed=0)
    assert not [key for key in module.state_dict() if "aux" in key.casefold()]
    assert "aux_logits=False, init_weights=True" in program.source()
    (said,) = mistakes(f"net: {{type: torchvision.{name}, aux_logits: true}}")
    assert said.startswith("NS404") and "a tuple in training" in said


def test_rules_stop_at_a_librarys_door() -> None:
    text = """
        net: torchvision.resnet18
        head: {type: Linear, out_features: 2}
    """
    for match, code in (("Linear", "NS327"), ("net.*", "NS327"), ("head", None), ("Conv1d", "NS321")):
        loaded = document(text)
        loaded["model"]["initialize"] = [{"match": match, "weight": 0.0}]
        if code is None:
            assert verify(netspec.compile(loaded)) == []
            continue
        with pytest.raises(SpecError) as caught:
            netspec.compile(loaded)
        assert caught.value.diagnostics[0].code == code


# Weights


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch hub's cache with a file where resnet18's weights would be; nothing else can be fetched."""
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    torch.manual_seed(11)
    name = models.ResNet18_Weights.IMAGENET1K_V1.url.rpartition("/")[2]
    torch.save(models.resnet18().state_dict(), folder / name)

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError("no network here")

    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    return folder / name


PRETRAINED = "net: {type: torchvision.resnet18, weights: %s, replace: {fc: {type: Linear, out_features: $classes}}}"


@pytest.mark.parametrize(("stated", "written"), [("IMAGENET1K_V1", "IMAGENET1K_V1"), ("default", "DEFAULT")])
def test_weights_by_name(hub: Path, stated: str, written: str) -> None:
    program = compiled(PRETRAINED % stated)
    assert f'models.resnet18(weights="{written}")' in program.source()
    stored = torch.load(hub, weights_only=True)
    assert torch.equal(program.module().get_parameter("net.conv1.weight"), stored["conv1.weight"])


def test_weights_that_cannot_be_had(hub: Path, tmp_path: Path) -> None:
    text = "net: {type: torchvision.%s, weights: %s}"
    program = netspec.compile(document(text % ("squeezenet1_1", "default")))  # nothing is fetched for this
    with pytest.raises(RunError, match=r"NS915 .*no network here"):
        program.module()
    missing = netspec.compile(document(text % ("squeezenet1_1", tmp_path / "none.pt")))
    with pytest.raises(RunError, match=r"NS915 .*none\.pt"):
        missing.module()
    others = netspec.compile(document(text % ("squeezenet1_1", hub)))
    with pytest.raises(RunError, match="NS915 the weights of a library's model are not its own"):
        others.module()


@pytest.mark.parametrize("ending", ["safetensors", "pt"])
def test_weights_from_a_file(tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(13)
    state = models.resnet18().state_dict()
    save = save_file if ending == "safetensors" else torch.save
    save({name: tensor.contiguous() for name, tensor in state.items()}, f"weights.{ending}")
    program = compiled(PRETRAINED % f"weights.{ending}")
    assert torch.equal(program.module().get_parameter("net.conv1.weight"), state["conv1.weight"])
    source = program.source()
    assert "self.net = models.resnet18()\n        self.net.load_state_dict(" in source
    assert ("from safetensors.torch import load_file" in source) == (ending == "safetensors")


def test_a_name_of_weights_is_checked() -> None:
    (said,) = mistakes("net: {type: torchvision.resnet18, weights: IMAGENET21K}")
    assert said == "NS404 `torchvision.resnet18` has no weights `IMAGENET21K`"
    assert mistakes("net: {type: torchvision.resnet18, num_classes: 2, weights: default}")[0].startswith("NS404")
    assert mistakes("net: {type: torchvision.resnet18, weight: default}")[0].startswith("NS106")


# Runs, and what a check costs


def test_a_run_needs_neither_network_nor_file_again(
    hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    for i in range(8):
        folder = tmp_path / "photos" / ("ants" if i % 2 else "bees")
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (20 * i, 0, 0)).save(folder / f"{i}.png")
    loaded = document("backbone: {type: torchvision.resnet18, weights: IMAGENET1K_V1, freeze: true, replace: {fc: "
                      "Identity}}\nhead: {type: Linear, out_features: $classes}", size=32)  # fmt: skip
    loaded |= yaml.safe_load("""
        data:
          source: {type: ImageFolder, root: photos}
          split: {train: 0.5, val: 0.5, seed: 0, stratify: label}
          transforms: [ToImage, {type: ToDtype, dtype: float32, scale: true}]
          batch_size: 4
        train: {epochs: 1, loss: CrossEntropyLoss, optimizer: {type: SGD, lr: 0.1}}
    """)
    Path("net.yaml").write_text(yaml.safe_dump(loaded, sort_keys=False), encoding="utf-8")
    assert main(["train", "net.yaml", "--run-dir", "run", "--progress", "none"]) == 0, capsys.readouterr().err
    hub.unlink()
    assert "loss" in evaluate("run", "val")
    more = ["--set", "train.epochs=2", "--progress", "none"]
    assert main(["train", "--resume", "run", *more]) == 0, capsys.readouterr().err
    assert main(["train", "net.yaml", "--run-dir", "other", "--progress", "none"]) == 3
    assert "NS915" in capsys.readouterr().err


@pytest.mark.parametrize(("layer", "heavy"), [("ReLU", "0"), ("torchvision.resnet18", "1")])
def test_only_a_library_model_imports_torch(tmp_path: Path, layer: str, heavy: str) -> None:
    spec = tmp_path / "net.yaml"
    spec.write_text(yaml.safe_dump(document(f"net: {layer}")), encoding="utf-8")
    code = (
        "import sys\nfrom netspec.cli import main\n"
        f"assert main(['validate', {str(spec)!r}]) == 0\nprint(int('torch' in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1:] == [heavy], done.stderr


def test_library_models_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "torchvision.resnet50"]) == 0
    assert "`IMAGENET1K_V1`, `IMAGENET1K_V2`, `default`" in capsys.readouterr().out
    assert main(["explain", "torchvision.resnet50.num_classes"]) == 0
    assert capsys.readouterr().out.startswith("num_classes: an integer from 1 (default 1000)")
    assert catalog.lookup("resnet50") is None
