"""Tied parameters: one tensor under two names, through both doors, drawn once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import netspec
from netspec.program import Program
from netspec.runtime.verify import emitted_module, verify
from netspec.table import layer_table, totals

GPT = Path(__file__).resolve().parent.parent / "specs" / "gpt.yaml"


def compile_model(tie: dict[str, str], layers: dict[str, Any] | list[Any], initialize: Any = None) -> Program:
    model: dict[str, Any] = {"inputs": {"t": {"shape": ["N", "T"], "dtype": "int64"}}, "layers": layers, "tie": tie}
    if initialize:
        model["initialize"] = initialize
    return netspec.compile({"netspec": 1, "name": "net", "model": model})


LAYERS: dict[str, Any] = {
    "embed": {"type": "Embedding", "num_embeddings": 11, "embedding_dim": 6},
    "mix": {"type": "Linear", "out_features": 6},
    "head": {"type": "Linear", "out_features": 11},
}


class Reference(nn.Module):
    """The same by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.mix = nn.Linear(6, 6)
        self.head = nn.Linear(6, 11)
        self.head.weight = self.embed.weight


def test_a_tie_is_one_parameter_under_two_names() -> None:
    program = compile_model({"head.weight": "embed.weight"}, LAYERS)
    assert verify(program) == []
    assert "self.head.weight = self.embed.weight" in program.source()
    torch.manual_seed(0)
    reference = Reference()
    for module in (program.module(0), emitted_module(program, 0)):
        assert module.head.weight is module.embed.weight
        assert list(module.state_dict()) == list(reference.state_dict())
        assert [n for n, _ in module.named_parameters()] == [n for n, _ in reference.named_parameters()]
        for key, value in reference.state_dict().items():
            assert torch.equal(module.state_dict()[key], value)
        module.load_state_dict(reference.state_dict(), strict=True)


def test_it_is_drawn_once_as_the_other_is() -> None:
    rules = [{"match": ["Linear", "Embedding"], "weight": {"type": "normal", "std": 0.02}}]
    program = compile_model({"head.weight": "embed.weight"}, LAYERS, rules)
    assert verify(program) == []
    torch.manual_seed(0)
    reference = Reference()
    nn.init.normal_(reference.embed.weight, std=0.02)
    nn.init.normal_(reference.mix.weight, std=0.02)
    for module in (program.module(0), emitted_module(program, 0)):
        assert torch.equal(module.head.weight, reference.embed.weight)
        assert torch.equal(module.mix.weight, reference.mix.weight)


def test_counts_hold_it_once() -> None:
    program = compile_model({"head.weight": "embed.weight"}, LAYERS)
    counted = sum(parameter.numel() for parameter in program.module().parameters())
    assert totals(program)["parameters"] == totals(program)["trainable"] == counted
    assert {row.path: row.parameters for row in layer_table(program)}["head"] == 11


def test_a_path_leads_through_groups_lists_and_loose_tensors() -> None:
    layers = {
        "table": {"type": "Parameter", "shape": [11, 6], "initialize": "normal"},
        "inner": {
            "layers": {
                "embed": {"type": "Embedding", "num_embeddings": 11, "embedding_dim": 6},
                "moved": {"compute": "embed + table[0]"},
            }
        },
        "heads": [{"type": "Linear", "out_features": 6}, {"type": "Linear", "out_features": 11, "bias": False}],
    }
    program = compile_model({"heads.1.weight": "table", "inner.embed.weight": "table"}, layers)
    assert verify(program) == []
    module = program.module()
    assert module.heads[1].weight is module.table and module.inner.embed.weight is module.table
    assert "self.heads[1].weight = self.table" in program.source()


def test_gpt_trains_with_its_embedding_as_output_layer(tmp_path: Path) -> None:
    program = netspec.compile(GPT, {"params.depth": 2, "params.width": 16, "params.num_heads": 2, "params.context": 8})
    assert verify(program) == []
    module = emitted_module(program, 0)
    tokens = torch.randint(0, 65, (2, 8))
    loss = nn.functional.cross_entropy(module(tokens).flatten(0, 1), tokens.flatten())
    loss.backward()
    assert module.lm_head.weight.grad is module.transformer.wte.weight.grad is not None
    assert sum(p.numel() for p in module.parameters()) == totals(program)["parameters"]


@pytest.mark.parametrize("match", ["*.bias", "embed.weight", "head.weight"])
def test_optimizer_groups_speak_of_the_names_that_torch_lists(match: str) -> None:
    model = {"inputs": {"t": {"shape": ["N", "T"], "dtype": "int64"}}, "layers": LAYERS}
    document = {
        "netspec": 1,
        "name": "net",
        "model": {**model, "tie": {"head.weight": "embed.weight"}},
        "data": {"train": {"source": {"type": "CSV", "path": "x.csv"}}, "batch_size": 2},
        "train": {
            "epochs": 1,
            "loss": {"type": "CrossEntropyLoss"},
            "optimizer": {"type": "SGD", "lr": 0.1, "groups": [{"match": match, "lr": 0.2}]},
        },
    }
    with pytest.raises(netspec.SpecError) as caught:
        netspec.compile(document)
    unmatched = [d for d in caught.value.diagnostics if match in d.message]
    assert bool(unmatched) == (match == "head.weight")
