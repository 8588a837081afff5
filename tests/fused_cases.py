"""Bodies whose gates are their own, for kernels that compute them on the way: what is pointwise, shared, constant."""

import torch
import torch.nn.functional as F

import dsf
from dsf import (
    I,
    LogDecay,
    Param,
    Positive,
    Scalar,
    Shared,
    System,
    Vector,
    architecture,
    decay,
    diag,
    elementwise,
    exp,
    inf,
    sigmoid,
    softplus,
)


def of_torch(f):
    """A function of signals that only tensors know: bounds are told nothing."""
    return elementwise(getattr(f, "__name__", "f"), f, lambda x: x, lambda s: dsf.Interval(), "As torch does.")


@architecture("Selective, steps behind a softplus", register=False)
def steps(b=Shared(Vector), c=Shared(Vector), z=Scalar, shift=Param(Scalar), log_a=Param(Vector), d=Param(Scalar)):
    dt = softplus(z + shift)
    return System(A=diag(decay(-dt * exp(log_a))), B=dt * b, C=c, D=d)


@architecture("Sigmoid gates of rows, no logarithm", register=False)
def gates(f=Vector, i=Vector, o=Vector):
    return System(A=diag(sigmoid(f)), B=(1 - sigmoid(f)) * i, C=sigmoid(o))


def _slope(x):
    steep = x < 1e-6
    linear = x.detach().sqrt() + 1000 * (x - x.detach())
    return torch.where(steep, linear, torch.where(steep, torch.ones_like(x), x).sqrt())


@architecture("A root with a bounded slope", register=False)
def rooted(r=Vector(0, 1), i=Vector(0, 1), speed=Param(Positive)):
    a = decay(-8 * r * speed)
    return System(A=diag(a), B=diag(of_torch(_slope)(1 - a**2) * i), C=I)


@architecture("Resets", register=False)
def resets(g=Vector(-inf, 0), k=Vector, q=Vector, s=Scalar):
    return System(A=diag(decay(g)), B=(1 - decay(g)) * k, C=sigmoid(s) * q, D=sigmoid(s), reads="before")


@architecture("One factor for all, everything a number", register=False)
def numbers(rate=LogDecay, w=Positive, r=Scalar):
    return System(A=decay(w * rate) * I, B=w * exp(-w), C=dsf.tanh(r))


@architecture("Shared by heads, in a gate", register=False)
def shared(b=Shared(Vector), c=Shared(Scalar), z=Shared(Vector), rate=Param(Vector)):
    return System(A=diag(decay(-softplus(z) * sigmoid(rate))), B=sigmoid(b), C=exp(-c) * b, D=sigmoid(c))


@architecture("Rows in, rows out", register=False)
def through_rows(g=Vector, o=Vector, d=Vector):
    return System(A=diag(sigmoid(g)), B=I, C=diag(sigmoid(o)), D=diag(dsf.tanh(d)))


@architecture("One leak for all rows", register=False)
def leaky(z=Scalar, i=Vector, speed=Param(Vector)):
    a = sigmoid(z)
    return System(A=a * I, B=(1 - a) * I, C=diag(i * exp(speed)), D=1 - a)


@architecture("Divided", register=False)
def divided(q=Vector, k=Shared(Vector(1, 2)), z=Scalar, scale=Param(Vector(1, 2))):
    """Where there are no rows and heads, there is 0 / 0."""
    return System(A=diag(decay(-softplus(z) / scale)), B=1 / k, C=q / scale)


OWN = {a.name: a for a in (steps, gates, rooted, resets, numbers, shared, through_rows, leaky, divided)}


class _Straight(torch.autograd.Function):
    """Rounded; the gradient passes, twice as large."""

    @staticmethod
    def forward(ctx, x):
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx, g):
        return 2 * g


FUNCTIONS = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "softplus": F.softplus,
    "softplus with options": lambda x: F.softplus(x, 2.0, 3.0),
    "relu": torch.relu,
    "silu": F.silu,
    "elu": F.elu,
    "elu with options": lambda x: F.elu(x, 0.7),
    "logsigmoid": F.logsigmoid,
    "log1p": lambda x: torch.log1p(x * x),
    "expm1": torch.expm1,
    "exp2": torch.exp2,
    "log2": lambda x: torch.log2(x * x + 0.1),
    "abs": torch.abs,
    "sign": lambda x: torch.sign(x) * x,
    "sqrt": lambda x: torch.sqrt(x * x + 0.1),
    "rsqrt": lambda x: torch.rsqrt(x * x + 0.1),
    "reciprocal": lambda x: torch.reciprocal(x * x + 0.1),
    "powers": lambda x: x**3 - 2 * x**2 + (x * x + 1) ** -1 + (x * x + 1) ** 0.5,
    "clamp": lambda x: x.clamp(-0.5, 0.7),
    "clamp below": lambda x: x.clamp(min=0.1),
    "maximum": lambda x: torch.maximum(x, 0.3 * x - 0.1),
    "minimum": lambda x: torch.minimum(x, x * x),
    "where": lambda x: torch.where((x > -1) & (x <= 0.5), x.exp(), 2.0 - x),
    "masked": lambda x: x.masked_fill((x > 1) | (x == 0), 0.0),
    "not": lambda x: torch.where(~(x >= 0), -x, x / 3),
    "detached": lambda x: x * torch.sigmoid(x).detach(),
    "no gradient": torch.no_grad()(torch.tanh),
    "a gradient of its own": _Straight.apply,
    "constants": lambda x: x * torch.full_like(x, 0.3) + torch.ones_like(x) - torch.zeros_like(x),
    "tanh secant": lambda x: dsf.tanh_secant(x),
    "relu secant": lambda x: dsf.relu_secant(x),
}
