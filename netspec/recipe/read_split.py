"""How one source is cut into splits, and where its files lie."""

from __future__ import annotations

import os
from collections.abc import Mapping as MappingABC
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, cast

from netspec.catalog.sources import SourceEntry
from netspec.document import Mapping, Node, Sequence
from netspec.recipe.data import SPLITS, Cut, Source
from netspec.recipe.field_flow import Fields
from netspec.recipe.read_header import FILES
from netspec.recipe.read_sampler import SamplerReader
from netspec.recipe.reading import WRONG, show

REST = "rest"
"""In place of a size: what the other splits leave."""


@dataclass(slots=True, kw_only=True)
class SplitReader(SamplerReader):
    paths: dict[str, str] = field(default_factory=dict)

    def cut(self) -> Cut | None:
        node = self.node.items.get("split")
        if not isinstance(node, Mapping):
            return None
        if "source" not in self.node.items:
            self.diagnostics.error(
                "NS500", "`split` has no `source` to cut", self.node.key_spans["split"], help="give `source` beside it"
            )
            return None
        given = {name: self.value(node.items[name]) for name in SPLITS if name in node.items}
        if "column" in node.items:
            return self.by_column(node, given)
        if given and all(isinstance(value, str) and value != REST for value in given.values()):
            return self.by_files(node, given)
        return self.by_size(node, given)

    def by_size(self, node: Mapping, given: dict[str, Any]) -> Cut:
        """Shares of the whole, counts, or `rest`."""
        sizes: dict[str, float | int | None] = {}
        for name, value in given.items():
            sizes[name] = 0.0
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if value == REST:
                sizes[name] = None
            elif number and (0 < value <= 1 or (isinstance(value, int) and value > 1)):
                sizes[name] = value if isinstance(value, int) and value > 1 else float(value)
            else:
                self.reject(
                    value,
                    "NS504",
                    f"`{name}` is a share of the samples, above 0 and at most 1, and got {show(value)}",
                    node.items[name].span,
                    help="or a count of samples from 2, `rest` for what the others leave, or a file that lists them",
                )
        if sum(value is None for value in sizes.values()) > 1:
            last = [name for name, value in sizes.items() if value is None][-1]
            self.diagnostics.error("NS504", "only one split can be `rest`", node.items[last].span)
        shares = {name: value for name, value in sizes.items() if isinstance(value, float)}
        total = sum(Fraction(str(value)) for value in shares.values())
        if total > 1 or (total == 1 and len(shares) < len(sizes)):
            whole = "the whole" if len(shares) == len(sizes) else "the whole, and leave nothing for the others"
            self.diagnostics.error(
                "NS504",
                f"the shares of `split` come to {float(total):g}, which is {'more than ' if total > 1 else ''}{whole}",
                node.span,
                help=f"shares that come to 1, such as {_shares(shares)}" if len(shares) == len(sizes) else None,
            )
        if sizes and all(isinstance(size, int) for size in sizes.values()) and sum(map(int, given.values())) == 100:
            self.diagnostics.warning(
                "NS504",
                "whole numbers are counts of samples, so these parts hold 100 samples together",
                node.span,
                help="as shares of all samples: " + _shares({name: float(size) for name, size in given.items()}),
            )
        self.needs_train(node, sizes)
        seed = self.count(node, "seed", 0) or 0
        shuffle = self.flag("shuffle", True, node)
        stratify, groups = self.field_name(node, "stratify"), self.field_name(node, "groups")
        if stratify is not None and groups is not None:
            self.diagnostics.error(
                "NS508",
                "`groups` stay whole, so that no split can have its share of each class: `stratify` goes without them",
                node.key_spans["stratify"],
                help="leave out one of them",
            )
        for key in ("stratify", "seed"):
            if not shuffle and key in node.items:
                self.diagnostics.error(
                    "NS508",
                    f"`shuffle: false` keeps the samples in their order, and `{key}` draws them",
                    node.key_spans[key],
                    help=f"leave out `{key}` or `shuffle`",
                )
        return Cut(sizes=sizes, seed=seed, stratify=stratify, groups=groups, shuffle=shuffle)

    def by_column(self, node: Mapping, given: dict[str, Any]) -> Cut | None:
        """Each split is the samples whose value in a column is one of some."""
        column = self.field_name(node, "column")
        values: dict[str, tuple[Any, ...]] = {}
        for name, value in given.items():
            listed = value if isinstance(value, list) else [value]
            if value is WRONG or not all(isinstance(item, str | int) for item in listed):
                self.reject(
                    value,
                    "NS504",
                    f"`{name}` names values of the column `{column}`, and got {show(value)}",
                    node.items[name].span,
                )
            values[name] = tuple(listed)
        self.no_drawing(node, "a column says which split each sample is in")
        self.needs_train(node, values, "say which value means it: `{column: part, train: train, test: test}`")
        taken = [str(value) for listed in values.values() for value in listed]
        if len(set(taken)) < len(taken):
            self.diagnostics.error("NS504", "a value of the column can mean one split only", node.span)
        return None if column is None else Cut(column=column, values=values)

    def by_files(self, node: Mapping, given: dict[str, Any]) -> Cut:
        """Each split is the samples that a file lists."""
        files = {name: self.path(value, node.items[name], f"data.split.{name}", False) for name, value in given.items()}
        self.no_drawing(node, "a file says which samples are in each split")
        self.needs_train(node, files)
        return Cut(files=files)

    def no_drawing(self, node: Mapping, why: str) -> None:
        for key in ("seed", "stratify", "groups", "shuffle"):
            if key in node.items:
                self.diagnostics.error("NS508", f"{why}: `{key}` has no effect", node.key_spans[key])

    def needs_train(
        self, node: Mapping, found: MappingABC[str, object], mend: str = "give it a share for `train`"
    ) -> None:
        if "train" not in found:
            self.diagnostics.error("NS504", "`split` leaves nothing to train on", node.span, help=mend)

    def field_name(self, node: Mapping, key: str) -> str | None:
        """A key that names a field or a column."""
        stated = node.items.get(key)
        value = None if stated is None else self.value(stated)
        if stated is None or value is None or isinstance(value, str):
            return value
        what = "field" if key == "stratify" else "column"
        self.reject(value, "NS505", f"`{key}` names a {what}, and got {show(value)}", stated.span)
        return None

    def check_cut(self, cut: Cut, entry: SourceEntry, source: Source, fields: Fields | None) -> None:
        """What the cut goes by against what the source has."""
        node = cast(Mapping, self.node.items["split"])
        if cut.stratify is not None:
            self.needs_classes(cut.stratify, fields, node.items["stratify"].span, "stratify")
        if cut.groups is not None and fields is not None and entry.name not in FILES and cut.groups not in fields:
            self.no_field(cut.groups, fields, node.items["groups"].span)
        if entry.overlaps is not None and cut.sizes and cut.shuffle and entry.overlaps(source.arguments):
            self.diagnostics.error(
                "NS504",
                f"neighbouring samples of {entry.name} overlap, so that `val` would hold parts of what `train` holds",
                node.span,
                help="`split: {…, shuffle: false}` cuts it in its order",
            )

    def subset(self, node: Node | None) -> float | int | None:
        """So many samples of a split, or a share of them."""
        value = None if node is None else self.value(node)
        if node is None or value is None:
            return None
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if number and (0 < value < 1 or (isinstance(value, int) and value >= 1)):
            return cast(float, value)
        self.reject(
            value,
            "NS508",
            f"`subset` is a count of samples or a share of them, below 1, and got {show(value)}",
            node.span,
        )
        return None

    # Files

    def paths_of(self, value: Any, node: Node, place: str, may_be_absent: bool) -> Any:
        """A path, or each of those in a list or a mapping, made absolute."""
        if isinstance(value, list) and isinstance(node, Sequence):
            return [
                self.path(text, item, f"{place}.{i}", may_be_absent)
                for i, (text, item) in enumerate(zip(value, node.items, strict=True))
            ]
        if isinstance(value, dict) and isinstance(node, Mapping):
            return {
                key: self.path(str(text), node.items[key], f"{place}.{key}", may_be_absent)
                for key, text in value.items()
            }
        return self.path(value, node, place, may_be_absent)

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


def _shares(sizes: MappingABC[str, float]) -> str:
    """The same proportions, to two places, that come to 1."""
    total = sum(sizes.values())
    rounded = {name: round(value / total, 2) for name, value in sizes.items()}
    last = list(rounded)[-1]
    rounded[last] = round(1 - sum(value for name, value in rounded.items() if name != last), 2)
    return "{" + ", ".join(f"{name}: {value:g}" for name, value in rounded.items()) + "}"
