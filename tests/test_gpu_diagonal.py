"""The Triton kernel of one decay per channel against the reference."""

import math

import pytest
import torch

import dsf
from dsf import Diagonal, System, Vector, architecture, decay, diag
from dsf.reference import scan
from dsf_kernels.registry import kernels
from kernel_cases import MIN, check_causal, check_reference, close, draw, poisoned_memory, with_ends  # noqa: F401
from long_cases import some_slow
from triton_cases import DEVICE, FP32, LENGTHS, MARKS, check_packed, many_segments  # noqa: F401

pytestmark = [*MARKS, pytest.mark.usefixtures("poisoned_memory")]
KERNEL = "triton_diagonal"
GLA, RWKV6, RETNET = (dsf.architecture_named(name) for name in ("gla", "rwkv6", "retnet"))


@architecture("Growth, decay and resets", register=False)
def growth(q=Vector, k=Vector, g=Vector(-math.inf, 0.05)):
    return System(A=diag(decay(g)), B=k, C=q)


@architecture("Decays and writes that heads share, constant reads", register=False)
def shared(q=dsf.Param(Vector), k=dsf.Shared(Vector), g=dsf.Shared(Vector(-math.inf, 0))):
    return System(A=diag(decay(g)), B=k, C=q)


def check(arch, length, n=5, p=3, heads=1, batch=1, state=None, **ends):
    signals, u = draw(arch, length, heads, n, p, batch)
    check_reference(KERNEL, arch, with_ends(signals, **ends), u, torch.float32, FP32, state, DEVICE)


@pytest.mark.parametrize("length", some_slow(LENGTHS, 63, 64))
def test_agrees_with_the_reference(length):
    check(GLA, length)


@pytest.mark.parametrize("length", [1, 65])
def test_reads_before(length):
    check(RWKV6, length, heads=2)


@pytest.mark.parametrize("arch", [GLA, RWKV6], ids=["gla", "rwkv6"])
def test_resets_and_strong_decays_are_exact(arch):
    check(arch, 66, n=14, **{"g" if arch is GLA else "w": (0.0, -1e-3, -20.0, -200.0, MIN)})


@pytest.mark.parametrize("g", [-20.0, -200.0, MIN])
def test_every_decay_at_an_end_point(g):
    signals, u = draw(GLA, 64, heads=1, n=3, p=2, batch=1)
    signals["g"] = torch.full_like(signals["g"], g)
    check_reference(KERNEL, GLA, signals, u, torch.float32, FP32, device=DEVICE)


def test_growth_and_a_reset():
    signals, u = draw(growth, 66, heads=1, n=5, p=3, batch=1)
    signals["g"] = 0.05 * torch.rand_like(signals["g"])
    signals["g"][:, 40] = MIN
    check_reference(KERNEL, growth, signals, u, torch.float32, FP32, device=DEVICE)


@pytest.mark.parametrize("t", [5, 8, 32])  # inside a block of four, and at borders
def test_a_reset_forgets_bit_by_bit(t):
    signals, u = draw(GLA, 66, heads=1, n=5, p=3, batch=1, dtype=torch.float32)
    signals["g"][:, t] = MIN
    system = GLA(**{k: x.to(DEVICE) for k, x in signals.items()})
    past = torch.arange(66)[None, :, None, None] < t
    y, z = (dsf.simulate(system, torch.where(past, v, u).to(DEVICE), backend=KERNEL)[0] for v in (0.0, 1e20))
    assert torch.equal(y[:, t:], z[:, t:]) and not torch.equal(y[:, :t], z[:, :t])


def test_gradients_of_strong_decays_have_their_digits():
    """A difference of sums over a chunk would leave e^-12 next to 1 with four digits fewer."""
    signals, u = draw(GLA, 64, heads=1, n=4, p=3, batch=1)
    signals["g"] = torch.full_like(signals["g"], -12.0)
    leaves = {k: x.to(DEVICE, torch.float32).requires_grad_() for k, x in signals.items()}
    y, _ = dsf.simulate(GLA(**leaves), u.to(DEVICE, torch.float32), backend=KERNEL)
    exact = {k: x.float().double().requires_grad_() for k, x in signals.items()}
    expected, _ = scan(GLA(**exact), u.float().double())
    (found,), (wanted,) = torch.autograd.grad(y.sum(), leaves["g"]), torch.autograd.grad(expected.sum(), exact["g"])
    scale = wanted.abs().max()
    assert 0 < scale < 1e-3 and (found.cpu() - wanted).abs().max() < FP32 * scale


def test_segments_of_time_meet(many_segments):  # noqa: F811
    check(GLA, 130, g=(-0.01, MIN))


@pytest.mark.parametrize("chunk", [16, 32])
def test_shorter_chunks(chunk, monkeypatch):
    monkeypatch.setattr("dsf_kernels.gpu.walk_cut.CHUNK", chunk)
    check(GLA, 85)


def test_several_blocks_of_rows_and_channels():
    check(GLA, 3, n=130, p=40)


def test_heads_and_steps_share_signals_and_a_scalar_is_a_diagonal():
    check(shared, 6, heads=2, batch=2)
    check(RETNET, 6, heads=2)


def test_numbers():
    k, u = torch.randn(1, 5, 1, 4), torch.randn(1, 5, 1, 3)
    for a in (0, 0.5, 1.1):
        y, _ = dsf.simulate(System(A=Diagonal(a), B=k.to(DEVICE), C=k.to(DEVICE)), u.to(DEVICE), backend=KERNEL)
        assert close(y.cpu(), scan(System(A=Diagonal(a), B=k, C=k), u)[0], FP32)


@pytest.mark.parametrize("arch", [GLA, RWKV6], ids=["gla", "rwkv6"])
def test_sequences_in_one_pack(arch):
    check_packed(KERNEL, arch)


def test_segments_of_packed_sequences(many_segments):  # noqa: F811
    check_packed(KERNEL, GLA, ends=(0, 10, 150, 330), heads=1)


def test_shorter_chunks_of_packed_sequences(monkeypatch):
    monkeypatch.setattr("dsf_kernels.gpu.walk_cut.CHUNK", 16)
    check_packed(KERNEL, GLA)


def test_the_future_does_not_reach_the_past():
    check_causal(KERNEL, GLA, length=70, heads=1, n=5, p=3, batch=1, dtype=torch.float32, device=DEVICE)


def test_what_it_declines():
    d = torch.zeros(1, 1, 1, 2)
    say = kernels()[KERNEL].declines
    assert say(Diagonal(d)) == "the decay is not in log space: write decay(g)"
    assert say(Diagonal(-0.5)) == "the decay -0.5 is negative"
    assert say(Diagonal(d.cfloat())) == say(Diagonal(decay(d.cfloat()))) == say(Diagonal(1j)) == "the decay is complex"
    assert say(Diagonal(decay(d))) is None and say(Diagonal(0.5)) is None
