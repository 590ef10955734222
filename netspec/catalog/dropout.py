"""Dropout: the modules of torch.nn and their functions, which take `training`."""

from __future__ import annotations

from netspec.catalog.activation import INPLACE
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
    channelwise = name not in ("Dropout", "dropout", "AlphaDropout", "alpha_dropout")

    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        x = tensor(inputs, name)
        if name in ("Dropout1d", "dropout1d") and len(x.shape) not in (2, 3):
            refuse(f"{name} takes [N, C, L] or [C, L], and got {x}", help="use Dropout, or Dropout2d for images")
        if 0 < arguments["p"] < 1:
            accepting(name, x, FLOATING)
            if channelwise and len(x.shape) < 2:
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
