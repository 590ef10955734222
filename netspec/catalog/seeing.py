"""The words for what a run shows of itself: kinds of hooks, maps, trackers."""

from __future__ import annotations

from typing import Final

TRACKERS: Final = ("wandb", "mlflow")
"""Who else may be told of a run. Each is the name of its client and of netspec's extra that brings it."""
METHODS: Final = ("gradcam", "cam")
WATCHED: Final = {
    "activations": "what a layer gives: mean, deviation, share of zeros, histogram (a forward hook)",
    "inputs": "what comes into a layer, likewise (a forward-pre hook)",
    "gradients": "the gradient that comes back to what a layer gave, likewise (a backward hook)",
    "parameters": "the gradient of a parameter as it arrives, before it is clipped (a tensor hook)",
    "feature_maps": "the channels that a layer gives for the first image of the batch, as a grid",
}
"""The kinds of `train.monitor` that take globs. `parameters` takes names of weights, the others paths of layers."""
