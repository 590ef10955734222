"""Functions that make one tensor of several, and several of one."""

from __future__ import annotations

from netspec.catalog.entry import Argument, Entry, Inferred, Port
from netspec.catalog.rules import Arguments, Inputs, dimension, one, promoted, refuse, rule
from netspec.shapes import ListType, TensorType

TENSORS = (Port(name="tensors", variadic=True),)


def tensors_of(name: str, inputs: Inputs) -> tuple[TensorType, ...]:
    """The tensors at a variadic port; a list given as the only input counts as its parts."""
    parts: list[TensorType] = []
    for item in inputs["tensors"]:
        parts.extend(item.items if isinstance(item, ListType) else (item,))
    if not parts:
        refuse(f"{name} needs at least one tensor", ports=("tensors",))
    return tuple(parts)


def joined_dtype(parts: tuple[TensorType, ...]) -> str:
    result = parts[0]
    for part in parts[1:]:
        result = TensorType((), promoted(TensorType((), result.dtype), TensorType((), part.dtype)))
    return result.dtype


@rule
def _cat(arguments: Arguments, inputs: Inputs) -> Inferred:
    parts = tensors_of("cat", inputs)
    first = parts[0]
    if any(not part.shape for part in parts):
        refuse("cat takes tensors with dimensions, and got one without", help="use stack", ports=("tensors",))
    for position, part in enumerate(parts):
        if len(part.shape) != len(first.shape):
            refuse(
                f"cat takes tensors of one rank: input 0 is {first} and input {position} is {part}",
                ports=("tensors",),
            )
    dim = dimension("cat", arguments["dim"], len(first.shape), port="tensors")
    for position, part in enumerate(parts):
        for axis, (a, b) in enumerate(zip(first.shape, part.shape, strict=True)):
            if axis != dim and a != b:
                refuse(
                    f"cat along dimension {arguments['dim']} needs the other sizes to be equal: "
                    f"dimension {axis} is {a} in input 0 {first} and {b} in input {position} {part}",
                    help="crop, pad or resize one of them first",
                    ports=("tensors",),
                    code="NS403",
                )
    return one(
        (*first.shape[:dim], sum(part.shape[dim] for part in parts), *first.shape[dim + 1 :]), joined_dtype(parts)
    )


ENTRIES: tuple[Entry, ...] = (
    Entry(
        name="cat",
        category="function",
        target="torch.cat",
        arguments=(Argument(name="dim", kind="int", default=0, doc="the dimension along which they are put together"),),
        inputs=TENSORS,
        rule=_cat,
        role="merge",
        doc="Puts tensors together along a dimension that they have.",
    ),
)
