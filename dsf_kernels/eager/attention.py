"""Infinite features through torch's fused attention: no matrix of pairs in memory, forward or backward.

    y_t = sum_s e^{logits_ts} u_s / (sum_s e^{logits_ts} + e^sink)          L_t = log of what stands below

Parts of the keys (see attention_parts) give an output and a log-sum-exp each, and these combine. Backward every part
goes alone, given y and L of them all: with P = e^{logits - L} and D_t = dy_t^T y_t, dlogits = P (dy u^T - D). Where
weights, decays or a table want a gradient, dlogits is formed, a block of queries at a time.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from dsf.features import ExpKernel, Features, RelativeKernel, decay_and_window
from dsf.feedback import Feedback
from dsf.pairwise import attend, cut, decayed, gather, run_pairs
from dsf.system import System
from dsf.values import Log

from ..attention_gradients import Inputs, gradients, scored
from ..attention_parts import BLOCK, Part, blocks, fused, parts, see_nothing
from ..costs import Cost, Sizes, floor, pairs
from ..derivatives import differentiable_gradients
from ..reach import HALF
from ..registry import REAL, kernel

CALLS = 14  # operations of a block
PASSES = 6  # over a bias for every pair


def declines(system: System | Feedback) -> str | None:
    """Why this system is not softmax(q k^T + bias) u, or None."""
    step = system if isinstance(system, Feedback) else system.outline
    if isinstance(step, Feedback) or not isinstance(step.B, Features):
        return "the state is finite: this kernel runs infinite features"
    kind = step.B.log_kernel
    if not isinstance(kind, (ExpKernel, RelativeKernel)) or getattr(kind, "cap", None) is not None:
        return "its scores are not q^T k plus a bias, which is all that torch's attention knows"
    if not step.normalised:
        return "it is not normalised, and torch's attention is"
    return None if step.floor is None else "its normaliser has a floor"


def cost(system: System, sizes: Sizes) -> Cost:
    """The floor's flops; a bias for every pair, where pairs have their own, passes through memory."""
    least, z, step = floor(system, sizes), sizes, system.outline
    a, window = decay_and_window(step.A)
    if isinstance(step.B.log_kernel, RelativeKernel) or (window or z.length) < z.length:
        own = pairs(step, z)
    else:
        own = z.length * min(z.length, BLOCK) / 2 if isinstance(a, Log) else 0
    heads = z.rows if isinstance(a, Log) else 1
    calls = CALLS * (-(-z.length // BLOCK) if own else 1)
    return Cost(least.flops, least.bytes + PASSES * heads * own * z.itemsize, calls)


@kernel("scaled_dot_product", form="system", cost=cost, declines=declines, dtypes=REAL, devices=("cpu",))
def run(system: System, u: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
    """As dsf.pairwise.run_pairs, on whose algebra derivatives of the gradient, and torch.func's transforms, rest."""
    if torch._C._are_functorch_transforms_active() or not u.shape[1]:
        return run_pairs(system, u, state)
    with torch.autocast(u.device.type, enabled=False):
        z = gather(system, u, state)
        table = getattr(system.B.log_kernel, "table", None)
        inputs = _in_one_dtype(Inputs(z.q, z.k, z.u, z.w, z.g, z.sink, None if table is None else table[0, 0]))
        wanted = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs)
        y = _Attention.apply(system, z.window, *inputs) if wanted else _run(inputs, z.window)[0]
        z = inputs.pairs(z.window)
        w = z.w if z.w is None or z.g is None else decayed(z.w, z.g, z.before, z.k.shape[2])
        past = tuple(x.float() if x.dtype in HALF else x for x in z.past(w))
    return y.transpose(1, 2).to(u.dtype), past


def _in_one_dtype(inputs: Inputs) -> Inputs:
    """Half precision as it is where nothing is added to the scores, else in fp32."""
    given = [x for x in inputs[:-1] if x is not None]  # a table comes in the dtype of the scores
    dtype = given[0].dtype
    for x in given[1:]:
        dtype = torch.promote_types(dtype, x.dtype)
    if dtype in HALF and not (inputs.w is inputs.table is None):
        dtype = torch.float32
    return Inputs(*(x if x is None else x.to(dtype) for x in inputs))  # type: ignore[arg-type]


# --------------------------------------------------------------------------------------------------- forward, backward
def _run(inputs: Inputs, window: int | None) -> tuple[torch.Tensor, torch.Tensor]:
    """y [B, H, T, p], L [B, H, T]."""
    z, q = inputs.pairs(window), scored(inputs)
    found = []
    for start, stop in blocks(z, inputs.table is not None):
        now, some = slice(start, stop), parts(z, inputs.table, start, stop)
        results = [fused(q[:, :, now], z.k[:, :, p.seen], z.u[:, :, p.seen], p) for p in some]
        sink = cut(z.sink, now)
        found.append(results[0] if len(some) == 1 and sink is None else _combined(some, results, sink))
    if len(found) == 1:
        return found[0]
    return torch.cat([y for y, _ in found], 2), torch.cat([L for _, L in found], 2)


def _combined(some: list[Part], results: list, sink: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """The parts, and e^sink, over one denominator."""
    outs, sums = zip(*results, strict=True)
    nothing = [see_nothing(p, out.shape[2]) for p, out in zip(some, outs, strict=True)]
    sums = [x if no is None else x.masked_fill(no, -torch.inf) for x, no in zip(sums, nothing, strict=True)]
    total = torch.stack(sums).logsumexp(0) if len(sums) > 1 else sums[0]
    total = total if sink is None else torch.logaddexp(total, sink.to(total.dtype))
    total = total.masked_fill(total == -torch.inf, 0.0)  # nothing is seen at all: every share is 0
    shares = [(x - total).exp()[..., None].to(outs[0].dtype) for x in sums]
    y = outs[0] * shares[0]
    return (y.addcmul_(outs[1], shares[1]) if len(outs) > 1 else y), total


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, system: System, window: int | None, *inputs):  # type: ignore[override]
        y, L = _run(Inputs(*inputs), window)
        ctx.system, ctx.window = system, window
        ctx.save_for_backward(*inputs, y, L)
        return y

    @staticmethod
    def backward(ctx, grad: torch.Tensor):  # type: ignore[override]
        *saved, y, L = ctx.saved_tensors
        inputs, need = Inputs(*saved), ctx.needs_input_grad[2:]
        if torch.is_grad_enabled():
            return None, None, *_by_pairs(ctx.system, ctx.window, inputs, need, grad)
        with torch.autocast(grad.device.type, enabled=False):
            return None, None, *gradients(inputs, ctx.window, need, grad.to(y.dtype), y, L)


def _by_pairs(system: System, window: int | None, inputs: Inputs, need: tuple[bool, ...], grad: torch.Tensor):
    """The gradients by plain operations of torch, which have derivatives themselves."""

    def plain(*values):
        given, of = Inputs(*values), system
        if given.table is not None:
            table = replace(of.C.log_kernel, table=given.table[None, None])
            of = replace(of, C=replace(of.C, log_kernel=table))
        return attend(of, given.pairs(window))[:1]

    return differentiable_gradients(plain, inputs, need, (grad,))
