"""The shapes that stand as comments in `forward`."""

from __future__ import annotations

from collections.abc import Sequence

from netspec.catalog.entry import TypeLike
from netspec.expressions import Literal, to_python
from netspec.origins import Opaque, origin_of
from netspec.program import Instance
from netspec.shapes import Dim, Size, TensorType

LONGEST = 14
"""Characters that the text of a size may have; a longer one says less than it takes."""


def shape_comment(types: Sequence[TypeLike], instance: Instance, shared: bool) -> str:
    """The shape in numbers where they are the same in every use, else in the block's own names; empty where neither
    will do. `shared` says whether the class serves several uses.
    """
    shapes = [type_.shape for type_ in types if isinstance(type_, TensorType)]
    if len(shapes) < len(types) or len({len(shape) for shape in shapes}) != 1:
        return ""
    words = [_word([shape[axis] for shape in shapes], instance, shared) for axis in range(len(shapes[0]))]
    if any(word is None or len(word) > LONGEST or ".shape[" in word or "loop " in word for word in words):
        return ""
    return f"[{', '.join(word or '' for word in words)}]"


def _word(sizes: list[Size], instance: Instance, shared: bool) -> str | None:
    first = sizes[0]
    if shared and isinstance(first, Dim):
        return _symbol_name(sizes, instance)
    if shared and not instance.group and instance.block.inputs:
        origins = {origin_of(size) for size in sizes if isinstance(size, int)}
        origin = origins.pop()
        if origins or isinstance(origin, Opaque):
            return None
        return str(origin.value) if isinstance(origin, Literal) else to_python(origin)
    return str(first) if len(set(sizes)) == 1 else None


def _symbol_name(sizes: list[Size], instance: Instance) -> str | None:
    """The block's own name for a size; the sizes of one use say nothing of the others."""
    first = sizes[0]
    for name, value in instance.scope.items():
        if isinstance(value, Dim) and value == first and name.isidentifier():
            return name
    return str(first) if len(set(sizes)) == 1 else None
