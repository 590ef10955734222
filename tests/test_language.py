"""The language, sentence by sentence: layers, blocks, initialisation. Both doors are held against torch written out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import netspec
from netspec.program import Program
from netspec.runtime.verify import emitted_module, verify

LINEAR = {"type": "Linear", "out_features": 6}


def compiled(layers: Any, inputs: Any = None, model: Any = None, **document: Any) -> Program:
    whole = {"inputs": inputs or {"x": ["N", 6]}, "layers": layers, **(model or {})}
    return netspec.compile({"netspec": 1, "name": "net", "model": whole, **document})


def doors(program: Program) -> list[nn.Module]:
    """Both modules, after they have been found equal."""
    assert verify(program) == []
    return [program.module(0).eval(), emitted_module(program, 0).eval()]


def both(program: Program, *inputs: Tensor) -> Any:
    """What both doors give for these inputs."""
    first, second = (module(*inputs) for module in doors(program))
    assert torch.equal(first, second) if isinstance(first, Tensor) else first == second
    return first


def codes(layers: Any, **document: Any) -> list[str]:
    with pytest.raises(netspec.SpecError) as caught:
        compiled(layers, **document)
    return [found.code for found in caught.value.diagnostics if found.severity == "error"]


# Layers


ARITHMETIC: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "x + y": lambda x, y: x + y,
    "x - 2 * y": lambda x, y: x - 2 * y,
    "x / y": lambda x, y: x / y,
    "x // y": lambda x, y: x // y,
    "x % y": lambda x, y: x % y,
    "x ** 2": lambda x, y: x**2,
    "-x": lambda x, y: -x,
    "x @ y[0]": lambda x, y: x @ y[0],
    "x > y": lambda x, y: x > y,
    "(x <= 0.5) * y": lambda x, y: (x <= 0.5) * y,
    "x == y": lambda x, y: x == y,
    "x != y": lambda x, y: x != y,
    "x[:, 0]": lambda x, y: x[:, 0],
    "x[..., 1:, None] * $scale": lambda x, y: x[..., 1:, None] * 3,
}


@pytest.mark.parametrize("text", ARITHMETIC)
def test_compute_is_tensor_arithmetic(text: str) -> None:
    program = compiled({"out": {"compute": text}}, {"x": [2, 6], "y": [2, 6]}, params={"scale": 3})
    x, y = torch.randn(2, 6), torch.rand(2, 6) + 0.5
    assert torch.equal(both(program, x, y), ARITHMETIC[text](x, y))


def test_compute_takes_no_calls() -> None:
    assert codes({"out": {"compute": "relu(x)"}})[0].startswith("NS2")


def test_what_is_left_out_lets_its_first_input_pass_and_later_indices_move_up() -> None:
    program = compiled(
        {
            "seq": [LINEAR, {"type": "ReLU", "if": False}, LINEAR],
            "named": {"type": "Tanh", "if": False},
            "sum": {"compute": "x + named", "if": False},
        }
    )
    module = doors(program)[1]
    assert list(module.state_dict()) == ["seq.0.weight", "seq.0.bias", "seq.1.weight", "seq.1.bias"]
    assert isinstance(module.named, nn.Identity)
    x = torch.randn(2, 6)
    assert torch.equal(both(program, x), x)


def test_names_of_a_loop_advance_together_and_an_integer_counts_from_0() -> None:
    program = compiled(
        {"l$(i)_$w": {"for": {"i": 2, "w": [4, 5]}, "type": "Linear", "out_features": "$(w + i)"}, "end": "ReLU"}
    )
    assert {k: tuple(v.shape) for k, v in doors(program)[0].state_dict().items() if "weight" in k} == {
        "l0_4.weight": (4, 6),
        "l1_5.weight": (6, 4),
    }


def test_from_feeds_the_first_copy_unless_it_mentions_the_loop_or_previous() -> None:
    first = compiled({"a": LINEAR, "b": {"repeat": 2, "from": "x", **LINEAR}})
    module, x = doors(first)[0], torch.randn(2, 6)
    assert torch.equal(both(first, x), module.b(x))
    every = compiled({"a": LINEAR, "b": {"repeat": 2, "from": ["previous", "x"], "type": "cat", "dim": 1}})
    a = doors(every)[0].a(x)
    assert torch.equal(both(every, x), torch.cat([a, x, x], dim=1))


def test_members_of_a_chain_can_be_read_and_its_bare_name_is_the_last() -> None:
    program = compiled(
        {
            "downs": {"repeat": 3, **LINEAR},
            "same": {"compute": "downs - downs.2"},
            "all": {"type": "stack", "from": "downs.*", "dim": 0},
            "picked": {"compute": "all[1] - downs.1 + same"},
        }
    )
    assert torch.equal(both(program, torch.randn(2, 6)), torch.zeros(2, 6))
    assert isinstance(doors(program)[0].downs, nn.ModuleList)


def test_registration_follows_the_file_and_execution_the_graph() -> None:
    layers = {"second": {"from": "first", **LINEAR}, "first": {"from": "x", **LINEAR}}
    program = compiled(layers, model={"outputs": "second"})
    module, x = doors(program)[0], torch.randn(2, 6)
    assert [name for name, _ in module.named_children()] == ["second", "first"]
    assert torch.equal(both(program, x), module.second(module.first(x)))


def test_the_default_input_skips_weights_and_what_runs_in_one_mode() -> None:
    program = compiled(
        {
            "a": LINEAR,
            "p": {"type": "Parameter", "shape": [6], "initialize": 1},
            "b": {"type": "Buffer", "shape": [6]},
            "aux": {"when": "training", **LINEAR},
            "c": "ReLU",
        },
        model={"outputs": {"out": "c", "aux": "aux", "sum": "p"}},
    )
    module, x = program.module(0).eval(), torch.randn(2, 6)
    out = module(x)
    assert torch.equal(out.out, module.a(x).relu()) and out.aux is None
    assert module.train()(x).aux is not None


def test_ports_are_read_by_name_and_without_one_the_first() -> None:
    program = compiled(
        {
            "lstm": {"type": "LSTM", "hidden_size": 5, "batch_first": True},
            "h": {"compute": "lstm.h_n[0]"},
            "last": {"compute": "lstm[:, -1]"},
            "zero": {"compute": "h - last"},
            "parts": {"type": "chunk", "from": "zero", "chunks": 2, "dim": 0},
            "out": {"compute": "parts.1"},
        },
        {"x": [4, 3, 6]},
    )
    assert torch.allclose(both(program, torch.randn(4, 3, 6)), torch.zeros(2, 5))


@pytest.mark.parametrize("name", ["class", "forward", "train", "1a", "a b"])
def test_a_layer_is_called_as_an_attribute_may_be(name: str) -> None:
    assert codes({name: "ReLU"}) == ["NS110"]


def test_a_child_may_hold_a_hyphen() -> None:
    assert list(doors(compiled({"block1-0": LINEAR}))[1].state_dict()) == ["block1-0.weight", "block1-0.bias"]


def test_freeze_takes_gradients_and_keeps_eval_mode() -> None:
    program = compiled({"norm": {"type": "BatchNorm1d", "freeze": True}, "fc": LINEAR})
    for module in doors(program):
        module.train()
        assert not module.norm.training and module.fc.training
        assert [name for name, p in module.named_parameters() if p.requires_grad] == ["fc.weight", "fc.bias"]


def test_expect_asserts_a_shape() -> None:
    assert compiled({"fc": {"expect": ["N", 6], **LINEAR}})
    assert codes({"fc": {"expect": ["N", 7], **LINEAR}}) == ["NS411"]


def test_functions_know_the_mode_and_new_tensors_the_device() -> None:
    drawn, made = {"type": "dropout", "p": 0.5}, {"type": "arange", "end": 6}
    program = compiled({"drop": drawn, "i": made, "sum": {"compute": "drop + i"}})
    x = torch.ones(50, 6)
    for module in doors(program):
        assert torch.equal(module(x), x + torch.arange(6))
        assert not torch.equal(module.train()(x), x + torch.arange(6))
        assert module(x.to("meta")).device.type == "meta"


# Blocks


UNIT = {
    "params": {"width": "int", "act": {"type": "ReLU"}},
    "inputs": {"x": ["N", "in_features"]},
    "let": {"inner": "$(in_features * 2)", "again": "$(inner + 1)"},
    "layers": {
        "fc1": {"type": "Linear", "out_features": "$again"},
        "act": {"type": "$act"},
        "fc2": {"type": "Linear", "out_features": "$width"},
    },
}


def test_a_use_binds_sizes_and_lets_follow_in_order() -> None:
    state = doors(compiled({"u": {"type": "Unit", "width": 3}}, blocks={"Unit": UNIT}))[1].state_dict()
    assert tuple(state["u.fc1.weight"].shape) == (13, 6) and tuple(state["u.fc2.weight"].shape) == (3, 13)


def test_using_a_block_twice_makes_new_weights_and_use_shares_them() -> None:
    layers = {"a": {"type": "Unit", "width": 6}, "b": {"type": "Unit", "width": 6}, "c": {"use": "a"}}
    module = doors(compiled(layers, blocks={"Unit": UNIT}))[0]
    x = torch.randn(2, 6)
    assert not torch.equal(module.a.fc1.weight, module.b.fc1.weight)
    assert torch.equal(module(x), module.a(module.b(module.a(x))))


@pytest.mark.parametrize(
    ("act", "function"),
    [
        ("GELU", F.gelu),
        ({"type": "LeakyReLU", "negative_slope": 0.3}, lambda x: F.leaky_relu(x, 0.3)),
        (None, lambda x: x),
    ],
)
def test_a_parameter_may_be_a_layer_or_null(act: Any, function: Any) -> None:
    program = compiled({"u": {"type": "Unit", "width": 3, "act": act}}, blocks={"Unit": UNIT})
    module, x = doors(program)[0], torch.randn(2, 6)
    assert torch.equal(both(program, x), module.u.fc2(function(module.u.fc1(x))))


def test_a_parameter_may_be_a_block() -> None:
    blocks = {
        "Inner": {"layers": [LINEAR]},
        "Outer": {"params": {"inner": "block"}, "layers": [{"type": "$inner"}, {"type": "$inner"}]},
    }
    state = doors(compiled({"o": {"type": "Outer", "inner": "Inner"}}, blocks=blocks))[1].state_dict()
    assert list(state)[::2] == ["o.0.0.weight", "o.1.0.weight"]


def test_a_parameter_with_a_type_word_is_required() -> None:
    assert codes({"u": {"type": "Unit"}}, blocks={"Unit": UNIT}) == ["NS107"]


def test_a_block_without_inputs_takes_a_tensor_of_any_shape() -> None:
    blocks = {"Any": {"layers": {"a": {"compute": "x + 1"}}}}
    program = compiled({"a": {"type": "Any"}, "b": {"type": "mean", "dim": 1}, "c": {"type": "Any"}}, blocks=blocks)
    x = torch.randn(2, 6)
    assert torch.equal(both(program, x), (x + 1).mean(1) + 1)


def test_a_block_sees_its_own_values_and_layers_only() -> None:
    width = {"B": {"layers": [{"type": "Linear", "out_features": "$w"}]}}
    assert codes({"u": {"type": "B"}}, params={"w": 3}, blocks=width) == ["NS210"]
    reader = {"B": {"layers": {"t": {"compute": "x + a"}}}}
    assert codes({"a": "ReLU", "u": {"type": "B"}}, blocks=reader) == ["NS302"]
    unit = {"type": "Unit", "width": 3}
    assert codes({"u": unit, "t": {"compute": "u.fc1 + 1"}}, blocks={"Unit": UNIT}) == ["NS310"]


def test_a_whole_scalar_keeps_its_type_and_inside_a_text_it_is_text() -> None:
    linear = {"for": {"n": ["$k"]}, "type": "Linear", "out_features": "$k", "bias": "$on"}
    act = {"type": "GELU", "approximate": "$how"}
    program = compiled({"l$(n)x": linear, "act": act}, params={"k": 6, "on": False, "how": "tanh"})
    assert list(doors(program)[1].state_dict()) == ["l6x.weight"]


def test_a_size_that_is_unknown_may_stand_in_forward_and_in_no_constructor() -> None:
    inputs = {"x": ["N", 6], "y": ["N", "T"]}
    program = compiled({"out": {"type": "reshape", "from": "y", "shape": "$([N * T])"}}, inputs)
    assert both(program, torch.randn(2, 6), torch.ones(2, 5)).shape == (10,)
    assert codes({"out": {"type": "Linear", "out_features": "$T"}}, inputs=inputs)[0].startswith("NS")


# Initialisation


def weights(program: Program) -> dict[str, Tensor]:
    return doors(program)[1].state_dict()


def test_for_each_parameter_the_last_matching_rule_runs_alone() -> None:
    rules = [
        {"match": "Linear", "weight": {"type": "normal", "std": 0.1}, "bias": 1},
        {"match": ["*.b", "c"], "weight": {"type": "uniform", "a": 2, "b": 3}},
        {"match": "BatchNorm1d", "weight": 5, "bias": 6},
    ]
    layers = {"a": LINEAR, "g": {"layers": {"b": LINEAR, "n": "BatchNorm1d"}}, "c": {**LINEAR, "bias": False}}
    found = weights(compiled(layers, model={"initialize": rules}))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        modules = [nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6, bias=False)]
        nn.init.normal_(modules[0].weight, std=0.1)
        nn.init.uniform_(modules[1].weight, 2, 3)
        nn.init.uniform_(modules[2].weight, 2, 3)
    for key, module in zip(("a", "g.b", "c"), modules, strict=True):
        assert torch.equal(found[f"{key}.weight"], module.weight)
    assert found["a.bias"].eq(1).all() and found["g.b.bias"].eq(1).all()
    assert found["g.n.weight"].eq(5).all() and found["g.n.bias"].eq(6).all()


def test_values_see_arguments_and_fans() -> None:
    rules = {"weight": {"type": "normal", "std": "$(1 / sqrt(fan_out))"}, "bias": "$(1 / in_features)"}
    found = weights(compiled({"fc": {**LINEAR, "out_features": 9, "initialize": rules}}))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = nn.Linear(6, 9)
        nn.init.normal_(module.weight, std=1 / 9**0.5)
    assert torch.equal(found["fc.weight"], module.weight) and found["fc.bias"].eq(1 / 6).all()


def test_children_start_before_what_holds_them() -> None:
    fc = {**LINEAR, "initialize": {"weight": 1, "bias": 1}}
    blocks = {"B": {"layers": {"fc": fc}, "initialize": [{"match": "Linear", "weight": 2}]}}
    rules = [{"match": "u.fc", "bias": 3}]
    found = weights(compiled({"u": {"type": "B"}, "v": {"type": "B"}}, blocks=blocks, model={"initialize": rules}))
    assert {key: value.unique().tolist() for key, value in found.items()} == {
        "u.fc.weight": [2],
        "u.fc.bias": [3],
        "v.fc.weight": [2],
        "v.fc.bias": [1],
    }


def test_a_glob_speaks_of_blocks_and_groups_that_have_parameters_of_their_own() -> None:
    blocks = {
        "Scale": {
            "inputs": {"x": ["N", "C"]},
            "layers": {"weight": {"type": "Parameter", "shape": ["$C"]}, "out": {"compute": "x * weight"}},
        }
    }
    rules = [{"match": "*", "weight": {"type": "uniform", "a": 1, "b": 2}}, {"match": "group", "weight": 4}]
    group = {"layers": {"weight": {"type": "Parameter", "shape": [6]}, "out": {"compute": "fc + weight"}}}
    layers = {"scale": {"type": "Scale"}, "fc": LINEAR, "group": group}
    found = weights(compiled(layers, blocks=blocks, model={"initialize": rules}))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        fc = nn.Linear(6, 6)
        scale = nn.init.uniform_(torch.empty(6), 1, 2)
        nn.init.uniform_(fc.weight, 1, 2)
    assert torch.equal(found["scale.weight"], scale) and torch.equal(found["fc.weight"], fc.weight)
    assert found["group.weight"].eq(4).all()


def test_a_rule_on_an_absent_bias_is_skipped_and_a_match_of_nothing_is_an_error() -> None:
    layers = {"a": {**LINEAR, "bias": False}, "b": LINEAR}
    assert weights(compiled(layers, model={"initialize": [{"match": "Linear", "bias": 4}]}))["b.bias"].eq(4).all()
    assert codes(layers, model={"initialize": [{"match": "Conv2d", "weight": 1}]})
