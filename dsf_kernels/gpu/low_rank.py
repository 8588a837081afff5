"""A decay minus a rank-one matrix (delta rules) in chunks of up to 64: two launches forward, or three where time is cut
in segments (see walking.py), and three backward.

    S <- (e^{g_t} - beta_t u_t v_t^T) S + b_t w_t^T      y_t = c_t^T S      (before: y_t = c_t^T of the S that was)

What needs no state (a triangular inverse, and what it turns rows and columns into) is made of all chunks at once; the
walk through chunks then has products of matrices alone. Kept for backward: the inputs; and that too, where heads are so
few that time is cut.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from dsf.operators import DiagonalPlusLowRank, Scaled
from dsf.values import Log, is_number, value

from ..costs import Cost, tensor_cores
from ..eager.chunked_scalar import declines as declines_scalar
from ..packing import Packing
from ..recurrences import Loops, Reads, columns_by_steps, recur
from ..sizes import Sizes
from .configurations import Configuration, configuration
from .launching import alike, gpu_kernel, launch, placed, power, up_to
from .walk_cut import CALL, CHUNK, WIDEST, Cut, cut_of, tiled
from .walking import Signals, both_ways
from .walking import forward as walk_forward


def cost(z: Sizes) -> Cost:
    """Each signal once, and what is made of it written and read; products of C x C and of the state per chunk."""
    blocks, tile = -(-z.p // 64), tiled(z)
    flops = 2 * z.rows * z.steps * (CHUNK * (7 * tile.n + tile.p + 3 * CHUNK) + 4 * tile.n * tile.p)
    moved = z.rows * z.steps * (4 * z.n + (4 * z.n + CHUNK) * (1 + blocks) + 2 * z.p) * z.itemsize
    return Cost(flops, moved, 1 + CALL, tensor_cores(z))


class Prepared(NamedTuple):
    """What the walk reads, and of every chunk T, X and P_cu (see programs/low_rank_prepare)."""

    rows: torch.Tensor
    columns: torch.Tensor
    W: torch.Tensor
    U: torch.Tensor
    pairs: torch.Tensor
    whole: torch.Tensor
    turned: torch.Tensor
    known: torch.Tensor
    reached: torch.Tensor

    @property
    def signals(self) -> Signals:
        return Signals(self.rows, self.columns, self.rows, self.W, self.U, self.whole, self.pairs)


def _channels(g: torch.Tensor) -> bool:
    return g.shape[-1] > 1


def _configuration(program: str, cut: Cut, g: torch.Tensor, w: torch.Tensor) -> Configuration:
    """columns: of the signals (prepare) or of the state (gradients) that a program takes at a time."""
    half, channels = w.dtype == torch.bfloat16, _channels(g)
    if program == "prepare":
        otherwise = Configuration(64 if half and not channels else 32, (8 if channels else 4) if half else 2, 1)
    else:
        otherwise = Configuration(32 if half else 16, 8 if half else 4, 1)
    name = f"low_rank_{program}{'_by_channel' if channels else ''}"
    return configuration(name, cut.n, cut.p, w.dtype, w.device, otherwise)


def _options(cut: Cut, before: bool, g: torch.Tensor) -> dict:
    chosen = {name: cut.options[name] for name in ("C", "PACKED", "KIND", "PRECISION")}
    return chosen | {"BEFORE": int(before), "CHANNELS": _channels(g)}


def _leaves(cut: Cut, inputs, *more: torch.Tensor) -> list:
    """c, v, b, u, what there is more, beta and the decay, each with its strides."""
    g, beta, b, c, u, v = inputs[:6]
    sizes = cut.B, cut.T, cut.H
    found = [*(placed(a, *sizes, cut.n) for a in (c, v, b, u)), *(placed(a, *sizes) for a in (*more, beta))]
    return [a for leaf in (*found, placed(g, *sizes, g.shape[-1])) for a in leaf]


def _cut(how: Reads, inputs) -> Cut:
    w, x = inputs[-2:]
    return cut_of(w, x.shape[2], how.packing, READY=True, RANK=True, BEFORE=0)


def _prepared(how: Reads, cut: Cut, keep: bool, inputs) -> Prepared:
    from .programs.low_rank_prepare import prepare

    g, w, C = inputs[0], inputs[-2], cut.options["C"]
    kept = torch.bfloat16 if w.dtype == torch.bfloat16 else torch.float32
    rows, columns = (w.new_empty(cut.B, cut.T, cut.H, cut.n, dtype=kept) for _ in range(2))
    W, U = (w.new_empty(cut.chunks, cut.H, C, cut.n, dtype=kept) for _ in range(2))
    pairs = w.new_empty(cut.chunks, cut.H, C, C, dtype=kept)
    whole = w.new_empty(cut.chunks, cut.H, cut.n, dtype=torch.float32)
    more = (torch.empty_like(pairs) if keep else pairs for _ in range(3))
    made = Prepared(rows, columns, W, U, pairs, whole, *more)
    arguments = *_leaves(cut, inputs), *made, *cut.tables(w), cut.T, cut.H, cut.n, cut.units
    tuned = _configuration("prepare", cut, g, w)
    tiles = {"N": min(tuned.columns, cut.options["N"]), "KEEP": keep}
    launch(prepare, (cut.chunks * cut.H,), w, *arguments, **tiles, **_options(cut, how.before, g), **tuned.compile)
    return made


def _forward(how: Reads, keep: bool, inputs):
    cut = _cut(how, inputs)
    keep = keep and cut.segments > 1
    made = _prepared(how, cut, keep, inputs)
    return walk_forward(cut, made.signals, *inputs[-2:]), tuple(made) if keep else ()


def _backward(how: Reads, kept, inputs, outputs, dy, dx):
    from .programs.low_rank_gradients import gradients

    g, beta, b, c, u, v, w, x = inputs
    cut = _cut(how, inputs)
    made, shape = Prepared(*kept) if kept else _prepared(how, cut, True, inputs), (cut.B, cut.T, cut.H)
    ways = both_ways(cut, made.signals, w, x, dy, dx)
    half = w.dtype == torch.bfloat16
    N = min(cut.options["N"], 32 if _channels(g) else 128 if half else 64)
    dc, dv, db, du = found = [a.new_empty(*shape, cut.n) for a in (c, v, b, u)]
    dbeta, dg = beta.new_empty(*shape, 1), g.new_empty(*shape, cut.n if _channels(g) else 1)
    read = made.turned, made.known, made.reached, ways.states, ways.dstates, ways.erased, ways.derased
    arguments = *_leaves(cut, inputs, w, dy), *read, *found, dbeta, dg, *cut.tables(w), *cut.sizes
    tuned = _configuration("gradients", cut, g, w)
    tiles = {"N": N, "P": min(tuned.columns, power(cut.p))}
    launch(gradients, (cut.chunks * cut.H,), w, *arguments, **tiles, **_options(cut, how.before, g), **tuned.compile)
    return dg, dbeta, db, dc, du, dv, ways.du, ways.dx


def _plain(how: Reads, inputs):
    g, beta, b, c, u, v, w, x = inputs

    def step(x: torch.Tensor, w, g, beta, b, u, v) -> torch.Tensor:
        z = (v[..., None] * x).sum(-2, keepdim=True)
        return g.float().exp()[..., None] * x - (beta * u)[..., None] * z + b[..., None] * w[..., None, :]

    return columns_by_steps(step, how, x, c, w, g, beta, b, u, v)


LOW_RANK = Loops(_forward, _backward, _plain)


def declines(A: DiagonalPlusLowRank) -> str | None:
    """Why this matrix does not suit, or None."""
    return declines_scalar(Scaled(A.d))


@gpu_kernel("triton_low_rank", covers=DiagonalPlusLowRank, cost=cost, declines=declines, fits=up_to(WIDEST), packs=True)
def run(A: DiagonalPlusLowRank, b, c, u: torch.Tensor, x: torch.Tensor, before: bool, packing: Packing | None = None):
    """Signature and shapes: see registry.py."""
    if not u.shape[1]:
        return u.to(x.dtype), x

    def leaf(a) -> torch.Tensor:
        return u.new_full((1, 1, 1, 1), a) if is_number(a) else value(a)

    scale, along = leaf(A.b), leaf(A.u)
    if scale.shape[-1] > 1:
        scale, along = leaf(1), scale * along
    g = A.d.log if isinstance(A.d, Log) else x.new_full((1, 1, 1, 1), math.log(A.d) if A.d else -math.inf)
    return recur(LOW_RANK, Reads(before, packing), g, *alike(scale, b, c, along, leaf(A.v), u), x)
