"""Tensors as the memory sees them: what holds the numbers, in what order the sizes lie, whether gradients flow."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import prod
from typing import Final

from netspec.shapes import Dim, TensorType

WIDTH: Final = {
    "bool": 1,
    "uint8": 1,
    "int8": 1,
    "int16": 2,
    "int32": 4,
    "int64": 8,
    "float16": 2,
    "bfloat16": 2,
    "float32": 4,
    "float64": 8,
}
"""Bytes of one number."""


@dataclass(slots=True, eq=False)
class Storage:
    """A stretch of memory that one tensor or several views of it hold. `size` is in bytes, None where not known."""

    size: int | None
    lasting: bool = False
    """Whether it belongs to the model: a parameter or a buffer."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Held:
    """A tensor at run time. `order` says which size lies outermost, which next; None where a view leaves gaps."""

    type: TensorType
    storage: Storage
    grad: bool = False
    order: tuple[int, ...] | None = field(default=None)

    @property
    def contiguous(self) -> bool:
        return self.order == tuple(range(len(self.type.shape)))


def numel(shape: Iterable[object]) -> int | None:
    """How many numbers a shape holds; None where a size is not known."""
    sizes = list(shape)
    return None if any(isinstance(size, Dim) for size in sizes) else prod(int(size) for size in sizes)  # type: ignore[call-overload]


def size_of(type_: TensorType) -> int | None:
    """A tensor's bytes."""
    count = numel(type_.shape)
    return None if count is None else count * WIDTH[type_.dtype]


def straight(type_: TensorType) -> tuple[int, ...]:
    """The order of a tensor that lies as it is written."""
    return tuple(range(len(type_.shape)))
