"""The Triton kernel that gives every state of a diagonal recurrence, against the reference and plain torch."""

import pytest
import torch

import dsf
from dsf.operators import Diagonal
from dsf.values import Log
from dsf_kernels.cpu.elementwise import plain
from dsf_kernels.gpu import states
from dsf_kernels.packing import Packing
from kernel_cases import MIN, check_causal, check_reference, close, draw, poisoned_memory, start, with_ends  # noqa: F401
from triton_cases import DEVICE, FP32, INTERPRETED, LENGTHS, MARKS, check_packed

pytestmark = [*MARKS, pytest.mark.usefixtures("poisoned_memory")]
KERNEL = "triton_states"


@dsf.architecture("Signed factors, read before the write", register=False)
def signed(a=dsf.Vector(-1.2, 1.2), b=dsf.Vector, c=dsf.Vector):
    return dsf.System(A=dsf.diag(a), B=b, C=c, reads="before")


@dsf.architecture("Rotating", register=False)
def rotating(a=dsf.Vector(dsf.Complex), b=dsf.Param(dsf.Vector(dsf.Complex)), c=dsf.Vector(dsf.Complex)):
    return dsf.System(A=0.3 * dsf.diag(a), B=b, C=dsf.RealPart(c))


@dsf.architecture("Leaky, read through a nonlinearity", register=False)
def leaky(g=dsf.Param(dsf.Vector(-dsf.inf, 0)), i=dsf.Vector(0, 1)):
    return dsf.System(A=dsf.diag(dsf.decay(g)), B=dsf.diag(i), C=dsf.I, readout=dsf.tanh)


ZOO = {name: dsf.architecture_named(name) for name in ("rglru", "mamba", "s4d")}
OWN = {"signed": signed, "rotating": rotating, "leaky": leaky}
CASES = ZOO | OWN


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    if INTERPRETED:  # which is slow; a GPU takes as many as it does elsewhere
        monkeypatch.setattr(states, "STEPS", (4, 8))


def check(architecture, length, batch=1, n=3, p=2, **ends):
    signals, u = draw(architecture, length, heads=2, n=n, p=p, batch=batch)
    state = start(architecture, signals, u)
    check_reference(KERNEL, architecture, with_ends(signals, **ends), u, torch.float32, FP32, state, DEVICE)


@pytest.fixture
def in_segments(monkeypatch):
    monkeypatch.setattr(states, "LEAST", 15)
    monkeypatch.setattr(states, "multiprocessors", lambda device: 10**4)


@pytest.mark.parametrize("name, length", [*((name, 21) for name in CASES), *(("rglru", length) for length in LENGTHS)])
def test_agrees_with_the_reference(name, length):
    check(CASES[name], length)


@pytest.mark.parametrize("name", ["rglru", "leaky"])
def test_resets_and_strong_decays_are_exact(name, in_segments):
    check(CASES[name], 65, g=(0.0, -20.0, -200.0, -1e4, MIN))


@pytest.mark.parametrize("name", ["signed", "rotating", "s4d"])
def test_segments_of_time_meet(name, in_segments):
    check(CASES[name], 70)


@pytest.mark.parametrize("name", ["signed", "rotating", "s4d", "leaky"])
def test_sequences_in_one_pack(name):
    check_packed(KERNEL, CASES[name], ends=(0, 5, 5, 21, 22, 40), n=3, p=2)


def test_a_pack_is_one_launch(monkeypatch):
    seen, launch = [], states.launch
    monkeypatch.setattr(states, "launch", lambda *given, **more: seen.append(given) or launch(*given, **more))
    check_packed(KERNEL, ZOO["rglru"], ends=(0, 2, 2, 5), n=3, p=2, heads=1)
    assert len(seen) == 2, "forward, and backward"


@pytest.mark.parametrize("name", ["signed", "rotating", "s4d"])
def test_segments_of_packed_sequences(name, in_segments):
    check_packed(KERNEL, CASES[name], ends=(0, 3, 48, 48, 66, 67), n=3, p=2, heads=1)


BROADCASTS = {
    "a decay of every entry": (1, "BTHn", True, torch.float32, True),
    "constant logs": (40, "11Hn", True, torch.float32, True),
    "constant factors": (2, "11Hn", False, torch.complex64, True),
    "one for all rows": (1, "BTH1", False, torch.float32, False),
    "one for all sequences and heads": (40, "1T1n", True, torch.float32, False),
    "one number": (1, "1111", True, torch.float32, True),
    "transposed in memory": (2, "BnHT", False, torch.complex64, True),
    "complex logs": (40, "1T11", True, torch.complex64, False),
}


@pytest.mark.parametrize("name", BROADCASTS)
def test_broadcasts_and_strides(name, request):
    """Logs and factors that sequences, steps, heads or rows share; gradients have their shapes."""
    p, of, log, dtype, segments = BROADCASTS[name]
    if segments:
        request.getfixturevalue("in_segments")
    sizes = {"B": 2, "T": 33 if segments else 9, "H": 2, "n": 3 if p < 40 else 1, "1": 1}
    B, T, H, n, _ = sizes.values()
    generator = torch.Generator().manual_seed(0)

    def leaf(*shape):
        return torch.randn(shape, generator=generator, dtype=dtype).to(DEVICE)

    a = (0.3 * leaf(*(sizes[axis] for axis in of)) - 0.3).requires_grad_()
    w, x = leaf(B, T, H, n, p).requires_grad_(), leaf(B, H, n, p).requires_grad_()
    d = a.transpose(1, 3) if of == "BnHT" else a
    found, expected = states.run(Diagonal(Log(d) if log else d), w, x), plain(log, d, w, x)
    weights = leaf(*w.shape)
    pairs = zip(*(torch.autograd.grad(v, (a, w, x), weights) for v in (found, expected)), strict=True)
    assert close(found, expected, FP32) and all(close(v, e, FP32) for v, e in pairs)


def test_the_future_does_not_reach_the_past():
    check_causal(KERNEL, ZOO["rglru"], heads=2, n=3, p=2, batch=1, dtype=torch.float32, device=DEVICE)


def test_numbers_and_no_step():
    w, x = torch.randn(1, 7, 2, 9, 1, device=DEVICE), torch.randn(1, 2, 9, 1, device=DEVICE)
    assert close(states.run(Diagonal(1), w, x)[:, -1], x + w.sum(1), FP32)
    assert close(states.run(Diagonal(0), w, x), w, FP32)
    assert states.run(Diagonal(1), w[:, :0], x).shape == (1, 0, 2, 9, 1)


def test_derivatives_of_derivatives():
    w, x = torch.randn(1, 5, 1, 2, 1, device=DEVICE), torch.randn(2, 1, 2, 1, device=DEVICE)
    a = torch.rand(1, 5, 1, 2, device=DEVICE, requires_grad=True)

    def second(run):
        first = torch.autograd.grad(run(a).square().sum(), a, create_graph=True)[0]
        return torch.autograd.grad(first.sum(), a)[0]

    def apart(a):
        return torch.cat([plain(False, a[:, :2], w[:, :2], x[:1]), plain(False, a[:, 2:], w[:, 2:], x[1:])], 1)

    packing = Packing((2, 3))
    assert close(second(lambda a: states.run(Diagonal(a), w, x[:1])), second(lambda a: plain(False, a, w, x[:1])), FP32)
    assert close(second(lambda a: states.run(Diagonal(a), w, x, packing)), second(apart), FP32)
