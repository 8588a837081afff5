"""Where the memory of fused_diagonal.py lies: batch, column, time, head and row of every input and output.

Lanes are heads (`along`) or rows; along them entries lie side by side. What has an entry per head and row and no time,
as a state has, lies in blocks of as many heads as there are lanes, entry after entry; or head after head.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F

from ..expressions import Value
from .rows import room

Placed = tuple[torch.Tensor, tuple[int, ...]]  # memory, and its strides of batch, column, time, head and row


class Layout(NamedTuple):
    """The sizes of a run of `columns` columns; lanes: of a row."""

    B: int
    T: int
    H: int
    n: int
    columns: int
    groups: int
    lanes: int
    along: bool

    @property
    def size(self) -> int:
        """Entries of a state."""
        return (room(self.H, self.lanes) if self.along else self.H) * self.n

    # ---------------------------------------------------------------------------------------------------- in blocks
    def packed(self, x: torch.Tensor) -> torch.Tensor:
        """[..., H, n] -> [..., size]; zeros behind H."""
        if self.along:
            x = F.pad(x, (0, 0, 0, -x.shape[-2] % self.lanes)).unflatten(-2, (-1, self.lanes)).mT
        return x.contiguous().flatten(-3 if self.along else -2)

    def unpacked(self, x: torch.Tensor) -> torch.Tensor:
        """[..., size] -> [..., H, n]."""
        if not self.along:
            return x.unflatten(-1, (self.H, self.n))
        return x.unflatten(-1, (-1, self.n, self.lanes)).mT.flatten(-3, -2)[..., : self.H, :]

    def state(self, x: torch.Tensor) -> torch.Tensor:
        """[B, H, n, p] -> [B, p, size], a copy."""
        return self.packed(x.permute(0, 3, 1, 2)).clone()

    def of_state(self, x: torch.Tensor) -> torch.Tensor:
        return self.unpacked(x).permute(0, 2, 3, 1)

    # ------------------------------------------------------------------------------------------------------- inputs
    def signal(self, x: torch.Tensor, value: Value) -> Placed:
        """A signal [B | 1, T | 1, H | 1, n | 1], or a drive that has rows."""
        if value.heads and value.rows and not value.time:
            x = self.packed(x[:, 0])
            return x, (_stride(x, 0), 0, 0, 0, 0)
        x = _side_by_side(x, 2 if self.along else 3)
        batch, time, head, row = (_stride(x, axis) for axis in range(4))
        return x, (batch, 0, time, head, row)

    def drive(self, u: torch.Tensor) -> Placed:
        """u [B, T, H, p], a number of each head and column."""
        u = _side_by_side(u, 2) if self.along else u
        batch, time, head, column = (_stride(u, axis) for axis in range(4))
        return u, (batch, column, time, head, 0)

    # ------------------------------------------------------------------------------------------------------ outputs
    def output(self, value: Value, like: torch.Tensor) -> Placed:
        """Memory [p, B, T, groups | H, n] for a gradient with the axes of a signal; zeros where it is a sum."""
        if not value.time and value.rows:
            x = like.new_zeros(self.columns, self.B, self.size)
            return x, (x.stride(1), x.stride(0), 0, 0, 0)
        T, H = self.T if value.time else 1, self.H if value.heads else self.groups
        fresh = like.new_empty if value.time and value.heads else like.new_zeros
        if value.rows and value.heads and self.along:
            x = fresh(self.columns, self.B, T, self.n, H).mT
        else:
            x = fresh(self.columns, self.B, T, H, self.n if value.rows else 1)
        column, batch, time, head, row = x.stride()
        return x, (batch, column, time if value.time else 0, head, row if value.rows else 0)

    def of_output(self, x: torch.Tensor, value: Value) -> torch.Tensor:
        """[B, T | 1, groups | H, n | 1]: the sum over columns."""
        if not value.time and value.rows:
            x = self.unpacked(x)[:, :, None]
        return x.sum(0) if self.columns > 1 else x[0]

    def of_drive(self, like: torch.Tensor, rows: bool) -> Placed:
        """Memory for y, or for the gradient of u."""
        if rows:
            x = like.new_empty(self.B, self.T, self.H, self.n)
            x = x.new_empty(self.B, self.T, self.n, self.H).mT if self.along else x
            return x, (x.stride(0), 0, *x.stride()[1:])
        x = like.new_empty(self.B, self.T, self.columns, self.H).mT
        return x, (x.stride(0), x.stride(3), x.stride(1), x.stride(2), 0)


def _stride(x: torch.Tensor, axis: int) -> int:
    return 0 if x.shape[axis] == 1 else x.stride(axis)


def _side_by_side(x: torch.Tensor, axis: int) -> torch.Tensor:
    """x with the entries along an axis behind each other."""
    if x.shape[axis] == 1 or x.stride(axis) == 1:
        return x
    return x.transpose(axis, 3).contiguous().transpose(axis, 3)
