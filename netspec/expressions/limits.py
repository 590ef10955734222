"""The budget of one evaluation: steps, items, letters, bits. Whatever a spec says, the answer comes soon and small."""

from __future__ import annotations

from typing import Any

from netspec.expressions.functions import MAX_BITS, MAX_EXPONENT, MAX_ITEMS, MAX_TERMS, LimitError

MAX_STEPS = 400_000
"""Nodes visited plus list items touched in one evaluation: well under a second."""


class ExpressionError(Exception):
    """A value cannot be computed: the words to show, the mend, the name that is unknown, and the diagnostic's code."""

    def __init__(
        self,
        message: str,
        help: str | None = None,
        name: str | None = None,
        *,
        code: str = "NS211",
        reported: bool = False,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.help = help
        self.name = name
        self.code = code
        self.reported = reported
        """The text could not be read, and a diagnostic said so already."""


class Budget:
    """What is left for one call of `evaluate`. Past it, ExpressionError is raised, where it can be before the work."""

    def __init__(self) -> None:
        self.steps = MAX_STEPS

    def spend(self, steps: int) -> None:
        self.steps -= steps
        if self.steps < 0:
            raise ExpressionError("the expression takes too many steps to compute", code="NS212")

    def foresee(self, op: str, left: Any, right: Any) -> None:
        """Refuse what would be large or slow before it is computed."""
        if op == "**" and isinstance(right, int) and not isinstance(left, float):
            terms = _terms(left)
            most = MAX_EXPONENT if not terms else 64 if len(terms) == 1 else 4
            if abs(right) > most:
                raise LimitError(f"an exponent may be at most {most:,} here")
            self.spend(abs(right) * 20 if terms else 0)  # a size is multiplied out
            if isinstance(left, int) and left.bit_length() * abs(right) > MAX_BITS:
                raise LimitError(f"a whole number may have at most {MAX_BITS:,} bits")
        elif op == "*":
            for items, times in ((left, right), (right, left)):
                if isinstance(items, str | list | tuple) and isinstance(times, int) and len(items) * times > MAX_ITEMS:
                    raise LimitError(f"it may have at most {MAX_ITEMS:,} items")
            products = len(_terms(left)) * len(_terms(right))
            self.spend(products * 20)
            if products > MAX_TERMS:
                raise LimitError("it has too many terms")
        elif op == "%" and isinstance(left, str):
            raise TypeError("text is not formatted with `%`")

    def bounded(self, value: Any) -> Any:
        """The value, once it is known to be within the limits and a number where Python would go on to complex ones."""
        if isinstance(value, int):
            self.bits(value)
        elif isinstance(value, str):
            return self.text(value)
        elif isinstance(value, list):
            count = items_in(value, MAX_ITEMS)
            self.spend(count)
            if count > MAX_ITEMS:
                raise ExpressionError(f"the list is too long: {MAX_ITEMS:,} items are the limit", code="NS212")
        elif isinstance(value, complex):
            raise ExpressionError("a negative number has no real root")
        elif terms := _terms(value):
            if len(terms) > MAX_TERMS:
                raise ExpressionError(f"a size may have at most {MAX_TERMS} terms", code="NS212")
            for _, coefficient in terms:
                self.bits(coefficient)
        return value

    def bits(self, value: int) -> None:
        if value.bit_length() > MAX_BITS:
            raise ExpressionError(f"a whole number is too large: {MAX_BITS:,} bits are the limit", code="NS212")

    def text(self, value: str) -> str:
        self.spend(len(value) // 8)
        if len(value) > MAX_ITEMS:
            raise ExpressionError(f"the text is too long: {MAX_ITEMS:,} letters are the limit", code="NS212")
        return value


def _terms(value: object) -> tuple[Any, ...]:
    """The (monomial, coefficient) pairs of a shapes.Dim, which stands above this module; nothing of anything else."""
    terms = getattr(value, "terms", ()) if type(value).__name__ == "Dim" else ()
    return terms if isinstance(terms, tuple) else ()


def items_in(value: list[Any] | tuple[Any, ...], limit: int) -> int:
    """Items in a list and in the lists inside it; stops counting once past the limit."""
    count, waiting = 0, [value]
    while waiting and count <= limit:
        items = waiting.pop()
        count += len(items)
        waiting.extend(item for item in items[: limit + 1] if isinstance(item, list | tuple))
    return count
