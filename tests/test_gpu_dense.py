"""The Triton kernel of dense transitions against the reference: of every step, constant, lifted."""

import pytest
import torch

import dsf
from dsf.operators import Dense
from dsf_kernels.gpu import dense
from dsf_kernels.gpu.configurations import Configuration, forced
from dsf_kernels.recurrences import Reads
from kernel_cases import check_causal, check_reference, close, draw, poisoned_memory, with_ends  # noqa: F401
from long_cases import some_slow
from triton_cases import DEVICE, FP32, LENGTHS, MARKS, check_packed

pytestmark = [*MARKS, pytest.mark.usefixtures("poisoned_memory")]
KERNEL = "triton_dense"


@dsf.architecture("A matrix of every step", register=False)
def varying(M=dsf.Matrix, b=dsf.Vector, c=dsf.Vector):
    return dsf.System(A=0.3 * M, B=b, C=c)


@dsf.architecture("A constant matrix, read before", register=False)
def constant(M=dsf.Param(dsf.Matrix), b=dsf.Vector, c=dsf.Shared(dsf.Vector)):
    return dsf.System(A=0.3 * M, B=b, C=c, reads="before")


@dsf.architecture("A transposed matrix, one read for all", register=False)
def transposed(M=dsf.Matrix, b=dsf.Vector, c=dsf.Param(dsf.Vector)):
    return dsf.System(A=(0.3 * M).T, B=b, C=c)


ZOO = {name: dsf.architecture_named(name) for name in ("deltaproduct", "lssl", "titans")}
OWN = {"varying": varying, "constant": constant, "transposed": transposed}
ALL = OWN | ZOO


def check(name, length, heads=1, n=3, p=2, batch=1, gain=None, **ends):
    """gain: of the matrices; by 1.3 what a segment multiplies by is seen in the next."""
    signals, u = draw(ALL[name], length, heads=heads, n=n, p=p, batch=batch)
    if "M" in signals:
        signals["M"] = signals["M"] * (gain or n**-0.5)
    check_reference(KERNEL, ALL[name], with_ends(signals, **ends), u, torch.float32, FP32, device=DEVICE)


@pytest.fixture
def in_segments(monkeypatch):
    monkeypatch.setattr(dense, "LEAST", 16)
    monkeypatch.setattr(dense, "EVERY", 8)
    monkeypatch.setattr(dense, "multiprocessors", lambda device: 10**4)


CASES = [*((name, 19) for name in ALL), *(("varying", length) for length in LENGTHS)]


@pytest.mark.parametrize("name, length", some_slow(CASES, ("varying", 63), ("varying", 64)))
def test_agrees_with_the_reference(name, length):
    check(name, length, heads=2)


@pytest.mark.parametrize("name", OWN)
def test_segments_of_time_meet(name, in_segments):
    check(name, 70, gain=1.3)


def test_segments_of_a_state_of_several_blocks(in_segments):
    check("constant", 49, n=17, p=70, gain=1.3)


@pytest.mark.parametrize("n, p", [(1, 1), (20, 70), (64, 5)])
def test_any_size_of_the_state(n, p):
    check("varying", 5, n=n, p=p, batch=2)


def test_more_than_64_rows():
    check("varying", 20, n=70)


@pytest.mark.parametrize("name", some_slow(["varying", "constant"], "constant"))
def test_segments_of_more_than_64_rows(name, in_segments):
    """Blocks of fewer columns: two of the state, three of what a segment multiplies by."""
    check(name, 49, n=70, p=35, gain=1.3)


@pytest.mark.parametrize("name", ["constant", "transposed", "deltaproduct"])
def test_sequences_in_one_pack(name):
    check_packed(KERNEL, ALL[name], ends=(0, 5, 5, 22, 23, 35), n=3, p=2, heads=2)


def test_a_pack_is_one_launch(monkeypatch):
    seen, launch = [], dense.launch
    monkeypatch.setattr(dense, "launch", lambda *given, **more: seen.append(given) or launch(*given, **more))
    check_packed(KERNEL, varying, ends=(0, 2, 2, 5), n=3, p=2, heads=1)
    assert len(seen) == 2, "forward, and backward"


@pytest.mark.parametrize("name", ["varying", "constant"])
def test_segments_of_packed_sequences(name, in_segments):
    """One in three segments of three parts each, one in two; states in two blocks of columns."""
    narrow = Configuration(16, 4, 1)
    with forced("dense 16 32 float32", narrow), forced("dense_backward 16 32 float32", narrow):
        check_packed(KERNEL, ALL[name], ends=(0, 51, 51, 78, 79), n=3, p=18, heads=1)


def test_repeated_keys_and_full_reflections():
    check("deltaproduct", 9, beta=(0.0, 1.0, 2.0))


def test_the_future_does_not_reach_the_past():
    check_causal(KERNEL, varying, 30, 11, DEVICE, heads=1, n=3, p=2, batch=1, dtype=torch.float32)


def test_what_does_not_fit_is_declined():
    M = torch.ones(1, 1, 1, 129, 129, device=DEVICE)
    k, u = torch.ones(1, 3, 1, 129, device=DEVICE), torch.ones(1, 3, 1, 2, device=DEVICE)
    with pytest.raises(ValueError, match="up to 128 rows, this one has 129"):
        dsf.simulate(dsf.System(A=Dense(M), B=k, C=k), u, backend=KERNEL)


def test_small_cards_take_64_rows(monkeypatch):
    monkeypatch.setattr(dense, "shared_memory", lambda device: 99 * 1024)
    assert "up to 64 rows in 101376 bytes" in dense.declines(Dense(torch.ones(1, 1, 1, 65, 65)))
    assert dense.declines(Dense(torch.ones(1, 1, 1, 64, 64))) is None


def test_no_step_and_derivatives_of_derivatives():
    M, k = torch.rand(1, 3, 1, 2, 2, device=DEVICE, requires_grad=True), torch.rand(1, 3, 1, 2, device=DEVICE)
    u, x = torch.rand(1, 3, 1, 1, device=DEVICE), torch.rand(1, 1, 2, 1, device=DEVICE)
    y, last = dense.run(Dense(M), k, k, u[:, :0], x, False)
    assert y.shape == (1, 0, 1, 1) and last is x

    def second(run):
        first = torch.autograd.grad(run(M).square().sum(), M, create_graph=True)[0]
        return torch.autograd.grad(first.sum(), M)[0]

    found = second(lambda M: dense.run(Dense(M), k, k, u, x, False)[0])
    assert close(found, second(lambda M: dense.plain(Reads(False), (M, k, k, u, x))[0]), FP32)
