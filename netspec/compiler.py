"""From a file to a `Program`: the passes, in their order."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netspec.batch_order import check_batch_order
from netspec.compose import Composed, compose, compose_mapping
from netspec.diagnostics import Diagnostic, Diagnostics
from netspec.idle import check_params
from netspec.initialization_check import check_rules
from netspec.models import read_spec
from netspec.objective import elaborate_objective
from netspec.plugin.load import enable, enable_installed
from netspec.program import Instance, Program
from netspec.schema import knows, suggest_path, validate
from netspec.schema.recovery import Remaining, remaining
from netspec.several import elaborate_models
from netspec.softmax_axis import check_softmax_axes
from netspec.spec import Spec


@dataclass(slots=True)
class State:
    """What the passes know so far. A pass fills in its part, or leaves it and reports why."""

    composed: Composed
    diagnostics: Diagnostics
    spec: Spec | None = None
    model: Instance | None = None
    recipe: Any = None
    remaining: Remaining | None = None
    """What the schema's mistakes leave to be worked out, where there are some."""
    headers: bool = True
    """Whether the files of data that are there are asked for their columns and arrays."""


def check_schema(state: State) -> None:
    """The document's structure, types and arguments."""
    validate(state.composed.document, state.diagnostics)
    if state.diagnostics.has_errors:
        state.remaining = remaining(state.composed.document, _errors(state))


def read(state: State) -> None:
    """The document as dataclasses, its expressions parsed."""
    state.spec = read_spec(state.composed.document, state.diagnostics)


def shape(state: State) -> None:
    """Every use of every block, with values and shapes."""
    assert state.spec is not None
    broken = state.remaining.broken if state.remaining is not None else ()
    state.model = elaborate_models(state.spec, state.diagnostics, broken)


def check_sequences(state: State) -> None:
    """Sequence layers get the time where they take it, softmaxes the axis that is meant."""
    if state.model is not None and not state.model.failed:
        check_batch_order(state.model, state.diagnostics)
        check_softmax_axes(state.model, state.diagnostics)


def check_initialization(state: State) -> None:
    """Initialisation rules find what they name."""
    if state.model is not None and not state.model.failed:
        check_rules(state.model, state.diagnostics)


def read_training(state: State) -> None:
    """The `data` and `train` sections, held against the model's outputs."""
    from netspec.recipe import read_recipe

    state.recipe = read_recipe(
        state.composed.document,
        state.spec,
        state.model,
        state.diagnostics,
        elaborate_objective,
        headers=state.headers,
    )


def find_idle(state: State) -> None:
    """Parameters that nothing reads; where something is wrong, a misspelt name may be what reads them."""
    if not state.diagnostics.has_errors:
        check_params(state.composed.document, state.diagnostics)


def read_sweep(state: State) -> None:
    """The `sweep` section, and the specs that it makes at its bounds."""
    if "sweep" in state.composed.document.items:
        from netspec.variants import check_sweep

        check_sweep(state)


PASSES: tuple[Callable[[State], None], ...] = (
    check_schema,
    read,
    shape,
    check_sequences,
    check_initialization,
    read_training,
    find_idle,
    read_sweep,
)


def check(
    path: str | Path, overrides: Sequence[str], diagnostics: Diagnostics, *, headers: bool = True
) -> Program | None:
    """Compile a file; every mistake goes to `diagnostics`. None where there was an error, or where no model is
    stated. `headers` as in `compile`.
    """
    enable_installed()
    with _collector_paused():
        composed = compose(str(path), overrides, diagnostics, knows=knows, meant=suggest_path)
        return run_passes(composed, str(path), diagnostics, headers=headers) if composed is not None else None


@contextmanager
def _collector_paused() -> Iterator[None]:
    """A compile allocates much and drops little; where torch is loaded, one full collection in it takes ten times
    as long.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def run_passes(composed: Composed, file: str, diagnostics: Diagnostics, *, headers: bool = True) -> Program | None:
    """The program of a composed document, None where it is wrong or states no model."""
    state = State(composed, diagnostics, headers=headers)
    for step in PASSES:
        if diagnostics.has_errors and not _goes_on(step, state):
            return None
        step(state)
    spec, model = state.spec, state.model
    if spec is None or model is None or diagnostics.has_errors:
        return None
    return Program(
        spec=spec,
        document=composed.document,
        file=file,
        model=model,
        several=bool(spec.models),
        recipe=state.recipe,
        warnings=tuple(d for d in diagnostics if d.severity == "warning"),
    )


def _goes_on(step: Callable[[State], None], state: State) -> bool:
    """Whether a pass still makes sense after mistakes: it does where they leave the document readable around them."""
    if step is check_schema:
        return False
    if step is read:
        return state.remaining is not None
    if step is shape:
        # Behind the schema's own mistakes only expressions have been read.
        return state.remaining is not None or all(d.code.startswith("NS2") for d in _errors(state))
    return state.remaining is None or (step is check_initialization and not state.remaining.broken)


def _errors(state: State) -> list[Diagnostic]:
    return [one for one in state.diagnostics if one.severity == "error"]


def compile(
    spec: str | Path | Mapping[str, Any],
    set: Mapping[str, Any] | None = None,
    *,
    plugins: Sequence[str | Path] = (),
    headers: bool = True,
) -> Program:
    """Compile a spec.

    `spec` is a path, or the document itself as a mapping; `set` overrides values by their dotted paths, as `--set` does
    (`{"params.num_classes": 10}`). `plugins` are files that are enabled for the rest of the process, as `--plugin`
    does; installed ones are enabled without being named. With `headers`, files of tables and arrays that are there are
    asked for their columns and shapes, which the spec is held against; no data is read. Raises SpecError with every
    mistake in `.diagnostics`, and `netspec.plugin.PluginError` where a plugin cannot be enabled; warnings stand on the
    program.
    """
    enable(plugins)
    enable_installed()
    diagnostics = Diagnostics()
    overrides = override_texts(set)
    if isinstance(spec, Mapping):
        with _collector_paused():
            composed = compose_mapping(spec, overrides, diagnostics, knows=knows, meant=suggest_path)
            program = run_passes(composed, "<mapping>", diagnostics, headers=headers) if composed is not None else None
    else:
        program = check(spec, overrides, diagnostics, headers=headers)
    diagnostics.raise_if_errors()
    if program is None:
        diagnostics.error(
            "NS323", "the document states no `model`", None, help="only a spec with a model can be compiled"
        )
        diagnostics.raise_if_errors()
    assert program is not None
    return program


def override_texts(values: Mapping[str, Any] | None) -> list[str]:
    """Overrides as `--set` takes them."""
    import json

    return [f"{path}={json.dumps(value)}" for path, value in (values or {}).items()]
