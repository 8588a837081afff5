"""A few tokens at once, as in decoding: one launch that reads a state once and writes it once, y on the way.

    S <- D_t S - beta_t a_t (v_t^T S) + b_t u_t^T        y_t = c_t^T S        (before: y_t = c_t^T of the S that was)

for a multiple of I, a diagonal, and a diagonal minus a matrix of rank one; decays as logarithms or as factors of any
sign. Any number of tokens is right, and up to 16 are fast. Gradients are those of the same steps in plain torch.
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
from ..recurrences import Loops, columns_by_steps, recur
from ..sizes import Sizes
from .launching import alike, gpu_kernel, launch, multiprocessors, placed, power, up_to

FEW = 16  # tokens, after which chunks are faster
STEPS = 4  # asked for at once
WIDEST = 4096  # rows of a state
ENTRIES = 8192  # of a program
CALL, STEP, LATER = 0.5, 0.02, 20  # calls of a run, of a token, and of one after FEW, whose way back is torch's


def cost(extra: int) -> Callable[[Sizes], Cost]:
    """With so many vectors beside b and c. Each signal once; with few tokens it is calls that tell kernels apart."""

    def of(z: Sizes) -> Cost:
        flops = (4 + extra) * z.rows * z.steps * z.n * z.p
        moved = z.rows * z.steps * ((2 + extra) * z.n + 2 * z.p) * z.itemsize
        return Cost(flops, moved, CALL + (STEP if z.steps <= FEW else LATER) * z.steps)

    return of


@dataclass(frozen=True)
class How:
    """Of a run: y before or after the step; decay "none", "number" (rate), "log" or "factor"; of rank one (beta in a
    signal, or the number `scale`) or not."""

    before: bool
    decay: str
    rate: float
    scales: bool
    scale: float
    rank: bool

    @property
    def options(self) -> dict[str, Any]:
        return {"DECAY": self.decay, "SCALES": self.scales, "RANK": self.rank, "BEFORE": int(self.before)}


def _columns(u: torch.Tensor, n: int) -> int:
    """Of a program: few where that fills the card."""
    B, _, H, p = u.shape
    P = min(power(p, 1), max(1, ENTRIES // power(n)), 32)
    while P > 8 and B * H * -(-p // P) < 2 * multiprocessors(u.device):
        P //= 2
    return P


def _forward(how: How, keep: bool, inputs):
    from .programs.step import step

    d, beta, along, seen, b, c, u, x = inputs
    (B, T, H, p), n, P = u.shape, x.shape[2], _columns(u, x.shape[2])
    y, last = torch.empty_like(u, memory_format=torch.contiguous_format), torch.empty_like(x)
    signals = ((c, n), (b, n), (u, p), (d, d.shape[3]), (beta, beta.shape[3]), (along, n), (seen, n))
    parts = (a for x, size in signals for a in placed(x, B, T, H, size))
    arguments = (*parts, how.rate, how.scale, x, y, last, T, H, n, p)
    options = {"N": power(n), "P": P, "STEPS": min(power(T, 1), STEPS), "CHANNELS": d.shape[3] > 1, **how.options}
    warps = min(8, max(1, power(n) * P // 1024))
    launch(step, (B * H, -(-p // P)), x, *arguments, **options, num_warps=warps, num_stages=1)
    return (y, last), None


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

    return columns_by_steps(step, how.before, x, c, u, d, beta, along, seen, b)


LOOPS = Loops(_forward, _backward, plain)


def _run(d: Any, low_rank: tuple | None, b, c, u, x, before: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """d a Log, a tensor or a number; low_rank (beta, along, seen)."""
    if not u.shape[1]:
        return u.to(x.dtype), x
    b, c, u = alike(b, c, u)
    beta, along, seen = map(value, low_rank or (0, c, c))
    if isinstance(beta, torch.Tensor) and beta.shape[3] > 1:
        beta, along = 1, beta * along
    decay, rate, decays = _decay(d, c)
    scale, scales = (1.0, beta) if isinstance(beta, torch.Tensor) else (float(beta), c)
    how = How(before, decay, rate, scales is beta, scale, low_rank is not None)
    return recur(LOOPS, how, decays, scales, along, seen, b, c, u, x.contiguous())


def _decay(d: Any, absent: torch.Tensor) -> tuple[str, float, torch.Tensor]:
    """Its kind, number and tensor."""
    if isinstance(d, Log):
        return "log", 1.0, d.log
    return ("factor", 1.0, d) if isinstance(d, torch.Tensor) else ("none" if d == 1 else "number", float(d), absent)


def _real(*numbers: Any) -> str | None:
    return "a number in A is complex" if any(isinstance(a, complex) for a in numbers) else None


_kernel = partial(gpu_kernel, fits=up_to(WIDEST))


@_kernel("triton_step_scaled", covers=Scaled, cost=cost(0), declines=lambda A: _real(A.a))
def run_scaled(A: Scaled, b: torch.Tensor, c: torch.Tensor, u: torch.Tensor, x: torch.Tensor, before: bool):
    """Signature and shapes: see registry.py."""
    return _run(A.a, None, b, c, u, x, before)


@_kernel("triton_step_diagonal", covers=Diagonal, cost=cost(1), declines=lambda A: _real(A.d))
def run_diagonal(A: Diagonal, b: torch.Tensor, c: torch.Tensor, u: torch.Tensor, x: torch.Tensor, before: bool):
    """Signature and shapes: see registry.py."""
    return _run(A.d, None, b, c, u, x, before)


@_kernel("triton_step_low_rank", covers=DiagonalPlusLowRank, cost=cost(3), declines=lambda A: _real(A.d, A.b))
def run_low_rank(
    A: DiagonalPlusLowRank, b: torch.Tensor, c: torch.Tensor, u: torch.Tensor, x: torch.Tensor, before: bool
):
    """Signature and shapes: see registry.py."""
    return _run(A.d, (A.b, A.u, A.v), b, c, u, x, before)
