"""Layers and functions that only rearrange values."""

from __future__ import annotations

from collections.abc import Sequence

from netspec.catalog.entry import Argument, Entry, Inferred, Role, Rule
from netspec.catalog.rules import Arguments, Inputs, Shape, dimension, numel, one, plural, refuse, rule, tensor
from netspec.shapes import Dim, Size, TensorType


def distinct(name: str, dims: Sequence[int], rank: int, argument: str, port: str = "input") -> list[int]:
    """Dimensions counted from 0; refuses one that is named twice."""
    found: list[int] = []
    for dim in dims:
        axis = dimension(name, dim, rank, argument, port)
        if axis in found:
            refuse(f"{name} names dimension {axis} twice", ports=(port,), argument=argument, code="NS404")
        found.append(axis)
    return found


def shared_out(name: str, total: Size, sizes: Sequence[Size], what: str, argument: str) -> Shape:
    """`sizes` with a -1 filled in so that their product is `total`; refuses where that cannot be."""
    open_places = [place for place, size in enumerate(sizes) if not isinstance(size, Dim) and size == -1]
    if len(open_places) > 1:
        refuse(f"{name} can fill in one -1, and got {len(open_places)}", argument=argument, code="NS404")
    for size in sizes:
        if not isinstance(size, Dim) and size < -1:
            refuse(f"{name} takes sizes, or -1 for one of them, and got {size}", argument=argument, code="NS404")
    rest = numel([size for place, size in enumerate(sizes) if place not in open_places])
    shown = TensorType(tuple(sizes))
    if not open_places:
        if rest != total:
            refuse(
                f"{name}: {what} holds {total} values, and {shown} would hold {rest}",
                help="write -1 for one of the sizes to have it computed",
                argument=argument,
                code="NS403",
            )
        return tuple(sizes)
    left = total % rest if isinstance(rest, Dim) or rest != 0 else 1
    if isinstance(left, Dim) or left != 0:
        refuse(
            f"{name}: the {total} values of {what} cannot be shared out over {shown}",
            help="the sizes that are given have to divide the number of values, whatever the symbols are",
            argument=argument,
            code="NS403",
        )
    return tuple(total // rest if place in open_places else size for place, size in enumerate(sizes))


def _flatten(name: str) -> Rule:
    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        x = tensor(inputs, name)
        rank = len(x.shape)
        start = dimension(name, arguments["start_dim"], rank, "start_dim")
        end = dimension(name, arguments["end_dim"], rank, "end_dim")
        if start > end:
            refuse(
                f"{name}: start_dim {arguments['start_dim']} comes after end_dim {arguments['end_dim']} in {x}",
                argument="start_dim",
                code="NS404",
            )
        return one((*x.shape[:start], numel(x.shape[start : end + 1]), *x.shape[end + 1 :]), x.dtype)

    return infer


@rule
def _reshape(arguments: Arguments, inputs: Inputs) -> Inferred:
    x = tensor(inputs, "reshape")
    return one(shared_out("reshape", numel(x.shape), arguments["shape"], str(x), "shape"), x.dtype)


def _unflatten(name: str, argument: str) -> Rule:
    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        x = tensor(inputs, name)
        axis = dimension(name, arguments["dim"], len(x.shape))
        if not x.shape:
            refuse(f"{name} splits a dimension, and got a tensor without dimensions")
        if not arguments[argument]:
            refuse(f"{name} takes at least one size", argument=argument, code="NS404")
        what = f"dimension {arguments['dim']} of {x}"
        sizes = shared_out(name, x.shape[axis], arguments[argument], what, argument)
        return one((*x.shape[:axis], *sizes, *x.shape[axis + 1 :]), x.dtype)

    return infer


def permuted(name: str, x: TensorType, dims: Sequence[int], port: str = "input") -> Inferred:
    """The tensor with its dimensions in that order."""
    if len(dims) != len(x.shape):
        refuse(
            f"{name} takes every dimension once, and got {plural(len(dims), 'dimension')} for {x}",
            ports=(port,),
            argument="dims",
            code="NS404",
        )
    return one((x.shape[axis] for axis in distinct(name, dims, len(x.shape), "dims", port)), x.dtype)


@rule
def _permute(arguments: Arguments, inputs: Inputs) -> Inferred:
    return permuted("permute", tensor(inputs, "permute"), arguments["dims"])


@rule
def _transpose(arguments: Arguments, inputs: Inputs) -> Inferred:
    x = tensor(inputs, "transpose")
    sizes = list(x.shape)
    first = dimension("transpose", arguments["dim0"], len(sizes), "dim0")
    second = dimension("transpose", arguments["dim1"], len(sizes), "dim1")
    if sizes:
        sizes[first], sizes[second] = sizes[second], sizes[first]
    return one(sizes, x.dtype)


@rule
def _squeeze(arguments: Arguments, inputs: Inputs) -> Inferred:
    x = tensor(inputs, "squeeze")
    dim = arguments["dim"]
    if dim is None:
        axes = list(range(len(x.shape)))
    else:
        axes = distinct("squeeze", dim if isinstance(dim, list | tuple) else [dim], len(x.shape), "dim")
    kept = []
    for axis, size in enumerate(x.shape):
        if axis not in axes:
            kept.append(size)
        elif isinstance(size, Dim):
            refuse(
                f"squeeze takes a dimension out where its size is 1, and {size} of {x} may be 1 or not",
                help="name the dimension that is to go: {type: squeeze, dim: -1}",
                argument="dim",
            )
        elif size != 1:
            kept.append(size)
    return one(kept, x.dtype)


@rule
def _unsqueeze(arguments: Arguments, inputs: Inputs) -> Inferred:
    x = tensor(inputs, "unsqueeze")
    axis = dimension("unsqueeze", arguments["dim"], len(x.shape) + 1)
    return one((*x.shape[:axis], 1, *x.shape[axis:]), x.dtype)


@rule
def _expand(arguments: Arguments, inputs: Inputs) -> Inferred:
    x = tensor(inputs, "expand")
    sizes = arguments["size"]
    new = len(sizes) - len(x.shape)
    if new < 0:
        refuse(f"expand takes a size for each dimension of {x}, and got {len(sizes)}", argument="size", code="NS404")
    result: list[Size] = []
    for place, size in enumerate(sizes):
        before = x.shape[place - new] if place >= new else None
        keeps = not isinstance(size, Dim) and size == -1
        if (not isinstance(size, Dim) and size < (0 if before is None else -1)) or (keeps and before is None):
            refuse(f"expand: {size} is no size for dimension {place}", argument="size", code="NS404")
        if before is not None and not keeps and before != size and before != 1:
            refuse(
                f"expand stretches dimensions of size 1, and dimension {place - new} of {x} is {before}, not {size}",
                help="write -1 to keep a size",
                argument="size",
                code="NS403",
            )
        result.append(before if keeps and before is not None else size)
    return one(result, x.dtype)


@rule
def _repeat(arguments: Arguments, inputs: Inputs) -> Inferred:
    x = tensor(inputs, "repeat")
    repeats = arguments["repeats"]
    new = len(repeats) - len(x.shape)
    if new < 0:
        refuse(
            f"repeat takes a number for each dimension of {x}, and got {len(repeats)}", argument="repeats", code="NS404"
        )
    sizes = (1,) * new + x.shape
    return one((size * times for size, times in zip(sizes, repeats, strict=True)), x.dtype)


@rule
def _repeat_interleave(arguments: Arguments, inputs: Inputs) -> Inferred:
    x = tensor(inputs, "repeat_interleave")
    times, dim = arguments["repeats"], arguments["dim"]
    if dim is None:
        return one((numel(x.shape) * times,), x.dtype)
    axis = dimension("repeat_interleave", dim, len(x.shape))
    if not x.shape:
        refuse("repeat_interleave repeats along a dimension, and got a tensor without dimensions", argument="dim")
    return one((*x.shape[:axis], x.shape[axis] * times, *x.shape[axis + 1 :]), x.dtype)


@rule
def _roll(arguments: Arguments, inputs: Inputs) -> Inferred:
    x = tensor(inputs, "roll")
    shifts, dims = arguments["shifts"], arguments["dims"]
    counts = [len(value) if isinstance(value, list | tuple) else 1 for value in (shifts, dims)]
    if counts[0] != counts[1] and not (counts[1] == 0 and counts[0] == 1):
        refuse(
            f"roll takes a shift for each dimension, and got {counts[0]} for {counts[1]}",
            argument="shifts",
            code="NS404",
        )
    for dim in dims if isinstance(dims, list | tuple) else [dims]:
        if not x.shape:
            refuse("roll moves values along a dimension, and got a tensor without dimensions", argument="dims")
        dimension("roll", dim, len(x.shape), "dims")
    return one(x.shape, x.dtype)


@rule
def _flip(arguments: Arguments, inputs: Inputs) -> Inferred:
    x = tensor(inputs, "flip")
    distinct("flip", arguments["dims"], len(x.shape), "dims")
    return one(x.shape, x.dtype)


@rule
def _movedim(arguments: Arguments, inputs: Inputs) -> Inferred:
    x = tensor(inputs, "movedim")
    lists = [isinstance(arguments[argument], list | tuple) for argument in ("source", "destination")]
    source, destination = (
        value if isinstance(value, list | tuple) else [value]
        for value in (arguments["source"], arguments["destination"])
    )
    if lists[0] != lists[1] or len(source) != len(destination):
        refuse(
            "movedim takes a destination for each source: two numbers, or two lists of one length",
            argument="destination",
            code="NS404",
        )
    before = distinct("movedim", source, len(x.shape), "source")
    after = distinct("movedim", destination, len(x.shape), "destination")
    if not x.shape:
        return one((), x.dtype)
    others = iter(axis for axis in range(len(x.shape)) if axis not in before)
    order = [before[after.index(place)] if place in after else next(others) for place in range(len(x.shape))]
    return one((x.shape[axis] for axis in order), x.dtype)


def _same(name: str) -> Rule:
    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        x = tensor(inputs, name)
        return one(x.shape, x.dtype)

    return infer


def _dim(name: str = "dim", doc: str = "the dimension") -> Argument:
    return Argument(name=name, kind="int", positional=True, doc=doc)


def _flat_arguments(start: int) -> tuple[Argument, ...]:
    return (
        Argument(
            name="start_dim", kind="int", default=start, positional=True, doc="first of the dimensions that are joined"
        ),
        Argument(name="end_dim", kind="int", default=-1, positional=True, doc="last of them"),
    )


def _sizes(name: str, doc: str, *, unpacked: bool = True, minimum: float | None = None) -> Argument:
    return Argument(name=name, kind="sizes", positional=True, unpacked=unpacked, minimum=minimum, doc=doc)


def _method(name: str, arguments: tuple[Argument, ...], rule: Rule, doc: str, role: Role = "reshape") -> Entry:
    return Entry(
        name=name,
        category="function",
        target=f"torch.Tensor.{name}",
        arguments=arguments,
        rule=rule,
        role=role,
        doc=doc,
    )


ENTRIES: tuple[Entry, ...] = (
    Entry(
        name="Flatten",
        category="layer",
        target="torch.nn.Flatten",
        arguments=_flat_arguments(1),
        rule=_flatten("Flatten"),
        role="reshape",
        doc="Joins neighbouring dimensions into one; by default all but the first.",
    ),
    Entry(
        name="Unflatten",
        category="layer",
        target="torch.nn.Unflatten",
        arguments=(
            _dim(doc="the dimension that is split"),
            Argument(name="unflattened_size", kind="ints", positional=True, doc="its new sizes; one may be -1"),
        ),
        rule=_unflatten("Unflatten", "unflattened_size"),
        role="reshape",
        doc="Splits a dimension into several.",
    ),
    _method(
        "flatten",
        _flat_arguments(0),
        _flatten("flatten"),
        "Joins neighbouring dimensions into one; by default all of them.",
    ),
    _method(
        "unflatten",
        (_dim(doc="the dimension that is split"), _sizes("sizes", "its new sizes; one may be -1", unpacked=False)),
        _unflatten("unflatten", "sizes"),
        "Splits a dimension into several.",
    ),
    _method("reshape", (_sizes("shape", "the new sizes; one may be -1"),), _reshape, "Gives the values a new shape."),
    _method(
        "permute",
        (Argument(name="dims", kind="ints", positional=True, unpacked=True, doc="the dimensions in their new order"),),
        _permute,
        "Puts the dimensions into another order.",
    ),
    _method(
        "transpose",
        (_dim("dim0", "one dimension"), _dim("dim1", "the other")),
        _transpose,
        "Swaps two dimensions.",
    ),
    _method(
        "movedim",
        (
            Argument(name="source", kind="int|ints", positional=True, doc="the dimensions that move"),
            Argument(name="destination", kind="int|ints", positional=True, doc="where they go"),
        ),
        _movedim,
        "Moves dimensions to other places; the others keep their order.",
    ),
    _method(
        "squeeze",
        (
            Argument(
                name="dim",
                kind="int|ints?",
                default=None,
                positional=True,
                doc="the dimension that goes if its size is 1; null: all such",
            ),
        ),
        _squeeze,
        "Takes dimensions of size 1 out.",
    ),
    _method("unsqueeze", (_dim(doc="where the new dimension stands"),), _unsqueeze, "Puts in a dimension of size 1."),
    _method("expand", (_sizes("size", "the new sizes; -1 keeps one"),), _expand, "Stretches dimensions of size 1."),
    _method(
        "repeat",
        (_sizes("repeats", "how many times, for each dimension", minimum=1),),
        _repeat,
        "Repeats the tensor along its dimensions.",
    ),
    _method(
        "repeat_interleave",
        (
            Argument(name="repeats", kind="int", minimum=1, positional=True, doc="how many times"),
            Argument(name="dim", kind="int?", default=None, doc="the dimension; null: of all values in a row"),
        ),
        _repeat_interleave,
        "Repeats each entry of a dimension.",
    ),
    _method(
        "roll",
        (
            Argument(name="shifts", kind="int|ints", doc="how far, for each dimension"),
            Argument(name="dims", kind="int|ints", default=(), doc="the dimensions; empty: over all values in a row"),
        ),
        _roll,
        "Moves values along dimensions; what leaves at the end comes in at the beginning.",
    ),
    _method(
        "flip",
        (Argument(name="dims", kind="ints", positional=True, unpacked=True, doc="the dimensions"),),
        _flip,
        "Reverses the order of values along dimensions.",
    ),
    _method("contiguous", (), _same("contiguous"), "Lays the values out in memory in order.", ""),
    _method("detach", (), _same("detach"), "Cuts the tensor off from the gradient.", ""),
)
