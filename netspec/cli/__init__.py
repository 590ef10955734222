"""The command line: one verb a file, each of which imports what it needs when it runs."""

from netspec.cli.dispatch import main

__all__ = ["main"]
