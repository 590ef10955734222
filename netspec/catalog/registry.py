"""The names that a spec may use, by namespace, loaded when a namespace is first asked for.

Layers, functions and losses share one namespace, since all of them stand behind `type` in a layer; each other category
has its own. A file of the catalog states its entries as a tuple `ENTRIES`; a plugin calls `register`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from types import MappingProxyType
from typing import Any, Final, TypeVar

from netspec.catalog.entry import Category, Entry
from netspec.catalog.other_words import meant
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
            "transformer_stacks",
            "vision_blocks",
            "losses",
            "weights",
            "losses_classes",
            "losses_pairs",
            "losses_weighted",
        ),
        "model": ("models",),
        "initializer": ("initializers",),
        "optimizer": ("optimizers",),
        "scheduler": ("schedulers",),
        "transform": ("transforms",),
        "source": ("sources", "generated_data", "vision_data", "vision_dense"),
        "metric": ("metrics",),
        "sampler": ("study",),
        "pruner": ("study",),
    }
)
"""The files of `netspec.catalog` that hold each namespace, in the order in which their entries are listed."""

_SHARED: Final = ("layer", "function", "loss", "weight")
_found: dict[str, dict[str, Entry]] = {}
_caches: list[Callable[[], None]] = []

F = TypeVar("F", bound=Callable[..., Any])


def cached(function: F) -> F:
    """`functools.cache` for what is derived from the catalog: emptied whenever an entry joins or leaves."""
    kept = cache(function)
    _caches.append(kept.cache_clear)
    return kept  # type: ignore[return-value]


def lookup(name: str, category: Category | None = None) -> Entry | None:
    """The entry of that name; without a category, of what a layer's `type` may name: layers, functions, losses, and
    a library's models (`torchvision.resnet18`).
    """
    entry = _load(_namespace(category)).get(name)
    if entry is None and category is None and "." in name:
        return _load("model").get(name)
    return entry if entry is not None and category in (None, entry.category) else None


def names(category: Category | None = None) -> list[str]:
    """All names of a category in the order of the catalog; without one, of the layers, functions and losses."""
    return [name for name, entry in _load(_namespace(category)).items() if category in (None, entry.category)]


def suggest(name: str, category: Category | None = None) -> str | None:
    """The name that was probably meant by one that does not exist."""
    known = names(category)
    return meant(name, category, known) or closest(name, known)


def register(entry: Entry) -> None:
    """Add an entry, of a plugin say. Raises ValueError where its name is taken, showing both targets."""
    _add(_load(_namespace(entry.category)), entry)
    _empty_caches()


def unregister(plugin: str) -> None:
    """Take out what a plugin has registered."""
    for entries in _found.values():
        for name in [name for name, entry in entries.items() if entry.plugin == plugin]:
            del entries[name]
    _empty_caches()


def registered() -> list[Entry]:
    """What plugins have registered, in that order for each namespace."""
    return [entry for entries in _found.values() for entry in entries.values() if entry.plugin]


def _empty_caches() -> None:
    for clear in _caches:
        clear()


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
            f"the catalog has {entry.name} already: {_definition(other)} came first, {_definition(entry)} is the second"
        )
    entries[entry.name] = entry


def _definition(entry: Entry) -> str:
    return f"{entry.target} ({entry.category}{f' of the plugin {entry.plugin}' if entry.plugin else ''})"
