"""`netspec export`: a run's model as a file for others, compared with the module before it bears its name."""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from netspec.shapes import Dim, TensorType, symbols

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
        difference = _compare(run, runner) if runner is not None else 0.0
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
    import onnxruntime

    names, outputs = list(run.program.inputs), list(run.program.outputs)

    def made(shapes: Any) -> Any:
        return torch.onnx.export(
            run.model,
            tuple(examples(run.program, TRACED)),
            dynamo=True,
            dynamic_shapes=shapes,
            input_names=names,
            output_names=outputs,
            verbose=False,
        )

    program, fixed = _traced(run.program, made)
    program.model.metadata_props[KEY] = _json(run)
    program.model.producer_name = "netspec"
    program.save(path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = run.threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    taken = [one.name for one in session.get_inputs()]

    def runner(inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        given = {name: value.numpy() for name, value in zip(names, inputs, strict=True) if name in taken}
        return [torch.from_numpy(array) for array in session.run(None, given)]

    return runner, fixed


class _Plain(nn.Module):
    """A model of several outputs that gives a plain tuple of them."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(flat(self.model(*inputs)))


def _pt2(run: TrainedModel, path: Path) -> tuple[Runner, Sequence[str]]:
    def made(shapes: Any) -> Any:
        model = run.model if single else _Plain(run.model)
        inputs = tuple(examples(run.program, TRACED))
        return torch.export.export(model, inputs, dynamic_shapes=shapes if single else (shapes,))

    # A named tuple's class would have to be known where the file is loaded.
    single = len(run.program.outputs) == 1
    program, fixed = _traced(run.program, made)
    torch.export.save(program, path, extra_files={f"{KEY}.json": _json(run)})
    module = torch.export.load(path).module()
    return lambda inputs: flat(module(*inputs)), fixed


def _traced(program: Program, made: Callable[[Any], Any]) -> tuple[Any, Sequence[str]]:
    """What `made` gives with as many open sizes as torch can keep open, and the names of the others."""
    types = list(program.inputs.values())
    open_sizes = list(dict.fromkeys(symbol for type_ in types for symbol in symbols(_shape(type_))))
    batch = next((s for s in symbols(_shape(types[0])[:1])), None)
    attempts = [open_sizes, [batch] if batch is not None else [], []]
    failure: Exception | None = None
    for kept in [a for i, a in enumerate(attempts) if a not in attempts[:i]]:
        if not kept and batch is not None:
            break
        try:
            return made(tuple(_dynamic(type_, kept) for type_ in types)), [s for s in open_sizes if s not in kept]
        except Exception as error:  # torch's exporters raise what they like, each of their passes its own
            failure = error
    first = str(failure).strip().splitlines()[0] if str(failure).strip() else type(failure).__name__
    raise RunError(
        "NS941",
        f"torch can't export {program.name}: {first}",
        help="`.safetensors` holds the weights of any model, and the run's model.py is its source",
    ) from failure


def _dynamic(type_: Any, kept: Sequence[str]) -> dict[int, Any]:
    """The open sizes of an input by dimension, as torch.export takes them: those that are one symbol."""
    return {
        i: torch.export.Dim(str(size))
        for i, size in enumerate(_shape(type_))
        if isinstance(size, Dim) and str(size) in kept
    }


def _shape(type_: Any) -> tuple[Any, ...]:
    if not isinstance(type_, TensorType):
        raise RunError("NS941", "a model that takes lists of tensors can't be exported", help="export a part of it")
    return type_.shape


def examples(program: Program, batch: int, seed: int = 0) -> list[Tensor]:
    """Random inputs of that batch size. Other open sizes are small and differ; integers are 0 or 1, as indices are."""
    draw = torch.Generator().manual_seed(seed)
    types = [_shape(type_) for type_ in program.inputs.values()]
    names = list(dict.fromkeys(symbol for shape in types for symbol in symbols(shape)))
    first = next(iter(symbols(types[0][:1])), None)
    sizes = {name: batch if name == first else 8 + 8 * i for i, name in enumerate(names)}
    found = []
    for type_, shape in zip(program.inputs.values(), types, strict=True):
        assert isinstance(type_, TensorType)
        concrete = [_number(size, sizes) for size in shape]
        dtype = getattr(torch, type_.dtype)
        if dtype.is_floating_point:
            found.append(torch.randn(concrete, generator=draw).to(dtype))
        else:
            found.append(torch.randint(0, 2, concrete, generator=draw).to(dtype))
    return found


def _number(size: Any, sizes: Mapping[str, int]) -> int:
    found = size.substitute(sizes) if isinstance(size, Dim) else size
    assert isinstance(found, int), "every open size has a number"
    return int(found)


def _compare(run: TrainedModel, runner: Runner) -> float:
    """The largest difference between what the file and the module give, over the batch sizes."""
    worst = 0.0
    batches = BATCHES if symbols(_shape(next(iter(run.program.inputs.values())))[:1]) else (TRACED,)
    for batch in batches:
        inputs = examples(run.program, batch, seed=batch)
        with torch.no_grad():
            expected = flat(run.model(*inputs))
            given = runner(inputs)
        if len(given) != len(expected) or any(a.shape != b.shape for a, b in zip(given, expected, strict=True)):
            shapes = [[list(one.shape) for one in some] for some in (given, expected)]
            raise RunError("NS942", f"for a batch of {batch} the file gives {shapes[0]}, and the module {shapes[1]}")
        for a, b in zip(given, expected, strict=True):
            if not b.numel():
                continue
            gap = (a.double() - b.double()).abs().max() / b.double().abs().max().clamp(min=1)
            worst = max(worst, float(gap)) if gap == gap else float("inf")
    return worst


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
