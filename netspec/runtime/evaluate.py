"""`netspec eval`: the figures of a run's weights on a split, from the run's directory alone."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from netspec.program import Program
from netspec.recipe.train import TrainRecipe
from netspec.runtime import checkpoint, directory
from netspec.runtime.compiling import compiled
from netspec.runtime.data.elsewhere import elsewhere
from netspec.runtime.device import autocast, choose_device, set_precision, set_threads
from netspec.runtime.epoch import evaluate as evaluate_stream
from netspec.runtime.errors import RunError
from netspec.runtime.layout import ChannelsLast, to_channels_last, wants_channels_last
from netspec.runtime.library import without_weights
from netspec.runtime.load import check_source, import_source, model_class
from netspec.runtime.metrics import Metrics
from netspec.runtime.monitors.answers import Answers, of_classes
from netspec.runtime.notes import noted
from netspec.runtime.objective import make_objective, with_class_weights
from netspec.runtime.prepare import check_fields, used_fields
from netspec.runtime.resolved import load_program
from netspec.runtime.run import train_recipe
from netspec.runtime.run_folder import spec_name
from netspec.runtime.signals import Stop


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedModel:
    """A run's model with the weights of a checkpoint, in evaluation mode on its device."""

    directory: Path
    program: Program
    recipe: TrainRecipe
    model: nn.Module
    device: torch.device
    checkpoint: Path
    data_state: dict[str, Any]
    """What was learnt from the training data: `Data.state()`."""
    threads: int


def load_run(
    run_dir: str | Path,
    *,
    checkpoint_name: str | None = None,
    device: str | None = None,
    trust: bool = False,
    program: Program | None = None,
) -> TrainedModel:
    """Load a run.

    `checkpoint_name` is `best`, `last` or `step-N`; by default the best where the spec monitors a figure, else the
    last. `device` is by default the spec's. The run's `model.py` is code: it is run only where it is what the
    spec says, or where the person says to trust it. `program` is the run's spec, where it has been compiled already.

    Raises RunError: NS901 no run, NS903 no whole checkpoint, NS904 a source that is not the spec's, NS905 weights that
    are not the model's, NS906 no such device.
    """
    folder = directory.open_directory(run_dir)
    found = program or load_program(folder)
    recipe = train_recipe(found)
    source = folder / directory.MODEL
    check_source(source, found.source(spec_name(folder)), trust=trust)
    where = choose_device(device or recipe.device)
    set_precision(recipe.precision, where)
    loaded = checkpoint.load(_path(folder / directory.CHECKPOINTS, checkpoint_name, recipe))
    with without_weights(found):
        model = model_class(import_source(source))().to(where)
    try:
        model.load_state_dict(loaded.model)
    except RuntimeError as error:
        raise RunError("NS905", f"{loaded.stored.path.name} holds other weights than the model has: {error}") from error
    return TrainedModel(
        directory=folder,
        program=found,
        recipe=recipe,
        model=model.eval(),
        device=where,
        checkpoint=loaded.stored.path,
        data_state=loaded.state["data"],
        threads=set_threads(recipe.threads or loaded.state["threads"], where, lambda: 0.0),
    )


def evaluate(
    run_dir: str | Path,
    split: str = "test",
    *,
    checkpoint_name: str | None = None,
    device: str | None = None,
    trust: bool = False,
    program: Program | None = None,
    data: Any = None,
    other: str | Path | None = None,
) -> dict[str, float]:
    """The loss and the metrics of a run on `train`, `val` or `test`, by name; those that training itself reported.

    The arguments, and what is raised, are those of `measure`.
    """
    return measure(
        run_dir,
        split,
        checkpoint_name=checkpoint_name,
        device=device,
        trust=trust,
        program=program,
        data=data,
        other=other,
    )[0]


def measure(
    run_dir: str | Path,
    split: str = "test",
    *,
    checkpoint_name: str | None = None,
    device: str | None = None,
    trust: bool = False,
    program: Program | None = None,
    data: Any = None,
    other: str | Path | None = None,
) -> tuple[dict[str, float], Answers | None]:
    """The figures of a run on a split, and what it answered, for a classifier: its classes one by one, the confusion.

    The other arguments are those of `load_run`; `data` is opened data to use in place of the spec's, `other` a file or
    a folder: all of what lies there, read as the run's own data, is then the split `test`.
    Raises RunError NS909 where the data have no such split, NS92x where they are not as they should be, and what
    `load_run` raises.
    """
    run = load_run(run_dir, checkpoint_name=checkpoint_name, device=device, trust=trust, program=program)
    recipe = run.program.recipe.data if other is None else elsewhere(run.program.recipe.data, Path(other))
    known = data.splits if data is not None else recipe.splits
    if split not in known:
        raise RunError("NS909", f"the data of this run have no split `{split}`", help=f"there are {', '.join(known)}")
    with noted(run.program, run.model, run.directory):
        opened = data if data is not None else _open(run, split, recipe)
        try:
            figures, answers = _figures(run, opened.splits[split])
        finally:
            if data is None:
                opened.close()
    assert figures is not None
    return figures, answers


def _figures(run: TrainedModel, stream: Any) -> tuple[dict[str, float] | None, Answers | None]:
    check_fields(run.recipe, stream)
    outputs = tuple(run.program.outputs)
    loss = of_classes(run.recipe)
    answers = None
    if loss is not None:
        kept = run.data_state.get("fields", {}).get(loss.inputs[-1].name, {})
        answers = Answers(loss, outputs, kept.get("classes"), image=None)
    recipe = with_class_weights(run.recipe, lambda field: run.data_state["class_weights"][field])
    objective = make_objective(run.model, recipe, outputs, run.device)
    if wants_channels_last(run.recipe.channels_last, run.model, run.device):
        to_channels_last(run.model)
        objective = ChannelsLast(objective)
    figures = evaluate_stream(
        compiled(objective, run.recipe.compile, [stream], run.device, _to_stderr),
        stream,
        Metrics(run.recipe.metrics, outputs, run.device),
        autocast(run.recipe.precision, run.device),
        Stop(),
        answers,
    )
    return figures, answers if answers else None


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr)


def _open(run: TrainedModel, split: str, recipe: Any) -> Any:
    from netspec.runtime.data import open_data

    return open_data(
        recipe,
        seed=run.recipe.seed,
        device=run.device,
        fields=used_fields(run.recipe),
        splits=[split],
        state=run.data_state,
    )


def _path(folder: Path, name: str | None, recipe: TrainRecipe) -> Path:
    """The folder of the checkpoint of that name."""
    rule = recipe.checkpoint
    if name is None:
        return checkpoint.choose(folder, rule.mode if rule.monitor is not None else None).path
    if name in ("best", "last"):
        return checkpoint.choose(folder, rule.mode if name == "best" else None).path
    names = [one.path.name for one in checkpoint.stored(folder)]
    if name not in names:
        raise RunError(
            "NS903", f"this run has no checkpoint `{name}`", help=f"there are {', '.join(['best', 'last', *names])}"
        )
    return folder / name
