"""Checkpoints that survive being killed at any moment, and notice a flipped bit.

A checkpoint is a folder `step-N` of safetensors and JSON with a manifest of SHA-256 sums. It is written as `step-N.tmp`
beside its place, every file is flushed to the disk, then the folder is renamed, so that what bears the name is whole.
A thread does it from a copy of the state while training goes on. Loading checks the sums, and falls back to the
checkpoint before.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from netspec.runtime.errors import RunError
from netspec.runtime.state import copied, pack, unpack

FORMAT: Final = 1
MODEL, TENSORS, STATE, MANIFEST = "model.safetensors", "state.safetensors", "state.json", "manifest.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A copy of all that training needs to go on from here. `figure` is the monitored figure of these weights."""

    step: int
    epoch: int
    model: Mapping[str, Tensor]
    state: Mapping[str, Any]
    figure: float | None = None


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
    *, step: int, epoch: int, model: torch.nn.Module, state: Mapping[str, Any], figure: float | None = None
) -> Snapshot:
    """Copy the weights and the state now."""
    return Snapshot(step=step, epoch=epoch, model=copied(model.state_dict()), state=copied(state), figure=figure)


class Saver:
    """Writes snapshots in the background, one at a time, and removes what need not be kept.

    keep: how many of the newest stay (two at least); the best by `mode` of the monitored figure stays as well.
    """

    def __init__(self, folder: Path, resolved: str, *, keep: int, mode: Literal["min", "max"]) -> None:
        self.folder = folder
        self.resolved = resolved
        self.keep = max(2, keep)
        self.mode: Literal["min", "max"] = mode
        self.thread: threading.Thread | None = None
        self.failure: BaseException | None = None

    def save(self, *snapshots: Snapshot) -> None:
        """Start writing, after what is being written. Raises RunError NS907 where an earlier write has failed."""
        self.wait()
        self.thread = threading.Thread(target=self._run, args=(snapshots,), name="netspec-checkpoint")
        self.thread.start()

    def wait(self) -> None:
        """Return when nothing is being written. Raises RunError NS907 where it failed."""
        if self.thread is not None:
            self.thread.join()
            self.thread = None
        if self.failure is not None:
            failure, self.failure = self.failure, None
            if isinstance(failure, OSError):
                raise RunError(
                    "NS907",
                    f"the checkpoint could not be written: {failure.strerror or failure}",
                    help="make room or give another --run-dir, then go on with --resume",
                ) from failure
            raise failure

    def _run(self, snapshots: tuple[Snapshot, ...]) -> None:
        try:
            for taken in snapshots:
                write(self.folder, taken, self.resolved)
                rotate(self.folder, keep=self.keep, mode=self.mode)
        except BaseException as error:  # raised again where training waits for it
            self.failure = error


def write(folder: Path, taken: Snapshot, resolved: str) -> Path:
    """Write a snapshot as `folder/step-N`, whole or not at all, and return that path."""
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"step-{taken.step}"
    temporary = folder / f"step-{taken.step}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    tree, tensors = pack(taken.state)
    save_file({name: value.contiguous() for name, value in taken.model.items()}, temporary / MODEL)
    save_file({name: value.contiguous() for name, value in tensors.items()}, temporary / TENSORS)
    (temporary / STATE).write_text(json.dumps(tree), encoding="utf-8")
    (temporary / "resolved.yaml").write_text(resolved, encoding="utf-8")
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "step": taken.step,
        "epoch": taken.epoch,
        "figure": taken.figure,
        "finite": all(bool(value.isfinite().all()) for value in taken.model.values() if value.is_floating_point()),
        "files": {path.name: {"sha256": _digest(path)} for path in sorted(temporary.iterdir())},
    }
    manifest["sha256"] = _seal(manifest)
    (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    for path in temporary.iterdir():
        _flush(path)
    _flush(temporary)
    if final.exists():  # the same step, with its evaluation done in between
        replaced = folder / f"step-{taken.step}.replaced.tmp"
        shutil.rmtree(replaced, ignore_errors=True)
        final.rename(replaced)
        temporary.rename(final)
        shutil.rmtree(replaced, ignore_errors=True)
    else:
        temporary.rename(final)
    _flush(folder)
    return final


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
    """The best checkpoint by `mode`, where that is given and one has a figure, else the newest. Or RunError NS903."""
    found = stored(folder)
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
        for file, record in manifest["files"].items():
            if Path(file).name != file or _digest(path / file) != record["sha256"]:
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
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise RunError("NS903", f"the checkpoint {name} can't be read: {error}") from error


def newest(folder: Path, say: Callable[[str], None]) -> Loaded | None:
    """The newest whole checkpoint, or None where there is none yet. A damaged one is told about and passed over.

    Raises RunError NS903 where there are checkpoints and none of them is whole.
    """
    candidates = sorted(_named(folder), key=lambda path: int(path.name.removeprefix("step-")), reverse=True)
    problem: RunError | None = None
    for path in candidates:
        try:
            loaded = load(path)
        except RunError as error:
            problem = problem or error
            say(f"{error.message}; trying the one before")
            continue
        return loaded
    if problem is not None:
        raise RunError("NS903", "no checkpoint of this run is whole", help=problem.message)
    return None


def clear_temporary(folder: Path) -> None:
    """Remove what a killed run was writing or removing."""
    for path in folder.glob("step-*.tmp"):
        shutil.rmtree(path, ignore_errors=True)


def _named(folder: Path) -> Iterator[Path]:
    return (path for path in folder.glob("step-*") if path.name.removeprefix("step-").isdecimal())


def _manifest(path: Path) -> dict[str, Any]:
    found = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    if not isinstance(found, dict) or found.pop("sha256", None) != _seal(found):
        raise ValueError("its manifest is not what was written")
    return found


def _seal(manifest: Mapping[str, Any]) -> str:
    """The sum of the manifest's own content."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


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
