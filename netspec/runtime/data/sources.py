"""The loaders of the catalog's sources: each takes the source and the training source's state, and gives samples.

A loader that finds classes or columns in the data itself takes those of the training source where it is given: the same
index has to mean the same class in every split.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from netspec.catalog.generated_data import MAKERS
from netspec.catalog.registry import lookup
from netspec.catalog.sources import FieldInfo, SourceEntry
from netspec.recipe.data import Source
from netspec.runtime.data.samples import Arrays, ImageFiles, Samples, infer_fields, subset
from netspec.runtime.errors import MissingPackage, RunError

State = Mapping[str, Any]

IMAGE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"))


def load(source: Source, reference: State | None = None) -> Samples:
    """The samples of a source. Raises RunError where the data is absent or not as it should be."""
    module, _, function = source.target.rpartition(".")
    samples: Samples = getattr(import_module(module), function)(source, reference)
    if not len(samples):
        raise RunError("NS920", f"{source.type} holds no samples")
    return samples


def _static(source: Source) -> dict[str, FieldInfo]:
    entry = lookup(source.type, "source")
    assert isinstance(entry, SourceEntry)
    return dict(entry.fields(source.arguments) or {})


def _arrays(source: Source, columns: dict[str, Tensor], state: State | None = None) -> Arrays:
    origin = str(source.arguments.get("path") or source.arguments.get("root") or source.type)
    return Arrays(fields=infer_fields(columns, _static(source)), columns=columns, origin=origin, state=state or {})


# scikit-learn


def _sklearn(name: str, **arguments: Any) -> Any:
    try:
        datasets = import_module("sklearn.datasets")
    except ImportError as error:
        raise MissingPackage("this source", "scikit-learn", "data") from error
    return getattr(datasets, f"load_{name}")(**arguments)


def digits(source: Source, reference: State | None) -> Samples:
    bunch = _sklearn("digits")
    image = torch.tensor(bunch.images, dtype=torch.float32).unsqueeze(1)
    if source.arguments["scale"]:
        image /= 16
    return _arrays(source, {"image": image, "label": torch.tensor(bunch.target, dtype=torch.int64)})


def _table(source: Source, name: str) -> Arrays:
    bunch = _sklearn(name)
    columns = {
        "features": torch.tensor(bunch.data, dtype=torch.float32),
        "label": torch.tensor(bunch.target, dtype=torch.int64),
    }
    return _arrays(source, columns, {"columns": [str(column) for column in bunch.feature_names]})


def iris(source: Source, reference: State | None) -> Samples:
    return _table(source, "iris")


def wine(source: Source, reference: State | None) -> Samples:
    return _table(source, "wine")


def breast_cancer(source: Source, reference: State | None) -> Samples:
    table = _table(source, "breast_cancer")
    columns = {**table.columns, "target": table.columns["label"].to(torch.float32).unsqueeze(1)}
    return _arrays(source, columns, table.state)


def diabetes(source: Source, reference: State | None) -> Samples:
    bunch = _sklearn("diabetes", scaled=source.arguments["scaled"])
    columns = {
        "features": torch.tensor(bunch.data, dtype=torch.float32),
        "target": torch.tensor(bunch.target, dtype=torch.float32).unsqueeze(1),
    }
    return _arrays(source, columns, {"columns": [str(column) for column in bunch.feature_names]})


def linnerud(source: Source, reference: State | None) -> Samples:
    bunch = _sklearn("linnerud")
    columns = {
        "features": torch.tensor(bunch.data, dtype=torch.float32),
        "target": torch.tensor(bunch.target, dtype=torch.float32),
    }
    return _arrays(source, columns, {"columns": [str(column) for column in bunch.feature_names]})


def generated(source: Source, reference: State | None) -> Samples:
    """What a generator of scikit-learn draws. Raises RunError NS922 where it refuses its arguments."""
    try:
        maker = getattr(import_module("sklearn.datasets"), MAKERS[source.type])
    except ImportError as error:
        raise MissingPackage("this source", "scikit-learn", "data") from error
    try:
        features, values = maker(**source.arguments)
    except ValueError as error:
        raise RunError(
            "NS925", f"{source.type} can't be made: {error}", help=f"see `netspec explain {source.type}`"
        ) from error
    columns = {"features": torch.tensor(features, dtype=torch.float32)}
    if source.type == "Regression":
        columns["target"] = torch.tensor(values, dtype=torch.float32).reshape(len(values), -1)
    else:
        columns["label"] = torch.tensor(values, dtype=torch.int64)
    return _arrays(source, columns)


# Images


def image_files(folder: Path) -> list[Path]:
    """Every image below the folder, by its ending, in torchvision's order: `os.walk` with sorted names."""
    found = []
    for directory, _, names in sorted(os.walk(folder, followlinks=True)):
        found += [Path(directory, name) for name in sorted(names) if Path(name).suffix.lower() in IMAGE_SUFFIXES]
    return found


def image_folder(source: Source, reference: State | None) -> Samples:
    root = Path(source.arguments["root"])
    if not root.is_dir():
        raise RunError("NS920", f"there is no folder {root}", help="check `root`")
    present = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not present:
        raise RunError(
            "NS920",
            f"{root} holds no folders: ImageFolder wants one for each class",
            help="put the images of each class into a folder of its own, or check `root`",
        )
    classes = list(reference["classes"]) if reference else present
    if strange := [name for name in present if name not in classes]:
        raise RunError(
            "NS924",
            f"{root} holds the class {strange[0]!r}, which the training data does not have",
            help=f"its classes are {', '.join(classes)}",
        )
    files: list[Path] = []
    labels: list[int] = []
    for name in present:
        found = image_files(root / name)
        if not found and reference is None:
            raise RunError("NS920", f"{root / name} holds no images", help="add some, or remove the folder")
        files += found
        labels += [classes.index(name)] * len(found)
    fields = _static(source)
    fields["label"] = FieldInfo(name="label", shape=(), dtype="int64", classes=tuple(classes), num_classes=len(classes))
    return ImageFiles(
        fields=fields, files=files, labels=torch.tensor(labels, dtype=torch.int64), state={"classes": classes}
    )


def mnist(source: Source, reference: State | None) -> Samples:
    """The idx files, zipped or not, under `root/<name>/raw` as torchvision lays them out, `root/raw` or `root`."""
    root, name = Path(source.arguments["root"]), source.type
    part = "train" if source.arguments["train"] else "t10k"
    if source.arguments["download"]:
        _torchvision(name, root, download=True)
    columns = {
        "image": _read_idx(root, name, f"{part}-images-idx3-ubyte", 3).unsqueeze(1),
        "label": _read_idx(root, name, f"{part}-labels-idx1-ubyte", 1).to(torch.int64),
    }
    if len(columns["image"]) != len(columns["label"]):
        raise RunError(
            "NS924", f"{name} under {root} has {len(columns['image'])} images and {len(columns['label'])} labels"
        )
    return _arrays(source, columns)


def _read_idx(root: Path, name: str, file: str, dimensions: int) -> Tensor:
    folders = (root / name / "raw", root / "raw", root)
    paths = [folder / (file + suffix) for folder in folders for suffix in ("", ".gz")]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise RunError(
            "NS920",
            f"there is no {file} or {file}.gz in {folders[0]}",
            help="`root` is the folder that holds it; `download: true` fetches the data",
        )
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise RunError("NS921", f"{path} can't be unzipped: {error}") from error
    header = np.frombuffer(data, dtype=">i4", count=min(len(data) // 4, 1 + dimensions))
    sizes = [int(size) for size in header[1:]]
    if len(header) != 1 + dimensions or header[0] != 0x800 + dimensions or len(data) - header.nbytes != np.prod(sizes):
        raise RunError(
            "NS921", f"{path} is no idx file of {dimensions} dimensions, or is cut off", help="fetch it again"
        )
    return torch.from_numpy(np.frombuffer(data, dtype=np.uint8, offset=header.nbytes).reshape(sizes).copy())


def cifar(source: Source, reference: State | None) -> Samples:
    """Read by torchvision, which checks each file's MD5 before it unpickles it."""
    arguments = source.arguments
    data = _torchvision(source.type, Path(arguments["root"]), train=arguments["train"], download=arguments["download"])
    columns = {
        "image": torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous(),
        "label": torch.tensor(data.targets, dtype=torch.int64),
    }
    static = _static(source)
    classes = tuple(data.classes)
    static["label"] = FieldInfo(name="label", shape=(), dtype="int64", classes=classes, num_classes=len(classes))
    return Arrays(fields=infer_fields(columns, static), columns=columns, origin=str(arguments["root"]))


def _torchvision(name: str, root: Path, **arguments: Any) -> Any:
    try:
        return getattr(import_module("torchvision.datasets"), name)(root, **arguments)
    except (RuntimeError, OSError) as error:
        raise RunError(
            "NS920", f"{name} under {root}: {error}", help="`root` holds the data; `download: true` fetches it"
        ) from error


# Files of numbers


def numpy_arrays(source: Source, reference: State | None) -> Samples:
    stated = source.arguments["path"]
    stored: dict[str, np.ndarray[Any, Any]] = {}
    for name, path in stated.items() if isinstance(stated, dict) else (("", stated),):
        found = _load_arrays(Path(path))
        stored |= {name: found} if isinstance(found, np.ndarray) else found
    where = ", ".join(stated.values()) if isinstance(stated, dict) else stated
    names = source.arguments["fields"] or {name or "features": name for name in stored if name not in source.aside}
    if list(stored) == [""]:  # one array of a file without names is whatever the spec calls it
        names = {field: "" for field in names}
        if len(names) > 1:
            raise RunError("NS924", f"{where} holds one array, and `fields` asks for {', '.join(names)}")
    columns = {}
    for field, name in names.items():
        if name not in stored:
            raise RunError("NS924", f"{where} has no array {name!r}; it holds {', '.join(stored)}")
        columns[field] = array_to_tensor(field, stored[name], source.arguments["channels_last"], Path(where))
    aside = {}
    for name in source.aside:
        if name not in stored or stored[name].ndim != 1:
            raise RunError("NS924", f"{where} has no array {name!r} with a value for each sample")
        aside[name] = [str(value) for value in stored[name].tolist()]
    sizes = {field: len(column) if column.ndim else 0 for field, column in columns.items()}
    sizes |= {name: len(words) for name, words in aside.items()}
    if len(set(sizes.values())) > 1:
        counts = ", ".join(f"{field} {size}" for field, size in sizes.items())
        raise RunError("NS924", f"the arrays of {where} differ in their number of rows: {counts}")
    made = replace(_arrays(source, columns), origin=where, aside=aside)
    return _finite_rows(made) if source.skip else made


def _load_arrays(path: Path) -> np.ndarray[Any, Any] | dict[str, np.ndarray[Any, Any]]:
    """The array of an `.npy` file, those of an `.npz` by name."""
    try:
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return found
        with found:
            return {name: found[name] for name in found.files}
    except FileNotFoundError as error:
        raise RunError("NS920", f"there is no file {path}", help="check `path`") from error
    except (OSError, ValueError, AttributeError, EOFError, BadZipFile) as error:
        raise RunError("NS921", f"{path} can't be read as plain arrays (.npy or .npz): {error}") from error


def _finite_rows(arrays: Arrays) -> Arrays:
    """Without the rows in which a number is not finite."""
    good = torch.ones(len(arrays), dtype=torch.bool)
    reasons: dict[str, str] = {}
    for field, column in arrays.columns.items():
        if column.is_floating_point():
            finite = torch.isfinite(column).reshape(len(column), -1).all(dim=1)
            for index in torch.nonzero(good & ~finite).flatten().tolist():
                reasons[arrays.name(index)] = f"`{field}` holds a number that is not finite"
            good &= finite
    if not reasons:
        return arrays
    kept = torch.nonzero(good).flatten()
    if not len(kept):
        raise RunError("NS920", f"every row of {arrays.origin} holds a number that is not finite")
    chosen = subset(replace(arrays, numbers=range(len(arrays))), kept)
    assert isinstance(chosen, Arrays)
    return replace(chosen, dropped=reasons)


def array_to_tensor(field: str, array: np.ndarray[Any, Any], channels_last: bool, path: Path) -> Tensor:
    if array.dtype.kind not in "biuf":
        raise RunError("NS924", f"the array for {field} in {path} holds {array.dtype}, no numbers")
    if field == "image":
        if array.ndim == 3:  # grey, without a dimension for channels
            array = array[:, None]
        elif channels_last and array.ndim == 4:
            array = array.transpose(0, 3, 1, 2)
    keep = array.dtype == np.bool_ or (field == "image" and array.dtype == np.uint8)
    kind = array.dtype if keep else (np.float32 if array.dtype.kind == "f" else np.int64)
    return torch.from_numpy(np.array(array, dtype=kind, order="C"))


def table(source: Source, reference: State | None) -> Samples:
    from netspec.runtime.data.tables import read_table

    path = Path(source.arguments["path"])
    columns, state, read = read_table(path, source.arguments, reference, aside=source.aside, skip=source.skip)
    static = _static(source)
    if state["classes"]:
        classes = tuple(state["classes"])
        static["label"] = FieldInfo(name="label", shape=(), dtype="int64", classes=classes, num_classes=len(classes))
    return Arrays(
        fields=infer_fields(columns, static),
        columns=columns,
        origin=str(path),
        state=state,
        aside={name: read.words(name) for name in source.aside},
        numbers=read.numbers,
        dropped={f"row {number} of {path}": reason for number, reason in read.bad.items()},
    )
