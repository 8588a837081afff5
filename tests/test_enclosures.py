"""Every lemma of dsf.enclosures, on compositions that nobody ships: no sampled operator leaves its three facts.

For each random tree the enclosure is computed from bounds, and compared with dense matrices of samples of the same
signals (ends of domains among them) at n = 1..4: eigenvalues inside the set, 2-norm below the bound, symmetric means
real and equal to the transpose. The errors of a numerical eigenvalue depend on how defective the matrix is: see `room`.
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from random_operators import Signals, blocks, evaluate, operators, products, signals

import dsf
from dsf import Dense, Gate, I, Interval, Scalar, System, Unit, Vector, block, diag, outer, sets
from dsf.enclosures import enclose
from dsf.operators import dense
from dsf.sets import Polar, Rectangle, annulus, arc, disc, inf
from dsf.values import Bound, MatrixBound

SAMPLES = 24
ROUNDING = 1e-11  # of the entries of a sampled matrix, relative to its norm: it is a product of several factors


def distance(z, part):
    """How far the complex numbers z (an array) lie from a set."""

    def beyond(x, s):
        return np.maximum(np.maximum(s.lo - x, x - s.hi), 0.0)

    if isinstance(part, Interval):
        return np.hypot(beyond(z.real, part), z.imag)
    if isinstance(part, Rectangle):
        return np.hypot(beyond(z.real, part.re), beyond(z.imag, part.im))
    radial = beyond(np.abs(z), part.r)
    if part.full:
        return radial
    turned = np.angle(z * np.exp(-1j * part.theta.lo)) % (2 * np.pi)  # 0 .. 2 pi, from the first ray on
    width = part.theta.hi - part.theta.lo
    ends = np.array([part.theta.lo, part.theta.hi])
    to_rays = np.abs(z[..., None] - np.clip((z[..., None] * np.exp(-1j * ends)).real, part.r.lo, min(part.r.hi, 1e300)) * np.exp(1j * ends))
    return np.where(turned <= width, radial, to_rays.min(-1))


def room(A, values, vectors):
    """How wrong a numerical eigenvalue may be: eps |A| cond, at most (eps)^(1/n) |A|, of a matrix of entries eps |A| off."""
    n, size = A.shape[-1], torch.linalg.matrix_norm(A, 2).clamp(min=1.0)[:, None]
    left, failed = torch.linalg.inv_ex(vectors)
    condition = torch.linalg.vector_norm(left, dim=-1) * torch.linalg.vector_norm(vectors, dim=-2)
    condition = torch.where(torch.isfinite(condition) & (failed == 0)[:, None], condition, math.inf)
    return torch.minimum(10 * ROUNDING * size * condition, 2 * size * ROUNDING ** (1 / n))


def assert_encloses(found, A, n):
    """The three facts hold for the matrices A [..., n, n]."""
    A = A.reshape(-1, *A.shape[-2:]).to(torch.complex128)
    assert A.shape[-1] == n and torch.isfinite(A).all()
    values, vectors = torch.linalg.eig(A)
    away = np.min([distance(values.numpy(), part) for part in found.parts], 0)
    outside = torch.from_numpy(away) > room(A, values, vectors)
    assert not outside.any(), f"{values[outside][:3]} outside {found.parts} ({found.lemmas})"
    size = torch.linalg.matrix_norm(A, 2)
    assert (size <= found.norm * (1 + 1e-9) + 1e-9).all(), f"|A| = {size.max()} above {found.norm} ({found.lemmas})"
    if found.symmetric:
        slack = 1e-9 * size.max().clamp(min=1.0)
        assert (A.imag.abs() <= slack).all() and ((A - A.mT).abs() <= slack).all(), f"not symmetric ({found.lemmas})"


def check(tree, pool, sizes=(1, 2, 3, 4), copies=1, steps=0):
    found = enclose(evaluate(tree, pool.bounds(steps)))
    for n in sizes:
        A = evaluate(tree, pool.samples(SAMPLES, n, steps, seed=n))
        like = torch.ones(1, dtype=torch.complex128 if pool.complex else torch.float64)
        assert_encloses(found, dense(A, copies * n, like), copies * n)


@settings(max_examples=200)
@given(operators(), signals())
def test_random_trees_stay_inside_their_enclosures(tree, pool):
    check(tree, pool)


@settings(max_examples=100)
@given(products(), signals())
def test_random_micro_steps_stay_inside_their_enclosures(tree, pool):
    check(tree, pool, steps=tree[1])


@settings(max_examples=120)
@given(blocks(), signals())
def test_random_blocks_stay_inside_their_enclosures(tree, pool):
    check(tree, pool, sizes=(1, 2), copies=len(tree[1]))


@settings(max_examples=40)
@given(blocks(), blocks(), signals())
def test_sums_and_products_of_blocks_stay_inside_their_enclosures(left, right, pool):
    if len(left[1]) == len(right[1]):
        check(("@", left, right), pool, sizes=(1, 2), copies=len(left[1]))
        check(("-", left, right), pool, sizes=(1, 2), copies=len(left[1]))
