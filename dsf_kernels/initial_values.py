"""Where a fresh layer starts inside a domain: raw values behind `domain.project`.

Half-infinite sets (decays, dt) start near their finite end, log-uniformly between 1e-3 and 1e-1 away from it: as a log
decay, or as dt times a rate of 1, that is a memory of 10 to 1000 steps (as gu2023mamba starts dt).
"""

from __future__ import annotations

import math

import torch

from dsf.domains import Domain
from dsf.sets import Interval, Polar, Rectangle

NEAREST, FARTHEST = 1e-3, 1e-1


def start(domain: Domain, shape: tuple[int, ...]) -> torch.Tensor:
    """Raw values [*shape, reals] of a signal [heads, ...]: deterministic, with every head over the whole range.

    >>> from dsf import LogDecay
    >>> LogDecay.project(start(LogDecay, (3,))[..., 0])
    tensor([-0.0010, -0.0100, -0.1000])
    """
    s = domain.set
    if domain.unit or domain.kind == "matrix":
        return torch.zeros(*shape, domain.reals)
    if isinstance(s, Interval):
        return _start(s, shape)[..., None]
    if isinstance(s, Polar):  # near the outer end, at angles all around
        return torch.stack([_logit(1 - _log_spread(shape)), _logit(_spread(shape))], -1)
    assert isinstance(s, Rectangle)
    if _half_infinite(s.re) and s.im == Interval():  # poles in continuous time: -1/2 + i pi j, S4D-Lin (gu2022s4d)
        entry = torch.arange(shape[-1]) * torch.ones(shape)
        return torch.stack([torch.full(shape, _softplus_inverse(0.5)), math.pi * entry], -1)
    return torch.stack([_start(s.re, shape), _start(s.im, shape)], -1)


def start_of_param(domain: Domain, shape: tuple[int, ...]) -> torch.Tensor:
    """The same for a constant of the layer; a vector or matrix without an end to start from is random, of norm 1.

    A matrix has the entries of torch.nn.RNN: uniform, between -1/sqrt(n) and 1/sqrt(n).
    """
    raw = start(domain, shape)
    if domain.kind == "matrix":
        return torch.empty_like(raw).uniform_(-1, 1) / shape[-1] ** 0.5
    free = domain.kind == "vector" and not raw.any()
    return torch.randn_like(raw) / (shape[-1] * domain.reals) ** 0.5 if free else raw


def _start(s: Interval, shape: tuple[int, ...]) -> torch.Tensor:
    if not _half_infinite(s):
        return torch.zeros(shape)  # the middle
    return torch.log(torch.expm1(_log_spread(shape)))


def _half_infinite(s: Interval) -> bool:
    return math.isinf(s.lo) != math.isinf(s.hi)


def _log_spread(shape: tuple[int, ...]) -> torch.Tensor:
    return NEAREST * (FARTHEST / NEAREST) ** _spread(shape, ends=True)


def _spread(shape: tuple[int, ...], ends: bool = False) -> torch.Tensor:
    """Evenly in [0, 1] over all entries; heads (axis 0) run fastest, so that each covers the whole range."""
    count = math.prod(shape)
    places = torch.linspace(0, 1, count) if ends and count > 1 else (torch.arange(count) + 0.5) / max(count, 1)
    return places.reshape(shape[::-1]).permute(*reversed(range(len(shape)))).contiguous()


def _logit(x: torch.Tensor) -> torch.Tensor:
    return torch.log(x) - torch.log1p(-x)


def _softplus_inverse(x: float) -> float:
    return math.log(math.expm1(x))
