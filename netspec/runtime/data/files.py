"""Files that a person hands to a trained model: read and transformed as the evaluation data was."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from netspec.catalog.registry import lookup
from netspec.catalog.sources import FieldInfo, SourceEntry
from netspec.recipe.data import DataRecipe, Split
from netspec.runtime.data.pipeline import Pipeline, collate, make_pipeline, run
from netspec.runtime.data.samples import Sample, read_image
from netspec.runtime.data.seeds import mix
from netspec.runtime.data.sources import IMAGE_SUFFIXES, array_to_tensor, image_files
from netspec.runtime.data.tables import Standardize, read_table
from netspec.runtime.errors import RunError

_CSV_DEFAULTS: dict[str, Any] = {"label": None, "target": None, "features": None, "categorical": (), "classes": None}


def preprocess_files(
    recipe: DataRecipe,
    paths: Sequence[Path],
    *,
    state: Mapping[str, Any],
    split: str | None = None,
    unreadable: list[RunError] | None = None,
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """(name, fields) for each image in the files and folders, each row of the CSV files, each entry of NumPy's arrays.

    A sample holds the input fields, without a batch dimension, on the CPU. The transforms are those of `split`, by
    default of `test`, else `val`, else `train`, without the random ones; `state` is `Data.state()` of the run. An
    image is made what the source gives: RGB, or grey and of the size that a source of one size has. A row is called
    `path:number`, counted from 1 below the header. Raises RunError naming the file that can't be read, unless
    `unreadable` takes what is raised: then such a file is passed over.
    """
    chosen, pipeline = _evaluation(recipe, state, split)
    images = "image" in state["fields"]
    for path in paths:
        read = _arrays if path.suffix in (".npy", ".npz") else _images if images else _rows
        for name, sample in read(Path(path), chosen, state):
            try:
                yield name, _through(sample(), pipeline, name)
            except RunError as error:
                if unreadable is None or error.code != "NS921":
                    raise
                unreadable.append(error)


def preprocess_values(
    recipe: DataRecipe, values: Iterable[Any], *, state: Mapping[str, Any], split: str | None = None
) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """(its number from 1, fields) for PIL images and arrays, uint8 [H, W] or [H, W, C], or for rows of numbers."""
    chosen, pipeline = _evaluation(recipe, state, split)
    images = "image" in state["fields"]
    for number, value in enumerate(values, 1):
        yield str(number), _through(_sample("image" if images else "features", value, chosen), pipeline, str(number))


def _evaluation(recipe: DataRecipe, state: Mapping[str, Any], split: str | None) -> tuple[Split, Pipeline]:
    chosen = recipe.splits[split or next(name for name in ("test", "val", "train") if name in recipe.splits)]
    fitted = {name: Standardize.from_state(name, kept) for name, kept in state["standardize"].items()}
    return chosen, make_pipeline(chosen, fitted, state["num_classes"], deterministic=True)


def _picture(value: Any) -> Any:
    """What a person has as a PIL image. Raises RunError NS921 for an array that is none."""
    from PIL import Image

    if isinstance(value, Image.Image):
        return value
    array = np.asarray(value)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise RunError(
            "NS921",
            f"an image is uint8 [height, width] or [height, width, channels], and this is {array.dtype} "
            f"{list(array.shape)}",
            help="tensors that are ready for the model go into the call: `netspec.load(run)(tensor)`",
        )
    return Image.fromarray(array)


def _row(value: Any) -> Tensor:
    return torch.as_tensor(np.asarray(value, dtype=np.float32))


def _arrays(path: Path, split: Split, state: Mapping[str, Any]) -> Iterator[tuple[str, Callable[[], Sample]]]:
    """The entries of the array that the model's field is in: under its name, or the only one."""
    try:
        found = np.load(path, allow_pickle=False)
        arrays = {"": found} if isinstance(found, np.ndarray) else dict(found)
    except FileNotFoundError as error:
        raise RunError("NS920", f"there is no file {path}") from error
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise RunError("NS921", f"{path} can't be read as arrays: {error}") from error
    if split.source.type == "NumPy":
        columns = _columns(arrays, split, state, path)
        for index in range(min(map(len, columns.values()))):
            yield f"{path}:{index + 1}", partial(_entry, columns, index)
        return
    field = "image" if "image" in state["fields"] else "features"
    name = field if field in arrays else next(iter(arrays)) if len(arrays) == 1 else None
    if name is None:
        raise RunError("NS924", f"{path} has no array `{field}`; it holds {', '.join(arrays)}")
    array = arrays[name]
    for index, value in enumerate(array):
        yield f"{path}:{index + 1}", partial(_sample, field, value, split)


def _columns(
    arrays: Mapping[str, np.ndarray[Any, Any]], split: Split, state: Mapping[str, Any], path: Path
) -> dict[str, Tensor]:
    """The arrays of a file by the fields that the run was trained with; a single one is its first field."""
    names = {field: (split.source.arguments.get("fields") or {}).get(field, field) for field in state["fields"]}
    found = {field: arrays[name] for field, name in names.items() if name in arrays}
    found = found or {field: arrays[field] for field in names if field in arrays}
    if not found and len(arrays) == 1:
        found = {next(iter(names)): next(iter(arrays.values()))}
    if not found:
        raise RunError(
            "NS924", f"{path} has none of the arrays {', '.join(names.values())}; it holds {', '.join(arrays)}"
        )
    lengths = {field: len(array) for field, array in found.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{field} {length}" for field, length in lengths.items())
        raise RunError("NS924", f"the arrays of {path} differ in length: {told}")
    last = split.source.arguments["channels_last"]
    return {field: array_to_tensor(field, array, last, path) for field, array in found.items()}


def _entry(columns: Mapping[str, Tensor], index: int) -> Sample:
    return {field: column[index] for field, column in columns.items()}


def _sample(field: str, value: Any, split: Split) -> Sample:
    return {"image": _image(value, split)} if field == "image" else {"features": _row(value)}


def _image(value: Any, split: Split) -> Any:
    """A picture as the source would have given it; floats of the shape that it gives are taken as they are."""
    info = _image_info(split)
    shape = np.shape(value) if isinstance(value, np.ndarray) and value.dtype.kind == "f" else None
    if info is not None and info.dtype == "float32" and shape == info.shape:
        return torch.as_tensor(value, dtype=torch.float32)
    return _as_source(_picture(value), split)


def _through(sample: Sample, pipeline: Pipeline, name: str) -> dict[str, Tensor]:
    batch = pipeline.on_batch(collate([run(pipeline.head, sample, lambda: name)], lambda _: name), mix(0))
    return {field: value[0] for field, value in batch.items()}


def _images(path: Path, split: Split, state: Mapping[str, Any]) -> Iterator[tuple[str, Callable[[], Sample]]]:
    files = image_files(path) if path.is_dir() else [path]
    if not files:
        raise RunError("NS920", f"{path} holds no images", help=f"images end in {', '.join(sorted(IMAGE_SUFFIXES))}")
    for file in files:
        yield str(file), partial(_read, file, split)


def _read(file: Path, split: Split) -> Sample:
    return {"image": _as_source(read_image(file, None), split)}


def _image_info(split: Split) -> FieldInfo | None:
    entry = lookup(split.source.type, "source")
    assert isinstance(entry, SourceEntry)
    return (entry.fields(split.source.arguments) or {}).get("image")


def _as_source(image: Any, split: Split) -> Any:
    """A PIL image as the source would have given it."""
    from netspec.runtime.data.steps import image_to_tensor

    entry, info = lookup(split.source.type, "source"), _image_info(split)
    assert isinstance(entry, SourceEntry)
    channels, height, width = info.shape if info is not None and info.shape else (3, None, None)
    image = image.convert("L" if channels == 1 else "RGB")
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


def _rows(path: Path, split: Split, state: Mapping[str, Any]) -> Iterator[tuple[str, Callable[[], Sample]]]:
    kept = state["source"]
    if "columns" not in kept:
        raise RunError(
            "NS924",
            f"a source of type {split.source.type} has no columns by name, so {path} can't be read as its rows",
            help="`generate` goes on with a text" if split.source.type == "Text" else None,
        )
    arguments = {**_CSV_DEFAULTS, "delimiter": split.source.arguments.get("delimiter", ",")}
    reference = {"categories": {}, "classes": None, **kept}
    columns, _, _ = read_table(path, arguments, reference, inputs_only=True)
    for row in range(len(columns["features"])):
        yield f"{path}:{row + 1}", partial(dict, {"features": columns["features"][row]})
