"""Text with a name, and the places in it."""

from __future__ import annotations

from bisect import bisect_right

from netspec.diagnostics import Span


class SourceText:
    """Lines end where an editor ends them (`\\n`, `\\r\\n`, `\\r`).

    So places come from indices and not from the YAML parser's marks, which count more characters as line ends.
    """

    def __init__(self, text: str, file: str) -> None:
        self.text = text
        self.file = file
        self._starts = [0]
        position = 0
        for line in split_lines(text)[:-1]:
            position += len(line)
            self._starts.append(position)

    def place(self, index: int) -> tuple[int, int]:
        """Line and column, from 1, of the character at `index`."""
        line = bisect_right(self._starts, index)
        return line, index - self._starts[line - 1] + 1

    def span(self, start: int, end: int) -> Span:
        starts = self._starts
        line = last = bisect_right(starts, start)
        end = max(start, end)
        if line < len(starts) and end >= starts[line]:
            last = bisect_right(starts, end, line)
        return Span(self.file, line, start - starts[line - 1] + 1, last, end - starts[last - 1] + 1)

    def line_bounds(self, index: int) -> tuple[int, int]:
        """Where the line that holds `index` starts, and where its text ends, without the line's end."""
        line, _ = self.place(index)
        start = self._starts[line - 1]
        stop = self._starts[line] if line < len(self._starts) else len(self.text)
        return start, start + len(self.text[start:stop].rstrip("\r\n"))

    def next_line(self, index: int) -> tuple[int, int] | None:
        """The bounds of the line after the one that holds `index`."""
        line, _ = self.place(index)
        return self.line_bounds(self._starts[line]) if line < len(self._starts) else None

    def line(self, index: int) -> str:
        start, end = self.line_bounds(index)
        return self.text[start:end]


def split_lines(text: str) -> list[str]:
    """The lines with their ends. The last one has none and may be empty."""
    lines = text.split("\n")
    lines[:-1] = [line + "\n" for line in lines[:-1]]
    if "\r" not in text:
        return lines
    return [part for line in lines for part in _split_returns(line)]


def _split_returns(line: str) -> list[str]:
    parts = line.split("\r")
    pieces = [part + "\r" for part in parts[:-1]] + parts[-1:]
    if pieces[-1] == "\n" and len(pieces) > 1:
        pieces[-2:] = [pieces[-2] + "\n"]
    return pieces
