"""One operator of every structure, on tensors and on symbols, and its matrix written from the definition."""

import itertools

import numpy as np
import sympy as sp
import torch

from dsf import (
    Composed,
    Dense,
    Diagonal,
    DiagonalPlusLowRank,
    I,
    OneHotDiagonal,
    Product,
    Reflection,
    Scaled,
    Shift,
    Sum,
    block,
    outer,
)
from dsf.algebra import dense
from dsf.composites import micro_step
from dsf.values import Log
from helpers import numbers, relative

N, P, J = 4, 2, 3
LEAD = (2, 3, 1)  # [B, T, H]
EXACT = 1e-12  # fp64, relative; symbols are exact


class Tensors:
    """Random leaves; some vary in time, some are constant (size 1)."""

    def __init__(self, seed):
        self.seeds = itertools.count(1000 * seed)

    def array(self, *own, dtype=torch.float64):
        seed = next(self.seeds)
        lead = (LEAD, (1, 1, 1), (2, 1, 1))[seed % 3]
        return numbers(*lead, *own, seed=seed, dtype=dtype)

    def complex(self, *own):
        return torch.complex(self.array(*own), self.array(*own))

    def log(self, *own):
        return Log(-self.array(*own).abs())

    def index(self, n):
        return torch.randint(0, n, (2, 1, 1, n), generator=torch.Generator().manual_seed(next(self.seeds)))

    def state(self, n=N, dtype=torch.float64):
        return numbers(*LEAD, n, P, seed=next(self.seeds), dtype=dtype)


class Symbols(Tensors):
    """The same leaves as integers in object arrays, so that results are exact."""

    def array(self, *own, dtype=None):
        x = numbers(*own, seed=next(self.seeds), special=0.9)
        return np.array([sp.Integer(round(v)) for v in x.flatten().tolist()], dtype=object).reshape(own)

    def complex(self, *own):
        return self.array(*own) + sp.I * self.array(*own)

    def log(self, *own):
        return self.array(*own)

    def index(self, n):
        return np.array([sp.Integer(i) for i in super().index(n)[0, 0, 0].tolist()], dtype=object)

    def state(self, n=N, dtype=None):
        return self.array(n, P)


def some_dense(r):
    return Dense(r.array(N, N))


def some_reflection(r, *steps):
    return Reflection(r.array(*steps, 1), r.array(*steps, 1), r.array(*steps, N), r.array(*steps, 1))


STRUCTURES = {
    "identity": lambda r: I,
    "number": lambda r: Scaled(-2),
    "scaled": lambda r: Scaled(r.array(1)),
    "decay": lambda r: Scaled(r.log(1)),
    "diagonal": lambda r: Diagonal(r.array(N)),
    "log diagonal": lambda r: Diagonal(r.log(N)),
    "complex diagonal": lambda r: Diagonal(r.complex(N)),
    "scalar diagonal": lambda r: Diagonal(r.array(1)),
    "outer": lambda r: outer(r.array(N)),
    "gated outer": lambda r: Reflection(0, r.array(1), r.array(N), r.array(1)),
    "householder": lambda r: I - 2 * outer(r.array(N)),
    "reflection": some_reflection,
    "rank one": lambda r: outer(r.array(N), r.array(N)),
    "diagonal plus low rank": lambda r: DiagonalPlusLowRank(r.array(N), r.array(1), r.array(N), r.array(N)),
    "one hot": lambda r: OneHotDiagonal(r.index(N), r.array(N)),
    "transposed one hot": lambda r: OneHotDiagonal(r.index(N), r.complex(N), transposed=True),
    "permutation": lambda r: OneHotDiagonal(r.index(N), 1),
    "shift": lambda r: Shift(),
    "shift up by 2": lambda r: Shift(-2),
    "shift out": lambda r: Shift(N + 1),
    "dense": some_dense,
    "complex dense": lambda r: Dense(r.complex(N, N)),
    "block": lambda r: block([[Diagonal(r.array(N // 2)), outer(r.array(N // 2))], [0, r.array(1) * I]]),
    "composed": lambda r: Composed(some_reflection(r), Diagonal(r.array(N))),
    "sum": lambda r: Sum(some_dense(r), Shift(1)),
    "product": lambda r: Product(some_reflection(r, J)),
    "dense product": lambda r: Product(Dense(r.array(J, N, N)), J),
    "power": lambda r: Product(Diagonal(r.array(1, N)), J),
}
READINGS = {"tensors": Tensors, "symbols": Symbols}


def matrix(A, like=None):
    """A as complex matrices [..., N, N], entry by entry: from its action on basis vectors alone."""
    found = dense(A, N, torch.zeros(1, dtype=torch.float64) if like is None else like)
    if isinstance(found, np.ndarray):
        found = torch.tensor(np.array(found.tolist(), dtype=complex))
    return found.to(torch.complex128)


def by_definition(name, A, r):
    """The matrix written out from the definition of the structure (tensors, one time step of one head)."""
    leaf = {k: v for k, v in vars(A).items() if isinstance(v, torch.Tensor)}
    e = torch.eye(N, dtype=torch.complex128)
    if name in ("one hot", "transposed one hot", "permutation"):
        d = A.d.expand(*LEAD, N) if isinstance(A.d, torch.Tensor) else torch.ones(*LEAD, N)
        M = torch.nn.functional.one_hot(A.p, N).mT.to(torch.complex128) * d[..., None, :]
        return M.mT if A.transposed else M
    if name == "diagonal plus low rank":
        return leaf["d"][..., None] * e - leaf["b"][..., None] * leaf["u"][..., None] * leaf["v"][..., None, :]
    if name == "reflection":
        k = leaf["k"]
        return leaf["c"][..., None] * (leaf["a"][..., None] * e - leaf["b"][..., None] * k[..., None] * k[..., None, :])
    if name == "shift":
        return torch.diag(torch.ones(N - 1), -1).to(e)
    if name == "shift up by 2":
        return torch.diag(torch.ones(N - 2), 2).to(e)
    if name == "shift out":
        return 0 * e
    if name == "product":
        factors = [by_definition("reflection", micro_step(A.factor, j), r) for j in range(J)]
        return factors[2] @ factors[1] @ factors[0]
    if name == "dense product":
        M = A.factor.M
        return (M[..., 2, :, :] @ M[..., 1, :, :] @ M[..., 0, :, :]).to(e)
    if name == "power":
        return torch.diag_embed(A.factor.d[..., 0, :] ** J).to(e)
    if name == "block":
        d, k = A.rows[0][0].d, A.rows[0][1].k
        M = torch.zeros(*LEAD, N, N, dtype=e.dtype)
        M[..., :2, :2], M[..., :2, 2:] = torch.diag_embed(d), k[..., None] * k[..., None, :]
        M[..., 2:, 2:] = A.rows[1][1].a[..., None] * torch.eye(2)
        return M
    return None


def assert_same(found, expected):
    assert relative(*torch.broadcast_tensors(found, expected)) < EXACT
