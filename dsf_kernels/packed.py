"""Sequences of different lengths, packed one after the other: each is run on its own, equal lengths side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from dsf.features import Features
from dsf.feedback import Feedback
from dsf.system import System
from dsf.transforms import Bidirectional
from dsf.tree import tree_map
from dsf.validation import check_drive

from .packing import Packing

WHOLE = (torch.int32, torch.int64)
Run = Callable[[Any, torch.Tensor, Any], tuple[torch.Tensor, Any]]


def run_packed(
    run: Run, system: System | Feedback, u: torch.Tensor, state: Any, packing: Packing
) -> tuple[torch.Tensor, Any]:
    """run(system, u, state) of every sequence of u [1, T, H, p].

    States have the sequences on their first axis, [N, H, n, p]; of infinite features they are a list of N pasts.
    """
    lengths = packing.lengths
    listed = isinstance(system, System) and isinstance(system.outline.B, Features)
    check_count(state, len(lengths), listed)
    cut = _Cut(packing)
    outputs: list[Any] = [None] * len(lengths)
    states: list[Any] = [None] * len(lengths)
    for group in ([i] for i in range(len(lengths))) if listed else _equal(lengths):
        start = None if state is None else state[group[0]] if listed else tree_map(lambda x: x[group], state)  # noqa: B023
        pick = partial(cut.together, group)
        y, last = run(system.rearranged(pick), pick(u), start)
        for place, i in enumerate(group):
            outputs[i] = y[place : place + 1]
            states[i] = last if listed else tree_map(lambda x: x[place : place + 1], last)  # noqa: B023
    joined = states if listed else _joined(states)
    return torch.cat(outputs, 1), joined


class _Cut:
    """Tensors cut into their sequences: once each, because slices would each have a gradient of full size."""

    def __init__(self, packing: Packing):
        self.packing = packing
        self.pieces: dict[int, tuple] = {}

    def together(self, group: list[int], x: torch.Tensor) -> torch.Tensor:
        """The sequences of a group [N, T, ...] out of x [1, T, ...]; what is constant in time as it is."""
        if x.shape[1] != self.packing.total:
            return x
        _, pieces = self.pieces.setdefault(id(x), (x, self.packing.apart(x)))  # x is held: its id stays its own
        return torch.cat([pieces[i] for i in group]) if len(group) > 1 else pieces[group[0]]


def _equal(lengths: Sequence[int]) -> list[list[int]]:
    """The places of each length."""
    groups: dict[int, list[int]] = {}
    for i, length in enumerate(lengths):
        groups.setdefault(length, []).append(i)
    return list(groups.values())


def _joined(states: list[Any]) -> Any:
    if isinstance(states[0], tuple):
        return tuple(torch.cat(parts) for parts in zip(*states, strict=True))
    return torch.cat(states)


def check_count(state: Any, count: int, listed: bool) -> None:
    """There is a state of every sequence, or none."""
    if state is None:
        return
    if listed and not (isinstance(state, list) and len(state) == count):
        raise ValueError(f"the state of {count} packed sequences of infinite features is a list of {count} pasts")
    first = None if listed else state[0] if isinstance(state, tuple) else state
    if isinstance(first, torch.Tensor) and first.shape[:1] != (count,):
        raise ValueError(
            f"the state has the {count} packed sequences on its first axis, got shape {tuple(first.shape)}"
        )


def packing_of(system: Any, u: torch.Tensor, cu_seqlens: Any) -> Packing:
    """Sequences u[:, cu_seqlens[i] : cu_seqlens[i + 1]]; raises where these are none."""
    if isinstance(system, Bidirectional):
        raise ValueError("a bidirectional system has no packed form: run its sequences one by one")
    check_drive(system, u)
    whole = isinstance(cu_seqlens, torch.Tensor) and cu_seqlens.dtype in WHOLE
    if not whole or cu_seqlens.dim() != 1:
        raise TypeError(
            "cu_seqlens should be a tensor of whole numbers [N + 1], int32 or int64: 0, the ends of the N sequences"
        )
    ends = cu_seqlens.tolist()
    lengths = [b - a for a, b in zip(ends, ends[1:], strict=False)]
    if u.shape[0] != 1:
        raise ValueError(f"packed sequences lie in one row, u [1, T, H, p], got a batch of {u.shape[0]}")
    if not lengths or ends[0] != 0 or min(lengths) < 0 or ends[-1] != u.shape[1]:
        raise ValueError(f"cu_seqlens should rise from 0 to T = {u.shape[1]}, got {_shortened(ends)}")
    return Packing(tuple(lengths))


def _shortened(ends: list[int]) -> str:
    return str(ends) if len(ends) < 9 else f"[{', '.join(map(str, ends[:4]))}, ..., {ends[-1]}]"
