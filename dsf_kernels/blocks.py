"""A system that is not computed yet, run in blocks of time: a block's operators are computed, used and forgotten.

Backward computes them once more, block by block, from the last to the first. What is kept: the signals, and one state
per block.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from dsf.deferred import Deferred
from dsf.reference import driven
from dsf.tree import leaves, tree_map

from .chunks import over_chunks
from .reach import first_state, working_dtype

NUMBERS = 1 << 19  # of the operators of a block, about: 2 MB in fp32
MANY = 1 << 26  # of the operators of a run, from which on memory matters: 256 MB in fp32
LEAST, MOST = 64, 4096  # steps


def suits(system: Deferred, u: torch.Tensor, state: torch.Tensor | None) -> bool:
    """Is it worth while? Where the operators cost as much as the run, as soon as they do not fit the cache.

    Where they are light work beside a large state, blocks cost time, and backward another run: memory decides alone.
    """
    if torch._C._are_functorch_transforms_active() or system.numbers * u.shape[1] <= NUMBERS:
        return False  # the transforms of torch.func see no storage
    if _is_heavy(system, u):
        return True
    given = (*system.leaves, u, *(() if state is None else (state,)))
    trains = torch.is_grad_enabled() and any(x.requires_grad for x in given)
    return not trains and system.numbers * u.shape[1] > MANY


def _is_heavy(system: Deferred, u: torch.Tensor) -> bool:
    """Does a step make as many numbers as half its state has?"""
    channels = 1 if system.input_is_vector else u.shape[-1]
    return 2 * system.numbers >= u.shape[0] * u.shape[2] * system.state_size * channels


def run_in_blocks(
    run: Callable[..., tuple[torch.Tensor, torch.Tensor]], system: Deferred, u: torch.Tensor, state: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """run(system of a block, u of the block, x) -> y, x over the blocks."""
    values = tuple(system.current.values())
    x = first_state(system.outline, driven(system.outline, u[:, :1]), state, working_dtype(system, u))

    def block(x: torch.Tensor, u: torch.Tensor, *signals: torch.Tensor):
        turn = iter(signals)
        parts = (tree_map(lambda leaf: next(turn), part) for part in values)
        return run(system.architecture.evaluate(dict(zip(system.values, parts, strict=True))), u, x)

    most = NUMBERS if _is_heavy(system, u) else 8 * NUMBERS
    return over_chunks(block, _steps(system, most), x, u, *leaves(values), axis=1)


def _steps(system: Deferred, most: int) -> int:
    """How many steps a block has: a multiple of 64, and a power of two."""
    numbers = sum(leaf[:, 0].numel() for leaf in leaves((system.outline.A, system.outline.B, system.outline.C)))
    steps = LEAST
    while 2 * steps <= MOST and 2 * steps * numbers <= most:
        steps *= 2
    return steps
