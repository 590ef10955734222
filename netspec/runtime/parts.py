"""One checkpoint among several processes: each writes its parts of it, and each reads what it needs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

from netspec.runtime.checkpoint import (
    IN_PARTS,
    INDEX,
    MANIFEST,
    STATE,
    Loaded,
    Snapshot,
    Stored,
    close,
    digest,
    flush,
    kept,
    reading,
)
from netspec.runtime.directory import RESOLVED
from netspec.runtime.errors import RunError
from netspec.runtime.pieces import indexed, part_names, write_pieces
from netspec.runtime.processes import Processes, shared
from netspec.runtime.state import pack

T = TypeVar("T")


def write_part(folder: Path, taken: Snapshot, rank: int) -> dict[str, Any]:
    """Write what this process has of a checkpoint, have the disk hold it, and return what the manifest needs of it.

    Raises OSError or SafetensorError.
    """
    names = part_names(rank)
    places = [
        write_pieces(folder / name, tensors, first=not rank)
        for name, tensors in zip(names, (taken.model, pack(taken.state)[1]), strict=True)
    ]
    for name in names:
        flush(folder / name)
    sums = {name: {"sha256": digest(folder / name)} for name in names}
    return {"files": sums, "places": places, "finite": taken.finite}


def close_parts(folder: Path, taken: Snapshot, parts: Sequence[Mapping[str, Any]], resolved: str) -> None:
    """Write what is one for all processes, given what `write_part` gave each of them, the manifest last.

    Raises OSError, and ValueError where the parts do not make whole tensors.
    """
    texts = {
        STATE: json.dumps(pack(taken.state)[0]),
        INDEX: json.dumps([indexed(part["places"][kind] for part in parts) for kind in (0, 1)]),
        RESOLVED: resolved,
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    files = {name: {"sha256": digest(folder / name)} for name in texts}
    for part in parts:
        files |= part["files"]
    finite = all(part["finite"] for part in parts)
    close(folder, taken, {"format": IN_PARTS, "parts": len(parts), "finite": finite, "files": files})
    for name in (*texts, MANIFEST):
        flush(folder / name)


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


def found_by_all(processes: Processes, find: Callable[[], Loaded | None]) -> Loaded | None:
    """What the first process finds and checks, in all of them, each of which reads what it needs of the same files."""
    own: Loaded | None = None

    def look() -> Path | None:
        nonlocal own
        own = find()
        return own.stored.path.absolute() if own is not None else None

    path = processes.first(look)
    return read_by_all(processes, lambda: own or kept(path)) if path is not None else None


def read_by_all(processes: Processes, read: Callable[[], T]) -> T:
    """What `read` gives in each process. Raises RunError NS903 in all where one can't read what it needs."""
    found, failure = None, ""
    try:
        with reading("of the run"):
            found = read()
    except RunError as error:
        failure = error.message
    for rank, told in enumerate(processes.all(failure)):
        if told:
            raise shared(RunError("NS903", f"in process {rank}: {told}", help="all processes read the run's folder"))
    return cast(T, found)
