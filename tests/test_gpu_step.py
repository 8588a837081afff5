"""The Triton kernels of a few tokens against the reference: multiples of I, diagonals, and diagonals minus rank one."""

import pytest
import torch

import dsf
from dsf.operators import Diagonal, DiagonalPlusLowRank, Scaled
from dsf.values import Log
from dsf_kernels.gpu import step
from dsf_kernels.registry import kernels
from dsf_kernels.sizes import Sizes
from kernel_cases import (  # noqa: F401
    MIN,
    check_causal,
    check_reference,
    close,
    draw,
    poisoned_memory,
    start,
    with_ends,
)
from low_rank_cases import constant, separate, separate_before, signed
from triton_cases import DEVICE, FP32, MARKS, check_packed

pytestmark = [*MARKS, pytest.mark.usefixtures("poisoned_memory")]
SCALED, DIAGONAL, LOW_RANK = (f"triton_step_{name}" for name in ("scaled", "diagonal", "low_rank"))


@dsf.architecture("Signed scalars, read before", register=False)
def turned(q=dsf.Vector, k=dsf.Vector, a=dsf.Scalar(-1.2, 1.2)):
    return dsf.System(A=a * dsf.I, B=k, C=q, reads="before")


ZOO = {
    SCALED: ("linear_attention", "mamba2", "retnet", "mlstm"),
    DIAGONAL: ("gla", "rwkv6", "mamba", "mamba2"),
    LOW_RANK: ("deltanet", "gated_deltanet", "kda", "deltaproduct", "gla"),
}
OWN = {SCALED: (turned,), DIAGONAL: (turned,), LOW_RANK: (constant, separate, separate_before, signed)}
CASES = [(kernel, dsf.architecture_named(name)) for kernel, names in ZOO.items() for name in names]
CASES += [(kernel, architecture) for kernel, own in OWN.items() for architecture in own]
IDS = [f"{kernel} {architecture.name}" for kernel, architecture in CASES]


def check(kernel, architecture, length, n=5, p=3, batch=2, **ends):
    signals, u = draw(architecture, length, heads=2, n=n, p=p, batch=batch)
    state = start(architecture, signals, u)
    check_reference(kernel, architecture, with_ends(signals, **ends), u, torch.float32, FP32, state, DEVICE)


@pytest.mark.parametrize("kernel, architecture", CASES, ids=IDS)
def test_agrees_with_the_reference(kernel, architecture):
    for length in (1, 6):
        check(kernel, architecture, length)


@pytest.mark.parametrize("kernel, name", [(SCALED, "mamba2"), (DIAGONAL, "gla"), (LOW_RANK, "gated_deltanet")])
def test_any_number_of_tokens_and_any_size(kernel, name):
    architecture = dsf.architecture_named(name)
    for length in (2, 3, 16, 65):
        check(kernel, architecture, length, batch=1)
    check(kernel, architecture, 2, n=20, p=70)
    check(kernel, architecture, 1, n=1, p=1)


@pytest.mark.parametrize("kernel, name", [(SCALED, "retnet"), (DIAGONAL, "gla"), (LOW_RANK, "gated_deltanet")])
def test_resets_and_full_reflections_are_exact(kernel, name):
    ends = {"g": (-20.0, MIN, 0.0, -200.0), "beta": (0.0, 1.0, 2.0), "log_gamma": (MIN,)}
    architecture = dsf.architecture_named(name)
    check(kernel, architecture, 9, **{k: v for k, v in ends.items() if k in architecture.signals})


PACKED = [(SCALED, "retnet"), (SCALED, "mamba2"), (DIAGONAL, "rwkv6"), (LOW_RANK, "kda"), (LOW_RANK, "deltaproduct")]


@pytest.mark.parametrize("kernel, name", PACKED)
def test_sequences_in_one_pack(kernel, name):
    check_packed(kernel, dsf.architecture_named(name), ends=(0, 4, 4, 5, 11, 12), n=5, p=3)


def test_a_pack_is_one_launch(monkeypatch):
    seen, launch = [], step.launch
    monkeypatch.setattr(step, "launch", lambda *given, **more: seen.append(given) or launch(*given, **more))
    check_packed(LOW_RANK, dsf.architecture_named("kda"), ends=(0, 2, 2, 5), n=3, p=2, heads=1)
    assert len(seen) == 1


def test_numbers_in_a_transition():
    b, c = (torch.randn(2, 5, 2, 4, device=DEVICE) for _ in range(2))
    u, x = torch.randn(2, 5, 2, 3, device=DEVICE), torch.randn(2, 2, 4, 3, device=DEVICE)
    unit = torch.nn.functional.normalize(b, dim=-1)
    for A in (Scaled(0.5), Scaled(0), Diagonal(-0.5), Diagonal(1), DiagonalPlusLowRank(0.5, 2, unit, unit)):
        kernel = {Scaled: SCALED, Diagonal: DIAGONAL, DiagonalPlusLowRank: LOW_RANK}[type(A)]
        found = kernels()[kernel].run(A, b, c, u, x, False)
        expected = dsf.simulate(dsf.System(A=A, B=b, C=c), u, x, backend="reference")
        assert all(close(y, e, FP32) for y, e in zip(found, expected, strict=True))
        assert kernels()[kernel].run(A, b, c, u[:, :0], x, False)[0].shape == (2, 0, 2, 3)


def test_the_future_does_not_reach_the_past():
    for kernel, name in ((SCALED, "mamba2"), (LOW_RANK, "gated_deltanet")):
        check_causal(
            kernel, dsf.architecture_named(name), 11, 6, DEVICE, heads=2, n=5, p=3, batch=1, dtype=torch.float32
        )


def test_derivatives_of_derivatives():
    k, u = torch.randn(1, 3, 1, 2, device=DEVICE), torch.randn(1, 3, 1, 1, device=DEVICE)
    g, x = -torch.rand(1, 3, 1, 1, device=DEVICE), torch.randn(1, 1, 2, 1, device=DEVICE)
    g.requires_grad_()

    def second(how):
        y, last = step.run_low_rank(DiagonalPlusLowRank(how(g), 0.5, k, k), k, k, u, x, False)
        first = torch.autograd.grad(y.square().sum() + last.square().sum(), g, create_graph=True)[0]
        return torch.autograd.grad(first.sum(), g)[0]

    assert close(second(Log), second(torch.exp), FP32)


CHUNKED = {SCALED: "triton_scalar", DIAGONAL: "triton_diagonal", LOW_RANK: "triton_low_rank"}


@pytest.mark.parametrize("length", [1, 4, 16, 17, 256])
@pytest.mark.parametrize("kernel", CHUNKED)
def test_it_is_taken_for_few_tokens_alone(kernel, length):
    own, other = (kernels()[name].cost(Sizes(8, length, 16, 64, 64, 2, "cuda")) for name in (kernel, CHUNKED[kernel]))
    assert (own.milliseconds("cuda") < other.milliseconds("cuda")) == (length <= 16)
