"""What a system that is constant in time answers to an impulse, as matrices for chunks of C steps: k_t = c^T A^t b.

Sequences are rows, so that one product serves all that share A, b and c, and chunks of real numbers meet complex
matrices in one real product.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import torch
import torch.nn.functional as F

from dsf.algebra import dense
from dsf.operators import Dense, Operator, matrix_product
from dsf.tree import tree_map
from dsf.values import value

from .products import CLOSED, product


@dataclass(frozen=True)
class Layout:
    """Sequences that share A, b, c are rows of one product: [B, S C, H, p] is [B', H', S B" H" p, C], groups B' H'."""

    groups: tuple[int, int]
    members: tuple[int, int]
    channels: int

    @staticmethod
    def of(known: list, u: torch.Tensor) -> Layout:
        B, H = (max(leaf.shape[axis] for leaf in known) for axis in (0, 1))
        return Layout((B, H), (u.shape[0] // B, u.shape[2] // H), u.shape[3])

    def rows(self, u: torch.Tensor, size: int) -> torch.Tensor:
        (B, H), (b, h) = self.groups, self.members
        return u.reshape(B, b, -1, size, H, h, self.channels).permute(0, 4, 2, 1, 5, 6, 3).flatten(2, 5)

    def time(self, y: torch.Tensor) -> torch.Tensor:
        y = y.unflatten(2, (-1, *self.members, self.channels)).permute(0, 3, 2, 6, 1, 4, 5)
        return y.flatten(4, 5).flatten(2, 3).flatten(0, 1)

    def state_rows(self, x: torch.Tensor) -> torch.Tensor:
        (B, H), (b, h) = self.groups, self.members
        return x.reshape(B, b, H, h, *x.shape[2:]).permute(0, 2, 1, 3, 5, 4).flatten(2, 4)

    def state(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(2, (*self.members, -1)).permute(0, 2, 1, 3, 5, 4).flatten(2, 3).flatten(0, 1)


@dataclass(frozen=True)
class Response:
    """On rows: k as a Toeplitz matrix [.., C, C], A^{C-1-j} b [.., C, n], c^T A^{i+1} [.., n, C]; and A^{2^j}."""

    toeplitz: torch.Tensor
    write: torch.Tensor
    read: torch.Tensor
    squares: list[Operator]

    @staticmethod
    def of(A: Operator, b: torch.Tensor, c: torch.Tensor, size: int, before: bool) -> Response:
        squares = _squares(A, b, size)
        write = _orbit(squares, b, size)
        read = _orbit([square.T for square in squares], c, size)
        k = matrix_product(c[..., None, :], write)[..., 0, :]
        if before:
            k = F.pad(k, (1, -1))
        else:
            read = squares[0].T.apply(read)
        return Response(_toeplitz(_flushed(k)), _flushed(write.flip(-1).mT), _flushed(read), squares)

    def run(self, u: torch.Tensor, x: torch.Tensor, real: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """u [.., S rows, C], x [.., rows, n] -> y as u, and the last state."""
        size = u.shape[-1]
        written = _product(u, self.write[..., -size:, :]).unflatten(-2, (-1, x.shape[-2])).unbind(-3)
        steps = [square for j, square in enumerate(self.squares) if size >> j & 1]
        starts = []
        for w in written:
            starts.append(x)
            x = reduce(lambda x, square: square.apply(x), steps, x.mT).mT + w
        read = _real_product if real else _product
        y = read(u, self.toeplitz[..., :size, :size])
        return y + read(torch.stack(starts, -3).flatten(-3, -2), self.read[..., :size]), x


def _squares(A: Operator, b: torch.Tensor, size: int) -> list[Operator]:
    """A^{2^j} for all 2^j <= size, in b's precision: squared in fp64, and a matrix where no structure stays."""
    A = tree_map(lambda leaf: in_precision(leaf, torch.float64), A)
    if not isinstance(A, CLOSED):
        A = Dense(dense(A, b.shape[-1], in_precision(b, torch.float64)))
    wide: list[Operator] = [A]
    while 1 << len(wide) <= size:
        wide.append(product(wide[-1], wide[-1]))
    precision = b.real.dtype
    return [tree_map(lambda leaf: _flushed(in_precision(leaf, precision)), _evaluated(square)) for square in wide]


def _evaluated(A: Operator) -> Operator:
    """A with the numbers that its logarithms stand for: it acts many times."""
    return type(A)(**{name: value(part) for name, part in vars(A).items()})


def _orbit(squares: list[Operator], v: torch.Tensor, size: int) -> torch.Tensor:
    """[v, A v, ..., A^{C-1} v] as columns, by doubling."""
    found = v[..., None]
    for square in squares:
        if missing := size - found.shape[-1]:
            found = torch.cat([found, square.apply(found[..., :missing])], -1)
    return found


def _toeplitz(k: torch.Tensor) -> torch.Tensor:
    """K_ji = k_{i-j} for j <= i, else 0: y = u K on rows.

    >>> _toeplitz(torch.tensor([1.0, 2.0, 3.0]))
    tensor([[1., 2., 3.],
            [0., 1., 2.],
            [0., 0., 1.]])
    """
    size = k.shape[-1]
    return F.pad(k, (size - 1, 0)).unfold(-1, size, 1).flip(-2)


def _flushed(x: torch.Tensor) -> torch.Tensor:
    """0 for what is denormal: such powers of a decay make products on a CPU ten times slower. Gradients pass."""
    if x.is_complex():
        return torch.view_as_complex(_flushed(torch.view_as_real(x)))
    if not x.is_floating_point():
        return x
    return torch.where(x.abs() < torch.finfo(x.dtype).tiny, x - x.detach(), x)


def in_precision(leaf: torch.Tensor, precision: torch.dtype) -> torch.Tensor:
    if leaf.is_complex():
        return leaf.to(precision.to_complex())
    return leaf.to(precision) if leaf.is_floating_point() else leaf


def _product(x: torch.Tensor, M: torch.Tensor) -> torch.Tensor:
    """x M; of real x and complex M as one real product."""
    if x.is_complex() or not M.is_complex():
        return matrix_product(x, M)
    return torch.view_as_complex((x @ torch.view_as_real(M).flatten(-2)).unflatten(-1, (-1, 2)))


def _real_product(x: torch.Tensor, M: torch.Tensor) -> torch.Tensor:
    """Re(x M) as one real product."""
    if not M.is_complex() or not x.is_complex():
        return x.real @ M.real.contiguous()
    return torch.view_as_real(x).flatten(-2) @ torch.stack([M.real, -M.imag], -2).flatten(-3, -2)
