"""Pooling: the modules of torch.nn and the functions with the same arguments."""

from __future__ import annotations

from collections.abc import Iterable

from netspec.catalog.conv import AXES, images
from netspec.catalog.entry import Argument, Entry, Inferred, Rule
from netspec.catalog.rules import (
    FLOATING,
    NUMBERS,
    Arguments,
    Inputs,
    accepting,
    one,
    refuse,
    rule,
    spread,
    surely_below,
    tensor,
)
from netspec.shapes import Dim, Size, TensorType, provably_less

AVERAGED = {
    1: (*FLOATING, "int64"),
    2: (*FLOATING, "int64"),
    3: ("float32", "float64", "int64"),
}
"""The dtypes that torch averages windows of on a CPU, by the number of axes."""
_OVER = {1: "sequences", 2: "images", 3: "volumes"}


def _windows(name: str, arguments: Arguments, x: TensorType, count: int) -> list[Size]:
    """The number of windows along each axis."""
    kernel = spread(arguments["kernel_size"], count)
    stride = kernel if arguments["stride"] is None else spread(arguments["stride"], count)
    padding = spread(arguments.get("padding", 0), count)
    dilation = spread(arguments.get("dilation", 1), count)
    sizes: list[Size] = []
    for size, k, s, p, d in zip(x.shape[-count:], kernel, stride, padding, dilation, strict=True):
        window = d * (k - 1) + 1
        if p > k // 2:
            refuse(
                f"{name}: padding {p} is more than half of the kernel {k}",
                help=f"pad by at most {k // 2}",
                argument="padding",
                code="NS404",
            )
        room = size + 2 * p - window
        if surely_below(room, 0) and not (arguments["ceil_mode"] and "max" not in name.lower()):
            refuse(
                f"{name}: kernel {k} is larger than the padded input {size + 2 * p}, which came from {x}",
                help="make the kernel smaller, or reduce the image less before this layer",
                argument="kernel_size",
                code="NS406" if arguments["ceil_mode"] else "NS401",  # then torch takes it, as below
            )
        if arguments["ceil_mode"]:
            windows = (room + s - 1) // s + 1
            # The last window has to begin inside the input or its left padding.
            if provably_less((windows - 1) * s, size + p):
                sizes.append(windows)
            elif isinstance(windows, Dim):
                sizes.append(windows if s == 1 else _undecided(name, arguments, x))
            else:
                sizes.append(windows - 1)
        else:
            sizes.append(room // s + 1)
        if "max" in name.lower() and _misses(size, k, s, p, d, sizes[-1]):
            refuse(
                f"{name}: with dilation {d} a window steps over the whole input of size {size}",
                help="use a smaller dilation, or reduce the image less before this layer",
                argument="dilation",
                code="NS406",  # torch takes it, and writes beyond its memory in the backward pass
            )
        if surely_below(sizes[-1], 1):
            refuse(f"{name}: kernel {k} leaves nothing of {x}", argument="kernel_size")
    return sizes


def _misses(size: Size, kernel: int, stride: int, padding: int, dilation: int, windows: Size) -> bool:
    """Whether all points of some window lie in the padding."""
    if isinstance(size, Dim) or isinstance(windows, Dim) or size >= dilation:
        return False
    starts = range(-padding, windows * stride - padding, stride)
    return not all(any(0 <= start + point * dilation < size for point in range(kernel)) for start in starts)


def _undecided(name: str, arguments: Arguments, x: TensorType) -> Size:
    refuse(
        f"{name} with ceil_mode cannot be counted for {x}, whose size is not known",
        help="give the input that size as a number, or leave ceil_mode out",
        argument="ceil_mode",
    )


def _fits_unpadded(name: str, arguments: Arguments, x: TensorType) -> None:
    kernel = spread(arguments["kernel_size"], 3)
    for size, k in zip(x.shape[-3:], kernel, strict=True):
        if surely_below(size, k):
            refuse(
                f"{name}: kernel {k} is larger than the input {size} without its padding, which came from {x}",
                help="make the kernel smaller, or reduce the volume less before this layer",
                argument="kernel_size",
            )


def with_indices(arguments: Arguments, shape: Iterable[Size], dtype: str) -> Inferred:
    """The largest values, and their places where these are wanted."""
    values = TensorType(tuple(shape), dtype)
    if not arguments["return_indices"]:
        return one(values.shape, dtype)
    return Inferred(outputs={"output": values, "indices": TensorType(values.shape, "int64")})


def _pool(name: str, count: int, dtypes: tuple[str, ...]) -> Rule:
    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        x = tensor(inputs, name)
        images(name, x, count)
        if name.lower().startswith("lp") and x.dtype not in FLOATING:
            refuse(f"{name} takes floating point, and got {x.dtype}", code="NS406")
        accepting(name, x, NUMBERS if arguments.get("return_indices") else dtypes)
        if count == 3 and "max" not in name.lower():
            _fits_unpadded(name, arguments, x)
        shape = (*x.shape[:-count], *_windows(name, arguments, x, count))
        return with_indices(arguments, shape, x.dtype) if "return_indices" in arguments else one(shape, x.dtype)

    return infer


def _adaptive(name: str, count: int) -> Rule:
    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        x = tensor(inputs, name)
        if "vg" in name and count > 1 and len(x.shape) not in (count + 1, count + 2):
            # A plain mean, where one place is wanted: torch takes that of any shape.
            refuse(f"{name} takes [N, C, {AXES[count]}] or [C, {AXES[count]}], and got {x}", code="NS406")
        images(name, x, count)
        accepting(name, x, FLOATING)
        wanted = spread(arguments["output_size"], count)
        sizes = [size if want is None else want for size, want in zip(x.shape[-count:], wanted, strict=True)]
        shape = (*x.shape[:-count], *sizes)
        return with_indices(arguments, shape, x.dtype) if "return_indices" in arguments else one(shape, x.dtype)

    return infer


def _kernel(count: int) -> Argument:
    return Argument(name="kernel_size", kind=f"size{count}", minimum=1, doc="extent of the window")


_ONE_NUMBER = Argument(name="kernel_size", kind="int", minimum=1, doc="extent of the window")


def _stride(count: int) -> Argument:
    return Argument(
        name="stride",
        kind=f"size{count}?",
        default=None,
        minimum=1,
        doc="step of the window; null: the kernel's extent",
    )


def _padding(count: int, what: str) -> Argument:
    return Argument(name="padding", kind=f"size{count}", default=0, minimum=0, doc=f"rows of {what} added at each edge")


RETURN_INDICES = Argument(
    name="return_indices",
    kind="bool",
    default=False,
    doc="whether to give the places of the largest values too, as a second port `indices`",
)
_CEIL = Argument(name="ceil_mode", kind="bool", default=False, doc="whether a last window may reach beyond the edge")


def _both(
    name: str, function: str, arguments: tuple[Argument, ...], count: int, dtypes: tuple[str, ...], doc: str
) -> tuple[Entry, Entry]:
    adaptive = "Adaptive" in name
    pair = ("output", "indices") if RETURN_INDICES in arguments else ()
    switch = RETURN_INDICES.name if pair else ""
    return (
        Entry(
            name=name,
            category="layer",
            target=f"torch.nn.{name}",
            arguments=arguments,
            returns=pair,
            returns_if=switch,
            rule=_adaptive(name, count) if adaptive else _pool(name, count, dtypes),
            role="pool",
            doc=doc,
        ),
        Entry(
            name=function,
            category="function",
            target=f"torch.nn.functional.{function}",
            arguments=arguments,
            returns=pair,
            returns_if=switch,
            rule=_adaptive(function, count) if adaptive else _pool(function, count, dtypes),
            role="pool",
            doc=doc,
        ),
    )


def _max(count: int) -> tuple[Entry, Entry]:
    arguments = (
        _kernel(count),
        _stride(count),
        _padding(count, "nothing"),
        Argument(
            name="dilation", kind=f"size{count}", default=1, minimum=1, doc="distance between the window's points"
        ),
        RETURN_INDICES,
        _CEIL,
    )
    doc = f"Keeps the largest value of each window over {_OVER[count]}."
    dtypes = FLOATING if count == 1 else NUMBERS
    return _both(f"MaxPool{count}d", f"max_pool{count}d", arguments, count, dtypes, doc)


def _average(count: int) -> tuple[Entry, Entry]:
    arguments = [
        _kernel(count),
        _stride(count),
        _padding(count, "zeros"),
        _CEIL,
        Argument(name="count_include_pad", kind="bool", default=True, doc="whether padded zeros count in the mean"),
    ]
    if count > 1:
        arguments.append(
            Argument(name="divisor_override", kind="int?", default=None, minimum=1, doc="divides by this instead")
        )
    doc = f"Averages each window over {_OVER[count]}."
    return _both(f"AvgPool{count}d", f"avg_pool{count}d", tuple(arguments), count, AVERAGED[count], doc)


def _power(count: int) -> tuple[Entry, Entry]:
    arguments = (
        Argument(
            name="norm_type", kind="float", positional=True, doc="the power p; 1 sums, infinity takes the largest"
        ),
        _kernel(count) if count > 1 else _ONE_NUMBER,  # torch computes with it before it is spread
        _stride(count),
        _CEIL,
    )
    doc = f"Takes the p-norm of each window over {_OVER[count]}."
    dtypes = tuple(dtype for dtype in AVERAGED[count] if dtype in FLOATING)
    return _both(f"LPPool{count}d", f"lp_pool{count}d", arguments, count, dtypes, doc)


def _adapting(count: int, how: str) -> tuple[Entry, Entry]:
    output = Argument(
        name="output_size",
        kind=f"output{count}" if count > 1 else "size1",
        minimum=1,
        positional=True,
        doc="the size that is wanted whatever the input's is" + ("; null keeps the input's" if count > 1 else ""),
    )
    word = "Averages" if how == "Avg" else "Keeps the largest value of"
    return _both(
        f"Adaptive{how}Pool{count}d",
        f"adaptive_{how.lower()}_pool{count}d",
        (output, RETURN_INDICES) if how == "Max" else (output,),
        count,
        FLOATING,
        f"{word} windows that are cut so that the output has a given size.",
    )


ENTRIES: tuple[Entry, ...] = tuple(
    entry
    for count in (1, 2, 3)
    for pair in (_max(count), _average(count), _power(count), _adapting(count, "Avg"), _adapting(count, "Max"))
    for entry in pair
)
