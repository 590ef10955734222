"""The trials of a sweep as Optuna keeps them: what was drawn, how far each came, and what is drawn next.

The study lies in the sweep's folder as Optuna's own journal, so that its tools can read it. Every trial has a sampler
of its own, seeded by the sweep's seed and the trial's number: a study that goes on after a kill draws what it would
have drawn.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from netspec.recipe.sweep import Choices, Named, Parameter, SweepRecipe
from netspec.runtime.errors import MissingPackage, RunError

if TYPE_CHECKING:
    import optuna

JOURNAL: Final = "study.journal"

State = Literal["running", "complete", "pruned", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What is known of a trial. `value` is the figure that it is judged by; of a pruned one the last it had."""

    number: int
    state: State
    value: float | None
    parameters: Mapping[str, Any]
    curve: Mapping[int, float]
    """The figure after each epoch."""
    seconds: float | None = None
    message: str = ""
    """Why it failed."""

    @property
    def epochs(self) -> int:
        return max(self.curve, default=0)


class Study:
    """folder: the sweep's. Raises RunError NS911 where Optuna is not installed, NS970 where its journal can't be."""

    def __init__(self, folder: Path, recipe: SweepRecipe, name: str) -> None:
        self.recipe = recipe
        self.paths = [parameter.path for parameter in recipe.parameters]
        self.optuna = _optuna()
        path = folder / JOURNAL
        mend_journal(path)
        try:
            with _quiet():
                backend = self.optuna.storages.journal.JournalFileBackend(str(path))
                self.study = self.optuna.create_study(
                    storage=self.optuna.storages.JournalStorage(backend),
                    study_name=name,
                    direction=recipe.direction,
                    pruner=self._pruner(recipe.pruner),
                    load_if_exists=True,
                )
        except (ValueError, KeyError, AssertionError) as error:
            raise RunError(
                "NS970",
                f"{path} can't be read: {error}",
                help="the trials are whole runs of their own: `netspec runs` lists them; begin a new sweep",
            ) from error
        stated = {parameter.path: repr(parameter) for parameter in recipe.parameters}
        before = self.study.user_attrs.get("parameters", stated)
        for place in dict.fromkeys([*stated, *before]):
            if stated.get(place) != before.get(place):
                raise RunError(
                    "NS970",
                    f"`{place}` is not what its study began with, {before.get(place, 'without it')}",
                    help="other parameters make a new sweep: leave out --resume",
                )
        self.study.set_user_attr("parameters", stated)

    @property
    def begun(self) -> int:
        """How many trials there are, in whatever state."""
        return len(self.study.get_trials(deepcopy=False))

    def half_done(self) -> list[int]:
        """The numbers of those that have begun and not ended."""
        return [row.number for row in self.rows() if row.state == "running"]

    def begin(self, number: int) -> optuna.Trial:
        """A new trial, or the one of this number once more, with its values drawn. Its values are stored at once."""
        with _quiet():
            self.study.sampler = self._sampler(number)
            known = {trial.number: trial._trial_id for trial in self.study.get_trials(deepcopy=False)}
            again = number in known
            trial: optuna.Trial = self.optuna.Trial(self.study, known[number]) if again else self.study.ask()
            for parameter in self.recipe.parameters:
                draw(trial, parameter)
            return trial

    def values(self, trial: optuna.Trial) -> dict[str, Any]:
        """What a trial sets, by path."""
        found = {}
        for parameter in self.recipe.parameters:
            value = trial.params[parameter.path]
            if isinstance(parameter, Choices):
                value = parameter.choices[parameter.labels().index(value)]
            found[parameter.path] = value
        return found

    def reached(self, trial: optuna.Trial, epoch: int, figure: float) -> bool:
        """Note the figure after an epoch. Whether the trial is to end here."""
        known = self.study.get_trials(deepcopy=False)[trial.number].intermediate_values
        if epoch not in known:
            trial.report(figure, epoch)
        elif epoch < max(known):  # it went on from here before it was killed
            return False
        with _quiet():
            return bool(trial.should_prune())

    def end(self, trial: optuna.Trial, state: State, value: float | None, *, seconds: float, message: str = "") -> None:
        """Close a trial. A value that is no number makes it a failed one."""
        states = self.optuna.trial.TrialState
        if state == "complete" and (value is None or math.isnan(value)):
            state, message = "failed", f"{self.recipe.metric} is not a number"
        if message:
            trial.set_user_attr("message", message)
        trial.set_user_attr("seconds", round(seconds, 3))
        kinds = {"complete": states.COMPLETE, "pruned": states.PRUNED, "failed": states.FAIL}
        with _quiet():
            self.study.tell(trial, value if state == "complete" else None, state=kinds[state])

    def rows(self) -> list[Row]:
        states = self.optuna.trial.TrialState
        names: dict[Any, State] = {states.COMPLETE: "complete", states.PRUNED: "pruned", states.FAIL: "failed"}
        return [
            Row(
                number=trial.number,
                state=names.get(trial.state, "running"),
                value=trial.value if trial.state != states.FAIL else None,
                parameters={path: trial.params.get(path) for path in self.paths},
                curve=dict(trial.intermediate_values),
                seconds=trial.user_attrs.get("seconds"),
                message=trial.user_attrs.get("message", ""),
            )
            for trial in self.study.get_trials(deepcopy=False)
        ]

    def best(self) -> Row | None:
        """The complete trial with the best value; of equals the first."""
        return best_of(self.rows(), self.recipe)

    def importances(self) -> dict[str, float]:
        """How much of the differences each parameter makes, as Optuna has it; empty where that can't be told."""
        done = {row.value for row in self.rows() if row.state == "complete"}
        if len(done) < 2 or len(self.paths) < 2:
            return {}
        try:
            with _quiet():
                return dict(self.optuna.importance.get_param_importances(self.study))
        except (ImportError, RuntimeError, ValueError):
            return {}

    def _sampler(self, number: int) -> Any:
        """The sampler of a trial. A grid or a sequence is the same for all, which take the next place in it."""
        named, seed = self.recipe.sampler, self.recipe.seed
        if named.type == "GridSampler":
            return _grid(self.optuna)(
                {p.path: p.labels() if isinstance(p, Choices) else p.values() for p in self.recipe.parameters}, seed
            )
        if named.type != "QMCSampler":
            seed = (seed * 1_000_003 + number) % 2**32
        made: Any = getattr(self.optuna.samplers, named.type)
        return made(seed=seed, **named.arguments)

    def _pruner(self, named: Named | None) -> Any:
        if named is None:
            return self.optuna.pruners.NopPruner()
        arguments = dict(named.arguments)
        if named.type == "PatientPruner":
            arguments["wrapped_pruner"] = None
        return getattr(self.optuna.pruners, named.type)(**arguments)


def draw(trial: optuna.Trial, parameter: Parameter) -> None:
    """Give a trial its value of a parameter, which it may have already."""
    if isinstance(parameter, Choices):
        trial.suggest_categorical(parameter.path, parameter.labels())
    elif parameter.type == "int":
        low, high, step = int(parameter.low), int(parameter.high), int(parameter.step or 1)
        trial.suggest_int(parameter.path, low, high, log=parameter.log, step=step)
    else:
        trial.suggest_float(parameter.path, parameter.low, parameter.high, log=parameter.log, step=parameter.step)


def best_of(rows: Sequence[Row], recipe: SweepRecipe) -> Row | None:
    done = [row for row in rows if row.state == "complete" and row.value is not None]
    sign = 1 if recipe.direction == "minimize" else -1
    return min(done, key=lambda row: (sign * (row.value or 0.0), row.number), default=None)


def short_names(paths: Sequence[str]) -> list[str]:
    """The paths without what they need not have to be told apart: `lr` for `train.optimizer.lr`."""
    names = []
    for path in paths:
        parts = path.split(".")
        ends = (".".join(parts[-count:]) for count in range(1, len(parts) + 1))
        others = [f".{other}" for other in paths if other != path]
        names.append(next((end for end in ends if not any(other.endswith(f".{end}") for other in others)), path))
    return names


def mend_journal(path: Path) -> None:
    """Take away what a process that was killed left half written: the lock of the journal, and its last line.

    The caller holds the sweep's own lock, so no other process is at it.
    """
    lock = path.with_name(f"{path.name}.lock")
    if lock.is_symlink() or lock.exists():
        lock.unlink()
    if not path.is_file():
        return
    with path.open("rb+") as file:
        text = file.read()
        whole = text.rfind(b"\n") + 1
        if whole < len(text):
            file.truncate(whole)


def _grid(optuna: Any) -> Any:
    class Grid(optuna.samplers.GridSampler):  # type: ignore[misc]
        """As Optuna's; its end is known here, and `Study.stop` is for those who let Optuna call them."""

        def after_trial(self, *_: Any) -> None:
            return None

    return Grid


def _optuna() -> Any:
    try:
        found = import_module("optuna")
    except ImportError as error:
        raise MissingPackage("a sweep", "optuna", "sweep") from error
    found.logging.set_verbosity(logging.ERROR)
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Optuna's warnings that a thing is experimental; what it refuses is an error all the same."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
