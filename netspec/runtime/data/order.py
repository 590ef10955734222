"""The order of an epoch: a function of the sampler and of (run seed, split, epoch) alone."""

from __future__ import annotations

import torch
from torch import Tensor

from netspec.recipe.data import Sampler
from netspec.runtime.data.seeds import generator
from netspec.runtime.errors import RunError


def epoch_order(sampler: Sampler, count: int, labels: Tensor | None, *place: int) -> Tensor | None:
    """The sample indices of an epoch, or None where they are 0 … count - 1. `place` is (run seed, split, epoch).

    `labels` are what a weighted sampler goes by: the class of each sample, or, for a column of weights, its weight.
    """
    size = epoch_size(sampler, count)
    if sampler.type == "SequentialSampler":
        return None
    draw = generator(*place)
    if sampler.type == "WeightedRandomSampler":
        assert labels is not None
        weights = labels if sampler.column is not None else _class_weights(sampler, labels)[labels]
        possible = int((weights > 0).sum())
        if not possible or (size > possible and not sampler.replacement):
            raise RunError(
                "NS925",
                f"an epoch draws {size} samples, and {possible} have a weight above 0",
                help="`replacement: true`, a smaller `num_samples`, or other weights",
            )
        return torch.multinomial(weights, size, sampler.replacement, generator=draw)
    if sampler.replacement:
        return torch.randint(count, (size,), generator=draw)
    rounds = [torch.randperm(count, generator=draw) for _ in range(-(-size // count))]
    return torch.cat(rounds)[:size]


def epoch_size(sampler: Sampler, count: int) -> int:
    """How many samples an epoch draws."""
    return count if sampler.num_samples is None else sampler.num_samples


def _class_weights(sampler: Sampler, labels: Tensor) -> Tensor:
    counts = labels.bincount()
    if sampler.balance:
        return torch.where(counts > 0, 1.0 / counts.clamp(min=1), 0.0).double()
    assert sampler.weights is not None
    if len(sampler.weights) < len(counts):
        raise RunError("NS925", f"`weights` has {len(sampler.weights)} values, and the data {len(counts)} classes")
    return torch.tensor(sampler.weights, dtype=torch.float64)


def part(first: int, last: int, rank: int, count: int) -> range:
    """The places, among first … last - 1 of an epoch's order, that make the part of process `rank` of `count`.

    The parts follow one another and differ by one at most. Where there are fewer places than processes, one without a
    place of its own has the first.
    """
    size = last - first
    found = range(first + size * rank // count, first + size * (rank + 1) // count)
    return found if found else range(first, first + 1)
