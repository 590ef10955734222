"""Every mistake that netspec knows: what it prints, word for word, and the page that explains it.

A case is a folder in `golden/diagnostics/`: a `spec.yaml` and the files it needs, maybe `arguments` (one a line), and
`expected.txt`: what `netspec validate spec.yaml` prints, and its exit code.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from netspec.cli import main
from netspec.pages import codes, page, title

ROOT = Path(__file__).resolve().parent.parent
CASES = sorted(folder for folder in (ROOT / "tests" / "golden" / "diagnostics").iterdir() if folder.is_dir())
CODE = re.compile(r'"(NS[0-9]{3})"')

SHOWN_ELSEWHERE = {
    "NS007": "a file of 16 MiB: test_document.py",
    "NS323": "a document of blocks is good as it is, until someone compiles it: test_elaborate.py",
    "NS028": "only a document in memory can hold such values: test_compose.py",
}
"""Codes whose golden case would serve nobody, and the test that shows them."""


@pytest.mark.parametrize("folder", CASES, ids=lambda folder: folder.name)
def test_message(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    golden: Callable[[Path, str], None],
) -> None:
    monkeypatch.chdir(folder)
    arguments = folder / "arguments"
    more = arguments.read_text(encoding="utf-8").splitlines() if arguments.exists() else []
    code = main(["validate", "spec.yaml", *more])
    printed = capsys.readouterr()
    text = f"{printed.err}{printed.out}exit {code}\n"
    assert f"[{folder.name.partition('_')[0]}]" in text
    golden(folder / "expected.txt", text)


def test_every_code_has_a_page() -> None:
    sources = (file.read_text(encoding="utf-8") for file in sorted((ROOT / "netspec").rglob("*.py")))
    used = {code for source in sources for code in CODE.findall(source)}
    assert used, "the pattern finds no code any more"
    assert sorted(used) == codes()


def test_every_code_has_a_golden_case() -> None:
    shown = {folder.name.partition("_")[0] for folder in CASES}
    # What happens while building or running is no matter of `validate`: those codes stand with the tests of the verbs.
    validated = {code for code in codes() if not code.startswith(("NS6", "NS9"))}
    assert sorted(validated - shown - set(SHOWN_ELSEWHERE)) == []
    assert not shown & set(SHOWN_ELSEWHERE)
    assert sorted(shown - set(codes())) == []


@pytest.mark.parametrize("code", codes())
def test_page(code: str) -> None:
    text = page(code.lower())
    assert text is not None
    lines = text.splitlines()
    assert re.fullmatch(rf"# {code}: [^A-Z\s`]?.+[^.]", lines[0]), lines[0]
    assert title(code)
    assert 8 <= len(lines) <= 25
    assert text.count("```") % 2 == 0
    assert text.endswith("\n")


@pytest.mark.parametrize("name", ["NS999", "", "../pages/NS001", "ns01", "NS0011"])
def test_no_such_page(name: str) -> None:
    assert page(name) is None
