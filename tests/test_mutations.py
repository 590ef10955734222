"""Specs with random mistakes end in diagnostics, or in a program; never in a traceback, a hang, or much memory."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def outcomes(folder: Path, first: int, last: int) -> dict[str, int]:
    """How many mutations of these seeds end in a program, and how many in diagnostics; fails where one does neither."""
    shutil.copytree(ROOT / "specs", folder / "specs")
    command = [sys.executable, str(ROOT / "tests" / "mutations.py"), str(folder), str(first), str(last)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    *failures, summary = done.stdout.splitlines() or [""]
    assert not failures, "\n".join("\n".join((f["error"], *f["where"], f["text"])) for f in map(json.loads, failures))
    assert done.returncode == 0, done.stderr
    found: dict[str, int] = json.loads(summary)["outcomes"]
    assert sum(found.values()) == last - first
    return found


def test_specs_with_mistakes(tmp_path: Path) -> None:
    found = outcomes(tmp_path, 0, 400)
    assert found["diagnostics"] > 300
    assert found["program"] > 10


@pytest.mark.long
def test_ten_thousand_specs_with_mistakes(tmp_path: Path) -> None:
    outcomes(tmp_path, 1_000, 11_000)


def test_the_limits_hold(tmp_path: Path) -> None:
    """A spec that would take long is stopped, so that the tests above can fail."""
    code = (
        "import sys; sys.path.insert(0, 'tests'); import mutations\n"
        "from pathlib import Path\n"
        "def slow(file):\n    while True: pass\n"
        "mutations.SECONDS, mutations.compiled = 0.2, slow\n"
        f"mutations.run(Path({str(tmp_path)!r}), 0, 1)\n"
    )
    (tmp_path / "spec.yaml").write_text("netspec: 1\n")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "TooLong" in done.stdout
