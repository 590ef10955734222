"""Normalisation layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from netspec.catalog.entry import Argument, Entry, Inferred, Rule
from netspec.catalog.rules import (
    Arguments,
    Inputs,
    floating,
    inferred,
    known,
    numel,
    one,
    refuse,
    rule,
    tensor,
    weighted,
)
from netspec.shapes import Dim, TensorType

_LAYOUTS = {1: "[N, C] or [N, C, L]", 2: "[N, C, H, W]", 3: "[N, C, D, H, W]"}


def _mixed(name: str, x: TensorType) -> None:
    """Refuse what a kernel with float32 weights cannot normalise: it takes half precision too, but not float64."""
    floating(name, x)
    if x.dtype == "float64":
        weighted(name, x)


def _batch_norm(count: int) -> Rule:
    name = f"BatchNorm{count}d"

    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        x = tensor(inputs, name)
        if len(x.shape) != count + 2 and not (count == 1 and len(x.shape) == 2):
            refuse(f"{name} takes {_LAYOUTS[count]}, and got {x}", help=_other_rank("BatchNorm", x))
        if arguments["affine"] or arguments["track_running_stats"]:
            _mixed(name, x)
        else:
            floating(name, x)
        channels = known(name, x.shape[1], "the number of channels")
        features = inferred(name, arguments, "num_features", channels, "channels")
        values = numel((x.shape[0], *x.shape[2:]))
        if not isinstance(values, Dim) and values <= 1:
            refuse(
                f"{name} needs more than one value per channel in training, and got {x}",
                help="leave the batch size symbolic (N), or normalise before the image is reduced to one place",
            )
        return one(x.shape, x.dtype, {"num_features": features})

    return infer


def _other_rank(family: str, x: TensorType) -> str | None:
    count = {2: 1, 3: 1, 4: 2, 5: 3}.get(len(x.shape))
    return f"{family}{count}d takes this shape" if count else None


def _affine(arguments: Mapping[str, Any]) -> Mapping[str, tuple[int, ...]]:
    features = arguments["num_features"]
    return {"weight": (features,), "bias": (features,)} if arguments["affine"] else {}


def _statistics(arguments: Mapping[str, Any]) -> Mapping[str, tuple[int, ...]]:
    if not arguments["track_running_stats"]:
        return {}
    features = arguments["num_features"]
    return {"running_mean": (features,), "running_var": (features,), "num_batches_tracked": ()}


def _features(doc: str) -> Argument:
    return Argument(name="num_features", kind="int", minimum=1, inferred=True, positional=True, doc=doc)


def _eps(default: float = 1e-5) -> Argument:
    return Argument(name="eps", kind="float", default=default, doc="added to the variance, against division by zero")


def _batch(count: int) -> Entry:
    name = f"BatchNorm{count}d"
    return Entry(
        name=name,
        category="layer",
        target=f"torch.nn.{name}",
        arguments=(
            _features("channels of the input"),
            _eps(),
            Argument(
                name="momentum",
                kind="float?",
                default=0.1,
                doc="weight of the newest batch in the running statistics; null averages over all batches",
            ),
            Argument(name="affine", kind="bool", default=True, doc="whether to learn a scale and a shift per channel"),
            Argument(
                name="track_running_stats",
                kind="bool",
                default=True,
                doc="whether to keep running statistics for evaluation",
            ),
        ),
        rule=_batch_norm(count),
        parameters=_affine,
        buffers=_statistics,
        role="norm",
        doc="Brings each channel to mean 0 and variance 1 over the batch.",
    )


ENTRIES: tuple[Entry, ...] = (*(_batch(count) for count in (1, 2, 3)),)
