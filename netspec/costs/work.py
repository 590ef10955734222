"""What a rule of what is kept is asked: one application of a layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from netspec.catalog.entry import Entry
from netspec.costs.tensors import Held, Storage, size_of


@dataclass(slots=True, kw_only=True)
class Work:
    """One application of a layer in training: its arguments with the defaults, its tensors, and what it leaves."""

    entry: Entry
    arguments: Mapping[str, Any]
    inputs: Mapping[str, tuple[Held, ...]]
    outputs: tuple[Held, ...]
    trained: bool
    """Whether its own weights get gradients."""
    gpu: bool
    kept: list[Storage] = field(default_factory=list)

    @property
    def first(self) -> Held:
        return next(iter(self.inputs.values()))[0]

    @property
    def tensors(self) -> list[Held]:
        return [one for group in self.inputs.values() for one in group]

    def keep(self, *tensors: Held) -> None:
        self.kept += [tensor.storage for tensor in tensors]

    def add(self, count: int | None, width: int = 4) -> None:
        """Numbers that nothing else holds."""
        self.kept.append(Storage(None if count is None else count * width))

    def straightened(self, tensor: Held) -> None:
        """A tensor that the kernel wants to lie as it is written: itself, or a copy of it."""
        if tensor.contiguous:
            self.keep(tensor)
        else:
            self.kept.append(Storage(size_of(tensor.type)))


Rule = Callable[[Work], None]
