"""Is a witness right at every length in floats? Where its states come back bit by bit, or errors of rounding fade."""

from __future__ import annotations

from typing import Any

import torch

from dsf import Architecture
from dsf.reference import scan

from ..subjects import has_infinite_state
from .stacks import Head, StackWitness, pieces

MOST = 200  # states of a head
ROUNDED, CLOSE = 1e-12, 1e-6  # of |eigenvalue| - 1: the rounding of weights; what a long run might not notice


def exact_in_floats(subject: Any, witness: StackWitness) -> bool:
    """Every head visits finitely many states under all its rows, or has one transition that forgets."""
    kinds = subject if isinstance(subject, tuple) else (subject,)
    return all(_comes_back(kinds[h.kind], h) or _forgets(kinds[h.kind], h) for h in witness.heads)


def keeps(subject: Any, witness: StackWitness) -> bool:
    """Is every transition, up to the rounding of its weights, one that holds for ever or one that forgets?

    An eigenvalue 1 - 1e-9 holds for as long as anyone runs it, and not at every length.
    """
    kinds = subject if isinstance(subject, tuple) else (subject,)
    return all(_keeps(kinds[h.kind], h) for h in witness.heads)


def _keeps(a: Architecture, h: Head) -> bool:
    bounds = a.bounds()
    if a.feedback or has_infinite_state(bounds):  # saturated gates; averages with weights 0 and 1
        return True
    system: Any = a(**{k: s if a.signals[k].const else s[:, None] for k, s in h.signals.items()})
    gap = torch.linalg.eigvals(system.dense()).abs() - 1
    return bool(((gap.abs() <= ROUNDED) | (gap <= -CLOSE)).all())


def _rows(a: Architecture, h: Head, batch: int) -> tuple[Any, torch.Tensor]:
    """All rows for each of `batch` states: signals and drive of one step."""
    count = len(h.drive)
    pick = torch.arange(count).repeat(batch)
    signals = {k: s if a.signals[k].const else s[pick][:, None] for k, s in h.signals.items()}
    return a(**signals), h.drive[pick][:, None]


def _comes_back(a: Architecture, h: Head) -> bool:
    """Breadth first over states, bit by bit, at most MOST."""
    if any(s.numel() > 4_000 for s in pieces(h.state)) or a.bounds().normalised and not pieces(h.state)[0].shape[1]:
        return False
    seen, frontier = {_key(pieces(h.state), 0)}, pieces(h.state)
    count = len(h.drive)
    while len(frontier[0]):
        states = tuple(s.repeat_interleave(count, 0) for s in frontier)
        system, u = _rows(a, h, len(frontier[0]))
        after = pieces(scan(system, u, states if isinstance(h.state, tuple) else states[0])[1])
        if any(b.shape[1:] != s.shape[1:] for b, s in zip(after, states, strict=True)):
            return False  # the state is the past, and grows
        fresh = []
        for row in range(len(after[0])):
            key = _key(after, row)
            if key not in seen:
                seen.add(key)
                fresh.append(row)
        if len(seen) > MOST:
            return False
        frontier = tuple(s[fresh] for s in after)
    return True


def _key(state: tuple[torch.Tensor, ...], row: int) -> bytes:
    return b"".join((s[row] + 0.0).resolve_conj().numpy().tobytes() for s in state)  # + 0.0: -0 is 0


def _forgets(a: Architecture, h: Head) -> bool:
    """One transition for all rows, and states that come to be the same: errors of rounding fade as well."""
    if a.feedback or not all(a.signals[k].const or bool((s == s[:1]).all()) for k, s in h.signals.items()):
        return False
    steps = 200
    signals = {k: s if a.signals[k].const else s[:1][None].expand(2, steps, *s.shape[1:]) for k, s in h.signals.items()}
    u = torch.zeros(2, steps, *h.drive.shape[1:], dtype=h.drive.dtype)
    generator = torch.Generator().manual_seed(0)
    start = tuple(torch.randn(2, *s.shape[1:], dtype=s.dtype, generator=generator) for s in pieces(h.state))
    after = pieces(scan(a(**signals), u, start if isinstance(h.state, tuple) else start[0])[1])
    return all(
        b.shape[1:] == s.shape[1:] and float((b[0] - b[1]).abs().max()) < 1e-12
        for b, s in zip(after, start, strict=True)
    )
