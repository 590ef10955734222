"""The page of each diagnostic's code: what it means, an example, the mend. `netspec explain NS123` prints it."""

from __future__ import annotations

import re
from importlib.resources import files


def codes() -> list[str]:
    """The codes that have a page, sorted."""
    names = (entry.name for entry in files(__name__).iterdir())
    return sorted(name.removesuffix(".md") for name in names if re.fullmatch(r"NS[0-9]{3}\.md", name))


def page(code: str) -> str | None:
    """The page as Markdown, or None where no such code exists. Letter case does not matter."""
    name = code.upper()
    if not re.fullmatch(r"NS[0-9]{3}", name):
        return None
    file = files(__name__).joinpath(f"{name}.md")
    return file.read_text(encoding="utf-8") if file.is_file() else None


def title(code: str) -> str | None:
    """What the code is called: the first line of its page, behind the colon."""
    text = page(code)
    return None if text is None else text.partition("\n")[0].partition(": ")[2]
