"""Triton kernels at the sizes of real layers, on a GPU: the tiles that a run has there, which no interpreter compiles.

Against the eager kernels in fp64 on the same device, whose algebra other tests hold to the reference.
"""

import pytest
import torch

import dsf
from kernel_cases import close, draw, in_dtype, run, start

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
TOLERANCES = {torch.bfloat16: 3e-2, torch.float16: 5e-3, torch.float32: 1e-4}
EAGER = {
    "triton_scalar": "chunked_scalar",
    "triton_diagonal": "chunked_diagonal",
    "triton_low_rank": "chunked_low_rank",
    "triton_states": "diagonal_states",
    "triton_dense": "segments",
    "triton_constant": "constant",
    "triton_step_scaled": "chunked_scalar",
    "triton_step_diagonal": "chunked_diagonal",
    "triton_step_low_rank": "chunked_low_rank",
}
CASES = [
    *(("triton_scalar", name) for name in ("linear_attention", "mamba2", "retnet")),
    *(("triton_diagonal", name) for name in ("gla", "rwkv6")),
    *(("triton_low_rank", name) for name in ("deltanet", "gated_deltanet", "kda")),
]


def check(kernel, name, dtype, length=2065, batch=2, heads=4, n=64, p=64, **more):
    architecture = dsf.architecture_named(name)
    signals, u = draw(architecture, length, heads, n, p, batch)
    state = start(architecture, signals, u)
    if more:
        state = state.expand(len(more["cu_seqlens"]) - 1, *state.shape[1:])
    signals, u, state = {k: in_dtype(x, dtype) for k, x in signals.items()}, u.to(dtype), in_dtype(state, dtype)
    expected = run(architecture, signals, u, state, EAGER[kernel], torch.float64, device="cuda", **more)
    found = run(architecture, signals, u, state, kernel, dtype, device="cuda", **more)
    wrong = [k for k, value in expected.items() if not close(found[k], value, TOLERANCES[dtype])]
    assert not wrong, f"{kernel} differs from {EAGER[kernel]} in {wrong}"


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("size", [64, 128])
@pytest.mark.parametrize("kernel, name", CASES, ids=" ".join)
def test_agrees_with_the_eager_kernel(kernel, name, size, dtype):
    check(kernel, name, dtype, n=size, p=size)


@pytest.mark.parametrize("kernel, name, n, p", [("triton_states", "rglru", 128, 1), ("triton_constant", "s4d", 64, 1)])
def test_of_one_channel(kernel, name, n, p):
    check(kernel, name, torch.float32, heads=64, n=n, p=p)


@pytest.mark.parametrize("steps", [1, 16])
@pytest.mark.parametrize(
    "kernel, name",
    [("triton_step_scaled", "mamba2"), ("triton_step_diagonal", "gla"), ("triton_step_low_rank", "gated_deltanet")],
)
def test_decoding(kernel, name, steps):
    check(kernel, name, torch.bfloat16, length=steps, n=128, p=128)


@pytest.mark.parametrize("kernel, name", CASES, ids=" ".join)
def test_one_long_sequence_is_cut_in_time(kernel, name):
    check(kernel, name, torch.bfloat16, length=16384, batch=1, heads=2)


@pytest.mark.parametrize("kernel, name", CASES, ids=" ".join)
def test_sequences_in_one_pack(kernel, name):
    ends = torch.tensor([0, 1, 1, 700, 4000, 4097]).cuda()
    check(kernel, name, torch.bfloat16, length=4097, batch=1, heads=4, n=128, p=128, cu_seqlens=ends)


def test_many_sequences_fill_the_card_without_segments():
    check("triton_scalar", "mamba2", torch.bfloat16, length=512, batch=16, heads=32, n=128, p=128)
