"""Softmax attention as a core: which architecture a call of attention is, and its signals."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from . import features
from .converter_tools import grouped, wide
from .cores import Core
from .definition import Architecture, architecture
from .domains import LogDecay, Param, Positive, Scalar, Shared, Vector
from .functions import decay
from .operators import I, Shift
from .system import System
from .transforms import normalised


@dataclass(frozen=True, eq=False)
class Scores:
    """What stands between q^T k and the weights.

    window: only so many tokens are seen, the present one included. valid [B, S]: the keys that are no padding. cap:
    scores are cap tanh(q^T k / cap). sinks [H]: e^sink is added to the normaliser. table [H, ages]: a bias by
    distance, the last one for all greater distances. slopes [H]: a bias of -slope per token of distance.
    """

    window: int | None = None
    valid: torch.Tensor | None = None
    cap: float | None = None
    sinks: torch.Tensor | None = None
    table: torch.Tensor | None = None
    slopes: torch.Tensor | None = None


def attention_core(q: torch.Tensor, k: torch.Tensor, u: torch.Tensor, scores: Scores) -> Core:
    """q [B, T, H, n], k [B, S, G, n], u [B, S, G, p]: the first S - T keys came before, and are the initial state."""
    keys, heads, groups = k.shape[1], q.shape[2], k.shape[2]
    past, shared = keys - q.shape[1], groups if groups < heads else 0
    q, k, u = wide(q), wide(k), wide(u)
    u = u.repeat_interleave(heads // groups, 2) if shared else u
    if scores.table is not None:
        q, k = _with_positions(q, past), _with_positions(k, 0)
    optional = tuple(name for name, x in _optional(scores).items() if x is not None)
    if scores.table is None:
        arch = _without_table(shared, scores.window, scores.cap, optional)
    else:
        arch = attention_architecture(shared, scores.window, scores.cap, optional, _shortened(wide(scores.table)))
    written = None if scores.valid is None else torch.where(scores.valid, 0.0, -torch.inf).to(q.dtype)
    signals = dict(q=q, k=k[:, past:])
    if written is not None:
        signals["written"] = written[:, past:, None]
    if scores.slopes is not None:
        signals["slope"] = wide(scores.slopes)
    if scores.sinks is not None:
        signals["sink"] = wide(scores.sinks)
    valid = None if scores.valid is None else scores.valid[:, past:]
    return Core(arch, signals, u[:, past:], _past(k, u, written, scores.slopes, past), valid=valid)


def _optional(scores: Scores) -> dict[str, torch.Tensor | None]:
    """The signals that a call may have beside q and k."""
    return dict(written=scores.valid, slope=scores.slopes, sink=scores.sinks)


def attention_architecture(
    groups: int = 0,
    window: int | None = None,
    cap: float | None = None,
    optional: Sequence[str] = (),
    table: Any = None,
) -> Architecture:
    """Softmax attention, and what a model adds: groups of heads with one key, a window, a cap, a table of biases.

    optional: among written (log weight of each token, -oo for padding), slope (ALiBi), sink. table [H, ages]: numbers.

    >>> attention_architecture(window=8).bounds().A
    Shift(by=1, slots=8)
    """
    domains = dict(
        q=Vector, k=grouped(Vector, groups), written=Shared(LogDecay), slope=Param(Positive), sink=Param(Scalar)
    )
    wanted = {name: d for name, d in domains.items() if name in ("q", "k", *optional)}
    table = None if table is None else torch.as_tensor(table, dtype=torch.float64 if isinstance(table, list) else None)

    def softmax_attention(q: Any, k: Any, written: Any = None, slope: Any = None, sink: Any = None) -> System:
        read, write = (_features(x, cap, table) for x in (q, k))
        A = I if window is None else Shift(slots=window)
        A = A if slope is None else decay(-slope) * A
        system = System(A=A, B=write if written is None else decay(written) * write, C=read)
        return normalised(system) if sink is None else normalised(system, sink=sink)

    kinds = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(name, kinds, default=d) for name, d in wanted.items()]
    softmax_attention.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    numbers = None if table is None else table.tolist()
    arguments = dict(groups=groups, window=window, cap=cap, optional=list(optional), table=numbers)
    softmax_attention.rebuild = ("dsf.attention:attention_architecture", arguments)  # type: ignore[attr-defined]
    said = {f"window of {window}": window, f"cap {cap}": cap, "relative bias": table is not None}
    said["ALiBi"] = "slope" in optional
    said["sinks"] = "sink" in optional
    title = ", ".join(["Softmax attention", *(name for name, has in said.items() if has)])
    return architecture(title, year=2017, cite="vaswani2017", register=False)(softmax_attention)


_without_table = lru_cache(maxsize=64)(attention_architecture)  # a body is read on bounds when it is made


def _features(x: Any, cap: float | None, table: torch.Tensor | None) -> Any:
    return features.exp(x, cap=cap) if table is None else features.relative(x, table)


def _with_positions(x: torch.Tensor, first: int) -> torch.Tensor:
    """x with the position of each token as its last entry."""
    t = torch.arange(first, first + x.shape[1], dtype=x.dtype, device=x.device)
    return torch.cat([x, t[:, None, None].expand(*x.shape[:3], 1)], -1)


def _shortened(table: torch.Tensor) -> torch.Tensor:
    """The table without the end on which it is constant."""
    changes = (table[:, 1:] != table[:, :-1]).any(0).nonzero()
    return table[:, : int(changes.max()) + 2 if len(changes) else 1]


def _past(k, u, written, slopes, past: int) -> tuple[torch.Tensor, ...] | None:
    """The first keys as a state: (k, u) so far, and their log weights as of the last step where tokens have some."""
    if not past:
        return None
    heads = u.shape[2]
    state = k[:, :past].repeat_interleave(heads // k.shape[2], 2), u[:, :past]
    if written is None and slopes is None:
        return state
    weights = k.new_zeros(k.shape[0], past, heads)
    if slopes is not None:
        weights = weights - wide(slopes) * torch.arange(past - 1, -1, -1, device=k.device)[:, None]
    return *state, weights if written is None else weights + written[:, :past, None]
