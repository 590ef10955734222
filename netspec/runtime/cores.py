"""How many CPU cores this process may use, which `os.cpu_count` does not know in a container or a batch system."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

GROUPS: Final = Path("/sys/fs/cgroup")


def lent_cores() -> int:
    """The cores that the process is bound to, or the quota of a control group where that is less; at least one."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min([cores, *(math.ceil(quota) for quota in _quotas())]))


def _quotas() -> Iterator[float]:
    """The cores that each control group around this process may use at a time, where that is limited."""
    for folder in _groups():
        try:
            if (folder / "cpu.max").exists():
                quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
            else:  # the first version of control groups
                quota, period = (
                    (folder / f"cpu.cfs_{part}_us").read_text(encoding="ascii").strip() for part in ("quota", "period")
                )
            if quota not in ("max", "-1"):
                yield int(quota) / int(period)
        except (OSError, ValueError, ZeroDivisionError):
            continue


def _groups() -> Iterator[Path]:
    """The folders of the groups, from the innermost out. In a container the outermost may be all that is mounted."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, kinds, path = line.split(":", 2)
        if not kinds or "cpu" in kinds.split(","):
            root = GROUPS / "cpu" if kinds else GROUPS
            inner = root / path.strip("/")
            yield from (folder for folder in (inner, *inner.parents) if folder.is_relative_to(root))
