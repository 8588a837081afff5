"""Scalar and identity decay in chunks of 64, one launch forward and two backward (see walking.py for long sequences).

    S <- e^{g_t} S + b_t u_t^T      y_t = c_t^T S      (before: y_t = c_t^T of the S that was)

Inside a chunk the quadratic form (dao2024ssd). Kept for backward: the inputs; states are walked through again.
"""

from __future__ import annotations

import math

import torch

from dsf.operators import Scaled
from dsf.values import Log

from ..costs import Cost, tensor_cores
from ..eager.chunked_scalar import declines
from ..packing import Packing
from ..recurrences import Loops, Reads, columns_by_steps, recur
from ..sizes import Sizes
from .configurations import configuration
from .launching import alike, gpu_kernel, launch, placed, up_to
from .walk_cut import CALL, CHUNK, WIDEST, cut_of, tiled
from .walking import Signals, both_ways
from .walking import forward as walk_forward


def cost(z: Sizes) -> Cost:
    """Each signal once, of b and c one copy per block of 64 channels; C x C and the state per chunk."""
    blocks, tile = -(-z.p // 64), tiled(z)
    flops = 2 * z.rows * z.steps * (CHUNK * (tile.n * blocks + tile.p) + 2 * tile.n * tile.p)
    moved = z.rows * z.steps * (2 * z.n * blocks + 2 * z.p) * z.itemsize
    return Cost(flops, moved, CALL, tensor_cores(z))


def _signals(how: Reads, inputs):
    g, b, c, u, x = inputs
    return cut_of(u, x.shape[2], how.packing, READY=False, RANK=False, BEFORE=int(how.before)), Signals(c, b, g)


def _forward(how: Reads, keep: bool, inputs):
    return walk_forward(*_signals(how, inputs), *inputs[3:]), ()


def _backward(how: Reads, kept, inputs, outputs, dy, dx):
    from .programs.scalar_gradients import gradients

    (g, b, c, u, x), (cut, signals) = inputs, _signals(how, inputs)
    ways = both_ways(cut, signals, u, x, dy, dx)
    shape = cut.B, cut.T, cut.H
    dg, db, dc = (a.new_empty(*shape, size) for a, size in ((g, 1), (b, cut.n), (c, cut.n)))
    rows, columns, of_g = signals.placed(cut)
    arguments = (*rows, *columns, *placed(u, *shape), *placed(dy, *shape), *of_g, ways.states, ways.dstates, dc, db, dg)
    tuned = configuration("scalar_gradients", cut.n, cut.p, u.dtype, u.device)
    names = "C", "N", "PACKED", "BEFORE", "KIND", "PRECISION"
    options = {name: cut.options[name] for name in names} | {"P": tuned.columns}
    launch(gradients, (cut.chunks * cut.H,), u, *arguments, *cut.tables(u), *cut.sizes, **options, **tuned.compile)
    return dg, db, dc, ways.du, ways.dx


def _plain(how: Reads, inputs):
    g, b, c, u, x = inputs

    def step(x: torch.Tensor, u, g, b) -> torch.Tensor:
        return g.float().exp()[..., None] * x + b[..., None] * u[..., None, :]

    return columns_by_steps(step, how, x, c, u, g, b)


SCALAR = Loops(_forward, _backward, _plain)


@gpu_kernel("triton_scalar", covers=Scaled, cost=cost, declines=declines, fits=up_to(WIDEST), packs=True)
def run(A: Scaled, b, c, u: torch.Tensor, x: torch.Tensor, before: bool, packing: Packing | None = None):
    """Signature and shapes: see registry.py."""
    if not u.shape[1]:
        return u.to(x.dtype), x
    g = A.a.log if isinstance(A.a, Log) else x.new_full((1, 1, 1, 1), math.log(A.a) if A.a else -math.inf)
    return recur(SCALAR, Reads(before, packing), g, *alike(b, c, u), x)
