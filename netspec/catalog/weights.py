"""Tensors that stand alone: what a module learns or keeps that belongs to no layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from netspec.catalog.entry import Argument, Entry, Inferred
from netspec.shapes import Problem, TensorType

_SHAPE = Argument(name="shape", kind="ints", minimum=1, doc="the sizes of the tensor")
_DTYPE = Argument(name="dtype", kind="dtype", default="float32", doc="the dtype of its values")


def _given(arguments: Mapping[str, Any], inputs: Mapping[str, Any]) -> Inferred | Problem:
    if arguments["shape"] is None:
        return Problem("`Buffer` needs `shape` or `layers`", help="write its sizes, as in `[1, 10]`", code="NS107")
    return Inferred(outputs={"output": TensorType(tuple(arguments["shape"]), arguments["dtype"])})


def _learned(arguments: Mapping[str, Any]) -> Mapping[str, tuple[int, ...]]:
    return {"": tuple(arguments["shape"])}


ENTRIES = (
    Entry(
        name="Parameter",
        category="weight",
        target="torch.nn.Parameter",
        arguments=(_SHAPE, _DTYPE),
        inputs=(),
        rule=_given,
        parameters=_learned,
        doc="A tensor that the model learns by itself; `initialize` says how it starts, at 0 otherwise.",
    ),
    Entry(
        name="Buffer",
        category="weight",
        target="torch.nn.Buffer",
        arguments=(
            Argument(
                name="shape", kind="ints?", default=None, minimum=1, doc="its sizes; `layers` that compute it need none"
            ),
            _DTYPE,
            Argument(name="persistent", kind="bool", default=True, doc="whether the `state_dict` holds it"),
        ),
        inputs=(),
        rule=_given,
        buffers=_learned,
        doc="A tensor that the model keeps and does not learn; `layers` compute it once, else `initialize` fills it.",
    ),
)
