"""The shape of an elementwise operation on two shapes."""

from __future__ import annotations

from netspec.shapes import Problem, Size, TensorType


def broadcast(a: tuple[Size, ...], b: tuple[Size, ...]) -> tuple[Size, ...] | Problem:
    """The shape of an elementwise operation on two shapes, by torch's broadcasting."""
    length = max(len(a), len(b))
    sizes: list[Size] = []
    for position in range(length):
        left = a[position - length] if length - position <= len(a) else None
        right = b[position - length] if length - position <= len(b) else None
        if left is None:
            assert right is not None
            sizes.append(right)
        elif right is None or left == right or (isinstance(right, int) and right == 1):
            sizes.append(left)
        elif isinstance(left, int) and left == 1:
            sizes.append(right)
        else:
            return Problem(
                f"{TensorType(a)} and {TensorType(b)} do not go together: dimension {position - length} "
                f"is {left} in the first and {right} in the second",
                help="sizes must be equal, or 1 on one side, counted from the last dimension",
                code="NS403",
            )
    return tuple(sizes)
