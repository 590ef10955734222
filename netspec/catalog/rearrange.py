"""Functions that rearrange values after the shape of another tensor, along a diagonal, or side by side."""

from __future__ import annotations

from typing import Any

from netspec.broadcast import broadcast
from netspec.catalog.entry import Argument, Entry, Inferred, Port, Role, Rule
from netspec.catalog.merge import TENSORS, joined_dtype, tensors_of
from netspec.catalog.pointwise import TWO
from netspec.catalog.reshape import distinct
from netspec.catalog.rules import (
    Arguments,
    Inputs,
    dimension,
    known,
    many,
    numel,
    one,
    plural,
    refuse,
    rule,
    surely_below,
    tensor,
)
from netspec.shapes import Dim, Problem, Size, TensorType, provably_less


@rule
def _reshape_as(arguments: Arguments, inputs: Inputs) -> Inferred:
    x, other = tensor(inputs, "reshape_as"), tensor(inputs, "reshape_as", "other")
    if numel(x.shape) != numel(other.shape):
        refuse(
            f"reshape_as: {x} holds {numel(x.shape)} values, and {other} holds {numel(other.shape)}",
            ports=("input", "other"),
            code="NS403",
        )
    return one(other.shape, x.dtype)


def _stretched(name: str, x: TensorType, shape: tuple[Size, ...], **blame: Any) -> Inferred:
    wide = broadcast(x.shape, shape)
    if isinstance(wide, Problem) or wide != shape or len(x.shape) > len(shape):
        refuse(
            f"{name} stretches dimensions of size 1, and {x} does not stretch to {TensorType(shape)}",
            code="NS403",
            **blame,
        )
    return one(shape, x.dtype)


@rule
def _expand_as(arguments: Arguments, inputs: Inputs) -> Inferred:
    x, other = tensor(inputs, "expand_as"), tensor(inputs, "expand_as", "other")
    return _stretched("expand_as", x, other.shape, ports=("input", "other"))


@rule
def _broadcast_to(arguments: Arguments, inputs: Inputs) -> Inferred:
    x = tensor(inputs, "broadcast_to")
    return _stretched("broadcast_to", x, tuple(arguments["size"]), argument="size")


@rule
def _tile(arguments: Arguments, inputs: Inputs) -> Inferred:
    x, times = tensor(inputs, "tile"), tuple(arguments["dims"])
    rank = max(len(x.shape), len(times))
    sizes = (1,) * (rank - len(x.shape)) + x.shape
    repeats = (1,) * (rank - len(times)) + times
    return one((size * count for size, count in zip(sizes, repeats, strict=True)), x.dtype)


@rule
def _swapaxes(arguments: Arguments, inputs: Inputs) -> Inferred:
    x = tensor(inputs, "swapaxes")
    sizes = list(x.shape)
    first = dimension("swapaxes", arguments["axis0"], len(sizes), "axis0")
    second = dimension("swapaxes", arguments["axis1"], len(sizes), "axis1")
    if sizes:
        sizes[first], sizes[second] = sizes[second], sizes[first]
    return one(sizes, x.dtype)


def _dimension_of(name: str, arguments: Arguments, inputs: Inputs) -> tuple[TensorType, int]:
    x = tensor(inputs, name)
    if not x.shape:
        refuse(f"{name} cuts a dimension, and got a tensor without dimensions")
    return x, dimension(name, arguments["dim"], len(x.shape))


@rule
def _narrow(arguments: Arguments, inputs: Inputs) -> Inferred:
    x, axis = _dimension_of("narrow", arguments, inputs)
    start, length, size = arguments["start"], arguments["length"], x.shape[axis]
    first = start + size if not isinstance(start, Dim) and start < 0 else start
    if surely_below(first, 0) or provably_less(size, first + length):
        refuse(
            f"narrow: {length} from {start} on is not within {size} values of dimension {arguments['dim']}",
            argument="length",
            code="NS404",
        )
    return one((*x.shape[:axis], length, *x.shape[axis + 1 :]), x.dtype)


@rule
def _select(arguments: Arguments, inputs: Inputs) -> Inferred:
    x, axis = _dimension_of("select", arguments, inputs)
    index, size = arguments["index"], x.shape[axis]
    if not isinstance(size, Dim) and not -size <= index < size:
        refuse(
            f"select: there is no entry {index} of {plural(size, 'value')} in dimension {arguments['dim']}",
            argument="index",
            code="NS404",
        )
    return one((*x.shape[:axis], *x.shape[axis + 1 :]), x.dtype)


def _two_dims(name: str, rank: int, dims: tuple[int, int], names: tuple[str, str]) -> tuple[int, int]:
    first, second = (dimension(name, dim, rank, named) for dim, named in zip(dims, names, strict=True))
    if first == second:
        refuse(f"{name} takes two dimensions, and both are {first}", argument=names[1], code="NS404")
    return first, second


def _on_diagonal(rows: Size, columns: Size, offset: int, name: str) -> Size:
    """How many values stand on a diagonal."""
    below, beside = (rows + min(offset, 0), columns - max(offset, 0))
    if below == beside or (not isinstance(below, Dim) and below == 0) or provably_less(below, beside):
        length = below
    elif provably_less(beside, below):
        length = beside
    else:
        length = min(known(name, below, "the number of rows"), known(name, beside, "the number of columns"))
    return length if isinstance(length, Dim) else max(length, 0)


@rule
def _diagonal(arguments: Arguments, inputs: Inputs) -> Inferred:
    x = tensor(inputs, "diagonal")
    if len(x.shape) < 2:
        refuse(f"diagonal takes a tensor of two dimensions or more, and got {x}")
    first, second = _two_dims("diagonal", len(x.shape), (arguments["dim1"], arguments["dim2"]), ("dim1", "dim2"))
    length = _on_diagonal(x.shape[first], x.shape[second], arguments["offset"], "diagonal")
    if length == 0:
        refuse(f"diagonal {arguments['offset']} of {x} is empty", argument="offset", code="NS406")
    rest = [size for axis, size in enumerate(x.shape) if axis not in (first, second)]
    return one((*rest, length), x.dtype)


@rule
def _diag(arguments: Arguments, inputs: Inputs) -> Inferred:
    x, offset = tensor(inputs, "diag"), arguments["diagonal"]
    if len(x.shape) == 1:
        side = x.shape[0] + abs(offset) if offset else x.shape[0]
        return one((side, side), x.dtype)
    if len(x.shape) != 2:
        refuse(f"diag takes a vector or a matrix, and got {x}")
    length = _on_diagonal(*x.shape, offset, "diag")
    if length == 0:
        refuse(f"diagonal {offset} of {x} is empty", argument="diagonal", code="NS406")
    return one((length,), x.dtype)


@rule
def _diag_embed(arguments: Arguments, inputs: Inputs) -> Inferred:
    x = tensor(inputs, "diag_embed")
    if not x.shape:
        refuse("diag_embed takes a tensor with dimensions, and got one without")
    rank = len(x.shape) + 1
    first, second = _two_dims("diag_embed", rank, (arguments["dim1"], arguments["dim2"]), ("dim1", "dim2"))
    side = x.shape[-1] + abs(arguments["offset"]) if arguments["offset"] else x.shape[-1]
    rest = iter(x.shape[:-1])
    return one((side if axis in (first, second) else next(rest) for axis in range(rank)), x.dtype)


@rule
def _rot90(arguments: Arguments, inputs: Inputs) -> Inferred:
    x, dims = tensor(inputs, "rot90"), arguments["dims"]
    if len(dims) != 2:
        refuse(f"rot90 turns in the plane of two dimensions, and got {len(dims)}", argument="dims", code="NS404")
    if len(x.shape) < 2:
        refuse(f"rot90 takes a tensor of two dimensions or more, and got {x}")
    first, second = distinct("rot90", dims, len(x.shape), "dims")
    sizes = list(x.shape)
    if arguments["k"] % 2:
        sizes[first], sizes[second] = sizes[second], sizes[first]
    return one(sizes, x.dtype)


def _flipped(name: str, rank: int) -> Rule:
    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        x = tensor(inputs, name)
        if len(x.shape) < rank:
            refuse(f"{name} takes a tensor of {plural(rank, 'dimension')} or more, and got {x}")
        return one(x.shape, x.dtype)

    return infer


@rule
def _ravel(arguments: Arguments, inputs: Inputs) -> Inferred:
    x = tensor(inputs, "ravel")
    return one((numel(x.shape),), x.dtype)


@rule
def _same(arguments: Arguments, inputs: Inputs) -> Inferred:
    x = tensor(inputs, "clone")
    return one(x.shape, x.dtype)


def _stacked(name: str, least: int, along: int) -> Rule:
    """Tensors brought to a least rank, then put together along a dimension."""

    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        parts = tensors_of(name, inputs)
        shapes = [_at_least(part.shape, least) for part in parts]
        axis = 0 if name == "hstack" and len(shapes[0]) == 1 else along
        for place, shape in enumerate(shapes):
            fits = len(shape) == len(shapes[0]) and all(
                a == b for i, (a, b) in enumerate(zip(shape, shapes[0], strict=True)) if i != axis
            )
            if not fits:
                refuse(
                    f"{name} puts tensors together along dimension {axis}, and input 0 is {parts[0]} "
                    f"and input {place} is {parts[place]}",
                    ports=("tensors",),
                    code="NS403",
                )
        width: Size = sum((shape[axis] for shape in shapes[1:]), start=shapes[0][axis])
        return one((*shapes[0][:axis], width, *shapes[0][axis + 1 :]), joined_dtype(parts))

    return infer


def _at_least(shape: tuple[Size, ...], rank: int) -> tuple[Size, ...]:
    if rank == 3 and len(shape) < 3:
        return (*((1,) if len(shape) < 2 else ()), *(shape or (1,)), 1)
    return shape if len(shape) >= rank else (*(1,) * (rank - len(shape)), *shape)


@rule
def _meshgrid(arguments: Arguments, inputs: Inputs) -> Inferred:
    parts = tensors_of("meshgrid", inputs)
    for place, part in enumerate(parts):
        if len(part.shape) > 1:
            refuse(f"meshgrid takes vectors, and input {place} is {part}", ports=("tensors",))
        if part.dtype != parts[0].dtype:
            refuse(
                f"meshgrid takes tensors of one dtype, and got {parts[0].dtype} and {part.dtype}",
                ports=("tensors",),
                code="NS402",
            )
    sizes: list[Size] = [part.shape[0] if part.shape else 1 for part in parts]
    if arguments["indexing"] == "xy" and len(sizes) > 1:
        sizes[:2] = reversed(sizes[:2])
    return many([TensorType(tuple(sizes), parts[0].dtype)] * len(parts))


def _function(
    name: str,
    rule: Rule,
    doc: str,
    arguments: tuple[Argument, ...] = (),
    inputs: tuple[Port, ...] = (Port(name="input"),),
    home: str = "torch.Tensor",
    role: Role = "reshape",
) -> Entry:
    return Entry(
        name=name,
        category="function",
        target=f"{home}.{name}",
        arguments=arguments,
        inputs=inputs,
        rule=rule,
        role=role,
        doc=doc,
    )


def _int(name: str, doc: str, default: int | None = None, kind: str = "int", **more: Any) -> Argument:
    if default is not None:
        more["default"] = default
    return Argument(name=name, kind=kind, doc=doc, positional=True, **more)


_CUT = _int("dim", "the dimension that is cut")

ENTRIES: tuple[Entry, ...] = (
    _function("reshape_as", _reshape_as, "Gives the values the shape of another tensor.", inputs=TWO),
    _function("expand_as", _expand_as, "Stretches dimensions of size 1 to those of another tensor.", inputs=TWO),
    _function(
        "broadcast_to",
        _broadcast_to,
        "Stretches dimensions of size 1, and adds some in front.",
        (Argument(name="size", kind="sizes", minimum=1, positional=True, doc="the new sizes"),),
    ),
    _function(
        "tile",
        _tile,
        "Repeats the tensor along its last dimensions.",
        (Argument(name="dims", kind="ints", minimum=1, positional=True, doc="how many times, for each of them"),),
    ),
    _function(
        "swapaxes", _swapaxes, "Swaps two dimensions.", (_int("axis0", "one dimension"), _int("axis1", "the other"))
    ),
    _function(
        "narrow",
        _narrow,
        "Keeps a stretch of a dimension.",
        (_CUT, _int("start", "where it begins"), _int("length", "how long it is", kind="size", minimum=1)),
        home="torch",
    ),
    _function("select", _select, "Takes one entry of a dimension.", (_CUT, _int("index", "which one"))),
    _function(
        "diagonal",
        _diagonal,
        "The diagonal of matrices.",
        (
            _int("offset", "which diagonal: 0 is the main one", 0),
            _int("dim1", "the dimension of the rows", 0),
            _int("dim2", "the dimension of the columns", 1),
        ),
    ),
    _function(
        "diag",
        _diag,
        "The diagonal of a matrix, or a matrix with this diagonal.",
        (_int("diagonal", "which diagonal: 0 is the main one", 0),),
    ),
    _function(
        "diag_embed",
        _diag_embed,
        "Matrices with these diagonals.",
        (
            _int("offset", "which diagonal: 0 is the main one", 0),
            _int("dim1", "the dimension of the rows", -2),
            _int("dim2", "the dimension of the columns", -1),
        ),
    ),
    _function(
        "rot90",
        _rot90,
        "Turns by right angles.",
        (
            _int("k", "how many times", 1),
            Argument(name="dims", kind="ints", default=(0, 1), doc="the plane of two dimensions in which it turns"),
        ),
        home="torch",
    ),
    _function("fliplr", _flipped("fliplr", 2), "Reverses the order of columns, dimension 1."),
    _function("flipud", _flipped("flipud", 1), "Reverses the order of rows, dimension 0."),
    _function("ravel", _ravel, "All values in a row."),
    _function("clone", _same, "A copy.", role=""),
    _function("hstack", _stacked("hstack", 1, 1), "Puts tensors side by side.", (), TENSORS, "torch", "merge"),
    _function("vstack", _stacked("vstack", 2, 0), "Puts tensors below each other.", (), TENSORS, "torch", "merge"),
    _function("dstack", _stacked("dstack", 3, 2), "Puts tensors behind each other.", (), TENSORS, "torch", "merge"),
    _function(
        "meshgrid",
        _meshgrid,
        "The coordinates of a grid of these rows and columns.",
        (
            Argument(
                name="indexing",
                kind="choice",
                choices=("ij", "xy"),
                doc='"ij": the first tensor counts rows; "xy": it counts columns',
            ),
        ),
        (Port(name="tensors", variadic=True, spread=True),),
        "torch",
        "merge",
    ),
)
