"""Checkpoints that survive being killed at any moment, and notice a flipped bit.

A checkpoint is a folder `step-N` of safetensors and JSON with a manifest of SHA-256 sums. It is written as `step-N.tmp`
beside its place, every file is flushed to the disk, then the folder is renamed, so that what bears the name is whole.
`netspec.runtime.saver` does it from a copy of the state while training goes on. Loading checks the sums, and falls back
to the checkpoint before. Where each process has a part of the weights alone, each writes its own into the same folder
(`netspec.runtime.parts`), and what is read is the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from netspec.runtime.directory import RESOLVED
from netspec.runtime.errors import RunError
from netspec.runtime.pieces import Piece, Source, part_names, read_all
from netspec.runtime.state import copied, pack, unpack

FORMAT, IN_PARTS = 1, 2
"""What a manifest calls a checkpoint of one process, and one into which several have written their parts."""
MODEL, TENSORS, STATE, MANIFEST = "model.safetensors", "state.safetensors", "state.json", "manifest.json"
FILES: Final = (MODEL, STATE, TENSORS, RESOLVED)
"""What the manifest holds the sums of."""
INDEX: Final = "index.json"
"""Which part of a tensor is in which file, where several processes have written them."""
LAZY: Final = ("optimizer", "average")
"""The parts of the state that are as large as the model."""
REPLACED: Final = ".replaced.tmp"
DAMAGED: Final = ".damaged"
SPOILT: Final = ".not-finite"


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A copy of all that training needs to go on from here. `figure` is the monitored figure of these weights."""

    step: int
    epoch: int
    model: Mapping[str, Tensor | Piece]
    """Where each process has a part of the weights, pieces; the state has some then as well."""
    state: Mapping[str, Any]
    figure: float | None = None
    buffers: frozenset[str] = frozenset()
    """The names of what is no weight: an infinity there may be a mask."""

    @property
    def finite(self) -> bool:
        """Whether all weights are, and no buffer holds what is no number."""
        own = {name: value.tensor if isinstance(value, Piece) else value for name, value in self.model.items()}
        return all(
            not bool(value.isnan().any()) if name in self.buffers else bool(value.isfinite().all())
            for name, value in own.items()
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
    model: dict[str, Any]
    """Tensors; `Kept` ones where they are not read yet, and then in the large parts of `state` too."""
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
    temporary = begin(folder, f"step-{taken.step}.tmp")
    try:
        _fill(temporary, taken, resolved)
        settle(temporary, taken.step)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return folder / f"step-{taken.step}"


def begin(folder: Path, name: str) -> Path:
    """An empty folder of that name in the folder of the checkpoints. Raises OSError."""
    if not folder.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        flush(folder.parent)
    temporary = folder / name
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    return temporary


def settle(temporary: Path, step: int) -> None:
    """Give a folder whose files are on the disk the name of a checkpoint. Raises OSError."""
    folder, final = temporary.parent, temporary.parent / f"step-{step}"
    flush(temporary)
    if final.exists():  # the same step, with its evaluation done in between
        _exchange(temporary, final)
    else:
        temporary.rename(final)
    flush(folder)


def _fill(folder: Path, taken: Snapshot, resolved: str) -> None:
    """Write the files of a checkpoint, the manifest last, and have the disk hold them."""
    tree, tensors = pack(taken.state)
    save_file({name: value.contiguous() for name, value in taken.model.items()}, folder / MODEL)  # type: ignore[union-attr]
    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / TENSORS)
    (folder / STATE).write_text(json.dumps(tree), encoding="utf-8")
    (folder / RESOLVED).write_text(resolved, encoding="utf-8")
    files = {name: {"sha256": digest(folder / name)} for name in FILES}
    close(folder, taken, {"format": FORMAT, "finite": taken.finite, "files": files})
    for path in folder.iterdir():
        flush(path)


def close(folder: Path, taken: Snapshot, told: Mapping[str, Any]) -> None:
    """Write the manifest, with the sums of the files and what else is `told`."""
    manifest = {**told, "step": taken.step, "epoch": taken.epoch, "figure": taken.figure}
    (folder / MANIFEST).write_text(_sealed(manifest), encoding="utf-8")


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
    check(path)
    with reading(path.name):
        found = kept(path)
        return Loaded(stored=found.stored, model=read_all(found.model), state=read_all(found.state))


def check(path: Path) -> None:
    """Hold every file of a checkpoint against its sum. Raises RunError NS903 where one is not what was written."""
    with reading(path.name):
        manifest = _manifest(path)
        if manifest["format"] not in (FORMAT, IN_PARTS):
            raise RunError(
                "NS903", f"the checkpoint {path.name} has format {manifest['format']}; this netspec reads {IN_PARTS}"
            )
        files = _files(manifest)
        with ThreadPoolExecutor(min(8, len(files))) as pool:  # sums of large files leave Python to the others
            sums = pool.map(lambda file: digest(path / file), files)
            for file, found in zip(files, sums, strict=True):
                if found != manifest["files"][file]["sha256"]:
                    raise RunError("NS903", f"the checkpoint {path.name} is damaged: {file} is not what was written")


def kept(path: Path) -> Loaded:
    """A checkpoint whose sums have been checked, with its weights and the large parts of its state not read yet.

    Raises RunError NS903.
    """
    with reading(path.name):
        manifest = _manifest(path)
        tree = json.loads((path / STATE).read_text(encoding="utf-8"))
        if manifest["format"] == IN_PARTS:
            files = [part_names(rank) for rank in range(manifest["parts"])]
            model, tensors = (
                Source([path / names[kind] for names in files], index).tensors()
                for kind, index in enumerate(json.loads((path / INDEX).read_text(encoding="utf-8")))
            )
        else:
            model, tensors = (Source([path / name], None).tensors() for name in (MODEL, TENSORS))
        found = Stored(
            path=path,
            step=manifest["step"],
            epoch=manifest["epoch"],
            figure=manifest["figure"],
            finite=manifest["finite"],
        )
        state = unpack(tree, tensors)
        state = {name: value if name in LAZY else read_all(value) for name, value in state.items()}
        return Loaded(stored=found, model=dict(model), state=state)


def _files(manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """The files that a manifest has to hold the sums of. Raises ValueError where it does not."""
    if manifest["format"] != IN_PARTS:
        return FILES
    ranks = range(manifest["parts"])
    files = (STATE, INDEX, RESOLVED, *(name for rank in ranks for name in part_names(rank)))
    if not ranks or set(files) != set(manifest["files"]):
        raise ValueError(f"{MANIFEST} has other files than those of {len(ranks)} processes")
    return files


@contextmanager
def reading(name: str) -> Iterator[None]:
    """What goes wrong with a checkpoint's files while it is open is RunError NS903."""
    try:
        yield
    except OSError as error:
        missing = f"{Path(error.filename).name if error.filename else 'a file'}: {error.strerror}"
        raise RunError("NS903", f"the checkpoint {name} can't be read: {missing}") from error
    except (ValueError, LookupError, TypeError, AttributeError, SafetensorError) as error:
        raise RunError("NS903", f"the checkpoint {name} is damaged: {error}") from error


def checked(path: Path) -> Loaded:
    """What `load` gives, with the tensors of its large parts not read yet. Raises RunError NS903."""
    check(path)
    return kept(path)


def newest(folder: Path, say: Callable[[str], None], read: Callable[[Path], Loaded] = load) -> Loaded | None:
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
            loaded = read(path)
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


def digest(path: Path) -> str:
    """The SHA-256 sum of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flush(path: Path) -> None:
    """Make the disk hold a file's content, or a folder's names."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
