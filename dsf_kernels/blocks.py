"""A system that is not computed yet, run in blocks of time: a block's operators are computed, used and forgotten.

Backward computes them once more, block by block, from the last to the first. What is kept: the signals, and one state
per block.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from dsf.deferred import Deferred
from dsf.reference import initial_state, with_ones
from dsf.tree import leaves, tree_map

from .chunks import over_chunks
from .reach import first_state, working_dtype

NUMBERS = 1 << 19  # of the operators of a block, about: 2 MB in fp32
LEAST, MOST = 64, 4096  # steps


def suits(system: Deferred, u: torch.Tensor, state: torch.Tensor | None) -> bool:
    """Is it worth while? The operators fill the cache, and are no light work beside a step of the state.

    Without gradients a block costs nothing but its calls; backward computes its run once more.
    """
    z = system.outline
    if torch._C._are_functorch_transforms_active() or system.numbers * u.shape[1] <= NUMBERS:
        return False  # the transforms of torch.func see no storage
    given = (*system.leaves, u, *(() if state is None else (state,)))
    if not torch.is_grad_enabled() or not any(x.requires_grad for x in given):
        return True
    channels = 1 if z.input_is_vector else u.shape[-1]
    return 2 * system.numbers >= u.shape[0] * u.shape[2] * z.state_size * channels


def run_in_blocks(
    run: Callable[..., tuple[torch.Tensor, torch.Tensor]], system: Deferred, u: torch.Tensor, state: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """run(system of a block, u of the block, x) -> y, x over the blocks."""
    values, first = tuple(system.current.values()), u[:, :1]
    if state is None:
        drive = system.outline.u if system.outline.u is not None else first
        state = initial_state(system.outline, with_ones(drive) if system.normalised else drive)
    x = first_state(state, working_dtype(system, u))

    def block(x: torch.Tensor, u: torch.Tensor, *signals: torch.Tensor):
        turn = iter(signals)
        parts = (tree_map(lambda leaf: next(turn), part) for part in values)
        return run(system.architecture.evaluate(dict(zip(system.values, parts, strict=True))), u, x)

    return over_chunks(block, _steps(system), x, u, *leaves(values), axis=1)


def _steps(system: Deferred) -> int:
    """How many steps a block has: a multiple of 64, and a power of two."""
    numbers = sum(leaf.numel() for leaf in leaves((system.outline.A, system.outline.B, system.outline.C)))
    steps = LEAST
    while 2 * steps <= MOST and 2 * steps * numbers <= NUMBERS:
        steps *= 2
    return steps
