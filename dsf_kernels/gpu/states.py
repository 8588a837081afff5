"""Every state of a diagonal recurrence, channel by channel: x_t = d_t o x_{t-1} + w_t, real or complex.

Memory is the limit: forward each of d and w is read once and each state written once, backward likewise (see
programs/states.py). One launch; where channels are too few to keep memory busy, segments of time side by side meet by
their exact summaries (the product of d, the state from zero) in a second one. Kept for backward: d and the states.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from dsf.operators import Diagonal
from dsf.values import Log, is_number

from ..costs import Cost
from ..cpu.elementwise import plain
from ..recurrences import Loops, recur
from ..sizes import Sizes
from .launching import DTYPES, LONGEST, gpu_kernel, launch, multiprocessors, power, up_to

WIDEST = 32  # columns of a program: of one warp, which sums over them alone
CHANNELS = 200  # of a multiprocessor: with 16 steps of each asked for at once, memory is the limit
STEPS = 16, 32  # asked for at once, many where channels are few
LEAST = 256  # steps of a segment
MOST = 32  # segments: each folds the summaries of those before it
PASSES, CALLS = 8, 5  # over the states, and calls, those around the kernel too


def cost(z: Sizes) -> Cost:
    """d and w read, the states written; around it w is made, and the states are read, in a few passes; all in fp32."""
    entries = z.rows * z.steps * z.n
    return Cost(2 * entries * z.p, entries * (PASSES * z.p + 1) * max(z.itemsize, 4), CALLS)


@dataclass(frozen=True)
class Cut:
    """How a run is cut: its sizes, as the programs take them, and what they are compiled for."""

    B: int
    T: int
    segments: int
    blocks: int
    columns: int
    sizes: tuple[int, ...]
    options: dict[str, Any]

    @property
    def grid(self) -> tuple[int, int, int]:
        return self.blocks * self.columns, self.B, self.segments


def cut_of(log: bool, d: torch.Tensor, w: torch.Tensor, reads: int = 1) -> tuple[Cut, tuple[Any, ...]]:
    """And d with its strides of batch, time, head and row. reads: what is read beside d at every entry."""
    B, T, H, n, p = w.shape
    pair = 2 if w.is_complex() else 1
    places = [pair * step for step in d.expand(B, T, H, n).stride()]
    flat = H == 1 or places[2] == n * places[3]
    P = min(power(p, 1), WIDEST)
    processors, channels = multiprocessors(w.device), B * H * n * p
    entries = 128 if channels >= 512 * processors else 32
    rows = max(1, entries // P)
    segments = max(1, min(CHANNELS // 2 * processors // channels, T // LEAST, MOST))
    steps = STEPS[channels < CHANNELS * processors]
    per = -(-T // segments)
    options = {"ROWS": rows, "P": P, "STEPS": max(1, steps // (reads * pair)), "LOG": log, "CONSTANT": d.shape[1] == 1}
    options |= {"FLAT": flat, "COMPLEX": pair == 2, "num_warps": max(1, rows * P // 32)}
    cut = Cut(B, T, -(-T // per), -(-H * n // rows), -(-p // P), (T, n, H * n, p, per), options)
    return cut, (_pairs(d), *places)


def _pairs(x: torch.Tensor) -> torch.Tensor:
    return torch.view_as_real(x.resolve_conj()) if x.is_complex() else x


def _room(cut: Cut, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """For the summaries of segments."""
    if cut.segments == 1:
        return _pairs(x), _pairs(x)
    return _pairs(x.new_empty(cut.segments, *x.shape)), _pairs(x.new_empty(cut.segments, *x.shape[:3]))


def _launches(program, cut: Cut, x: torch.Tensor, before: tuple, after: tuple) -> None:
    """With the summaries of segments first, where there are several."""
    split, room = cut.segments > 1, _room(cut, x)
    for summary in (True, False) if split else (False,):
        arguments = (*before, *room, *after, *cut.sizes)
        launch(program, cut.grid, x, *arguments, SUMMARY=summary, REST=split and not summary, **cut.options)


def _forward(log: bool, keep: bool, inputs):
    from .programs.states import forward

    d, w, x = inputs
    cut, decay = cut_of(log, d, w)
    states = torch.empty_like(w, memory_format=torch.contiguous_format)
    _launches(forward, cut, x, (_pairs(w), *decay, _pairs(x)), (_pairs(states),))
    return (states,), None


def _backward(log: bool, kept, inputs, outputs, gradient):
    from .programs.states_backward import backward

    (d, w, x), (states,) = inputs, outputs
    cut, decay = cut_of(log, d, w, 2)
    dw, dx = torch.empty_like(states), torch.empty_like(x)
    constant = cut.options["CONSTANT"]
    shape = (cut.segments, cut.B) if constant else (cut.B, cut.T)
    dd = x.new_empty(cut.columns, *shape, *x.shape[1:3])
    _launches(backward, cut, x, (_pairs(gradient), *decay, _pairs(x), _pairs(states)), tuple(map(_pairs, (dw, dd, dx))))
    dd = dd[0] if cut.columns == 1 else dd.sum(0)
    return (dd.sum(0)[:, None] if constant else dd), dw, dx


STATES = Loops(_forward, _backward, lambda log, inputs: (plain(log, *inputs),), saves=True)


@gpu_kernel(
    "triton_states",
    form="states",
    covers=Diagonal,
    cost=cost,
    dtypes=(*DTYPES, torch.complex64),
    fits=up_to(sequences=LONGEST),
)
def run(A: Diagonal, w: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Signature and shapes: see registry.py. Kept for backward: d, x and the states."""
    if not w.shape[1]:
        return w.to(x.dtype)
    log = isinstance(A.d, Log)
    d = A.d.log if isinstance(A.d, Log) else x.new_full((1, 1, 1, 1), A.d) if is_number(A.d) else A.d
    if x.is_complex():
        log, d = False, (d.exp() if log else d).to(x.dtype).resolve_conj()
    return recur(STATES, log, d, w.to(x.dtype).contiguous(), x.contiguous())[0]
