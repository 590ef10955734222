"""The folder of a run: `runs/<name>/<n>`, the files that make it complete in itself, and how they are written."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from netspec.document import Node
from netspec.folders import no_run
from netspec.plugin.load import enable_installed, enabled, plugins_of
from netspec.runtime.errors import RunError

RESOLVED: Final = "resolved.yaml"
MODEL: Final = "model.py"
SUMMARY: Final = "summary.json"
ENVIRONMENT: Final = "environment.json"
CHECKPOINTS: Final = "checkpoints"
CURVES: Final = "curves.png"
CONFUSION: Final = "confusion.png"
CLASSES: Final = "classes.csv"
REPORT: Final = "report.html"


def make_directory(name: str, wanted: str | Path | None) -> Path:
    """The folder that the person asked for, or the next free number below `runs/<name>`.

    Raises RunError NS901 where there is something in it already, or where none can be made.
    """
    try:
        return _make_directory(name, wanted)
    except OSError as error:
        raise RunError(
            "NS901",
            f"{wanted or Path('runs') / name} cannot be made: {error.strerror}",
            help="choose a --run-dir where you may write",
        ) from error


def _make_directory(name: str, wanted: str | Path | None) -> Path:
    if wanted is not None:
        folder = Path(wanted)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise RunError(
                "NS901",
                f"{folder} is not empty",
                help=f"go on with the run in it: --resume {folder}; or choose another --run-dir",
            )
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    parent = Path("runs") / name
    parent.mkdir(parents=True, exist_ok=True)
    number = 1 + max((int(path.name) for path in parent.iterdir() if path.name.isdecimal()), default=0)
    while True:
        folder = parent / str(number)
        try:
            folder.mkdir()
        except FileExistsError:  # another run has just begun
            number += 1
            continue
        return folder


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """What can't be written into a run's folder before training begins is RunError NS901: nothing is lost yet."""
    try:
        yield
    except OSError as error:
        raise RunError(
            "NS901",
            f"{folder} cannot be written to: {error.strerror}",
            help="choose a --run-dir with room where you may write; a run goes on in a copy of its folder too",
        ) from error


def open_directory(folder: str | Path) -> Path:
    """The folder of an earlier run. Raises RunError NS901 where it is none."""
    found = Path(folder)
    if not (found / RESOLVED).is_file() or found.parent.name == CHECKPOINTS:
        message, mend = no_run(found)
        raise RunError("NS901", message, help=mend)
    return found


def write_text(path: Path, text: str) -> None:
    """Replace a file as a whole: a reader sees the old text or the new one."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(value, indent=2, default=str) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file of a run; empty where it is missing or was never finished."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def keep_plugins(folder: Path, document: Node) -> list[str]:
    """Copy the plugin files that a document names something of into its run, so that the model's source finds them
    beside it. Returns the names of all its plugins.
    """
    used = plugins_of(document)
    for plugin in used:
        if plugin.file is not None:
            write_text(folder / plugin.name, plugin.file.read_text(encoding="utf-8"))
    return [plugin.name for plugin in used]


def check_plugins(folder: str | Path) -> None:
    """Raises RunError NS914 where a run needs a plugin that the person has not enabled."""
    enable_installed()
    names = {plugin.name for plugin in enabled()}
    for name in read_json(Path(folder) / SUMMARY).get("plugins", ()):
        if name in names:
            continue
        kept = Path(folder) / name
        raise RunError(
            "NS914",
            f"this run was made with the plugin {name}, which is not enabled",
            help=f"the run keeps a copy: if you trust it, --plugin {kept}"
            if kept.is_file()
            else "install the package that it comes with",
        )
