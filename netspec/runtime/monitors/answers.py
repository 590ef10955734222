"""What a classifier answered over a split: the confusion matrix, the scores for curves, and some samples to look at."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from netspec.recipe.fit_train import OF_SCORES
from netspec.recipe.train import Loss, TrainRecipe
from netspec.runtime.monitors.pictures import is_image, shown
from netspec.runtime.objective import Batch, Outputs, reader

OF_TWO: Final = ("BCEWithLogitsLoss", "BCELoss")
"""Losses that take one number for two classes."""
KEPT: Final = 4_000_000
"""So many numbers of scores, of images and of features are kept at most."""
LARGEST: Final = 1000
"""So many classes have a matrix."""


@dataclass(slots=True, kw_only=True)
class ClassFigures:
    """One class of a matrix: how many samples are of it, and how well it was found."""

    name: str
    support: int
    precision: float
    recall: float
    f1_score: float


class Answers:
    """Looks at the batches of an evaluation: at what the loss `of` compares.

    Scores, images and features stay on the device until they are asked for. embed: also keep what goes into this
    layer, of so many samples.
    """

    def __init__(
        self,
        of: Loss,
        outputs: tuple[str, ...],
        classes: Sequence[str] | None,
        *,
        image: str | None,
        embed: tuple[nn.Module, int] | None = None,
    ) -> None:
        self.kind = of.type
        self.prediction, self.target = reader(of.inputs[0], outputs), reader(of.inputs[-1], outputs)
        self.classes = classes
        self.image = image
        self.scores: list[Tensor] = []
        self.targets: list[Tensor] = []
        self.images: list[Tensor] = []
        self.features: list[Tensor] = []
        self.count: int | None = None
        self._numbers = self._pixels = self._embedded = 0
        self._matrix: Tensor | None = None
        self._embed: nn.Module | None = embed[0] if embed is not None else None
        self._wanted = embed[1] if embed is not None else 0
        self._handle: Any = None
        self._came: Tensor | None = None

    def __enter__(self) -> Answers:
        if self._embed is not None:
            self._handle = self._embed.register_forward_pre_hook(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self._handle is not None:
            self._handle.remove()

    def _note(self, _: nn.Module, inputs: tuple[Any, ...]) -> None:
        if inputs and isinstance(inputs[0], Tensor):
            self._came = inputs[0].detach()

    def update(self, outputs: Outputs, batch: Batch) -> None:
        """Take a batch; nothing is read from the device."""
        scores, target = self.prediction(outputs, batch), self.target(outputs, batch).detach()
        if not isinstance(scores, Tensor):  # an output of training alone
            return
        scores = scores.detach()
        if self.kind in OF_TWO:
            if scores.numel() != len(scores):
                return  # several answers a sample
            one = scores.reshape(-1).float()
            one = one if self.kind == "BCELoss" else one.sigmoid()
            scores, target = torch.stack([1 - one, one], dim=1), (target.reshape(-1) > 0.5).long()
        elif scores.dim() != 2 or target.dim() != 1 or target.is_floating_point():
            return
        else:
            scores = scores.float().exp() if self.kind == "NLLLoss" else scores.float().softmax(1)
        self.count = scores.shape[1]
        if self.count <= LARGEST:
            valid = (target >= 0) & (target < self.count)
            places = torch.where(valid, target * self.count + scores.argmax(1), self.count**2)
            # Not `bincount`, which waits for a GPU.
            counts = places.new_zeros(self.count**2 + 1).index_add_(0, places, torch.ones_like(places))[:-1]
            self._matrix = counts if self._matrix is None else self._matrix.add_(counts)
        if self._numbers + scores.numel() > KEPT:
            return
        self._numbers += scores.numel()
        self.scores.append(scores)
        self.targets.append(target)
        picture = batch.get(self.image) if self.image is not None else None
        if picture is not None and self._pixels + picture.numel() <= KEPT and len(self.images) == len(self.scores) - 1:
            self._pixels += picture.numel()
            self.images.append(picture)
        came, self._came = self._came, None
        if came is not None and len(came) == len(scores) and self._embedded < self._wanted:
            part = came.flatten(1)[: self._wanted - self._embedded]
            self._embedded += len(part)
            self.features.append(part.clone())

    @property
    def embeds(self) -> bool:
        """Whether it keeps what goes into a layer."""
        return self._embed is not None

    def seen(self) -> dict[str, Any]:
        """What it has seen, for another process."""
        parts = {"scores": self.scores, "targets": self.targets, "images": self.images, "features": self.features}
        return {**parts, "count": self.count, "matrix": self._matrix}

    def take(self, parts: Sequence[Mapping[str, Any]]) -> None:
        """Have what several processes have seen, in place of one's own part. They shared each batch in their order, so
        the samples come out as one process sees them."""
        self.count = next((part["count"] for part in parts if part["count"] is not None), None)
        matrices = [part["matrix"] for part in parts if part["matrix"] is not None]
        self._matrix = torch.stack(matrices).sum(0) if matrices else None
        batches = max(len(part["scores"]) for part in parts)
        for name in ("scores", "targets", "images", "features"):
            found: list[Tensor] = []
            for number in range(batches):
                here = [part for part in parts if number < len(part["scores"])]
                if any(len(part[name]) <= number for part in here):
                    break  # the limit of what is kept, which each reaches at its own time
                rows = [part[name][number] for part in here]
                found += rows
                if name == "features" and sum(map(len, rows)) < sum(len(part["scores"][number]) for part in here):
                    break
            setattr(self, name, found)

    def __bool__(self) -> bool:
        return bool(self.scores)

    @property
    def names(self) -> list[str]:
        """The names of the classes, or their numbers."""
        assert self.count is not None
        known = [str(name) for name in self.classes or ()]
        return known if len(known) == self.count else [str(number) for number in range(self.count)]

    @property
    def matrix(self) -> Tensor | None:
        """Counts [true class, answered class]."""
        return None if self._matrix is None or self.count is None else self._matrix.cpu().view(self.count, self.count)

    def all_scores(self) -> tuple[Tensor, Tensor]:
        """The probabilities [N, classes] and the true classes [N] of what was kept."""
        return torch.cat(self.scores).cpu(), torch.cat(self.targets).cpu()

    def by_class(self) -> list[ClassFigures]:
        matrix = self.matrix
        if matrix is None:
            return []
        right, true, given = matrix.diag().double(), matrix.sum(1).double(), matrix.sum(0).double()
        precision, recall = right / given.clamp(min=1), right / true.clamp(min=1)
        f1 = 2 * right / (true + given).clamp(min=1)
        return [
            ClassFigures(
                name=name,
                support=int(true[i]),
                precision=float(precision[i]),
                recall=float(recall[i]),
                f1_score=float(f1[i]),
            )
            for i, name in enumerate(self.names)
        ]

    def samples(self, count: int) -> list[dict[str, Any]]:
        """Some samples with their images: the surest mistakes first, then others in their order."""
        kept = sum(len(part) for part in self.images)
        if not kept:
            return []
        scores, target = (part[:kept] for part in self.all_scores())
        sure, answer = scores.max(1)
        rank = torch.where(answer != target, 1 + sure, torch.zeros(())).sort(descending=True, stable=True).indices
        mistakes = int((answer != target).sum())
        chosen = [*rank[: min(mistakes, count // 2)].tolist(), *rank[mistakes:].tolist()][:count]
        images = torch.cat([part.detach() for part in self.images])
        return [
            {
                "image": shown(images[index : index + 1])[0],
                "true": self.names[int(target[index])] if 0 <= target[index] < len(self.names) else "?",
                "answer": self.names[int(answer[index])],
                "probability": float(sure[index]),
                "right": bool(answer[index] == target[index]),
            }
            for index in chosen
        ]

    def embedding(self) -> tuple[Tensor, list[str], Tensor | None] | None:
        """Features [N, F], the true class of each, and small images of them where they are images."""
        if not self.features:
            return None
        rows = torch.cat(self.features).float().cpu()
        labels = [self.names[int(index)] for index in torch.cat(self.targets)[: len(rows)].cpu()]
        kept = torch.cat(self.images)[: len(rows)] if self.images else None
        if kept is None or len(kept) < len(rows) or not is_image(kept):
            return rows, labels, None
        # The projector wants one picture of all: 32 by 32 each, in a square of at most 8192.
        return rows, labels, torch.nn.functional.interpolate(shown(kept), size=(32, 32), mode="bilinear")


def of_classes(recipe: TrainRecipe) -> Loss | None:
    """The first loss that compares an output of the model with classes in a field; None where there is none."""
    for loss in recipe.losses:
        kinds = (loss.inputs[0].kind, loss.inputs[-1].kind)
        if kinds == ("output", "field") and loss.type in (*OF_SCORES, *OF_TWO):
            return loss
    return None


def image_field(fields: Mapping[str, Any], inputs: Mapping[str, str]) -> str | None:
    """The field that holds the images that the model takes."""
    for field in inputs.values():
        shape = getattr(fields.get(field), "shape", None)
        if shape is not None and len(shape) == 3 and shape[0] in (1, 3, None):
            return field
    return None


def write_classes(path: Path, answers: Mapping[str, Answers]) -> None:
    """A row for each split and class, as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["split", "class", "samples", "precision", "recall", "f1_score"])
        for split, looked in answers.items():
            for one in looked.by_class():
                writer.writerow([split, one.name, one.support, one.precision, one.recall, one.f1_score])


def markdown(matrix: Tensor, names: Sequence[str]) -> str:
    """The confusion matrix as a table: a row a true class."""
    head = "| true \\ answered | " + " | ".join(names) + " |\n|" + " --- |" * (len(names) + 1)
    rows = [f"| {name} | " + " | ".join(map(str, row)) + " |" for name, row in zip(names, matrix.tolist(), strict=True)]
    return "\n".join([head, *rows])
