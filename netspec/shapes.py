"""Sizes, shapes and what a shape rule answers.

A size is a plain integer, or a `Dim`: an integer that isn't known yet, kept as a polynomial over symbols with floor
divisions as atoms. Two sizes are the same when their canonical forms are, so `2*(h + 1) - 2` and `2*h` are equal, and
`H // 2 // 2` is `H // 4`. A symbol stands for a size of at least 1, which is what makes some comparisons provable.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import gcd
from typing import NamedTuple


class Undecided(Exception):
    """A question about a symbolic size whose answer depends on the symbol's value."""


class Floor(NamedTuple):
    """The atom `numerator // divisor`, where the division cannot be resolved. A symbolic divisor is at least 1."""

    numerator: Dim
    divisor: Size


Atom = str | Floor
Monomial = tuple[tuple[Atom, int], ...]  # atoms with their powers, sorted; () is the constant term


def _atom_key(atom: Atom) -> tuple[int, str]:
    return (0, atom) if isinstance(atom, str) else (1, _atom_text(atom))


def _monomial_key(monomial: Monomial) -> tuple[int, list[tuple[tuple[int, str], int]]]:
    # Higher degrees first, constants last, then by name: the order in which people write polynomials.
    return (-sum(power for _, power in monomial), [(_atom_key(atom), power) for atom, power in monomial])


class Dim:
    """A symbolic size. `Dim("N")` is a symbol; arithmetic on it gives an `int` where the symbols cancel, else a `Dim`.

    `+ - * // %` and `**` (by a non-negative integer) work with integers and `Dim`s on either side. `==` compares
    canonical forms. `< <= > >=` answer only what holds for every value of the symbols, and raise `Undecided` otherwise.
    """

    __slots__ = ("_hash", "_terms")
    _terms: tuple[tuple[Monomial, int], ...]

    def __init__(self, symbol: str) -> None:
        self._terms = ((((symbol, 1),), 1),)
        self._hash = hash(self._terms)

    @property
    def terms(self) -> tuple[tuple[Monomial, int], ...]:
        """(monomial, coefficient) pairs in canonical order; a monomial is a tuple of (symbol or Floor, power)."""
        return self._terms

    @property
    def symbols(self) -> frozenset[str]:
        found: set[str] = set()
        for monomial, _ in self._terms:
            for atom, _ in monomial:
                if isinstance(atom, str):
                    found.add(atom)
                else:
                    found |= symbols(atom.numerator) | symbols(atom.divisor)
        return frozenset(found)

    def substitute(self, values: Mapping[str, Size]) -> Size:
        """The size with symbols replaced; those not in `values` stay."""
        if self.symbols.isdisjoint(values):
            return self
        total: Size = 0
        for monomial, coefficient in self._terms:
            product: Size = coefficient
            for atom, power in monomial:
                if isinstance(atom, str):
                    factor: Size = values.get(atom, Dim(atom))
                else:
                    factor = _substitute(atom.numerator, values) // _substitute(atom.divisor, values)
                product = product * factor**power
            total = total + product
        return total

    def __add__(self, other: object) -> Size:
        if not isinstance(other, int | Dim):
            return NotImplemented
        sums = dict(self._terms)
        for monomial, coefficient in _terms_of(other):
            sums[monomial] = sums.get(monomial, 0) + coefficient
        return _from_terms(sums)

    def __mul__(self, other: object) -> Size:
        if not isinstance(other, int | Dim):
            return NotImplemented
        products: dict[Monomial, int] = {}
        for left, a in self._terms:
            for right, b in _terms_of(other):
                powers = dict(left)
                for atom, power in right:
                    powers[atom] = powers.get(atom, 0) + power
                monomial = tuple(sorted(powers.items(), key=lambda pair: _atom_key(pair[0])))
                products[monomial] = products.get(monomial, 0) + a * b
        return _from_terms(products)

    def __neg__(self) -> Size:
        return self * -1

    def __pos__(self) -> Size:
        return self

    def __sub__(self, other: object) -> Size:
        if not isinstance(other, int | Dim):
            return NotImplemented
        return self + other * -1

    def __rsub__(self, other: object) -> Size:
        if not isinstance(other, int):
            return NotImplemented
        return self * -1 + other

    def __pow__(self, exponent: object) -> Size:
        if not isinstance(exponent, int) or exponent < 0:
            return NotImplemented
        result: Size = 1
        for _ in range(exponent):
            result = result * self
        return result

    def __floordiv__(self, other: object) -> Size:
        if isinstance(other, int):
            return _divide_by_integer(self, int(other))
        if isinstance(other, Dim):
            return _divide_by_dim(self, other)
        return NotImplemented

    def __rfloordiv__(self, other: object) -> Size:
        if not isinstance(other, int):
            return NotImplemented
        return 0 if other == 0 else _divide_by_dim(int(other), self)

    def __mod__(self, other: object) -> Size:
        if not isinstance(other, int | Dim):
            return NotImplemented
        return self - self // other * other

    def __rmod__(self, other: object) -> Size:
        if not isinstance(other, int):
            return NotImplemented
        return other - other // self * self

    __radd__ = __add__
    __rmul__ = __mul__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dim) and self._terms == other._terms

    def __hash__(self) -> int:
        return self._hash

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, int | Dim):
            return NotImplemented
        low, high = bounds(self - other)
        if high is not None and high < 0:
            return True
        if low is not None and low >= 0:
            return False
        raise Undecided(f"whether {self} is less than {other} depends on {', '.join(sorted(self.symbols))}")

    def __gt__(self, other: object) -> bool:
        if not isinstance(other, int | Dim):
            return NotImplemented
        low, high = bounds(self - other)
        if low is not None and low > 0:
            return True
        if high is not None and high <= 0:
            return False
        raise Undecided(f"whether {self} is more than {other} depends on {', '.join(sorted(self.symbols))}")

    def __ge__(self, other: object) -> bool:
        return not self < other

    def __le__(self, other: object) -> bool:
        return not self > other

    def __bool__(self) -> bool:
        if bounds(self)[0] not in (None, 0):
            return True
        raise Undecided(f"whether {self} is zero depends on {', '.join(sorted(self.symbols))}")

    def __str__(self) -> str:
        text = ""
        for monomial, coefficient in self._terms:
            sign = "-" if coefficient < 0 else "+"
            size = abs(coefficient)
            factors = [] if size == 1 and monomial else [str(size)]
            for atom, power in monomial:
                alone = len(monomial) == 1 and power == 1 and coefficient == 1
                name = _atom_text(atom) if alone or isinstance(atom, str) else f"({_atom_text(atom)})"
                factors.append(name if power == 1 else f"{name}**{power}")
            product = "*".join(factors)
            if not text:
                text = product if coefficient > 0 else f"-{product}"
            else:
                text += f" {sign} {product}"
        return text

    def __repr__(self) -> str:
        return f"Dim({str(self)!r})"


Size = int | Dim


def _atom_text(atom: Atom) -> str:
    if isinstance(atom, str):
        return atom
    numerator = str(atom.numerator) if _is_single(atom.numerator) else f"({atom.numerator})"
    divisor = str(atom.divisor) if isinstance(atom.divisor, int) or _is_symbol(atom.divisor) else f"({atom.divisor})"
    return f"{numerator} // {divisor}"


def _is_symbol(dim: Dim) -> bool:
    return len(dim.terms) == 1 and dim == Dim(str(dim))


def _is_single(dim: Dim) -> bool:
    return len(dim.terms) == 1 and dim.terms[0][1] > 0


def _terms_of(size: Size) -> Iterable[tuple[Monomial, int]]:
    if isinstance(size, Dim):
        return size.terms
    return (((), int(size)),)  # int(): an integer that remembers its origin becomes a plain coefficient


def _from_terms(terms: Mapping[Monomial, int]) -> Size:
    kept = {monomial: coefficient for monomial, coefficient in terms.items() if coefficient}
    if not kept:
        return 0
    if len(kept) == 1 and () in kept:
        return kept[()]
    dim = object.__new__(Dim)
    dim._terms = tuple(sorted(kept.items(), key=lambda pair: _monomial_key(pair[0])))
    dim._hash = hash(dim._terms)
    return dim


def _floor_atom(numerator: Dim, divisor: Size) -> Size:
    return _from_terms({((Floor(numerator, divisor), 1),): 1})


def _divide_by_integer(dim: Dim, divisor: int) -> Size:
    if divisor == 0:
        raise ZeroDivisionError("integer division or modulo by zero")
    if divisor < 0:
        negated = dim * -1
        return negated // -divisor
    # What divides evenly leaves the floor: (7*h + 5) // 2 is 3*h + 2 + (h + 1) // 2.
    whole = _from_terms({monomial: coefficient // divisor for monomial, coefficient in dim.terms})
    rest = {monomial: coefficient % divisor for monomial, coefficient in dim.terms if coefficient % divisor}
    constant = rest.pop((), 0)
    if not rest:
        return whole
    common = gcd(divisor, *rest.values())
    divisor //= common
    rest = {monomial: coefficient // common for monomial, coefficient in rest.items()}
    constant //= common
    if divisor == 1:
        return whole + _from_terms({**rest, (): constant})
    if len(rest) == 1:
        ((monomial, coefficient),) = rest.items()
        if coefficient == 1 and len(monomial) == 1 and monomial[0][1] == 1 and isinstance(monomial[0][0], Floor):
            inner = monomial[0][0]
            if isinstance(inner.divisor, int):  # (a // b + c) // d is (a + b*c) // (b*d)
                return whole + (inner.numerator + inner.divisor * constant) // (inner.divisor * divisor)
    numerator = _from_terms({**rest, (): constant})
    assert isinstance(numerator, Dim)
    return whole + _floor_atom(numerator, divisor)


def _divide_by_dim(size: Size, divisor: Dim) -> Size:
    terms = list(_terms_of(size))
    if len(divisor.terms) == 1:
        # Terms that the divisor's single term divides leave the floor, as they do for an integer divisor.
        (monomial, coefficient) = divisor.terms[0]
        whole: dict[Monomial, int] = {}
        rest: dict[Monomial, int] = {}
        for term, factor in terms:
            quotient = _monomial_quotient(term, monomial)
            if quotient is not None and factor % coefficient == 0:
                whole[quotient] = factor // coefficient
            else:
                rest[term] = factor
        left = _from_terms(rest)
        result = _from_terms(whole)
    else:
        multiple = _whole_multiple(terms, divisor)
        if multiple is not None:
            return multiple
        left, result = size, 0
    if isinstance(left, int):
        if left == 0 or _within(left, divisor):
            return result
        constant = object.__new__(Dim)
        constant._terms = (((), left),)
        constant._hash = hash(constant._terms)
        return result + _floor_atom(constant, divisor)
    return result + _floor_atom(left, divisor)


def _within(value: int, divisor: Dim) -> bool:
    """Whether 0 <= value < divisor for every value of the symbols."""
    low = bounds(divisor)[0]
    return low is not None and 0 <= value < low


def _monomial_quotient(monomial: Monomial, divisor: Monomial) -> Monomial | None:
    powers = dict(monomial)
    for atom, power in divisor:
        if powers.get(atom, 0) < power:
            return None
        powers[atom] -= power
    return tuple((atom, power) for atom, power in powers.items() if power)


def _whole_multiple(terms: list[tuple[Monomial, int]], divisor: Dim) -> int | None:
    if len(terms) != len(divisor.terms):
        return None
    ratios = set()
    for (monomial, coefficient), (other, by) in zip(terms, divisor.terms, strict=True):
        if monomial != other or coefficient % by:
            return None
        ratios.add(coefficient // by)
    return ratios.pop() if len(ratios) == 1 else None


def _substitute(size: Size, values: Mapping[str, Size]) -> Size:
    return size.substitute(values) if isinstance(size, Dim) else size


def bounds(size: Size) -> tuple[int | None, int | None]:
    """What is known of a size whatever its symbols are (each at least 1): (lowest, highest), None where unbounded."""
    if isinstance(size, int):
        return size, size
    low: int | None = 0
    high: int | None = 0
    for monomial, coefficient in size.terms:
        least = 1
        most = None if monomial else 1
        for atom, power in monomial:
            below = 1 if isinstance(atom, str) else _floor_low(atom)
            if below is None:
                return None, None
            least *= below**power
        if coefficient < 0:
            least_term: int | None = None if most is None else coefficient * most
            most_term: int | None = coefficient * least
        else:
            least_term, most_term = coefficient * least, (None if most is None else coefficient * most)
        low = None if low is None or least_term is None else low + least_term
        high = None if high is None or most_term is None else high + most_term
    return low, high


def _floor_low(atom: Floor) -> int | None:
    """A lower bound of a floor division that is never negative, or None where it may be."""
    low = bounds(atom.numerator)[0]
    if low is None or low < 0:
        return None
    return low // atom.divisor if isinstance(atom.divisor, int) else 0


def provably_less(a: Size, b: Size) -> bool:
    """Whether a < b for every value of the symbols."""
    if isinstance(a, int) and isinstance(b, int):
        return a < b
    high = bounds(a - b)[1]
    return high is not None and high < 0


def equal(a: Size, b: Size) -> bool:
    """Whether two sizes are the same for every value of the symbols."""
    return a == b


def symbols(thing: Size | Iterable[Size]) -> frozenset[str]:
    """The symbols of a size or of all sizes of a shape."""
    if isinstance(thing, Dim):
        return thing.symbols
    if isinstance(thing, int):
        return frozenset()
    return frozenset().union(*(symbols(part) for part in thing))


def substitute(shape: Iterable[Size], values: Mapping[str, Size]) -> tuple[Size, ...]:
    """The shape with symbols replaced by sizes."""
    return tuple(_substitute(size, values) for size in shape)


def solve(pattern: Size, symbol: str, value: Size) -> Size | None:
    """The value of `symbol` for which `pattern` equals `value`, where the pattern is `a*symbol + b` (`16*h`, `T + 1`).

    None where the pattern is of another form or no positive integer fits: `16*h` is never 30.
    """
    if not isinstance(pattern, Dim):
        return None
    slope = dict(pattern.terms).get(((symbol, 1),), 0)
    offset = pattern - slope * Dim(symbol)
    if slope == 0 or symbol in symbols(offset):
        return None
    rest = value - offset
    answer = rest // slope
    if answer * slope != rest or provably_less(answer, 1):
        return None
    return answer


TEXT = "str"
"""The dtype of an input that is a text: `{mode: {dtype: str}}`."""


@dataclass(frozen=True, slots=True)
class TensorType:
    """A tensor's shape and dtype, as far as they are known before anything runs. dtype is torch's name, `float32`."""

    shape: tuple[Size, ...]
    dtype: str = "float32"

    def __str__(self) -> str:
        return "text" if self.is_text else f"[{', '.join(str(size) for size in self.shape)}]"

    @property
    def is_text(self) -> bool:
        """Whether it is no tensor but a text, which chooses among modules at run time."""
        return self.dtype == TEXT


UNKNOWN = TensorType((), "unknown")
"""The type of a field of a batch of which the data tell nothing before they are read."""


@dataclass(frozen=True, slots=True)
class ListType:
    """A list or tuple of tensors, such as the result of `chunk`.

    Where their number is not known there is an `element` that all of them are, and no items. The symbols in `own` then
    stand for sizes that each tensor has for itself; all others are the same in every one of them.
    """

    items: tuple[TensorType, ...]
    element: TensorType | None = None
    own: frozenset[str] = frozenset()
    count: Size = 0
    """How many there are, where that is not known."""

    def __str__(self) -> str:
        if self.element is not None:
            return f"list of any number of {self.element}"
        return f"list of {', '.join(str(item) for item in self.items)}" if self.items else "empty list"

    @property
    def members(self) -> tuple[TensorType, ...]:
        """The different types in it: one for each tensor, or one for all."""
        return self.items if self.element is None else (self.element,)

    def with_members(self, members: Iterable[TensorType]) -> ListType:
        """A list of as many tensors, of these types."""
        if self.element is None:
            return ListType(tuple(members))
        (element,) = members
        return ListType((), element, self.own, self.count)

    def __iter__(self) -> Iterator[TensorType]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a rule refuses its inputs, in words a user can act on.

    `ports` names the inputs and `argument` the argument that are to blame, so that the caller can point at them.
    """

    message: str
    help: str | None = None
    ports: tuple[str, ...] = ()
    argument: str | None = None
    code: str = "NS401"
