"""The `data` section of a document becomes a `DataRecipe`, or diagnostics.

The keys have been checked by the schema; here are the values: names and arguments of sources and transforms, fractions,
fields that have to exist, paths, and whether each transform can work on what the one before it gives.
"""

from __future__ import annotations

from collections.abc import Mapping as MappingABC
from dataclasses import dataclass, replace
from typing import cast

from netspec.catalog.sources import SourceEntry
from netspec.catalog.transforms import TransformEntry
from netspec.diagnostics import Diagnostics
from netspec.document import Mapping, Node, Scalar, Sequence
from netspec.recipe.data import SPLITS, AutoBatch, Cut, DataRecipe, Source, Split, Transform
from netspec.recipe.field_flow import FieldFlow
from netspec.recipe.read_header import Aside, with_header
from netspec.recipe.read_sampler import first
from netspec.recipe.read_split import SplitReader
from netspec.recipe.reading import show


def read_data(
    node: Mapping, diagnostics: Diagnostics, scope: MappingABC[str, object], *, headers: bool = True
) -> DataRecipe | None:
    """Read the section. `scope` holds the document's parameters, and its sections under their names for dotted paths.
    With `headers`, files of tables and arrays that are there are asked what they hold.

    Returns None where anything was wrong; the diagnostics say what.
    """
    before = sum(d.severity == "error" for d in diagnostics.found)
    recipe = _Reader(node=node, diagnostics=diagnostics, scope=scope, headers=headers).read()
    wrong = sum(d.severity == "error" for d in diagnostics.found) > before
    return None if wrong else recipe


@dataclass(slots=True, kw_only=True)
class _Reader(SplitReader):
    headers: bool
    skips: int = 0

    def read(self) -> DataRecipe | None:
        self.skips = self.count(self.node, "skip_unreadable", 0) or 0
        cut = self.cut()
        names = [name for name in SPLITS if name in self.node.items or (cut is not None and name in cut.names)]
        if "source" in self.node.items and "split" not in self.node.items and "train" not in names:
            names = ["train", *names]
        if "train" not in names:
            if "split" not in self.node.items:  # else its reading has said so
                self.diagnostics.error(
                    "NS500",
                    "there is no data to train on",
                    self.node.span,
                    help="give `train: {source: …}`, or `source` with `split: {train: 0.8, test: 0.2}`",
                )
            return None
        splits = {name: self.split(name, cut) for name in names}
        found = {name: split for name, split in splits.items() if split is not None}
        self.check_standardize(found)
        auto = self.auto_batch()
        batch_size = self.count(self.node, "batch_size", 1) if auto is None else None
        whole = self.count(self.node, "global_batch_size", 1)
        if (batch_size is not None or auto is not None) and whole is not None:
            self.diagnostics.error(
                "NS508",
                "`batch_size` counts the samples of one process, `global_batch_size` those of all: give one of them",
                self.node.key_spans["global_batch_size"],
            )
        if len(found) < len(names):
            return None
        if auto is not None and found["train"].batch_size is not None:
            self.diagnostics.error(
                "NS508",
                "`train` has a batch size of its own, so there is none to find",
                self.node.items["batch_size"].span,
                help="leave it out there, or state a number here",
            )
        select = self.select(found)
        return DataRecipe(
            splits=found,
            cut=cut,
            batch_size=batch_size or whole or 32,
            auto=auto,
            global_batch_size=whole,
            workers=self.count(self.node, "workers", 0, auto=True),
            cache=self.cache(),
            select=select,
            skip_unreadable=self.skips,
            paths=self.paths,
        )

    def auto_batch(self) -> AutoBatch | None:
        """`batch_size: auto`, or with a limit `{max: 512}`."""
        node = self.node.items.get("batch_size")
        if isinstance(node, Mapping):
            return AutoBatch(max=self.count(node, "max", 1))
        return AutoBatch() if node is not None and isinstance(node, Scalar) and node.value == "auto" else None

    def cache(self) -> bool | None:
        if "cache" not in self.node.items:
            return None
        value = self.value(self.node.items["cache"])
        return None if value == "auto" else self.flag("cache", True, self.node)

    # Splits

    def split(self, name: str, cut: Cut | None) -> Split | None:
        node = self.node.items.get(name)
        own = node if isinstance(node, Mapping) else None
        source_node = own.items.get("source") if own else None
        fractional = source_node is None
        place = f"data.{name}.source"
        if source_node is None:
            if "source" not in self.node.items or (cut is not None and name not in cut.names):
                self.diagnostics.error(
                    "NS500",
                    f"`{name}` has no source of its own"
                    + (", and `split` gives it no share" if cut else ", and `data` has none"),
                    self.node.key_spans[name],
                    help=f"give `{name}: {{source: …}}`",
                )
                return None
            if cut is None and name != "train":
                self.diagnostics.error(
                    "NS500",
                    f"`{name}` would be the same samples as `train`",
                    self.node.key_spans[name],
                    help="cut the source with `split`, or give it a `source` of its own",
                )
                return None
            source_node, place = self.node.items["source"], "data.source"
        elif cut is not None and name in cut.names:
            self.diagnostics.error(
                "NS500",
                f"`{name}` has a source of its own, and a share of `split` as well",
                source_node.span,
                help="leave out one of them",
            )
        found = self.source(source_node, place, "train" if fractional else name)
        if found is None:
            return None
        source, entry = found
        transforms = self.transforms(first("transforms", own, self.node))
        batch_transforms = self.transforms(first("batch_transforms", own, self.node))
        told = entry.fields(source.arguments)
        fields = None if told is None else dict(told)
        if self.headers:
            aside = [one for one in self.aside(own, cut, fractional) if one.name not in (fields or ())]
            fields = with_header(source, source_node, fields, aside, self.diagnostics)
        flow = FieldFlow(diagnostics=self.diagnostics, split=name, fields=fields)
        flow.start(pil=entry.pil)
        for transform, written in transforms:
            flow.apply(transform, written)
        steps = tuple(transform for transform, _ in transforms)
        if flow.wants_float((*steps, *(transform for transform, _ in batch_transforms))):
            steps = (*steps, _TO_TENSOR)
        for transform, written in batch_transforms:
            flow.apply(transform, written, batch=True)
        result = flow.finish()
        sampler = self.sampler(name, own, result)
        if cut is not None and fractional:
            self.check_cut(cut, entry, source, result)
        by = (cut.column, cut.groups) if cut is not None and fractional else ()
        columns = {column for column in (sampler.column, *by) if column}
        source = replace(source, aside=tuple(sorted(columns - set(result or ()))), skip=self.skips > 0)
        return Split(
            name=name,
            source=source,
            fractional=fractional and cut is not None,
            transforms=steps,
            batch_transforms=tuple(transform for transform, _ in batch_transforms),
            sampler=sampler,
            drop_last=self.flag("drop_last", False, own, self.node if name == "train" else None),
            subset=self.subset(first("subset", own, self.node)),
            batch_size=self.count(own, "batch_size", 1) if own else None,
            fields=result,
        )

    def aside(self, own: Mapping | None, cut: Cut | None, fractional: bool) -> list[Aside]:
        """The columns that are no features, as they stand in the section."""
        found = []
        split, sampler = self.node.items.get("split"), first("sampler", own, self.node)
        if cut is not None and fractional and isinstance(split, Mapping):
            named = {"column": cut.column, "groups": cut.groups}
            found += [Aside(name, split.items[key].span) for key, name in named.items() if name is not None]
        weights = sampler.items.get("weights") if isinstance(sampler, Mapping) else None
        if isinstance(weights, Scalar) and isinstance(weights.value, str) and "$" not in weights.value:
            found.append(Aside(weights.value, weights.span))
        return found

    def select(self, splits: dict[str, Split]) -> tuple[str, ...] | None:
        node = self.node.items.get("fields")
        if node is None:
            return None
        names = self.value(node)
        names = [names] if isinstance(names, str) else names
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            self.reject(names, "NS505", f"`fields` is a list of names, and got {show(names)}", node.span)
            return None
        places = node.items if isinstance(node, Sequence) else (node,) * len(names)
        for name, split in splits.items():
            if split.fields is None:
                continue
            for wanted, place in zip(names, places, strict=True):
                if wanted not in split.fields:
                    self.no_field(wanted, dict(split.fields), place.span)
            kept = {field: info for field, info in split.fields.items() if field in names}
            splits[name] = replace(split, fields=kept)
        return tuple(names)

    def check_standardize(self, splits: dict[str, Split]) -> None:
        if "train" not in splits:
            return
        fitted = {_standardized(t) for t in splits["train"].transforms if t.type == "Standardize"}
        for split in splits.values():
            for transform in split.transforms:
                if transform.type == "Standardize" and _standardized(transform) not in fitted:
                    self.diagnostics.error(
                        "NS510",
                        f"`{split.name}` standardises `{_standardized(transform)}`, but `train`, which mean and std "
                        "come from, does not",
                        self.node.key_spans[split.name],
                        help="put `transforms: [Standardize]` directly under `data`",
                    )

    # Catalog entries and their arguments

    def source(self, node: Node, place: str, split: str) -> tuple[Source, SourceEntry] | None:
        found = self.entry(node, "source")
        if found is None:
            return None
        entry, given = found
        assert isinstance(entry, SourceEntry)
        arguments = {a.name: given.get(a.name, a.default) for a in entry.arguments}
        if entry.parts is not None and arguments[entry.parts[0]] is None:
            arguments[entry.parts[0]] = entry.parts[1][split]
        for name in entry.paths:
            stated = cast(Mapping, node).items[name]
            absent = arguments.get("download") is True
            arguments[name] = self.paths_of(arguments[name], stated, f"{place}.{name}", absent)
        return Source(type=entry.name, target=entry.target, arguments=arguments), entry

    def transforms(self, node: Node | None) -> list[tuple[Transform, Node]]:
        if not isinstance(node, Sequence):
            return []
        found = [(self.transform(item), item) for item in node.items]
        return [(transform, item) for transform, item in found if transform is not None]

    def transform(self, node: Node) -> Transform | None:
        found = self.entry(node, "transform")
        if found is None:
            return None
        entry, arguments = found
        assert isinstance(entry, TransformEntry)
        of: tuple[Transform, ...] = ()
        if entry.nested:
            inner = cast(Mapping, node).items["transforms"]
            of = tuple(transform for transform, _ in self.transforms(inner))
            arguments = {name: value for name, value in arguments.items() if name != "transforms"}
        return Transform(
            type=entry.name,
            target=entry.target,
            arguments=arguments,
            of=of,
            random=entry.random or any(t.random for t in of),
            batchable=entry.batchable,
            light=entry.light,
        )


_TO_TENSOR = Transform(
    type="ToTensor", target="torchvision.transforms.v2.ToTensor", random=False, batchable=True, light=True
)


def _standardized(transform: Transform) -> str:
    return str(transform.arguments.get("field", "features"))
