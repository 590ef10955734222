"""What reading the `train` section has in common: what is known of the model and the data, and small values."""

from __future__ import annotations

from collections.abc import Mapping as MappingABC
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from netspec.catalog.sources import FieldInfo
from netspec.diagnostics import Span
from netspec.document import Mapping, Node, Sequence
from netspec.recipe.reading import SectionReader, show
from netspec.recipe.train import Duration
from netspec.shapes import TensorType
from netspec.suggest import suggest


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """An output of the model: its type, the catalog name of the layer that gives it, and where its width is written.

    `gives` is the layer whose values it holds, and `made` where that stands: behind it only shapes change.
    """

    type: TensorType | None
    layer: str | None = None
    span: Span | None = None
    width: Span | None = None
    gives: str | None = None
    made: Span | None = None
    when: str = ""
    """The mode in which the model gives it, where it is one alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """A parameter: its shape, the layer that has it, whether its gradient is sparse, whether it is trained at all."""

    shape: tuple[int, ...]
    layer: str
    span: Span
    sparse: bool = False
    frozen: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """What the model tells about itself: its inputs and outputs by name, and the names of its parameters."""

    inputs: MappingABC[str, TensorType | None]
    outputs: MappingABC[str, Head]
    parameters: tuple[str, ...]
    layers: tuple[str, ...] = ()
    """The paths of all modules below the model, as `named_modules` gives them."""
    spans: MappingABC[str, Span] = field(default_factory=dict)
    """Where each input is stated."""
    weights: MappingABC[str, Weight] = field(default_factory=dict)
    """What is known of the parameters, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataInfo:
    """What the data tell without being read. `fields` is None where the source can't say."""

    splits: tuple[str, ...]
    fields: MappingABC[str, FieldInfo] | None
    span: Span | None = None
    """Where the source of the training data stands."""


@dataclass(slots=True, kw_only=True)
class TrainReader(SectionReader):
    """Reads parts of `node`, the section; `span` is where its key stands."""

    node: Mapping
    span: Span
    model: ModelInfo
    data: DataInfo | None
    spans: dict[str, Span] = field(default_factory=dict)
    """Where each loss and metric stands, by `loss.NAME` and `metric.NAME`."""
    paths: dict[str, str] = field(default_factory=dict)
    """The places of the document that name files, with the absolute paths."""

    def error(self, code: str, message: str, span: Span | None, help: str | None = None) -> None:
        self.diagnostics.error(code, message, span, help=help)

    def whole(self, key: str, default: int, minimum: int) -> int:
        found = self.count(self.node, key, minimum)
        return default if found is None else found

    def number(self, mapping: Mapping, key: str, default: float, minimum: float | None = None) -> float:
        if key not in mapping.items:
            return default
        value = self.value(mapping.items[key])
        if isinstance(value, int | float) and not isinstance(value, bool) and (minimum is None or value >= minimum):
            return float(value)
        least = f" from {minimum:g}" if minimum is not None else ""
        self.reject(value, "NS508", f"`{key}` is a number{least}, and got {show(value)}", mapping.items[key].span)
        return default

    def choice(self, mapping: Mapping, key: str, choices: tuple[str, ...], default: str) -> str:
        if key not in mapping.items:
            return default
        value = self.value(mapping.items[key])
        if value in choices:
            return str(value)
        near = suggest(str(value), choices)
        self.reject(
            value,
            "NS508",
            f"`{key}` is one of {', '.join(choices)}, and got {show(value)}",
            mapping.items[key].span,
            help=f"did you mean `{near}`?" if near else None,
        )
        return default

    def length(self, mapping: Mapping, what: str, span: Span) -> Duration | None:
        """`epochs` or `steps`, exactly one of them."""
        given = [key for key in ("epochs", "steps") if key in mapping.items]
        if len(given) != 1:
            self.error(
                "NS550",
                f"`{what}` says neither `epochs` nor `steps`"
                if not given
                else f"`{what}` says both `epochs` and `steps`",
                mapping.key_spans[given[1]] if given else span,
                help="how long is it? `epochs: 20`, or `steps: 5000` updates" if not given else "leave out one of them",
            )
            return None
        found = self.count(mapping, given[0], 1)
        return None if found is None else Duration(**{given[0]: found})

    def parameter_globs(self, node: Node, key: str) -> tuple[str, ...] | None:
        """A glob over the parameters' names, or a list of them; each has to match one."""
        patterns = self.value(node)
        patterns = [patterns] if isinstance(patterns, str) else patterns
        if not isinstance(patterns, list) or not all(isinstance(pattern, str) for pattern in patterns):
            self.reject(
                patterns,
                "NS554",
                f"`{key}` is a glob over parameter names, or a list of them, and got {show(patterns)}",
                node.span,
            )
            return None
        spans = [item.span for item in node.items] if isinstance(node, Sequence) else [node.span]
        for pattern, span in zip(patterns, spans, strict=True):
            self.names_a_parameter(pattern, span)
        return tuple(patterns)

    def names_a_parameter(self, pattern: str, span: Span) -> bool:
        """Whether a glob matches a parameter of the model; a diagnostic where it does not."""
        if any(fnmatchcase(name, pattern) for name in self.model.parameters):
            return True
        near = suggest(pattern, [*self.model.parameters, *_families(self.model.parameters)])
        self.error(
            "NS554",
            f"`{pattern}` matches no parameter of the model",
            span,
            help=f"did you mean `{near}`?"
            if near
            else f"names are such as {listed(self.model.parameters[:4])}; `*` crosses dots",
        )
        return False

    def monitor(self, node: Node | None, figures: tuple[str, ...] | None) -> str | None:
        if node is None:
            return None
        name = self.value(node)
        if figures is None or name in figures:
            return str(name)
        reject_figure(self, name, figures, node)
        return None


def reject_figure(reader: SectionReader, name: object, figures: tuple[str, ...], node: Node) -> None:
    """Report that the rows of a run have no figure of that name (NS559)."""
    near = suggest(str(name), figures)
    origin = "metrics come from `train.metrics`, and `val` from the data's splits"
    reader.reject(
        name,
        "NS559",
        f"no epoch has the figure {show(name)}; there are {listed(figures)}",
        node.span,
        help=f"did you mean `{near}`?" if near else origin,
    )


def without(node: Node, *keys: str) -> Node:
    """The node without keys that are no arguments."""
    if not isinstance(node, Mapping):
        return node
    return Mapping({key: item for key, item in node.items.items() if key not in keys}, node.key_spans, node.span)


def settled(arguments: MappingABC[str, Any]) -> dict[str, Any]:
    """Lists as tuples: a recipe does not change."""
    return {name: _tuples(value) for name, value in arguments.items()}


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def listed(names: Any) -> str:
    return ", ".join(f"`{name}`" for name in names) or "none"


def _families(names: tuple[str, ...]) -> list[str]:
    """Globs that a person may have meant: `conv1.*`, `*.bias`."""
    parts = {f"{name.rpartition('.')[0]}.*" for name in names if "." in name}
    return sorted(parts | {f"*.{name.rpartition('.')[2]}" for name in names if "." in name})
