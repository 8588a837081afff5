"""A feedback system whose step is a classical cell's, run by loops for it: layouts, dtypes, states, gradients.

The recurrent matrices of all gates are one product per step, and of all heads one batch. Memory for backward: the
inputs, the gates and the states.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import torch

from dsf.feedback import Feedback
from dsf.operators import Dense
from dsf.reference import scan
from dsf.system import System
from dsf.tree import tree_map

from .cell_recognition import DRIVE, Plan, plan_of
from .cells import Cell
from .derivatives import differentiable_gradients
from .reach import HALF, working_dtype

Loops = Callable[[Cell], tuple[Callable, Callable]]  # forward and backward of a cell, as in cells.py


def why_no_cell(system: System | Feedback) -> str | None:
    """Why the step is not a cell's, or None."""
    if not isinstance(system, Feedback):
        return "no feedback: A_t does not read y_{t-1}"
    plan = plan_of(system.architecture)
    if plan is None:
        return "its step is not one of the classical cells"
    if any(size > 1 for name in plan.matrices for size in system.values[name].M.shape[:2]):
        return "its recurrent matrices vary in time or batch"
    return None


def run_cell(loops: Loops, system: Feedback, u: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
    """As dsf.reference.scan, whose algebra derivatives of the gradient, and torch.func's transforms, take."""
    with torch.autocast(u.device.type, enabled=False):
        dtypes = (working_dtype(system, u), *(x.dtype for x in state or ()))
        dtype = reduce(torch.promote_types, dtypes)
        dtype = torch.float32 if dtype in HALF else dtype
        system = system.map(lambda x: x.to(dtype))
        y, state = _in_full(loops, system, u.to(dtype), tree_map(lambda x: x.to(dtype), state))
    return y.to(u.dtype), state


def _in_full(loops: Loops, system: Feedback, u: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
    plan = plan_of(system.architecture)
    assert plan
    if torch._C._are_functorch_transforms_active() or not u.shape[1]:
        return scan(system, u, state)
    if state is not None and not plan.cell.has_memory:  # x may be another than y, before the first step alone
        (x, y), first = system.step(0, state, u[:, 0])
        if u.shape[1] == 1:
            return first[:, None], (x, y)
        outputs, state = _in_full_from(loops, plan, system.slice(1, u.shape[1]), u[:, 1:], (x, y))
        return torch.cat([first[:, None], outputs], 1), state
    return _in_full_from(loops, plan, system, u, system.zero_state(u) if state is None else state)


def _in_full_from(loops: Loops, plan: Plan, system: Feedback, u: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
    parts = [v.M if isinstance(v, Dense) else v for v in system.values.values()]
    if torch.is_grad_enabled() and any(v.requires_grad for v in (u, *state, *parts)):
        y, x, last = _Run.apply(loops, plan, system, u, *state, *parts)  # type: ignore[misc]
        return y, (x, last)
    values = {DRIVE: u, **dict(zip(system.values, parts, strict=True))}
    y, x, last, *_ = _forward(loops, plan, values, *state, keep=False)
    return y, (x, last)


def _forward(loops: Loops, plan: Plan, values: dict[str | None, torch.Tensor], x, y, keep: bool):
    """y [B, T, H, n] and the state after it in dsf's layout; W, ys and what the loops keep, in theirs."""
    shape, W = values[DRIVE].shape, _joined(plan, values)
    a = tuple(values[name].expand(shape).permute(1, 2, 0, 3) for name in plan.vectors)
    ys, kept = loops(plan.cell)[0](a, W.mT.contiguous(), x[..., 0].transpose(0, 1), y.transpose(0, 1), keep)
    x, last = ((kept[1] if plan.cell.has_memory else ys)[-1], ys[-1])
    x, last = (v.transpose(0, 1).clone() for v in (x, last))  # a view would keep the whole sequence
    return ys[1:].permute(2, 0, 1, 3), x[..., None], last, W, ys, kept


def _joined(plan: Plan, values: dict[str | None, torch.Tensor]) -> torch.Tensor:
    """The matrices of all gates [H, gates x n, n]."""
    heads = values[DRIVE].shape[2]
    return torch.cat([values[name][0, 0].expand(heads, -1, -1) for name in plan.matrices], -2)


class _Run(torch.autograd.Function):
    """u, x, y and the leaves in dsf's layout -> y [B, T, H, n], x [B, H, n, 1], y_T [B, H, n]."""

    @staticmethod
    def forward(ctx, loops: Loops, plan: Plan, system: Feedback, u, x, y, *leaves):  # type: ignore[override]
        ctx.loops, ctx.plan, ctx.names = loops, plan, {DRIVE: 0} | {name: i for i, name in enumerate(system.values, 3)}
        ctx.architecture = system.architecture
        given = (u, x, y, *leaves)
        values = {name: given[i] for name, i in ctx.names.items()}
        *results, W, ys, kept = _forward(loops, plan, values, x, y, keep=True)
        ctx.save_for_backward(ys, W, *kept, *given)
        ctx.kept = len(kept)
        return tuple(results)

    @staticmethod
    def backward(ctx, dy: torch.Tensor, dx: torch.Tensor, dlast: torch.Tensor):  # type: ignore[override]
        ys, W, *rest = ctx.saved_tensors
        kept, given = rest[: ctx.kept], rest[ctx.kept :]
        if torch.is_grad_enabled():
            return None, None, None, *_by_steps(ctx, given, (dy, dx, dlast))
        with torch.autocast(dy.device.type, enabled=False):
            return None, None, None, *_gradients(ctx, ys, W, kept, given, dy, dx, dlast)


def _gradients(ctx, ys, W, kept, given, dy, dx, dlast) -> list[torch.Tensor | None]:
    cell, n = ctx.plan.cell, ys.shape[-1]
    dys = torch.zeros_like(ys)
    dys[1:] = dy.permute(1, 2, 0, 3)
    dys[-1] += dlast.transpose(0, 1)
    dx = dx[..., 0].transpose(0, 1)
    if not cell.has_memory:
        dys[-1], dx = dys[-1] + dx, torch.zeros_like(dx)
    da, dx, dy, dproducts = ctx.loops(cell)[1](dys, W, ys, tuple(kept), dx)
    total: list[torch.Tensor | None] = [None, dx.transpose(0, 1)[..., None], dy.transpose(0, 1), *given[3:]]
    for name, d in zip(ctx.plan.vectors, da.split(n, -1), strict=True):
        total[ctx.names[name]] = d.permute(2, 0, 1, 3).sum_to_size(given[ctx.names[name]].shape)
    by_head = [z.transpose(0, 1).flatten(1, 2) for z in (dproducts, ys[:-1])]
    dW = by_head[0].mT @ by_head[1]  # [H, gates x n, n]
    for name, d in zip(ctx.plan.matrices, dW.split(n, -2), strict=True):
        total[ctx.names[name]] = d[None, None].sum_to_size(given[ctx.names[name]].shape)
    return total


def _by_steps(ctx, given, gradients) -> list[torch.Tensor | None]:
    """The gradients by plain operations of torch, which have derivatives themselves."""
    matrices = ctx.plan.matrices

    def plain(u, x, y, *leaves):
        values = {k: Dense(v) if k in matrices else v for k, v in zip(ctx.architecture.signals, leaves, strict=True)}
        outputs, state = scan(Feedback(ctx.architecture, values, {}), u, (x, y))
        return outputs, *state

    return differentiable_gradients(plain, given, ctx.needs_input_grad[3:], gradients)
