"""`open_data`: a recipe becomes streams of batches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch

from netspec.catalog.sources import PADDED, FieldInfo
from netspec.recipe.data import SPLITS, DataRecipe, Split
from netspec.runtime.data.order import cut
from netspec.runtime.data.pipeline import Pipeline, collate, fit_standardize, make_pipeline, run
from netspec.runtime.data.samples import Arrays, Sample, Samples, class_column, subset
from netspec.runtime.data.seeds import mix, preserved
from netspec.runtime.data.sources import load
from netspec.runtime.data.streams import Settings, Stream
from netspec.runtime.data.tables import Standardize
from netspec.runtime.errors import RunError

State = Mapping[str, Any]


@dataclass(slots=True)
class Data:
    """The streams of a recipe by split, and what has to be remembered to read other data alike."""

    recipe: DataRecipe
    splits: Mapping[str, Stream]
    _state: State

    def state(self) -> dict[str, Any]:
        """What was learnt from the training data, as JSON takes it: classes, columns, means and deviations, fields."""
        return dict(self._state)

    def close(self) -> None:
        """Stop the workers of all streams."""
        for stream in self.splits.values():
            stream.close()


def open_data(
    recipe: DataRecipe,
    *,
    seed: int,
    device: torch.device,
    batch_size: int | None = None,
    fields: Iterable[str] | None = None,
    splits: Iterable[str] | None = None,
    state: State | None = None,
) -> Data:
    """Open the sources and cut them into splits; samples are read when a stream is first asked for batches.

    `batch_size` overrides the recipe's. `fields` are those that a batch needs; None for all. `splits` are the splits
    to open; None for all. `state` is that of an earlier run: then nothing is learnt anew, and training data that is
    not opened need not be there. Orders and augmentations depend on `seed`; torch's global generators are left alone.

    Raises RunError (NS92x) where data is absent or not as it should be.
    """
    wanted = [name for name in SPLITS if name in recipe.splits and (splits is None or name in set(splits))]
    select = _select(recipe, fields)
    with preserved(device):
        samples, learnt = _open_sources(recipe, wanted, state)
        fitted = {name: Standardize.from_state(name, kept) for name, kept in learnt["standardize"].items()}
        streams: dict[str, Stream] = {}
        for name in wanted:
            split = recipe.splits[name]
            pipeline = make_pipeline(split, fitted, learnt["num_classes"])
            settings = Settings(
                seed=seed,
                device=device,
                batch_size=batch_size or split.batch_size or recipe.batch_size,
                sampler=split.sampler,
                drop_last=split.drop_last,
                workers=recipe.workers,
                cache=recipe.cache,
                select=select,
            )
            shown = _probe(samples[name], pipeline, select)
            streams[name] = Stream(name, SPLITS.index(name), samples[name], pipeline, settings, shown)
            if not streams[name].batches_per_epoch:
                raise RunError(
                    "NS925",
                    f"`{name}` has {streams[name].size} samples: no whole batch of {streams[name].batch_size}",
                    help="a smaller `batch_size`, or `drop_last: false`",
                )
    if "fields" not in learnt:
        learnt["fields"] = {name: asdict(info) for name, info in streams[wanted[0]].fields.items()}
    return Data(recipe, streams, learnt)


def _select(recipe: DataRecipe, fields: Iterable[str] | None) -> tuple[str, ...] | None:
    if fields is None:
        return recipe.select
    return tuple(name for name in dict.fromkeys(fields) if recipe.select is None or name in recipe.select)


def _open_sources(
    recipe: DataRecipe, wanted: list[str], state: State | None
) -> tuple[dict[str, Samples], dict[str, Any]]:
    """The samples of each wanted split, and the state: the given one, or what the training split teaches."""
    names = wanted if state is not None or "train" in wanted else ["train", *wanted]
    reference: State | None = state["source"] if state is not None else None
    samples: dict[str, Samples] = {}
    whole: Samples | None = None
    parts: Mapping[str, torch.Tensor] = {}
    for name in names:
        split = recipe.splits[name]
        if not split.fractional:
            samples[name] = load(split.source, reference or None)
        else:
            if whole is None:
                assert recipe.fractions is not None
                whole = load(split.source, reference or None)
                stratify = recipe.fractions.stratify
                labels = None if stratify is None else class_column(whole, stratify, "stratify")
                parts = cut(len(whole), recipe.fractions, labels)
            samples[name] = subset(whole, parts[name])
        if state is None and name == "train":
            reference = samples[name].state
    if state is not None:
        return samples, dict(state)
    return samples, _learn(recipe.splits["train"], samples["train"])


def _learn(split: Split, samples: Samples) -> dict[str, Any]:
    num_classes = samples.fields["label"].num_classes if "label" in samples.fields else None
    fitted = fit_standardize(split, samples, num_classes) if isinstance(samples, Arrays) else {}
    return {
        "source": dict(samples.state),
        "num_classes": num_classes,
        "standardize": {name: standardize.state() for name, standardize in fitted.items()},
    }


def _probe(samples: Samples, pipeline: Pipeline, select: tuple[str, ...] | None) -> dict[str, FieldInfo]:
    """The fields of a batch, from one that holds a sample or two."""
    made: list[Sample] = []
    with preserved():
        for index in range(min(2, len(samples)) if pipeline.batch else 1):
            called = partial(samples.name, index)
            made.append(run(pipeline.body, run(pipeline.head, samples.sample(index), called), called, seed=mix(0)))
    if select is not None:
        made = [{name: value for name, value in sample.items() if name in select} for sample in made]
    if not made[0]:
        raise RunError(
            "NS924",
            f"the data has none of the fields that are needed: {', '.join(select or ())}",
            help=f"its fields are {', '.join(samples.fields)}",
        )
    batch = pipeline.on_batch(collate(made, samples.name), mix(0))
    found = {}
    for name, value in batch.items():
        known = samples.fields.get(name)
        info = known or FieldInfo(name=name, shape=None, dtype="any")
        dtype = str(value.dtype).removeprefix("torch.")
        shape: tuple[int | None, ...] = tuple(value.shape[1:])
        found[name] = replace(info, shape=(None, *shape[1:]) if name in PADDED else shape, dtype=dtype)
    return found
