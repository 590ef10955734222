"""What the tests of data share: recipes from text, and streams on the CPU."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from netspec.diagnostics import Diagnostic, Diagnostics
from netspec.document import Mapping as MappingNode
from netspec.document import parse_document
from netspec.recipe.data import DataRecipe
from netspec.recipe.read_data import read_data
from netspec.runtime.data import Data, Stream, open_data

CPU = torch.device("cpu")


def read(
    text: str, scope: Mapping[str, object] | None = None, file: str = "spec.yaml", *, headers: bool = True
) -> tuple[DataRecipe | None, list[Diagnostic]]:
    """The recipe of a `data` section, given without its key, and what was said about it."""
    diagnostics = Diagnostics()
    document = parse_document("data:\n" + textwrap.indent(textwrap.dedent(text), "  "), file, diagnostics)
    assert document is not None, list(diagnostics)
    node = document.items["data"]
    assert isinstance(node, MappingNode)
    return read_data(node, diagnostics, scope or {}, headers=headers), list(diagnostics)


def recipe(text: str, scope: Mapping[str, object] | None = None, *, headers: bool = True) -> DataRecipe:
    """The recipe of a section without errors."""
    found, said = read(text, scope, headers=headers)
    assert found is not None, said
    return found


def opened(text: str, **options: Any) -> Data:
    """The data of a section whose files nobody has looked at before, as a resumed run opens them."""
    options.setdefault("seed", 0)
    return open_data(recipe(text, headers=False), device=CPU, **options)


def epoch(stream: Stream, number: int = 0, start: int = 0) -> list[dict[str, Tensor]]:
    return list(stream.batches(number, start))


def equal(left: Iterable[Mapping[str, Tensor]], right: Iterable[Mapping[str, Tensor]]) -> bool:
    """The same batches with the same fields, bit for bit."""
    pairs = list(zip(list(left), list(right), strict=True))
    assert pairs, "no batches were compared"
    return all(a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a) for a, b in pairs)


def joined(batches: Iterable[Mapping[str, Tensor]], field: str) -> Tensor:
    return torch.cat([batch[field] for batch in batches])


def image_folder(root: Path, counts: Mapping[str, int], size: tuple[int, int] = (20, 16)) -> Path:
    """A folder of PNG images that all differ, (width, height) in size, so many for each class."""
    from PIL import Image

    draw = torch.Generator().manual_seed(7)
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            pixels = torch.randint(0, 256, (size[1], size[0], 3), dtype=torch.uint8, generator=draw)
            Image.fromarray(pixels.numpy()).save(root / name / f"{number:03}.png")
    return root
