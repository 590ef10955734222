"""What goes wrong while a spec runs, told to the person: `RunError` carries a code, a sentence and a mend."""

from __future__ import annotations


class RunError(Exception):
    """A run can't go on for a reason that the user can act on. The CLI prints it and exits with 3."""

    def __init__(self, code: str, message: str, *, help: str | None = None, path: str | None = None) -> None:
        """path: the layer of the model that it is about, where it is about one."""
        super().__init__(message)
        self.path = path
        self.code = code
        self.message = message
        self.help = help

    def __str__(self) -> str:
        return f"{self.code} {self.message}" + (f"\n  help: {self.help}" if self.help else "")


class MissingPackage(RunError):
    """An optional library that the spec needs is not installed."""

    def __init__(self, what: str, package: str, extra: str) -> None:
        super().__init__(
            "NS911",
            f"{what} needs the package {package}, which is not installed",
            help=f"pip install 'netspec[{extra}]'",
        )
