"""Recurrent layers and cells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from netspec.catalog.entry import Argument, Entry, Inferred, Port, Rule
from netspec.catalog.rules import (
    Arguments,
    Inputs,
    Shape,
    inferred,
    known,
    numel,
    one,
    refuse,
    rule,
    tensor,
    weighted,
)
from netspec.shapes import Size, TensorType

_GATES = {"RNN": 1, "LSTM": 4, "GRU": 3}


def _state(name: str, inputs: Inputs, port: str, wanted: Shape) -> None:
    """Refuse a first state of another shape."""
    if port not in inputs:
        return
    given = tensor(inputs, name, port)
    if given.dtype != "float32":
        refuse(f"{name} takes a first state of float32, and got {given.dtype}", ports=(port,), code="NS406")
    if given.shape != wanted:
        refuse(
            f"{name} takes a first state of shape {TensorType(wanted)}, and got {given}",
            ports=(port,),
            code="NS403",
        )


def _both_states(name: str, inputs: Inputs) -> None:
    given = [port for port in ("h_0", "c_0") if port in inputs]
    if len(given) == 1:
        refuse(f"{name} takes h_0 and c_0 together, and got {given[0]} alone", ports=(given[0],))


def _sides(arguments: Mapping[str, Any]) -> int:
    return 2 if arguments["bidirectional"] else 1


def _recurrent(name: str) -> Rule:
    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        x = tensor(inputs, name)
        first = arguments["batch_first"]
        if len(x.shape) not in (2, 3):
            refuse(f"{name} takes {'[N, T, features]' if first else '[T, N, features]'} or [T, features], and got {x}")
        weighted(name, x)
        width = known(name, x.shape[-1], "input_size")
        features = inferred(name, arguments, "input_size", width, "features in its last dimension")
        hidden, projected = arguments["hidden_size"], arguments.get("proj_size", 0)
        if projected and projected >= hidden:
            refuse(
                f"{name} takes a proj_size below hidden_size {hidden}, and got {projected}",
                argument="proj_size",
                code="NS404",
            )
        batch = x.shape[:-1][0 if first else 1 :][:1] if len(x.shape) == 3 else ()
        sides = _sides(arguments)
        given = projected or hidden
        state = (_times(sides, arguments["num_layers"]), *batch, given)
        cells = (*state[:-1], hidden)
        outputs = {
            "output": TensorType((*x.shape[:-1], _times(sides, given)), x.dtype),
            "h_n": TensorType(state, x.dtype),
        }
        if name == "LSTM":
            _both_states(name, inputs)
            _state(name, inputs, "h_0", state)
            _state(name, inputs, "c_0", cells)
            outputs["c_n"] = TensorType(cells, x.dtype)
        else:
            _state(name, inputs, "hx", state)
        return Inferred(outputs=outputs, arguments={"input_size": features})

    return infer


def _times(sides: int, size: int) -> int:
    """No factor of 1: a size that remembers its origin would show it."""
    return size if sides == 1 else sides * size


def _weights(name: str) -> Any:
    def shapes(arguments: Mapping[str, Any]) -> Mapping[str, tuple[int, ...]]:
        found: dict[str, tuple[int, ...]] = {}
        hidden, projected = arguments["hidden_size"], arguments.get("proj_size", 0)
        rows = _GATES[name] * hidden
        for layer in range(arguments["num_layers"]):
            width = arguments["input_size"] if layer == 0 else _sides(arguments) * (projected or hidden)
            for suffix in ("", "_reverse")[: _sides(arguments)]:
                end = f"l{layer}{suffix}"
                found[f"weight_ih_{end}"] = (rows, width)
                found[f"weight_hh_{end}"] = (rows, projected or hidden)
                if arguments["bias"]:
                    found[f"bias_ih_{end}"] = found[f"bias_hh_{end}"] = (rows,)
                if projected:
                    found[f"weight_hr_{end}"] = (projected, hidden)
        return found

    return shapes


def _flops(name: str) -> Any:
    def count(arguments: Arguments, inputs: Inputs, answer: Inferred) -> Size:
        matrices = [shape for shape in _weights(name)(arguments).values() if len(shape) == 2]
        flops: Size = 2 * numel(inputs["input"].shape[:-1]) * sum(rows * columns for rows, columns in matrices)
        return flops

    return count


def _cell(name: str) -> Rule:
    @rule
    def infer(arguments: Arguments, inputs: Inputs) -> Inferred:
        x = tensor(inputs, name)
        if len(x.shape) not in (1, 2):
            refuse(f"{name} takes one step, [N, features] or [features], and got {x}")
        weighted(name, x)
        width = known(name, x.shape[-1], "input_size")
        features = inferred(name, arguments, "input_size", width, "features in its last dimension")
        state = (*x.shape[:-1], arguments["hidden_size"])
        found = {"input_size": features}
        if name != "LSTMCell":
            _state(name, inputs, "hx", state)
            return one(state, x.dtype, found)
        _both_states(name, inputs)
        _state(name, inputs, "h_0", state)
        _state(name, inputs, "c_0", state)
        kind = TensorType(state, x.dtype)
        return Inferred(outputs={"h_1": kind, "c_1": kind}, arguments=found)

    return infer


def _cell_weights(name: str) -> Any:
    def shapes(arguments: Mapping[str, Any]) -> Mapping[str, tuple[int, ...]]:
        rows = _GATES[name] * arguments["hidden_size"]
        found = {"weight_ih": (rows, arguments["input_size"]), "weight_hh": (rows, arguments["hidden_size"])}
        return {**found, "bias_ih": (rows,), "bias_hh": (rows,)} if arguments["bias"] else found

    return shapes


def _cell_flops(name: str) -> Any:
    def count(arguments: Arguments, inputs: Inputs, answer: Inferred) -> Size:
        rows = _GATES[name] * arguments["hidden_size"]
        flops: Size = (
            2 * numel(inputs["input"].shape[:-1]) * rows * (arguments["input_size"] + arguments["hidden_size"])
        )
        return flops

    return count


_SIZES = (
    Argument(
        name="input_size",
        kind="int",
        minimum=1,
        inferred=True,
        positional=True,
        doc="size of the input's last dimension",
    ),
    Argument(name="hidden_size", kind="int", minimum=1, positional=True, doc="size of the state"),
)
_BIAS = Argument(name="bias", kind="bool", default=True, doc="whether to add learned vectors")
_NONLINEARITY = Argument(
    name="nonlinearity", kind="choice", choices=("tanh", "relu"), default="tanh", doc="what is applied at each step"
)
_PROJECTION = Argument(
    name="proj_size", kind="int", minimum=0, default=0, doc="size to which the output is brought; 0: not at all"
)


def _arguments(name: str) -> tuple[Argument, ...]:
    return (
        *_SIZES,
        Argument(name="num_layers", kind="int", minimum=1, default=1, doc="how many are stacked"),
        *((_NONLINEARITY,) if name == "RNN" else ()),
        _BIAS,
        Argument(
            name="batch_first", kind="bool", default=False, doc="whether the input is [N, T, features], not [T, N, ...]"
        ),
        Argument(
            name="dropout",
            kind="float",
            minimum=0,
            maximum=1,
            default=0.0,
            doc="probability that a value between two layers is set to zero in training",
        ),
        Argument(name="bidirectional", kind="bool", default=False, doc="whether to read it backwards too"),
        *((_PROJECTION,) if name == "LSTM" else ()),
    )


_HX = (Port(name="hx", optional=True),)
_PAIR = (Port(name="h_0", optional=True, part_of="hx"), Port(name="c_0", optional=True, part_of="hx"))
_DOCS = {
    "RNN": "Reads a sequence step by step, each step mixed with a state.",
    "LSTM": "Reads a sequence with a state and a memory that gates guard.",
    "GRU": "Reads a sequence with a state that gates guard.",
}

ENTRIES: tuple[Entry, ...] = (
    *(
        Entry(
            name=name,
            category="layer",
            target=f"torch.nn.{name}",
            arguments=_arguments(name),
            inputs=(Port(name="input"), *(_PAIR if name == "LSTM" else _HX)),
            returns=("output", ("h_n", "c_n")) if name == "LSTM" else ("output", "h_n"),
            rule=_recurrent(name),
            parameters=_weights(name),
            flops=_flops(name),
            doc=doc,
        )
        for name, doc in _DOCS.items()
    ),
    *(
        Entry(
            name=f"{name}Cell",
            category="layer",
            target=f"torch.nn.{name}Cell",
            arguments=(*_SIZES, _BIAS, *((_NONLINEARITY,) if name == "RNN" else ())),
            inputs=(Port(name="input"), *(_PAIR if name == "LSTM" else _HX)),
            returns=("h_1", "c_1") if name == "LSTM" else (),
            rule=_cell(f"{name}Cell"),
            parameters=_cell_weights(name),
            flops=_cell_flops(name),
            doc=f"One step of {name}.",
        )
        for name in _DOCS
    ),
)
