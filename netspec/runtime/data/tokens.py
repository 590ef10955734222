"""Prompts: how a run over `Text` data makes tokens of what a person gives it, and a text of tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import torch
from torch import Tensor

from netspec.recipe.data import Source
from netspec.runtime.data.text import NUMBERS, characters, content_of, decoded, numbers
from netspec.runtime.errors import RunError

_SHOWN: Final = 120
"""So many characters of a vocabulary are told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """The tokens of a source of texts: characters of a vocabulary, bytes, or numbers that something else has made."""

    kind: Literal["characters", "bytes", "numbers"]
    vocabulary: Sequence[str] = ()
    count: int
    """How many different tokens there are."""

    @classmethod
    def of(cls, source: Source, state: Mapping[str, Any]) -> Tokens:
        """Those of a run; `state` is what its data kept of the source."""
        if state["vocabulary"] is not None:
            return cls(kind="characters", vocabulary=state["vocabulary"], count=state["count"])
        path = source.arguments["path"]
        made = Path(path if isinstance(path, str) else path[0]).suffix in NUMBERS
        return cls(kind="numbers" if made else "bytes", count=state["count"])

    def of_text(self, text: str, name: str) -> Tensor:
        """A text as tokens, int64 [tokens]; numbers have spaces between them.

        Raises RunError NS924, which calls the text by its name, where it is empty or holds what is no token.
        """
        if self.kind == "characters":
            known = "".join(self.vocabulary)
            told = repr(known if len(known) <= _SHOWN else known[:_SHOWN])[1:-1] + "…" * (len(known) > _SHOWN)
            row = characters([name], [text], self.vocabulary, help=f"it was trained on {told}")
        elif self.kind == "bytes":
            row = (
                torch.frombuffer(bytearray(text.encode("utf-8", "surrogateescape")), dtype=torch.uint8)
                if text
                else torch.zeros(0)
            )
        else:
            row = self._of_numbers(text, name)
        return self._checked(row.to(torch.int64), name)

    def of_file(self, path: Path) -> Tensor:
        """The tokens of a file; without the line break that ends its last line. Raises RunError NS920, NS921, NS924."""
        if self.kind == "numbers" and path.suffix in NUMBERS:
            return self._checked(numbers(path), str(path))
        return self.of_content(content_of(path), str(path))

    def of_content(self, content: bytes, name: str) -> Tensor:
        """The same of what a file, or the standard input, holds."""
        if self.kind == "bytes":
            row = torch.tensor(list(content.removesuffix(b"\n")), dtype=torch.int64)
            return self._checked(row, name)
        return self.of_text(decoded(content, name).removesuffix("\n"), name)

    def text(self, tokens: Sequence[int]) -> str:
        """Tokens as a text; bytes that are no UTF-8 as the sign for what can't be read."""
        if self.kind == "characters":
            return "".join(self.vocabulary[token] for token in tokens)
        if self.kind == "bytes":
            return bytes(tokens).decode("utf-8", errors="replace")
        return " ".join(map(str, tokens))

    def _of_numbers(self, text: str, name: str) -> Tensor:
        words = text.split()
        wrong = next((word for word in words if not (word.isascii() and word.isdigit())), None)
        if wrong is not None:
            raise RunError(
                "NS924",
                f"{name} has {wrong!r}, and this run's tokens are numbers",
                help="whole numbers with spaces between them, or a file .npy or .bin",
            )
        row = [int(word) for word in words]
        return torch.tensor([min(token, self.count) for token in row], dtype=torch.int64)

    def _checked(self, row: Tensor, name: str) -> Tensor:
        if not len(row):
            raise RunError("NS924", f"{name} is empty", help="a text to go on with has one token at least")
        if int(row.max()) >= self.count:
            raise RunError("NS924", f"{name} has a token that the run has not: its tokens are 0 … {self.count - 1}")
        return row
