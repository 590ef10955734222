"""The classic networks against torchvision's: keys, weights from one seed, strict loading both ways, equal bits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

import netspec
from netspec.runtime.verify import emitted_class

SPECS = Path(__file__).resolve().parent.parent / "specs" / "imagenet"
REFERENCES: dict[str, Callable[[], nn.Module]] = {
    "convnext_tiny": models.convnext_tiny,
    "densenet121": models.densenet121,
    "efficientnet_b0": models.efficientnet_b0,
    "googlenet": lambda: models.googlenet(init_weights=True, aux_logits=True),
    "mobilenet_v3_large": models.mobilenet_v3_large,
    "regnet_y_400mf": models.regnet_y_400mf,
    "shufflenet_v2_x1_0": models.shufflenet_v2_x1_0,
    "swin_t": models.swin_t,
    "vit_b_16": models.vit_b_16,
}


def test_every_network_is_held_against_torchvision() -> None:
    from test_parity import REFERENCES as IN_FULL

    assert {path.stem for path in SPECS.glob("*.yaml")} == REFERENCES.keys() | IN_FULL.keys()


def logits(output: Tensor | tuple[Tensor, ...]) -> Tensor:
    return output if isinstance(output, Tensor) else output[0]


@pytest.mark.parametrize("name", REFERENCES)
def test_parity(name: str) -> None:
    program = netspec.compile(SPECS / f"{name}.yaml")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        reference = REFERENCES[name]().eval()
        expected = reference.state_dict()
        image = torch.randn(1, 3, 224, 224)
        with torch.no_grad():
            wanted = logits(reference(image))
            for door in (program.module, emitted_class(program)):
                torch.manual_seed(0)
                model = door().eval()
                state = model.state_dict()
                assert list(state) == list(expected)
                assert all(torch.equal(state[key], value) for key, value in expected.items())
                assert torch.equal(logits(model(image)), wanted)
                model.load_state_dict(expected, strict=True)
                reference.load_state_dict(state, strict=True)
