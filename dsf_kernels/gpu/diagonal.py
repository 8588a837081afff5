"""One decay per channel in chunks: what needs no state in one launch, then one walk; backward one launch more.

    S <- diag(e^{g_t}) S + b_t u_t^T      y_t = c_t^T S      (before: y_t = c_t^T of the S that was)

Kept for backward: the inputs. What was prepared for the walk is as large as they are, and is prepared again.
"""

from __future__ import annotations

import math

import torch

from dsf.operators import Diagonal
from dsf.values import Log, is_number

from ..costs import Cost, tensor_cores
from ..recurrences import Loops, recur
from ..sizes import Sizes
from .launching import LONGEST, alike, gpu_kernel, launch, placed, power, up_to
from .scalar import SCALAR
from .walking import CHUNK, WIDEST, Cut, Signals, both_ways, cut_of
from .walking import forward as walk_forward

PART = 64  # steps that a program prepares, or finds the gradients of


def declines(A: Diagonal) -> str | None:
    """Why this diagonal does not suit, or None."""
    if is_number(A.d) and not isinstance(A.d, complex):
        return None if A.d >= 0 else f"the decay {A.d} is negative"
    if isinstance(A.d, torch.Tensor) and not A.d.is_complex():
        return "the decay is not in log space: write decay(g)"
    return None if isinstance(A.d, Log) and not A.d.log.is_complex() else "the decay is complex"


def cost(z: Sizes) -> Cost:
    """Each signal once, and what is prepared written and read, by every block of 64 channels; products of C x C at
    three levels more, and those of the state."""
    blocks = -(-z.p // 64)
    flops = 2 * z.rows * z.steps * (CHUNK * (4 * z.n + z.p) + 2 * z.n * z.p)
    moved = z.rows * z.steps * (5 * z.n + CHUNK + blocks * (2 * z.n + CHUNK) + 2 * z.p) * z.itemsize
    return Cost(flops, moved, 2, tensor_cores(z))


def _prepared(before: bool, inputs) -> tuple[Cut, Signals]:
    from .programs.diagonal_pairs import prepare

    g, b, c, u, x = inputs
    cut = cut_of(u, x.shape[2], READY=True, RANK=False, BEFORE=int(before))
    shape, C = (cut.B, cut.T, cut.H), cut.options["C"]
    kept = torch.bfloat16 if u.dtype == torch.bfloat16 else torch.float32
    rows, columns = (torch.empty(*shape, cut.n, dtype=kept, device=u.device) for _ in range(2))
    whole = x.new_empty(cut.B, cut.H, cut.chunks, cut.n)
    pairs = torch.empty(cut.B, cut.H, cut.chunks, C, C, dtype=kept, device=u.device)
    N = min(power(cut.n), 64 if u.dtype == torch.float32 else 128)
    options = {name: cut.options[name] for name in ("C", "BEFORE", "KIND", "PRECISION")}
    options |= {"N": N, "WHOLE": power(cut.n), "num_warps": 8 if N >= 64 else 4, "num_stages": 1}
    given = (a for signal in (c, b, g) for a in placed(signal, *shape, cut.n))
    arguments = *given, rows, columns, whole, pairs, cut.T, cut.H, cut.n, cut.chunks
    launch(prepare, (cut.heads, -(-cut.T // PART)), u, *arguments, **options)
    return cut, Signals(rows, columns, rows, whole=whole, pairs=pairs)


def _forward(before: bool, keep: bool, inputs):
    return walk_forward(*_prepared(before, inputs), *inputs[3:]), None


def _backward(before: bool, kept, inputs, outputs, dy, dx):
    from .programs.diagonal_gradients import gradients

    (g, b, c, u, x), (cut, signals) = inputs, _prepared(before, inputs)
    ways = both_ways(cut, signals, u, x, dy, dx)
    shape = cut.B, cut.T, cut.H
    dg, db, dc = (a.new_empty(*shape, cut.n) for a in (g, b, c))
    half, N = u.dtype != torch.float32, min(power(cut.n), 64)
    options = {name: cut.options[name] for name in ("C", "BEFORE", "KIND", "PRECISION")}
    # fp32 takes fewer instructions with half as many threads, though more of it lies on their stacks
    options |= {"N": N, "P": min(power(cut.p), 32), "num_warps": 8 if half and N == 64 else 4}
    sizes = (c, cut.n), (b, cut.n), (u, cut.p), (dy, cut.p), (g, cut.n)
    given = (a for x, size in sizes for a in placed(x, *shape, size))
    arguments = *given, ways.states, ways.dstates, dc, db, dg, *cut.sizes
    grid = cut.heads, -(-cut.T // PART), -(-cut.n // N)
    launch(gradients, grid, u, *arguments, **options, num_stages=1)
    return dg, db, dc, ways.du, ways.dx


DIAGONAL = Loops(_forward, _backward, SCALAR.plain)  # step by step both read the same


@gpu_kernel("triton_diagonal", covers=Diagonal, cost=cost, declines=declines, fits=up_to(WIDEST, tokens=LONGEST * PART))
def run(A: Diagonal, b: torch.Tensor, c: torch.Tensor, u: torch.Tensor, x: torch.Tensor, before: bool):
    """Signature and shapes: see registry.py."""
    if not u.shape[1]:
        return u.to(x.dtype), x
    g = A.d.log if isinstance(A.d, Log) else x.new_full((1, 1, 1, 1), math.log(A.d) if A.d else -math.inf)
    return recur(DIAGONAL, before, g, *alike(b, c, u), x)
