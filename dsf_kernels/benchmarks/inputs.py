"""The tensors of each case, as a trained layer would have them: decays near 1, keys of unit length."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from .case import Draw, Tensors


def attention(draw: Draw) -> Tensors:
    return {"q": draw.vectors(), "k": draw.vectors(), "u": draw.drive()}


def gla(draw: Draw) -> Tensors:
    return attention(draw) | {"g": draw.decays(draw.shape.n)}


def delta(draw: Draw) -> Tensors:
    keys = F.normalize(draw.tokens(draw.shape.n), dim=-1)
    return attention(draw) | {"k": keys, "beta": draw.tokens().sigmoid(), "g": draw.decays()}


def kda(draw: Draw) -> Tensors:
    return delta(draw) | {"g": draw.decays(draw.shape.n)}


def rates(draw: Draw, *size: int) -> Tensors:
    return {"log_a": draw.uniform(1, 16, *size).log(), "d": draw.normal(draw.shape.heads)}


def mamba2(draw: Draw) -> Tensors:
    return attention(draw) | {"dt": draw.steps()} | rates(draw, draw.shape.heads)


def mamba(draw: Draw) -> Tensors:
    z = draw.shape
    shared = {name: draw.normal(z.batch, z.length, 1, z.n) for name in "bc"}
    return shared | {"dt": draw.steps(), "u": draw.drive()} | rates(draw, z.heads, z.n)


def diagonal(draw: Draw) -> Tensors:
    return {"g": draw.decays(draw.shape.n), "u": draw.tokens(draw.shape.n)}


def rglru(draw: Draw) -> Tensors:
    return diagonal(draw) | {"i": draw.tokens(draw.shape.n).sigmoid()}


def lstm(draw: Draw) -> Tensors:
    z, bound = draw.shape, draw.shape.n**-0.5
    weights = {"W": draw.uniform(-1, 1, 4 * z.n, 1), "R": draw.uniform(-bound, bound, 4 * z.n, z.n)}
    return {"x": draw.normal(z.batch, z.length, 1)} | weights


def lstm_signals(base: Tensors) -> Tensors:
    """torch's gates are in the order i, f, u, o."""
    names = ("i", "f", "u", "o")
    parts = (base["x"] @ base["W"].mT)[:, :, None].chunk(4, -1)
    recurrent = {f"R{k}": R[None] for k, R in zip(names, base["R"].chunk(4), strict=True)}
    return dict(zip(names, parts, strict=True)) | recurrent


def s4d(draw: Draw) -> Tensors:
    z = draw.shape
    modes = torch.arange(z.n, device=draw.generator.device) * math.pi
    lam = torch.complex(torch.full_like(modes, -0.5), modes).expand(z.heads, z.n)
    b, c = (torch.complex(draw.normal(z.heads, z.n), draw.normal(z.heads, z.n)) for _ in "bc")
    dt = draw.uniform(math.log(1e-3), math.log(1e-1), z.heads).exp()
    return {"dt": dt, "lam": lam.clone(), "b": b, "c": c, "d": draw.normal(z.heads), "u": draw.drive()}


def one_hot(draw: Draw) -> Tensors:
    z, device = draw.shape, draw.generator.device
    size = (z.batch, z.length, z.heads, z.n)
    p = torch.randint(0, z.n, size, generator=draw.generator, device=device)
    return {"p": p, "d": draw.uniform(-1, 1, *size), "b": draw.vectors(), "c": draw.vectors(), "u": draw.drive()}


def dense(draw: Draw) -> Tensors:
    n = draw.shape.n
    return {"M": 0.9 * draw.tokens(n, n) / n**0.5, "b": draw.vectors(), "c": draw.vectors(), "u": draw.drive()}
