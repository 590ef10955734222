"""Figures of an evaluation, computed where the tensors are: sums on the device, one number read at the end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, Final

import torch
from torch import Tensor

from netspec.recipe.train import Metric as Recipe
from netspec.runtime.errors import MissingPackage, RunError
from netspec.runtime.objective import Batch, Outputs, mask_reader, reader
from netspec.runtime.processes import ALONE, Part, Processes


class Metric(ABC):
    """Gathers `update(prediction, target)` over batches; `compute()` is the figure of all of them together.

    `state` holds the sums by name, float64 where the device has it. They are what a checkpoint keeps of a half epoch.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.dtype = torch.float32 if device.type == "mps" else torch.float64
        self.state: dict[str, Tensor] = {}

    @abstractmethod
    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add a batch."""

    @abstractmethod
    def compute(self) -> float:
        """The figure of all batches so far."""

    def reset(self) -> None:
        self.state = {}

    def merged(self, states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The state as it would be had one process seen what several have: the sums of their sums, on the CPU."""
        found: dict[str, Tensor] = {}
        for state in states:
            for name, value in state.items():
                found[name] = found[name] + value if name in found else value
        return found

    def add(self, name: str, value: Tensor | int) -> None:
        """Add to the sum of that name."""
        total = self.state.get(name)
        if total is not None:
            total.add_(value)
        elif isinstance(value, Tensor):
            self.state[name] = value.to(self.dtype)
        else:
            self.state[name] = torch.full((), value, dtype=self.dtype, device=self.device)


class Accuracy(Metric):
    """The share of right answers, 0 to 1.

    Predictions are [N, C, ...] with targets [N, ...], or one number for two classes. top_k: an answer is right where
    the target is among the k highest.
    """

    def __init__(self, device: torch.device, *, threshold: float, top_k: int = 1) -> None:
        super().__init__(device)
        self.threshold = threshold
        self.top_k = top_k

    def update(self, prediction: Tensor, target: Tensor) -> None:
        if self.top_k > 1 and is_multiclass(prediction, target):
            best = prediction.topk(self.top_k, dim=1).indices
            right = (best == target.unsqueeze(1)).any(dim=1)
        else:
            right = classes_of(prediction, target, self.threshold) == target_classes(prediction, target)
        self.add("right", right.sum())
        self.add("all", right.numel())

    def compute(self) -> float:
        return float(self.state["right"] / self.state["all"]) if self.state else float("nan")


class Confusion(Metric):
    """Counts by class of what was right, what was predicted and what was true; a figure of them, averaged over classes.

    average: `macro` is the mean over the classes that occur, `weighted` weighs them with how often they are true,
    `micro` counts all answers alike. For two classes in one number, `macro` is the figure of the second class.
    """

    def __init__(self, device: torch.device, *, threshold: float, average: str = "macro") -> None:
        super().__init__(device)
        self.threshold = threshold
        self.average = average
        self.binary = False

    @abstractmethod
    def figure(self, right: Tensor, predicted: Tensor, true: Tensor) -> Tensor:
        """Each class's figure from its counts: answered rightly, answered, true."""

    def update(self, prediction: Tensor, target: Tensor) -> None:
        answer = classes_of(prediction, target, self.threshold)
        truth = target_classes(prediction, target)
        self.binary = not is_multiclass(prediction, target)
        count = 2 if self.binary else prediction.shape[1]
        answer, truth = answer.flatten().long(), truth.flatten().long()
        self.add("right", torch.bincount(truth[answer == truth], minlength=count))
        self.add("predicted", torch.bincount(answer, minlength=count))
        self.add("true", torch.bincount(truth, minlength=count))

    def compute(self) -> float:
        if not self.state:
            return float("nan")
        right, predicted, true = self.state["right"], self.state["predicted"], self.state["true"]
        if self.binary and self.average == "macro":
            return float(self.figure(right[1], predicted[1], true[1]))
        if self.average == "micro":
            return float(self.figure(right.sum(), predicted.sum(), true.sum()))
        figures = self.figure(right, predicted, true)
        weights = true if self.average == "weighted" else ((predicted + true) > 0).to(self.dtype)
        return float((figures * weights).sum() / weights.sum())


def _share(part: Tensor, whole: Tensor) -> Tensor:
    """part / whole, 0 where there is nothing."""
    return torch.where(whole > 0, part / whole.clamp(min=1), torch.zeros_like(part))


class Precision(Confusion):
    """Of what was predicted as a class, the share that is."""

    def figure(self, right: Tensor, predicted: Tensor, true: Tensor) -> Tensor:
        return _share(right, predicted)


class Recall(Confusion):
    """Of what is a class, the share that was predicted as it."""

    def figure(self, right: Tensor, predicted: Tensor, true: Tensor) -> Tensor:
        return _share(right, true)


class F1Score(Confusion):
    """The harmonic mean of precision and recall."""

    def figure(self, right: Tensor, predicted: Tensor, true: Tensor) -> Tensor:
        return _share(2 * right, predicted + true)


class MeanAbsoluteError(Metric):
    def update(self, prediction: Tensor, target: Tensor) -> None:
        self.add("error", (prediction - target).abs().sum(dtype=self.dtype))
        self.add("all", target.numel())

    def compute(self) -> float:
        return float(self.state["error"] / self.state["all"]) if self.state else float("nan")


class MeanSquaredError(Metric):
    """squared: false gives the root."""

    def __init__(self, device: torch.device, *, squared: bool = True) -> None:
        super().__init__(device)
        self.squared = squared

    def update(self, prediction: Tensor, target: Tensor) -> None:
        self.add("error", (prediction - target).square().sum(dtype=self.dtype))
        self.add("all", target.numel())

    def compute(self) -> float:
        if not self.state:
            return float("nan")
        mean = self.state["error"] / self.state["all"]
        return float(mean if self.squared else mean.sqrt())


class R2Score(Metric):
    """1 minus the squared error over the targets' variance. With several outputs, the mean of theirs.

    The targets' spread is summed around the first batch's mean: large targets of small variance keep their digits.
    """

    def update(self, prediction: Tensor, target: Tensor) -> None:
        rows = target.to(self.dtype).reshape(len(target), -1)
        if "origin" not in self.state:
            self.state["origin"] = rows.mean(dim=0)
        shifted = rows - self.state["origin"]
        self.add("error", (prediction.to(self.dtype).reshape(len(target), -1) - rows).square().sum(dim=0))
        self.add("sum", shifted.sum(dim=0))
        self.add("squares", shifted.square().sum(dim=0))
        self.add("all", len(target))

    def merged(self, states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Each process has an origin of its own: all are brought to the first one's."""
        moved: list[Mapping[str, Tensor]] = []
        for state in (one for one in states if one):
            origin = moved[0]["origin"] if moved else state["origin"]
            by = state["origin"] - origin
            squares = state["squares"] + 2 * by * state["sum"] + state["all"] * by.square()
            total = state["sum"] + state["all"] * by
            moved.append({**state, "origin": origin, "sum": total, "squares": squares})
        found = super().merged([{name: one[name] for name in one if name != "origin"} for one in moved])
        return {"origin": moved[0]["origin"], **found} if moved else {}

    def compute(self) -> float:
        if not self.state:
            return float("nan")
        spread = self.state["squares"] - self.state["sum"].square() / self.state["all"]
        return float((1 - self.state["error"] / spread).mean())


class Foreign(Metric):
    """A metric of torchmetrics, by name. It keeps its own state, which a checkpoint of a half epoch does not hold."""

    def __init__(self, device: torch.device, name: str, arguments: Mapping[str, Any]) -> None:
        super().__init__(device)
        try:
            torchmetrics = import_module("torchmetrics")
        except ImportError as error:
            raise MissingPackage(f"the metric torchmetrics.{name}", "torchmetrics", "detect") from error
        try:
            self.metric = getattr(torchmetrics, name)(**arguments).to(device)
        except (AttributeError, TypeError, ValueError) as error:
            raise RunError("NS908", f"torchmetrics.{name} refuses its settings: {error}") from error

    def update(self, prediction: Tensor, target: Tensor) -> None:
        # Some keep what they get, and a recorded step, or kernels compiled with `reduce-overhead`, write there again.
        self.metric.update(prediction.clone(), target)

    def compute(self) -> float:
        return float(self.metric.compute())

    def reset(self) -> None:
        self.metric.reset()


METRICS: Final[Mapping[str, Callable[..., Metric]]] = {
    "Accuracy": Accuracy,
    "Precision": Precision,
    "Recall": Recall,
    "F1Score": F1Score,
    "MeanAbsoluteError": MeanAbsoluteError,
    "MeanSquaredError": MeanSquaredError,
    "R2Score": R2Score,
}
_OF_CLASSES: Final = ("Accuracy", "Precision", "Recall", "F1Score")


class Metrics:
    """All metrics of a recipe, by column."""

    def __init__(self, recipes: tuple[Recipe, ...], outputs: tuple[str, ...], device: torch.device) -> None:
        self.metrics = {recipe.name: make_metric(recipe, device) for recipe in recipes}
        self.readers = [tuple(reader(reference, outputs) for reference in recipe.inputs) for recipe in recipes]
        self.part: Part | None = None
        """What this process has of the batch at hand, where several train together."""
        self.masks = [mask_reader(recipe.mask, outputs) if recipe.mask is not None else None for recipe in recipes]

    def __bool__(self) -> bool:
        return bool(self.metrics)

    def update(self, outputs: Outputs, batch: Batch) -> None:
        if self.part is not None and not self.part.own:
            return  # a sample that another process counts
        for metric, (prediction, target), mask in zip(self.metrics.values(), self.readers, self.masks, strict=True):
            pair = prediction(outputs, batch).detach(), target(outputs, batch).detach()
            if mask is not None:
                rows = mask(outputs, batch)
                pair = pair[0][rows], pair[1][rows]
            if isinstance(metric, Accuracy | Confusion) and not metric.state:
                check_yes_or_no(type(metric).__name__, *pair)
            metric.update(*pair)

    def compute(self, processes: Processes = ALONE) -> dict[str, float]:
        """The figures of what all processes have seen."""
        if processes.count == 1:
            return {name: metric.compute() for name, metric in self.metrics.items()}
        own, whole = self.state(), self.state(processes)
        self.restore(whole)
        figures = {name: metric.compute() for name, metric in self.metrics.items()}
        self.restore(own)
        return figures

    def reset(self) -> None:
        for metric in self.metrics.values():
            metric.reset()

    def state(self, processes: Processes = ALONE) -> dict[str, dict[str, Tensor]]:
        """The sums by metric, of all processes together."""
        own = {name: metric.state for name, metric in self.metrics.items()}
        if processes.count == 1:
            return own
        found = processes.all(own)
        return {name: metric.merged([one[name] for one in found]) for name, metric in self.metrics.items()}

    def restore(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        for name, metric in self.metrics.items():
            metric.state = {key: value.to(metric.device) for key, value in state.get(name, {}).items()}


def make_metric(recipe: Recipe, device: torch.device) -> Metric:
    """The metric of a recipe. Raises RunError NS908 or NS911 (torchmetrics is missing)."""
    library, _, name = recipe.type.rpartition(".")
    if library == "torchmetrics":
        return Foreign(device, name, recipe.arguments)
    arguments = dict(recipe.arguments)
    if name in _OF_CLASSES:
        arguments["threshold"] = 0.5 if recipe.scores == "probabilities" else 0.0
    return METRICS[name](device, **arguments)


def is_multiclass(prediction: Tensor, target: Tensor) -> bool:
    """Whether the prediction holds one score a class in its second axis, and not one number for two classes."""
    return prediction.dim() > 1 and prediction.shape[1] > 1 and not target.is_floating_point()


def check_yes_or_no(name: str, prediction: Tensor, target: Tensor) -> None:
    """One number is held against yes or no; a price would be "yes" as well. Raises RunError NS913."""
    several = prediction.dim() > 1 and prediction.shape[1] > 1
    if several or not target.is_floating_point() or bool(((target == 0) | (target == 1)).all()):
        return
    other = float(target[(target != 0) & (target != 1)][0])
    raise RunError(
        "NS913",
        f"{name} compares classes, and the target that it gets holds numbers, such as {other:g}",
        help="for numbers to predict take MeanAbsoluteError, MeanSquaredError or R2Score",
    )


def classes_of(prediction: Tensor, target: Tensor, threshold: float) -> Tensor:
    """The predicted class of each sample: the highest score, or whether the single score passes the threshold."""
    if is_multiclass(prediction, target):
        return prediction.argmax(dim=1)
    return (prediction > threshold).reshape(target.shape)


def target_classes(prediction: Tensor, target: Tensor) -> Tensor:
    """The true classes in the form of `classes_of`."""
    return target if is_multiclass(prediction, target) else target > 0.5
