"""What a run's folder is known by, and what to say of a path that is none."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Final

RESOLVED: Final = "resolved.yaml"
MODEL: Final = "model.py"
CHECKPOINTS: Final = "checkpoints"
SPECS: Final = (".yaml", ".yml")
RUNS: Final = "runs"


def is_run(folder: Path) -> bool:
    """Whether a run lies there: its spec, and the source that was trained."""
    return (folder / RESOLVED).is_file() and (folder / MODEL).is_file()


def run_around(path: Path) -> Path | None:
    """The run that a path lies in, such as that of a checkpoint."""
    return next((folder for folder in path.parents if is_run(folder)), None)


def no_run(path: Path) -> tuple[str, str]:
    """What a path is that should be a run, and the run that was probably meant."""
    above = run_around(path)
    if above is not None and path.exists():
        return f"{path} is a part of a run", f"name its folder: {above}"
    if path.is_file() and path.suffix in SPECS:
        made = newest(Path(RUNS, _name(path)))
        return f"{path} is a spec, and this takes a run", (
            f"its newest run is {made}"
            if made is not None
            else f"`netspec train {path}` makes one, and names it at its end"
        )
    if path.is_file():
        return f"{path} is a file, and a run is a folder", "it is the one that `netspec train` names at its end"
    if path.is_dir():
        inside = newest(path) or next(
            (run for one in sorted(path.glob("*/")) if (run := newest(one)) is not None), None
        )
        mend = f"there is a run in it: {inside}" if inside is not None else _NAMED
        return f"{path} is no run: it has no {RESOLVED}", mend
    beside = newest(path.parent) if path.parent != Path() else None
    return f"{path} does not exist", f"there is {beside}" if beside is not None else _NAMED


_NAMED: Final = "a run is the folder that `netspec train` names at its end; `netspec runs` lists them"


def newest(folder: Path) -> Path | None:
    """The run with the highest number in a folder of runs; one without checkpoints only where all are."""
    with suppress(OSError):
        runs = [one for one in folder.iterdir() if one.name.isdecimal() and is_run(one)]
        return max(runs, key=lambda run: ((run / CHECKPOINTS).is_dir(), int(run.name)), default=None)
    return None


def _name(spec: Path) -> str:
    """What a spec calls itself: its runs lie under that name."""
    text = ""
    with suppress(OSError, UnicodeDecodeError):
        text = spec.read_text(encoding="utf-8")
    found = re.search(r"^name:[ \t]*['\"]?([\w.-]+)", text, re.MULTILINE)
    return found[1] if found else spec.stem
