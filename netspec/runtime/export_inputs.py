"""Inputs for a model that is exported: what it is traced with, and what the file and the module are compared on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from netspec.program import Program
from netspec.runtime.errors import RunError
from netspec.runtime.evaluate import TrainedModel
from netspec.shapes import TEXT, Dim, TensorType, symbols


def shape_of(type_: Any) -> tuple[Any, ...]:
    """The shape of an input. Raises RunError NS941 for what is no tensor."""
    if isinstance(type_, TensorType) and type_.dtype != TEXT:
        return type_.shape
    raise RunError(
        "NS941",
        "a model that takes lists of tensors, or texts, can't be exported",
        help="export a part of it, as a model of its own",
    )


def batch_symbol(program: Program) -> str | None:
    """The name of the first size of the first input, where it is open."""
    return next(iter(symbols(shape_of(next(iter(program.inputs.values())))[:1])), None)


def open_sizes(program: Program) -> list[str]:
    """The names of all sizes that the spec leaves open, in the order of the inputs."""
    return list(dict.fromkeys(s for type_ in program.inputs.values() for s in symbols(shape_of(type_))))


def usual_sizes(run: TrainedModel) -> dict[str, int]:
    """For each open size but the batch's what the run's data had; where they do not tell, a small one of its own."""
    batch = batch_symbol(run.program)
    found = {name: 8 + 8 * i for i, name in enumerate(open_sizes(run.program)) if name != batch}
    fields = run.data_state.get("fields", {})
    for name, type_ in run.program.inputs.items():
        known = fields.get(run.recipe.inputs.get(name, name), {}).get("shape") or ()
        sizes = shape_of(type_)[1:]
        if len(known) == len(sizes):
            found |= {
                str(size): int(number)
                for size, number in zip(sizes, known, strict=True)
                if isinstance(size, Dim) and str(size) in found and number is not None
            }
    return found


def apart(sizes: Mapping[str, int]) -> dict[str, int]:
    """The same sizes with no two alike: torch.export takes sizes that are equal in its example for one size."""
    found: dict[str, int] = {}
    for name, number in sizes.items():
        while number in found.values():
            number += 8
        found[name] = number
    return found


def other_sizes(sizes: Mapping[str, int], fixed: Sequence[str]) -> Iterator[dict[str, int]]:
    """The same sizes, changed where they are open: halved, doubled, and as they are. A model may not take the first."""
    free = [name for name in sizes if name not in fixed]
    if free:
        yield {**sizes, **{name: max(1, sizes[name] // 2) for name in free}}
        yield {**sizes, **{name: 2 * sizes[name] for name in free}}
    yield dict(sizes)


def examples(program: Program, batch: int, sizes: Mapping[str, int], seed: int = 0) -> tuple[Tensor, ...]:
    """Random inputs of that batch size and those sizes; integers are 0 or 1, as indices are."""
    draw = torch.Generator().manual_seed(seed)
    first = batch_symbol(program)
    numbers = {**sizes, **({first: batch} if first is not None else {})}
    found = []
    for type_ in program.inputs.values():
        concrete = [_number(size, numbers) for size in shape_of(type_)]
        assert isinstance(type_, TensorType)
        dtype = getattr(torch, type_.dtype)
        if dtype.is_floating_point:
            found.append(torch.randn(concrete, generator=draw).to(dtype))
        else:
            found.append(torch.randint(0, 2, concrete, generator=draw).to(dtype))
    return tuple(found)


def _number(size: Any, sizes: Mapping[str, int]) -> int:
    found = size.substitute(sizes) if isinstance(size, Dim) else size
    assert isinstance(found, int), "every open size has a number"
    return int(found)
