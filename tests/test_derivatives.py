"""Gradients that can be differentiated: where one operand is made of another, and of complex systems."""

import pytest
import torch

import dsf
from dsf import Complex, I, RealPart, Scalar, System, Vector, architecture, diag, outer
from dsf_kernels import registry
from kernel_cases import EXACT, close, draw
from long_cases import some_slow


def body(f):
    return architecture(f.__name__, register=False)(f)


@body
def scalar(a=Scalar(0, 1), k=Vector, c=Vector):
    return System(A=a * I, B=(1 - a) * k, C=c)


@body
def log_scalar(g=dsf.LogDecay, k=Vector, c=Vector):
    return System(A=dsf.decay(g) * I, B=(1 - dsf.decay(g)) * k, C=c)


@body
def diagonal(a=Vector(0, 1), c=Vector):
    return System(A=diag(a), B=1 - a, C=c)


@body
def operators(a=Vector(0, 1)):
    return System(A=diag(a), B=diag(1 - a), C=I)


@body
def low_rank(k=Vector(-1, 1), b=Scalar(0, 1)):
    return System(A=I - 0.2 * b * outer(k), B=b * k, C=k)


@body
def rotating(a=Vector(Complex), b=Vector(Complex), c=Vector(Complex)):
    return System(A=0.3 * diag(a), B=b, C=RealPart(c))


TIED = {a.name: a for a in (scalar, log_scalar, diagonal, operators, low_rank, rotating)}
TIED |= {name: dsf.architecture_named(name) for name in ("rglru", "s4d", "kda", "lstm", "softmax_attention", "mamba")}


def kernels_for(system, u):
    explained = dsf.explain(system, u)
    costly = [name for name, why in explained.declined.items() if "costs more" in why]
    return [explained.kernel, *costly]


@pytest.mark.parametrize("name", some_slow(TIED, "scalar", "log_scalar"))
def test_gradients_are_the_same_where_they_will_be_differentiated(name):
    """create_graph changes what is kept, not what is found; and second derivatives are those of the reference."""
    architecture = TIED[name]
    signals, u = draw(architecture, 70 if name != "lstm" else 9, heads=2, n=3, p=2, batch=1)

    def gradients(kernel, twice):
        inputs = {k: x.clone().requires_grad_() for k, x in (signals | {"u": u}).items()}
        y, _ = dsf.simulate(architecture(**{k: inputs[k] for k in signals}), inputs["u"], backend=kernel)
        first = torch.autograd.grad((y * y).sum(), list(inputs.values()), create_graph=twice)
        if not twice:
            return first
        return first, torch.autograd.grad(sum((g * g.conj()).real.sum() for g in first), list(inputs.values()))

    first, second = gradients("reference", True)
    for kernel in kernels_for(architecture(**signals), u):
        assert kernel in registry.kernels()
        assert all(close(a, b, EXACT) for a, b in zip(gradients(kernel, False), first, strict=True)), kernel
        found, again = gradients(kernel, True)
        assert all(close(a, b, EXACT) for a, b in zip(found, first, strict=True)), kernel
        assert all(close(a, b, 1e-8) for a, b in zip(again, second, strict=True)), kernel


@pytest.mark.parametrize("name", ["gla", "mamba2", "deltanet", "rglru", "lstm", "softmax_attention", "s4d"])
def test_forward_mode_derivatives(name):
    """Kernels know no tangents: the reference carries them; a kernel that is named refuses."""
    architecture = dsf.architecture_named(name)
    signals, u = draw(architecture, 20, heads=2, n=3, p=2, batch=1)
    tangent = torch.randn(u.shape, dtype=u.dtype, generator=torch.Generator().manual_seed(4))
    found = []
    with torch.autograd.forward_ad.dual_level():
        for backend in ("auto", "reference"):
            dual = torch.autograd.forward_ad.make_dual(u, tangent)
            y, _ = dsf.simulate(architecture(**signals), dual, backend=backend)
            found.append(torch.autograd.forward_ad.unpack_dual(y).tangent)
        with pytest.raises(ValueError, match="forward-mode"):
            dsf.simulate(architecture(**signals), u, backend="sequential")
    assert found[0].any() and close(*found, EXACT)


@pytest.mark.parametrize("name", TIED)
def test_no_sequence_at_all(name):
    signals, u = draw(TIED[name], 5, batch=0)
    y, _ = dsf.simulate(TIED[name](**signals), u)
    assert y.shape[:2] == (0, 5)


@pytest.mark.parametrize("name", TIED)
def test_no_sequence_by_any_kernel(name):
    signals, u = draw(TIED[name], 5, batch=0)
    system = TIED[name](**signals)
    for kernel in kernels_for(system, u):
        assert dsf.simulate(system, u, backend=kernel)[0].shape[:2] == (0, 5), kernel
