"""Checkpoints that survive being killed at any moment, and notice a flipped bit.

A checkpoint is a folder `step-N` of safetensors and JSON with a manifest of SHA-256 sums. It is written as `step-N.tmp`
beside its place, every file is flushed to the disk, then the folder is renamed, so that what bears the name is whole.
`netspec.runtime.saver` does it from a copy of the state while training goes on. Loading checks the sums, and falls back
to the checkpoint before.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from netspec.runtime.directory import RESOLVED
from netspec.runtime.errors import RunError
from netspec.runtime.processes import Processes
from netspec.runtime.state import copied, pack, unpack

FORMAT: Final = 1
MODEL, TENSORS, STATE, MANIFEST = "model.safetensors", "state.safetensors", "state.json", "manifest.json"
FILES: Final = (MODEL, STATE, TENSORS, RESOLVED)
"""What the manifest holds the sums of."""
REPLACED: Final = ".replaced.tmp"
DAMAGED: Final = ".damaged"
SPOILT: Final = ".not-finite"


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A copy of all that training needs to go on from here. `figure` is the monitored figure of these weights."""

    step: int
    epoch: int
    model: Mapping[str, Tensor]
    state: Mapping[str, Any]
    figure: float | None = None
    buffers: frozenset[str] = frozenset()
    """The names of what is no weight: an infinity there may be a mask."""

    @property
    def finite(self) -> bool:
        """Whether all weights are, and no buffer holds what is no number."""
        return all(
            not bool(value.isnan().any()) if name in self.buffers else bool(value.isfinite().all())
            for name, value in self.model.items()
            if value.is_floating_point()
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A checkpoint on the disk, as its manifest describes it."""

    path: Path
    step: int
    epoch: int
    figure: float | None
    finite: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A checkpoint whose sums have been checked."""

    stored: Stored
    model: dict[str, Tensor]
    state: dict[str, Any]


def snapshot(
    *,
    step: int,
    epoch: int,
    model: torch.nn.Module,
    state: Mapping[str, Any],
    figure: float | None = None,
    weights: Mapping[str, Tensor] | None = None,
) -> Snapshot:
    """Copy the weights and the state now. `weights` are the model's where it has a part of them alone."""
    buffers = frozenset(name for name, _ in model.named_buffers(remove_duplicate=False))
    taken = copied(model.state_dict() if weights is None else weights)
    return Snapshot(step=step, epoch=epoch, model=taken, state=copied(state), figure=figure, buffers=buffers)


def write(folder: Path, taken: Snapshot, resolved: str) -> Path:
    """Write a snapshot as `folder/step-N`, whole or not at all, and return that path.

    Raises OSError or SafetensorError where that fails; then nothing is left of it, so that it takes no room.
    """
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        _flush(folder.parent)
    final, temporary = folder / f"step-{taken.step}", folder / f"step-{taken.step}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir()
        _fill(temporary, taken, resolved)
        if final.exists():  # the same step, with its evaluation done in between
            _exchange(temporary, final)
        else:
            temporary.rename(final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _flush(folder)
    return final


def _fill(folder: Path, taken: Snapshot, resolved: str) -> None:
    """Write the files of a checkpoint, the manifest last, and have the disk hold them."""
    tree, tensors = pack(taken.state)
    save_file({name: value.contiguous() for name, value in taken.model.items()}, folder / MODEL)
    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / TENSORS)
    (folder / STATE).write_text(json.dumps(tree), encoding="utf-8")
    (folder / RESOLVED).write_text(resolved, encoding="utf-8")
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "step": taken.step,
        "epoch": taken.epoch,
        "figure": taken.figure,
        "finite": taken.finite,
        "files": {name: {"sha256": _digest(folder / name)} for name in FILES},
    }
    (folder / MANIFEST).write_text(_sealed(manifest), encoding="utf-8")
    for path in folder.iterdir():
        _flush(path)
    _flush(folder)


def _exchange(temporary: Path, final: Path) -> None:
    """Put a folder in the place of another. `recover` undoes it where the process is killed between the two renames."""
    replaced = final.with_name(final.name + REPLACED)
    shutil.rmtree(replaced, ignore_errors=True)
    final.rename(replaced)
    try:
        temporary.rename(final)
    except OSError:
        replaced.rename(final)
        raise
    shutil.rmtree(replaced, ignore_errors=True)


def rotate(folder: Path, *, keep: int, mode: Literal["min", "max"]) -> None:
    """Remove all but the `keep` newest and the best. Weights that are not finite push nothing out, and only the newest
    of them stays."""
    found = stored(folder)
    good = [one for one in found if one.finite]
    kept = {one.path for one in good[-keep:]} | {one.path for one in found[-1:]}
    top = best(good, mode)
    if top is not None:
        kept.add(top.path)
    for one in found:
        if one.path not in kept:
            # Renamed first: a half-removed folder must not bear a checkpoint's name.
            doomed = one.path.with_name(one.path.name + ".removed.tmp")
            one.path.rename(doomed)
            shutil.rmtree(doomed, ignore_errors=True)


def stored(folder: Path) -> list[Stored]:
    """The checkpoints in a folder by step, the oldest first; those without a readable manifest are left out."""
    found = []
    for path in folder.glob("step-*"):
        number = path.name.removeprefix("step-")
        if not number.isdecimal():
            continue
        try:
            manifest = _manifest(path)
            found.append(
                Stored(
                    path=path,
                    step=int(number),
                    epoch=int(manifest["epoch"]),
                    figure=manifest["figure"],
                    finite=bool(manifest["finite"]),
                )
            )
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return sorted(found, key=lambda one: one.step)


def best(found: list[Stored], mode: Literal["min", "max"]) -> Stored | None:
    """The checkpoint with the best monitored figure, the earliest of equals; None where none has one."""
    judged = [one for one in found if one.figure is not None and one.figure == one.figure]
    if not judged:
        return None
    sign = 1 if mode == "min" else -1
    return min(judged, key=lambda one: (sign * (one.figure or 0.0), one.step))


def choose(folder: Path, mode: Literal["min", "max"] | None) -> Stored:
    """The best checkpoint by `mode`, where that is given and one has a figure, else the newest; of those whose weights
    are finite, where there is one. Raises RunError NS903 where there is none at all.
    """
    everything = stored(folder)
    found = [one for one in everything if one.finite] or everything
    if not found:
        raise RunError(
            "NS903", f"{folder} holds no checkpoint", help="the run has not got so far, or they were removed"
        )
    return (best(found, mode) if mode is not None else None) or found[-1]


def load(path: Path) -> Loaded:
    """Read a checkpoint after checking every file against its sum. Raises RunError NS903 where one does not hold."""
    name = path.name
    try:
        manifest = _manifest(path)
        if manifest["format"] != FORMAT:
            raise RunError(
                "NS903", f"the checkpoint {name} has format {manifest['format']}; this netspec reads {FORMAT}"
            )
        for file in FILES:
            if _digest(path / file) != manifest["files"][file]["sha256"]:
                raise RunError("NS903", f"the checkpoint {name} is damaged: {file} is not what was written")
        tree = json.loads((path / STATE).read_text(encoding="utf-8"))
        found = Stored(
            path=path,
            step=manifest["step"],
            epoch=manifest["epoch"],
            figure=manifest["figure"],
            finite=manifest["finite"],
        )
        return Loaded(stored=found, model=load_file(path / MODEL), state=unpack(tree, load_file(path / TENSORS)))
    except OSError as error:
        missing = f"{Path(error.filename).name if error.filename else 'a file'}: {error.strerror}"
        raise RunError("NS903", f"the checkpoint {name} can't be read: {missing}") from error
    except (ValueError, KeyError, TypeError, SafetensorError) as error:
        raise RunError("NS903", f"the checkpoint {name} is damaged: {error}") from error


def newest(folder: Path, say: Callable[[str], None]) -> Loaded | None:
    """The newest whole checkpoint, or None where there is none yet. A damaged one is told about and put aside.

    It becomes `step-N.damaged`, so that it does not count as one of those that are kept. One whose weights are not
    finite is put aside as well, as `step-N.not-finite`, where those of an earlier one are. Raises RunError NS903 where
    there are checkpoints and none of them is whole; then all stay where they are.
    """
    candidates = sorted(_named(folder), key=lambda path: int(path.name.removeprefix("step-")), reverse=True)
    damaged: list[tuple[Path, RunError]] = []
    spoilt: list[Loaded] = []
    whole: Loaded | None
    for path in candidates:
        try:
            loaded = load(path)
        except RunError as error:
            damaged.append((path, error))
            continue
        if not loaded.stored.finite:
            spoilt.append(loaded)
            continue
        whole = loaded
        break
    else:
        whole = spoilt.pop(0) if spoilt else None
        spoilt = []
    if whole is not None:
        for bad, problem in damaged:
            say(f"{problem.message}; {_aside(bad, DAMAGED)}; going on from {whole.stored.path.name}")
        for one in spoilt:
            name, kept = one.stored.path.name, _aside(one.stored.path, SPOILT)
            say(f"the weights of {name} are not finite; {kept}; going on from {whole.stored.path.name}")
        return whole
    if damaged:
        told = "; ".join(problem.message for _, problem in damaged)
        raise RunError("NS903", f"no checkpoint of this run is whole: {told}", help="start it anew from its spec")
    return None


def _aside(path: Path, ending: str) -> str:
    """Take a checkpoint's name from it; what became of it, in words."""
    aside = path.with_name(path.name + ending)
    try:
        shutil.rmtree(aside, ignore_errors=True)
        path.rename(aside)
    except OSError:
        return "left where it is"
    return f"kept as {aside.name}"


def recover(folder: Path) -> None:
    """Finish or undo what a killed run was writing, replacing or removing."""
    for path in folder.glob(f"step-*{REPLACED}"):
        final = path.with_name(path.name.removesuffix(REPLACED))
        if not final.exists():
            path.rename(final)
    for path in folder.glob("step-*.tmp"):
        shutil.rmtree(path, ignore_errors=True)


def passed_on(processes: Processes, load: Callable[[], Loaded | None]) -> Loaded | None:
    """What the first process loads, in all of them: the others need not see its files. Errors are raised in all."""
    if processes.count == 1:
        return load()
    found: Loaded | None = None

    def read() -> Stored | None:
        nonlocal found
        found = load()
        return found.stored if found is not None else None

    stored = processes.first(read)
    if stored is None:
        return None
    tree = processes.tree({"model": found.model, "state": found.state} if found is not None else {})
    return Loaded(stored=stored, model=tree["model"], state=tree["state"])


def _named(folder: Path) -> Iterator[Path]:
    return (path for path in folder.glob("step-*") if path.name.removeprefix("step-").isdecimal())


def _manifest(path: Path) -> dict[str, Any]:
    """The manifest of a checkpoint. Raises ValueError where a single character of it is not what was written."""
    written = (path / MANIFEST).read_bytes()
    try:
        text = written.decode()
        found = json.loads(text)
        if isinstance(found, dict) and _sealed({k: v for k, v in found.items() if k != "sha256"}) == text:
            return found
    except (ValueError, RecursionError):
        pass
    raise ValueError(f"{MANIFEST} is not what was written")


def _sealed(manifest: Mapping[str, Any]) -> str:
    """The text of a manifest, which ends with the sum of its own content."""
    seal = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    return json.dumps({**manifest, "sha256": seal}, indent=1)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    """Make the disk hold a file's content, or a folder's names."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
