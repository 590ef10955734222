"""What an optimizer of torch keeps for each parameter, beside the parameter and its gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

ASSUMED = "AdamW"
"""What is counted where a spec states no optimizer."""


def state_size(optimizer: str, arguments: Mapping[str, Any], shape: Sequence[int]) -> int | None:
    """Bytes of the state of one float32 parameter; None where it grows with the steps (LBFGS).

    torch counts the steps of each parameter in a tensor of its own, of four bytes.
    """
    count = prod(shape)
    step = 4
    match optimizer:
        case "SGD":
            return 4 * count if arguments.get("momentum") else 0
        case "Adam" | "AdamW":
            return 4 * count * (3 if arguments.get("amsgrad") else 2) + step
        case "Adamax" | "RAdam" | "Adadelta":
            return 8 * count + step
        case "NAdam":
            return 8 * count + 2 * step
        case "RMSprop":
            return 4 * count * (1 + bool(arguments.get("momentum")) + bool(arguments.get("centered"))) + step
        case "Adagrad":
            return 4 * count + step
        case "Rprop":
            return 8 * count + step
        case "ASGD":
            return 4 * count + 3 * step
        case "Adafactor":
            if len(shape) < 2:
                return 4 * count + step
            return 4 * (prod(shape[:-1]) + prod(shape[:-2]) * shape[-1]) + step
        case "Muon":
            return 4 * count
        case "SparseAdam":
            return 8 * count
    return None
