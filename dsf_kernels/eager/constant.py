"""Systems that are constant in time, by matrix products: inside a chunk a Toeplitz matrix, between chunks the state.

    y_i = sum_{j <= i} k_{i-j} u_j + c^T A^{i+1} x      k_t = c^T A^t b      x' = A^C x + sum_j A^{C-1-j} b u_j

for diagonals (real, complex, in log space), shifts, one-hot and dense matrices alike: all that is wanted of A are the
sequences A^t b and c^T A^t, and they come by doubling, from powers A^{2^j} that are squared in fp64. No step divides.

A convolution by FFT over the whole length is no faster here, has no state to carry, and lets what comes later change
what came before by a rounding error.
"""

from __future__ import annotations

import math
from functools import partial

import torch

from dsf.composites import Writes
from dsf.deferred import Deferred
from dsf.features import Features
from dsf.feedback import Feedback
from dsf.operators import Operator, RealPart
from dsf.system import System
from dsf.tree import leaves, tree_map

from ..columns import run_columns
from ..costs import Cost, multiplications
from ..products import CLOSED
from ..registry import kernel
from ..responses import Layout, Response, in_precision
from ..sizes import Sizes

SIZES = (16, 32, 64, 128, 256)  # of chunks: powers of two
CALLS = 200, 6  # operations of a run, of a chunk
PASSES = 16  # over u and y, most of them to bring rows together
POWERS = 12  # squaring small matrices in fp64, beside products in fp32


def declines(system: System | Feedback) -> str | None:
    """Why this system is not constant in time with vectors b and c, or None."""
    if isinstance(system, Feedback):
        return "feedback: A_t is a function of y_{t-1}"
    if isinstance(system, Deferred) or any(leaf.shape[1] > 1 for leaf in leaves((system.A, system.B, system.C))):
        return "A, B or C varies in time"
    if isinstance(system.B, (Features, Writes)) or isinstance(system.C, Features):
        return "B is of infinite features or of micro-steps"
    if isinstance(system.B, Operator) or isinstance(system.C, Operator) and not isinstance(system.C, RealPart):
        return "B or C is an operator, and the kernel takes a vector"
    return "the readout is a nonlinear function of the state" if system.readout else None


def cost(system: System, z: Sizes) -> Cost:
    """Of the cheapest size of chunks."""
    parts = (system.A, system.B, system.C)
    return _cost(_size(parts, z), parts, z)


def _cost(size: int, parts: tuple, z: Sizes) -> Cost:
    """Of k, A^t b and c^T A^t, made once per group (the sequences that share A, b, c), and of products with them."""
    known, n, chunks = leaves(parts), z.n, -(-z.steps // size)
    groups = max(leaf.shape[0] for leaf in known) * max(leaf.shape[2] for leaf in known)
    two = 2 if any(leaf.is_complex() for leaf in known) else 1  # products of complex with real numbers
    matrix = multiplications(parts[0], n) if isinstance(parts[0], CLOSED) else n * n
    flops = 2 * z.rows * z.p * (z.steps * (size + 2 * n * two) + chunks * matrix * two**2)
    flops += POWERS * two**2 * groups * matrix * (size + (n * math.log2(size) if matrix > n else 0))
    moved = z.rows * z.p * (PASSES * z.steps + 4 * chunks * n * two) + groups * size * (4 * size + 8 * n * two)
    return Cost(flops, moved * z.itemsize, CALLS[0] + CALLS[1] * chunks)


def _size(parts: tuple, z: Sizes) -> int:
    fitting = [size for size in SIZES if size <= z.steps]
    return min(fitting, key=lambda size: _cost(size, parts, z).milliseconds(z.device)) if fitting else max(z.steps, 1)


@kernel("constant", form="system", cost=cost, declines=declines, devices=("cpu", "cuda"))  # fp64 is wanted
def run(system: System, u: torch.Tensor, state: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """As dsf.reference.scan; half precision is computed, and its state kept, in fp32.

    Memory for backward: the drive, the matrices, and a state per chunk.
    """
    chunks = partial(_in_chunks, real=isinstance(system.C, RealPart))
    with torch.autocast(u.device.type, enabled=False):
        return run_columns(type(system.A), chunks, system, u, state)


# ---------------------------------------------------------------------------------------------------- in chunks of time
def _in_chunks(A, b, c, u, x, before: bool, real: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """The signature "columns" of registry.py; real: y is the real part of what it says there."""
    precision = x.real.dtype
    if not u.shape[1]:
        return torch.zeros_like(u, dtype=precision if real else x.dtype), x
    (B, T, H, p), n = u.shape, x.shape[2]
    size = _size((A, b, c), Sizes(B, T, H, n, p, x.dtype.itemsize, u.device.type))
    A, b, c = tree_map(lambda leaf: leaf[:, 0], (A, b, c))
    u, b, c = (in_precision(leaf, precision) for leaf in (u, b, c))
    layout = Layout.of(leaves((A, b, c)), u)
    response = Response.of(A, b.expand(*layout.groups, n), c.expand(*layout.groups, n), size, before)
    x, outputs, whole = layout.state_rows(x), [], T - T % size
    for piece, steps in ((u[:, :whole], size), (u[:, whole:], T - whole)):
        if piece.shape[1]:
            y, x = response.run(layout.rows(piece, steps), x, real)
            outputs.append(layout.time(y))
    return torch.cat(outputs, 1), layout.state(x)
