"""Bodies whose gates need a sum over all rows of their signals, for kernels that compute them on the way."""

import torch
import torch.nn.functional as F

from dsf import I, Param, Scalar, Shared, System, Vector, architecture, decay, diag, exp, inner, sigmoid, softplus
from fused_cases import of_torch


def _softmax(x):
    return torch.softmax(x, -1)


@architecture("Normalised in its body", register=False)
def unit_rows(k=Vector, q=Vector, z=Scalar):
    return System(A=diag(sigmoid(z + k)), B=k * of_torch(torch.rsqrt)(inner(k, k) + 1e-6), C=q)


@architecture("Normalised, shared by heads", register=False)
def unit_shared(k=Shared(Vector), q=Param(Vector), z=Scalar):
    """By torch's own norm; where there are no rows it is 0 / 0. That of q is constant in time."""
    unit = of_torch(lambda x: x / torch.linalg.vector_norm(x, dim=-1, keepdim=True))
    return System(A=diag(decay(-softplus(z) * exp(unit(k)))), B=unit(k), C=unit(q) * k)


@architecture("Shares of a whole", register=False)
def shares(k=Vector, q=Vector, z=Scalar):
    shares = of_torch(lambda x: x.exp() / x.exp().sum(-1, keepdim=True))
    return System(A=diag(sigmoid(z + k)), B=shares(k), C=shares(q))


@architecture("Shares, below the largest", register=False)
def largest(k=Vector, q=Vector, z=Scalar):
    return System(A=diag(sigmoid(z + k)), B=of_torch(_softmax)(k), C=q)


@architecture("A gate of two signals' product", register=False)
def agreeing(k=Vector, q=Vector, shift=Param(Vector), o=Shared(Vector)):
    gate = sigmoid(inner(k, q) + inner(o, shift) * inner(shift, shift))
    return System(A=diag(decay(-gate * exp(shift))), B=(1 - gate) * k, C=q, D=gate, reads="before")


@architecture("One gate for all rows, of their product", register=False)
def one_gate(k=Vector, q=Vector):
    a = sigmoid(inner(k, q))
    return System(A=a * I, B=I, C=diag(q))


@architecture("Centred rows, in and out", register=False)
def centred(f=Vector, i=Vector, o=Shared(Vector)):
    centre = of_torch(lambda x: x - x.mean(-1, keepdim=True))
    return System(A=diag(sigmoid(centre(f))), B=diag(i), C=diag(sigmoid(inner(f, o)) * centre(i)))


SUMS = {a.name: a for a in (unit_rows, unit_shared, shares, largest, agreeing, one_gate, centred)}
LARGEST = "largest", "softmax", "log softmax", "logsumexp", "two, one after the other"
OVER_ROWS = {
    "sum": lambda x: x * x.sum(-1, keepdim=True),
    "sum that keeps no axis": lambda x: x * (x * x).sum(3)[..., None],
    "mean": lambda x: x - x.mean(3, keepdim=True),
    "norm": lambda x: x / x.norm(dim=-1, keepdim=True),
    "norm of size": lambda x: F.normalize(x, p=1.0, dim=-1),
    "normalize": lambda x: F.normalize(x, dim=-1),
    "rms norm": lambda x: F.rms_norm(x, (x.shape[-1],), eps=0.125),
    "largest": lambda x: x - x.amax(-1, keepdim=True),
    "softmax": _softmax,
    "log softmax": lambda x: x.log_softmax(-1),
    "logsumexp": lambda x: x * torch.logsumexp(x, -1, keepdim=True),
    "two, one after the other": lambda x: torch.softmax(F.normalize(x, dim=-1), -1),
    "of a norm": lambda x: (F.normalize(x, dim=-1) - 0.5).abs().sum(-1, keepdim=True) * x,
    "of what has no rows": lambda x: x * (torch.ones_like(x) * x.mean(-1, keepdim=True)).sum(-1, keepdim=True),
}
