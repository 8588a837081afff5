"""A few tokens at once, as in decoding: one launch that reads a state once and writes it once, y on the way.

    S <- D_t S - beta_t a_t (v_t^T S) + b_t u_t^T        y_t = c_t^T S        (before: y_t = c_t^T of the S that was)

for a multiple of I, a diagonal, and a diagonal minus a matrix of rank one; decays as logarithms or as factors of any
sign. Any number of tokens is right, and up to 16 are fast; sequences in one pack may have different numbers of them.
Gradients are those of the same steps in plain torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from dsf.operators import Diagonal, DiagonalPlusLowRank, Scaled
from dsf.values import Log, value

from ..costs import Cost
from ..derivatives import differentiable_gradients
from ..packing import Packing
from ..recurrences import Loops, Reads, columns_by_steps, recur
from ..sizes import Sizes
from .configurations import Configuration, configuration
from .launching import alike, gpu_kernel, launch, multiprocessors, placed, power, up_to

FEW = 16  # tokens, after which chunks are faster
STEPS = 4  # asked for at once
WIDEST = 4096  # rows of a state
ENTRIES = 8192  # of a program
CALL, STEP = 1, 0.02  # calls of a run, and of a token
LATER = 20  # of one after FEW, and where gradients are wanted: the way back is torch's


def cost(extra: int, products: int) -> Callable[[Sizes], Cost]:
    """With so many vectors beside b and c, and products per entry of a state.

    Each signal once; with few tokens it is calls that tell kernels apart.
    """

    def of(z: Sizes) -> Cost:
        flops = 2 * products * z.rows * z.steps * z.n * z.p
        moved = z.rows * z.steps * ((2 + extra) * z.n + 2 * z.p) * z.itemsize
        return Cost(flops, moved, CALL + (STEP if z.longest <= FEW and not z.trains else LATER) * z.longest)

    return of


@dataclass(frozen=True)
class How:
    """Of a run: y before or after the step; decay "none", "number" (rate), "log" or "factor"; of rank one (beta in a
    signal, or the number `scale`) or not; one sequence in a row, or several."""

    before: bool
    decay: str
    rate: float
    scales: bool
    scale: float
    rank: bool
    packing: Packing | None

    @property
    def options(self) -> dict[str, Any]:
        packed = self.packing is not None
        return dict(DECAY=self.decay, SCALES=self.scales, RANK=self.rank, BEFORE=int(self.before), PACKED=packed)


def _size(heads: int, n: int, u: torch.Tensor) -> Configuration:
    """Of a program: few columns where that fills the card. heads: of all sequences."""
    p, wide = u.shape[3], power(n)
    P = widest = min(power(p, 1), max(1, ENTRIES // wide), 32)
    while P > 8 and heads * -(-p // P) < 2 * multiprocessors(u.device):
        P //= 2
    name = "step" if P == widest else "few_steps"
    return configuration(name, n, p, u.dtype, u.device, Configuration(P, min(8, max(1, wide * P // 1024)), 1))


def _forward(how: How, keep: bool, inputs):
    from .programs.step import step

    d, beta, along, seen, b, c, u, x = inputs
    (B, T, H, p), (N, _, n, _), packing = u.shape, x.shape, how.packing
    size, longest = _size(N * H, n, u), T if packing is None else packing.longest
    P, table = min(power(p, 1), size.columns), u if packing is None else packing.table(1, u.device)
    y, last = torch.empty_like(u, memory_format=torch.contiguous_format), torch.empty_like(x)
    signals = ((c, n), (b, n), (u, p), (d, d.shape[3]), (beta, beta.shape[3]), (along, n), (seen, n))
    parts = (a for x, size in signals for a in placed(x, B, T, H, size))
    arguments = (*parts, how.rate, how.scale, x, y, last, table, T, H, n, p)
    options = {"N": power(n), "P": P, "STEPS": min(power(longest, 1), STEPS), "CHANNELS": d.shape[3] > 1, **how.options}
    launch(step, (N * H, -(-p // P)), x, *arguments, **options, **size.compile)
    return (y, last), ()


def _backward(how: How, kept, inputs, outputs, *gradients):
    """By autograd through the plain steps: a few tokens of them."""
    with torch.enable_grad():
        given = [a.detach().requires_grad_() for a in inputs]
        found = differentiable_gradients(lambda *a: plain(how, a), given, [True] * len(given), gradients)
    return [a.detach() for a in found if a is not None]


def plain(how: How, inputs):
    """The same, step after step, in plain torch."""
    d, beta, along, seen, b, c, u, x = inputs

    def step(x: torch.Tensor, *one: torch.Tensor) -> torch.Tensor:
        u, d, beta, along, seen, b = (a.to(x.dtype)[..., None] for a in one)
        now = x * {"none": 1.0, "number": how.rate, "log": d.exp(), "factor": d}[how.decay]
        if how.rank:
            now = now - (beta if how.scales else how.scale) * along * (seen * x).sum(-2, keepdim=True)
        return now + b * u.mT

    return columns_by_steps(step, Reads(how.before, how.packing), x, c, u, d, beta, along, seen, b)


LOOPS = Loops(_forward, _backward, plain)


def _run(
    d: Any, low_rank: tuple | None, b, c, u, x, before: bool, packing: Packing | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """d a Log, a tensor or a number; low_rank (beta, along, seen)."""
    if not u.shape[1]:
        return u.to(x.dtype), x
    b, c, u = alike(b, c, u)
    beta, along, seen = map(value, low_rank or (0, c, c))
    if isinstance(beta, torch.Tensor) and beta.shape[3] > 1:
        beta, along = 1, beta * along
    decay, rate, decays = _decay(d, c)
    scale, scales = (1.0, beta) if isinstance(beta, torch.Tensor) else (float(beta), c)
    how = How(before, decay, rate, scales is beta, scale, low_rank is not None, packing)
    return recur(LOOPS, how, decays, scales, along, seen, b, c, u, x.contiguous())


def _decay(d: Any, absent: torch.Tensor) -> tuple[str, float, torch.Tensor]:
    """Its kind, number and tensor."""
    if isinstance(d, Log):
        return "log", 1.0, d.log
    return ("factor", 1.0, d) if isinstance(d, torch.Tensor) else ("none" if d == 1 else "number", float(d), absent)


def _real(*numbers: Any) -> str | None:
    return "a number in A is complex" if any(isinstance(a, complex) for a in numbers) else None


Both = tuple[torch.Tensor, torch.Tensor]
_kernel = partial(gpu_kernel, fits=up_to(WIDEST), packs=True)


@_kernel("triton_step_scaled", covers=Scaled, cost=cost(0, 3), declines=lambda A: _real(A.a))
def run_scaled(A: Scaled, b, c, u, x, before: bool, packing: Packing | None = None) -> Both:
    """Signature and shapes: see registry.py."""
    return _run(A.a, None, b, c, u, x, before, packing)


@_kernel("triton_step_diagonal", covers=Diagonal, cost=cost(1, 3), declines=lambda A: _real(A.d))
def run_diagonal(A: Diagonal, b, c, u, x, before: bool, packing: Packing | None = None) -> Both:
    """Signature and shapes: see registry.py."""
    return _run(A.d, None, b, c, u, x, before, packing)


@_kernel("triton_step_low_rank", covers=DiagonalPlusLowRank, cost=cost(3, 5), declines=lambda A: _real(A.d, A.b))
def run_low_rank(A: DiagonalPlusLowRank, b, c, u, x, before: bool, packing: Packing | None = None) -> Both:
    """Signature and shapes: see registry.py."""
    return _run(A.d, (A.b, A.u, A.v), b, c, u, x, before, packing)
