"""Sequence layers that take the batch for time: torch's default is `batch_first=False`, which fits any shape."""

from __future__ import annotations

from typing import Final

from netspec.diagnostics import Diagnostics
from netspec.origins import untraced
from netspec.program import Call, Instance, Ref, walk, with_inner
from netspec.shapes import Dim, TensorType

BATCH: Final = tuple(Dim(name) for name in ("N", "B", "batch", "batch_size"))
"""What the size of a batch is called in a spec, where it is called something."""


def check_batch_order(model: Instance, diagnostics: Diagnostics) -> None:
    """Warn of each layer with `batch_first: false` whose [time, batch, features] has the batch first."""
    told = set()
    for _, node in walk(model):
        call = node.op
        if not isinstance(call, Call) or node.layer.span in told:
            continue
        read = next(iter(call.inputs.values()), None)
        batch = _first_of_three(read)
        if batch not in BATCH:
            continue
        name = call.entry.name if node.name.isdigit() else node.name
        for inner in with_inner([node]):
            if isinstance(inner.op, Call) and _time_first(inner.op):
                told.add(node.layer.span)
                diagnostics.warning(
                    "NS414",
                    f"`{name}` reads [time, batch, features], and {batch} comes where it takes the time",
                    node.layer.span,
                    help="write `batch_first: true`"
                    + (f" in its {inner.op.entry.name}" if inner is not node else "")
                    + ", or `permute` what it gets",
                )
                break


def _time_first(call: Call) -> bool:
    if all(one.name != "batch_first" for one in call.entry.arguments):
        return False
    argument = call.arguments.get("batch_first")
    return argument is None or not untraced(argument.value)


def _first_of_three(read: Ref | tuple[Ref, ...] | None) -> object:
    found = read.type if isinstance(read, Ref) else None
    return found.shape[0] if isinstance(found, TensorType) and len(found.shape) == 3 else None
