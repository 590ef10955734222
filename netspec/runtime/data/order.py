"""Which samples, in what order: the cut into splits, and the order of an epoch. Both are functions of their seeds."""

from __future__ import annotations

from fractions import Fraction

import torch
from torch import Tensor

from netspec.recipe.data import Fractions, Sampler
from netspec.runtime.data.seeds import generator
from netspec.runtime.errors import RunError


def cut(count: int, fractions: Fractions, labels: Tensor | None) -> dict[str, Tensor]:
    """The indices of each split, ascending. `labels` (one class a sample) is given where the cut is stratified.

    The samples are shuffled; split k has round(n · (f₁ + … + fₖ)) - round(n · (f₁ + … + fₖ₋₁)) of them, halves up.
    Stratified, it takes from each class in proportion to what the splits before it have left, to within one sample.
    """
    draw = torch.Generator().manual_seed(fractions.seed)
    order = torch.randperm(count, generator=draw)
    sizes, start, share = {}, 0, Fraction(0)
    for name, fraction in fractions.sizes.items():
        share += Fraction(str(fraction))
        stop = int(share * count + Fraction(1, 2))
        if stop == start:
            raise RunError(
                "NS925",
                f"`{name}` gets none of the {count} samples with a share of {fraction:g}",
                help="a larger share",
            )
        sizes[name] = stop - start
        start = stop
    if labels is None:
        parts = list(torch.split(order[:start], list(sizes.values())))
    else:
        parts = _stratified(order, labels, list(sizes.values()), draw)
    return {name: part.sort().values for name, part in zip(sizes, parts, strict=True)}


def _stratified(order: Tensor, labels: Tensor, sizes: list[int], draw: torch.Generator) -> list[Tensor]:
    members = [order[labels[order] == label] for label in torch.unique(labels)]
    parts = []
    for size in sizes:
        left = torch.tensor([len(indices) for indices in members])
        exact = left * size / left.sum()
        take = exact.floor().long()
        # The places that are left go to the largest remainders, equal ones by lot.
        lot = torch.randperm(len(members), generator=draw)
        largest = lot[(exact - take)[lot].argsort(descending=True, stable=True)]
        take[largest[: size - int(take.sum())]] += 1
        parts.append(torch.cat([indices[:n] for indices, n in zip(members, take.tolist(), strict=True)]))
        members = [indices[n:] for indices, n in zip(members, take.tolist(), strict=True)]
    return parts


def epoch_order(sampler: Sampler, count: int, labels: Tensor | None, *place: int) -> Tensor | None:
    """The sample indices of an epoch, or None where they are 0 … count - 1. `place` is (run seed, split, epoch)."""
    size = epoch_size(sampler, count)
    if sampler.type == "SequentialSampler":
        return None
    draw = generator(*place)
    if sampler.type == "WeightedRandomSampler":
        assert labels is not None
        weights = _class_weights(sampler, labels)[labels]
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
