"""Did you mean …? One answer for every name that a user can misspell."""

from __future__ import annotations

from collections.abc import Iterable


def suggest(word: str, candidates: Iterable[str]) -> str | None:
    """The candidate that `word` most likely meant, or None where nothing is near.

    Letter case is ignored. A candidate is near when a third of the word's letters or fewer differ (one for short words;
    neighbours that changed places count once), when it says the same words in another order (`channels_out`), or when
    `word` is its beginning (`Conv`). Of equally near ones the first wins.
    """
    typed = word.casefold()
    limit = max(len(typed), 3) // 3
    best: str | None = None
    best_cost = limit + 1
    for candidate in candidates:
        cost = _cost(typed, candidate.casefold(), best_cost)
        if cost < best_cost:
            best, best_cost = candidate, cost
    return best


def _cost(typed: str, name: str, bound: int) -> int:
    if typed == name:
        return 0
    if "_" in typed and sorted(typed.split("_")) == sorted(name.split("_")):
        return 1
    cost = _distance(typed, name) if abs(len(typed) - len(name)) < bound else bound
    if cost >= len(typed):  # nothing of the word is left: `x` is no misspelt `y`
        cost = bound
    if len(typed) >= 3 and name.startswith(typed):
        cost = min(cost, max(len(typed), 3) // 3)
    return cost


def _distance(a: str, b: str) -> int:
    """Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b`."""
    before: list[int] = []
    last = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row = [i]
        for j, y in enumerate(b, 1):
            cost = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before, last = last, row
    return last[-1]
