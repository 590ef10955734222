"""What the README shows is what the program says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import netspec
from netspec.cli import main

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def block(language: str) -> str:
    """The first fenced block in a language."""
    found = re.search(rf"```{language}\n(.*?)```", README, re.DOTALL)
    assert found
    return found[1]


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = Path("small_resnet.yaml")
    path.write_text(block("yaml"), encoding="utf-8")
    return path


def test_the_code_is_what_the_spec_becomes(spec: Path) -> None:
    source = netspec.compile(spec).source()
    assert source[source.index("class ") :] == block("python")


def test_the_mistake_is_shown_as_it_says(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = spec.read_text("utf-8")
    right = "if: $(stride != 1 or in_channels != width)"
    assert right in text
    spec.write_text(text.replace(right, "if: $(stride != 2)"), encoding="utf-8")
    assert main(["validate", "small_resnet.yaml"]) == 1
    assert f"$ netspec validate small_resnet.yaml\n{capsys.readouterr().err}" == block("text")


PAGES = ["README.md", "CONTRIBUTING.md", *(f"docs/{page.name}" for page in sorted((ROOT / "docs").glob("*.md")))]


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    page = ROOT / name
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text("utf-8")):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text("utf-8"), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings], link


@pytest.mark.parametrize("heading", ["A spec"])
def test_the_first_spec_of_the_guide_is_good(heading: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    guide = (ROOT / "docs" / "guide.md").read_text("utf-8").partition(f"## {heading}\n")[2]
    found = re.search(r"```yaml\n(.*?)```", guide, re.DOTALL)
    assert found
    path = tmp_path / "tiny.yaml"
    path.write_text(found[1], encoding="utf-8")
    assert main(["validate", str(path)]) == 0
    assert not capsys.readouterr().err
