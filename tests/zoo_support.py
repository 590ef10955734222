"""The ImageNet networks of `specs/imagenet/` beside torchvision's: which there are, and how to make both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models.regnet import BlockParams

from netspec.program import Program
from netspec.runtime.verify import emitted_class

SPECS = Path(__file__).resolve().parent.parent / "specs" / "imagenet"
NAMES = sorted(path.stem for path in SPECS.glob("*.yaml"))
FULL = (
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet", "inception_v3",
    "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_x_400mf", "regnet_y_400mf", "resnet18",
    "resnext50_32x4d", "shufflenet_v2_x0_5", "squeezenet1_1", "swin_t", "swin_v2_t", "vgg11_bn", "vit_b_32",
)  # fmt: skip
"""The smallest variant of each family, and of each kind of block."""
HEADS = {"googlenet": {"init_weights": True, "aux_logits": True}, "inception_v3": {"init_weights": True}}
"""Arguments without which torchvision warns, or leaves the auxiliary heads out."""


def reference(name: str, **arguments: Any) -> nn.Module:
    """torchvision's model, as its name builds it."""
    reckoned = BlockParams.from_init_params

    def on_cpu(**given: Any) -> BlockParams:
        with torch.device("cpu"):
            return reckoned(**given)

    # RegNet's builder reckons its widths with tensors, which on the meta device have no values.
    with patch.object(BlockParams, "from_init_params", on_cpu):
        made: nn.Module = models.get_model(name, **{**HEADS.get(name, {}), **arguments})
    return made


def doors(program: Program) -> dict[str, Callable[[], nn.Module]]:
    """What makes the model: the program itself, and the class that it writes."""
    return {"live": program.module, "emitted": emitted_class(program)}


def tensors(output: Any) -> list[Tensor]:
    """The tensors of an output: one, or those of a tuple whose auxiliary heads may be silent."""
    return [output] if isinstance(output, Tensor) else [tensor for tensor in output if tensor is not None]


def on_meta(make: Callable[[], nn.Module]) -> list[tuple[str, tuple[int, ...], torch.dtype]]:
    """The keys of a model's state in their order, with shapes and dtypes, without memory for it."""
    with torch.device("meta"):
        state = make().state_dict()
    return [(key, tuple(tensor.shape), tensor.dtype) for key, tensor in state.items()]
