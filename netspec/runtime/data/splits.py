"""Which samples are in which split. By sizes it is a function of the cut's own seed; else the data say it."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor

from netspec.recipe.data import Cut
from netspec.runtime.data.groups import cut_groups
from netspec.runtime.data.samples import Samples, class_column, words_column
from netspec.runtime.data.seeds import generator
from netspec.runtime.errors import RunError


def cut_samples(samples: Samples, plan: Cut) -> dict[str, Tensor]:
    """The indices of each split, ascending. Raises RunError NS924 or NS925 where the data don't fit the plan."""
    if plan.column is not None:
        return _by_column(samples, plan)
    if plan.files:
        return _by_files(samples, plan)
    if plan.groups is not None:
        return cut_groups(samples, plan, _sizes(len(samples), plan))
    labels = None if plan.stratify is None else class_column(samples, plan.stratify, "stratify")
    if labels is not None:
        _check_classes(samples, plan, labels)
    return cut(len(samples), plan, labels)


def cut(count: int, plan: Cut, labels: Tensor | None) -> dict[str, Tensor]:
    """The indices of each split by its size, ascending. `labels` (one class a sample) are given to stratify.

    The samples are shuffled where the plan does so. By shares alone, split k has round(n · (f₁ + … + fₖ)) -
    round(n · (f₁ + … + fₖ₋₁)) of them, halves up. Stratified, it takes from each class in proportion to what the splits
    before it have left, to within one sample.
    """
    draw = torch.Generator().manual_seed(plan.seed)
    order = torch.randperm(count, generator=draw) if plan.shuffle else torch.arange(count)
    sizes = _sizes(count, plan)
    if labels is None:
        parts = list(torch.split(order[: sum(sizes.values())], list(sizes.values())))
    else:
        parts = _stratified(order, labels, list(sizes.values()), draw)
    return {name: part.sort().values for name, part in zip(sizes, parts, strict=True)}


def _sizes(count: int, plan: Cut) -> dict[str, int]:
    sizes: dict[str, int] = {}
    if all(isinstance(size, float) for size in plan.sizes.values()):
        start, share = 0, Fraction(0)
        for name, size in plan.sizes.items():
            share += Fraction(str(size))
            stop = int(share * count + Fraction(1, 2))
            sizes[name], start = stop - start, stop
    else:
        for name, size in plan.sizes.items():
            sizes[name] = int(Fraction(str(size)) * count + Fraction(1, 2)) if isinstance(size, float) else size or 0
        left = count - sum(sizes.values())
        if left < 0:
            raise RunError(
                "NS925",
                f"`split` asks for {sum(sizes.values())} samples, and the source has {count}",
                help="smaller counts, or `rest` for one of the splits",
            )
        sizes |= {name: left for name, size in plan.sizes.items() if size is None}
    for name, size in sizes.items():
        if not size:
            stated = plan.sizes[name]
            share_text = f" with a share of {stated:g}" if stated is not None else ": the others leave nothing"
            raise RunError("NS925", f"`{name}` gets none of the {count} samples{share_text}", help="a larger share")
    return sizes


def _check_classes(samples: Samples, plan: Cut, labels: Tensor) -> None:
    """Every split needs a sample of every class, else the shares can't be equal."""
    counts = torch.bincount(labels[labels >= 0])
    few = [int(label) for label in torch.nonzero((counts > 0) & (counts < len(plan.sizes))).flatten()]
    if few:
        info = samples.fields.get(plan.stratify or "")
        known = info.classes if info is not None else None
        name = known[few[0]] if known is not None and few[0] < len(known) else str(few[0])
        number = int(counts[few[0]])
        raise RunError(
            "NS925",
            f"the class {name} has {number} sample{'s' * (number != 1)}, and `stratify` would have to give one to each "
            f"of {len(plan.sizes)} splits",
            help="leave out `stratify`, add samples of the class, or take it out of the data",
        )


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


def _by_column(samples: Samples, plan: Cut) -> dict[str, Tensor]:
    assert plan.column is not None
    words = words_column(samples, plan.column, "split")
    means = {str(value): name for name, values in plan.values.items() for value in values}
    found: dict[str, list[int]] = {name: [] for name in plan.values}
    for index, word in enumerate(words):
        if word in means:
            found[means[word]].append(index)
    for name, indices in found.items():
        if not indices:
            wanted = " or ".join(repr(str(value)) for value in plan.values[name])
            raise RunError(
                "NS925",
                f"`{name}` gets no samples: no row has {wanted} in the column `{plan.column}`",
                help=f"the column holds {', '.join(sorted(set(words))[:10])}",
            )
    return {name: torch.tensor(indices) for name, indices in found.items()}


def _by_files(samples: Samples, plan: Cut) -> dict[str, Tensor]:
    """Samples by the lines of files: a number from 0, or the sample's file, as far as it takes to tell them apart."""
    known = _known_names(samples)
    taken: dict[int, str] = {}
    parts: dict[str, Tensor] = {}
    for name, file in plan.files.items():
        indices = []
        for number, line in enumerate(_lines(Path(file)), 1):
            word = line.strip()
            if not word:
                continue
            index = int(word) if word.isdecimal() and word not in known else known.get(word)
            if index is None or index >= len(samples):
                raise RunError(
                    "NS924",
                    f"line {number} of {file} names {word!r}, which is none of the {len(samples)} samples",
                    help="a line is a file's name, below the source's folder, or the number of a sample from 0",
                )
            if index in taken:
                raise RunError(
                    "NS925",
                    f"line {number} of {file}: {word} is in `{taken[index]}` already",
                    help="a sample belongs to one split",
                )
            taken[index] = name
            indices.append(index)
        if not indices:
            raise RunError("NS925", f"`{name}` gets no samples: {file} is empty")
        parts[name] = torch.tensor(sorted(indices))
    return parts


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError as error:
        raise RunError(
            "NS920", f"there is no file {path}", help="a split's file lists its samples, one a line"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise RunError("NS921", f"{path} can't be read as a list of samples: {error}") from error


def _known_names(samples: Samples) -> Mapping[str, int]:
    """Each sample by its path below what all have in common, and by shorter names that no two share."""
    names = [samples.name(index) for index in range(len(samples))]
    root = os.path.commonpath(names) if len(names) > 1 and all(map(os.path.isabs, names)) else ""
    known: dict[str, int] = {}
    shared: set[str] = set()
    for index, name in enumerate(names):
        path = Path(name)
        below = path.relative_to(root) if root else path
        for word in {name, str(below), str(below.with_suffix("")), path.name, path.stem}:
            if known.get(word, index) != index:
                shared.add(word)
            known[word] = index
    return {word: index for word, index in known.items() if word not in shared}


def chosen(count: int, wanted: float | int, seed: int) -> Tensor:
    """So many of `count` samples, or that share of them, drawn once and ascending."""
    number = wanted if isinstance(wanted, int) else max(1, math.floor(Fraction(str(wanted)) * count + Fraction(1, 2)))
    return torch.randperm(count, generator=generator(seed, 1))[: min(number, count)].sort().values
