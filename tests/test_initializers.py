"""Every function of `torch.nn.init`, named in a spec, leaves the weights that torch's own call leaves, in both doors.

What there is comes from torch itself when the test runs: a release that brings a new one fails here by its name until
it is in the catalog and has its arguments in the table.
"""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import netspec
from netspec import catalog
from netspec.catalog import REQUIRED
from netspec.diagnostics import SpecError
from netspec.runtime.verify import verify

INITIALIZERS = {
    name.removesuffix("_"): function
    for name, function in vars(nn.init).items()
    if name.endswith("_") and not name.startswith("_") and inspect.isfunction(function)
}
NOT_NAMED = {
    "tensor": "what is initialised, which the spec says by where the rule stands",
    "generator": "an object; the weights are drawn from the run's seed",
    "calculate_gain": "gives a number and fills nothing; a gain is written as a number or an expression",
    "uniform": "the old name of `uniform_`, and so with all that end without an underscore: torch warns of them",
}
"""What of `torch.nn.init` a spec does not name, with the reason."""

CASES: dict[str, list[dict[str, Any]]] = {
    "uniform": [{"a": -0.5, "b": 0.25}],
    "normal": [{"mean": 0.5, "std": 0.1}],
    "trunc_normal": [{"mean": 0.2, "std": 0.5, "a": -0.1, "b": 0.4}],
    "constant": [{"val": 0.125}],
    "ones": [],
    "zeros": [],
    "eye": [],
    "dirac": [{"groups": 2}],
    "xavier_uniform": [{"gain": 2.0}],
    "xavier_normal": [{"gain": 0.5}],
    "kaiming_uniform": [{"a": 0.2, "mode": "fan_out"}, {"nonlinearity": "tanh"}],
    "kaiming_normal": [{"a": 0.1}, {"mode": "fan_out", "nonlinearity": "relu"}],
    "orthogonal": [{"gain": 1.5}],
    "sparse": [{"sparsity": 0.5}, {"sparsity": 0.1, "std": 0.5}],
}
"""Arguments beside the defaults."""
LAYERS: dict[str, tuple[dict[str, Any], list[Any], Any]] = {
    "Linear": ({"out_features": 6}, ["N", 5], lambda: nn.Linear(5, 6)),
    "Conv1d": ({"out_channels": 4, "kernel_size": 3}, ["N", 4, 9], lambda: nn.Conv1d(4, 4, 3)),
    "Conv2d": (
        {"out_channels": 4, "kernel_size": 3, "groups": 2},
        ["N", 4, 5, 5],
        lambda: nn.Conv2d(4, 4, 3, groups=2),
    ),
    "ConvTranspose3d": (
        {"out_channels": 2, "kernel_size": 2},
        ["N", 2, 3, 3, 3],
        lambda: nn.ConvTranspose3d(2, 2, 2),
    ),
}
"""A layer with its arguments, its input, and itself as torch makes it."""


def takes(name: str, layer: str) -> bool:
    """Whether torch lets the initializer fill the weights of the layer: matrices alone, kernels alone."""
    return {"eye": layer == "Linear", "sparse": layer == "Linear", "dirac": layer != "Linear"}.get(name, True)


def spec(layer: str, rules: Any, initialize: Any = None) -> dict[str, Any]:
    arguments, shape, _ = LAYERS[layer]
    stated = {"type": layer, **arguments, **({"initialize": initialize} if initialize else {})}
    model: dict[str, Any] = {"inputs": {"x": shape}, "layers": {"made": stated}}
    return {"netspec": 1, "name": "begun", "model": {**model, **({"initialize": rules} if rules else {})}}


def drawn(layer: str, name: str, arguments: dict[str, Any], bias: bool) -> dict[str, Tensor]:
    """The weights of seed 3 where torch's own function is called after the layer was made."""
    torch.manual_seed(3)
    module = LAYERS[layer][2]()
    INITIALIZERS[name](module.weight, **arguments)
    if bias:
        INITIALIZERS[name](module.bias, **arguments)
    return {f"made.{key}": value for key, value in module.state_dict().items()}


def test_every_initializer_of_torch_is_there() -> None:
    assert set(catalog.names("initializer")) == set(INITIALIZERS)
    old = {name for name in nn.init.__all__ if not name.endswith("_")} - {"calculate_gain"}
    assert old <= set(INITIALIZERS), "what has no underscore is an old name"
    assert set(CASES) == set(INITIALIZERS)


@pytest.mark.parametrize("name", INITIALIZERS)
def test_arguments_and_defaults_are_those_of_torch(name: str) -> None:
    entry = catalog.lookup(name, "initializer")
    assert entry is not None
    expected = {
        parameter.name: REQUIRED if parameter.default is inspect.Parameter.empty else parameter.default
        for parameter in inspect.signature(INITIALIZERS[name]).parameters.values()
        if parameter.name not in NOT_NAMED
    }
    assert {argument.name: argument.default for argument in entry.arguments} == expected
    stated = {argument for case in CASES[name] for argument in case}
    assert stated == set(expected), "each argument has a case"


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("name", INITIALIZERS)
def test_an_initializer_is_torchs(name: str, layer: str) -> None:
    """On a layer, by a rule of the model and for the bias as well; bit for bit, in the live module and the emitted."""
    entry = catalog.lookup(name, "initializer")
    assert entry is not None
    bare = [] if any(argument.required for argument in entry.arguments) else [{}]
    if not takes(name, layer):
        for arguments in [*bare, *CASES[name]]:
            with pytest.raises(SpecError) as caught:
                netspec.compile(spec(layer, None, {"weight": {"type": name, **arguments}}))
            assert {found.code for found in caught.value.diagnostics} == {"NS313"}
            with pytest.raises((ValueError, RuntimeError)):
                drawn(layer, name, arguments, False)
        return
    bias = name in ("uniform", "normal", "trunc_normal", "constant", "ones", "zeros")
    start = drawn(layer, "constant", {"val": 7.0}, True)
    for arguments in [*bare, *CASES[name]]:
        wanted = {"type": name, **arguments} if arguments else name
        values = {"weight": wanted, **({"bias": wanted} if bias else {})}
        expected = drawn(layer, name, arguments, bias)
        assert not torch.equal(expected["made.weight"], start["made.weight"])
        for found in (spec(layer, None, values), spec(layer, [{"match": layer, **values}])):
            program = netspec.compile(found)
            state = program.module(seed=3).state_dict()
            assert state.keys() == expected.keys()
            for key, value in expected.items():
                assert torch.equal(state[key], value), (key, arguments)
            assert verify(program) == []
