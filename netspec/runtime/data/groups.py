"""Splits that keep groups whole: all samples of a patient, a scene or a day are in one of them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from netspec.recipe.data import Cut
from netspec.runtime.data.samples import Samples, words_column
from netspec.runtime.errors import RunError


def cut_groups(samples: Samples, plan: Cut, sizes: Mapping[str, int]) -> dict[str, Tensor]:
    """The indices of each split, ascending, of nearly `sizes` samples. Raises RunError NS924 or NS925 where that fails.

    The groups are shuffled by the plan's seed, as scikit-learn's `GroupShuffleSplit` does, and cut where that comes
    nearest to the sizes. Then single groups move, or two of different splits change places, as long as that brings the
    splits nearer. In order, the groups follow each other as their first samples do, and none moves.
    """
    assert plan.groups is not None
    words = words_column(samples, plan.groups, "group")
    for index, word in enumerate(words):
        if word.strip() in ("", "nan"):
            raise RunError(
                "NS924",
                f"{samples.name(index)} is in no group: `{plan.groups}` is empty",
                help="fill the cell, or take the row out: a sample without a group may be of any",
            )
    number = {word: place for place, word in enumerate(dict.fromkeys(words))}
    if len(number) < len(sizes):
        raise RunError(
            "NS925",
            f"`split` makes {len(sizes)} parts, and `{plan.groups}` has {len(number)} "
            f"group{'s' * (len(number) != 1)}, which stay whole",
            help="a column of more groups, or fewer parts",
        )
    groups = torch.tensor([number[word] for word in words])
    draw = torch.Generator().manual_seed(plan.seed)
    order = torch.randperm(len(number), generator=draw) if plan.shuffle else torch.arange(len(number))
    counts = torch.bincount(groups)[order].tolist()
    spare = len(words) - sum(sizes.values())
    parts = _cut(counts, [*sizes.values(), *([spare] if spare else [])], len(sizes))
    if plan.shuffle:
        _improve(parts, counts, [*sizes.values(), spare], len(sizes))
    return {
        name: torch.isin(groups, order[torch.tensor(part)]).nonzero().flatten()
        for name, part in zip(sizes, parts, strict=False)
    }


def _cut(counts: Sequence[int], wanted: Sequence[int], splits: int) -> list[list[int]]:
    """The groups of each part, one after the other. Each of the `splits` gets one at least; the part after them, which
    is spare, may get none."""
    ends = torch.tensor(counts).cumsum(0).tolist()
    parts: list[list[int]] = []
    start, sought = 0, 0
    for number, size in enumerate(wanted[:-1]):
        sought += size
        after = bisect_left(ends, sought)  # the group with which the parts so far are full
        stop = after + 1
        if after and (after == len(ends) or sought - ends[after - 1] <= ends[after] - sought):
            stop = after
        left = max(0, splits - number - 1)
        stop = min(max(stop, start + 1), len(counts) - left)
        parts.append(list(range(start, stop)))
        start = stop
    return [*parts, list(range(start, len(counts)))]


def _improve(parts: list[list[int]], counts: Sequence[int], wanted: Sequence[int], splits: int) -> None:
    """Move and exchange groups, the best one first, while the parts come nearer to what is wanted of them."""
    over = [sum(counts[group] for group in part) - size for part, size in zip(parts, wanted, strict=False)]
    while True:
        best, chosen = 0, (0, 0, 0, 0)
        for a in (number for number, excess in enumerate(over) if excess > 0):
            out = torch.tensor(sorted({counts[group] for group in parts[a]}))
            for b in (number for number, excess in enumerate(over) if excess < 0):
                back = torch.tensor(sorted({counts[group] for group in parts[b]} | {0}))
                if a < splits and len(parts[a]) == 1:
                    back = back[1:]  # nothing but an exchange leaves it a group
                moved = out[:, None] - back
                gain = abs(over[a]) + abs(over[b]) - (over[a] - moved).abs() - (over[b] + moved).abs()
                if gain.numel() and int(gain.max()) > best:
                    i, j = divmod(int(gain.argmax()), len(back))
                    best, chosen = int(gain.max()), (a, b, int(out[i]), int(back[j]))
        if not best:
            return
        a, b, there, here = chosen
        first = next(group for group in reversed(parts[a]) if counts[group] == there)
        second = next((group for group in reversed(parts[b]) if counts[group] == here), None) if here else None
        parts[a].remove(first)
        parts[b].append(first)
        if second is not None:
            parts[b].remove(second)
            parts[a].append(second)
        over[a], over[b] = over[a] - there + here, over[b] + there - here
