"""Mistakes are told where they are made, with what to do instead."""

import pytest
import torch

import dsf
from dsf import Each, Gate, I, Param, Scalar, System, UnitDisc, Vector, architecture, stack


def deltanet(**domains):
    return dsf.architecture_named("deltanet").with_domain(**domains)


def define(body):
    return architecture("Wrong", register=False)(body)


def test_bodies_are_read_when_they_are_defined():
    def branches(g=Gate, k=Vector):
        return System(A=(g if g > 0.5 else 1) * I, B=k, C=k)

    def torch_functions(g=Gate, k=Vector):
        return System(A=torch.sigmoid(g) * I, B=k, C=k)

    def number(k=Vector):
        return System(A=I, B=1, C=k)

    def a_set(z=UnitDisc):
        return System(A=I, B=z, C=z)

    def no_microsteps(k=Each(Vector)):
        return System(A=I, B=k, C=k)

    for body, message in (
        (no_microsteps, r"should return microsteps\(System"),
        (branches, "free of branches"),
        (torch_functions, "dsf.sigmoid"),
        (number, "B should be a vector or an operator, got 1"),
        (a_set, r"as in z=Vector\("),
        (3, "decorates a function"),
    ):
        with pytest.raises(TypeError, match=message):
            define(body)


@pytest.mark.parametrize("delta", [0, -1, float("inf"), "a"])
def test_open_range_takes_a_small_positive_number(delta):
    with pytest.raises(ValueError, match="small positive number"):
        deltanet().open_range(delta)


def test_open_range_leaves_something():
    with pytest.raises(ValueError, match=r"nothing is left of \[0, 2\]"):
        deltanet(beta=Scalar(0, 2)).open_range(1.5)


def test_complex_signals_are_not_real():
    signals, _ = deltanet().sample(1, 3, 1, 2, 1)
    with pytest.raises(TypeError, match="k lies in the real set .* should be real"):
        deltanet()(**signals | {"k": signals["k"] * 1j})


def test_stack_takes_a_list_too():
    k = Vector.bound()
    assert stack([k, k]).dependence == "token"
    assert stack([torch.ones(2), torch.zeros(3)]).shape == (5,)


def test_what_is_no_system_domain_name_or_size():
    arch = deltanet()
    system = arch(**arch.sample(1, 3, 1, 2, 1)[0])
    for call, error, message in (
        (lambda: dsf.series(arch, arch), TypeError, "called with its signals"),
        (lambda: dsf.bidirectional(arch, arch), TypeError, "called with its signals"),
        (lambda: dsf.normalised(arch), TypeError, r"architecture.normalised\(\)"),
        (lambda: Param(3), TypeError, r"Param takes a domain first"),
        (lambda: Each(3, Vector), TypeError, r"Each takes a domain first"),
        (lambda: dsf.architecture_named(3), TypeError, "named by a string"),
        (lambda: arch.sample(n=0), ValueError, "n is a whole number >= 1"),
        (lambda: arch.sample(length=2.5), ValueError, "length is a whole number >= 0"),
        (lambda: arch.symbolic(0), ValueError, "n is a whole number >= 1"),
        (lambda: dsf.spectrum("deltanet"), TypeError, "architecture_named"),
        (lambda: dsf.parity("deltanet"), TypeError, "architecture_named"),
        (lambda: dsf.System.from_control(system), TypeError, "a System already"),
        (lambda: dsf.linearize(lambda x, u: x, torch.ones(1), torch.ones(2, 1)), TypeError, r"pair \(x, y\)"),
    ):
        with pytest.raises(error, match=message):
            call()


def test_hints_for_what_holds_the_layers():
    line = dsf.linearize(lambda x, u: (x, x), torch.ones(1), torch.ones(2, 1))
    with pytest.raises(TypeError, match="its .system"):
        dsf.spectrum(line)
    model = dsf.convert(torch.nn.RNN(2, 3), torch.randn(4, 1, 2))
    with pytest.raises(TypeError, match="one of its .layers"):
        dsf.parity(model)


def test_a_head_is_chosen_and_not_guessed():
    pytest.importorskip("control")
    arch = dsf.architecture_named("lssl")
    system = arch(**arch.sample(1, 3, 2, 2, 1)[0])
    with pytest.raises(ValueError, match=r"2 of axis head: say which, as in statespace\(head=0\)"):
        system.statespace()
    one, two = system.statespace(head=0), system.statespace(head=1)
    assert one.A.shape == (2, 2) and not (one.A == two.A).all()


def test_transforms_of_torch_func_go_through_simulate():
    arch = dsf.architecture_named("mamba2")
    signals, u = arch.sample(1, 5, 2, 3, 2)

    def loss(k):
        return dsf.simulate(arch(**signals | {"k": k}), u)[0].square().sum()

    k = signals["k"].clone().requires_grad_()
    expected = torch.autograd.grad(loss(k), k)[0]
    torch.testing.assert_close(torch.func.grad(loss)(signals["k"]), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_discretised(dtype):
    arch = dsf.architecture_named("lssl")
    signals, u = arch.sample(1, 5, 2, 3, 2, dtype=torch.float32, ends=0.0)
    half = {k: x.to(dtype) for k, x in signals.items()}
    expected = dsf.simulate(arch(**{k: x.double() for k, x in half.items()}), u.to(dtype).double())[0]
    y = dsf.simulate(arch(**half), u.to(dtype))[0]
    assert y.dtype == dtype
    torch.testing.assert_close(y.double(), expected, rtol=0.05, atol=0.05)
