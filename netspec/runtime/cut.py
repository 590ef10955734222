"""Tensors of which each process has a part, torch's `DTensor`s: the part, the whole, and cutting one as another is.

torch's module for them is imported by those alone that cut something.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


def is_cut(value: object) -> bool:
    """Whether a tensor is one that each process has a part of."""
    return hasattr(value, "full_tensor")


def own_part(value: Tensor) -> Tensor:
    """This process's part of a tensor that is cut, in the same memory; others are what they are."""
    found: Tensor = value.to_local() if is_cut(value) else value  # type: ignore[attr-defined]
    return found


def whole(value: Tensor) -> Tensor:
    """The whole of a tensor that is cut, which all processes ask for together; others are what they are."""
    found: Tensor = value.full_tensor() if is_cut(value) else value  # type: ignore[attr-defined]
    return found


def cut_like(value: Any, other: Tensor) -> Any:
    """A value cut as `other` is, where they are tensors of one shape and the other is cut; else itself."""
    if not isinstance(value, Tensor) or not is_cut(other) or value.shape != other.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    to: Any = other
    return distribute_tensor(value.to(other.device), to.device_mesh, to.placements)


def let_go(model: nn.Module) -> None:
    """Have the blocks of a cut model let go of the whole weights that a pass without a backward one has left there."""
    for module in model.modules():
        if hasattr(module, "reshard"):
            module.reshard()  # type: ignore[operator]
