"""scikit-learn's generators of data: points of classes and of regressions, drawn by a seed, to try a spec with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from netspec.catalog.entry import Argument
from netspec.catalog.sources import FieldInfo, Fields, SourceEntry

MAKERS: Final[Mapping[str, str]] = {
    "Moons": "make_moons",
    "Circles": "make_circles",
    "Blobs": "make_blobs",
    "Classification": "make_classification",
    "Regression": "make_regression",
}
"""The function of `sklearn.datasets` behind each name."""


def _int(name: str, default: int, doc: str, minimum: int = 1) -> Argument:
    return Argument(name=name, kind="int", default=default, minimum=minimum, doc=doc)


def _float(name: str, default: float | None, doc: str) -> Argument:
    return Argument(name=name, kind="float" if default is not None else "float?", default=default, minimum=0.0, doc=doc)


_SAMPLES: Final = _int("n_samples", 100, "How many.")
_SEED: Final = _int("random_state", 0, "What they are drawn from: the same number gives the same samples.", 0)
_NOISE: Final = _float("noise", None, "The standard deviation of the noise that is added.")


def _fields(name: str, arguments: Mapping[str, Any]) -> Fields:
    width = arguments.get("n_features", 2)
    features = FieldInfo(name="features", shape=(width,), dtype="float32")
    if name == "Regression":
        target = FieldInfo(name="target", shape=(arguments["n_targets"],), dtype="float32")
        return {"features": features, "target": target}
    count = {"Blobs": "centers", "Classification": "n_classes"}.get(name)
    classes = tuple(str(number) for number in range(arguments[count] if count is not None else 2))
    label = FieldInfo(name="label", shape=(), dtype="int64", classes=classes, num_classes=len(classes))
    return {"features": features, "label": label}


def _source(name: str, doc: str, *arguments: Argument) -> SourceEntry:
    return SourceEntry(
        name=name,
        category="source",
        target="netspec.runtime.data.sources.generated",
        arguments=(_SAMPLES, *arguments, _SEED),
        inputs=(),
        doc=doc,
        fields=lambda given: _fields(name, given),
    )


ENTRIES: Final[tuple[SourceEntry, ...]] = (
    _source("Moons", "scikit-learn's `make_moons`: two half circles; `features` [2] and `label`.", _NOISE),
    _source(
        "Circles",
        "scikit-learn's `make_circles`: one circle within another; `features` [2] and `label`.",
        _NOISE,
        _float("factor", 0.8, "The inner radius as a share of the outer, below 1."),
    ),
    _source(
        "Blobs",
        "scikit-learn's `make_blobs`: a normal distribution for each class; `features` and `label`.",
        _int("n_features", 2, "How many columns."),
        _int("centers", 3, "How many classes."),
        _float("cluster_std", 1.0, "The standard deviation of a class."),
    ),
    _source(
        "Classification",
        "scikit-learn's `make_classification`: clusters at the corners of a cube; `features` and `label`.",
        _int("n_features", 20, "How many columns."),
        _int("n_informative", 2, "How many of them tell the class."),
        _int("n_redundant", 2, "How many of them are sums of those.", 0),
        _int("n_classes", 2, "How many classes.", 2),
        _int("n_clusters_per_class", 2, "How many clusters a class has."),
        _float("flip_y", 0.01, "The share of labels that are drawn at random."),
        _float("class_sep", 1.0, "How far the clusters lie from each other."),
    ),
    _source(
        "Regression",
        "scikit-learn's `make_regression`: a random linear function; `features` and `target`.",
        _int("n_features", 100, "How many columns."),
        _int("n_informative", 10, "How many of them matter."),
        _int("n_targets", 1, "How many numbers are to be predicted."),
        _float("noise", 0.0, "The standard deviation of the noise that is added."),
    ),
)
