"""What random specs are made of: a body of layers that is drawn one by one, and the simplest layers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import strategies as st

Layers = dict[str, Any]

UNKNOWN = "of x"
"""The width of a block's input where nothing names it."""


@dataclass(frozen=True)
class Tensor:
    """What the generator knows of a layer's output."""

    name: str
    width: str
    """An expression of the body's scope: `8`, `width`, `width * 2`."""
    extent: int = 0
    images: bool = True

    def like(self, other: Tensor) -> bool:
        return self.extent == other.extent and self.images == other.images


@dataclass
class Body:
    """A mapping of layers while it is drawn."""

    draw: Any
    widths: list[str]
    """Expressions that a layer may take for its width."""
    images: bool
    layers: Layers = field(default_factory=dict)
    tensors: list[Tensor] = field(default_factory=list)
    modules: dict[str, tuple[str, str] | None] = field(default_factory=dict)
    """Modules that `use` may apply, by name: the widths that they take and give; None where any will do."""
    flags: list[str] = field(default_factory=list)
    """Names of truth values in the scope."""
    values: dict[str, list[str]] = field(default_factory=dict)
    """Names of counts and of layers in the scope."""
    halvings: int = 0
    chosen: bool = False
    """Whether a layer is chosen by the text `mode`."""
    extra: list[str] = field(default_factory=list)
    """Layers that outputs alone read."""

    @property
    def last(self) -> Tensor:
        return self.tensors[-1]

    def pick(self, *choices: Any) -> Any:
        return self.draw(st.sampled_from(choices))

    def maybe(self) -> bool:
        return bool(self.draw(st.booleans()))

    def name(self, stem: str) -> str:
        return f"{stem}{len(self.layers)}"

    def add(self, stem: str, layer: Any, tensor: Tensor | None = None, *, source: Tensor | None = None) -> Tensor:
        """Add a layer, with a `from` where it does not read the one before."""
        name = self.name(stem)
        if source is not None and (source != self.last or self.maybe()) and isinstance(layer, dict):
            layer = {**layer, "from": source.name}
        self.layers[name] = layer
        made = replace(tensor or source or self.last, name=name)
        self.tensors.append(made)
        return made


def value(expression: str) -> Any:
    """An expression as it stands in a spec: a number, `$name` or `$(…)`."""
    if expression.isdigit():
        return int(expression)
    return f"${expression}" if expression.isidentifier() else f"$({expression})"


def weighted(body: Body, width: str, **more: Any) -> Layers:
    """A convolution that keeps the extent, or a Linear."""
    bias = {"bias": False} if body.maybe() else {}
    if not body.images:
        return {"type": "Linear", "out_features": value(width), **bias}
    kernel = body.pick(1, 3)
    return {
        "type": "Conv2d",
        "out_channels": value(width),
        "kernel_size": kernel,
        **({"padding": kernel // 2} if kernel > 1 else {}),
        **bias,
        **more,
    }


def plain(body: Body) -> Any:
    """A layer without weights that changes no size."""
    choices: list[Any] = ["ReLU", "Tanh", {"type": "Dropout", "p": 0.25}, {"type": "LeakyReLU", "negative_slope": 0.5}]
    choices += [{"type": f"${name}"} for name in body.values.get("layer", [])]
    return body.pick(*choices)


def norm(body: Body) -> Any:
    choices: list[Any] = ["BatchNorm2d" if body.images else "BatchNorm1d"]
    choices += [{"type": f"${name}"} for name in body.values.get("norm", [])]
    return body.pick(*choices)
