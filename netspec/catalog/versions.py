"""Which version of a library is installed, where an entry or an argument needs a newer one than netspec itself."""

from __future__ import annotations

import re
from functools import cache

Version = tuple[int, ...]


def version(text: str) -> Version:
    """The first two numbers of a version: `2.11.0+cu130` is (2, 11)."""
    return tuple(int(part) for part in re.findall(r"\d+", text.partition("+")[0])[:2])


@cache
def installed(library: str) -> str | None:
    """The version of an installed library, which is not imported for it; None where it is not there."""
    from importlib import metadata  # few specs ask

    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


def lacking(since: str, target: str) -> str:
    """Of what came with the version `since` of the library of `target`: the installed one, as `torch 2.11.0`, where
    that is older; else nothing.
    """
    library = target.partition(".")[0]
    here = installed(library) if since else None
    return f"{library} {here.partition('+')[0]}" if here is not None and version(here) < version(since) else ""
