"""Sequences of different lengths, one behind the other on the axis of time, as kernels that take them so are told."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

import torch


class Outline(NamedTuple):
    """Of a packing, in powers of two: sequences, tokens of the longest, different lengths. Choices rest on these."""

    sequences: int
    longest: int
    lengths: int


REMEMBERED = 64  # tables: the layers of a model ask for the same ones


@dataclass(frozen=True)
class Packing:
    """The lengths of sequences that lie one behind the other; each is cut into units of so many steps, the last one
    shorter.

    >>> packing = Packing((3, 0, 5))
    >>> packing.total, packing.longest, packing.units(2)
    (8, 5, 5)
    >>> packing.table(2, torch.device("cpu")).tolist()
    [[0, 0], [3, 2], [3, 2], [8, 5]]
    >>> packing.owners(2, torch.device("cpu")).tolist()
    [0, 0, 2, 2, 2]
    """

    lengths: tuple[int, ...]

    @property
    def count(self) -> int:
        return len(self.lengths)

    @property
    def total(self) -> int:
        return sum(self.lengths)

    @property
    def longest(self) -> int:
        return max(self.lengths)

    @property
    def outline(self) -> Outline:
        sizes = self.count, self.longest, len(set(self.lengths))
        return Outline(*(1 << (size - 1).bit_length() for size in sizes))

    def units(self, steps: int) -> int:
        return sum(-(-length // steps) for length in self.lengths)

    def table(self, steps: int, device: torch.device) -> torch.Tensor:
        """The first step and the first unit of every sequence, and the ends of the last one: [N + 1, 2]."""
        return _table(self, steps, device)

    def owners(self, steps: int, device: torch.device) -> torch.Tensor:
        """The sequence of every unit: [units]."""
        return _owners(self, steps, device)

    def micro(self, steps: int) -> Packing:
        """Of sequences with so many steps for each of these."""
        return Packing(tuple(steps * length for length in self.lengths))

    def each(self, x: torch.Tensor) -> torch.Tensor:
        """The first step of x [1, T, ...] for every sequence, as a batch of them has it: sizes, dtype and device."""
        return x[:, :1].expand(self.count, *(-1,) * (x.dim() - 1))

    def apart(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """A leaf [1, T | 1, ...] of every sequence; what is constant in time as it is."""
        return x.split(self.lengths, 1) if x.shape[1] == self.total else (x,) * self.count


@lru_cache(REMEMBERED)
def _table(packing: Packing, steps: int, device: torch.device) -> torch.Tensor:
    units = (-(-length // steps) for length in packing.lengths)
    rows = list(zip(accumulate(packing.lengths, initial=0), accumulate(units, initial=0), strict=True))
    return torch.tensor(rows, device=device)


@lru_cache(REMEMBERED)
def _owners(packing: Packing, steps: int, device: torch.device) -> torch.Tensor:
    owners = [i for i, length in enumerate(packing.lengths) for _ in range(0, length, steps)]
    return torch.tensor(owners, dtype=torch.int32, device=device)
