"""The `train` section of a spec as the runtime gets it. What is wrong with one is shown in golden/diagnostics."""

from __future__ import annotations

from typing import Any

import pytest

import netspec
from netspec.diagnostics import SpecError
from netspec.expressions import evaluate
from netspec.recipe.seeing import TensorBoard
from netspec.recipe.train import (
    Checkpoint,
    ClipGrad,
    Duration,
    EarlyStopping,
    Group,
    Loss,
    Metric,
    Optimizer,
    Reference,
    Scheduler,
    TrainRecipe,
    WarmUp,
)

HEAD, LABEL = Reference(kind="output", name="head"), Reference(kind="field", name="label")


def spec(train: dict[str, Any], **sections: Any) -> dict[str, Any]:
    return {
        "netspec": 1,
        "name": "small",
        "params": {"rate": 0.5, "rounds": 4},
        "model": {
            "inputs": {"image": ["N", 1, 8, 8]},
            "layers": {"flat": "Flatten", "head": {"type": "Linear", "out_features": 10}},
        },
        "data": {"source": "Digits", "split": {"train": 0.8, "val": 0.1, "test": 0.1}},
        "train": {"epochs": 3, "loss": "CrossEntropyLoss", "optimizer": "SGD", **train},
        **sections,
    }


def read(train: dict[str, Any] | None = None, **sections: Any) -> TrainRecipe:
    recipe = netspec.compile(spec(train or {}, **sections)).recipe.train
    assert isinstance(recipe, TrainRecipe)
    return recipe


def test_what_is_left_out_is_filled_in() -> None:
    assert read() == TrainRecipe(
        length=Duration(epochs=3),
        inputs={"image": "image"},
        losses=(Loss(name="loss", type="CrossEntropyLoss", target="torch.nn.CrossEntropyLoss", inputs=(HEAD, LABEL)),),
        optimizer=Optimizer(type="SGD", target="torch.optim.SGD"),
        scheduler=None,
        metrics=(),
        precision="fp32",
        checkpoint=Checkpoint(every=None, keep=2, monitor=None, mode="min"),
        early_stopping=None,
        seed=0,
        device="auto",
        threads=None,
        clip_grad=None,
        accumulate=1,
        log_every=50,
        tensorboard=TensorBoard(),
    )


def test_everything_that_can_be_said() -> None:
    found = read(
        {
            "loss": {"type": "CrossEntropyLoss", "label_smoothing": 0.1, "from": ["head", "label"]},
            "optimizer": {
                "type": "AdamW",
                "lr": "$rate",
                "betas": [0.8, 0.9],
                "groups": [{"match": "head.*", "lr": 0.1}, {"match": ["*.bias"], "weight_decay": 0}],
            },
            "scheduler": {"type": "CosineAnnealingLR", "T_max": "$(train.epochs)", "warmup": {"epochs": 1}},
            "metrics": ["Accuracy", {"type": "F1Score", "average": "weighted"}],
            "precision": "bf16",
            "checkpoint": {"every": {"steps": 100}, "keep": 3, "monitor": "val.accuracy"},
            "early_stopping": {"monitor": "val.loss", "patience": 5},
            "seed": 7,
            "device": "cpu",
            "threads": 2,
            "clip_grad": 1.0,
            "accumulate": 2,
            "log_every": 10,
            "tensorboard": False,
        }
    )
    assert found == TrainRecipe(
        length=Duration(epochs=3),
        inputs={"image": "image"},
        losses=(
            Loss(
                name="loss",
                type="CrossEntropyLoss",
                target="torch.nn.CrossEntropyLoss",
                arguments={"label_smoothing": 0.1},
                inputs=(HEAD, LABEL),
            ),
        ),
        optimizer=Optimizer(
            type="AdamW",
            target="torch.optim.AdamW",
            arguments={"lr": 0.5, "betas": (0.8, 0.9)},
            groups=(
                Group(match=("head.*",), arguments={"lr": 0.1}),
                Group(match=("*.bias",), arguments={"weight_decay": 0}),
            ),
        ),
        scheduler=Scheduler(
            type="CosineAnnealingLR",
            target="torch.optim.lr_scheduler.CosineAnnealingLR",
            arguments={"T_max": 3},
            interval="epoch",
            warmup=WarmUp(length=Duration(epochs=1), start_factor=0.01),
        ),
        metrics=(
            Metric(name="accuracy", type="Accuracy", inputs=(HEAD, LABEL)),
            Metric(name="f1_score", type="F1Score", arguments={"average": "weighted"}, inputs=(HEAD, LABEL)),
        ),
        precision="bf16",
        checkpoint=Checkpoint(every=Duration(steps=100), keep=3, monitor="val.accuracy", mode="max"),
        early_stopping=EarlyStopping(monitor="val.loss", mode="min", patience=5),
        seed=7,
        device="cpu",
        threads=2,
        clip_grad=ClipGrad(norm=1.0),
        accumulate=2,
        log_every=10,
        tensorboard=None,
    )


def test_values_by_path_may_lead_to_further_values() -> None:
    """`T_max` reads `train.epochs`, which is a parameter, which may be overridden."""
    train = {"epochs": "$rounds", "scheduler": {"type": "CosineAnnealingLR", "T_max": "$(train.epochs)"}}
    assert read(train).length == Duration(epochs=4)
    found = netspec.compile(spec(train), set={"params.rounds": 9}).recipe.train
    assert found.length == Duration(epochs=9)
    assert found.scheduler.arguments == {"T_max": 9}


def test_a_path_that_leads_to_itself() -> None:
    with pytest.raises(SpecError, match="computed from itself"):
        read({"epochs": "$(train.accumulate)", "accumulate": "$(train.epochs)"})


@pytest.mark.parametrize(
    "train,interval",
    [
        ({"scheduler": {"type": "StepLR", "step_size": 1}}, "epoch"),
        ({"scheduler": {"type": "StepLR", "step_size": 1, "interval": "step"}}, "step"),
        ({"scheduler": {"type": "OneCycleLR", "max_lr": 0.1}}, "step"),
        ({"scheduler": {"type": "OneCycleLR", "max_lr": 0.1, "interval": "epoch", "total_steps": 3}}, "epoch"),
    ],
)
def test_what_a_scheduler_counts(train: dict[str, Any], interval: str) -> None:
    scheduler = read(train).scheduler
    assert scheduler is not None and scheduler.interval == interval


def test_a_run_in_steps_is_scheduled_in_steps() -> None:
    document = spec({"steps": 500, "scheduler": {"type": "CosineAnnealingLR", "T_max": "$(train.steps)"}})
    del document["train"]["epochs"]
    found = netspec.compile(document).recipe.train
    assert (found.length, found.scheduler.interval) == (Duration(steps=500), "step")


def test_the_plateau_watches_val_where_there_is_one() -> None:
    train = {"scheduler": "ReduceLROnPlateau"}
    for data, monitor in (({}, "val.loss"), ({"data": {"source": "Digits"}}, "train.loss")):
        scheduler = read(train, **data).scheduler
        assert scheduler is not None and scheduler.monitor == monitor


def test_a_rate_by_expression() -> None:
    scheduler = read({"scheduler": {"type": "LambdaLR", "lr_lambda": "$(rate ** epoch / train.epochs)"}}).scheduler
    assert scheduler is not None
    assert evaluate(scheduler.arguments["lr_lambda"], {"epoch": 2}) == pytest.approx(0.25 / 3)


def test_several_losses() -> None:
    losses = read(
        {
            "loss": {
                "main": "CrossEntropyLoss",
                "smooth": {"type": "CrossEntropyLoss", "label_smoothing": 0.1, "weight": 0.3},
            }
        }
    ).losses
    assert [(loss.name, loss.factor, loss.arguments) for loss in losses] == [
        ("main", 1.0, {}),
        ("smooth", 0.3, {"label_smoothing": 0.1}),
    ]


def test_an_input_of_another_name() -> None:
    model = {
        "inputs": {"pixels": ["N", 1, 8, 8]},
        "layers": {"flat": "Flatten", "head": {"type": "Linear", "out_features": 10}},
    }
    assert read({"inputs": {"pixels": "image"}}, model=model).inputs == {"pixels": "image"}
    with pytest.raises(SpecError, match="NS555 the model's input `pixels` takes the data's field `pixels`"):
        read(model=model)


def test_an_output_may_be_compared_with_an_input() -> None:
    """An autoencoder: its target is the image."""
    model = {
        "inputs": {"image": ["N", 1, 8, 8]},
        "layers": {
            "flat": "Flatten",
            "head": {"type": "Linear", "out_features": 64},
            "out": {"type": "unflatten", "dim": 1, "sizes": [1, 8, 8]},
        },
    }
    try:
        found = read(
            {"loss": {"type": "MSELoss", "from": ["out", "image"]}, "metrics": ["MeanSquaredError"]}, model=model
        )
    except SpecError as error:
        pytest.skip(f"no unflatten yet: {error}")
    assert found.losses[0].inputs[1] == found.metrics[0].inputs[1] == Reference(kind="field", name="image")


def test_a_metric_of_torchmetrics() -> None:
    metric = read({"metrics": [{"type": "torchmetrics.AUROC", "task": "multiclass", "num_classes": 10}]}).metrics[0]
    assert (metric.name, metric.type) == ("auroc", "torchmetrics.AUROC")


def test_the_same_metric_twice() -> None:
    metrics = read({"metrics": ["Accuracy", {"type": "Accuracy", "top_k": 3}]}).metrics
    assert [metric.name for metric in metrics] == ["accuracy", "accuracy_2"]


def test_all_mistakes_at_once() -> None:
    with pytest.raises(SpecError) as caught:
        read(
            {
                "optimizer": {"type": "SGD", "groups": [{"match": "nothing.*", "lr": 0.1}]},
                "loss": {"type": "CrossEntropyLoss", "from": ["head", "labels"]},
                "checkpoint": {"monitor": "val.accuracy"},
                "clip_grad": {},
            }
        )
    assert [d.code for d in caught.value.diagnostics] == ["NS556", "NS554", "NS559", "NS508"]
