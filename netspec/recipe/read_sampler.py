"""How an epoch draws its samples, and which fields that goes by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from netspec.diagnostics import Span
from netspec.document import Mapping, Node
from netspec.recipe.data import Sampler
from netspec.recipe.field_flow import Fields
from netspec.recipe.reading import SectionReader, show
from netspec.suggest import suggest

_SAMPLERS = ("RandomSampler", "SequentialSampler", "WeightedRandomSampler")


@dataclass(slots=True, kw_only=True)
class SamplerReader(SectionReader):
    node: Mapping
    """The whole `data` section."""

    def sampler(self, name: str, own: Mapping | None, fields: Fields | None) -> Sampler:
        shared = self.node if name == "train" else None
        balance, node = first("balance", own, shared), first("sampler", own, shared)
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
            wrong = "WeightedRandomSampler needs `weights`: one for each class, or a column with one for each sample"
            mend = "`balance: label` weighs the classes by their frequency"
        if wrong is not None:
            self.diagnostics.error("NS502", wrong, node.span, help=mend)
            return None
        replacement = arguments.get("replacement", kind == "WeightedRandomSampler")
        count = arguments.get("num_samples")
        for right, what in (
            (isinstance(replacement, bool), "`replacement` is true or false"),
            (count is None or (isinstance(count, int) and count > 0), "`num_samples` is a whole number from 1"),
            (
                weights is None or isinstance(weights, str) or _are_weights(weights),
                "`weights` is a list of numbers from 0, or a column's name",
            ),
        ):
            if not right:
                self.diagnostics.error("NS503", what, node.span)
                return None
        return Sampler(
            type=kind,
            replacement=replacement,
            num_samples=count,
            weights=tuple(float(weight) for weight in weights) if isinstance(weights, list) else None,
            column=weights if isinstance(weights, str) else None,
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


def first(key: str, *mappings: Mapping | None) -> Node | None:
    """What the first of the mappings that has the key says."""
    return next((mapping.items[key] for mapping in mappings if mapping is not None and key in mapping.items), None)


def _are_weights(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(item, int | float) and not isinstance(item, bool) and item >= 0 for item in value
    )
