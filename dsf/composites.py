"""Operators made of operators: sums, products, blocks, and the micro-steps of one token."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import torch

from .operators import Dense, Operator
from .tree import leaves, tree_map
from .values import column


@dataclass(frozen=True)
class Block(Operator):
    """A square matrix of operators of one size n; the state is stacked along n: [..., J n, p]."""

    rows: tuple[tuple[Operator, ...], ...]

    def apply(self, x):
        J, n = len(self.rows), x.shape[-2] // len(self.rows)
        parts = [x[..., j * n : (j + 1) * n, :] for j in range(J)]
        out = [
            reduce(lambda s, t: s + t, (op.apply(part) for op, part in zip(row, parts, strict=True)))
            for row in self.rows
        ]
        return torch.cat(torch.broadcast_tensors(*out), -2) if isinstance(x, torch.Tensor) else np.concatenate(out, -2)

    T = property(lambda self: Block(tuple(tuple(op.T for op in col) for col in zip(*self.rows, strict=True))))

    def scale(self, c):
        return Block(tuple(tuple(c * op for op in row) for row in self.rows))


@dataclass(frozen=True)
class Composed(Operator):
    """left @ right, kept factored: the factors prove more about the spectrum than their product does."""

    left: Operator
    right: Operator

    def apply(self, x):
        return self.left.apply(self.right.apply(x))

    T = property(lambda self: Composed(self.right.T, self.left.T))

    def scale(self, c):
        return Composed(c * self.left, self.right)


@dataclass(frozen=True)
class Sum(Operator):
    """left + right, where no structure holds both."""

    left: Operator
    right: Operator

    def apply(self, x):
        return self.left.apply(x) + self.right.apply(x)

    T = property(lambda self: Sum(self.left.T, self.right.T))

    def scale(self, c):
        return Sum(c * self.left, c * self.right)


@dataclass(frozen=True)
class Product(Operator):
    """A_J ... A_1: the micro-steps of one token, along the axis J of every leaf (before its own axes).

    `steps` is J; 0 leaves it to the leaves, which cannot tell where they are the same at every micro-step.
    """

    factor: Operator
    steps: int = 0

    def factors(self) -> list[Operator]:
        sizes = (leaf.shape[_step_axis(self.factor, leaf)] for leaf in leaves(self.factor))
        return [micro_step(self.factor, j) for j in range(self.steps or max(sizes, default=1))]

    def apply(self, x):
        return reduce(lambda x, A: A.apply(x), self.factors(), x)

    @property
    def T(self):
        transposed = self.factor.T

        def flip(leaf):
            axis = _step_axis(transposed, leaf)
            return leaf.flip(axis) if isinstance(leaf, torch.Tensor) else np.flip(leaf, axis)

        return Product(tree_map(flip, transposed), self.steps)


@dataclass(frozen=True)
class Writes(Operator):
    """B of a system of micro-steps: u [..., J, p] -> sum_j A_J ... A_{j+1} b_j u_j^T."""

    A: Product
    b: Any

    def apply(self, u):
        x = 0
        for j, A in enumerate(self.A.factors()):
            b = self.b[..., min(j, self.b.shape[-2] - 1), :]  # size 1 there: the same at every micro-step
            x = (A.apply(x) if j else 0) + column(b) * u[..., j, :][..., None, :]
        return x


def _step_axis(factor: Operator, leaf: Any) -> int:
    matrices = [op.M for op in nodes(factor) if isinstance(op, Dense)]
    return -3 if any(leaf is M for M in matrices) else -2


def micro_step(factor: Operator, j: int) -> Operator:
    """The factor of micro-step j: axis J taken out of every leaf (size 1 there: the same at every micro-step)."""

    def take(leaf):
        axis = _step_axis(factor, leaf)
        index = [slice(None)] * leaf.ndim
        index[axis] = min(j, leaf.shape[axis] - 1)
        return leaf[tuple(index)]

    return tree_map(take, factor)


def nodes(A: Operator) -> list[Operator]:
    """A and every operator inside it."""
    inside: list[Operator] = [A]
    for part in vars(A).values():
        for op in (o for row in part for o in row) if isinstance(A, Block) else (part,):
            inside += nodes(op) if isinstance(op, Operator) else []
    return inside
