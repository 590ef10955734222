"""What every test can rely on: one thread for torch, and golden files that are rewritten on request.

`pytest --update-golden` writes what the program says now into `tests/golden/`; `git diff` then shows what changed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Set before torch is first imported: tests run side by side, and one thread each is both faster and exactly repeatable.
# Processes that a test starts inherit it.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MPLBACKEND"] = "Agg"
os.environ["NO_COLOR"] = "1"
os.environ["COLUMNS"] = "100"
os.environ.pop("FORCE_COLOR", None)

ROOT = Path(__file__).resolve().parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="rewrite the expected files in tests/golden with what comes out now",
    )


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """torch uses one thread even where a plugin imported it before this file could speak."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(autouse=True)
def no_plugins() -> Iterator[None]:
    """Plugins are enabled for a whole process: what a test enabled is taken out again."""
    yield
    if "netspec.plugin.load" in sys.modules:
        sys.modules["netspec.plugin.load"].disable_all()


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    """True where the person asked for the golden files to be rewritten."""
    return bool(request.config.getoption("--update-golden"))


@pytest.fixture
def golden(update_golden: bool) -> Callable[[Path, str], None]:
    """`golden(path, text)` asserts that the file holds the text, or writes it under `--update-golden`."""

    def check(path: Path, text: str) -> None:
        if update_golden:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.exists(), f"{path} is missing; `pytest --update-golden` writes it"
        assert text == path.read_text(encoding="utf-8")

    return check


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the working tree: where `specs/`, `generated/` and `pyproject.toml` lie."""
    return ROOT


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data beside the working tree; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("NETSPEC_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"needs the real data sets; none at {folder} (set NETSPEC_TEST_DATA)")
    return folder
