"""Every network of `specs/imagenet/` against torchvision's of the same name, through both doors.

For one variant of each family, in full: the keys and their order, the weights from one seed, strict loading both ways,
and equal bits of outputs, gradients and running statistics. For all others keys, shapes, dtypes and parameter counts on
the meta device; `pytest -m long` takes them in full too, but for those of more than 150 million parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import pytest
import torch
from torch import Tensor, nn
from torchvision import models
from zoo_support import FULL, NAMES, SPECS, doors, on_meta, reference, tensors

import netspec
from netspec.program import Program
from netspec.runtime.verify import same
from netspec.table import totals

LARGEST = 150_000_000
"""Three of a larger model, two with gradients, do not fit side by side into the memory of a small machine."""
SIDE = {"inception_v3": 299, **{name: 224 for name in NAMES if name.startswith(("swin", "vit"))}}
SIDE.update({name: 256 for name in NAMES if name.startswith("swin_v2")})
"""The side of an image where 64 is too small: an auxiliary head, a position embedding, windows that are shifted."""

PUBLISHED = {"vit_h_14": "IMAGENET1K_SWAG_LINEAR_V1", "regnet_y_128gf": "IMAGENET1K_SWAG_LINEAR_V1"}
"""The weights for images of 224 by 224, where the first are for others: a position embedding has their size."""
HEADLESS = ["model.layers.aux1", "model.layers.aux2", "model.outputs"]
"""What torchvision takes from GoogLeNet when it loads the published weights."""


@cache
def compiled(name: str) -> Program:
    return netspec.compile(SPECS / f"{name}.yaml")


@cache
def learned(name: str) -> int:
    """How many parameters torchvision's model has."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in reference(name).parameters())


def test_every_classifier_of_torchvision_is_here() -> None:
    known = set(models.list_models(models))
    assert set(NAMES) <= known
    assert known - set(NAMES) == {"maxvit_t"}


@pytest.mark.parametrize("name", NAMES)
def test_keys_shapes_and_counts(name: str) -> None:
    program = compiled(name)
    expected = on_meta(partial(reference, name))
    for door, make in doors(program).items():
        assert on_meta(make) == expected, door
    assert totals(program)["parameters"] == learned(name)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in FULL else pytest.mark.long)
        for name in NAMES
        if name in FULL or learned(name) <= LARGEST
    ],
)
def test_the_same_bits(name: str) -> None:
    """From one seed: the weights, the outputs, and a step's gradients and running statistics."""
    side = SIDE.get(name, 64)
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    theirs = seeded(partial(reference, name))
    evaluated, expected = outputs(theirs.eval(), images[:1]), copied(theirs.state_dict())
    stepped, slopes = step(theirs.train(), images)
    for door, make in doors(compiled(name)).items():
        ours = seeded(make)
        state = ours.state_dict()
        assert list(state) == list(expected), door
        for key, value in expected.items():
            assert torch.equal(state[key], value), f"{door}: the weights of {key} differ"
        assert same(outputs(ours.eval(), images[:1]), evaluated), f"{door}: outputs in eval mode"
        given, gradients = step(ours.train(), images)
        assert same(given, stepped), f"{door}: outputs in train mode, or running statistics"
        if name == "googlenet":  # its heads run last here: what flows back is the same, added in another order
            torch.testing.assert_close(gradients, slopes, rtol=1e-4, atol=1e-6)
        else:
            assert same(gradients, slopes), f"{door}: gradients"
        ours.load_state_dict(expected, strict=True)
        if name.startswith(
            "mnasnet"
        ):  # torchvision takes a state that is not of its own class for one of an old layout
            state._metadata = theirs.state_dict()._metadata
        theirs.load_state_dict(state, strict=True)


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    """A model with the weights of seed 0."""
    torch.manual_seed(0)
    return make()


def copied(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """What a state is now; a step in train mode changes its tensors."""
    return {key: value.clone() for key, value in state.items()}


def outputs(model: nn.Module, images: Tensor) -> list[Tensor]:
    with torch.no_grad():
        return tensors(model(images))


def step(model: nn.Module, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """The outputs in train mode with the buffers after it, and the gradients. Random layers draw from one seed."""
    torch.manual_seed(2)
    given = tensors(model(images))
    torch.stack([tensor.square().mean() for tensor in given]).sum().backward()
    found = [*(tensor.detach() for tensor in given), *(buffer.clone() for buffer in model.buffers())]
    return found, [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_those_of_the_published_weights(name: str) -> None:
    """The total that `netspec show` prints is the one that torchvision states for its weights."""
    program = compiled(name)
    if name == "googlenet":
        program = netspec.compile({"netspec": 1, "extends": str(SPECS / "googlenet.yaml"), "remove": HEADLESS})
    weights = models.get_model_weights(name)[PUBLISHED.get(name, "IMAGENET1K_V1")]
    assert totals(program)["parameters"] == weights.meta["num_params"]
