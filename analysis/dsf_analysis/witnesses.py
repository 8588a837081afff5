"""A "yes" carries weights that are run: signals for the tokens 0 and 1 whose recurrence IS the parity automaton.

The search looks at corners of the domains at n = 1 (n = 2 under feedback). What it finds is proved by exhaustion: from
the initial state, under every word, the recurrence in float64 visits finitely many states, and on each of them the
decision has the right sign. So it holds at every length, in the arithmetic that is run.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from dsf import Architecture, Interval
from dsf.domains import Domain
from dsf.reference import scan

SATURATION = 1000.0  # sigmoid(1000) is 1.0, sigmoid(-1000) is 0.0 and tanh(1000) is 1.0 in float64: exactly at the ends
CANDIDATES = 60_000
MARGIN = 1e-3  # least distance of a decision from its threshold
MOST_STATES = 256
DECODERS = ((1.0, -1.0), (1.0, 1.0), (1.0, 0.0), (0.0, 1.0))  # of two outputs, under feedback


@dataclass(frozen=True)
class ParityWitness:
    """Signals of token 0, token 1 and constants (in the public layout, B = T = H = 1), the drive, x_0, the decision.

    Parity of the word is odd iff decoder . y_t > threshold. `states` is the number of states that all words reach.
    """

    signals: tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]
    drive: tuple[torch.Tensor, torch.Tensor]
    state: Any
    decoder: torch.Tensor
    threshold: float
    margin: float
    states: int
    eigenvalues: dict[str, str] = field(default_factory=dict)

    def check(self, architecture: Architecture) -> bool:
        """Signals inside their domains; all words by exhaustion; 1000 fresh random bits; sizes and margin as claimed."""
        for name, domain in architecture.signals.items():
            for token in (0, 1):
                x = self.signals[token].get(name)
                if x is None or not domain.contains(x):
                    return False
                if domain.const and not torch.equal(x, self.signals[0][name]):
                    return False
        closure = _closure(architecture, self)
        if closure is None or closure[0] != self.states or abs(closure[1] - self.margin) > 1e-9 * max(1, self.margin):
            return False
        bits = torch.randint(2, (1000,), generator=torch.Generator().manual_seed(7))
        return bool((self.decide(architecture, bits) == (bits.cumsum(0) % 2).bool()).all())

    def decide(self, architecture: Architecture, bits: torch.Tensor) -> torch.Tensor:
        """Runs the word, with dsf.reference: is the parity of each prefix odd?"""
        pick = bits.tolist()
        signals = {
            k: self.signals[0][k] if d.const else torch.cat([self.signals[b][k] for b in pick], 1)
            for k, d in architecture.signals.items()
        }
        u = torch.cat([self.drive[b] for b in pick], 1)
        y = scan(architecture(**signals), u, self.state)[0][0, :, 0]
        return (y.real if y.is_complex() else y) @ self.decoder > self.threshold


def find_parity_witness(architecture: Architecture, seed: int = 0) -> ParityWitness | None:
    """Looks for a witness; None says that none was found, never that there is none."""
    for n in (1, 2) if architecture.feedback else (1,):
        generator = torch.Generator().manual_seed(seed)
        table = _draw(architecture, n, generator)
        bits = torch.cat([torch.tensor([0, 1, 1, 1, 0, 0, 1]), torch.randint(2, (13,), generator=generator)])
        for candidate in _promising(architecture, table, bits, n):
            closure = _closure(architecture, candidate)
            if closure:
                states, margin, threshold = closure
                return ParityWitness(
                    candidate.signals, candidate.drive, candidate.state, candidate.decoder, threshold, margin, states
                )
    return None


# ---------------------------------------------------------------------------------------------------------- the search


def _corners(d: Domain, n: int) -> torch.Tensor:
    """Values of one entry worth trying: the ends of its set, 0 and +-1 inside it, saturation for infinite ends."""
    if d.kind == "index":
        return torch.arange(n)
    if not isinstance(d.set, Interval):
        return torch.tensor([-1, 0, 1], dtype=torch.complex128)
    lo, hi = max(d.set.lo, -SATURATION), min(d.set.hi, SATURATION)
    inside = [v for v in (lo, -1.0, 0.0, 1.0, hi) if lo <= v <= hi]
    return torch.tensor(sorted(set(inside)), dtype=torch.float64)


def _draw(a: Architecture, n: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """CANDIDATES random corner choices as heads: [2 tokens | 1, H, ...own axes]."""
    table: dict[str, torch.Tensor] = {}
    for name, d in a.signals.items():
        tokens = 1 if d.const else 2
        shape = (tokens, CANDIDATES, *((d.steps,) if d.steps else ()), *((n,) * len(d.own_axes)))
        if d.value:
            fixed = d.sample({"B": 1, "T": 1, "H": 1, "n": n}, ends=0.0)[0]
            table[name] = fixed.expand(shape)
            continue
        if d.unit:
            table[name] = torch.zeros(shape, dtype=torch.float64)
            table[name][..., 0] = 1.0
            continue
        corners = _corners(d, n)
        if n > 1 and d.kind == "matrix":
            corners = SATURATION * torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
        table[name] = corners[torch.randint(len(corners), shape, generator=generator)]
    levels = [-1.0, 0.0, 1.0] if n == 1 else [-3.0, -1.0, 1.0, 3.0]
    drives = SATURATION * torch.tensor(levels if a.feedback else [0.0], dtype=torch.float64)
    width = (a.steps, 1) if a.steps else (n,) if a.feedback else (1,)
    table["the drive"] = drives[torch.randint(len(drives), (2, CANDIDATES, *width), generator=generator)]
    return table


def _promising(a: Architecture, table: dict[str, torch.Tensor], bits: torch.Tensor, n: int) -> list[ParityWitness]:
    """The candidates that separate odd from even on one word; widest margin first, relative to the largest score.

    Relative, because an unstable state has wide margins on a short word and is no automaton.
    """
    signals = {k: table[k][0] if d.const else table[k][bits][None] for k, d in a.signals.items()}
    for k, d in a.signals.items():
        if d.groups:  # shared by the heads: all candidates share the first choice
            signals[k] = signals[k][..., : d.groups, :] if d.own_axes else signals[k][..., : d.groups]
    u = table["the drive"][bits][None]
    system = a(**signals)
    state = _initial(system, u, a)
    y = scan(system, u, state)[0][0]  # [T, H, p]
    y = y.real if y.is_complex() else y
    odd = (bits.cumsum(0) % 2).bool()
    found = []
    for decoder in _decoders(y.shape[-1]):
        score = (y @ decoder).nan_to_num(0.0, 0.0, 0.0)
        for sign in (1.0, -1.0):
            gap = (sign * score[odd]).min(0).values - (sign * score[~odd]).max(0).values
            relative = torch.where(gap > 2 * MARGIN, gap / score.abs().max(0).values, 0.0)
            best = relative.topk(min(10, len(gap)))
            found += [(g, h, sign * decoder) for g, h in zip(best.values.tolist(), best.indices.tolist()) if g > 0]
    found.sort(key=lambda item: -item[0])
    return [_candidate(a, table, h, decoder, state) for _, h, decoder in found[:20]]


def _decoders(width: int) -> list[torch.Tensor]:
    return [torch.ones(1, dtype=torch.float64)] if width == 1 else [torch.tensor(d, dtype=torch.float64) for d in DECODERS]


def _candidate(a: Architecture, table: dict[str, torch.Tensor], h: int, decoder: torch.Tensor, state: Any) -> ParityWitness:
    def pick(name: str, token: int) -> torch.Tensor:
        d = a.signals[name]
        x = table[name][0 if d.const else token, 0 if d.groups else h]
        return x[None].clone() if d.const else x[None, None, None].clone()

    signals = tuple({k: pick(k, token) for k in a.signals} for token in (0, 1))
    drive = tuple(table["the drive"][token, h][None, None, None].clone() for token in (0, 1))
    one = tuple(s[:, h : h + 1].clone() for s in state) if isinstance(state, tuple) else state[:, h : h + 1].clone()
    return ParityWitness(signals, drive, one, decoder, 0.0, 0.0, 0)  # type: ignore[arg-type]


def _initial(system: Any, u: torch.Tensor, a: Architecture) -> Any:
    """x_0 = 1 (a learned initial state, or a token at the beginning); under feedback y_0 = tanh(1)."""
    if a.feedback:
        zero = system.zero_state(u)
        return torch.ones_like(zero[0]), torch.tanh(torch.ones_like(zero[1]))
    return torch.ones_like(scan(system.slice(0, 1), u[:, :1])[1])


# --------------------------------------------------------------------------------------------------------- exhaustion


def _closure(a: Architecture, w: ParityWitness) -> tuple[int, float, float] | None:
    """All (state, parity) pairs that words reach: (how many, margin, threshold), or None where the decision fails.

    Breadth first, one batch per generation; a state is its bytes. None too where there are more than MOST_STATES.
    """
    pieces = w.state if isinstance(w.state, tuple) else (w.state,)
    seen = {(_key(pieces, 0), 0)}
    frontier, parity = pieces, torch.zeros(1, dtype=torch.long)
    scores: tuple[list[float], list[float]] = ([], [])
    while len(parity):
        fresh: list[tuple[tuple[torch.Tensor, ...], int]] = []
        for token in (0, 1):
            count = len(parity)
            signals = {
                k: w.signals[token][k] if d.const else w.signals[token][k].expand(count, *w.signals[token][k].shape[1:])
                for k, d in a.signals.items()
            }
            u = w.drive[token].expand(count, *w.drive[token].shape[1:])
            y, after = scan(a(**signals), u, frontier if isinstance(w.state, tuple) else frontier[0])
            after = after if isinstance(after, tuple) else (after,)
            y = y[:, 0, 0]
            score = (y.real if y.is_complex() else y) @ w.decoder
            for row in range(count):
                reached, odd = tuple(piece[row : row + 1] for piece in after), int(parity[row] + token) % 2
                scores[odd].append(score[row].item())
                key = (_key(reached, 0), odd)
                if key not in seen:
                    seen.add(key)
                    fresh.append((reached, odd))
        if len(seen) > MOST_STATES:
            return None
        if not fresh:
            break
        frontier = tuple(torch.cat([state[i] for state, _ in fresh]) for i in range(len(pieces)))
        parity = torch.tensor([odd for _, odd in fresh])
    low, high = max(scores[0]), min(scores[1])
    if not high - low > 2 * MARGIN:  # also refuses NaN
        return None
    return len({state for state, _ in seen}), (high - low) / 2, (high + low) / 2


def _key(pieces: tuple[torch.Tensor, ...], row: int) -> bytes:
    return b"".join((piece[row] + 0.0).resolve_conj().numpy().tobytes() for piece in pieces)  # + 0.0: -0 is 0
