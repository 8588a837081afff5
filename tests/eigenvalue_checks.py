"""How far eigenvalues lie from a set, how wrong a numerical one may be, and the check of an enclosure by samples."""

import math

import numpy as np
import torch

from dsf.sets import Interval, Rectangle

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
    ends = np.exp(1j * np.array([part.theta.lo, part.theta.hi]))  # the two rays that bound the sector
    along = np.clip((z[..., None] * ends.conj()).real, part.r.lo, min(part.r.hi, 1e300))
    turned = np.angle(z * ends[0].conj()) % (2 * np.pi)  # 0 .. 2 pi, from the first ray on
    inside = turned <= part.theta.hi - part.theta.lo
    return np.where(inside, radial, np.abs(z[..., None] - along * ends).min(-1))


def room(A, vectors):
    """How wrong a numerical eigenvalue may be: eps |A| times its condition number, at most |A| eps^(1/n)."""
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
    outside = torch.from_numpy(away) > room(A, vectors)
    assert not outside.any(), f"{values[outside][:3]} outside {found.parts} ({found.lemmas})"
    size = torch.linalg.matrix_norm(A, 2)
    assert (size <= found.norm * (1 + 1e-9) + 1e-9).all(), f"|A| = {size.max()} above {found.norm} ({found.lemmas})"
    if found.symmetric:
        slack = 1e-9 * size.max().clamp(min=1.0)
        assert (A.imag.abs() <= slack).all() and ((A - A.mT).abs() <= slack).all(), f"not symmetric ({found.lemmas})"


def furthest(values, parts):
    """The largest distance of some eigenvalues from a union of sets."""
    z = values.detach().flatten().to(torch.complex128).numpy()
    return np.min([distance(z, part) for part in parts], 0).max()
