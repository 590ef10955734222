"""Files that a person hands to a trained model: read and transformed as the evaluation data was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from netspec.catalog.registry import lookup
from netspec.catalog.sources import SourceEntry
from netspec.recipe.data import DataRecipe, Split
from netspec.runtime.data.pipeline import Pipeline, collate, make_pipeline, run
from netspec.runtime.data.samples import Sample, read_image
from netspec.runtime.data.seeds import mix
from netspec.runtime.data.sources import IMAGE_SUFFIXES, image_files
from netspec.runtime.data.tables import Standardize, read_table
from netspec.runtime.errors import RunError

_CSV_DEFAULTS: dict[str, Any] = {"label": None, "target": None, "features": None, "categorical": (), "classes": None}


def preprocess_files(
    recipe: DataRecipe, paths: Sequence[Path], *, state: Mapping[str, Any], split: str | None = None
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """(name, fields) for each image in the files and folders, or for each row of the CSV files.

    A sample holds the input fields, without a batch dimension, on the CPU. The transforms are those of `split`, by
    default of `test`, else `val`, else `train`, without the random ones; `state` is `Data.state()` of the run. An
    image is made what the source gives: RGB, or grey and of the size that a source of one size has. A row is called
    `path:number`, counted from 1 below the header. Raises RunError naming the file that can't be read.
    """
    chosen = recipe.splits[split or next(name for name in ("test", "val", "train") if name in recipe.splits)]
    fitted = {name: Standardize.from_state(name, kept) for name, kept in state["standardize"].items()}
    pipeline = make_pipeline(chosen, fitted, state["num_classes"], deterministic=True)
    read = _images if "image" in state["fields"] else _rows
    for path in paths:
        for name, sample in read(Path(path), chosen, state):
            yield name, _through(sample, pipeline, name)


def _through(sample: Sample, pipeline: Pipeline, name: str) -> dict[str, Tensor]:
    batch = pipeline.on_batch(collate([run(pipeline.head, sample, lambda: name)], lambda _: name), mix(0))
    return {field: value[0] for field, value in batch.items()}


def _images(path: Path, split: Split, state: Mapping[str, Any]) -> Iterator[tuple[str, Sample]]:
    files = image_files(path) if path.is_dir() else [path]
    if not files:
        raise RunError("NS920", f"{path} holds no images", help=f"images end in {', '.join(sorted(IMAGE_SUFFIXES))}")
    for file in files:
        yield str(file), {"image": _as_source(file, split)}


def _as_source(file: Path, split: Split) -> Any:
    """The image as the source would have given it."""
    from netspec.runtime.data.steps import image_to_tensor

    entry = lookup(split.source.type, "source")
    assert isinstance(entry, SourceEntry)
    info = (entry.fields(split.source.arguments) or {}).get("image")
    channels, height, width = info.shape if info is not None and info.shape else (3, None, None)
    image = read_image(file, "L" if channels == 1 else "RGB")
    if height is not None and width is not None and image.size != (width, height):
        from PIL import Image

        # A mean over the pixels is how such small sets were made from larger pictures.
        shrinks = image.width >= width and image.height >= height
        image = image.resize((width, height), Image.Resampling.BOX if shrinks else Image.Resampling.BICUBIC)
    if entry.pil:
        return image
    tensor = image_to_tensor(image)
    if info is not None and info.dtype == "float32":  # Digits: 0 … 1, or 0 … 16 where it is not scaled
        return tensor.to(torch.float32) / 255 * (1 if split.source.arguments.get("scale", True) else 16)
    return tensor


def _rows(path: Path, split: Split, state: Mapping[str, Any]) -> Iterator[tuple[str, Sample]]:
    kept = state["source"]
    if "columns" not in kept:
        raise RunError(
            "NS924", f"a source of type {split.source.type} has no columns by name, so {path} can't be read as its rows"
        )
    arguments = {**_CSV_DEFAULTS, "delimiter": split.source.arguments.get("delimiter", ",")}
    reference = {"categories": {}, "classes": None, **kept}
    columns, _ = read_table(path, arguments, reference, inputs_only=True)
    for row in range(len(columns["features"])):
        yield f"{path}:{row + 1}", {"features": columns["features"][row]}
