"""Chunks of a system that is constant in time, from the host: how a run is cut, forward and backward.

    Y = U K + X R        X <- X Q + U W        rows of sequences, matrices of a group: see programs/constant.py

Blocks of rows run side by side; where they are too few to fill the card, time is cut into segments, which meet by their
exact summaries (what each leaves of no state, and one power of Q for all) in a second launch. Kept for backward: the
drive, the matrices, a state per chunk; it is the same launches on the transposed matrices, and four products.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import Any

import torch

from dsf.operators import Dense, Diagonal
from dsf.tree import leaves

from ..products import power as raised
from ..recurrences import Loops
from .configurations import Configuration, configuration
from .launching import launch, multiprocessors, operands, power

LEAST = 4  # chunks of a segment
MOST = 2  # segments, times the root of the chunks: each folds the summaries of those before it


@dataclass(frozen=True)
class How:
    """What the powers are (see programs/constant.py), and the dtype of the signals."""

    form: str
    dtype: torch.dtype


@dataclass(frozen=True)
class Cut:
    """How a run is cut: into blocks of rows, and time into segments of `per` chunks."""

    sizes: Configuration
    blocks: int
    segments: int
    per: int

    @staticmethod
    def of(how: How, rows: torch.Tensor, n: int) -> Cut:
        groups, chunks, count, _ = rows.shape
        P = min(power(count), 64 if n <= 64 else 32)
        sizes = Configuration(P, 4 if P == 16 else 8, 1)
        sizes = configuration("constant", n, count, how.dtype, rows.device, sizes)
        blocks = -(-count // sizes.columns)
        wanted = multiprocessors(rows.device) // (groups * blocks)
        per = -(-chunks // max(1, min(wanted, chunks // LEAST, MOST * isqrt(chunks))))
        return Cut(sizes, blocks, -(-chunks // per), per)


def _launch(how: How, reverse: bool, keep: bool, toeplitz, read, write, powers, whole, rows, x):
    """-> out, last, states (or x, if they are not kept). whole: the power of Q over a segment."""
    from .programs.constant import respond

    (groups, chunks, count, C), n = rows.shape, x.shape[-1]
    cut = Cut.of(how, rows, n)
    split = cut.segments > 1
    out, last = torch.empty_like(rows), torch.empty_like(x)
    states = x.new_empty(groups, chunks, count, n) if keep else x
    ends = x.new_empty(cut.segments - 1, *x.shape) if split else x
    options: dict[str, Any] = {"C": C, "N": power(n // 2 if how.form == "complex" else n), "P": cut.sizes.columns}
    options |= {"FORM": how.form, "REVERSE": reverse, **cut.sizes.compile, **operands(how.dtype)}
    matrices = (a.contiguous() for a in (toeplitz, read, write, powers, whole))
    arguments = (*matrices, rows, x, ends, out, last, states, count, chunks, n, cut.per)
    if split:
        grid = (groups, cut.blocks, cut.segments - 1)
        launch(respond, grid, x, *arguments, KEEP=False, SUMMARY=True, REST=False, **options)
    launch(respond, (groups, cut.blocks, cut.segments), x, *arguments, KEEP=keep, SUMMARY=False, REST=split, **options)
    return out, last, states


def _forward(how: How, keep: bool, inputs):
    toeplitz, read, write, powers, rows, x = inputs
    cut = Cut.of(how, rows, x.shape[-1])
    whole = _raised(how, powers, cut.per) if cut.segments > 1 else powers
    out, last, states = _launch(how, False, keep, toeplitz, read, write, powers, whole, rows, x)
    return (out, last), (states, whole) if keep else ()


def _raised(how: How, powers: torch.Tensor, exponent: int) -> torch.Tensor:
    """Such a power, squared in fp64; finite, so that a state of zeros stays one where others outgrow fp32."""
    wide = powers.double()
    if how.form == "complex":
        wide = torch.complex(*wide.chunk(2, -1))
    (found,) = leaves(raised(Dense(wide) if how.form == "matrix" else Diagonal(wide), exponent))
    found = torch.cat([found.real, found.imag], -1) if found.is_complex() else found
    return found.float().nan_to_num(torch.finfo(torch.float32).max)


def _turned(how: How, powers: torch.Tensor) -> torch.Tensor:
    """Backward in time."""
    if how.form == "matrix":
        return powers.mT
    re, im = powers.chunk(2, -1) if how.form == "complex" else (powers, None)
    return powers if im is None else torch.cat([re, -im], -1)


def _backward(how: How, kept, inputs, outputs, dy, dlast):
    toeplitz, read, write, powers, rows, x = inputs
    states, whole = kept
    K, R, W = (a.mT for a in (toeplitz, write, read))
    Q, whole = (_turned(how, a) for a in (powers, whole))
    drows, dx, lam = _launch(how, True, True, K, R, W, Q, whole, dy, dlast)
    u, dy, X, lam = (a.flatten(1, 2).float() for a in (rows, dy, states, lam))
    if how.form == "matrix":
        dpowers = X.mT @ lam
    elif how.form == "complex":
        (re, im), (l_re, l_im) = X.chunk(2, -1), lam.chunk(2, -1)
        dpowers = torch.cat([(re * l_re + im * l_im).sum(1), (re * l_im - im * l_re).sum(1)], -1)
    else:
        dpowers = (X * lam).sum(1)
    return u.mT @ dy, X.mT @ dy, u.mT @ lam, dpowers, drows, dx


def plain(how: How, inputs):
    """The same, chunk after chunk, in plain torch."""
    toeplitz, read, write, powers, rows, x = inputs
    outputs = []
    for u in rows.to(x.dtype).unbind(1):
        outputs.append((u @ toeplitz + x @ read).to(rows.dtype))
        if how.form == "matrix":
            x = x @ powers
        elif how.form == "complex":
            (re, im), (a, b) = x.chunk(2, -1), powers[:, None].chunk(2, -1)
            x = torch.cat([re * a - im * b, re * b + im * a], -1)
        else:
            x = x * powers[:, None]
        x = x + u @ write
    return torch.stack(outputs, 1), x


RESPONSES = Loops(_forward, _backward, plain)
