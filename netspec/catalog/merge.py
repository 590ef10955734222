"""Functions that make one tensor of several, and several of one."""

from __future__ import annotations

from netspec.catalog.entry import Argument, Entry, Inferred, Port, Role, Rule
from netspec.catalog.rules import (
    ALL,
    FLOATING,
    NUMBERS,
    Arguments,
    Inputs,
    accepting,
    broadcasted,
    dimension,
    known,
    many,
    numel,
    one,
    promoted,
    refuse,
    rule,
    tensor,
)
from netspec.shapes import Dim, ListType, Size, TensorType, symbols

TENSORS = (Port(name="tensors", variadic=True),)
TWO = (Port(name="input"), Port(name="other"))


def tensors_of(name: str, inputs: Inputs) -> tuple[TensorType, ...]:
    """The tensors at a variadic port; a list among them counts as its parts."""
    parts: list[TensorType] = []
    for item in inputs["tensors"]:
        if isinstance(item, ListType) and item.element is not None:
            refuse(
                f"{name} cannot tell how many tensors the list has",
                help="`cat` joins a list of any length",
                ports=("tensors",),
                code="NS407",
            )
        parts.extend(item.items if isinstance(item, ListType) else (item,))
    if not parts:
        refuse(f"{name} needs at least one tensor", ports=("tensors",))
    return tuple(parts)


def joined_dtype(parts: tuple[TensorType, ...]) -> str:
    result = parts[0].dtype
    for part in parts[1:]:
        result = promoted(TensorType((), result), TensorType((), part.dtype))
    return result


def _cat_of_many(listed: ListType, element: TensorType, arguments: Arguments) -> Inferred:
    """`cat` of a list of unknown length. The sum of a size that each tensor has for itself is a size of its own."""
    dim = dimension("cat", arguments["dim"], len(element.shape), port="tensors")
    for axis, size in enumerate(element.shape):
        if axis != dim and symbols(size) & listed.own:
            refuse(
                f"cat along dimension {arguments['dim']} needs the other sizes to be equal: "
                f"dimension {axis} is {size}, which each tensor of the list has for itself",
                help="resize each first, or give that size a name where the list is declared: then all have it",
                ports=("tensors",),
                code="NS403",
            )
    size = element.shape[dim]
    width = Dim(f"sum({size})") if symbols(size) & listed.own else size * listed.count
    return one((*element.shape[:dim], width, *element.shape[dim + 1 :]), element.dtype)


@rule
def _cat(arguments: Arguments, inputs: Inputs) -> Inferred:
    given = inputs["tensors"]
    if len(given) == 1 and isinstance(given[0], ListType) and given[0].element is not None:
        return _cat_of_many(given[0], given[0].element, arguments)
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
    width: Size = sum((part.shape[dim] for part in parts[1:]), start=first.shape[dim])
    return one((*first.shape[:dim], width, *first.shape[dim + 1 :]), joined_dtype(parts))


@rule
def _stack(arguments: Arguments, inputs: Inputs) -> Inferred:
    parts = tensors_of("stack", inputs)
    first = parts[0]
    for position, part in enumerate(parts):
        if part.shape != first.shape:
            refuse(
                f"stack takes tensors of one shape: input 0 is {first} and input {position} is {part}",
                ports=("tensors",),
                code="NS403",
            )
    axis = dimension("stack", arguments["dim"], len(first.shape) + 1, port="tensors")
    return one((*first.shape[:axis], len(parts), *first.shape[axis:]), joined_dtype(parts))


def _cut(name: str, arguments: Arguments, inputs: Inputs) -> tuple[TensorType, int]:
    x = tensor(inputs, name)
    if not x.shape:
        refuse(f"{name} cuts a dimension, and got a tensor without dimensions")
    return x, dimension(name, arguments["dim"], len(x.shape))


def _pieces(x: TensorType, axis: int, sizes: list[Size]) -> Inferred:
    return many(TensorType((*x.shape[:axis], size, *x.shape[axis + 1 :]), x.dtype) for size in sizes)


@rule
def _chunk(arguments: Arguments, inputs: Inputs) -> Inferred:
    x, axis = _cut("chunk", arguments, inputs)
    size, chunks = x.shape[axis], arguments["chunks"]
    rest = size % chunks
    if not isinstance(rest, Dim) and rest == 0:
        return _pieces(x, axis, [size // chunks] * chunks)
    whole = known("chunk", size, f"the size of dimension {arguments['dim']}")
    return _pieces(x, axis, _steps(whole, (whole + chunks - 1) // chunks))


def _steps(size: int, step: int) -> list[Size]:
    pieces: list[Size] = [step] * (size // step)
    return [*pieces, size % step] if size % step else pieces


@rule
def _split(arguments: Arguments, inputs: Inputs) -> Inferred:
    x, axis = _cut("split", arguments, inputs)
    size, wanted = x.shape[axis], arguments["split_size"]
    if isinstance(wanted, list | tuple):
        total: Size = sum(wanted)
        if total != size:
            refuse(
                f"split: the sizes {list(wanted)} sum to {total}, and dimension {arguments['dim']} of {x} is {size}",
                argument="split_size",
                code="NS403",
            )
        return _pieces(x, axis, list(wanted))
    return _pieces(x, axis, _steps(known("split", size, f"the size of dimension {arguments['dim']}"), wanted))


@rule
def _unbind(arguments: Arguments, inputs: Inputs) -> Inferred:
    x, axis = _cut("unbind", arguments, inputs)
    count = known("unbind", x.shape[axis], f"the size of dimension {arguments['dim']}")
    part = TensorType((*x.shape[:axis], *x.shape[axis + 1 :]), x.dtype)
    return many([part] * count)


def _arithmetic(name: str, dtypes: tuple[str, ...]) -> Rule:
    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        a, b = tensor(inputs, name), tensor(inputs, name, "other")
        for port, x in (("input", a), ("other", b)):
            accepting(name, x, dtypes, port)
        dtype = promoted(a, b)
        if name == "div" and arguments["rounding_mode"] is None and dtype not in FLOATING:
            dtype = "float32"
        if dtype == "bool" and name == "div":
            refuse("div of truth values takes no rounding_mode", argument="rounding_mode", code="NS402")
        return one(broadcasted(name, a, b, ("input", "other")), dtype)

    return infer


def matrix_product(name: str, a: TensorType, b: TensorType, ports: tuple[str, str]) -> TensorType:
    """What the product of two matrices, vectors, or stacks of them gives."""
    if not a.shape or not b.shape:
        refuse(f"{name} takes tensors with dimensions, and got {a} and {b}", ports=ports)
    if a.dtype != b.dtype:
        refuse(f"{name} takes two tensors of one dtype, and got {a.dtype} and {b.dtype}", ports=ports, code="NS402")
    accepting(name, a, NUMBERS, ports[0])
    rows = b.shape[-2] if len(b.shape) > 1 else b.shape[0]
    if a.shape[-1] != rows:
        refuse(
            f"{name} of {a} and {b}: the last dimension of the first is {a.shape[-1]}, "
            f"and the rows of the second are {rows}",
            help="transpose one of them",
            ports=ports,
            code="NS403",
        )
    batch = broadcasted(name, TensorType(a.shape[:-2]), TensorType(b.shape[:-2]), ports)
    left = a.shape[-2:-1] if len(a.shape) > 1 else ()
    right = b.shape[-1:] if len(b.shape) > 1 else ()
    return TensorType((*batch, *left, *right), a.dtype)


@rule
def _matmul(arguments: Arguments, inputs: Inputs) -> Inferred:
    a, b = tensor(inputs, "matmul"), tensor(inputs, "matmul", "other")
    return Inferred(outputs={"output": matrix_product("matmul", a, b, ("input", "other"))})


def _matmul_flops(arguments: Arguments, inputs: Inputs, answer: Inferred) -> Size:
    a, b = inputs["input"], inputs["other"]
    if len(b.shape) == 1 or (len(a.shape) == 1 and len(b.shape) > 2):
        return 0  # torch runs these as products with a vector, which it does not count
    output = answer.outputs["output"]
    assert isinstance(output, TensorType)
    flops: Size = 2 * numel(output.shape) * a.shape[-1]
    return flops


def _dim(doc: str) -> Argument:
    return Argument(name="dim", kind="int", default=0, doc=doc)


def _function(
    name: str,
    target: str,
    arguments: tuple[Argument, ...],
    inputs: tuple[Port, ...],
    rule: Rule,
    doc: str,
    role: Role = "merge",
) -> Entry:
    return Entry(
        name=name,
        category="function",
        target=target,
        arguments=arguments,
        inputs=inputs,
        rule=rule,
        role=role,
        doc=doc,
        flops=_matmul_flops if name == "matmul" else None,
    )


_ROUNDING = Argument(
    name="rounding_mode",
    kind="choice?",
    default=None,
    choices=("floor", "trunc"),
    doc="how the result is rounded; null: not at all",
)
_INPUT = (Port(name="input"),)

ENTRIES: tuple[Entry, ...] = (
    _function(
        "cat",
        "torch.cat",
        (_dim("the dimension along which they are put together"),),
        TENSORS,
        _cat,
        "Puts tensors together along a dimension that they have.",
    ),
    _function(
        "stack",
        "torch.stack",
        (_dim("where the new dimension stands"),),
        TENSORS,
        _stack,
        "Puts tensors of one shape together along a new dimension.",
    ),
    _function(
        "chunk",
        "torch.Tensor.chunk",
        (
            Argument(name="chunks", kind="int", minimum=1, positional=True, doc="the number of parts"),
            _dim("the dimension that is cut"),
        ),
        _INPUT,
        _chunk,
        "Cuts a dimension into a number of parts; the last may be smaller.",
    ),
    _function(
        "split",
        "torch.Tensor.split",
        (
            Argument(
                name="split_size",
                kind="int|ints",
                minimum=1,
                positional=True,
                doc="the size of each part, or all sizes",
            ),
            _dim("the dimension that is cut"),
        ),
        _INPUT,
        _split,
        "Cuts a dimension into parts of given sizes.",
    ),
    _function(
        "unbind",
        "torch.Tensor.unbind",
        (_dim("the dimension that goes"),),
        _INPUT,
        _unbind,
        "Takes a dimension apart into its entries.",
    ),
    _function("add", "torch.add", (), TWO, _arithmetic("add", ALL), "Adds two tensors value by value."),
    _function("sub", "torch.sub", (), TWO, _arithmetic("sub", NUMBERS), "Subtracts the second from the first."),
    _function("mul", "torch.mul", (), TWO, _arithmetic("mul", ALL), "Multiplies two tensors value by value."),
    _function(
        "div",
        "torch.div",
        (_ROUNDING,),
        TWO,
        _arithmetic("div", ALL),
        "Divides the first by the second value by value.",
    ),
    _function("maximum", "torch.maximum", (), TWO, _arithmetic("maximum", ALL), "The larger of two values."),
    _function("minimum", "torch.minimum", (), TWO, _arithmetic("minimum", ALL), "The smaller of two values."),
    _function("matmul", "torch.matmul", (), TWO, _matmul, "Product of matrices, or of stacks of them."),
)
