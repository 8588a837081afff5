"""Real representations of a finite group of permutations, and the reflections that an orthogonal matrix is made of."""

from __future__ import annotations

import numpy as np

from ..languages.holonomy import Map, then

LARGEST = 200  # elements: the regular representation is taken apart


def irreducible(elements: list[Map]) -> list[np.ndarray]:
    """The irreducible real representations, each [elements, d, d] orthogonal, small ones first; no two are equivalent.

    R(g then h) = R(h) R(g). They are the eigenspaces of a random symmetric matrix that commutes with the regular one.
    """
    N = len(elements)
    number = {g: i for i, g in enumerate(elements)}
    moved = np.array([[number[then(x, g)] for x in elements] for g in elements])  # g takes x to x then g
    rng = np.random.default_rng(0)
    X = rng.standard_normal((N, N))
    X = X + X.T
    mean = sum(X[np.ix_(m, m)] for m in moved) / N
    values, vectors = np.linalg.eigh(mean)
    found: list[np.ndarray] = []
    start = 0
    for stop in range(1, N + 1):
        if stop < N and values[stop] - values[stop - 1] < 1e-8:
            continue
        U = vectors[:, start:stop]
        start = stop
        R = np.empty((N, U.shape[1], U.shape[1]))
        for g, m in enumerate(moved):
            permuted = np.empty_like(U)
            permuted[m] = U  # e_x goes to e_(x then g)
            R[g] = U.T @ permuted
        traces = np.trace(R, axis1=1, axis2=2)
        if not any(np.abs(traces - np.trace(S, axis1=1, axis2=2)).max() < 1e-6 for S in found):
            found.append(R)
    return sorted(found, key=lambda R: R.shape[1])


def kernel(R: np.ndarray) -> frozenset[int]:
    """The elements that a representation maps to I."""
    d = R.shape[1]
    return frozenset(np.flatnonzero(np.abs(R - np.eye(d)).max((1, 2)) < 1e-6).tolist())


def reflections(R: np.ndarray, tolerance: float = 1e-9) -> list[np.ndarray]:
    """Unit vectors v_1, ..., v_r with R = (I - 2 v_r v_r^T) ... (I - 2 v_1 v_1^T), r = rank(I - R) (Cartan-Dieudonne).

    >>> len(reflections(np.diag([-1.0, -1.0, 1.0])))
    2
    """
    n, rest, found = len(R), R.T.copy(), []  # of R^T, whose factors come in the opposite order
    while True:
        off = rest - np.eye(n)
        j = int(np.argmax(np.linalg.norm(off, axis=0)))
        v = off[:, j]
        if np.linalg.norm(v) < tolerance:
            break
        v = v / np.linalg.norm(v)
        rest = rest - 2 * np.outer(v, v @ rest)
        found.append(v)
    return found


def rank(R: np.ndarray) -> int:
    """rank(I - R): how many reflections R takes."""
    return int(np.linalg.matrix_rank(np.eye(len(R)) - R, tol=1e-6))
