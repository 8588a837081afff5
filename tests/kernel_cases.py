"""What every kernel is put to: the reference in fp64 with all gradients; ends, half precision, pieces, causality.

A test file of a kernel parametrises over its architectures and calls the checks below with its name.
"""

import math

import pytest
import torch

import dsf
from dsf.reference import scan

EXACT = 1e-10  # fp64, relative to the largest entry
FP32 = 2e-5  # the same in fp32, against the reference in fp64
HALF = {torch.float16: 5e-3, torch.bfloat16: 3e-2}  # inputs and outputs rounded to 11 and 8 bits, the state in fp32
LENGTHS = (0, 1, 63, 64, 65, 130)  # none, one, around a chunk, several with a tail
MIN = -math.inf


@pytest.fixture
def poisoned_memory(monkeypatch):
    """torch.empty and its kin hold NaN: a kernel that reads what it has not written shows."""

    def poisoned(make):
        def made(*args, **kwargs):
            fresh = make(*args, **kwargs)
            return fresh.fill_(math.nan) if fresh.is_floating_point() or fresh.is_complex() else fresh

        return made

    for owner, name in ((torch, "empty"), (torch, "empty_like"), (torch.Tensor, "new_empty")):
        monkeypatch.setattr(owner, name, poisoned(getattr(owner, name)))


def draw(architecture, length, heads=4, n=5, p=3, batch=2, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return architecture.sample(batch, length, heads, n, p, dtype, generator)


def with_ends(signals, **ends):
    """The signals named, with each of these values at every seventh entry: g=(-20.0, MIN), beta=(0.0, 1.0, 2.0)."""
    signals = dict(signals)
    for name, values in ends.items():
        places = torch.arange(signals[name].numel()).reshape(signals[name].shape) % 7
        for place, value in enumerate(values, 1):
            signals[name] = signals[name].masked_fill(places == place, value)
    return signals


def real(x):
    return torch.view_as_real(x) if x.is_complex() else x


def close(a, b, tolerance):
    a, b = real(a), real(b)
    scale = max(1.0, b.abs().max().item()) if b.numel() else 1.0
    return a.shape == b.shape and (not a.numel() or (a.double() - b.double()).abs().max().item() <= tolerance * scale)


def in_dtype(x, dtype):
    if not (x.is_floating_point() or x.is_complex()):
        return x
    return x.to(dtype.to_complex() if x.is_complex() else dtype)


def run(architecture, signals, u, state, backend, dtype=torch.float64, device="cpu", **more):
    """y, the final state and the gradient of every input under random weights of both, on the CPU."""
    given = signals | {"u": u, "state": state}
    inputs = {k: in_dtype(x, dtype).to(device, copy=True) for k, x in given.items()}
    wanted = {k: x.requires_grad_() for k, x in inputs.items() if x.is_floating_point() or x.is_complex()}
    y, x = dsf.simulate(
        architecture(**{k: inputs[k] for k in signals}), inputs["u"], inputs["state"], backend=backend, **more
    )
    generator = torch.Generator().manual_seed(1)
    weights = [torch.randn(real(a).shape, generator=generator, dtype=torch.float64) for a in (y, x)]
    loss = sum((real(a) * w.to(real(a))).sum() for a, w in zip((y, x), weights, strict=True))
    gradients = torch.autograd.grad(loss, list(wanted.values()), materialize_grads=True)  # T = 0 uses no signal
    found = {"y": y.detach(), "final state": x.detach()} | {f"d {k}": g for k, g in zip(wanted, gradients, strict=True)}
    return {k: v.cpu() for k, v in found.items()}


def start(architecture, signals, u):
    """A random state of the right shape."""
    final = dsf.simulate(architecture(**signals).slice(0, 1), u[:, :1], backend="reference")[1]
    return torch.randn(final.shape, dtype=final.dtype, generator=torch.Generator().manual_seed(2)).abs()


def check_reference(kernel, architecture, signals, u, dtype=torch.float64, tolerance=EXACT, state=None, device="cpu"):
    """y, the final state and every gradient, from a random state, against the reference in fp64."""
    state = start(architecture, signals, u) if state is None else state
    rounded = {k: in_dtype(in_dtype(x, dtype), torch.float64) for k, x in signals.items()}
    u, state = (in_dtype(in_dtype(x, dtype), torch.float64) for x in (u, state))
    expected = run(architecture, rounded, u, state, "reference")
    found = run(architecture, rounded, u, state, kernel, dtype, device)
    wrong = [name for name, value in expected.items() if not close(found[name], value, tolerance)]
    assert not wrong, f"{kernel} differs from the reference in {wrong}"


def check_half(kernel, architecture, signals, u, dtype):
    """Half precision in and out, the state in fp32; against the reference in fp64 on the same rounded numbers."""
    signals, u = {k: x.to(dtype) for k, x in signals.items()}, u.to(dtype)
    expected, final = scan(architecture(**{k: x.double() for k, x in signals.items()}), u.double())
    y, state = dsf.simulate(architecture(**signals), u, backend=kernel)
    assert (y.dtype, state.dtype) == (dtype, torch.float32)
    assert close(y, expected, HALF[dtype]) and close(state, final, HALF[dtype])


def check_pieces(kernel, architecture, signals, u):
    """A run in pieces with the carried state is the whole run."""
    system = architecture(**signals)
    whole, final = dsf.simulate(system, u, backend=kernel)
    state, parts, T = None, [], u.shape[1]
    for lo, hi in ((0, 1), (1, T // 2), (T // 2, T // 2), (T // 2, T)):
        y, state = dsf.simulate(system.slice(lo, hi), u[:, lo:hi], state, backend=kernel)
        parts.append(y)
    assert close(torch.cat(parts, 1), whole, EXACT) and close(state, final, EXACT)


def _on(device, signals, u):
    return {k: x.to(device) for k, x in signals.items()}, u.to(device)


def check_causal(kernel, architecture, length=100, t=37, device="cpu", **sizes):
    """Another future leaves the past bit-identical."""
    (signals, u), (other, v) = (_on(device, *draw(architecture, length, seed=seed, **sizes)) for seed in (0, 5))
    for key, domain in architecture.signals.items():
        other[key] = signals[key] if domain.const else torch.cat([signals[key][:, :t], other[key][:, t:]], 1)
    v = torch.cat([u[:, :t], v[:, t:]], 1)
    y, z = (dsf.simulate(architecture(**s), w, backend=kernel)[0] for s, w in ((signals, u), (other, v)))
    assert torch.equal(y[:, :t], z[:, :t]) and not torch.equal(y[:, t:], z[:, t:])


def check_kept(kernel, architecture, signals, u, most):
    """What is kept for backward: at most so many entries beside the inputs."""
    wanted = [x.requires_grad_() for x in (*signals.values(), u) if x.is_floating_point() or x.is_complex()]
    system, saved = architecture(**signals), {}
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.setdefault(id(x), x), lambda x: x):
        dsf.simulate(system, u, backend=kernel)
    assert sum(x.numel() for x in saved.values()) <= most + sum(x.numel() for x in wanted)
