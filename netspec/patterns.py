"""Patterns of shapes: what an input's `[N, in_channels, H, W]` binds, and what `expect` asserts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from netspec.catalog.entry import TypeLike
from netspec.expressions import Name
from netspec.origins import trace, untraced
from netspec.shapes import TEXT, ListType, Problem, Size, TensorType, symbols
from netspec.shapes import Dim as Symbolic
from netspec.spec import Block, Dim, Input


def size_name(tensor: str, axis: int) -> str:
    """The name under which an input's size is known where the pattern gives it none."""
    return f"{tensor}.shape[{axis}]"


def bound_names(block: Block) -> frozenset[str]:
    """The names of sizes that the inputs of a block bind, and of what it derives from them."""
    dims = (dim for pattern in block.inputs for shape in (pattern.shape or (), *(pattern.items or ())) for dim in shape)
    names = frozenset(dim.symbol for dim in dims if dim.symbol) - block.params.keys()
    for name, value in block.let.items():
        names |= {name} if value.names & names else frozenset()
    return names


def declare(pattern: Input, evaluate: Callable[[Dim], Any]) -> TypeLike:
    """The type of a model's input: sizes are numbers or symbols of their own."""
    if pattern.items is not None:
        return ListType(tuple(_declared(member, evaluate) for member in _members(pattern, len(pattern.items))))
    element = _declared(pattern, evaluate)
    if not pattern.listed:
        return element
    unnamed = (size for size, dim in zip(element.shape, pattern.shape or (), strict=True) if dim.kind == "any")
    return ListType((), element, symbols(unnamed), Symbolic(f"len({pattern.name})"))


def _members(pattern: Input, count: int) -> list[Input]:
    """The patterns of the tensors in a list, each under its own name: `features.2`."""
    shapes = pattern.items if pattern.items is not None else (pattern.shape,) * count
    return [
        Input(name=f"{pattern.name}.{i}", span=pattern.span, shape=shape, dtype=pattern.dtype)
        for i, shape in enumerate(shapes)
    ]


def _declared(pattern: Input, evaluate: Callable[[Dim], Any]) -> TensorType:
    shape: list[Size] = []
    for axis, dim in enumerate(pattern.shape or ()):
        if dim.kind == "value":
            shape.append(evaluate(dim))
        elif dim.kind == "multiple":
            shape.append(dim.factor * Symbolic(dim.symbol))
        elif dim.kind == "symbol":
            shape.append(Symbolic(dim.symbol))
        else:
            shape.append(Symbolic(f"{pattern.name.replace('.', '_')}_{axis}"))
    return TensorType(tuple(shape), pattern.dtype or "float32")


def align(dims: tuple[Dim, ...], rank: int) -> list[Dim | None] | None:
    """One pattern size for each axis (None under `...`), or None where the rank does not fit."""
    rest = next((i for i, dim in enumerate(dims) if dim.kind == "rest"), None)
    if rest is None:
        return list(dims) if len(dims) == rank else None
    after = len(dims) - rest - 1
    if rank < len(dims) - 1:
        return None
    return [*dims[:rest], *([None] * (rank - rest - after)), *(dims[rest + 1 :] if after else ())]


def bind(pattern: Input, given: TypeLike, scope: dict[str, Any], evaluate: Callable[[Dim], Any]) -> TypeLike | Problem:
    """The input's type inside the block: its sizes bear the names of the pattern, which `scope` receives.

    A name that has a value already (a parameter, or a size bound before) is a condition: both must be equal.
    """
    if pattern.listed or isinstance(given, ListType):
        return _bind_list(pattern, given, scope, evaluate)
    return _bind_one(pattern, given, scope, evaluate)


def _bind_list(
    pattern: Input, given: TypeLike, scope: dict[str, Any], evaluate: Callable[[Dim], Any]
) -> TypeLike | Problem:
    if isinstance(given, TensorType):
        return Problem(
            f"`{pattern.name}` takes a list of tensors, and got one: {given}",
            help=f"write `{{{pattern.name}: [a, b]}}` under `from`, or name what gives a list",
            code="NS405",
        )
    if not pattern.listed and pattern.shape is None and not pattern.dtype:
        return given
    if not pattern.listed:
        return Problem(
            f"`{pattern.name}` takes one tensor, and got a {given}",
            help="name one of them, as in `parts.0`, or apply the block to every one with `each`",
            code="NS405",
        )
    if given.element is not None:
        if pattern.items is not None:
            return Problem(
                f"`{pattern.name}` takes {len(pattern.items)} tensors, and got a list whose length is not known",
                help="give the list the shape of each tensor: `{list: [[N, 8, _, _], [N, 16, _, _]]}`",
                code="NS412",
            )
        bound = _bind_one(pattern, given.element, scope, evaluate)
        for name in (dim.symbol for dim in pattern.shape or () if dim.symbol):
            if name in scope and isinstance(scope[name], Symbolic) and scope[name].symbols & given.own:
                return Problem(
                    f"`{name}` of `{pattern.name}` is one size for all, and the tensors may differ in it: {given}",
                    help=f"write `_` for `{name}`",
                    code="NS412",
                )
        return bound if isinstance(bound, Problem) else given.with_members([bound])
    if pattern.items is not None and len(given.items) != len(pattern.items):
        return Problem(
            f"`{pattern.name}` takes {len(pattern.items)} tensors, and got {len(given.items)}",
            help="name as many as it takes",
            code="NS412",
        )
    items: list[TensorType] = []
    for member, item in zip(_members(pattern, len(given.items)), given.items, strict=True):
        one = _bind_one(member, item, scope, evaluate)
        if isinstance(one, Problem):
            return one
        items.append(one)
    return ListType(tuple(items))


def _bind_one(
    pattern: Input, given: TensorType, scope: dict[str, Any], evaluate: Callable[[Dim], Any]
) -> TensorType | Problem:
    if given.is_text != (pattern.dtype == TEXT):
        a, b = ("a tensor", "a text") if given.is_text else ("a text", f"a tensor, {given}")
        return Problem(f"`{pattern.name}` takes {a}, and got {b}", code="NS331")
    if pattern.dtype and pattern.dtype != given.dtype:
        return Problem(f"`{pattern.name}` takes {pattern.dtype}, and got {given.dtype}", code="NS412")
    if pattern.shape is None:
        named = tuple(_named(size, size_name(pattern.name, axis), scope) for axis, size in enumerate(given.shape))
        return TensorType(named, given.dtype)
    aligned = align(pattern.shape, len(given.shape))
    if aligned is None:
        return Problem(
            f"`{pattern.name}` takes {pattern_text(pattern.shape)}, and got {given}: {len(given.shape)} sizes",
            code="NS412",
        )
    sizes: list[Size] = []
    for axis, (dim, size) in enumerate(zip(aligned, given.shape, strict=True)):
        if dim is None or dim.kind == "any":
            sizes.append(_named(size, size_name(pattern.name, axis), scope))
            continue
        if dim.kind == "value":
            wanted = evaluate(dim)
        elif dim.symbol in scope:
            wanted = scope[dim.symbol] * dim.factor
        elif dim.kind == "multiple":
            found = _divide(size, dim)
            if found is None:
                return Problem(
                    f"size {axis} of `{pattern.name}` must be a multiple of {dim.factor} "
                    f"(`{dim.factor}*{dim.symbol}`), and is {size}",
                    code="NS412",
                )
            sizes.append(_named(found, dim.symbol, scope) * dim.factor)
            continue
        else:
            sizes.append(_named(size, dim.symbol, scope))
            continue
        if wanted != size:
            name = f"`{dim.symbol}`, which is {wanted}" if dim.symbol else str(wanted)
            return Problem(
                f"size {axis} of `{pattern.name}` must be {name}, and is {size}",
                help=f"`{pattern.name}` takes {pattern_text(pattern.shape)}, and got {given}",
                code="NS412",
            )
        sizes.append(wanted)
    return TensorType(tuple(sizes), given.dtype)


def _divide(size: Size, dim: Dim) -> Size | None:
    if isinstance(size, int):
        return size // dim.factor if size % dim.factor == 0 else None
    quotient = size // dim.factor
    return quotient if quotient * dim.factor == size else None


def _named(size: Size, name: str, scope: dict[str, Any]) -> Size:
    """The size under a name of the block's scope; symbolic sizes stay what they are."""
    named = trace(untraced(size), Name(name)) if isinstance(size, int) else size
    scope[name] = named
    return named


def unlike(
    dims: tuple[Dim, ...], given: TensorType, scope: dict[str, Any], evaluate: Callable[[Dim], Any]
) -> int | None:
    """The position in `expect` of the first size that a type does not have; 0 where their number differs.

    Names that have no value stand for any size, equal ones for equal sizes.
    """
    aligned = align(dims, len(given.shape))
    if aligned is None:
        return 0
    seen: dict[str, Size] = {}
    for dim, size in zip(aligned, given.shape, strict=True):
        if dim is None or dim.kind == "any":
            continue
        if dim.kind == "value":
            if evaluate(dim) != size:
                return dims.index(dim)
            continue
        known = scope.get(dim.symbol, seen.get(dim.symbol))
        if known is None:
            quotient = _divide(size, dim)
            if quotient is None:
                return dims.index(dim)
            seen[dim.symbol] = quotient
        elif known * dim.factor != size:
            return dims.index(dim)
    return None


def pattern_text(dims: tuple[Dim, ...]) -> str:
    """The pattern as it is written, for messages."""
    words = {"any": "_", "rest": "..."}
    parts = []
    for dim in dims:
        if dim.kind == "symbol":
            parts.append(dim.symbol)
        elif dim.kind == "multiple":
            parts.append(f"{dim.factor}*{dim.symbol}")
        elif dim.kind == "value":
            value = getattr(dim.expr, "value", None)
            parts.append(str(value) if value is not None else "$…")
        else:
            parts.append(words[dim.kind])
    return f"[{', '.join(parts)}]"
