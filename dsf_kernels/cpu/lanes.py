"""Rows of lanes, the vectors of a CPU, inside functions that numba compiles: loads, stores, arithmetic, sums.

LLVM vectorises a plain loop over several arrays only behind checks that they do not overlap; on rows of 64 entries the
checks cost more than the work. Here a row of S is one value: 256 bytes where registers have 64, split by the compiler.
Rows take + - * /, and x * y + z is rounded once where the CPU can. The functions are typed and lowered for numba by
lowering.py; Python itself never runs them. Indices are not checked.
"""

from __future__ import annotations

from typing import Any

NARROW = 64  # bytes of the rows that go through horizontal sums


def pointer(address: Any, kind: Any) -> Any:
    """The memory at an address (`Tensor.data_ptr()`), of entries of the dtype of the number `kind`; p[i] is an entry.

    Arrays would be counted at every call of a function that takes one.
    """
    raise NotImplementedError


def wide(buffer: Any) -> Any:
    """A row of zeros, as wide as four rows stay in registers with what a loop needs."""
    raise NotImplementedError


def narrow(buffer: Any) -> Any:
    """A row of zeros of 64 bytes."""
    raise NotImplementedError


def single(buffer: Any) -> Any:
    """A row of one lane, for what is left of a loop."""
    raise NotImplementedError


def width(row: Any) -> Any:
    """The number of lanes."""
    raise NotImplementedError


def splat(x: Any, like: Any) -> Any:
    """A number in every lane."""
    raise NotImplementedError


def spread(buffer: Any, at: Any, like: Any = None) -> Any:
    """buffer[at] in every lane (of a narrow row)."""
    raise NotImplementedError


def load(buffer: Any, at: Any, like: Any = None) -> Any:
    """buffer[at : at + width] (of a narrow row)."""
    raise NotImplementedError


def store(buffer: Any, at: Any, row: Any) -> Any:
    """buffer[at : at + width] = row."""
    raise NotImplementedError


def every_fourth(buffer: Any, at: Any, like: Any) -> Any:
    """buffer[at], buffer[at + 4], ..."""
    raise NotImplementedError


def exponential(row: Any) -> Any:
    """e^x to one or two units in the last place; below the smallest normal number, and at -oo, exactly 0."""
    raise NotImplementedError


def exponential_less_one(row: Any) -> Any:
    """e^x - 1, to a few units in the last place where x is small too."""
    raise NotImplementedError


def logarithm(row: Any) -> Any:
    """log x to one or two units in the last place; -oo at 0, NaN below."""
    raise NotImplementedError


def root(row: Any) -> Any:
    """The square root."""
    raise NotImplementedError


def less(x: Any, y: Any) -> Any:
    """1 in the lanes where x < y, else 0."""
    raise NotImplementedError


def choose(mask: Any, x: Any, y: Any) -> Any:
    """x in the lanes where mask is not 0, else y."""
    raise NotImplementedError


def reciprocal(row: Any) -> Any:
    """1 / x."""
    raise NotImplementedError


def fold(x: Any, y: Any) -> Any:
    """x y, its parts of 64 bytes added up."""
    raise NotImplementedError


def total(row: Any) -> Any:
    """The sum of the lanes of a narrow row."""
    raise NotImplementedError


def totals(buffer: Any, at: Any, step: Any) -> Any:
    """The sums of the lanes of the narrow rows at `at` + i `step`, as many as each has lanes."""
    raise NotImplementedError


def add_totals(buffer: Any, at: Any, x: Any, y: Any, z: Any, w: Any) -> Any:
    """buffer[at : at + 4] += the sums of the lanes of four narrow rows, all at once: a third of the shuffles."""
    raise NotImplementedError
