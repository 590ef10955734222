"""The command line: one verb a file, each of which imports what it needs when it runs."""

from __future__ import annotations

__all__ = ["main"]


def main(argv: list[str] | None = None) -> int:
    """Run `netspec` with these arguments (those of the process by default) and return its exit code."""
    from netspec.cli.parser import run

    return run(argv)
