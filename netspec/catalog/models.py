"""Library models used whole: torchvision's classifiers by their builders' names, with the weights that each has.

They have no shape rule: `netspec.model_calls` has them run without storage. The table is checked in, so that a spec can
be checked without torchvision; a test holds it against the installed one.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from netspec.catalog.entry import Argument, Entry, Port

LIBRARY: Final = "torchvision"
FILES: Final = (".safetensors", ".pt", ".pth")
"""The endings of files that `weights` may name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelEntry(Entry):
    weights: tuple[str, ...]
    """The names of its weights enum, `DEFAULT` left out."""
    heads: bool = False
    """It has auxiliary heads, and gives a tuple in training where it keeps them."""
    keeps_heads: bool = False
    """With weights by name it cannot do without them."""


_V1: Final = ("IMAGENET1K_V1",)
_V2: Final = ("IMAGENET1K_V1", "IMAGENET1K_V2")
_SWAG: Final = ("IMAGENET1K_SWAG_E2E_V1", "IMAGENET1K_SWAG_LINEAR_V1")

_WEIGHTS: Final = MappingProxyType(
    {
        **dict.fromkeys(("alexnet", "convnext_base", "convnext_large", "convnext_small", "convnext_tiny"), _V1),
        **dict.fromkeys(("densenet121", "densenet161", "densenet169", "densenet201"), _V1),
        "efficientnet_b0": _V1,
        "efficientnet_b1": _V2,
        **{f"efficientnet_b{size}": _V1 for size in range(2, 8)},
        **dict.fromkeys(("efficientnet_v2_l", "efficientnet_v2_m", "efficientnet_v2_s"), _V1),
        **dict.fromkeys(("googlenet", "inception_v3", "maxvit_t"), _V1),
        **dict.fromkeys(("mnasnet0_5", "mnasnet0_75", "mnasnet1_0", "mnasnet1_3"), _V1),
        **dict.fromkeys(("mobilenet_v2", "mobilenet_v3_large"), _V2),
        "mobilenet_v3_small": _V1,
        **{f"regnet_x_{size}": _V2 for size in ("16gf", "1_6gf", "32gf", "3_2gf", "400mf", "800mf", "8gf")},
        "regnet_y_128gf": _SWAG,
        **{f"regnet_y_{size}": _V2 for size in ("1_6gf", "3_2gf", "400mf", "800mf", "8gf")},
        **{f"regnet_y_{size}": (*_V2, *_SWAG) for size in ("16gf", "32gf")},
        **dict.fromkeys(("resnet18", "resnet34", "resnext101_64x4d"), _V1),
        **dict.fromkeys(("resnet50", "resnet101", "resnet152", "resnext50_32x4d", "resnext101_32x8d"), _V2),
        **{f"shufflenet_v2_x{size}": _V1 for size in ("0_5", "1_0", "1_5", "2_0")},
        **dict.fromkeys(("squeezenet1_0", "squeezenet1_1"), _V1),
        **{f"swin_{size}": _V1 for size in ("t", "s", "b", "v2_t", "v2_s", "v2_b")},
        **{f"vgg{depth}{norm}": _V1 for depth in (11, 13, 16, 19) for norm in ("", "_bn")},
        "vgg16": (*_V1, "IMAGENET1K_FEATURES"),
        **dict.fromkeys(("vit_b_16", "vit_l_16"), (*_V1, *_SWAG)),
        **dict.fromkeys(("vit_b_32", "vit_l_32"), _V1),
        "vit_h_14": _SWAG,
        **dict.fromkeys(("wide_resnet50_2", "wide_resnet101_2"), _V2),
    }
)

_DROPOUT: Final = Argument(
    name="dropout",
    kind="float",
    default=None,
    minimum=0,
    maximum=1,
    doc="how much of the head is dropped in training; left out: the model's own",
)
_ATTENTION: Final = Argument(
    name="attention_dropout", kind="float", default=0.0, minimum=0, maximum=1, doc="how much attention is dropped"
)
_DEPTH: Final = Argument(
    name="stochastic_depth_prob",
    kind="float",
    default=None,
    minimum=0,
    maximum=1,
    doc="how probably a block is skipped in training; left out: the model's own",
)
_ZERO: Final = Argument(
    name="zero_init_residual", kind="bool", default=False, doc="whether each block starts as the identity"
)
_HEADS: Final = (
    Argument(
        name="aux_logits",
        kind="bool",
        default=False,
        doc="the auxiliary heads, which a spec leaves out: with them it gives a tuple in training",
    ),
    Argument(
        name="transform_input",
        kind="bool",
        default=None,
        doc="whether to turn images that are normalised for ImageNet into its own range; left out: only with weights",
    ),
    Argument(name="init_weights", kind="bool", default=True, doc="whether the weights start truncated normal"),
)

_FAMILIES: Final = MappingProxyType(
    {
        "alexnet": (_DROPOUT,),
        "convnext": (_DEPTH,),
        "densenet": (
            Argument(name="drop_rate", kind="float", default=0, minimum=0, maximum=1, doc="dropout in each layer"),
            Argument(
                name="memory_efficient", kind="bool", default=False, doc="whether to compute again what is not kept"
            ),
        ),
        "efficientnet": (_DROPOUT, _DEPTH),
        "googlenet": (_DROPOUT, *_HEADS),
        "inception": (_DROPOUT, *_HEADS),
        "maxvit": (_ATTENTION,),
        "mnasnet": (_DROPOUT,),
        "mobilenet": (_DROPOUT,),
        "resnet": (_ZERO,),
        "resnext": (_ZERO,),
        "wide": (_ZERO,),
        "squeezenet": (_DROPOUT,),
        "swin": (_DROPOUT, _ATTENTION),
        "vgg": (_DROPOUT, Argument(name="init_weights", kind="bool", default=True, doc="whether they start as He's")),
        "vit": (_DROPOUT, _ATTENTION),
    }
)
"""The arguments of the model's class that its builder passes on, by the first letters of its name."""


def _entry(name: str, weights: tuple[str, ...]) -> ModelEntry:
    family = next((more for prefix, more in _FAMILIES.items() if name.startswith(prefix)), ())
    listed = ", ".join(f"`{one}`" for one in weights)
    return ModelEntry(
        name=f"{LIBRARY}.{name}",
        category="model",
        target=f"torchvision.models.{name}",
        arguments=(
            Argument(
                name="weights",
                kind="str?",
                default=None,
                doc=f"{listed}, `default`, or a file (`.safetensors`, `.pt`); null: random ones",
            ),
            Argument(name="num_classes", kind="int", default=1000, minimum=1, doc="scores that it gives"),
            *family,
        ),
        inputs=(Port(name="x"),),
        doc=f"torchvision's {name}, whole: images [N, 3, H, W] to scores [N, num_classes].",
        weights=weights,
        heads=name in ("googlenet", "inception_v3"),
        keeps_heads=name == "inception_v3",
    )


ENTRIES: tuple[ModelEntry, ...] = tuple(_entry(name, _WEIGHTS[name]) for name in sorted(_WEIGHTS))
