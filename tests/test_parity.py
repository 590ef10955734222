"""AlexNet, VGG-16, ResNet-18 and ResNet-50 against torchvision's, through both doors.

Parity is: the same keys, shapes and weights from one seed, loading strictly both ways, and bit-equal outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision import models

import netspec
from netspec.program import Program
from netspec.runtime.verify import emitted_class

SPECS = Path(__file__).resolve().parent.parent / "specs" / "imagenet"
REFERENCES: dict[str, Callable[[], nn.Module]] = {
    "alexnet": models.alexnet,
    "vgg16": models.vgg16,
    "resnet18": models.resnet18,
    "resnet50": models.resnet50,
}
PARAMETERS = {"alexnet": 61_100_840, "vgg16": 138_357_544, "resnet18": 11_689_512, "resnet50": 25_557_032}


@pytest.fixture(scope="module", params=REFERENCES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def program(name: str) -> Program:
    return netspec.compile(SPECS / f"{name}.yaml")


@pytest.fixture(scope="module")
def reference(name: str) -> nn.Module:
    """torchvision's model, its weights drawn from one seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return REFERENCES[name]().eval()


def on_meta(make: Callable[[], nn.Module]) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """The shapes and dtypes of a model's state, in its order, without memory for it."""
    with torch.device("meta"):
        state = make().state_dict()
    return {key: (tuple(tensor.shape), tensor.dtype) for key, tensor in state.items()}


def doors(program: Program) -> dict[str, Callable[[], nn.Module]]:
    return {"live": program.module, "emitted": emitted_class(program)}


def test_keys_and_shapes(name: str, program: Program) -> None:
    expected = on_meta(REFERENCES[name])
    for door, make in doors(program).items():
        found = on_meta(make)
        assert list(found) == list(expected), door
        assert found == expected, door
    with torch.device("meta"):
        assert sum(p.numel() for p in program.module().parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("door", ["live", "emitted"])
def test_weights_outputs_and_loading(program: Program, reference: nn.Module, door: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = doors(program)[door]().eval()
    expected = reference.state_dict()
    for key, value in model.state_dict().items():
        assert torch.equal(value, expected[key]), f"the weights of {key} differ"
    image = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(model(image), reference(image))
    model.load_state_dict(expected, strict=True)
    reference.load_state_dict(model.state_dict(), strict=True)


@pytest.mark.parametrize("door", ["live", "emitted"])
@pytest.mark.parametrize("name", ["alexnet", "resnet18", "resnet50"])
def test_train_mode_and_gradients(name: str, door: str) -> None:
    """A step of training is the same too: dropout draws the same numbers, batch norms are updated alike."""
    program = netspec.compile(SPECS / f"{name}.yaml")
    results: list[Any] = []
    for make in (REFERENCES[name], doors(program)[door]):
        torch.manual_seed(0)
        model = make().train()
        loss = model(torch.randn(2, 3, 64, 64)).square().mean()
        loss.backward()
        results.append([loss.detach(), *(p.grad for p in model.parameters()), *model.buffers()])
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)
