"""Targets that depend on few coordinates (sums of products), and two exponents that measure how hard they are to learn.

A target is written as terms joined by +. Each term is a product of coordinates (numbered from 1) joined by *, with an
optional degree: `1+2+3+1*2*3` is x₁ + x₂ + x₃ + x₁x₂x₃, and `1^2*2` is He₂(x₁) x₂ / √2, where He₂(x) = x² - 1. Powers
are Hermite polynomials divided by √(degree!), so that on Gaussian inputs each term has mean 0 and variance 1, and
different terms are uncorrelated.
"""

import dataclasses
import math
import re

import numpy as np

from linearized.base.errors import UserError, shown

MOST_TERMS, MOST_DEGREE, MOST_INDEX = 64, 10, 1000
_FACTOR = re.compile(r"([1-9][0-9]{0,3})(?:\^([1-9][0-9]?))?")

Term = tuple[tuple[int, int], ...]  # (coordinate from 0, degree), sorted


@dataclasses.dataclass(frozen=True)
class IndexTarget:
    """A target function: a sum of products of Hermite polynomials of few coordinates, each product with coefficient 1.

    Attributes:
        terms: For each product, the pairs (index of the coordinate from 0, degree of its Hermite polynomial).
    """

    terms: tuple[Term, ...]

    @property
    def count(self) -> int:
        """Largest number r, counted from 1, of a coordinate on which the target depends."""
        return 1 + max(index for term in self.terms for index, _ in term)

    @property
    def coordinates(self) -> list[int]:
        """The coordinates on which the target depends, counted from 0, in increasing order."""
        return sorted({index for term in self.terms for index, _ in term})

    @property
    def information_exponent(self) -> int:
        """The lowest total degree of a term (Ben Arous et al. 2021).

        On Gaussian inputs, the target is uncorrelated with all polynomials of lower degree.
        """
        return min(sum(degree for _, degree in term) for term in self.terms)

    @property
    def leap_exponent(self) -> int:
        """The largest number of new degrees that have to be learned at once (Abbe, Boix-Adserà & Misiakiewicz 2023).

        Terms are learned one by one. The cost of a term is the sum of its degrees in coordinates that no earlier term
        contains. The exponent is the largest cost, in the order of terms that makes it smallest.
        """
        known, left, leap = set(), set(self.terms), 0
        while left:
            costs = {term: sum(degree for index, degree in term if index not in known) for term in left}
            next_term = min(left, key=lambda term: (costs[term], term))
            leap = max(leap, costs[next_term])
            known |= {index for index, _ in next_term}
            left.remove(next_term)
        return leap

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return the value (n,) of the target for rows (n, d), in float64."""
        total = np.zeros(len(x))
        for term in self.terms:
            product = np.ones(len(x))
            for index, degree in term:
                product *= _hermite(x[:, index].astype(np.float64), degree)
            total += product
        return total


def index_target(text: str) -> IndexTarget:
    """Parse a target such as "1+2+3+1*2*3", a sum of products of coordinates counted from 1; "1^2" has the degree 2.

    Raises `UserError` for text that cannot be read, for a term that occurs twice, and for too many terms, degrees or
    coordinates.
    """
    pieces = text.replace(" ", "").split("+")
    if len(pieces) > MOST_TERMS:
        raise UserError(f"--index_target has at most {MOST_TERMS} terms. Received: {len(pieces)}.")
    terms = [_term(piece, text) for piece in pieces]
    if len(set(terms)) < len(terms):
        raise UserError(f"--index_target names a term twice. Received: {shown(text)}.")
    return IndexTarget(tuple(terms))


def _term(piece: str, text: str) -> Term:
    degrees: dict[int, int] = {}
    for factor in piece.split("*"):
        found = _FACTOR.fullmatch(factor)
        if found is None or int(found[1]) > MOST_INDEX:
            raise UserError(
                f"--index_target is a sum of products of coordinates, such as 1+2+3+1*2*3 or 1^2. Received: "
                f"{shown(text)}."
            )
        index = int(found[1]) - 1
        if index in degrees:
            raise UserError(f"--index_target writes powers as 1^2, not 1*1. Received: {shown(text)}.")
        degrees[index] = int(found[2] or 1)
    if sum(degrees.values()) > MOST_DEGREE:
        raise UserError(f"--index_target has terms of degree {MOST_DEGREE} at most. Received: {shown(text)}.")
    return tuple(sorted(degrees.items()))


def _hermite(x: np.ndarray, degree: int) -> np.ndarray:
    return np.polynomial.hermite_e.hermeval(x, [0.0] * degree + [1 / math.sqrt(math.factorial(degree))])
