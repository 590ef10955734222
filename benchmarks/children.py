"""What a timed process is started with, the same for both sides of a comparison."""

from __future__ import annotations

import os


def environment(place: str) -> dict[str, str]:
    """One thread, and bytecode kept under `place`, as an installed package has it: start all once before timing.

    Some containers set PYTHONDONTWRITEBYTECODE; then a package without bytecode is compiled anew in each process, while
    what an installer compiled is not, and the ratio says nothing of either.
    """
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**inherited, "OMP_NUM_THREADS": "1", "PYTHONPYCACHEPREFIX": place}
