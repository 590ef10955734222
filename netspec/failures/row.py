"""One usual failure of PyTorch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Failure:
    """What torch says, what that means in terms of a spec, and the mend; the page of the code says more.

    patterns: regular expressions, one of which is found in the message. types: names of exception classes, one of which
    is the exception's or a base of it. With both, both have to fit.
    """

    code: str
    means: str
    help: str
    patterns: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
