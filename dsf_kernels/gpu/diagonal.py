"""One decay per channel in chunks: what needs no state in one launch, then one walk; backward one launch more.

    S <- diag(e^{g_t}) S + b_t u_t^T      y_t = c_t^T S      (before: y_t = c_t^T of the S that was)

Kept for backward: the inputs. What was prepared for the walk is as large as they are, and is prepared again; it is kept
where heads are few, time is cut, and a launch counts more than memory.
"""

from __future__ import annotations

import math

import torch

from dsf.operators import Diagonal
from dsf.values import Log, is_number

from ..costs import Cost, tensor_cores
from ..packing import Packing
from ..recurrences import Loops, Reads, recur
from ..sizes import Sizes
from .configurations import Configuration, configuration
from .launching import alike, gpu_kernel, launch, placed, power, up_to
from .scalar import SCALAR
from .walk_cut import CALL, CHUNK, WIDEST, Cut, cut_of, tiled
from .walking import Signals, both_ways
from .walking import forward as walk_forward


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
    blocks, tile = -(-z.p // 64), tiled(z)
    flops = 2 * z.rows * z.steps * (CHUNK * (4 * tile.n + tile.p) + 2 * tile.n * tile.p)
    moved = z.rows * z.steps * (5 * z.n + CHUNK + blocks * (2 * z.n + CHUNK) + 2 * z.p) * z.itemsize
    return Cost(flops, moved, 1 + CALL, tensor_cores(z))


def _cut(how: Reads, inputs) -> Cut:
    u, x = inputs[3:]
    return cut_of(u, x.shape[2], how.packing, READY=True, RANK=False, BEFORE=int(how.before))


def _configuration(program: str, cut: Cut, u: torch.Tensor, otherwise: Configuration) -> Configuration:
    """columns: of the signals, that a program takes at a time."""
    return configuration(f"diagonal_{program}", cut.n, cut.p, u.dtype, u.device, otherwise)


def _options(cut: Cut, tuned: Configuration) -> dict:
    chosen = {name: cut.options[name] for name in ("C", "PACKED", "BEFORE", "KIND", "PRECISION")}
    return chosen | {"N": min(tuned.columns, power(cut.n))} | tuned.compile


def _prepared(cut: Cut, inputs) -> tuple[torch.Tensor, ...]:
    """Rows and columns that are decayed, the decays of whole chunks, and their pairs."""
    from .programs.diagonal_pairs import prepare

    g, b, c, u, x = inputs
    shape, C = (cut.B, cut.T, cut.H), cut.options["C"]
    kept = torch.bfloat16 if u.dtype == torch.bfloat16 else torch.float32
    rows, columns = (torch.empty(*shape, cut.n, dtype=kept, device=u.device) for _ in range(2))
    whole = x.new_empty(cut.chunks, cut.H, cut.n)
    pairs = torch.empty(cut.chunks, cut.H, C, C, dtype=kept, device=u.device)
    N = min(power(cut.n), 64 if u.dtype == torch.float32 else 128)
    tuned = _configuration("prepare", cut, u, Configuration(N, 8 if N >= 64 else 4, 1))
    options = _options(cut, tuned) | {"WHOLE": power(cut.n)}
    given = (a for signal in (c, b, g) for a in placed(signal, *shape, cut.n))
    arguments = *given, rows, columns, whole, pairs, *cut.tables(u), cut.T, cut.H, cut.n, cut.units
    launch(prepare, (cut.parts * cut.H,), u, *arguments, **options)
    return rows, columns, whole, pairs


def _signals(rows: torch.Tensor, columns: torch.Tensor, whole: torch.Tensor, pairs: torch.Tensor) -> Signals:
    return Signals(rows, columns, rows, whole=whole, pairs=pairs)


def _forward(how: Reads, keep: bool, inputs):
    cut = _cut(how, inputs)
    made = _prepared(cut, inputs)
    return walk_forward(cut, _signals(*made), *inputs[3:]), made if keep and cut.segments > 1 else ()


def _backward(how: Reads, kept, inputs, outputs, dy, dx):
    from .programs.diagonal_gradients import gradients

    (g, b, c, u, x), cut = inputs, _cut(how, inputs)
    ways = both_ways(cut, _signals(*(kept or _prepared(cut, inputs))), u, x, dy, dx)
    shape = cut.B, cut.T, cut.H
    dg, db, dc = (a.new_empty(*shape, cut.n) for a in (g, b, c))
    half, N = u.dtype != torch.float32, min(power(cut.n), 64)
    # fp32 takes fewer instructions with half as many threads, though more of it lies on their stacks
    tuned = _configuration("gradients", cut, u, Configuration(N, 8 if half and N == 64 else 4, 1))
    options = _options(cut, tuned) | {"P": min(power(cut.p), 32)}
    sizes = (c, cut.n), (b, cut.n), (u, cut.p), (dy, cut.p), (g, cut.n)
    given = (a for x, size in sizes for a in placed(x, *shape, size))
    arguments = *given, ways.states, ways.dstates, dc, db, dg, *cut.tables(u), *cut.sizes
    launch(gradients, (cut.parts * cut.H, -(-cut.n // options["N"])), u, *arguments, **options)
    return dg, db, dc, ways.du, ways.dx


DIAGONAL = Loops(_forward, _backward, SCALAR.plain)  # step by step both read the same


@gpu_kernel("triton_diagonal", covers=Diagonal, cost=cost, declines=declines, fits=up_to(WIDEST), packs=True)
def run(A: Diagonal, b, c, u: torch.Tensor, x: torch.Tensor, before: bool, packing: Packing | None = None):
    """Signature and shapes: see registry.py."""
    if not u.shape[1]:
        return u.to(x.dtype), x
    g = A.d.log if isinstance(A.d, Log) else x.new_full((1, 1, 1, 1), math.log(A.d) if A.d else -math.inf)
    return recur(DIAGONAL, Reads(before, packing), g, *alike(b, c, u), x)
