"""Every state of a diagonal recurrence, step after step: one operation a step, into memory that is there already.

    x_t = a_t x_{t-1} + w_t          backward: l_t = g_t + conj(a_{t+1}) l_{t+1},  dw = l,  da_t = l_t conj(x_{t-1})

With few channels a step costs its call, with thousands (one channel per feature of a layer) what memory allows.
"""

from __future__ import annotations

import torch

from dsf.operators import Diagonal
from dsf.values import is_number, value

from ..costs import Cost, Sizes
from ..derivatives import differentiable_gradients
from ..registry import kernel

CALLS = 0.6  # of a step: one operation without a broadcast, cheaper than most
START = 20  # operations around them: the write, the read
PASSES = 8  # over all states: the write, its sum, the read


def cost(z: Sizes) -> Cost:
    """Every state is written and read, and there is one operation per step."""
    entries = z.rows * z.steps * z.n * z.p
    return Cost(2 * entries, PASSES * entries * z.itemsize, CALLS * z.steps + START)


@kernel("diagonal_states", covers=Diagonal, form="states", cost=cost)
def run(A: Diagonal, w: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Signature and shapes: see registry.py. Memory for backward: a and the states."""
    d = value(A.d)
    a = x.new_full((1, 1, 1, 1), d) if is_number(d) else d.to(x.dtype)
    if not w.shape[1]:
        return w
    a = a[..., None]
    if torch._C._are_functorch_transforms_active():
        return _by_steps(a, w, x)
    if torch.is_grad_enabled() and any(v.requires_grad for v in (a, w, x)):
        return _Scan.apply(a, w, x)
    return _scan(a, w, x)


def _steps(v: torch.Tensor, T: int) -> tuple[torch.Tensor, ...]:
    return v.unbind(1) if v.shape[1] == T else (v[:, 0],) * T


def _scan(a: torch.Tensor, w: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    xs = torch.empty(w.shape, dtype=x.dtype, device=w.device)
    for now, write, out in zip(_steps(a, w.shape[1]), w.unbind(1), xs.unbind(1), strict=True):
        x = torch.addcmul(write, now, x, out=out)
    return xs


def _by_steps(a: torch.Tensor, w: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """The same in plain operations, which have derivatives of every order."""
    found = []
    for now, write in zip(_steps(a, w.shape[1]), w.unbind(1), strict=True):
        x = now * x + write
        found.append(x)
    return torch.stack(found, 1)


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a: torch.Tensor, w: torch.Tensor, x: torch.Tensor):  # type: ignore[override]
        xs = _scan(a, w, x)
        ctx.save_for_backward(a, w, x, xs)
        return xs

    @staticmethod
    def backward(ctx, grad: torch.Tensor):  # type: ignore[override]
        a, w, x, xs = ctx.saved_tensors
        need = ctx.needs_input_grad
        if torch.is_grad_enabled():  # a derivative of the derivative is wanted
            return tuple(differentiable_gradients(lambda *v: (_by_steps(*v),), (a, w, x), need, (grad,)))
        lam, dx = _backward_scan(a.conj(), grad)
        return (_of_the_factor(a, lam, x, xs) if need[0] else None), lam, dx.sum_to_size(x.shape)


def _backward_scan(a: torch.Tensor, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """l_t = g_t + a_{t+1} l_{t+1} of every step, and a_1 l_1."""
    lam, carried = torch.empty_like(grad), None
    for now, g, out in reversed(list(zip(_steps(a, grad.shape[1]), grad.unbind(1), lam.unbind(1), strict=True))):
        carried = now * (out.copy_(g) if carried is None else torch.add(g, carried, out=out))
    assert carried is not None
    return lam, carried


def _of_the_factor(a: torch.Tensor, lam: torch.Tensor, x: torch.Tensor, xs: torch.Tensor) -> torch.Tensor:
    """da_t = l_t conj(x_{t-1}), summed over what a is broadcast along."""
    da = torch.empty_like(lam)
    torch.mul(lam[:, :1], x[:, None].conj(), out=da[:, :1])
    torch.mul(lam[:, 1:], xs[:, :-1].conj(), out=da[:, 1:])
    return (da if a.is_complex() else da.real if da.is_complex() else da).sum_to_size(a.shape)
