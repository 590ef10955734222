"""Class activation maps against captum's, and what `netspec cam` writes of them."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image
from torch import nn

from netspec.cli import main
from netspec.runtime.errors import RunError
from netspec.runtime.monitors.cam import activation_maps, map_layer
from netspec.runtime.run import Run, train

SPEC = """\
netspec: 1
name: digits
model:
  inputs: {image: [N, 1, 8, 8]}
  layers:
    conv1: {type: Conv2d, out_channels: 8, kernel_size: 3, padding: 1}
    relu1: {type: ReLU, inplace: true}
    body:
      layers: [{type: Conv2d, out_channels: 16, kernel_size: 3, padding: 1}, BatchNorm2d, ReLU]
    pool: {type: AdaptiveAvgPool2d, output_size: 1}
    flat: Flatten
    fc: {type: Linear, out_features: 10}
data: {source: Digits, split: {train: 0.8, val: 0.2}, batch_size: 64}
train:
  epochs: 2
  device: cpu
  loss: CrossEntropyLoss
  optimizer: {type: AdamW, lr: 0.01}
  tensorboard: false
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("cam")
    (folder / "spec.yaml").write_text(SPEC, encoding="utf-8")
    return train(folder / "spec.yaml", run_dir=folder / "run", progress="none")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    from sklearn.datasets import load_digits

    path = tmp_path / "three.png"
    Image.fromarray((load_digits().images[3] * 16).clip(0, 255).astype("uint8")).save(path)
    return path


def resnet() -> nn.Module:
    from torchvision.models import resnet18

    torch.manual_seed(0)
    return resnet18(num_classes=5).eval()


@pytest.mark.parametrize("layer", ["layer4", "layer2.1.conv1"])
def test_grad_cam_is_captums(layer: str) -> None:
    captum = pytest.importorskip("captum.attr")
    model = resnet()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    ours, scores = activation_maps(model, (images,), layer, classes=torch.tensor([3, 1]))
    theirs = captum.LayerGradCam(model, model.get_submodule(layer)).attribute(
        images, target=torch.tensor([3, 1]), relu_attributions=True
    )
    assert ours.max() > 0
    torch.testing.assert_close(ours, theirs.detach().squeeze(1), rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(scores, model(images).detach())
    assert all(p.grad is None for p in model.parameters())


def test_cam_is_zhous() -> None:
    """The map's mean, with the bias, is the class's score; for these nets Grad-CAM is its positive part over h w."""
    model = resnet()
    images = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    maps, scores = activation_maps(model, (images,), "layer4", "cam")
    chosen = scores.argmax(1)
    assert isinstance(model.fc, nn.Linear)
    torch.testing.assert_close(maps.mean((1, 2)) + model.fc.bias[chosen], scores.gather(1, chosen[:, None])[:, 0])
    grad_cam, _ = activation_maps(model, (images,), "layer4", "gradcam")
    torch.testing.assert_close(grad_cam, maps.relu() / maps[0].numel())


def test_the_layer_is_the_last_that_gives_maps() -> None:
    images = torch.randn(1, 3, 64, 64)
    assert map_layer(resnet(), (images,)) == "layer4"
    assert map_layer(resnet(), (images,), "layer2.*") == "layer2.1"
    with pytest.raises(RunError, match="NS930 no layer that matches `fc`"):
        map_layer(resnet(), (images,), "fc")
    with pytest.raises(RunError, match="NS930 the layer `fc` gives no maps"):
        activation_maps(resnet(), (images,), "fc")
    with pytest.raises(RunError, match="CAM wants a layer whose maps are averaged"):
        activation_maps(resnet(), (images,), "layer3", "cam")


def test_the_verb_writes_the_map_and_its_numbers(
    run: Run, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cam", str(run.directory), str(image), str(image), "--class", "7", "-o", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(f"{image}: ") and said[0].endswith(
        "three.png, " + str(tmp_path / "out" / "three.npy") + " (layer body)"
    )
    numbers = numpy.load(tmp_path / "out" / "three.npy")
    assert (numbers.shape, numbers.dtype) == ((8, 8), numpy.float32)
    with Image.open(tmp_path / "out" / "three.png") as picture:
        assert picture.size == (2 * 224, 224)
    assert (tmp_path / "out" / "three-2.npy").is_file()

    captum = pytest.importorskip("captum.attr")
    model, x = loaded(run, image)
    theirs = captum.LayerGradCam(model, model.get_submodule("body")).attribute(x, target=7, relu_attributions=True)
    assert numpy.allclose(numbers, theirs.detach().numpy()[0, 0], rtol=1e-5, atol=1e-9)


def loaded(run: Run, image: Path) -> tuple[nn.Module, torch.Tensor]:
    from safetensors.torch import load_file

    from netspec.runtime.load import import_source, model_class

    assert run.directory is not None and run.checkpoint is not None
    model = model_class(import_source(run.directory / "model.py"))().eval()
    model.load_state_dict(load_file(run.checkpoint / "model.safetensors"))
    with Image.open(image) as read:
        return model, torch.from_numpy(numpy.array(read, dtype="float32") / 255)[None, None]


def test_what_cannot_be_mapped_is_said(run: Run, image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(run.directory)
    for arguments, words in (
        (["--layer", "fc"], "error[NS930]: no layer that matches `fc` gives maps"),
        (["--class", "seven"], "error[NS930]: there is no class `seven`"),
        (["-o", str(image)], "cannot be written"),
    ):
        assert main(["cam", folder, str(image), *arguments]) == 3
        assert words in capsys.readouterr().err
    assert main(["cam", folder, str(image), "--method", "gradcan"]) == 2
