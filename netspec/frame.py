"""The names that one body of layers sees while it is elaborated."""

from __future__ import annotations

from dataclasses import dataclass, field

from netspec.program import Instance, Node, Ref


class TooLarge(Exception):
    """The model has more layers than anyone means: it was reported, and nothing more is worked out."""


class Poisoned(Exception):
    """What is needed here failed before and was reported there: nothing more is said."""


@dataclass(slots=True, eq=False)
class Frame:
    """The names that one body of layers sees while it is elaborated."""

    instance: Instance
    parent: Frame | None
    default: Ref | None
    parallel: bool = False
    """Whether all its layers read the default and none the one before: `branches`."""
    names: dict[str, Ref | None] = field(default_factory=dict)
    """Tensors by name; None where a layer failed."""
    modules: dict[str, Node] = field(default_factory=dict)
    captured: dict[str, Ref] = field(default_factory=dict)
    """A group's inputs beside its default one, as the enclosing body names them."""
    count: int = 0
    """The index that the next module of a list takes."""
    order: list[Node] = field(default_factory=list)
    previous: Ref | None = None
    live: dict[str, int] = field(default_factory=dict)
    """The sizes that the loops so far ended with, under the loops' names for them; shared with the groups inside."""
    current: str = ""
    """The layer that is worked out, where its name holds no `$`."""
