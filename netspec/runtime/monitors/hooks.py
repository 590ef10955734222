"""The hooks that `train.monitor` declares: there for one update, then gone."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from netspec.recipe.seeing import Monitor
from netspec.runtime.cut import is_cut, whole
from netspec.runtime.monitors.events import Events
from netspec.runtime.monitors.pictures import feature_grid

IN_PLACE: Final = re.compile(r"\b[a-z]\w*_\(")
"""A call of a function that writes into its argument, as torch names them."""
FIGURES: Final = ("mean", "std", "zeros", "norm")


class Hooks:
    """Puts the hooks of a monitor into a model for one forward and backward pass, and writes what they saw.

    A layer that runs several times in a pass is seen the first time. What a hook sees it copies: a later layer may
    write over it. Of cut weights the gradient is that of the update, which all processes put together in `write`.
    """

    def __init__(self, monitor: Monitor, model: nn.Module, *, follows: bool = False) -> None:
        """follows: another process writes what is found, so that parts of weights alone are looked at."""
        layers = {path: module for path, module in model.named_modules() if path}
        self.layers = {
            kind: {path: module for path, module in layers.items() if matches(path, globs)}
            for kind, globs in monitor.watched.items()
            if kind != "parameters" and not follows
        }
        globs = monitor.watched.get("parameters", ())
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad and matches(name, globs)}
        # A backward hook makes a view of what the module gives, which nothing may write into afterwards, and which a
        # sharded block's own hook may be lost with.
        self.in_place = writes_in_place(model) or any(map(is_cut, model.parameters()))
        self.found: dict[str, Tensor] = {}
        self.maps: dict[str, Tensor] = {}
        self._handles: list[Any] = []

    def open(self) -> None:
        """Register; nothing that a hook does changes a number of the run."""
        self.close()
        self.found, self.maps = {}, {}
        keep = self._handles.append
        for path, module in self.layers.get("inputs", {}).items():
            keep(module.register_forward_pre_hook(self._came_in(path)))
        for path, module in self.layers.get("activations", {}).items():
            keep(module.register_forward_hook(self._given(path)))
        for path, module in self.layers.get("feature_maps", {}).items():
            keep(module.register_forward_hook(self._mapped(path)))
        for path, module in self.layers.get("gradients", {}).items():
            if self.in_place:
                keep(module.register_forward_hook(self._watched_output(path)))
            else:
                keep(module.register_full_backward_hook(self._came_back(path)))
        for name, parameter in self.parameters.items():
            if is_cut(parameter):
                keep(parameter.register_post_accumulate_grad_hook(self._gathered(name)))  # type: ignore[no-untyped-call]
            else:
                keep(parameter.register_hook(self._arrived(name)))  # type: ignore[no-untyped-call]

    def close(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def write(self, events: Events, step: int, factor: float = 1.0) -> None:
        """Figures, histograms and grids of the last pass: one copy from the device for the figures, one for the rest.

        factor: what the loss was multiplied with before backward, which gradients are freed of here.
        """
        scaled = ("gradients/", "parameters/")
        found = {
            name: value / factor if factor != 1.0 and name.startswith(scaled) else value
            for name, value in self.found.items()
        }
        if found:
            for name, row in zip(
                found, torch.stack([figures(value) for value in found.values()]).tolist(), strict=True
            ):
                for figure, value in zip(FIGURES, row, strict=True):
                    if figure != "norm" or name.startswith(scaled):
                        events.scalars({f"{name}/{figure}": value}, step)
            events.histograms(found, step)
        for name, maps in self.maps.items():
            events.picture(name, feature_grid(maps), step)
        self.found, self.maps = {}, {}

    def _note(self, kind: str, path: str, value: object) -> None:
        tensors = [one for one in _tensors(value) if one.is_floating_point()]
        for position, tensor in enumerate(tensors):
            name = f"{kind}/{path}" if len(tensors) == 1 else f"{kind}/{path}.{position}"
            if name not in self.found:
                self.found[name] = tensor.detach().clone()

    def _came_in(self, path: str) -> Callable[..., None]:
        return lambda _, arguments: self._note("inputs", path, arguments)

    def _given(self, path: str) -> Callable[..., None]:
        return lambda _, __, output: self._note("activations", path, output)

    def _mapped(self, path: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: object, output: object) -> None:
            name = f"feature_maps/{path}"
            first = next(iter(_tensors(output)), None)
            if first is not None and first.dim() == 4 and name not in self.maps:
                self.maps[name] = first[0].detach().clone()

        return hook

    def _came_back(self, path: str) -> Callable[..., None]:
        return lambda _, __, gradients: self._note("gradients", path, gradients)

    def _watched_output(self, path: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: object, output: object) -> None:
            tensors = [one for one in _tensors(output) if one.requires_grad]
            for position, tensor in enumerate(tensors):
                name = path if len(tensors) == 1 else f"{path}.{position}"
                handle = tensor.register_hook(self._arrived(name, "gradients"))  # type: ignore[no-untyped-call]
                self._handles.append(handle)

        return hook

    def _arrived(self, name: str, kind: str = "parameters") -> Callable[[Tensor], None]:
        return lambda gradient: self._note(kind, name, gradient)

    def _gathered(self, name: str) -> Callable[[Tensor], None]:
        return lambda parameter: self._note("parameters", name, parameter.grad)


def figures(value: Tensor) -> Tensor:
    """[4]: mean, standard deviation, share of zeros, Euclidean norm."""
    numbers = whole(value).float()
    spread = numbers.std(correction=0) if numbers.numel() else numbers.new_zeros(())
    zeros = (numbers == 0).float().mean()
    return torch.stack([numbers.mean(), spread, zeros, torch.linalg.vector_norm(numbers)])


def matches(name: str, globs: Sequence[str]) -> bool:
    return any(fnmatchcase(name, glob) for glob in globs)


def writes_in_place(model: nn.Module) -> bool:
    """Whether anything in the model may write into what a module gave: an `inplace`, or a call in its source."""
    if any(getattr(module, "inplace", False) for module in model.modules()):
        return True
    return any("inplace=True" in text or IN_PLACE.search(text) for text in _sources(model))


def _sources(model: nn.Module) -> Iterator[str]:
    file = getattr(sys.modules.get(type(model).__module__), "__file__", None)
    if file is not None and Path(file).is_file():
        yield Path(file).read_text(encoding="utf-8")


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _tensors(one)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for one in value:
            yield from _tensors(one)
