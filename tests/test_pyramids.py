"""Networks over lists are torchvision's: keys, weights of one seed, loading both ways, outputs bit for bit."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

import netspec
from netspec.program import Program
from netspec.runtime.verify import emitted_module

SPECS = Path(__file__).resolve().parent.parent / "specs"
CHANNELS = [256, 512, 1024, 2048]


def pyramid(channels: list[int], size: int = 32) -> list[Tensor]:
    """One tensor a level, each half as large as the one before; odd sizes among them."""
    generator = torch.Generator().manual_seed(1)
    sides = [(size // 2**i, (size + 3) // 2**i) for i in range(len(channels))]
    return [torch.randn(2, c, *side, generator=generator) for c, side in zip(channels, sides, strict=True)]


def doors(program: Program, seed: int) -> list[nn.Module]:
    return [program.module(seed).eval(), emitted_module(program, seed).eval()]


def same_weights(module: nn.Module, reference: nn.Module) -> None:
    """Same keys in the same order, same values; each takes the other's state strictly."""
    ours, theirs = module.state_dict(), reference.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    module.load_state_dict(theirs, strict=True)
    reference.load_state_dict(ours, strict=True)


@pytest.mark.parametrize("width", [256, 8])
def test_the_feature_pyramid(width: int) -> None:
    program = netspec.compile(SPECS / "detection" / "fpn.yaml", set={"params.out_channels": width})
    torch.manual_seed(3)
    reference = FeaturePyramidNetwork(CHANNELS, width, extra_blocks=LastLevelMaxPool()).eval()
    features = pyramid(CHANNELS)
    expected = reference(OrderedDict((str(i), feature) for i, feature in enumerate(features)))
    for module in doors(program, 3):
        same_weights(module, reference)
        assert isinstance(module.inner_blocks, nn.ModuleList)
        assert isinstance(module.layer_blocks, nn.ModuleList)
        given = module(features)
        assert [torch.equal(a, b) for a, b in zip([*given.features, given.pool], expected.values(), strict=True)] == [
            True
        ] * 5


@pytest.mark.parametrize("levels", [1, 5])
def test_the_head_of_retinanet_takes_any_number_of_levels(levels: int) -> None:
    program = netspec.compile(SPECS / "detection" / "retinanet_head.yaml", set={"params.num_classes": 7})
    torch.manual_seed(5)
    reference = RetinaNetHead(256, 9, 7).eval()
    features = pyramid([256] * levels, 16)
    with torch.no_grad():
        expected = reference(features)
    for module in doors(program, 5):
        same_weights(module, reference)
        with torch.no_grad():
            given = module(features)
        assert torch.equal(given.cls_logits, expected["cls_logits"])
        assert torch.equal(given.bbox_regression, expected["bbox_regression"])


def test_what_is_written_has_loops_where_the_spec_has() -> None:
    """No copy of a loop is a statement of its own."""
    unet = netspec.compile(SPECS / "unet.yaml").source()
    assert "for down in self.downs:" in unet
    assert "for up, skip in zip(self.ups, reversed(downs[:-1]), strict=True):" in unet
    fpn = netspec.compile(SPECS / "detection" / "fpn.yaml").source()
    assert "for in_channels in (256, 512, 1024, 2048)" in fpn
    assert "for inner_block in reversed(inner_blocks[:-1]):" in fpn
    head = netspec.compile(SPECS / "detection" / "retinanet_head.yaml").source()
    assert "self.classification_head(feature) for feature in features" in head
