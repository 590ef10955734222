"""`netspec export`: a run's model as a file for others, compared with the module before it bears its name."""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from netspec.program import Program
from netspec.runtime.card import KEY, card
from netspec.runtime.errors import MissingPackage, RunError
from netspec.runtime.evaluate import TrainedModel, load_run
from netspec.runtime.export_inputs import (
    apart,
    batch_symbol,
    examples,
    open_sizes,
    other_sizes,
    shape_of,
    usual_sizes,
)
from netspec.shapes import Dim

BATCHES: Final = (1, 3)
"""The batch sizes at which an exported model is compared with the module; it is traced with another one."""
TRACED: Final = 2
TOLERANCE: Final[Mapping[str, float]] = {".onnx": 1e-4, ".pt2": 1e-5, ".safetensors": 0.0, ".pt": 0.0, ".pth": 0.0}
"""By format the largest difference that passes, as a share of the largest output (1 where that is smaller)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A file that has been compared with the module."""

    path: Path
    beside: Path | None
    """The JSON with the card, for a format that has no place for it."""
    difference: float
    """The largest that was found, as a share of the largest output (1 where that is smaller)."""
    tolerance: float
    batches: Sequence[int]
    """The batch sizes that were compared; none for files that hold weights alone, which are compared bit for bit."""
    fixed: Sequence[str]
    """Sizes that the spec leaves open and the file does not."""


def export(
    run_dir: str | Path,
    path: str | Path,
    *,
    checkpoint_name: str | None = None,
    trust: bool = False,
    program: Program | None = None,
    tolerance: float | None = None,
) -> Exported:
    """Write a run's model to a file whose ending says as what.

    `.onnx` is ONNX by torch's exporter, compared by onnxruntime; `.pt2` a `torch.export` program; `.safetensors`, `.pt`
    and `.pth` the weights by name. In the first two the first size of the inputs stays open, and so do others where
    torch can. The file holds its card (`netspec.runtime.card`) in its metadata; for `.pt` it stands beside, as JSON.
    tolerance: the largest difference that passes in place of the format's own.

    Raises RunError: NS941 where torch can't export the model, or another error of the export; NS942 where the
    file gives something else than the module, NS911 where a package is missing, and what `load_run` raises.
    Then no file is left.
    """
    target = Path(path)
    if target.suffix not in TOLERANCE:
        raise RunError(
            "NS941", f"{target.name} names no format that can be written", help=f"it ends in {', '.join(TOLERANCE)}"
        )
    run = load_run(run_dir, checkpoint_name=checkpoint_name, device="cpu", trust=trust, program=program)
    limit = TOLERANCE[target.suffix] if tolerance is None else tolerance
    target.parent.mkdir(parents=True, exist_ok=True)
    # Beside its place under another name: what bears the name has been compared.
    temporary = target.with_name(f".{target.stem}.tmp{target.suffix}")
    try:
        write: Callable[[TrainedModel, Path], tuple[Runner | None, Sequence[str]]] = {
            ".onnx": _onnx,
            ".pt2": _pt2,
        }.get(target.suffix, _weights)
        with _quietly():
            runner, fixed = write(run, temporary)
        difference = _compare(run, runner, fixed) if runner is not None else 0.0
        if not difference <= limit:
            raise RunError(
                "NS942",
                f"{target.name} gives other numbers than the module: they differ by {difference:.2g} of the largest "
                f"output, and {limit:g} passes",
                help="a larger --tolerance, if you can accept that",
            )
        os.replace(temporary, target)
    except OSError as error:
        raise RunError("NS941", f"{target} cannot be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    beside = None
    if target.suffix in (".pt", ".pth"):
        beside = target.with_suffix(".json")
        beside.write_text(json.dumps(card(run), indent=2) + "\n", encoding="utf-8")
    return Exported(
        path=target,
        beside=beside,
        difference=difference,
        tolerance=limit,
        batches=BATCHES if runner is not None else (),
        fixed=fixed,
    )


Runner = Callable[[Sequence[Tensor]], Sequence[Tensor]]
"""What an exported model gives for the inputs of a batch."""


def _weights(run: TrainedModel, path: Path) -> tuple[None, Sequence[str]]:
    """The weights alone, read again and compared bit for bit."""
    state = {name: value.contiguous() for name, value in run.model.state_dict().items()}
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file, save_file

        # Weights that are one would be written once only: each name gets its own copy.
        save_file({name: value.clone() for name, value in state.items()}, path, metadata={KEY: _json(run)})
        again: Mapping[str, Tensor] = load_file(path)
    else:
        torch.save(state, path)
        again = torch.load(path, weights_only=True)
    if list(sorted(again)) != sorted(state) or any(not _alike(again[name], state[name]) for name in state):
        raise RunError("NS942", f"{path.name} does not hold the weights that were written")
    return None, ()


def _alike(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and torch.equal(a.nan_to_num(), b.nan_to_num())


def _onnx(run: TrainedModel, path: Path) -> tuple[Runner, Sequence[str]]:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        try:
            __import__(package)
        except ImportError as error:
            raise MissingPackage("the export to ONNX", package, "export") from error
    names, outputs = list(run.program.inputs), list(run.program.outputs)

    def made(shapes: Any, inputs: tuple[Tensor, ...]) -> Any:
        return torch.onnx.export(
            run.model,
            inputs,
            dynamo=True,
            dynamic_shapes=shapes,
            input_names=names,
            output_names=outputs,
            verbose=False,
        )

    failure: RunError | None = None
    try:
        program, fixed = _traced(run, made)
        program.model.metadata_props[KEY] = _json(run)
        program.model.producer_name = "netspec"
        program.save(path)
    except RunError as error:
        failure, fixed = error, open_sizes(run.program)
    if failure is not None or fixed:
        # It writes out the steps of a recurrent layer one by one, for which their number has to be known. The exporter
        # before it keeps the layer whole; it sees less of a model, but what it gives is compared at several sizes.
        try:
            return _by_tracing(run, path.with_name(f"{path.stem}.older{path.suffix}"), path), ()
        except Exception:
            if failure is not None:
                raise failure from None
    return _session(run, path), fixed


def _by_tracing(run: TrainedModel, older: Path, path: Path) -> Runner:
    """The same by torch's former exporter, with every size open. Raises any error where it can't, or is not right."""
    import onnx

    names = list(run.program.inputs)
    axes = {
        name: {i: str(size) for i, size in enumerate(shape_of(type_)) if isinstance(size, Dim)}
        for name, type_ in run.program.inputs.items()
    }
    for name, type_ in run.program.outputs.items():
        axes[name] = {i: str(size) for i, size in enumerate(shape_of(type_)) if isinstance(size, Dim)}
    try:
        torch.onnx.export(
            run.model if len(run.program.outputs) == 1 else _Plain(run.model),
            examples(run.program, TRACED, usual_sizes(run)),
            older,
            dynamo=False,
            dynamic_axes=axes,
            input_names=names,
            output_names=list(run.program.outputs),
        )
        runner = _session(run, older)
        if not _compare(run, runner, ()) <= TOLERANCE[".onnx"]:
            raise ValueError("it gives other numbers")
        written = onnx.load(older)
        written.producer_name = "netspec"
        onnx.helper.set_model_props(written, {KEY: _json(run)})
        onnx.save(written, path)
    finally:
        older.unlink(missing_ok=True)
    return _session(run, path)


def _session(run: TrainedModel, path: Path) -> Runner:
    """What an ONNX file gives, by onnxruntime on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = run.threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    taken, names = [one.name for one in session.get_inputs()], list(run.program.inputs)

    def runner(inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        given = {name: value.numpy() for name, value in zip(names, inputs, strict=True) if name in taken}
        return [torch.from_numpy(array) for array in session.run(None, given)]

    return runner


class _Plain(nn.Module):
    """A model of several outputs that gives a plain tuple of them."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(flat(self.model(*inputs)))


def _pt2(run: TrainedModel, path: Path) -> tuple[Runner, Sequence[str]]:
    def made(shapes: Any, inputs: tuple[Tensor, ...]) -> Any:
        model = run.model if single else _Plain(run.model)
        return torch.export.export(model, inputs, dynamic_shapes=shapes if single else (shapes,))

    # A named tuple's class would have to be known where the file is loaded.
    single = len(run.program.outputs) == 1
    program, fixed = _traced(run, made)
    torch.export.save(program, path, extra_files={f"{KEY}.json": _json(run)})
    module = torch.export.load(path).module()
    return lambda inputs: flat(module(*inputs)), fixed


def _traced(run: TrainedModel, made: Callable[[Any, tuple[Tensor, ...]], Any]) -> tuple[Any, Sequence[str]]:
    """What `made` gives with as many open sizes as torch can keep open, and the names of the others, which are those of
    the run's data."""
    program, usual = run.program, usual_sizes(run)
    types, every, batch = list(program.inputs.values()), open_sizes(program), batch_symbol(program)
    first = [batch] if batch is not None else []
    # A size with a name has to be right from 0 on; without one torch finds from where: a kernel's width, say.
    attempts = [
        (every, apart(usual), True),
        (every, apart(usual), False),
        (every, usual, True),
        (first, usual, True),
        ([], usual, True),
    ]
    failure: Exception | None = None
    for kept, sizes, named in [a for i, a in enumerate(attempts) if a not in attempts[:i]]:
        if not kept and batch is not None:
            break
        inputs = examples(program, TRACED, sizes)
        try:
            shapes = tuple(_dynamic(type_, kept, named) for type_ in types)
            return made(shapes, inputs), [s for s in every if s not in kept]
        except Exception as error:  # torch's exporters raise what they like, each of their passes its own
            failure = error
    while failure is not None and failure.__cause__ is not None:  # the exporter to ONNX wraps what torch.export says
        failure = failure.__cause__  # type: ignore[assignment]
    line = str(failure).strip().splitlines()[0] if str(failure).strip() else type(failure).__name__
    raise RunError(
        "NS941",
        f"torch can't export {program.name}: {line}",
        help="`.safetensors` holds the weights of any model, and the run's model.py is its source",
    ) from failure


def _dynamic(type_: Any, kept: Sequence[str], named: bool) -> dict[int, Any]:
    """The open sizes of an input by dimension, as torch.export takes them: those that are one symbol."""
    return {
        i: torch.export.Dim(str(size)) if named else torch.export.Dim.DYNAMIC
        for i, size in enumerate(shape_of(type_))
        if isinstance(size, Dim) and str(size) in kept
    }


def _compare(run: TrainedModel, runner: Runner, fixed: Sequence[str]) -> float:
    """The largest difference between what the file and the module give, over the batch sizes and other open sizes."""
    worst, usual = 0.0, usual_sizes(run)
    cases: list[tuple[int, Iterable[Mapping[str, int]]]] = [(TRACED, [usual])]
    if batch_symbol(run.program) is not None:
        cases = [(BATCHES[0], [usual]), (BATCHES[1], other_sizes(usual, fixed))]
    for batch, tried in cases:
        inputs, expected = _given(run, batch, tried)
        with torch.no_grad():
            given = runner(inputs)
        if len(given) != len(expected) or any(a.shape != b.shape for a, b in zip(given, expected, strict=True)):
            shapes = [[list(one.shape) for one in some] for some in (given, expected)]
            raise RunError("NS942", f"for a batch of {batch} the file gives {shapes[0]}, and the module {shapes[1]}")
        for a, b in zip(given, expected, strict=True):
            if not b.numel() or not a.dtype.is_floating_point:
                worst = max(worst, 0.0 if torch.equal(a, b) else float("inf"))
                continue
            same = a.isnan() == b.isnan()
            gap = (a.double() - b.double()).nan_to_num().abs().max() / b.double().nan_to_num().abs().max().clamp(min=1)
            worst = max(worst, float(gap)) if bool(same.all()) else float("inf")
    return worst


def _given(
    run: TrainedModel, batch: int, tried: Iterable[Mapping[str, int]]
) -> tuple[tuple[Tensor, ...], list[Tensor]]:
    """Inputs of the first sizes that the module takes, and what it gives for them."""
    failure: Exception | None = None
    for sizes in tried:
        inputs = examples(run.program, batch, sizes, seed=batch)
        try:
            with torch.no_grad():
                return inputs, flat(run.model(*inputs))
        except (RuntimeError, IndexError, ValueError) as error:
            failure = error
    assert failure is not None
    raise failure


def flat(outputs: Any) -> list[Tensor]:
    """The tensors of an output in their order."""
    if isinstance(outputs, Tensor):
        return [outputs]
    items = outputs.values() if isinstance(outputs, Mapping) else outputs
    return [tensor for item in items if item is not None for tensor in flat(item)]


def _json(run: TrainedModel) -> str:
    return json.dumps(card(run), ensure_ascii=False, default=str)


@contextmanager
def _quietly() -> Iterator[None]:
    """Without what the exporters tell of themselves: their progress, deprecations of their own parts."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
