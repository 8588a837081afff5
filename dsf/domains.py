"""Where a signal lives. ONE declaration gives its symbols' assumptions, its bound, a layer's projection, a sampler.

    beta=Gate  ->  beta real, >= 0         [0, 1]     sigmoid(W x)     sigmoid(randn), sometimes exactly 0 or 1

Domains stand as defaults in the signature of an architecture: `def deltanet(q=Vector, k=Unit, beta=Gate)`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import sympy as sp
import torch
import torch.nn.functional as F

from .operators import Dense
from .sets import Complex, Interval, Polar, Rectangle, Set, disc, inf, pi
from .values import Bound, MatrixBound, as_array

FAR = 1e4  # stands for an infinite end in samples: e^-FAR is exactly 0, and FAR * 0 is 0, which oo * 0 is not


@dataclass(frozen=True)
class Domain:
    """A kind (scalar | vector | matrix | index | drive | previous) and a set for every entry.

    Public layout: scalar [B,T,H], vector [B,T,H,n], matrix [B,T,H,n,n]; `const` drops B and T ([H,...]), `groups` > 0
    puts G groups in place of H heads, `steps` J puts an axis J after H. Calling it narrows the set: Scalar(0, 2).
    """

    kind: str
    set: Set = Interval()
    spectrum: Set = Complex  # of a matrix: where its eigenvalues lie (its entries' range says nothing about that)
    unit: bool = False  # |v| = 1
    ball: bool = False  # |v| <= 1
    const: bool = False
    groups: int = 0
    steps: int = 0
    first: bool = False  # acts at the first micro-step only, 0 at the others: a log decay
    dependence: str = "token"
    value: Callable[[int], sp.Matrix] | None = None  # a fixed vector or matrix

    def __call__(self, lo: Set | float, hi: float | None = None) -> Domain:
        """The same kind on another set: Scalar(0, 2), Vector(LeftHalfPlane)."""
        if isinstance(lo, (int, float)):
            if hi is None:
                raise TypeError(f"a domain takes two ends or a set, as in Scalar(0, 2); got {lo}")
            lo = Interval(lo, hi)
        if isinstance(lo, Domain):
            raise TypeError(f"a domain takes a set or two ends, as in Vector(-inf, 0); got the domain {lo!r}")
        if self.unit or self.ball or self.value or self.kind not in ("scalar", "vector", "matrix"):
            raise TypeError(f"a domain that is a {self} has its own set, and takes no other")
        return replace(self, set=lo)

    def __repr__(self) -> str:
        where = "" if self.kind in ("drive", "previous", "index") or self.value else f" in {self.set}"
        what = f"unit {self.kind}" if self.unit else f"fixed {self.kind}" if self.value else self.kind + where
        what = f"{self.kind} of norm <= 1" if self.ball else what
        tags = ["constant"] * (self.const and not self.value) + [f"{self.steps} micro-steps"] * bool(self.steps)
        tags += ["at the first micro-step"] * self.first + [f"{self.groups} groups"] * (self.groups > 1)
        tags += ["shared by the heads"] * (self.groups == 1) + [self.dependence] * (self.dependence != "token")
        return ", ".join([what, *tags])

    @property
    def own_axes(self) -> tuple[str, ...]:
        return {"scalar": (), "matrix": ("n", "n")}.get(self.kind, ("n",))

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes in the public layout."""
        heads = "G" if self.groups else "H"
        lead = (heads,) if self.const else ("B", "T", heads)
        return lead + (("J",) if self.steps else ()) + self.own_axes

    @property
    def reals(self) -> int:
        """How many real numbers `project` takes per entry: 2 where the set is complex."""
        return 1 if isinstance(self.set, Interval) else 2

    def project(self, x: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
        """R -> the domain, smooth: what a trainable layer puts behind its linear map. Complex sets take two reals."""
        if self.unit:
            return F.normalize(x, dim=-1)
        if self.ball:
            return x / (1 + x.square().sum(-1, keepdim=True)).sqrt()
        if isinstance(self.set, Interval):
            return _into(self.set, x)
        if y is None:
            raise ValueError(f"a point of the complex set {self.set} takes two real tensors")
        if isinstance(self.set, Polar):
            return torch.polar(_into(self.set.r, x), _into(self.set.theta, y))
        return torch.complex(_into(self.set.re, x), _into(self.set.im, y))

    def sample(
        self,
        sizes: dict[str, int],
        dtype: torch.dtype = torch.float64,
        generator: torch.Generator | None = None,
        ends: float = 0.1,
    ) -> torch.Tensor:
        """A random signal in the public layout; a share `ends` of the entries sits at an end of the domain."""
        sizes = sizes | {"G": self.groups, "J": self.steps}
        shape, n = tuple(sizes[a] for a in self.axes), sizes["n"]
        if self.value:
            return self.fixed(n, dtype).expand(shape).clone()
        if self.kind == "index":
            return torch.randint(0, n, shape, generator=generator)
        if self.kind == "matrix" and self.spectrum != Complex:
            raise ValueError("a free matrix with a claimed spectrum cannot be sampled: give a value, Fixed(...)")

        def normal():
            return 2 * torch.randn(shape, dtype=dtype, generator=generator)

        x = self.project(*(normal() for _ in range(self.reals)))
        if self.kind == "matrix" and self.set == Interval():
            return x / n**0.5
        return self._to_ends(x, ends, generator)

    def _to_ends(self, x: torch.Tensor, share: float, generator) -> torch.Tensor:
        if self.unit or self.ball:  # the ends of a sphere: repeated, axis-parallel keys; of a ball also its centre
            chosen = torch.rand(x.shape[:-1] + (1,), generator=generator)
            x = torch.where(chosen < share, F.one_hot(torch.tensor(0), x.shape[-1]).to(x.dtype), x)
            return torch.where(chosen < share / 2, 0, x) if self.ball else x
        if isinstance(self.set, Rectangle):
            return torch.complex(
                _to_ends(self.set.re, x.real, share, generator), _to_ends(self.set.im, x.imag, share, generator)
            )
        return _to_ends(self.set, x, share, generator)

    def symbols(self, name: str, n: int) -> np.ndarray:
        """Entries name_0, name_1, ... with the assumptions of the domain: [n], [1], [n, n] or [J, ...]."""
        if self.value:
            return as_array(self.value(n)).reshape((n,) * len(self.own_axes))
        shape = ((self.steps,) if self.steps else ()) + ((n,) * len(self.own_axes) or (1,))
        labels = np.ndindex(shape if self.own_axes else shape[:-1])
        between = "" if max(shape) <= 10 else "_"  # 1, 11 and 11, 1 are two entries
        names = ("_".join([name, between.join(map(str, ix))]) if ix else name for ix in labels)
        entries = [sp.Symbol(entry, **self._assumptions()) for entry in names]
        out = np.empty(len(entries), dtype=object)
        out[:] = entries
        return out.reshape(shape)

    def _assumptions(self) -> dict[str, bool]:
        if self.kind == "index":
            return {"integer": True, "nonnegative": True}
        if not isinstance(self.set, Interval):
            return {"complex": True}
        lo, hi = self.set.lo, self.set.hi  # domains are closed: 0 is a value of a Gate
        sign = {"positive": lo > 0, "nonnegative": lo >= 0, "negative": hi < 0, "nonpositive": hi <= 0}
        return {"real": True} | {k: True for k, holds in sign.items() if holds}

    def bound(self, within: Set | None = None) -> Any:
        """The reading on bounds; `within` cuts the set."""
        dependence = "const" if self.const else "state" if self.kind == "previous" else self.dependence
        if self.kind == "matrix":
            return Dense(MatrixBound(self.spectrum, dependence=dependence, steps=self.steps))
        s = within or self.set
        if self.first:
            assert isinstance(s, Interval)
            s = s.hull(Interval(0, 0))
        norm2 = None if self.kind == "scalar" else Interval(1, 1) if self.unit else Interval(0, 1 if self.ball else inf)
        return Bound(s, norm2, dependence, self.steps)

    def contains(self, x: torch.Tensor) -> bool:
        """Does every entry lie in the domain, up to the rounding of its dtype?"""
        if self.kind == "index":
            return bool(((x >= 0) & (x < x.shape[-1])).all())
        if not (x.is_floating_point() or x.is_complex()):
            return False
        slack = 8 * torch.finfo(x.dtype).eps
        if self.value:
            fixed = self.fixed(x.shape[-1], torch.float64)
            scale = max(1.0, fixed.abs().max().item())
            return bool(((x.to(fixed.dtype if not x.is_complex() else x.dtype) - fixed).abs() <= slack * scale).all())
        if self.unit or self.ball:
            beyond = x.to(torch.promote_types(x.dtype, torch.float64)).norm(dim=-1) - 1
            room = max(slack, 1e-3 * (slack > 1e-10))  # models normalise in low precision, with an epsilon of their own
            return bool(((beyond.abs() if self.unit else beyond) <= room).all())
        if self.kind == "matrix" and self.spectrum != Complex:
            wide = x.to(torch.promote_types(x.dtype, torch.float64))
            return bool(wide.isfinite().all()) and all(
                z in self.spectrum for z in torch.linalg.eigvals(wide).flatten().tolist()
            )
        return _inside(self.set, x, slack)

    def fixed(self, n: int, dtype: torch.dtype) -> torch.Tensor:
        """The prescribed vector [n] or matrix [n, n]."""
        assert self.value
        numbers = torch.tensor(np.array(self.value(n).evalf(20).tolist(), dtype=float), dtype=dtype)
        return numbers.reshape((n,) * len(self.own_axes))

    def shrunk(self, delta: float) -> Domain:
        """The open domain seen from inside: every end moved by delta, infinite ends to 1/delta."""
        if self.unit or self.ball or self.value or self.kind not in ("scalar", "vector"):
            return self
        return replace(self, set=_shrunk(self.set, delta))


def _into(s: Interval, x: torch.Tensor) -> torch.Tensor:
    if s.bounded:
        return s.lo + (s.hi - s.lo) * x.sigmoid()
    return s.lo + F.softplus(x) if s.lo > -inf else s.hi - F.softplus(x) if s.hi < inf else x


def _to_ends(s: Set, x: torch.Tensor, share: float, generator) -> torch.Tensor:
    if not (ends := _ends(s)):
        return x
    chosen = torch.tensor(ends, dtype=x.dtype)[torch.randint(0, len(ends), x.shape, generator=generator)]
    return torch.where(torch.rand(x.shape, generator=generator) < share, chosen, x)


def _ends(s: Set) -> list[complex]:
    """The ends that samples must hit: legal inputs, all of them."""
    if isinstance(s, Interval):
        if s == Interval():
            return []
        return [e if abs(e) < inf else -FAR for e in (s.lo, s.hi) if e < inf]
    if isinstance(s, Polar):
        return [complex(r, 0) for r in (s.r.lo, s.r.hi) if r < inf and 0.0 in s.theta]
    return []


def _inside(s: Set, x: torch.Tensor, slack: float) -> bool:
    if isinstance(s, Rectangle):
        parts = ((s.re, x.real), (s.im, x.imag if x.is_complex() else torch.zeros_like(x)))
    elif isinstance(s, Polar):
        r, tol = x.abs(), slack * pi
        beyond = torch.remainder(x.angle() - s.theta.lo + tol, 2 * pi)  # the argument, from just below lo
        turns = s.full | (beyond <= s.theta.hi - s.theta.lo + 2 * tol) | (r <= slack)
        if not bool(turns.all()):
            return False
        parts = ((s.r, r),)
    else:
        if x.is_complex():
            return False
        parts = ((s, x),)
    room = [(i, v, slack * max([1.0, *(abs(e) for e in (i.lo, i.hi) if abs(e) < inf)])) for i, v in parts]
    return all(bool(((v >= i.lo - tol) & (v <= i.hi + tol)).all()) for i, v, tol in room)  # NaN is in no domain


def _shrunk(s: Set, delta: float) -> Set:
    if isinstance(s, Interval):
        lo = -1 / delta if s.lo == -inf else s.lo + delta
        hi = 1 / delta if s.hi == inf else s.hi - delta
        if lo > hi:
            raise ValueError(f"nothing is left of {s} when each end moves by {delta}")
        return Interval(lo, hi)
    if isinstance(s, Polar):
        r = _shrunk(s.r, delta)
        assert isinstance(r, Interval)
        return Polar(r if s.r.lo > 0 else Interval(0, r.hi), s.theta)
    re, im = _shrunk(s.re, delta), _shrunk(s.im, delta)
    assert isinstance(re, Interval) and isinstance(im, Interval)
    return Rectangle(re, im)


# Typed Any on purpose: as the default of a parameter a domain stands for the values that the body will see.
Scalar: Any = Domain("scalar")
Vector: Any = Domain("vector")
Matrix: Any = Domain("matrix")
Gate: Any = Scalar(0, 1)
Positive: Any = Scalar(0, inf)
LogDecay: Any = Scalar(-inf, 0)
Unit: Any = replace(Vector(-1, 1), unit=True)
Ball: Any = replace(Vector(-1, 1), ball=True)  # x / sqrt(|x|^2 + epsilon), as models normalise
Index: Any = Domain("index")
Drive: Any = Domain("drive")  # u_t, for a body that transforms it
Previous: Any = Domain("previous", dependence="state")  # y_{t-1}: reading it makes a system feed back
UnitDisc = disc(1)


def _domain(x: Any, of: str) -> Domain:
    if not isinstance(x, Domain):
        raise TypeError(f"{of} takes a domain first, as in {of}(Vector); got {x!r}")
    return x


def Param(domain: Domain) -> Any:
    """A constant of the layer, not a function of the token."""
    return replace(_domain(domain, "Param"), const=True)


def Shared(domain: Domain, groups: int = 1) -> Any:
    """One signal for all heads (Mamba's B and C), or one per group of heads (grouped queries)."""
    return replace(_domain(domain, "Shared"), groups=groups)


def Window(domain: Domain) -> Any:
    """A signal that is a function of the last few tokens."""
    return replace(_domain(domain, "Window"), dependence="window")


def Prefix(domain: Domain) -> Any:
    """A signal that is a function of all tokens so far."""
    return replace(_domain(domain, "Prefix"), dependence="prefix")


def Each(domain: Domain, steps: int = 2) -> Any:
    """A signal with one value per micro-step: `steps` of them make a token."""
    return replace(_domain(domain, "Each"), steps=steps)


def First(domain: Domain) -> Any:
    """A log decay that acts at the first micro-step only."""
    return replace(_domain(domain, "First"), first=True)


def Fixed(kind: str, value: Callable[[int], sp.Matrix], spectrum: Set = Complex) -> Any:
    """A constant vector or matrix that the architecture prescribes, n -> sympy Matrix, with its proven spectrum."""
    return Domain(kind, spectrum=spectrum, const=True, value=value)
