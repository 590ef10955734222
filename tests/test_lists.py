"""Lists of tensors: inputs, branches, `each`, members, `shape`. Both doors agree, and hold the containers of torch."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

import netspec
from netspec.graph_page import to_page
from netspec.program import Program
from netspec.runtime.verify import emitted_module, example_inputs, verify

CONV = {"type": "Conv2d", "out_channels": 4, "kernel_size": 3, "padding": 1}
IMAGE = {"x": ["N", 3, "8*h", "8*w"]}
LEVELS = {"features": {"list": [["N", 4, "_", "_"], ["N", 8, "_", "_"], ["N", 16, "_", "_"]]}}


def compile_layers(layers: Any, inputs: Any = IMAGE, outputs: Any = None, **document: Any) -> Program:
    model = {"inputs": inputs, "layers": layers, **({"outputs": outputs} if outputs else {})}
    return netspec.compile({"netspec": 1, "name": "net", "model": model, **document})


def checked(program: Program) -> nn.Module:
    """The emitted module, after both doors have been found equal."""
    assert verify(program) == []
    made = emitted_module(program, 0)
    live = program.module(0)
    assert [(k, type(m)) for k, m in live.named_children()] != [] or not list(live.named_children())
    for name, child in live.named_children():
        if isinstance(child, nn.ModuleList | nn.ModuleDict | nn.Sequential):
            assert isinstance(made.get_submodule(name), type(child)), name
    return made.eval()


def forward_of(program: Program) -> str:
    """The `forward` of the model's class, which is the last of the file."""
    return program.source().rpartition("def forward(")[2]


# Branches


def test_branches_are_a_module_list_that_a_comprehension_runs() -> None:
    program = compile_layers(
        {
            "paths": {
                "branches": [CONV, {"type": "AvgPool2d", "kernel_size": 3, "stride": 1, "padding": 1}, "Identity"]
            },
            "out": {"type": "cat", "from": "paths", "dim": 1},
        }
    )
    module = checked(program)
    assert isinstance(module.paths, nn.ModuleList)
    (x,) = example_inputs(program)
    assert torch.equal(module(x), torch.cat([path(x) for path in module.paths], dim=1))
    assert "torch.cat([path(x) for path in self.paths], dim=1)" in program.source()
    assert str(program.outputs["out"]) == "[N, 10, 8*h, 8*w]"


def test_branches_with_names_are_a_module_dict() -> None:
    program = compile_layers(
        {
            "paths": {"branches": {"small": CONV, "large": {**CONV, "kernel_size": 5, "padding": 2}}},
            "sum": {"compute": "paths.small + paths.large"},
            "all": {"type": "cat", "from": "paths.*", "dim": 1},
        },
        outputs={"sum": "sum", "all": "all"},
    )
    module = checked(program)
    assert isinstance(module.paths, nn.ModuleDict)
    assert list(module.state_dict())[:2] == ["paths.small.weight", "paths.small.bias"]
    source = program.source()
    assert "{name: path(x) for name, path in self.paths.items()}" in source
    assert 'paths["small"] + paths["large"]' in source
    assert "list(paths.values())" in source


def test_each_branch_reads_its_own() -> None:
    program = compile_layers(
        {
            "laterals": {"branches": [{"for": {"i": 3}, "from": "features.$i", **CONV}]},
            "last": {"type": "relu", "from": "laterals.-1"},
        },
        LEVELS,
        {"laterals": "laterals", "last": "last"},
    )
    module = checked(program)
    assert isinstance(module.laterals, nn.ModuleList)
    features = [torch.randn(2, c, 5, 4) for c in (4, 8, 16)]
    given = module(features)
    for one, layer, feature in zip(given.laterals, module.laterals, features, strict=True):
        assert torch.equal(one, layer(feature))
    assert torch.equal(given.last, given.laterals[2].relu())
    assert "in zip(self.laterals, features, strict=True)" in program.source()
    assert "laterals: list[Tensor]" in program.source()


def test_branches_that_differ_are_written_out() -> None:
    program = compile_layers(
        {
            "y": {**CONV, "out_channels": 3},
            "paths": {"branches": [{**CONV, "from": "x"}, {**CONV, "from": "y"}, {**CONV, "from": "y"}]},
            "out": {"type": "cat", "from": "paths", "dim": 1},
        }
    )
    checked(program)
    assert "self.paths[0](x)" in program.source()


def test_loops_and_conditions_among_branches() -> None:
    document = {"params": {"rates": [1, 2, 3], "pool": True}}
    layers = {
        "paths": {
            "branches": [
                {"type": "Conv2d", "out_channels": 4, "kernel_size": 1},
                {"for": {"rate": "$rates"}, **CONV, "padding": "$rate", "dilation": "$rate"},
                {"type": "MaxPool2d", "kernel_size": 3, "stride": 1, "padding": 1, "if": "$pool"},
            ]
        },
        "out": {"type": "cat", "from": "paths", "dim": 1},
    }
    program = compile_layers(layers, **document)
    assert len(checked(program).paths) == 5
    assert str(program.outputs["out"]) == "[N, 19, 8*h, 8*w]"
    without = compile_layers(layers, params={"rates": [1, 2], "pool": False})
    assert len(checked(without).paths) == 3


def test_functions_may_be_named_branches() -> None:
    program = compile_layers(
        {
            "paths": {"branches": {"soft": {"type": "sigmoid"}, "conv": {**CONV, "out_channels": 3}}},
            "out": {"compute": "paths.soft * paths.conv"},
        }
    )
    module = checked(program)
    assert isinstance(module.paths, nn.ModuleDict)
    assert list(module.paths) == ["conv"]


# Each


def test_one_module_for_every_tensor_of_a_list() -> None:
    program = compile_layers(
        {
            "head": {"each": "features", **CONV},
            "rows": {"type": "flatten", "each": "head", "start_dim": 2},
            "out": {"type": "cat", "from": "rows", "dim": 2},
        },
        {"features": {"list": ["N", 8, "_", "_"]}},
    )
    module = checked(program)
    features = [torch.randn(2, 8, size, size) for size in (7, 5, 3, 2)]
    rows = [module.head(feature).flatten(2) for feature in features]
    assert torch.equal(module(features), torch.cat(rows, dim=2))
    assert str(program.outputs["out"]) == "[N, 4, sum(features_2*features_3)]"
    assert "for feature in features]" in program.source()


def test_each_with_a_block_a_group_and_a_shared_module() -> None:
    program = compile_layers(
        {
            "conv": {"each": "features", "type": "Twice"},
            "group": {"each": "conv", "layers": [CONV, "ReLU"]},
            "again": {"use": "conv", "each": "group"},
            "out": {"type": "cat", "from": "again", "dim": 0},
        },
        {"features": {"list": [["N", 4, 6, 6], ["M", 4, 6, 6]]}},
        blocks={"Twice": {"layers": {"a": CONV, "b": CONV, "sum": {"compute": "a + b"}}}},
    )
    module = checked(program)
    assert str(program.outputs["out"]) == "[N + M, 4, 6, 6]" or str(program.outputs["out"]) == "[M + N, 4, 6, 6]"
    assert isinstance(module.group, nn.Sequential)


def test_the_number_of_tensors_is_a_size() -> None:
    program = compile_layers(
        {"out": {"type": "cat", "from": "features", "dim": 1}}, {"features": {"list": ["N", 8, "H", "W"]}}
    )
    assert str(program.outputs["out"]) == "[N, 8*len(features), H, W]"
    assert verify(program) == []


# Members


def test_all_of_a_chain_and_its_end() -> None:
    program = compile_layers(
        {
            "stages": {"for": {"width": "$widths"}, **CONV, "out_channels": "$width"},
            "all": {"type": "cat", "from": "stages.*", "dim": 1},
            "last": {"type": "relu", "from": "stages.-1"},
            "bare": {"type": "sigmoid", "from": "stages"},
        },
        outputs={"all": "all", "last": "last", "bare": "bare"},
        params={"widths": [4, 6, 5]},
    )
    module = checked(program)
    assert isinstance(module.stages, nn.ModuleList)
    (x,) = example_inputs(program)
    given = module(x)
    assert torch.equal(given.last, torch.cat([given.all], 1)[:, -5:].relu())
    forward = forward_of(program)
    assert "for stage in self.stages:" in forward
    assert "torch.cat(stages, dim=1)" in forward


def test_a_loop_over_computations_is_no_module() -> None:
    program = compile_layers(
        {
            "pyramid": {"repeat": 3, "type": "max_pool2d", "kernel_size": 2, "from": "x"},
            "smallest": {"type": "relu", "from": "pyramid"},
            "largest": {"type": "relu", "from": "pyramid.0"},
        },
        outputs={"smallest": "smallest", "largest": "largest", "all": "pyramid.*"},
    )
    checked(program)
    assert list(program.module().children()) == []
    assert [str(one) for one in program.outputs["all"]] == ["[N, 3, 4*h, 4*w]", "[N, 3, 2*h, 2*w]", "[N, 3, h, w]"]


def test_tensors_are_put_into_a_list() -> None:
    program = compile_layers(
        {
            "a": CONV,
            "b": {**CONV, "from": "a"},
            "heads": {"type": "Heads", "from": {"features": ["a", "b"]}},
        },
        blocks={
            "Heads": {
                "inputs": {"features": {"list": ["N", "C", "H", "W"]}},
                "layers": {
                    "heads": {"each": "features", "type": "Conv2d", "out_channels": "$C", "kernel_size": 1},
                    "out": {"type": "cat", "from": "heads", "dim": 1},
                },
            }
        },
        outputs={"all": ["a", "b"], "heads": "heads"},
    )
    checked(program)
    assert "self.heads([a, b])" in program.source()


# Sizes


def test_the_shape_of_a_tensor_is_an_argument() -> None:
    program = compile_layers(
        {
            "conv": {**CONV, "stride": 2},
            "up": {"type": "interpolate", "size": "$(shape(x)[2:])"},
            "rows": {"type": "reshape", "shape": ["$N", 4, "$(shape(x)[2] * shape(x)[3])"]},
        }
    )
    checked(program)
    assert str(program.outputs["rows"]) == "[N, 4, 64*h*w]"
    assert "size=x.shape[2:]" in program.source()


def test_a_known_size_may_be_an_argument_of_a_module() -> None:
    program = compile_layers({"fc": {"type": "Linear", "out_features": "$(shape(x)[1] * 2)"}}, {"x": ["N", 8]})
    checked(program)
    assert str(program.outputs["fc"]) == "[N, 16]"


# The layer table and the graph


def test_tables_and_graphs_know_them() -> None:
    program = compile_layers(
        {
            "laterals": {"branches": [{"for": {"i": 3}, "from": "features.$i", **CONV}]},
            "heads": {"each": "laterals", **CONV},
            "out": {"type": "stack", "from": ["heads.0", "heads.0"], "dim": 0},
        },
        LEVELS,
        {"out": "out", "rest": "laterals.*"},
    )
    graph = program.graph
    assert set(graph.predecessors("heads")) == {"laterals.0", "laterals.1", "laterals.2"}
    assert set(graph.predecessors("laterals.0")) == {"features"}
    assert program.layer_graph().outputs == (("out",), ("laterals.0", "laterals.1", "laterals.2"))
    assert "branches" in program._repr_html_()
    assert "laterals" in to_page(program)
    assert verify(program) == []


# Loops in `forward` keep apart what they read


ADD = {
    "Add": {
        "inputs": {"a": ["N", "C", "H", "W"], "b": ["N", "C", "H", "W"]},
        "layers": {"conv": {**CONV, "out_channels": "$C", "from": "a"}, "sum": {"compute": "conv + b"}},
    }
}


def test_a_chain_reads_again_what_it_starts_from() -> None:
    """The loop's variable is not that of the input, which is still needed."""
    program = compile_layers(
        {"s": {"for": {"i": 3}, "from": ["previous", "x"], "type": "Add"}, "last": "ReLU"}, blocks=ADD
    )
    checked(program)
    assert "out = s_layer(out, x)" in program.source()
    begun = compile_layers(
        {"y": CONV, "s": {"for": {"i": 3}, "from": ["previous", "y"], "type": "Add"}, "last": "ReLU"}, blocks=ADD
    )
    checked(begun)


def test_a_comprehension_hides_no_value_that_it_reads() -> None:
    program = compile_layers(
        {
            "lists": {"branches": [{"for": {"i": 2}, "from": "features.$i", **CONV}]},
            "both": {"branches": [{"for": {"i": 2}, "type": "Add", "from": ["lists.$i", "feature"]}]},
            "x": {"branches": [{"for": {"i": 2}, "type": "Add", "from": ["both.$i", "feature"]}]},
            "out": {"type": "cat", "from": "x", "dim": 1},
        },
        {"feature": ["N", 4, 6, 6], "features": {"list": [["N", 3, 6, 6], ["N", 5, 6, 6]]}},
        blocks=ADD,
    )
    checked(program)


def test_members_with_several_outputs_are_written_out() -> None:
    program = compile_layers(
        {
            "rnn": {"repeat": 2, "type": "GRU", "hidden_size": 3, "batch_first": True},
            "first": {"type": "relu", "from": "rnn.0"},
            "paths": {"branches": [{"repeat": 2, "type": "GRU", "hidden_size": 3, "from": "x"}]},
            "out": {"type": "cat", "from": ["rnn", "first", "paths.0", "paths.1"], "dim": 2},
        },
        {"x": ["N", "T", 4]},
    )
    checked(program)


def test_no_branch_at_all() -> None:
    program = compile_layers(
        {"none": {"branches": [{"for": {"i": "$count"}, **CONV}]}, "out": {**CONV, "from": "x"}},
        outputs={"none": "none", "out": "out"},
        params={"count": 0},
    )
    assert isinstance(checked(program).none, nn.ModuleList)
