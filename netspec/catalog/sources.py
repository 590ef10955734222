"""The sources of data that a spec may name, and what each can tell about its fields without reading any data.

A source gives samples: mappings from field names to tensors. Class sets give `label`, an int64 index; regression sets
give `target`, float32 of shape [1], so that it stands beside the [N, 1] of a `Linear` head without a squeeze. Images
are [C, H, W]. The loaders are in `netspec.runtime.data.sources`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from netspec.catalog.entry import Argument, Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldInfo:
    """One field of a sample.

    `shape` is that of one sample, None for a size that is not known before the data is read; the whole is None where
    not even the number of dimensions is. `dtype` is torch's name for it, "any" where it is not known.
    """

    name: str
    shape: tuple[int | None, ...] | None
    dtype: str
    classes: tuple[str, ...] | None = None
    num_classes: int | None = None


Fields = Mapping[str, FieldInfo]

IMAGES: Final = ("image", "image2")
"""The fields that transforms of images work on."""
MAPS: Final = ("mask",)
"""The fields with a value for each pixel, which v2 moves with the image."""
STILL: Final = ("flow", "disparity", "valid", "boundaries")
"""Fields that belong to places in the image, and that v2 does not move with it."""
PADDED: Final[Mapping[str, float]] = {"boxes": 0.0, "labels": -100}
"""Fields of which a sample has any number of rows, and what fills a batch up; losses ignore a class of -100."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceEntry(Entry):
    fields: Callable[[Mapping[str, Any]], Fields | None]
    """fields(arguments) -> what a sample holds before any transform, told without reading data; None if unknown."""
    paths: tuple[str, ...] = ()
    """The arguments that are paths, relative to the file that states them."""
    pil: bool = False
    """True where images come as PIL images (decoded files), as from torchvision's own data sets."""
    parts: tuple[str, Mapping[str, Any]] | None = field(default=None, hash=False)
    """The argument that chooses a part of the data, and its value under `train`, `val` and `test` if left out."""
    overlaps: Callable[[Mapping[str, Any]], bool] | None = field(default=None, hash=False)
    """overlaps(arguments) -> whether neighbouring samples share what they hold, so that a random cut would leak."""
    carries: tuple[str, ...] = ()
    """The fields of a sample in the order in which a data set of torchvision gives their values."""


def _info(
    name: str,
    shape: tuple[int | None, ...] | None,
    dtype: str,
    classes: tuple[str, ...] | None = None,
    num_classes: int | None = None,
) -> FieldInfo:
    count = len(classes) if classes else num_classes
    return FieldInfo(name=name, shape=shape, dtype=dtype, classes=classes, num_classes=count)


def _fields(*infos: FieldInfo) -> Fields:
    return {info.name: info for info in infos}


def _table(columns: int, classes: tuple[str, ...]) -> Fields:
    return _fields(_info("features", (columns,), "float32"), _info("label", (), "int64", classes))


def _images(channels: int, side: int, classes: tuple[str, ...] | None, num_classes: int | None = None) -> Fields:
    return _fields(_info("image", (channels, side, side), "uint8"), _info("label", (), "int64", classes, num_classes))


DIGITS: Final = tuple("0123456789")
MNIST_CLASSES: Final[Mapping[str, tuple[str, ...]]] = {
    "MNIST": DIGITS,
    "FashionMNIST": (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    "KMNIST": ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
}
CIFAR10_CLASSES: Final = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)


def _breast_cancer(arguments: Mapping[str, Any]) -> Fields:
    table = _table(30, ("malignant", "benign"))
    return {**table, **_fields(_info("target", (1,), "float32"))}


def _digits(arguments: Mapping[str, Any]) -> Fields:
    return _fields(_info("image", (1, 8, 8), "float32"), _info("label", (), "int64", DIGITS))


def _diabetes(arguments: Mapping[str, Any]) -> Fields:
    return _fields(_info("features", (10,), "float32"), _info("target", (1,), "float32"))


def _image_folder(arguments: Mapping[str, Any]) -> Fields:
    return _fields(_info("image", (3, None, None), "uint8"), _info("label", (), "int64"))


def _csv(arguments: Mapping[str, Any]) -> Fields:
    features = arguments["features"]
    plain = features is not None and not set(features) & set(arguments["categorical"] or ())
    infos = [_info("features", (len(features) if plain else None,), "float32")]
    if arguments["label"] is not None:
        classes = arguments["classes"]
        infos.append(_info("label", (), "int64", tuple(classes) if classes else None))
    targets = arguments["target"]
    if targets is not None:
        infos.append(_info("target", (1 if isinstance(targets, str) else len(targets),), "float32"))
    return _fields(*infos)


def _numpy(arguments: Mapping[str, Any]) -> Fields | None:
    names = arguments["fields"]
    if names is None and isinstance(arguments["path"], Mapping):
        names = arguments["path"]
    if names is None:
        return None
    classes = arguments["classes"]
    return _fields(
        *(
            _info(name, (), "int64", tuple(classes) if classes else None)
            if name == "label"
            else _info(name, None, "any")
            for name in names
        )
    )


def _text(arguments: Mapping[str, Any]) -> Fields:
    shape, words = (arguments["length"],), arguments["vocabulary"]
    known = tuple(words) if words and arguments["tokens"] == "characters" else None
    count = 256 if arguments["tokens"] == "bytes" else None
    return _fields(*(_info(name, shape, "int64", known, count) for name in ("tokens", "next")))


def _overlap(arguments: Mapping[str, Any]) -> bool:
    return arguments["stride"] is not None and arguments["stride"] < arguments["length"]


def _source(
    name: str,
    loader: str,
    fields: Callable[[Mapping[str, Any]], Fields | None],
    doc: str,
    *arguments: Argument,
    paths: tuple[str, ...] = (),
    pil: bool = False,
    parts: tuple[str, Mapping[str, Any]] | None = None,
    overlaps: Callable[[Mapping[str, Any]], bool] | None = None,
) -> SourceEntry:
    return SourceEntry(
        name=name,
        category="source",
        target=f"netspec.runtime.data.{loader if '.' in loader else f'sources.{loader}'}",
        arguments=arguments,
        inputs=(),
        doc=doc,
        fields=fields,
        paths=paths,
        pil=pil,
        parts=parts,
        overlaps=overlaps,
    )


ROOT: Final = Argument(name="root", kind="str", doc="The folder that holds the data.")
TRAIN: Final = Argument(
    name="train",
    kind="bool?",
    default=None,
    doc="The training part or the test part. Left out: the test part under `val` and `test`, else the training part.",
)
DOWNLOAD: Final = Argument(
    name="download", kind="bool", default=False, doc="Fetch the data with torchvision where it is absent."
)
TRAIN_OR_TEST: Final = ("train", {"train": True, "val": False, "test": False})
"""For sets that torchvision has in two parts."""


def _mnist(name: str, doc: str) -> SourceEntry:
    classes = MNIST_CLASSES[name]
    return _source(
        name,
        "mnist",
        lambda _: _images(1, 28, classes),
        doc,
        ROOT,
        TRAIN,
        DOWNLOAD,
        paths=("root",),
        parts=TRAIN_OR_TEST,
    )


_TABLE: Final = (
    Argument(name="path", kind="str", doc="The file."),
    Argument(name="label", kind="str?", default=None, doc="The column with the class; its values are class names."),
    Argument(name="target", kind="str|strs?", default=None, doc="The column or columns with numbers to predict."),
    Argument(name="features", kind="strs?", default=None, doc="The input columns. Left out: all others."),
    Argument(
        name="categorical",
        kind="strs",
        default=(),
        doc="Input columns of words, one 0/1 feature for each value.",
    ),
    Argument(name="classes", kind="strs?", default=None, doc="Class names in order. Left out: sorted values."),
)


ENTRIES: Final[tuple[SourceEntry, ...]] = (
    _source(
        "Digits",
        "digits",
        _digits,
        "scikit-learn's 1,797 handwritten digits: `image` [1, 8, 8], float32 from 0 to 1, and `label`.",
        Argument(name="scale", kind="bool", default=True, doc="Divide the values, 0 to 16 in the data, by 16."),
    ),
    _source(
        "Iris",
        "iris",
        lambda _: _table(4, ("setosa", "versicolor", "virginica")),
        "scikit-learn's 150 irises: `features` [4] and `label` of 3 classes.",
    ),
    _source(
        "Wine",
        "wine",
        lambda _: _table(13, ("class_0", "class_1", "class_2")),
        "scikit-learn's 178 wines: `features` [13] and `label` of 3 classes.",
    ),
    _source(
        "BreastCancer",
        "breast_cancer",
        _breast_cancer,
        "scikit-learn's 569 tumours: `features` [30], `label` of 2 classes, and `target` [1], the label as float32.",
    ),
    _source(
        "Diabetes",
        "diabetes",
        _diabetes,
        "scikit-learn's 442 patients: `features` [10] and `target` [1], the progression after a year (25 to 346).",
        Argument(
            name="scaled", kind="bool", default=True, doc="Features centred and scaled as scikit-learn ships them."
        ),
    ),
    _source(
        "Linnerud",
        "linnerud",
        lambda _: _fields(_info("features", (3,), "float32"), _info("target", (3,), "float32")),
        "scikit-learn's 20 men in a fitness club: `features` [3], exercises, and `target` [3], body measures.",
    ),
    _source(
        "ImageFolder",
        "image_folder",
        _image_folder,
        "One folder of images a class, classes in the order of their names: `image` (RGB) and `label`.",
        ROOT,
        paths=("root",),
        pil=True,
    ),
    _mnist("MNIST", "60,000 + 10,000 handwritten digits: `image` [1, 28, 28], uint8, and `label`."),
    _mnist("FashionMNIST", "60,000 + 10,000 pieces of clothing: `image` [1, 28, 28], uint8, and `label`."),
    _mnist("KMNIST", "60,000 + 10,000 cursive Japanese characters: `image` [1, 28, 28], uint8, and `label`."),
    _source(
        "CIFAR10",
        "cifar",
        lambda _: _images(3, 32, CIFAR10_CLASSES),
        "50,000 + 10,000 colour photographs: `image` [3, 32, 32], uint8, and `label` of 10 classes.",
        ROOT,
        TRAIN,
        DOWNLOAD,
        paths=("root",),
        parts=TRAIN_OR_TEST,
    ),
    _source(
        "CIFAR100",
        "cifar",
        lambda _: _images(3, 32, None, 100),
        "50,000 + 10,000 colour photographs: `image` [3, 32, 32], uint8, and `label` of 100 classes.",
        ROOT,
        TRAIN,
        DOWNLOAD,
        paths=("root",),
        parts=TRAIN_OR_TEST,
    ),
    _source(
        "CSV",
        "table",
        _csv,
        "A table with a header: `features` [columns], and `label` or `target` from the columns named.",
        *_TABLE,
        Argument(name="delimiter", kind="str", default=",", doc="What stands between two cells."),
        paths=("path",),
    ),
    _source(
        "Parquet",
        "table",
        _csv,
        "A table in columns, read by pyarrow: `features` [columns], and `label` or `target` from the columns named.",
        *_TABLE,
        paths=("path",),
    ),
    _source(
        "NumPy",
        "numpy_arrays",
        _numpy,
        "Arrays of `.npz` or `.npy` files, a sample a row; integers become int64, floats float32, a uint8 `image` "
        "stays so.",
        Argument(
            name="path", kind="str|mapping", doc="The file; or one `.npy` for each field: {image: x.npy, label: y.npy}."
        ),
        Argument(
            name="fields",
            kind="mapping?",
            default=None,
            doc="Array name by field name: {image: x_train, label: y_train}. Left out: every array by its own name, "
            "and the only one of an `.npy` file as `features`.",
        ),
        Argument(
            name="channels_last",
            kind="bool",
            default=False,
            doc="Images are stored as [H, W, C]; they become [C, H, W].",
        ),
        Argument(name="classes", kind="strs?", default=None, doc="Names of the classes that `label` counts."),
        paths=("path",),
    ),
    _source(
        "Text",
        "text.text",
        _text,
        "Windows over a text: `tokens` [length], and `next` [length], the token after each.",
        Argument(
            name="path",
            kind="str|strs",
            doc="The file, or several, which follow each other: text in UTF-8, or numbers of tokens in `.npy`, or in "
            "`.bin` as uint16.",
        ),
        Argument(name="length", kind="int", minimum=1, doc="The tokens of a sample."),
        Argument(
            name="stride",
            kind="int?",
            default=None,
            minimum=1,
            doc="From the start of one sample to that of the next; `length` if left out, so that none overlap.",
        ),
        Argument(
            name="tokens",
            kind="choice",
            default="characters",
            choices=("characters", "bytes"),
            doc="What a token is; files of numbers hold tokens already.",
        ),
        Argument(
            name="vocabulary",
            kind="str|strs?",
            default=None,
            doc="The characters in the order of their numbers. Left out: those of the training text, sorted.",
        ),
        paths=("path",),
        overlaps=_overlap,
    ),
)
