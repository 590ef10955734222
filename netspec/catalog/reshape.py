"""Layers and functions that only rearrange values."""

from __future__ import annotations

from netspec.catalog.entry import Argument, Entry, Inferred, Rule
from netspec.catalog.rules import Arguments, Inputs, dimension, numel, one, refuse, rule, tensor


def _flatten(name: str) -> Rule:
    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        x = tensor(inputs, name)
        rank = len(x.shape)
        start = dimension(name, arguments["start_dim"], rank, "start_dim")
        end = dimension(name, arguments["end_dim"], rank, "end_dim")
        if start > end:
            refuse(
                f"{name}: start_dim {arguments['start_dim']} comes after end_dim {arguments['end_dim']} in {x}",
                argument="start_dim",
                code="NS404",
            )
        return one((*x.shape[:start], numel(x.shape[start : end + 1]), *x.shape[end + 1 :]), x.dtype)

    return infer


def _flat_arguments(start: int) -> tuple[Argument, ...]:
    return (
        Argument(
            name="start_dim", kind="int", default=start, positional=True, doc="first of the dimensions that are joined"
        ),
        Argument(name="end_dim", kind="int", default=-1, positional=True, doc="last of them"),
    )


ENTRIES: tuple[Entry, ...] = (
    Entry(
        name="Flatten",
        category="layer",
        target="torch.nn.Flatten",
        arguments=_flat_arguments(1),
        rule=_flatten("Flatten"),
        role="reshape",
        doc="Joins neighbouring dimensions into one; by default all but the first.",
    ),
    Entry(
        name="flatten",
        category="function",
        target="torch.Tensor.flatten",
        arguments=_flat_arguments(0),
        rule=_flatten("flatten"),
        role="reshape",
        doc="Joins neighbouring dimensions into one; by default all of them.",
    ),
)
