"""Systems that are constant in time, in chunks of up to 64 steps: eager/constant.py with all chunks in one launch.

    y_i = sum_{j <= i} k_{i-j} u_j + c^T A^{i+1} x        k_t = c^T A^t b        x' = A^C x + sum_j A^{C-1-j} b u_j

The matrices are made once, in torch, from powers that are squared in fp64; sequences are rows of products with them,
which responding.py takes through time.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from dsf.algebra import dense
from dsf.feedback import Feedback
from dsf.operators import Diagonal, Identity, Operator, RealPart, Scaled
from dsf.system import System
from dsf.tree import leaves, tree_map
from dsf.values import value

from ..columns import run_columns
from ..costs import Cost
from ..eager.constant import declines as varies
from ..eager.constant import run as eagerly
from ..recurrences import recur, without_autocast
from ..responses import Layout, Response, in_precision
from ..sizes import Sizes
from .launching import DTYPES, gpu_kernel
from .responding import RESPONSES, How

CHUNK = 64  # steps; fewer where products of fp32 take more registers
WIDEST, WIDEST_MATRIX = 128, 64  # numbers of a state: complex ones count twice
CALLS = 150  # most of them make the matrices
DIAGONAL = (Identity, Scaled, Diagonal)


def declines(system: System | Feedback) -> str | None:
    """Why this system does not suit, or None."""
    why = varies(system)
    if why or not isinstance(system, System):
        return why
    known, n = leaves((system.A, system.B, system.C)), system.state_size
    if any(leaf.is_complex() for leaf in known):
        if not isinstance(system.C, RealPart):
            return "the outputs are complex"
        if not isinstance(system.A, DIAGONAL):
            return "A is complex, and not diagonal"
        n *= 2
    most = WIDEST if isinstance(system.A, DIAGONAL) else WIDEST_MATRIX
    return f"its programs hold {most} numbers of a state, this one has {n}" if n > most else None


def _chunk(dtype: torch.dtype) -> int:
    return CHUNK if dtype == torch.bfloat16 else CHUNK // 2


def cost(system: System, z: Sizes) -> Cost:
    """Products with C x C and C x n entries; the drive and the outputs, laid out as rows and back."""
    two = 2 if any(leaf.is_complex() for leaf in leaves((system.A, system.B, system.C))) else 1
    flops = 2 * z.rows * z.p * z.steps * (CHUNK + 2 * two * z.n)
    moved = z.rows * z.p * z.steps * (6 + two * z.n * 4 / CHUNK) * z.itemsize
    return Cost(flops, moved, CALLS)


@gpu_kernel("triton_constant", form="system", cost=cost, declines=declines, dtypes=(*DTYPES, torch.complex64))
def run(system: System, u: torch.Tensor, state: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """As dsf.reference.scan; half precision keeps its state in fp32."""
    complex_state = state is not None and state.is_complex()
    if u.is_complex() or complex_state and not isinstance(system.C, RealPart) or u.dtype not in DTYPES:
        return eagerly(system, u, state)  # the outputs are complex, or the drive is in half precision, interpreted
    chunks = partial(_in_chunks, real=isinstance(system.C, RealPart))
    with without_autocast(u.device.type):
        return run_columns(type(system.A), chunks, system, u, state)


def _in_chunks(A: Any, b, c, u, x, before: bool, real: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """The signature "columns" of registry.py; real: y is the real part of what it says there."""
    n, T, C = x.shape[2], u.shape[1], _chunk(u.dtype)
    if not T:
        return u.to(torch.float32), x
    A, b, c = tree_map(lambda leaf: leaf[:, 0], (A, b, c))
    b, c, drive = (in_precision(leaf, torch.float32) for leaf in (b, c, u))
    known = leaves((A, b, c))
    wide = any(leaf.is_complex() for leaf in known) or x.is_complex()
    layout, whole = Layout.of(known, u), T - T % C
    groups = layout.groups
    response = Response.of(A, b.expand(*groups, n), c.expand(*groups, n), C, before)
    x = layout.state_rows(x.to(torch.complex64) if wide else x)
    outputs = []
    if whole:
        rows = layout.rows(u[:, :whole], C).flatten(0, 1).unflatten(1, (whole // C, -1)).contiguous()
        form, matrices = _real_matrices(response, groups, n, wide)
        start = torch.cat([x.real, x.imag], -1) if wide else x
        y, last = recur(RESPONSES, How(form, u.dtype), *matrices, rows, start.flatten(0, 1).contiguous())
        outputs.append(layout.time(y.flatten(1, 2).unflatten(0, groups)))
        last = last.unflatten(0, groups)
        x = torch.complex(*last.chunk(2, -1)) if wide else last
    if whole < T:
        y, x = response.run(layout.rows(drive[:, whole:], T - whole), x, real)
        outputs.append(layout.time(y).to(u.dtype))
    return torch.cat(outputs, 1), layout.state(x)


def _real_matrices(response: Response, groups: tuple[int, int], n: int, wide: bool) -> tuple[str, list[torch.Tensor]]:
    """K, R, W and A^C as a program takes them, a matrix each per group, real."""
    A: Operator = response.squares[-1]
    K, R, W = response.toeplitz, response.read, response.write
    if isinstance(A, DIAGONAL):
        a: Any = 1.0 if isinstance(A, Identity) else value(A.a if isinstance(A, Scaled) else A.d)
        a = a if isinstance(a, torch.Tensor) else R.new_full((1, 1, 1), a)
        Q, form = a.expand(*groups, n), "complex" if wide else "diagonal"
    else:
        Q, form = dense(A, n, R).mT.expand(*groups, n, n), "matrix"
    if wide:
        R, W, Q = (a.to(torch.complex64) for a in (R, W, Q))
        R = torch.cat([R.real, -R.imag], -2)
        W, Q = (torch.cat([a.real, a.imag], -1) for a in (W, Q))
        K = K.real
    return form, [a.expand(*groups, *a.shape[2:]).flatten(0, 1) for a in (K, R, W, Q)]
