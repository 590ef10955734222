"""The names that a spec may use, by namespace, loaded when a namespace is first asked for.

Layers, functions and losses share one namespace, since all of them stand behind `type` in a layer; each other category
has its own. A file of the catalog states its entries as a tuple `ENTRIES`; a plugin calls `register`.
"""

from __future__ import annotations

from importlib import import_module
from types import MappingProxyType
from typing import Final

from netspec.catalog.entry import Category, Entry
from netspec.suggest import suggest as closest

_FILES: Final = MappingProxyType(
    {
        "layer": (
            "conv",
            "linear",
            "norm",
            "activation",
            "pooling",
            "unpool",
            "dropout",
            "padding",
            "resize",
            "unfold",
            "reshape",
            "merge",
            "rearrange",
            "functional",
            "reduce",
            "statistics",
            "elementwise",
            "pointwise",
            "distance",
            "create",
            "linear_algebra",
            "select",
            "scatter",
            "attention",
            "vision",
            "boxes",
            "recurrent",
            "transformer",
            "losses",
            "weights",
            "losses_classes",
            "losses_pairs",
            "losses_weighted",
        ),
        "initializer": ("initializers",),
        "optimizer": ("optimizers",),
        "scheduler": ("schedulers",),
        "transform": ("transforms",),
        "source": ("sources",),
        "metric": ("metrics",),
    }
)
"""The files of `netspec.catalog` that hold each namespace, in the order in which their entries are listed."""

_SHARED: Final = ("layer", "function", "loss", "weight")
_found: dict[str, dict[str, Entry]] = {}


def lookup(name: str, category: Category | None = None) -> Entry | None:
    """The entry of that name; without a category, of the layers, functions and losses."""
    entry = _load(_namespace(category)).get(name)
    return entry if entry is not None and category in (None, entry.category) else None


def names(category: Category | None = None) -> list[str]:
    """All names of a category in the order of the catalog; without one, of the layers, functions and losses."""
    return [name for name, entry in _load(_namespace(category)).items() if category in (None, entry.category)]


def suggest(name: str, category: Category | None = None) -> str | None:
    """The name that was probably meant by one that does not exist."""
    return closest(name, names(category))


def register(entry: Entry) -> None:
    """Add an entry, of a plugin say. Raises ValueError where its name is taken, showing both targets."""
    _add(_load(_namespace(entry.category)), entry)


def _namespace(category: Category | None) -> str:
    return "layer" if category is None or category in _SHARED else category


def _load(namespace: str) -> dict[str, Entry]:
    entries = _found.get(namespace)
    if entries is None:
        entries = {}
        for file in _FILES[namespace]:
            for entry in import_module(f"netspec.catalog.{file}").ENTRIES:
                _add(entries, entry)
        _found[namespace] = entries
    return entries


def _add(entries: dict[str, Entry], entry: Entry) -> None:
    other = entries.get(entry.name)
    if other is not None:
        raise ValueError(
            f"the catalog has {entry.name} already: {other.target} ({other.category}) came first, "
            f"{entry.target} ({entry.category}) is the second"
        )
    entries[entry.name] = entry
