"""Peers in torch itself: its own functions where they compute the same, and plain loops."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from .case import Peer, Tensors
from .peers import picked


def _attention() -> Callable[..., torch.Tensor]:
    return lambda q, k, u: F.scaled_dot_product_attention(q, k, u, is_causal=True, scale=1.0)


def _heads_first(base: Tensors) -> tuple[torch.Tensor, ...]:
    return tuple(base[name].transpose(1, 2).contiguous() for name in ("q", "k", "u"))


def _loop() -> Callable[..., torch.Tensor]:
    def loop(g: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        a = g.exp()
        if not torch.is_grad_enabled():
            xs, x = torch.empty_like(a), torch.zeros_like(a[:, 0])
            for t in range(a.shape[1]):
                x = torch.addcmul(w[:, t], a[:, t], x, out=xs[:, t])
            return xs
        found, x = [], torch.zeros_like(a[:, 0])
        for a_t, w_t in zip(a.unbind(1), w.unbind(1), strict=True):
            x = torch.addcmul(w_t, a_t, x)
            found.append(x)
        return torch.stack(found, 1)

    return loop


def _gated_loop() -> Callable[..., torch.Tensor]:
    loop = _loop()
    return lambda g, i, u: loop(g, (1 - (2 * g).exp()).sqrt() * i * u)


def _lstm() -> Callable[..., torch.Tensor]:
    def lstm(x: torch.Tensor, W: torch.Tensor, R: torch.Tensor) -> torch.Tensor:
        zero = x.new_zeros(1, x.shape[0], R.shape[1])
        return torch.lstm(x, (zero, zero), (W, R), False, 1, 0.0, True, False, True)[0]

    return lstm


def _convolution() -> Callable[..., torch.Tensor]:
    def convolve(
        dt: torch.Tensor, lam: torch.Tensor, b: torch.Tensor, c: torch.Tensor, d: torch.Tensor, u: torch.Tensor
    ):
        T, z = u.shape[-1], dt[:, None] * lam
        powers = (z[..., None] * torch.arange(T, device=u.device)).exp()
        kernel = 2 * torch.einsum("hn,hnt->ht", c * b * torch.expm1(z) / lam, powers).real
        y = torch.fft.irfft(torch.fft.rfft(u, 2 * T) * torch.fft.rfft(kernel, 2 * T), 2 * T)[..., :T]
        return y + d[:, None] * u

    return convolve


ATTENTION = Peer(
    "torch SDPA", "torch", "scaled_dot_product_attention", _attention, _heads_first, lambda y: y.transpose(1, 2)
)
ATTENTION_AS_YARDSTICK = Peer(
    "torch SDPA",
    "torch",
    "scaled_dot_product_attention: softmax, another computation of these sizes",
    _attention,
    _heads_first,
    same=False,
)
ADD = Peer(
    "torch.add",
    "torch",
    "the sum of two such tensors: what memory allows",
    lambda: torch.add,
    picked("g", "u"),
    same=False,
)
LOOP = Peer("torch loop", "torch", "a loop of torch.addcmul over time", _loop, picked("g", "u"))
GATED_LOOP = Peer("torch loop", "torch", "a loop of torch.addcmul over time", _gated_loop, picked("g", "i", "u"))
LSTM = Peer(
    "torch.lstm",
    "torch",
    "nn.LSTM's function, with one input feature: nearly no projection",
    _lstm,
    picked("x", "W", "R"),
    lambda y: y[:, :, None],
)
CONVOLUTION = Peer(
    "torch FFT",
    "torch",
    "its kernel by powers, and a convolution by FFT",
    _convolution,
    lambda base: (*picked("dt", "lam", "b", "c", "d")(base), base["u"][..., 0].mT.contiguous()),
    lambda y: y.mT[..., None],
)
