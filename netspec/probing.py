"""Shapes of what has no rule: run at a few sizes, and the sizes of its outputs told from those of its inputs.

A size of an output may be constant, or a sum of the inputs' symbolic sizes, each times an integer, and a constant. Two
runs for each symbol give the factors, a third one checks them, and two more change all symbols at once, one of them to
sizes so small that a layer which clips or pads would show it. What does not fit is a `Problem`: it needs a rule.
Nothing is guessed, and nothing passes through unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from netspec.origins import untraced
from netspec.shapes import Dim, ListType, Problem, Size, TensorType, symbols

TypeLike = TensorType | ListType
Point = Mapping[str, int]

SIZES: Final = ((6, 11, 19), (96, 131, 163))
"""What symbols become in a run: three sizes without a common factor; larger ones where a layer refuses the small."""

SMALL: Final = 2
"""What all symbols become in one more run, which a layer may refuse."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What one run gave: its outputs in order, its multiply-adds counted twice, and what some children were given."""

    outputs: Sequence[TypeLike]
    flops: int
    given: Mapping[str, TypeLike]


Run = Callable[[Mapping[str, Any]], Seen | str]
"""Runs the layer on inputs of these concrete types (a tuple of them for several tensors); a text says why it cannot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What the runs tell, in the symbols of the inputs; `flops` is None where they follow no such sum."""

    outputs: Sequence[TypeLike]
    flops: Size | None
    given: Mapping[str, TypeLike]


def tell(name: str, inputs: Mapping[str, Any], run: Run) -> Told | Problem:
    """Run a layer at several sizes of its symbolic inputs, and say what it gives for all of them.

    Problems: NS408 where the outputs follow no sum of sizes, NS409 where the layer refuses these inputs.
    """
    wanted = sorted(symbols(size for type_ in _types(inputs) for size in type_.shape))
    seen: list[Seen] = []
    said = ""
    points: list[Point] = []
    for sizes in SIZES if wanted else SIZES[:1]:
        points, seen, said = _points(wanted, sizes), [], ""
        for point in points:
            answer = run({port: _at(type_, point) for port, type_ in inputs.items()})
            if isinstance(answer, str):
                said = answer
                break
            seen.append(answer)
        if not said:
            break
    small: Point = dict.fromkeys(wanted, SMALL)
    if wanted and not said:
        answer = run({port: _at(type_, small) for port, type_ in inputs.items()})
        if isinstance(answer, Seen):
            points, seen = [*points, small], [*seen, answer]
    if said:
        shapes = ", ".join(str(type_) for type_ in _types(inputs))
        return Problem(f"{name} refuses {shapes}: {said}", ports=tuple(inputs), code="NS409")
    outputs = _fit_all([one.outputs for one in seen], wanted, points)
    watched = {path: [one.given.get(path) for one in seen] for path in seen[0].given}
    fitted = {path: _fit_all([[t] for t in types], wanted, points) for path, types in watched.items()}
    if outputs is None or None in fitted.values():
        return Problem(
            f"{name} has no shape rule, and what it gives for {', '.join(wanted)} follows no simple one: "
            + "; ".join(_shown(points[i], seen[i]) for i in (0, 2 * len(wanted), len(seen) - 1)),
            help="give the input these sizes as numbers, or let the plugin state a rule",
            ports=tuple(inputs),
            code="NS408",
        )
    flops = _fit([one.flops for one in seen], wanted, points)
    return Told(outputs=outputs, flops=flops, given={path: types[0] for path, types in fitted.items() if types})


def _types(inputs: Mapping[str, Any]) -> list[TensorType]:
    found: list[TensorType] = []
    for given in inputs.values():
        for one in given if isinstance(given, tuple) else (given,):
            found += one.items if isinstance(one, ListType) else [one]
    return found


def _points(names: Sequence[str], sizes: tuple[int, int, int]) -> list[Point]:
    first, second, third = ({name: size + i for i, name in enumerate(names)} for size in sizes)
    if not names:
        return [{}]
    single = [{**first, name: other[name]} for name in names for other in (second, third)]
    return [first, *single, *([second] if len(names) > 1 else [])]


def _at(type_: Any, point: Point) -> Any:
    """A type with its symbols replaced."""
    if isinstance(type_, tuple):
        return tuple(_at(one, point) for one in type_)
    if isinstance(type_, ListType):
        return ListType(tuple(_at(one, point) for one in type_.items))
    shape = (size.substitute(point) if isinstance(size, Dim) else int(untraced(size)) for size in type_.shape)
    return TensorType(tuple(shape), type_.dtype)


def _fit_all(seen: Sequence[Sequence[Any]], names: Sequence[str], points: Sequence[Point]) -> list[TypeLike] | None:
    """The types of all runs as one, position by position."""
    found: list[TypeLike] = []
    for types in zip(*seen, strict=True):
        first = types[0]
        if isinstance(first, ListType):
            if len({len(one) for one in types}) > 1:
                return None
            inner = _fit_all([one.items for one in types], names, points)
            if inner is None:
                return None
            found.append(ListType(tuple(one for one in inner if isinstance(one, TensorType))))
            continue
        if any(one is None or len(one.shape) != len(first.shape) or one.dtype != first.dtype for one in types):
            return None
        sizes = [_fit(list(values), names, points) for values in zip(*(one.shape for one in types), strict=True)]
        if None in sizes:
            return None
        found.append(TensorType(tuple(size for size in sizes if size is not None), first.dtype))
    return found


def _fit(values: Sequence[int], names: Sequence[str], points: Sequence[Point]) -> Size | None:
    """The sum that gives these values at these points, or None."""
    first = points[0]
    total: Size = 0
    constant = values[0]
    for i, name in enumerate(names):
        step = points[1 + 2 * i][name] - first[name]
        factor, rest = divmod(values[1 + 2 * i] - values[0], step)
        if rest:
            return None
        total = total + Dim(name) * factor
        constant -= factor * first[name]
    total = total + constant
    for point, value in zip(points, values, strict=True):
        if (total.substitute(point) if isinstance(total, Dim) else total) != value:
            return None
    return total


def _shown(point: Point, seen: Seen) -> str:
    sizes = ", ".join(f"{name}={size}" for name, size in point.items())
    return f"{', '.join(map(str, seen.outputs))} at {sizes}"
