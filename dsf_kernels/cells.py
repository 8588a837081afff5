"""Three classical cells on given pre-activations, forward and backward: one product and a few operations per step.

    memory   x_t = f x_{t-1} + i tanh(v)       y_t = o tanh(x_t)       o, f, i = sigmoid(.), v: all of a_t + W y_{t-1}
    leaky    y_t = z y_{t-1} + (1 - z) v       v = tanh(u_t + r (b_t + W y_{t-1})),        r, z = sigmoid(.)
    plain    y_t = phi(a_t + W y_{t-1})        phi = tanh or relu

Everything backward that does not wait for the step after is computed for all steps at once: K below are derivatives
of a step. Layout: parts, the pre-activations a, [T, H, B, n] each; W [H, n, gates x n], backward [H, gates x n, n];
gates and da [T, H, B, gates x n]; states [H, B, n].
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

Tensors = tuple[torch.Tensor, ...]
PIECE = 512  # steps, where the gates are not kept


@dataclass(frozen=True)
class Cell:
    """step: one step of the equation above, (gates, x, y) -> x, y, where gates(i) is a_i + W_i y, for a comparison.

    vectors: how many pre-activations; matrices: of how many of them, the first ones, there is a W. forward(parts, W, x,
    y, keep) -> ys [T + 1, H, B, n] from the start on, kept: the gates if they are to be, and of a memory xs likewise;
    backward(dys, W, ys, kept, dx) -> da, dx and dy of the start, d Wy.
    """

    vectors: int
    matrices: int
    has_memory: bool  # is x_t another state than y_t?
    step: Callable[..., Any]
    forward: Callable[..., tuple[torch.Tensor, Tensors]]
    backward: Callable[..., Tensors]


def outputs(steps: int, y: torch.Tensor) -> torch.Tensor:
    """Room for y_0 .. y_T, y_0 in it."""
    ys = y.new_empty(steps + 1, *y.shape)
    ys[0] = y
    return ys


def _joined(parts: Tensors, keep: bool) -> Iterator[tuple[slice, torch.Tensor]]:
    """Steps, and their pre-activations side by side, to be overwritten by gates: all at once where these are kept."""
    T = len(parts[0])
    for start in range(0, T, T if keep else PIECE):
        now = slice(start, T if keep else start + PIECE)
        yield now, torch.cat([a[now] for a in parts], -1)


# -------------------------------------------------------------------------------------------------------------- memory
def _memory_step(a: list, w: list, x, y):
    o, f, i = (torch.sigmoid(a[k] + w[k](y)) for k in range(3))
    x = f * x + i * torch.tanh(a[3] + w[3](y))
    return x, o * torch.tanh(x)


def _memory(parts: Tensors, W: torch.Tensor, x: torch.Tensor, y: torch.Tensor, keep: bool):
    n, T = y.shape[-1], len(parts[0])
    a, ys, xs = y, outputs(T, y), outputs(T, x)
    for now, a in _joined(parts, keep):
        o, f, i, v = (part.unbind() for part in a.split(n, -1))
        gates = a[..., : 3 * n].unbind()
        before, after = (xs[:-1][now].unbind(), ys[:-1][now].unbind()), (xs[1:][now].unbind(), ys[1:][now].unbind())
        for t, (sums, x_, y_, x, y) in enumerate(zip(a.unbind(), *before, *after, strict=True)):
            sums.baddbmm_(y_, W)
            gates[t].sigmoid_()
            v[t].tanh_()
            torch.mul(f[t], x_, out=x).addcmul_(i[t], v[t])
            torch.mul(o[t], x.tanh(), out=y)
    return ys, (a, xs)


def _memory_backward(dys: torch.Tensor, W: torch.Tensor, ys: torch.Tensor, kept: Tensors, dx: torch.Tensor):
    a, xs = kept
    n = ys.shape[-1]
    o, f, i, v = a.split(n, -1)
    bent = xs[1:].tanh()
    K_o, K_x = bent * o * (1 - o), o * (1 - bent * bent)
    K = torch.stack([xs[:-1] * f * (1 - f), v * i * (1 - i), i * (1 - v * v)], -2)
    da = torch.empty_like(a)
    last, rest = da[..., :n].unbind(), da[..., n:].unflatten(-1, (3, n)).unbind()
    f, K_o, K_x, K = f.unbind(), K_o.unbind(), K_x.unbind(), K.unbind()
    dy = dys[-1]
    for t in reversed(range(len(f))):
        dx = torch.addcmul(dx, dy, K_x[t])
        torch.mul(dy, K_o[t], out=last[t])
        torch.mul(dx[:, :, None], K[t], out=rest[t])
        dx = dx * f[t]
        dy = torch.baddbmm(dys[t], da[t], W)
    return da, dx, dy, da


# --------------------------------------------------------------------------------------------------------------- leaky
def _leaky_step(a: list, w: list, x, y):
    r, z = (torch.sigmoid(a[k] + w[k](y)) for k in range(2))
    v = torch.tanh(a[3] + r * (a[2] + w[2](y)))
    return (y := z * y + (1 - z) * v), y


def _leaky(parts: Tensors, W: torch.Tensor, x: torch.Tensor, y: torch.Tensor, keep: bool):
    n, a, ys = y.shape[-1], y, outputs(len(parts[0]), y)
    for now, a in _joined(parts, keep):
        r, z, m, v = (part.unbind() for part in a.split(n, -1))  # m = b + W y
        products, gates = a[..., : 3 * n].unbind(), a[..., : 2 * n].unbind()
        for t, (y, after) in enumerate(zip(ys[:-1][now].unbind(), ys[1:][now].unbind(), strict=True)):
            products[t].baddbmm_(y, W)
            gates[t].sigmoid_()
            v[t].addcmul_(r[t], m[t]).tanh_()
            torch.lerp(v[t], y, z[t], out=after)
    return ys, (a,)


def _leaky_backward(dys: torch.Tensor, W: torch.Tensor, ys: torch.Tensor, kept: Tensors, dx: torch.Tensor):
    n = ys.shape[-1]
    r, z, m, v = kept[0].split(n, -1)
    K_v, K_z = (1 - z) * (1 - v * v), (ys[:-1] - v) * z * (1 - z)
    K = torch.stack([m * r * (1 - r) * K_v, K_z, r * K_v, K_v], -2).unbind()
    da = kept[0].new_empty(kept[0].shape)
    all_, products = da.unflatten(-1, (4, n)).unbind(), da[..., : 3 * n].unbind()
    z, dy = z.unbind(), dys[-1]
    for t in reversed(range(len(K))):
        torch.mul(dy[:, :, None], K[t], out=all_[t])
        dy = torch.addcmul(dys[t], dy, z[t]).baddbmm_(products[t], W)
    return da, dx, dy, da[..., : 3 * n]


# --------------------------------------------------------------------------------------------------------------- plain
def _plain(bend: Callable, in_place: Callable, slope: Callable) -> Cell:
    """slope: the derivative of bend, as a function of its value."""

    def step(a: list, w: list, x, y):
        return (y := bend(a[0] + w[0](y))), y

    def forward(parts: Tensors, W: torch.Tensor, x: torch.Tensor, y: torch.Tensor, keep: bool):
        ys = outputs(len(parts[0]), y)
        for now, y, after in zip(parts[0].unbind(), ys[:-1].unbind(), ys[1:].unbind(), strict=True):
            in_place(torch.baddbmm(now, y, W, out=after))
        return ys, ()

    def backward(dys: torch.Tensor, W: torch.Tensor, ys: torch.Tensor, kept: Tensors, dx: torch.Tensor):
        da, dy = slope(ys[1:]), dys[-1]
        for t, now in reversed(list(enumerate(da.unbind()))):
            dy = torch.baddbmm(dys[t], now.mul_(dy), W)
        return da, dx, dy, da

    return Cell(1, 1, False, step, forward, backward)


CELLS = (
    Cell(4, 4, True, _memory_step, _memory, _memory_backward),
    Cell(4, 3, False, _leaky_step, _leaky, _leaky_backward),
    _plain(torch.tanh, torch.tanh_, lambda y: 1 - y * y),
    _plain(torch.relu, torch.relu_, lambda y: (y > 0).to(y.dtype)),
)
