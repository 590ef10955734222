"""Names of a spec that emitted code uses itself: both doors still agree, and nothing is hidden."""

from __future__ import annotations

from typing import Any

import pytest

import netspec
from netspec.runtime.verify import verify
from netspec.schema.names import MODULE_ATTRIBUTES, SPOKEN

LAYERS = sorted(SPOKEN - MODULE_ATTRIBUTES - {"torch"})


def agree(model: dict[str, Any], **document: Any) -> str:
    program = netspec.compile({"netspec": 1, "name": "net", **document, "model": model})
    assert verify(program) == []
    return program.source()


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_may_have_the_name_of_what_the_code_says(name: str) -> None:
    source = agree(
        {
            "inputs": {"x": ["N", 4]},
            "layers": {
                name: {"type": "Linear", "out_features": 4},
                "act": "relu",
                "total": {"compute": f"act + {name}"},
                "both": {"type": "cat", "from": ["total", name], "dim": 1},
            },
        }
    )
    assert f"{name}_ = self.{name}(x)" in source


@pytest.mark.parametrize("name", ["F", "nn", "torch", "len", "range"])
def test_a_size_may_have_the_name_of_what_the_code_says(name: str) -> None:
    block = {
        "inputs": {"x": ["N", name, "L"]},
        "layers": {
            "fc": {"type": "Linear", "out_features": f"$({name} * 2)"},
            "act": "relu",
            "flat": {"type": "reshape", "shape": ["$N", f"${name}", -1]},
            "soft": {"type": "softmax", "dim": 1},
            "conv": {"type": "Conv1d", "out_channels": 3, "kernel_size": 1},
        },
    }
    source = agree({"inputs": {"x": ["N", 4, 5]}, "layers": {"b": {"type": "B"}}}, blocks={"B": block})
    assert f"{name}_: int" in source and f"N, {name}_, _ = x.shape" in source


@pytest.mark.parametrize("name", ["nn", "range", "enumerate"])
def test_siblings_may_have_the_name_of_what_the_code_says(name: str) -> None:
    copies = {"for": {"i": "$depths"}, "layers": [{"for": {"j": "$i"}, "type": "Linear", "out_features": 4}, "ReLU"]}
    model = {"inputs": {"x": ["N", 4]}, "layers": {"body": {"layers": {f"{name}_$i": copies}}}}
    assert f"{name}_ = nn.Sequential()" in agree(model, params={"depths": [2, 3]})


@pytest.mark.parametrize("name", ["module", "name"])
@pytest.mark.parametrize("match", ["Linear", "*"])
def test_a_parameter_keeps_its_name_beside_the_rules(name: str, match: str) -> None:
    model = {
        "inputs": {"x": ["N", 4]},
        "layers": {"fc": {"type": "Linear", "out_features": 4}},
        "initialize": [{"match": match, "weight": f"$({name} / 10)", "bias": 0}],
    }
    agree(model, params={name: 3})


@pytest.mark.parametrize("name", sorted(SPOKEN))
def test_a_parameter_of_such_a_name_is_refused(name: str) -> None:
    with pytest.raises(netspec.SpecError) as caught:
        agree({"inputs": {"x": ["N", 4]}, "layers": {"act": "ReLU"}}, params={name: 3})
    assert [d.code for d in caught.value.diagnostics] == ["NS110"]
