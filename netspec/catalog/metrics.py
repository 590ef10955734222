"""The figures of an evaluation that netspec computes itself; others come from torchmetrics as `torchmetrics.<Name>`."""

from __future__ import annotations

from typing import Final

from netspec.catalog.entry import Argument, Entry, Port

PAIR: Final = (Port(name="prediction"), Port(name="target"))
_AVERAGE: Final = Argument(
    name="average",
    kind="choice",
    default="macro",
    choices=("macro", "micro", "weighted"),
    doc="The mean over the classes, all answers alike, or classes weighed by how often they occur.",
)


def _metric(name: str, doc: str, *arguments: Argument) -> Entry:
    return Entry(
        name=name,
        category="metric",
        target=f"netspec.runtime.metrics.{name}",
        arguments=arguments,
        inputs=PAIR,
        doc=doc,
    )


ENTRIES: Final = (
    _metric(
        "Accuracy",
        "The share of right answers.",
        Argument(
            name="top_k",
            kind="int",
            default=1,
            minimum=1,
            doc="Right is what has its class among the k highest scores.",
        ),
    ),
    _metric("Precision", "Of what is predicted as a class, the share that is.", _AVERAGE),
    _metric("Recall", "Of what is a class, the share that is predicted as it.", _AVERAGE),
    _metric("F1Score", "The harmonic mean of precision and recall.", _AVERAGE),
    _metric("MeanAbsoluteError", "The mean distance between prediction and target."),
    _metric(
        "MeanSquaredError",
        "The mean squared distance between prediction and target.",
        Argument(name="squared", kind="bool", default=True, doc="false gives its root."),
    ),
    _metric("R2Score", "The share of the targets' variance that the predictions explain."),
)
OF_CLASSES: Final = frozenset({"Accuracy", "Precision", "Recall", "F1Score"})
"""Those that compare classes; the others compare numbers."""
