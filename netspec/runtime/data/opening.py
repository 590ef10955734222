"""`open_data`: a recipe becomes streams of batches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch

from netspec.catalog.sources import PADDED, FieldInfo
from netspec.recipe.data import SPLITS, DataRecipe, Split
from netspec.runtime.data.pipeline import Pipeline, collate, fit_standardize, make_pipeline, run
from netspec.runtime.data.samples import Arrays, Sample, Samples, subset
from netspec.runtime.data.seeds import mix, preserved
from netspec.runtime.data.sources import load
from netspec.runtime.data.splits import chosen, cut_samples
from netspec.runtime.data.storage import read_sample
from netspec.runtime.data.streams import Settings, Stream
from netspec.runtime.data.tables import Standardize
from netspec.runtime.data.unreadable import Unread, Unreadable
from netspec.runtime.errors import RunError

State = Mapping[str, Any]


@dataclass(slots=True)
class Data:
    """The streams of a recipe by split, and what has to be remembered to read other data alike."""

    recipe: DataRecipe
    splits: Mapping[str, Stream]
    _state: dict[str, Any]
    _unreadable: Unreadable

    def state(self) -> dict[str, Any]:
        """What was learnt from the training data, as JSON takes it: classes, columns, means and deviations, fields.

        Samples that could not be read are in it too, so that a run that goes on counts them once.
        """
        return {**self._state, **({"unreadable": self.left_out} if self.left_out else {})}

    @property
    def left_out(self) -> dict[str, str]:
        """The samples that could not be read so far, by name, and why."""
        return dict(self._unreadable.found)

    def news(self) -> str | None:
        """What was left out since the last call, in a sentence; None where nothing was."""
        return self._unreadable.news()

    def class_weights(self, field: str) -> list[float]:
        """A weight for each class of a field: n / (k · nᵢ) for the nᵢ of n training samples, k classes of which occur.

        As scikit-learn's `compute_class_weight("balanced")`; 0 for a class that does not occur. They stay with the run.
        """
        kept = self._state.setdefault("class_weights", {})
        if field not in kept:
            counts = self.splits["train"].class_counts(field)
            present = int((counts > 0).sum())
            share = counts.sum() / (present * counts.double())
            kept[field] = share.where(counts > 0, 0.0).tolist()
        return list(kept[field])

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
    rank: int = 0,
    count: int = 1,
) -> Data:
    """Open the sources and cut them into splits; samples are read when a stream is first asked for batches.

    `batch_size` overrides the recipe's. `fields` are those that a batch needs; None for all. `splits` are the splits
    to open; None for all. `state` is that of an earlier run: then nothing is learnt anew, and training data that is
    not opened need not be there. Orders and augmentations depend on `seed`; torch's global generators are left alone.

    Where `count` processes train together, this is number `rank`, which makes its part of each batch. The recipe's
    `batch_size` is per process, and what counts is how many there were when the run began: the batches stay the same.

    Raises RunError (NS92x) where data is absent or not as it should be.
    """
    wanted = [name for name in SPLITS if name in recipe.splits and (splits is None or name in set(splits))]
    select = _select(recipe, fields)
    state = dict(state) if state is not None else None
    known = state.pop("unreadable", {}) if state is not None else {}
    unreadable = Unreadable(recipe.skip_unreadable, dict(known), told=len(known))
    with preserved(device):
        samples, learnt = _open_sources(recipe, wanted, state)
        for name in wanted:
            unreadable.add(getattr(samples[name], "dropped", {}))
        unreadable.several, unreadable.joined = count > 1, len(unreadable.found)
        fitted = {name: Standardize.from_state(name, kept) for name, kept in learnt["standardize"].items()}
        streams: dict[str, Stream] = {}
        began = int(learnt.get("processes", 1)) if state is not None else count
        for name in wanted:
            split = recipe.splits[name]
            pipeline = make_pipeline(split, fitted, learnt["num_classes"])
            settings = Settings(
                seed=seed,
                device=device,
                batch_size=batch_size or _whole_batch(recipe, split, began),
                sampler=split.sampler,
                drop_last=split.drop_last,
                workers=recipe.workers,
                cache=recipe.cache,
                select=select,
                unreadable=unreadable,
                rank=rank,
                count=count,
            )
            shown = _probe(samples[name], pipeline, select, skips=unreadable.skips)
            streams[name] = Stream(name, SPLITS.index(name), samples[name], pipeline, settings, shown)
            if not streams[name].batches_per_epoch:
                raise RunError(
                    "NS925",
                    f"`{name}` has {streams[name].size} samples: no whole batch of {streams[name].batch_size}",
                    help="a smaller `batch_size`, or `drop_last: false`",
                )
            if streams[name].batch_size < count:
                raise RunError(
                    "NS952",
                    f"{count} processes share each batch of `{name}`, which has {streams[name].batch_size} samples",
                    help="a larger `global_batch_size`, or fewer processes",
                )
        if count > 1 or began > 1:
            learnt["processes"] = began
    if "fields" not in learnt:
        learnt["fields"] = {name: asdict(info) for name, info in streams[wanted[0]].fields.items()}
    return Data(recipe, streams, learnt, unreadable)


def _whole_batch(recipe: DataRecipe, split: Split, processes: int) -> int:
    """The samples of a batch of all processes together."""
    if split.batch_size is not None:
        return split.batch_size * processes
    return recipe.global_batch_size or recipe.batch_size * processes


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
                assert recipe.cut is not None
                whole = load(split.source, reference or None)
                parts = cut_samples(whole, recipe.cut)
            samples[name] = subset(whole, parts[name])
        if split.subset is not None:
            seed = recipe.cut.seed if recipe.cut is not None else 0
            samples[name] = subset(samples[name], chosen(len(samples[name]), split.subset, seed))
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


def _probe(
    samples: Samples, pipeline: Pipeline, select: tuple[str, ...] | None, *, skips: bool
) -> dict[str, FieldInfo]:
    """The fields of a batch, from one that holds a sample or two."""
    made: list[Sample] = []
    wanted = 2 if pipeline.batch else 1
    with preserved():
        for index in range(len(samples)):
            if len(made) == wanted:
                break
            found = read_sample(samples, index, pipeline, skips=skips)
            if not isinstance(found, Unread):
                made.append(run(pipeline.body, found, partial(samples.name, index), seed=mix(0)))
    if not made:
        raise RunError("NS921", f"none of the {len(samples)} samples can be read", help="check where the data lie")
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
