"""`netspec predict`: what a run's model says of files that a person has, read and transformed as its data were."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from netspec.program import Program
from netspec.recipe.train import Loss, Metric, Reference
from netspec.runtime.device import autocast
from netspec.runtime.errors import RunError
from netspec.runtime.evaluate import TrainedModel, load_run
from netspec.runtime.notes import noted


def predict(
    run_dir: str | Path,
    inputs: Sequence[str | Path],
    *,
    checkpoint_name: str | None = None,
    device: str | None = None,
    trust: bool = False,
    program: Program | None = None,
    batch_size: int = 64,
    unreadable: list[RunError] | None = None,
) -> Iterator[dict[str, Any]]:
    """A prediction for each image in the files and folders, row of the CSV files, entry of NumPy's, in their order.

    Yields `{"input": name, "prediction": …}`. A classifier adds `class` and, by class name, `probabilities`, and its
    prediction is the class; a regression's is a number, or a list of them. That is the output of the first loss; where
    the model has others, `outputs` holds the same of each by name. unreadable: takes what is wrong with files that
    can't be read; where it is None, the first of them is raised. The other arguments are those of `load_run`.
    """
    run = load_run(run_dir, checkpoint_name=checkpoint_name, device=device, trust=trust, program=program)
    from netspec.runtime.data import preprocess_files

    samples = preprocess_files(
        run.program.recipe.data, [Path(path) for path in inputs], state=run.data_state, unreadable=unreadable
    )
    yield from predictions(run, samples, batch_size)


def predictions(
    run: TrainedModel, samples: Iterable[tuple[str, Mapping[str, Tensor]]], batch_size: int = 64
) -> Iterator[dict[str, Any]]:
    """The same for samples that are tensors already: pairs of a name and its fields, without a batch dimension."""
    fields = list(run.recipe.inputs.values())
    context = autocast(run.recipe.precision, run.device)
    pending = iter(samples)
    while chunk := list(islice(pending, batch_size)):
        missing = [field for field in fields if field not in chunk[0][1]]
        if missing:
            raise RunError("NS913", f"the model takes `{missing[0]}`, which {chunk[0][0]} does not give")
        for group in _alike(chunk, fields):
            batch = [torch.stack([sample[field] for _, sample in group]).to(run.device) for field in fields]
            with noted(run.program, run.model, run.directory), torch.no_grad(), context():
                output = run.model(*batch)
            rows = {name: value.float().cpu() for name, value in _by_name(output, run, len(group)).items()}
            main = first_loss(run).inputs[0].name
            for index, (name, _) in enumerate(group):
                told = {output: described(value[index], run, output) for output, value in rows.items()}
                found = {"input": name, **told.pop(main, {})}
                yield found | ({"outputs": told} if told else {})


def _by_name(output: Any, run: TrainedModel, count: int) -> dict[str, Tensor]:
    """The outputs that have a row for each sample."""
    names = list(run.program.outputs)
    values = [output] if isinstance(output, Tensor) else [getattr(output, name) for name in names]
    return {
        name: value
        for name, value in zip(names, values, strict=True)
        if isinstance(value, Tensor) and value.dim() and len(value) == count
    }


def first_loss(run: TrainedModel) -> Loss:
    """The first loss of an output; where an objective has none, the first output as it is."""
    output = Reference(kind="output", name=next(iter(run.program.outputs)))
    stated = (loss for loss in run.recipe.losses if loss.inputs[0].kind == "output")
    return next(stated, Loss(name="", type="", target="", inputs=(output,)))


def _alike(chunk: list[tuple[str, Mapping[str, Tensor]]], fields: list[str]) -> Iterator[list[tuple[str, Any]]]:
    """Neighbours whose fields have equal shapes, which fit one batch."""
    group: list[tuple[str, Any]] = []
    for pair in chunk:
        if group and any(pair[1][field].shape != group[0][1][field].shape for field in fields):
            yield group
            group = []
        group.append(pair)
    if group:
        yield group


def described(output: Tensor, run: TrainedModel, name: str | None = None) -> dict[str, Any]:
    """One sample's output in words: a class with its probabilities where its loss is one of classes, or numbers.

    name: which output it is, by default that of the first loss.
    """
    name = name or first_loss(run).inputs[0].name
    loss = _loss_of(run, name)
    kind = loss.type if loss is not None else ""
    metric = next((m for m in run.recipe.metrics if m.inputs[0].name == name), None)
    classes = class_names(run, loss)
    if kind in ("CrossEntropyLoss", "NLLLoss", "MultiMarginLoss") and output.dim() == 1:
        probabilities = output.exp() if kind == "NLLLoss" else output.softmax(0)
        return _chosen(probabilities.tolist(), classes)
    if kind in ("BCEWithLogitsLoss", "BCELoss", "SoftMarginLoss") and output.numel() == 1:
        value = float(output.reshape(()) if _is_probability(kind, metric) else output.reshape(()).sigmoid())
        return _chosen([1 - value, value], classes)
    return {"prediction": output.item() if output.numel() == 1 else output.tolist()}


def _loss_of(run: TrainedModel, output: str) -> Loss | None:
    """The first loss of an output."""
    return next(
        (one for one in run.recipe.losses if one.inputs[0].kind == "output" and one.inputs[0].name == output), None
    )


def class_names(run: TrainedModel, loss: Loss | None = None) -> Sequence[str] | None:
    """The class names of the field that a loss, by default the first, compares with."""
    targets = [ref.name for ref in (loss or first_loss(run)).inputs if ref.kind == "field"]
    found = run.data_state.get("fields", {}).get(targets[0], {}).get("classes") if targets else None
    return tuple(found) if found else None


def _is_probability(kind: str, metric: Metric | None) -> bool:
    return kind == "BCELoss" or (metric is not None and metric.scores == "probabilities")


def _chosen(probabilities: list[float], classes: Sequence[str] | None) -> dict[str, Any]:
    best = max(range(len(probabilities)), key=probabilities.__getitem__)
    names = [str(name) for name in classes] if classes and len(classes) == len(probabilities) else None
    labels = names or [str(index) for index in range(len(probabilities))]
    return {
        "prediction": best,
        "class": labels[best],
        "probabilities": dict(zip(labels, probabilities, strict=True)),
    }
