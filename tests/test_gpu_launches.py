"""How many launches a run takes, forward and backward: counted on tensors without memory, nothing is compiled."""

import os

import pytest
import torch

from dsf.operators import Dense, Diagonal, DiagonalPlusLowRank, Scaled
from dsf.tree import leaves
from dsf.values import Log
from dsf_kernels.packing import Packing
from dsf_kernels.registry import kernels
from gpu_compilation import launches

pytest.importorskip("triton")
pytestmark = pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter launches nothing")
MOST = 3
FULL, FEW, PACK = (8, 8192, 16), (1, 8192, 2), (1, 8192, 16)  # B, T, H: enough to fill a card; too few; packed
N, P = 64, 64


def leaf(sizes, *own):
    return torch.empty(*sizes, *own, dtype=torch.bfloat16, requires_grad=True)


TRANSITIONS = {
    "triton_scalar": lambda sizes: Scaled(Log(leaf(sizes, 1))),
    "triton_diagonal": lambda sizes: Diagonal(Log(leaf(sizes, N))),
    "triton_low_rank": lambda sizes: DiagonalPlusLowRank(
        Log(leaf(sizes, 1)), leaf(sizes, 1), leaf(sizes, N), leaf(sizes, N)
    ),
    "triton_dense": lambda sizes: Dense(leaf(sizes, N, N)),
}


@pytest.mark.parametrize("sizes", [FULL, FEW, PACK], ids=["full", "few", "packed"])
@pytest.mark.parametrize("name", TRANSITIONS)
def test_at_most_three_launches_each_way(name, sizes, monkeypatch):
    packing = Packing((8000, 100, 92)) if sizes is PACK else None
    count, made = packing.count if packing else sizes[0], []

    def run():
        A = TRANSITIONS[name](sizes)
        b, c, u = leaf(sizes, N), leaf(sizes, N), leaf(sizes, P)
        x = torch.empty(count, sizes[2], N, P, requires_grad=True)
        made.extend(kernels()[name].run(A, b, c, u, x, False, packing))
        made.extend([*leaves(A), b, c, u, x])

    def back():
        y, last, *inputs = made
        torch.autograd.grad(y.float().sum() + last.sum(), inputs)

    forward, backward = launches(monkeypatch, run), launches(monkeypatch, back)
    assert 1 <= len(forward) <= MOST and 1 <= len(backward) <= MOST
    assert len(forward) > 1 or sizes is not FEW, "time is cut where heads are few"
