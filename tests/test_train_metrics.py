"""Our metrics against scikit-learn's, over random batches."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import sklearn.metrics as oracle
import torch
from torch import Tensor

from netspec.recipe.train import Metric as Recipe
from netspec.recipe.train import Reference
from netspec.runtime.errors import RunError
from netspec.runtime.metrics import Metric, Metrics, make_metric

INPUTS = (Reference(kind="output", name="y"), Reference(kind="field", name="label"))
CPU = torch.device("cpu")


def metric(kind: str, scores: Any = "raw", **arguments: Any) -> Metric:
    return make_metric(Recipe(name="m", type=kind, arguments=arguments, inputs=INPUTS, scores=scores), CPU)


def over_batches(found: Metric, prediction: Tensor, target: Tensor, size: int = 17) -> float:
    for start in range(0, len(target), size):
        found.update(prediction[start : start + size], target[start : start + size])
    return found.compute()


def scores(classes: int, seed: int, samples: int = 150) -> tuple[Tensor, Tensor]:
    """Random scores that lean towards the truth; the last class never occurs."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(classes - 1, (samples,), generator=generator)
    prediction = torch.randn(samples, classes, generator=generator)
    prediction[torch.arange(samples), target] += 1
    return prediction, target


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("average", ["macro", "micro", "weighted"])
@pytest.mark.parametrize(
    "kind,expected",
    [("Precision", oracle.precision_score), ("Recall", oracle.recall_score), ("F1Score", oracle.f1_score)],
)
def test_figures_of_classes(kind: str, expected: Callable[..., float], average: str, seed: int) -> None:
    prediction, target = scores(5, seed)
    wanted = expected(target, prediction.argmax(1), average=average, zero_division=0)
    assert over_batches(metric(kind, average=average), prediction, target) == pytest.approx(wanted)


@pytest.mark.parametrize("kind,expected", [("Precision", oracle.precision_score), ("F1Score", oracle.f1_score)])
@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
@pytest.mark.parametrize("given", ["raw", "probabilities"])
def test_two_classes_in_one_number(kind: str, expected: Callable[..., float], shape: Any, given: str) -> None:
    """The figure is that of the positive class. A logit is compared with 0, a probability with 0.5."""
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(100, generator=generator) * 2
    target = (logits + torch.randn(100, generator=generator) > 0).float()
    prediction = logits if given == "raw" else logits.sigmoid()
    wanted = expected(target, logits > 0)
    assert over_batches(metric(kind, given), prediction.reshape(shape), target.reshape(shape)) == pytest.approx(wanted)
    right = oracle.accuracy_score(target, logits > 0)
    assert over_batches(metric("Accuracy", given), prediction.reshape(shape), target) == pytest.approx(right)


@pytest.mark.parametrize("top_k", [1, 2, 4])
def test_accuracy(top_k: int) -> None:
    prediction, target = scores(6, 1)
    wanted = oracle.top_k_accuracy_score(target, prediction.numpy(), k=top_k, labels=range(6))
    assert over_batches(metric("Accuracy", top_k=top_k), prediction, target) == pytest.approx(wanted)


def test_accuracy_of_pixels() -> None:
    """Scores [N, C, H, W] with classes [N, H, W]."""
    prediction, target = torch.randn(10, 3, 4, 5), torch.randint(3, (10, 4, 5))
    wanted = float((prediction.argmax(1) == target).double().mean())
    assert over_batches(metric("Accuracy"), prediction, target, 3) == pytest.approx(wanted)


@pytest.mark.parametrize("shape", [(90,), (90, 1), (90, 3)])
@pytest.mark.parametrize(
    "kind,arguments,expected",
    [
        ("MeanAbsoluteError", {}, oracle.mean_absolute_error),
        ("MeanSquaredError", {}, oracle.mean_squared_error),
        ("MeanSquaredError", {"squared": False}, lambda a, b: math.sqrt(oracle.mean_squared_error(a, b))),
        ("R2Score", {}, oracle.r2_score),
    ],
)
def test_figures_of_numbers(shape: Any, kind: str, arguments: Any, expected: Callable[..., float]) -> None:
    generator = torch.Generator().manual_seed(5)
    target = torch.randn(shape, generator=generator, dtype=torch.float64) * 3 + 7
    prediction = target + torch.randn(shape, generator=generator, dtype=torch.float64)
    wanted = expected(np.asarray(target), np.asarray(prediction))
    assert over_batches(metric(kind, **arguments), prediction, target) == pytest.approx(wanted)


def test_r2_of_large_numbers_with_little_spread() -> None:
    """Sums of squares would have lost every digit of the variance."""
    target = 1e8 + torch.arange(64, dtype=torch.float64)
    prediction = target + torch.tensor([0.5, -0.5]).repeat(32)
    wanted = oracle.r2_score(target, prediction)
    assert over_batches(metric("R2Score"), prediction, target) == pytest.approx(wanted, rel=1e-6)


def test_nothing_is_no_number() -> None:
    for kind in ("Accuracy", "F1Score", "MeanAbsoluteError", "MeanSquaredError", "R2Score"):
        assert math.isnan(metric(kind).compute())


def test_half_an_epoch_can_be_put_away() -> None:
    """The state of a metric, saved between two batches, goes on in another one."""
    prediction, target = scores(4, 2)
    recipes = tuple(Recipe(name=kind, type=kind, inputs=INPUTS) for kind in ("Accuracy", "F1Score"))
    whole, first, second = (Metrics(recipes, ("y",), CPU) for _ in range(3))
    whole.update(prediction, {"label": target})
    first.update(prediction[:50], {"label": target[:50]})
    second.restore(first.state())
    second.update(prediction[50:], {"label": target[50:]})
    assert second.compute() == whole.compute()


def test_torchmetrics_by_name() -> None:
    try:
        import torchmetrics  # noqa: F401
    except ImportError:
        with pytest.raises(RunError, match=r"NS911 the metric torchmetrics\.AUROC needs the package torchmetrics"):
            metric("torchmetrics.AUROC", task="multiclass", num_classes=3)
        return
    prediction, target = scores(3, 0)
    found = metric("torchmetrics.Accuracy", task="multiclass", num_classes=3)
    ours = metric("Accuracy")
    assert over_batches(found, prediction, target) == pytest.approx(over_batches(ours, prediction, target))


@pytest.mark.parametrize("kind", ["Accuracy", "F1Score"])
def test_numbers_are_no_classes(kind: str) -> None:
    """A price is above every threshold: its "accuracy" would be that of the sign."""
    metrics = Metrics((Recipe(name="m", type=kind, inputs=INPUTS),), ("y",), CPU)
    prices = torch.tensor([[0.0], [1.0], [417.5]])
    with pytest.raises(RunError, match=r"NS913 .* holds numbers, such as 417\.5"):
        metrics.update(prices, {"label": prices})
    metrics.update(prices, {"label": (prices > 0).float()})
