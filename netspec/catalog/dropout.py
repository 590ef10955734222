"""Dropout: the modules of torch.nn and their functions, which take `training`."""

from __future__ import annotations

from netspec.catalog.activation import INPLACE
from netspec.catalog.conv import AXES
from netspec.catalog.entry import Argument, Entry, Inferred, Rule
from netspec.catalog.rules import FLOATING, Arguments, Inputs, accepting, one, refuse, rule, tensor

_P = Argument(
    name="p",
    kind="float",
    default=0.5,
    minimum=0,
    maximum=1,
    positional=True,
    doc="probability that a value is set to zero",
)


def _dropout(name: str) -> Rule:
    ranks = {"1d": (2, 3), "2d": (3, 4), "3d": (4, 5)}.get(name[-2:])

    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        x = tensor(inputs, name)
        if ranks is not None and len(x.shape) not in ranks:
            axes = AXES[ranks[0] - 1]
            refuse(
                f"{name} takes [N, C, {axes}] or [C, {axes}], and got {x}",
                help="use Dropout, which works on single values",
                code="NS401" if "1d" in name else "NS406",  # torch only warns in two and three dimensions
            )
        if 0 < arguments["p"] < 1:
            accepting(name, x, FLOATING)
            if "eature" in name and len(x.shape) < 2:
                refuse(f"{name} takes [N, C, ...], and got {x}", help="use Dropout")
        return one(x.shape, x.dtype)

    return infer


_ROWS = (
    ("Dropout", "dropout", "Sets single values to zero at random in training and scales up the others."),
    ("Dropout1d", "dropout1d", "Sets whole channels of sequences to zero at random in training."),
    ("Dropout2d", "dropout2d", "Sets whole channels of images to zero at random in training."),
    ("Dropout3d", "dropout3d", "Sets whole channels of volumes to zero at random in training."),
    ("AlphaDropout", "alpha_dropout", "Dropout that keeps mean and variance; goes with SELU."),
    ("FeatureAlphaDropout", "feature_alpha_dropout", "AlphaDropout of whole channels."),
)

ENTRIES: tuple[Entry, ...] = tuple(
    Entry(
        name=name,
        category="function" if name == function else "layer",
        target=f"torch.nn.functional.{function}" if name == function else f"torch.nn.{layer}",
        arguments=(_P, INPLACE),
        rule=_dropout(name),
        role="dropout",
        training=name == function,
        doc=doc,
    )
    for layer, function, doc in _ROWS
    for name in (layer, function)
)
