"""The `data` section of a document becomes a `DataRecipe`, or diagnostics.

The keys have been checked by the schema; here are the values: names and arguments of sources and transforms, fractions,
fields that have to exist, paths, and whether each transform can work on what the one before it gives.
"""

from __future__ import annotations

import os
from collections.abc import Mapping as MappingABC
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, cast

from netspec.catalog.sources import SourceEntry
from netspec.catalog.transforms import TransformEntry
from netspec.diagnostics import Diagnostics, Span
from netspec.document import Mapping, Node, Sequence
from netspec.recipe.data import SPLITS, DataRecipe, Fractions, Sampler, Source, Split, Transform
from netspec.recipe.field_flow import FieldFlow, Fields
from netspec.recipe.reading import SectionReader, show
from netspec.suggest import suggest

_SAMPLERS = ("RandomSampler", "SequentialSampler", "WeightedRandomSampler")


def read_data(node: Mapping, diagnostics: Diagnostics, scope: MappingABC[str, object]) -> DataRecipe | None:
    """Read the section. `scope` holds the document's parameters, and its sections under their names for dotted paths.

    Returns None where anything was wrong; the diagnostics say what.
    """
    before = sum(d.severity == "error" for d in diagnostics.found)
    recipe = _Reader(node=node, diagnostics=diagnostics, scope=scope).read()
    wrong = sum(d.severity == "error" for d in diagnostics.found) > before
    return None if wrong else recipe


@dataclass(slots=True, kw_only=True)
class _Reader(SectionReader):
    node: Mapping
    paths: dict[str, str] = field(default_factory=dict)

    def read(self) -> DataRecipe | None:
        fractions = self.fractions()
        names = [name for name in SPLITS if name in self.node.items or (fractions and name in fractions.sizes)]
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
        splits = {name: self.split(name, fractions) for name in names}
        found = {name: split for name, split in splits.items() if split is not None}
        self.check_standardize(found)
        batch_size = self.count(self.node, "batch_size", 1)
        whole = self.count(self.node, "global_batch_size", 1)
        if batch_size is not None and whole is not None:
            self.diagnostics.error(
                "NS508",
                "`batch_size` counts the samples of one process, `global_batch_size` those of all: give one of them",
                self.node.key_spans["global_batch_size"],
            )
        if len(found) < len(names):
            return None
        select = self.select(found)
        return DataRecipe(
            splits=found,
            fractions=fractions,
            batch_size=batch_size or whole or 32,
            global_batch_size=whole,
            workers=self.count(self.node, "workers", 0, auto=True),
            cache=self.cache(),
            select=select,
            paths=self.paths,
        )

    def cache(self) -> bool | None:
        if "cache" not in self.node.items:
            return None
        value = self.value(self.node.items["cache"])
        return None if value == "auto" else self.flag("cache", True, self.node)

    # Splits

    def fractions(self) -> Fractions | None:
        node = self.node.items.get("split")
        if not isinstance(node, Mapping):
            return None
        if "source" not in self.node.items:
            self.diagnostics.error(
                "NS500", "`split` has no `source` to cut", self.node.key_spans["split"], help="give `source` beside it"
            )
            return None
        sizes: dict[str, float] = {}
        for name in SPLITS:
            if name in node.items:
                value = self.value(node.items[name])
                sizes[name] = 0.0
                if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 1:
                    sizes[name] = value
                else:
                    self.reject(
                        value,
                        "NS504",
                        f"`{name}` is a share of the samples, above 0 and at most 1, and got {show(value)}",
                        node.items[name].span,
                    )
        total = sum(Fraction(str(value)) for value in sizes.values())
        if total > 1:
            self.diagnostics.error(
                "NS504",
                f"the shares of `split` come to {float(total):g}, which is more than the whole",
                node.span,
                help=f"shares that come to 1, such as {_shares(sizes)}",
            )
        if "train" not in sizes:
            self.diagnostics.error(
                "NS504", "`split` leaves nothing to train on", node.span, help="give it a share for `train`"
            )
        seed = self.count(node, "seed", 0) or 0
        return Fractions(sizes=sizes, seed=seed, stratify=self.stratify(node))

    def stratify(self, split: Mapping) -> str | None:
        """The field whose classes every part of the split has in equal shares."""
        node = split.items.get("stratify")
        value = None if node is None else self.value(node)
        if node is None or value is None or isinstance(value, str):
            return value
        self.reject(value, "NS505", f"`stratify` names a field, and got {show(value)}", node.span)
        return None

    def split(self, name: str, fractions: Fractions | None) -> Split | None:
        node = self.node.items.get(name)
        own = node if isinstance(node, Mapping) else None
        source_node = own.items.get("source") if own else None
        fractional = source_node is None
        place = f"data.{name}.source"
        if source_node is None:
            if "source" not in self.node.items or (fractions is not None and name not in fractions.sizes):
                self.diagnostics.error(
                    "NS500",
                    f"`{name}` has no source of its own"
                    + (", and `split` gives it no share" if fractions else ", and `data` has none"),
                    self.node.key_spans[name],
                    help=f"give `{name}: {{source: …}}`",
                )
                return None
            if fractions is None and name != "train":
                self.diagnostics.error(
                    "NS500",
                    f"`{name}` would be the same samples as `train`",
                    self.node.key_spans[name],
                    help="cut the source with `split`, or give it a `source` of its own",
                )
                return None
            source_node, place = self.node.items["source"], "data.source"
        elif fractions is not None and name in fractions.sizes:
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
        transforms = self.transforms(_first("transforms", own, self.node))
        batch_transforms = self.transforms(_first("batch_transforms", own, self.node))
        fields = entry.fields(source.arguments)
        flow = FieldFlow(diagnostics=self.diagnostics, split=name, fields=None if fields is None else dict(fields))
        flow.start(pil=entry.pil)
        for transform, written in transforms:
            flow.apply(transform, written)
        steps = tuple(transform for transform, _ in transforms)
        if flow.wants_float((*steps, *(transform for transform, _ in batch_transforms))):
            steps = (*steps, _TO_TENSOR)
        for transform, written in batch_transforms:
            flow.apply(transform, written, batch=True)
        result = flow.finish()
        if fractions is not None and fractional and fractions.stratify is not None:
            split_node = cast(Mapping, self.node.items["split"])
            self.needs_classes(fractions.stratify, result, split_node.items["stratify"].span, "stratify")
        return Split(
            name=name,
            source=source,
            fractional=fractional and fractions is not None,
            transforms=steps,
            batch_transforms=tuple(transform for transform, _ in batch_transforms),
            sampler=self.sampler(name, own, result),
            drop_last=self.flag("drop_last", False, own, self.node if name == "train" else None),
            batch_size=self.count(own, "batch_size", 1) if own else None,
            fields=result,
        )

    def sampler(self, name: str, own: Mapping | None, fields: Fields | None) -> Sampler:
        shared = self.node if name == "train" else None
        balance, node = _first("balance", own, shared), _first("sampler", own, shared)
        shuffle = self.flag("shuffle", name == "train", own)
        plain = Sampler(type="RandomSampler" if shuffle else "SequentialSampler")
        for given, what in ((balance, "balance"), (node, "sampler")):
            if given is not None and own is not None and "shuffle" in own.items:
                self.diagnostics.error(
                    "NS508",
                    f"`{what}` decides the order, and so does `shuffle`",
                    given.span,
                    help="leave out one of them",
                )
        if balance is not None:
            label = self.value(balance)
            if node is not None:
                self.diagnostics.error(
                    "NS508", "`balance` is a sampler already", node.span, help="leave out `sampler` or `balance`"
                )
            if not isinstance(label, str):
                self.reject(label, "NS505", f"`balance` names a field, and got {show(label)}", balance.span)
                return plain
            self.needs_classes(label, fields, balance.span, "balance")
            return Sampler(type="WeightedRandomSampler", replacement=True, balance=True, label=label)
        return plain if node is None else self.named_sampler(node) or plain

    def named_sampler(self, node: Node) -> Sampler | None:
        value = self.value(node)
        arguments = dict(value) if isinstance(value, dict) else {"type": value}
        kind = arguments.pop("type", None)
        if kind not in _SAMPLERS:
            self.unknown("sampler", kind, node.span, _SAMPLERS)
            return None
        weights = arguments.get("weights")
        wrong, mend = None, None
        if kind == "SequentialSampler" and arguments:
            wrong = f"SequentialSampler takes no `{next(iter(arguments))}`"
        elif kind == "RandomSampler" and weights is not None:
            wrong = "RandomSampler takes no `weights`"
        elif kind == "WeightedRandomSampler" and weights is None:
            wrong = "WeightedRandomSampler needs `weights`, one for each class"
            mend = "`balance: label` weighs the classes by their frequency"
        if wrong is not None:
            self.diagnostics.error("NS502", wrong, node.span, help=mend)
            return None
        replacement = arguments.get("replacement", kind == "WeightedRandomSampler")
        count = arguments.get("num_samples")
        for right, what in (
            (isinstance(replacement, bool), "`replacement` is true or false"),
            (count is None or (isinstance(count, int) and count > 0), "`num_samples` is a whole number from 1"),
            (weights is None or _are_weights(weights), "`weights` is a list of numbers from 0"),
        ):
            if not right:
                self.diagnostics.error("NS503", what, node.span)
                return None
        return Sampler(
            type=kind,
            replacement=replacement,
            num_samples=count,
            weights=None if weights is None else tuple(float(weight) for weight in weights),
        )

    def needs_classes(self, name: Any, fields: Fields | None, span: Span, key: str) -> None:
        if fields is None:
            return
        info = fields.get(name)
        if info is None:
            self.no_field(name, fields, span)
        elif info.dtype not in ("int64", "any") or info.shape not in ((), None):
            classes = [field for field, found in fields.items() if found.dtype == "int64" and found.shape == ()]
            self.diagnostics.error(
                "NS506",
                f"`{key}` needs a field of classes, and `{name}` is {info.dtype}",
                span,
                help=f"the source has `{classes[0]}`" if classes else f"leave `{key}` out: the source has no classes",
            )

    def no_field(self, name: Any, fields: Fields, span: Span) -> None:
        near = suggest(str(name), fields)
        self.diagnostics.error(
            "NS505",
            f"the source has no field {show(name)}; it gives {', '.join(f'`{field}`' for field in fields)}",
            span,
            help=f"did you mean `{near}`?" if near else None,
        )

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
            arguments[name] = self.path(arguments[name], stated, f"{place}.{name}", arguments.get("download") is True)
        return Source(type=entry.name, target=entry.target, arguments=arguments), entry

    def path(self, text: str, node: Node, place: str, may_be_absent: bool) -> str:
        file = node.span.file
        folder = os.path.dirname(file) if os.path.isfile(file) else ""
        path = os.path.normpath(os.path.join(folder, os.path.expanduser(text)))
        if not os.path.exists(path) and not may_be_absent:
            self.diagnostics.warning(
                "NS507",
                f"there is nothing at `{path}`",
                node.span,
                help="a path is relative to the file that states it",
            )
        self.paths[place] = os.path.abspath(path)
        return self.paths[place]

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


def _first(key: str, *mappings: Mapping | None) -> Node | None:
    return next((mapping.items[key] for mapping in mappings if mapping is not None and key in mapping.items), None)


def _are_weights(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(item, int | float) and not isinstance(item, bool) and item >= 0 for item in value
    )


def _standardized(transform: Transform) -> str:
    return str(transform.arguments.get("field", "features"))


def _shares(sizes: MappingABC[str, float]) -> str:
    """The same proportions, to two places, that come to 1."""
    total = sum(sizes.values())
    rounded = {name: round(value / total, 2) for name, value in sizes.items()}
    last = list(rounded)[-1]
    rounded[last] = round(1 - sum(value for name, value in rounded.items() if name != last), 2)
    return "{" + ", ".join(f"{name}: {value:g}" for name, value in rounded.items()) + "}"
