"""`when`: modules that exist always and run in one mode only, as auxiliary heads do."""

from __future__ import annotations

from typing import Any

import torch

import netspec
from netspec.runtime.verify import verify


def compiled(when: str) -> netspec.Program:
    layers: dict[str, Any] = {
        "body": {"type": "Linear", "out_features": 6},
        "aux": {"type": "Linear", "from": "body", "out_features": 2, "when": when},
        "relu": "ReLU",
        "head": {"type": "Linear", "out_features": 3},
    }
    model = {"inputs": {"x": ["N", 8]}, "layers": layers, "outputs": {"logits": "head", "aux": "aux"}}
    return netspec.compile({"netspec": 1, "name": "net", "model": model})


def test_an_auxiliary_head_runs_in_training_only() -> None:
    program = compiled("training")
    module = program.module(seed=0)
    x = torch.randn(4, 8)
    assert module.train()(x).aux.shape == (4, 2)
    assert module.eval()(x).aux is None
    assert module(x).logits.shape == (4, 3)
    assert "aux.weight" in module.state_dict()
    assert verify(program) == []


def test_it_reads_as_one_would_write_it() -> None:
    source = compiled("training").source()
    assert "aux = self.aux(body) if self.training else None" in source
    assert "aux: Tensor | None" in source
    assert "if not self.training else None" in compiled("evaluation").source()


def test_in_evaluation_only() -> None:
    program = compiled("evaluation")
    module = program.module()
    assert module.train()(torch.randn(4, 8)).aux is None
    assert module.eval()(torch.randn(4, 8)).aux.shape == (4, 2)
    assert verify(program) == []
