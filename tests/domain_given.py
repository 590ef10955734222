"""The declared domain of the catalog's oracle: layers that are given modules, classes of layers and functions."""

from __future__ import annotations

from random import Random
from typing import Any

from domain_base import ARGUMENTS, GUESSES, INPUTS, Draw, Inputs, images, ranks, stated
from domain_sequences import attention

from netspec.catalog import GivenClass, lookup

NORMS = ("LayerNorm", "LayerNorm", "RMSNorm", "Linear", "Identity", "GRU", "Flatten")
"""What is drawn for a module that may be any."""

for _name, _extra in (("TransformerEncoder", 1), ("TransformerDecoder", 2)):
    INPUTS[_name] = attention(_extra)
    ARGUMENTS[_name] = {
        "num_layers": lambda random, inputs: random.choice((1, 1, 2)),
        "is_causal": lambda random, inputs: random.choice((None, None, False, False, True)),
        "tgt_is_causal": lambda random, inputs: random.choice((None, None, False, False, True)),
        "memory_is_causal": lambda random, inputs: random.random() < 0.05,
    }


def given(*choices: tuple[str, dict[str, Any]] | None) -> Draw:
    """A class of layers, with what is said of it beforehand; None: null."""

    def draw(random: Random, inputs: Inputs) -> GivenClass | None:
        chosen = random.choice(choices)
        if chosen is None:
            return None
        entry = lookup(chosen[0])
        assert entry is not None
        return GivenClass(entry=entry, arguments=chosen[1])

    return draw


ACTIVATIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("ReLU", {}),
    ("SiLU", {}),
    ("LeakyReLU", {"negative_slope": 0.2}),
    ("Hardswish", {}),
    ("Sigmoid", {}),
    ("GELU", {"approximate": "tanh"}),
    ("PReLU", {}),
    ("Identity", {}),
    ("Threshold", {}),
)


def norms(count: int) -> tuple[tuple[str, dict[str, Any]] | None, ...]:
    own: tuple[tuple[str, dict[str, Any]], ...] = (("BatchNorm1d", {"eps": 0.001}), ("LayerNorm", {}))
    if count:
        own = ((f"BatchNorm{count}d", {}), (f"BatchNorm{count}d", {"affine": False}), (f"InstanceNorm{count}d", {}))
    others = (("GroupNorm", {"num_groups": 2}), ("GroupNorm", {}), ("Dropout", {}), ("LayerNorm", {}))
    return (*own, *others, (f"BatchNorm{count or 1}d", {"num_features": 4}), None)


for _count in (2, 3):
    _name = f"Conv{_count}dNormActivation"
    INPUTS[_name] = images(_count)
    ARGUMENTS[_name] = {
        "out_channels": lambda random, inputs: random.choice((1, 2, 4, 6)),
        "in_channels": stated(-_count - 1),
        "kernel_size": ARGUMENTS.get(f"Conv{_count}d", {}).get("kernel_size", lambda r, i: r.choice((1, 2, 3))),
        "groups": lambda random, inputs: random.choice((1, 1, 1, 2)),
        "norm_layer": given(*norms(_count)),
        "activation_layer": given(*ACTIVATIONS, None),
        "inplace": lambda random, inputs: random.choice((None, None, True, False)),
    }
    GUESSES[_name] = {"in_channels": -_count - 1}
INPUTS["MLP"] = ranks(1, 2, 2, 3)
ARGUMENTS["MLP"] = {
    "in_channels": stated(-1),
    "hidden_channels": lambda random, inputs: [random.choice((1, 2, 4)) for _ in range(random.choice((1, 2, 2, 3)))],
    "norm_layer": given(*norms(0)),
    "activation_layer": given(*ACTIVATIONS, None),
    "inplace": lambda random, inputs: random.choice((None, None, None, False, True)),
    "dropout": lambda random, inputs: random.choice((0.0, 0.0, 0.5)),
}
GUESSES["MLP"] = {"in_channels": -1}
INPUTS["SqueezeExcitation"] = images(2)
ARGUMENTS["SqueezeExcitation"] = {
    "input_channels": stated(-3),
    "squeeze_channels": lambda random, inputs: random.choice((1, 2, 3)),
    "activation": given(*ACTIVATIONS, ("Flatten", {})),
    "scale_activation": given(*ACTIVATIONS, ("Flatten", {})),
}
GUESSES["SqueezeExcitation"] = {"input_channels": -3}
