"""One random search for a counterexample: layers of a kind that tell accepted words from rejected ones, at any length.

Nothing of it is shared with the search for witnesses. It draws signals of every letter inside the domains (ends and
rational angles among them), drives, initial states and readouts, runs one or two layers in float64, and measures by how
much the outputs after accepted words stay away from those after rejected ones; outputs saturate, y / (1 + |y|).
"""

import itertools
from dataclasses import dataclass, replace

import torch

from dsf import Architecture
from dsf.reference import scan
from dsf.sets import Polar
from dsf_analysis.languages.patterns import Clash, Period
from dsf_analysis.subjects import has_infinite_state, transition
from helpers import generator

FOUND = 0.02  # a separation of saturated outputs that counts
KEPT = 12  # candidates that are run again on long words
SHORT, LONG = (30, 48), (150, 24)  # repetitions, and how many words


# ---------------------------------------------------------------------------------------------------------------- words
def attacked_words(pattern, automaton, repetitions, count, draw):
    """Words (tuples of letters) that a pattern is about, and whether they are accepted."""
    if isinstance(pattern, Period):
        words = [pattern.x + pattern.u * k + pattern.v for k in range(repetitions, repetitions + count // 2)]
    elif isinstance(pattern, Clash):
        words = []
        for i in range(count):
            random = tuple(torch.randint(len(automaton.letters), (repetitions,), generator=draw).tolist())
            x, w = (pattern.x1, pattern.w1) if i % 2 else (pattern.x2, pattern.w2)
            before, times = (
                (x, repetitions + i) if pattern.kind == "memory" else (x + random + x * (i % 4 // 2), 1 + i % 20)
            )
            words.append(before + pattern.u * times + w + pattern.v)
    else:
        x = automaton.words_to()[pattern.points[0]]
        v = automaton.separator(pattern.points[0], pattern.points[1])
        picks = torch.randint(len(pattern.words), (count, repetitions + 12), generator=draw).tolist()
        words = [
            x + sum((pattern.words[i] for i in row[: repetitions + j % 12]), ()) + v for j, row in enumerate(picks)
        ]
    accepted = torch.tensor([automaton.run(w) in automaton.accepting for w in words])
    assert accepted.any() and not accepted.all(), "nothing to tell apart"
    return words, accepted


def padded(words):
    """Letters [W, T], and the place of the last one of each word: what follows does not matter."""
    longest = max(map(len, words))
    letters = torch.tensor([[*w, *(0,) * (longest - len(w))] for w in words])
    return letters, torch.tensor([len(w) - 1 for w in words])


# --------------------------------------------------------------------------------------------------------------- layers
@dataclass
class Layer:
    """Candidates as heads: signals per token [tokens, H, ...] (constants [H, ...]), drives, x_0 and a threshold."""

    a: Architecture
    signals: dict
    drive: torch.Tensor
    state: object
    threshold: torch.Tensor

    def only(self, heads):
        signals = {k: x[heads] if self.a.signals[k].const else x[:, heads] for k, x in self.signals.items()}
        state = None if self.state is None else self.state[:, heads]
        return Layer(self.a, signals, self.drive[:, heads], state, self.threshold[heads])

    def run(self, tokens):
        """tokens [W, T, H] -> saturated outputs [W, T, H]."""
        heads = torch.arange(tokens.shape[2])
        signals = {k: x if self.a.signals[k].const else x[tokens, heads] for k, x in self.signals.items()}
        state = None if self.state is None else self.state.expand(len(tokens), *self.state.shape[1:]).clone()
        y = scan(self.a(**signals), self.drive[tokens, heads], state)[0].flatten(3)[..., 0]
        y = torch.nan_to_num(y.real if y.is_complex() else y, nan=torch.inf, posinf=torch.inf, neginf=-torch.inf)
        return torch.where(y.isinf(), y.sign(), y / (1 + y.abs()))


def drawn(a, tokens, heads, n, draw):
    """Random candidates of one layer."""
    alone = replace(a, signals={k: replace(d, groups=0) for k, d in a.signals.items()})
    signals, u = alone.sample(1, tokens, heads, n, 1, generator=draw, ends=0.5)
    signals = {k: x if alone.signals[k].const else x[0] for k, x in signals.items()}
    for k, d in alone.signals.items():
        signals[k] = with_angles(d, signals[k], draw)
    zero = torch.rand(u.shape[1:3], generator=draw) < 0.5
    drive = torch.where(zero.reshape(*zero.shape, *(1,) * (u.dim() - 3)), 0.0, u[0])
    state = None
    if not has_infinite_state(alone.bounds()):
        one = {k: x if alone.signals[k].const else x[None, :1] for k, x in signals.items()}
        after = scan(alone(**one), u[:, :1])[1]
        if isinstance(after, torch.Tensor):
            state = torch.randn(after.shape, generator=draw, dtype=torch.float64).to(after.dtype)
    return Layer(alone, signals, drive, state, 0.5 * torch.randn(heads, generator=draw, dtype=torch.float64))


def with_angles(d, x, draw):
    """Half of the unit vectors in a plane, half of the complex numbers at multiples of 30 degrees."""
    polar = isinstance(d.set, Polar)
    if d.value or not (d.unit and x.shape[-1] > 1 or polar):
        return x
    shape = x.shape if polar else x.shape[:-1]
    angle = torch.randint(12, shape, generator=draw).double() * torch.pi / 6
    half = torch.rand(shape[:-1] if polar else shape, generator=draw) < 0.5
    if polar:
        other = torch.polar(torch.full(shape, min(d.set.r.hi, 1.0), dtype=torch.float64), angle)
        inside = torch.tensor([z in d.set for z in other.flatten().tolist()]).reshape(shape)
        return torch.where(half[..., None] & inside, other, x)
    other = torch.zeros_like(x)
    other[..., 0], other[..., 1] = angle.cos(), angle.sin()
    return torch.where(half[..., None], other, x)


def outputs(stack, letters):
    """Outputs [W, T, H] of the last layer; each layer reads the letter, and one bit of the layer before."""
    letters = letters[..., None].expand(*letters.shape, len(stack[0].threshold))
    y = stack[0].run(letters)
    for before, layer in itertools.pairwise(stack):
        y = layer.run(2 * letters + (y > before.threshold))
    return y


def at_the_ends(stack, letters, last):
    """Outputs [W, H] after the last letters, a few words at a time."""
    chunks = torch.arange(len(letters)).split(16)
    return torch.cat([outputs(stack, letters[c])[torch.arange(len(c)), last[c]] for c in chunks])


def separations(scores, accepted):
    """The least distance of a score of an accepted word to one of a rejected word, per candidate: scores [W, H]."""
    ordered, order = scores.sort(0)
    differ = accepted[order][1:] != accepted[order][:-1]
    return torch.where(differ, ordered[1:] - ordered[:-1], torch.inf).amin(0)


# --------------------------------------------------------------------------------------------------------------- search
def best_separation(kinds, pattern, automaton, layers, budget, seed=0):
    """The best separation that `budget` random candidates of each stack of kinds reach, on short and on long words."""
    draw, best = generator(seed), 0.0
    short, long = (attacked_words(pattern, automaton, *size, draw) for size in (SHORT, LONG))
    near, far = padded(short[0]), padded(long[0])
    for depth in range(1, layers + 1):
        for stack_kinds in itertools.product(kinds, repeat=depth):
            sizes = [len(automaton.letters) * (2 if i else 1) for i in range(depth)]
            stack = [drawn(a, size, budget, 2, draw) for a, size in zip(stack_kinds, sizes, strict=True)]
            with torch.no_grad():
                scores = at_the_ends(stack, *near)
                top = separations(scores, short[1]).argsort(descending=True)[:KEPT]
                again = at_the_ends([layer.only(top) for layer in stack], *far)
            both = torch.cat([scores[:, top], again])
            best = max(best, separations(both, torch.cat([short[1], long[1]])).max().item())
    return best


# -------------------------------------------------------------------------------------------------------------- spectra
def distances(values, what):
    """How far eigenvalues [..., N] are from what is claimed of them."""
    if what == "real":
        return values.imag.abs()
    if what == ">= 0":
        return torch.where(values.real < 0, values.abs(), values.imag.abs())
    if what == "in the disc":
        return (values.abs() - 1).clamp(min=0)
    assert what == "1 or inside"  # how close to the circle, where it is not close to 1
    return torch.where((values - 1).abs() > 0.1, ((values.abs() - 1 + 1e-6) * 1e6).clamp(0, 1), 0.0)


def farthest_eigenvalue(a, what, length, budget, seed=0):
    """The largest distance over `budget` random products of `length` transitions, at n = 1, 2, 3 (`distances`)."""
    draw, found = generator(seed), 0.0
    for n in (1, 2, 3):
        signals, u = a.sample(1, length, budget, n, 1, generator=draw, ends=0.5)
        A = transition(a, signals, u).to(torch.complex128)
        A = A.expand(1, length, budget, *A.shape[-2:])[0]
        A = A[:, A.isfinite().flatten(2).all(-1).all(0)]
        P = A[0]
        for step in A[1:]:
            P = step @ P
        found = max(found, distances(torch.linalg.eigvals(P), what).max().item())
    return found
