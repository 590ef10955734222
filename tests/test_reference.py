"""`docs/reference.md` says what the catalog says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from netspec.reference import all_names, find, reference


def test_the_page_is_what_the_catalog_says(root: Path, golden: Callable[[Path, str], None]) -> None:
    golden(root / "docs" / "reference.md", reference())


def test_every_entry_says_what_it_is() -> None:
    assert not [name for name in all_names() for entry in find(name) if not entry.doc]
