"""Other data for a trained run: the same kind of source at another place, read and transformed as the run's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

from netspec.catalog.registry import lookup
from netspec.catalog.sources import SourceEntry
from netspec.recipe.data import DataRecipe, Sampler, Source
from netspec.runtime.errors import RunError

TABLES: Final = {".csv": "CSV", ".tsv": "CSV", ".parquet": "Parquet"}
"""A table is read by what it is, whatever the run's own was."""


def elsewhere(recipe: DataRecipe, path: Path) -> DataRecipe:
    """The recipe of data that lie at `path`, all of which are `test`.

    What is read there is what the run's source reads: a folder of folders for `ImageFolder`, a table with the same
    columns for `CSV` and `Parquet`, arrays of the same names for `NumPy`, the root of a data set of torchvision's.
    Transforms are those of `test`, else of `val` or `train`, without the random ones.

    Raises RunError NS920 where there is nothing, NS929 where the run's source has no place.
    """
    if not path.exists():
        raise RunError("NS920", f"there is no file or folder {path}")
    split = recipe.splits[next(name for name in ("test", "val", "train") if name in recipe.splits)]
    return replace(
        recipe,
        splits={
            "test": replace(
                split,
                name="test",
                source=moved(split.source, path.resolve()),
                fractional=False,
                subset=None,
                transforms=tuple(one for one in split.transforms if not one.random),
                batch_transforms=tuple(one for one in split.batch_transforms if not one.random),
                sampler=Sampler(type="SequentialSampler"),
                drop_last=False,
            )
        },
        cut=None,
    )


def moved(source: Source, path: Path) -> Source:
    """The source at another place."""
    entry = lookup(source.type, "source")
    places = entry.paths if isinstance(entry, SourceEntry) else ()
    if not places:
        raise RunError(
            "NS929",
            f"this run learnt from {source.type}, which lies nowhere: there is no other place for it",
            help="name another source: --set data.source=… or --set data.test.source=…",
        )
    kind = TABLES.get(path.suffix.lower(), source.type) if source.type in TABLES.values() else source.type
    arguments = {**source.arguments, places[0]: str(path)}
    if kind == "Parquet":
        arguments.pop("delimiter", None)
    elif kind != source.type:
        arguments["delimiter"] = "\t" if path.suffix.lower() == ".tsv" else ","
    return replace(source, type=kind, arguments=arguments)
