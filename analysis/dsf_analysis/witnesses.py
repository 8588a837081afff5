"""A "yes" carries weights that are run: signals for the tokens 0 and 1 whose recurrence IS the parity automaton.

The search looks at corners of the domains at n = 1 (n = 2 under feedback). What it finds is proved by exhaustion: from
the initial state, under every word, the recurrence in float64 visits finitely many states, and on each of them the
decision has the right sign. So it holds at every length, in the arithmetic that is run.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch

from dsf import Architecture, Feedback
from dsf.domains import Domain
from dsf.reference import scan
from dsf.sets import Interval, Polar, Set

from .subjects import heads_for

SATURATION = 1000.0  # sigmoid(1000) is 1.0, sigmoid(-1000) is 0.0 and tanh(1000) is 1.0 in float64: exactly at the ends
CANDIDATES = 60_000
MARGIN = 1e-3  # least distance of a decision from its threshold, relative to the largest score beyond 1
MOST_STATES = 64
DECODERS = ((1.0, -1.0), (1.0, 1.0), (1.0, 0.0), (0.0, 1.0))  # of two outputs, under feedback


@dataclass(frozen=True)
class ParityWitness:
    """Signals of token 0, token 1 and constants (in the public layout, B = T = 1), the drive, x_0, the decision.

    Parity of the word is odd iff decoder . y_t > threshold in head 0 (other heads are copies of it). `states` is the
    number of states that all words reach. `seal` is a digest of all the rest: it notices a changed entry even where
    that entry decides nothing.
    """

    proves: ClassVar[bool] = True
    signals: tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]
    drive: tuple[torch.Tensor, torch.Tensor]
    state: Any
    decoder: torch.Tensor
    threshold: float
    margin: float
    states: int
    seal: str = ""

    def check(self, architecture: Architecture) -> bool:
        """Seal; signals inside their domains; all words by exhaustion, as claimed; 1000 fresh random bits."""
        if self.seal != self.digest() or not self.inside(architecture):
            return False
        closure = _closure(architecture, self)
        if closure is None or closure[0] != self.states:
            return False
        off = abs(closure[1] - self.margin), abs(closure[2] - self.threshold)
        if not max(off) <= 1e-9 * max(1.0, closure[1], abs(closure[2])):
            return False
        bits = torch.randint(2, (1000,), generator=torch.Generator().manual_seed(7))
        return bool((self.decide(architecture, bits) == (bits.cumsum(0) % 2).bool()).all())

    def inside(self, architecture: Architecture) -> bool:
        """Are both tokens' signals those of the architecture, in their domains, with equal constants?"""
        if any(token.keys() != architecture.signals.keys() for token in self.signals):
            return False
        zero, one = self.signals
        return all(
            d.contains(zero[k]) and d.contains(one[k]) and (not d.const or torch.equal(zero[k], one[k]))
            for k, d in architecture.signals.items()
        )

    def digest(self) -> str:
        """SHA-256 of every entry but the seal."""
        named = [item for token in self.signals for item in sorted(token.items())]
        named += [("", x) for x in (*self.drive, *_pieces(self.state), self.decoder)]
        tensors = [(name, tuple(x.shape), str(x.dtype), x.resolve_conj().numpy().tobytes()) for name, x in named]
        numbers = float(self.threshold).hex(), float(self.margin).hex(), self.states
        return hashlib.sha256(repr((tensors, numbers)).encode()).hexdigest()

    def decide(self, architecture: Architecture, bits: torch.Tensor) -> torch.Tensor:
        """Runs the word, with dsf.reference: is the parity of each prefix odd?"""
        pick = bits.tolist()
        signals = {
            k: self.signals[0][k] if d.const else torch.cat([self.signals[b][k] for b in pick], 1)
            for k, d in architecture.signals.items()
        }
        u = torch.cat([self.drive[b] for b in pick], 1)
        return _score(scan(architecture(**signals), u, self.state)[0][0, :, 0], self.decoder) > self.threshold


def find_parity_witness(architecture: Architecture, seed: int = 0) -> ParityWitness | None:
    """Looks for a witness; None says that none was found, never that there is none."""
    alone = replace(architecture, signals={k: replace(d, groups=0) for k, d in architecture.signals.items()})
    for n in (1, 2) if architecture.feedback else (1,):
        generator = torch.Generator().manual_seed(seed)
        table = _draw(alone, n, generator)
        bits = torch.cat([torch.tensor([0, 1, 1, 1, 0, 0, 1]), torch.randint(2, (13,), generator=generator)])
        for candidate in _promising(alone, architecture, table, bits):
            closure = _closure(architecture, candidate)
            if closure and candidate.inside(architecture):
                states, margin, threshold = closure
                found = replace(candidate, threshold=threshold, margin=margin, states=states)
                return replace(found, seal=found.digest())
    return None


# ---------------------------------------------------------------------------------------------------------- the search


def _corners(d: Domain, n: int) -> torch.Tensor:
    """Values of one entry worth trying."""
    if d.kind == "index":
        return torch.arange(n)
    points = _points(d.set)
    if n > 1 and d.kind == "matrix":  # no half measures: there are many entries
        points = [v for v in points if abs(v) in (0.0, SATURATION)] or points
    return torch.tensor(points, dtype=torch.float64 if isinstance(d.set, Interval) else torch.complex128)


def _points(s: Set) -> list:
    """Numbers of the set: its ends (+-SATURATION for infinite ones), and those of 0, +-1, 2 that lie in it."""
    if isinstance(s, Interval):
        lo, hi = max(s.lo, min(-SATURATION, s.hi)), min(s.hi, max(SATURATION, s.lo))
        return sorted({v for v in (lo, -1.0, 0.0, 1.0, 2.0, hi) if lo <= v <= hi})
    if isinstance(s, Polar):
        turns = {0.0, math.pi} | ({e for e in (s.theta.lo, s.theta.hi) if math.isfinite(e)})
        exact = {0.0: 1 + 0j, math.pi: -1 + 0j, -math.pi: -1 + 0j}  # of the angles 0 and pi, without rounding
        found = [r * exact.get(t, complex(math.cos(t), math.sin(t))) for r in _points(s.r) for t in sorted(turns)]
    else:
        found = [complex(x, y) for x in _points(s.re) for y in _points(s.im)]
    return [z for z in dict.fromkeys(found) if z in s]


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
        if d.unit or d.ball:
            table[name] = torch.zeros(shape, dtype=torch.float64)
            table[name][..., 0] = 1.0
            continue
        corners = _corners(d, n)
        table[name] = corners[torch.randint(len(corners), shape, generator=generator)]
    levels = [-1.0, 0.0, 1.0] if n == 1 else [-3.0, -1.0, 1.0, 3.0]
    drives = SATURATION * torch.tensor(levels if a.feedback else [0.0], dtype=torch.float64)
    width = (a.steps, 1) if a.steps else (n,) if a.feedback else (1,)
    table["the drive"] = drives[torch.randint(len(drives), (2, CANDIDATES, *width), generator=generator)]
    return table


def _promising(
    alone: Architecture, architecture: Architecture, table: dict[str, torch.Tensor], bits: torch.Tensor
) -> list[ParityWitness]:
    """The candidates that separate odd from even on one word; widest margin first, relative to the largest score.

    Relative, because an unstable state has wide margins on a short word and is no automaton. `alone` is the
    architecture without groups: every head is a candidate of its own.
    """
    signals = {k: table[k][0] if d.const else table[k][bits][None] for k, d in alone.signals.items()}
    u = table["the drive"][bits][None]
    system = alone(**signals)
    state = _initial(system, u)
    y = scan(system, u, state)[0][0]  # [T, H, p]
    odd = (bits.cumsum(0) % 2).bool()
    found = []
    for decoder in _decoders(y.shape[-1]):
        score = _score(y, decoder)
        finite = torch.isfinite(score).all(0)
        score = torch.where(finite, score, 0.0)
        for sign in (1.0, -1.0):
            gap = (sign * score[odd]).min(0).values - (sign * score[~odd]).max(0).values
            scale = score.abs().max(0).values.clamp(min=1.0)
            relative = torch.where(gap > 2 * MARGIN * scale, gap / scale, 0.0)
            best = relative.topk(min(10, len(gap)))
            pairs = zip(best.values.tolist(), best.indices.tolist(), strict=True)
            found += [(gain, h, sign * decoder) for gain, h in pairs if gain > 0]
    found.sort(key=lambda item: -item[0])
    return [_candidate(architecture, table, h, decoder, state) for _, h, decoder in found[:20]]


def _score(y: torch.Tensor, decoder: torch.Tensor) -> torch.Tensor:
    """decoder . y over the last axis; of complex outputs the real part."""
    return (y.real if y.is_complex() else y) @ decoder


def _decoders(width: int) -> list[torch.Tensor]:
    return [torch.tensor(d, dtype=torch.float64) for d in (DECODERS if width > 1 else ((1.0,),))]


def _candidate(
    a: Architecture, table: dict[str, torch.Tensor], h: int, decoder: torch.Tensor, state: Any
) -> ParityWitness:
    """Candidate h in the public layout; in as many equal heads as the groups of the architecture need."""
    heads = heads_for(a)

    def pick(name: str, token: int) -> torch.Tensor:
        d = a.signals[name]
        x = table[name][0 if d.const else token, h]
        x = x.expand(d.groups or heads, *x.shape)
        return (x if d.const else x[None, None]).clone()

    zero, one = ({k: pick(k, token) for k in a.signals} for token in (0, 1))
    first, second = (u.expand(1, 1, heads, *u.shape).clone() for u in table["the drive"][:, h])
    pieces = tuple(s[:, h : h + 1].expand(-1, heads, *s.shape[2:]).clone() for s in _pieces(state))
    state = pieces if isinstance(state, tuple) else pieces[0]
    return ParityWitness((zero, one), (first, second), state, decoder, 0.0, 0.0, 0)


def _initial(system: Any, u: torch.Tensor) -> Any:
    """x_0 = 1 (a learned initial state, or a token at the beginning); under feedback y_0 = tanh(1)."""
    if isinstance(system, Feedback):
        zero = system.zero_state(u)
        return torch.ones_like(zero[0]), torch.tanh(torch.ones_like(zero[1]))
    return torch.ones_like(scan(system.slice(0, 1), u[:, :1])[1])


def _pieces(state: Any) -> tuple[torch.Tensor, ...]:
    return state if isinstance(state, tuple) else (state,)


# --------------------------------------------------------------------------------------------------------- exhaustion


def _closure(a: Architecture, w: ParityWitness) -> tuple[int, float, float] | None:
    """All (state, parity) pairs that words reach: (how many, margin, threshold), or None where the decision fails.

    Breadth first, one batch per generation; a state is its bytes. None too where there are more than MOST_STATES.
    """
    pieces = _pieces(w.state)
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
            after, score = _pieces(after), _score(y[:, 0, 0], w.decoder)
            if not torch.isfinite(score).all():
                return None
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
    if not high - low > 2 * MARGIN * max(1.0, *map(abs, (*scores[0], *scores[1]))):
        return None
    return len({state for state, _ in seen}), (high - low) / 2, (high + low) / 2


def _key(pieces: tuple[torch.Tensor, ...], row: int) -> bytes:
    return b"".join((piece[row] + 0.0).resolve_conj().numpy().tobytes() for piece in pieces)  # + 0.0: -0 is 0
