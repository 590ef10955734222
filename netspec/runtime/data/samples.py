"""Samples by index: columns in memory, or image files that are decoded when asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from netspec.catalog.sources import FieldInfo
from netspec.runtime.errors import RunError

Sample = dict[str, Any]
"""Field name to tensor, or to a PIL image on its way through the transforms."""


class Samples(Protocol):
    """What a source's loader gives. `state` is JSON-able: what is needed to read further data in the same way."""

    fields: Mapping[str, FieldInfo]
    state: Mapping[str, Any]

    def __len__(self) -> int: ...

    def sample(self, index: int) -> Sample: ...

    def name(self, index: int) -> str:
        """How a message calls the sample: its file, or its row."""
        ...

    def column(self, name: str) -> Tensor:
        """One value a sample, for fields that need no decoding. Raises KeyError for others."""
        ...


@dataclass(slots=True)
class Arrays:
    """Columns in memory: each tensor holds a sample a row."""

    fields: Mapping[str, FieldInfo]
    columns: dict[str, Tensor]
    origin: str
    state: Mapping[str, Any] = field(default_factory=dict)
    aside: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Columns of words that are no fields: what a split or a sampler goes by."""
    numbers: Sequence[int] | None = None
    """What the rows are called in their file."""
    dropped: Mapping[str, str] = field(default_factory=dict)
    """Rows that can't be read and were left out, by name, and why."""

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def sample(self, index: int) -> Sample:
        return {name: column[index] for name, column in self.columns.items()}

    def name(self, index: int) -> str:
        if self.numbers is not None:
            return f"row {self.numbers[index]} of {self.origin}"
        return f"sample {index} of {self.origin}"

    def column(self, name: str) -> Tensor:
        return self.columns[name]


@dataclass(slots=True)
class ImageFiles:
    """Image files, decoded to RGB or grey, with a class each where classes are known."""

    fields: Mapping[str, FieldInfo]
    files: list[Path]
    labels: Tensor | None
    state: Mapping[str, Any] = field(default_factory=dict)
    mode: str = "RGB"

    def __len__(self) -> int:
        return len(self.files)

    def sample(self, index: int) -> Sample:
        image = read_image(self.files[index], self.mode)
        return {"image": image} if self.labels is None else {"image": image, "label": self.labels[index]}

    def name(self, index: int) -> str:
        return str(self.files[index])

    def column(self, name: str) -> Tensor:
        if name != "label" or self.labels is None:
            raise KeyError(name)
        return self.labels


@dataclass(slots=True)
class Subset:
    """Some samples of others, in the order of the indices."""

    of: Samples
    indices: Tensor
    fields: Mapping[str, FieldInfo] = field(init=False)
    state: Mapping[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.fields, self.state = self.of.fields, self.of.state

    def __len__(self) -> int:
        return len(self.indices)

    def sample(self, index: int) -> Sample:
        return self.of.sample(int(self.indices[index]))

    def name(self, index: int) -> str:
        return self.of.name(int(self.indices[index]))

    def column(self, name: str) -> Tensor:
        return self.of.column(name)[self.indices]


def subset(samples: Samples, indices: Tensor) -> Samples:
    """Those samples, in that order."""
    if isinstance(samples, Arrays):
        first, count = int(indices[0]) if len(indices) else 0, len(indices)
        if torch.equal(indices, torch.arange(first, first + count)):  # a view, which costs no memory
            columns = {name: column[first : first + count] for name, column in samples.columns.items()}
        else:
            columns = {name: column[indices] for name, column in samples.columns.items()}
        chosen = indices.tolist()
        return replace(
            samples,
            columns=columns,
            aside={name: [words[i] for i in chosen] for name, words in samples.aside.items()},
            numbers=[samples.numbers[i] for i in chosen] if samples.numbers is not None else None,
        )
    return Subset(samples, indices)


def words_column(samples: Samples, name: str, purpose: str) -> list[str]:
    """A column as words, one a sample. Raises RunError NS924 where there is none of that name."""
    if isinstance(samples, Arrays) and name in samples.aside:
        return list(samples.aside[name])
    try:
        column = samples.column(name)
    except KeyError:
        column = torch.empty(0, 0)
    if column.ndim != 1:
        known = [*samples.fields, *(samples.aside if isinstance(samples, Arrays) else ())]
        raise RunError("NS924", f"the data has no column `{name}` to {purpose} by; it has {', '.join(known)}")
    return [str(value) for value in column.tolist()]


def weights_column(samples: Samples, name: str) -> Tensor:
    """A weight from 0 for each sample, float64. Raises RunError NS924 where the column holds something else."""
    words = words_column(samples, name, "weigh")
    try:
        weights = torch.tensor([float(word) for word in words], dtype=torch.float64)
    except ValueError:
        weights = torch.full((1,), -1.0)
    if not bool(torch.isfinite(weights).all()) or bool((weights < 0).any()):
        raise RunError(
            "NS924", f"the weights in `{name}` are not all numbers from 0", help="one weight for each sample"
        )
    return weights


def class_column(samples: Samples, name: str, purpose: str) -> Tensor:
    """The class index of each sample, [samples]. Raises RunError NS924 where the field holds none."""
    try:
        labels = samples.column(name)
    except KeyError:
        fields = ", ".join(samples.fields)
        raise RunError("NS924", f"the data has no classes `{name}` to {purpose} by; its fields are {fields}") from None
    if labels.ndim != 1 or labels.is_floating_point():
        raise RunError("NS924", f"`{name}` does not hold one class index a sample, to {purpose} by")
    return labels


def read_image(path: Path, mode: str | None = "RGB") -> Any:
    """The file as a PIL image, decoded, in this mode or in its own.

    Raises RunError NS921 naming the file where it is no readable image.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            if mode is not None:
                return image.convert(mode)
            image.load()
            return image.copy()
    except FileNotFoundError as error:
        raise RunError("NS920", f"there is no file {path}") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise RunError(
            "NS921",
            f"{path} can't be read as an image: {error}",
            help="mend the file or take it out; `data: {skip_unreadable: 10}` leaves out up to 10 such files",
        ) from error


def infer_fields(columns: Mapping[str, Tensor], known: Mapping[str, FieldInfo]) -> dict[str, FieldInfo]:
    """What the columns hold, with the class names of the known fields."""
    fields = {}
    for name, column in columns.items():
        classes = known[name].classes if name in known else None
        count = len(classes) if classes else (known[name].num_classes if name in known else None)
        if count is None and name == "label" and column.dtype == torch.int64 and column.ndim == 1 and len(column):
            count = int(column.max()) + 1
        fields[name] = FieldInfo(
            name=name,
            shape=tuple(column.shape[1:]),
            dtype=str(column.dtype).removeprefix("torch."),
            classes=classes,
            num_classes=count,
        )
    return fields
