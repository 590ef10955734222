"""Every optimizer, scheduler and loss of the installed torch, named in a spec, against a loop written by hand.

What there is comes from torch itself when the test runs: a release that brings a new one fails here by its name until
it is in the catalog and has its arguments in these tables.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim import lr_scheduler

import netspec
from netspec import catalog
from netspec.program import Program
from netspec.runtime import checkpoint
from netspec.runtime.data import open_data
from netspec.runtime.objective import make_objective
from netspec.runtime.prepare import used_fields
from netspec.runtime.run import train

STEPS, BATCHES = 9, 6
"""One epoch and a half."""

OPTIMIZERS = {
    name: kind
    for name, kind in vars(torch.optim).items()
    if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer) and kind is not torch.optim.Optimizer
}
SCHEDULERS = {
    name: kind
    for name, kind in vars(lr_scheduler).items()
    if isinstance(kind, type)
    and issubclass(kind, (lr_scheduler.LRScheduler, lr_scheduler.ReduceLROnPlateau))
    and not name.startswith("_")
    and kind is not lr_scheduler.LRScheduler
}

DENSE = {
    "inputs": {"image": ["N", 1, 8, 8]},
    "layers": [
        "Flatten",
        {"type": "Linear", "out_features": 10},
        "BatchNorm1d",
        {"type": "Linear", "out_features": 10},
    ],
}
MATRICES = {
    "inputs": {"image": ["N", 1, 8, 8]},
    "layers": [
        "Flatten",
        {"type": "Linear", "out_features": 12, "bias": False},
        "Tanh",
        {"type": "Linear", "out_features": 10, "bias": False},
    ],
}
SPARSE = {
    "inputs": {"token": {"shape": ["N"], "dtype": "int64"}},
    "layers": [{"type": "Embedding", "num_embeddings": 10, "embedding_dim": 10, "sparse": True}],
}
MODELS = {"Muon": MATRICES, "SparseAdam": SPARSE}
"""Optimizers that do not take the weights of every layer: matrices alone, embeddings alone."""
ARGUMENTS: dict[str, dict[str, Any]] = {
    "SGD": {"lr": 0.1, "momentum": 0.9, "nesterov": True},
    "LBFGS": {"lr": 0.1, "max_iter": 3},
    "ASGD": {"t0": 3.0},
}
"""Where torch's defaults alone would not show much."""


def document(model: dict[str, Any] = DENSE, **settings: Any) -> dict[str, Any]:
    inputs = {"inputs": {"token": "label"}} if model is SPARSE else {}
    return {
        "netspec": 1,
        "name": "small",
        "model": model,
        "data": {"source": "Digits", "split": {"train": 0.1, "test": 0.9}, "batch_size": 32},
        "train": {
            "steps": STEPS,
            "loss": {"type": "CrossEntropyLoss", "from": ["output", "label"]},
            "device": "cpu",
            "threads": 1,
            "tensorboard": False,
            **inputs,
            **settings,
        },
    }


def compiled(**settings: Any) -> Program:
    spec = document(**settings)
    layers = spec["model"]["layers"]
    spec["model"] = {**spec["model"], "outputs": {"output": str(len(layers) - 1)}}
    return netspec.compile(spec)


def batches(program: Program, epochs: int = 2) -> Iterator[list[dict[str, Tensor]]]:
    recipe = program.recipe
    data = open_data(
        recipe.data,
        seed=recipe.train.seed,
        device=torch.device("cpu"),
        fields=used_fields(recipe.train),
        splits=["train"],
    )
    for epoch in range(epochs):
        yield list(data.splits["train"].batches(epoch))
    data.close()


def by_hand(
    program: Program,
    optimizer: Callable[..., torch.optim.Optimizer],
    scheduler: Callable[[torch.optim.Optimizer], Any] | None = None,
) -> dict[str, Tensor]:
    """The weights after the steps of a loop as everybody writes it; the scheduler steps with every update."""
    model, criterion = program.module(seed=0).train(), nn.CrossEntropyLoss()
    made = optimizer(model.parameters())
    schedule = scheduler(made) if scheduler is not None else None
    steps = 0
    for epoch in batches(program):
        for batch in epoch:
            field = next(iter(program.recipe.train.inputs.values()))

            def closure(batch: dict[str, Tensor] = batch, field: str = field) -> Tensor:
                made.zero_grad()
                output = model(batch[field])
                loss = criterion(output, batch["label"])
                loss.backward()
                return loss

            made.step(closure)
            steps += 1
            if isinstance(schedule, lr_scheduler.ReduceLROnPlateau):
                pass
            elif schedule is not None:
                schedule.step()
            if steps == STEPS:
                return {name: value.detach() for name, value in model.state_dict().items()}
    raise AssertionError("there were too few batches")


def by_netspec(program: Program, folder: Path) -> dict[str, Tensor]:
    train(program, run_dir=folder, progress="none")
    return load_file(checkpoint.stored(folder / "checkpoints")[-1].path / "model.safetensors")


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


@pytest.fixture(autouse=True)
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netspec.runtime.run.draw_curves", lambda *_: None)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_is_torchs(name: str, fused: bool, tmp_path: Path) -> None:
    assert catalog.lookup(name, "optimizer") is not None, f"torch.optim.{name} is not in the catalog"
    has_kernel = "fused" in inspect.signature(OPTIMIZERS[name]).parameters
    if fused and not has_kernel:
        pytest.skip("torch has no kernel for it")
    given = ARGUMENTS.get(name, {})
    stated = {"type": name, **given, **({"fused": False} if has_kernel and not fused else {})}
    program = compiled(model=MODELS.get(name, DENSE), optimizer=stated)
    extra = {"fused": True} if fused else {}
    expected = by_hand(program, functools.partial(OPTIMIZERS[name], **given, **extra))
    found = by_netspec(program, tmp_path / "run")
    assert_equal(found, expected)
    start = program.module(seed=0).state_dict()
    assert any(not torch.equal(start[key], value) for key, value in found.items()), "the weights have moved"


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


SCHEDULES: dict[str, tuple[Any, Callable[[torch.optim.Optimizer], Any]]] = {
    "LambdaLR": ({"lr_lambda": "$(0.9 ** epoch)"}, lambda o: lr_scheduler.LambdaLR(o, lambda epoch: 0.9**epoch)),
    "MultiplicativeLR": (
        {"lr_lambda": "$(0.8 if epoch % 2 else 1)"},
        lambda o: lr_scheduler.MultiplicativeLR(o, lambda epoch: 0.8 if epoch % 2 else 1),
    ),
    "CosineAnnealingLR": ({"T_max": STEPS}, lambda o: lr_scheduler.CosineAnnealingLR(o, STEPS)),
    "CosineAnnealingWarmRestarts": ({"T_0": 4}, lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 4)),
    "StepLR": ({"step_size": 3}, lambda o: lr_scheduler.StepLR(o, 3)),
    "MultiStepLR": ({"milestones": [2, 5]}, lambda o: lr_scheduler.MultiStepLR(o, [2, 5])),
    "ExponentialLR": ({"gamma": 0.9}, lambda o: lr_scheduler.ExponentialLR(o, 0.9)),
    "LinearLR": ({"total_iters": 6}, lambda o: lr_scheduler.LinearLR(o, total_iters=6)),
    "ConstantLR": ({"total_iters": 4}, lambda o: lr_scheduler.ConstantLR(o, total_iters=4)),
    "PolynomialLR": ({"total_iters": 12, "power": 2.0}, lambda o: lr_scheduler.PolynomialLR(o, 12, 2.0)),
    "OneCycleLR": ({"max_lr": 0.2}, lambda o: lr_scheduler.OneCycleLR(o, 0.2, total_steps=STEPS)),
    "CyclicLR": (
        {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 3, "scale_fn": "$(0.5 ** (x - 1))"},
        lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.1, 3, scale_fn=lambda x: 0.5 ** (x - 1)),
    ),
    "SequentialLR": (
        {
            "schedulers": [{"type": "LinearLR", "total_iters": 3}, {"type": "ExponentialLR", "gamma": 0.8}],
            "milestones": [3],
        },
        lambda o: lr_scheduler.SequentialLR(
            o, [lr_scheduler.LinearLR(o, total_iters=3), lr_scheduler.ExponentialLR(o, 0.8)], [3]
        ),
    ),
    "ChainedScheduler": (
        {"schedulers": [{"type": "ConstantLR", "total_iters": 3}, {"type": "ExponentialLR", "gamma": 0.9}]},
        lambda o: lr_scheduler.ChainedScheduler(
            [lr_scheduler.ConstantLR(o, total_iters=3), lr_scheduler.ExponentialLR(o, 0.9)]
        ),
    ),
}


@pytest.mark.parametrize("name", sorted(SCHEDULERS.keys() - {"ReduceLROnPlateau"}))
def test_a_scheduler_is_torchs(name: str, tmp_path: Path) -> None:
    assert name in SCHEDULES, f"torch.optim.lr_scheduler.{name} has no case here"
    given, scheduler = SCHEDULES[name]
    program = compiled(
        optimizer={"type": "SGD", "lr": 0.1, "momentum": 0.9, "fused": False}, scheduler={"type": name, **given}
    )
    assert_equal(by_netspec(program, tmp_path / "run"), by_hand(program, sgd, scheduler))


def test_the_plateau_scheduler_is_torchs(tmp_path: Path) -> None:
    """It sees the figure of each epoch, and the next epoch has its rate."""
    plateau = {"type": "ReduceLROnPlateau", "patience": 0, "threshold": 0.5, "monitor": "train.loss"}
    program = compiled(optimizer={"type": "SGD", "lr": 0.1, "fused": False}, scheduler=plateau, steps=5 * BATCHES)
    done = train(program, run_dir=tmp_path / "run", progress="none")
    model, criterion = program.module(seed=0), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    schedule = lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=0.5)
    for row, epoch in zip(done.history, batches(program, 5), strict=True):
        assert row["lr"] == optimizer.param_groups[0]["lr"]
        for batch in epoch:
            optimizer.zero_grad()
            criterion(model(batch["image"]), batch["label"]).backward()
            optimizer.step()
        schedule.step(row["train.loss"])
    assert done.history[-1]["lr"] < 0.1
    assert_equal(
        load_file(checkpoint.stored(tmp_path / "run" / "checkpoints")[-1].path / "model.safetensors"),
        {name: value.detach() for name, value in model.state_dict().items()},
    )


LOSSES = {
    name: getattr(nn, name)
    for name in nn.modules.loss.__all__
    if name not in ("NLLLoss2d", "LinearCrossEntropyLoss")  # an old name; a layer with weights of its own
}
BETWEEN: dict[str, tuple[dict[str, Any], Callable[[dict[str, Tensor]], Tensor]]] = {
    "scores": ({"use": "model", "from": "image"}, lambda t: t["scores"]),
    "rows": ({"type": "flatten", "start_dim": 1, "from": "image"}, lambda t: t["image"].flatten(1)),
    "wanted": ({"type": "narrow", "dim": 1, "start": 20, "length": 10, "from": "rows"}, lambda t: t["rows"][:, 20:30]),
    "logs": ({"type": "log_softmax", "dim": 1, "from": "scores"}, lambda t: t["scores"].log_softmax(1)),
    "odds": ({"type": "sigmoid", "from": "scores"}, lambda t: t["scores"].sigmoid()),
    "spread": ({"compute": "wanted + 0.5"}, lambda t: t["wanted"] + 0.5),
    "signs": ({"compute": "wanted * 0 + 1"}, lambda t: t["wanted"] * 0 + 1),
    "ones": ({"compute": "label * 0 + 1"}, lambda t: t["label"] * 0 + 1),
    "none": ({"type": "zeros", "size": ["$N", 10], "dtype": "int64"}, lambda t: torch.zeros(32, 10, dtype=torch.int64)),
    "word": ({"compute": "label % 9 + 1"}, lambda t: t["label"] % 9 + 1),
    "words": ({"type": "unsqueeze", "dim": 1, "from": "word"}, lambda t: t["word"].unsqueeze(1)),
    "time": ({"type": "unsqueeze", "dim": 0, "from": "logs"}, lambda t: t["logs"].unsqueeze(0)),
}
"""Tensors that a loss may take: as a layer, and as it is written in torch."""
CLASSES, NUMBERS = ("scores", "label"), ("scores", "wanted")
TAKEN: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("CrossEntropyLoss", "MultiMarginLoss"), CLASSES),
    **dict.fromkeys(("L1Loss", "MSELoss", "SmoothL1Loss", "HuberLoss", "BCEWithLogitsLoss", "PoissonNLLLoss"), NUMBERS),
    "MultiLabelSoftMarginLoss": NUMBERS,
    "KLDivLoss": ("logs", "wanted"),
    "NLLLoss": ("logs", "label"),
    "BCELoss": ("odds", "wanted"),
    "GaussianNLLLoss": ("scores", "wanted", "spread"),
    "SoftMarginLoss": ("scores", "signs"),
    "HingeEmbeddingLoss": ("scores", "signs"),
    "MultiLabelMarginLoss": ("scores", "none"),
    "MarginRankingLoss": ("scores", "wanted", "signs"),
    "CosineEmbeddingLoss": ("scores", "wanted", "ones"),
    "TripletMarginLoss": ("scores", "wanted", "odds"),
    "TripletMarginWithDistanceLoss": ("scores", "wanted", "odds"),
    "CTCLoss": ("time", "words", "ones", "ones"),
}


def needed(names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """The layers that give these tensors, and those that they read."""
    wanted, text = set(names), ""
    for name in reversed(BETWEEN):
        if name in wanted:
            layer = BETWEEN[name][0]
            text = layer.get("from") or layer.get("compute", "").partition(" ")[0]
            wanted.add(text)
    return {name: layer for name, (layer, _) in BETWEEN.items() if name in wanted}


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_torchs(name: str) -> None:
    """Value and gradients of the weights, bit for bit."""
    assert catalog.lookup(name, "loss") is not None, f"torch.nn.{name} is not in the catalog"
    assert name in TAKEN, f"torch.nn.{name} has no case here"
    more = {"reduction": "batchmean"} if name == "KLDivLoss" else {}
    layers = {**needed(TAKEN[name]), "loss": {"type": name, "from": list(TAKEN[name]), **more}}
    spec = document(optimizer="SGD", layers=layers)
    del spec["train"]["loss"]
    program = netspec.compile(spec)
    batch = next(batches(program, 1))[0]
    model = program.module(seed=0)
    objective = make_objective(model, program.recipe.train, tuple(program.outputs), torch.device("cpu"))
    found = objective.loss(objective.forward(batch), batch)
    found.backward()

    by_hand = program.module(seed=0)
    tensors = {**batch, "scores": by_hand(batch["image"])}
    for between, (_, function) in BETWEEN.items():
        if between in layers:
            tensors[between] = function(tensors)
    expected = LOSSES[name](**more)(*[tensors[taken] for taken in TAKEN[name]])
    expected.backward()
    assert torch.equal(found, expected)
    for one, other in zip(model.parameters(), by_hand.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)
