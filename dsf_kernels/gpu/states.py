"""Every state of a diagonal recurrence, channel by channel: x_t = d_t o x_{t-1} + w_t, real or complex.

Memory is the limit: forward each of d and w is read once and each state written once, backward likewise (see
programs/states.py). One launch; where channels are too few to keep memory busy, segments of time side by side meet by
their exact summaries (the product of d, the state from zero) in a second one. Kept for backward: d and the states.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from dsf.operators import Diagonal
from dsf.values import Log, is_number

from ..costs import Cost
from ..cpu.elementwise import plain
from ..packing import Packing
from ..recurrences import Loops, recur
from ..sizes import Sizes
from .configurations import Configuration, configuration
from .launching import DTYPES, LONGEST, gpu_kernel, launch, multiprocessors, power, up_to

WIDEST = 32  # columns of a program: of one warp, which sums over them alone
LARGEST = 512  # entries of a program that measurements may choose
CHANNELS = 200  # of a multiprocessor: with 16 steps of each asked for at once, memory is the limit
STEPS = 16, 32  # asked for at once, many where channels are few
LEAST = 256  # steps of a segment
MOST = 32  # segments: each folds the summaries of those before it
PASSES, CALLS = 8, 5  # over the states, and calls, those around the kernel too


def cost(z: Sizes) -> Cost:
    """d and w read, the states written; around it w is made, and the states are read, in a few passes; all in fp32."""
    entries = z.rows * z.steps * z.n
    return Cost(2 * entries * z.p, entries * (PASSES * z.p + 1) * max(z.itemsize, 4), CALLS)


class How(NamedTuple):
    """Of a run: are decays logarithms? Several sequences in one?"""

    log: bool
    packing: Packing | None = None


@dataclass(frozen=True)
class Cut:
    """How a run is cut: its sizes, as the programs take them, and what they are compiled for. places: of segments of
    all sequences, in whose summaries one of these is behind the other."""

    B: int
    T: int
    sequences: int
    segments: int
    places: int
    blocks: int
    columns: int
    table: torch.Tensor
    sizes: tuple[int, ...]
    options: dict[str, Any]

    @property
    def grid(self) -> tuple[int, int, int]:
        return self.blocks * self.columns, self.sequences, self.segments


def cut_of(how: How, d: torch.Tensor, w: torch.Tensor, reads: int = 1) -> tuple[Cut, tuple[Any, ...]]:
    """And d with its strides of batch, time, head and row. reads: what is read beside d at every entry."""
    (B, T, H, n, p), packing = w.shape, how.packing
    pair = 2 if w.is_complex() else 1
    strides = [pair * step for step in d.expand(B, T, H, n).stride()]
    flat = H == 1 or strides[2] == n * strides[3]
    longest, sequences = (T, B) if packing is None else (packing.longest, packing.count)
    processors, channels = multiprocessors(w.device), -(-B * T // longest) * H * n * p  # if all were as long
    few = channels < 512 * processors
    P, entries = min(power(p, 1), WIDEST), 32 if few else 128
    name, otherwise = "few_states" if few else "states", Configuration(entries, entries // 32, 1)
    size = configuration(name, n, min(H * n * p, LARGEST), w.dtype, w.device, otherwise)
    rows = max(1, size.columns // P)
    segments = max(1, min(CHANNELS // 2 * processors // channels, longest // LEAST, MOST))
    steps = STEPS[channels < CHANNELS * processors]
    per = -(-longest // segments)
    options = {"ROWS": rows, "P": P, "STEPS": max(1, steps // (reads * pair)), "LOG": how.log, **size.compile}
    options |= {"CONSTANT": d.shape[1] == 1, "FLAT": flat, "COMPLEX": pair == 2, "PACKED": packing is not None}
    table = d if packing is None else packing.table(1, w.device)
    sizes, places = (T, n, H * n, p, per), B * T // per + sequences
    cut = Cut(B, T, sequences, -(-longest // per), places, -(-H * n // rows), -(-p // P), _pairs(table), sizes, options)
    return cut, (_pairs(d), *strides)


def _pairs(x: torch.Tensor) -> torch.Tensor:
    return torch.view_as_real(x.resolve_conj()) if x.is_complex() else x


def _room(cut: Cut, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """For the summaries of segments."""
    if cut.segments == 1:
        return _pairs(x), _pairs(x)
    return _pairs(x.new_empty(cut.places, *x.shape[1:])), _pairs(x.new_empty(cut.places, *x.shape[1:3]))


def _launches(program, cut: Cut, x: torch.Tensor, before: tuple, after: tuple) -> None:
    """With the summaries of segments first, where there are several."""
    split, room = cut.segments > 1, _room(cut, x)
    for summary in (True, False) if split else (False,):
        arguments = (*before, *room, *after, cut.table, *cut.sizes)
        launch(program, cut.grid, x, *arguments, SUMMARY=summary, REST=split and not summary, **cut.options)


def _forward(how: How, keep: bool, inputs):
    from .programs.states import forward

    d, w, x = inputs
    cut, decay = cut_of(how, d, w)
    states = torch.empty_like(w, memory_format=torch.contiguous_format)
    _launches(forward, cut, x, (_pairs(w), *decay, _pairs(x)), (_pairs(states),))
    return (states,), ()


def _backward(how: How, kept, inputs, outputs, gradient):
    from .programs.states_backward import backward

    (d, w, x), (states,) = inputs, outputs
    cut, decay = cut_of(how, d, w, 2)
    dw, dx = torch.empty_like(states), torch.empty_like(x)
    constant = cut.options["CONSTANT"]
    shape = (cut.segments, cut.sequences) if constant else (cut.B, cut.T)
    dd = x.new_empty(cut.columns, *shape, *x.shape[1:3])
    _launches(backward, cut, x, (_pairs(gradient), *decay, _pairs(x), _pairs(states)), tuple(map(_pairs, (dw, dd, dx))))
    dd = dd[0] if cut.columns == 1 else dd.sum(0)
    return (dd.sum(0)[:, None] if constant else dd), dw, dx


def _by_steps(how: How, inputs) -> tuple[torch.Tensor]:
    """The same, step after step, in plain torch."""
    (log, packing), (d, w, x) = how, inputs
    if packing is None:
        return (plain(log, d, w, x),)
    each = zip(packing.apart(d), packing.apart(w), x.split(1), strict=True)
    return (torch.cat([plain(log, *own) for own in each if own[1].shape[1]], 1),)


STATES = Loops(_forward, _backward, _by_steps, saves=True)


@gpu_kernel(
    "triton_states",
    form="states",
    covers=Diagonal,
    cost=cost,
    dtypes=(*DTYPES, torch.complex64),
    fits=up_to(sequences=LONGEST),
    packs=True,
)
def run(A: Diagonal, w: torch.Tensor, x: torch.Tensor, packing: Packing | None = None) -> torch.Tensor:
    """Signature and shapes: see registry.py. Kept for backward: d, x and the states."""
    if not w.shape[1]:
        return w.to(x.dtype)
    log = isinstance(A.d, Log)
    d = A.d.log if isinstance(A.d, Log) else x.new_full((1, 1, 1, 1), A.d) if is_number(A.d) else A.d
    if x.is_complex():
        log, d = False, (d.exp() if log else d).to(x.dtype).resolve_conj()
    return recur(STATES, How(log, packing), d, w.to(x.dtype).contiguous(), x.contiguous())[0]
