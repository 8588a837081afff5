"""The functions that bodies use are the same in every reading, also at their ends and at zero."""

import math
import operator

import numpy as np
import pytest
import sympy as sp
import torch

import dsf
from dsf import sets
from dsf.functions import inner, real, stack
from dsf.sets import Interval, disc, inf
from dsf.values import Bound, Log, value
from helpers import numbers

ROUNDING = 1e-12  # relative, of two ways to compute the same number in fp64
N = 3  # entries of a vector
BINARY = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}


FUNCTIONS = ["exp", "sigmoid", "softplus", "tanh", "relu", "elu", "sqrt", "tanh_secant", "relu_secant"]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_is_the_same_in_every_reading(name):
    f = getattr(dsf, name)
    xs = [0.3, 1.7, 5.0] + ([] if name == "sqrt" else [-0.4, -2.0, -9.0]) + ([] if name == "tanh_secant" else [0.0])
    on_tensors = f(torch.tensor(xs, dtype=torch.float64))
    on_symbols = f(np.array([sp.Float(x, 30) for x in xs], dtype=object))
    torch.testing.assert_close(
        on_tensors, torch.tensor([float(x) for x in on_symbols], dtype=torch.float64), rtol=1e-13, atol=0
    )
    for x, y in zip(xs, on_tensors.tolist(), strict=True):
        image = f(Bound(Interval(x - 0.1, x + 0.1))).set
        assert y in image and y in f(Bound(Interval(-inf, inf))).set and y in f(Bound(Interval(x, inf))).set
        assert image != Interval()
    assert str(f(sp.Symbol("x"))) == f"{name}(x)"
    assert torch.equal(value(f(Log(torch.tensor([0.0])))), f(torch.tensor([1.0])))
    with pytest.raises(TypeError, match=f"dsf.{name} takes a signal"):
        f("x")


@pytest.mark.parametrize("name", ["sigmoid", "softplus", "tanh", "relu", "elu", "sqrt"])
def test_functions_at_the_ends_of_the_line(name):
    f = getattr(dsf, name)
    limits = f(Bound(Interval(-inf, inf))).set
    far = f(torch.tensor([-1e3, 1e3], dtype=torch.float64)).tolist()
    assert f(Bound(Interval(-1e5, 1e5))).set.lo <= limits.hi  # no overflow at large finite ends
    if name != "sqrt":
        assert limits.lo == pytest.approx(far[0], abs=1e-12)
    assert limits.hi == inf if name in ("softplus", "relu", "elu", "sqrt") else limits.hi == far[1]
    if name not in ("relu", "elu", "sqrt"):
        with pytest.raises(TypeError, match="real sets"):
            f(Bound(disc(1)))


def test_secants_are_exact_and_smooth_at_zero():
    x = torch.tensor([0.0, 1e-9, -1e-5, 9e-5, 1.1e-4, 0.3, -40.0], dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(dsf.tanh_secant(x) * x, torch.tanh(x), rtol=1e-14, atol=0)
    torch.testing.assert_close(dsf.relu_secant(x) * x, torch.relu(x))
    (slope,) = torch.autograd.grad(dsf.tanh_secant(x).sum(), x)
    exact = [
        0.0 if z == 0 else float((sp.tanh(sp.Symbol("z")) / sp.Symbol("z")).diff().subs("z", sp.Float(z, 60)))
        for z in x.tolist()
    ]
    torch.testing.assert_close(slope, torch.tensor(exact, dtype=torch.float64), rtol=1e-9, atol=1e-12)


def test_inner_stack_and_real():
    a, b = numbers(2, N, seed=1), numbers(2, N, seed=2)
    assert torch.equal(inner(a, b), (a * b).sum(-1)[..., None])
    z = torch.complex(a, b)
    assert torch.equal(inner(z, z), (z * z).sum(-1, keepdim=True))  # no conjugate
    g = Log(-a.abs())
    torch.testing.assert_close(inner(g, b), inner(g.value, b))
    torch.testing.assert_close(inner(g, g), inner(g.value, g.value))
    torch.testing.assert_close(stack(g, b, 1), torch.cat([g.value, b, torch.ones_like(b)], -1))
    assert stack(a[:1], b).shape == (2, 2 * N)
    x = np.array(sp.symbols("x:2", real=True), dtype=object)
    assert list(stack(x, 0, 2 * x)) == [x[0], x[1], 0, 0, 2 * x[0], 2 * x[1]]
    assert inner(x, x)[0] == x[0] ** 2 + x[1] ** 2
    assert torch.equal(real(z), a) and real(a) is a
    assert real(np.array([sp.I * 2 + 3], dtype=object))[0] == 3


def test_a_user_can_add_a_function():
    cube = dsf.elementwise("cube", lambda x: x**3, lambda x: x**3, lambda s: Interval(s.lo**3, s.hi**3), "x^3.")
    assert cube(torch.tensor([2.0])).item() == 8 and cube(Bound(Interval(-1, 2))).set == Interval(-1, 8)
    assert (
        cube.__name__ == "cube"
        and cube.__doc__ == "x^3."
        and math.isclose(float(cube(np.array([sp.Integer(3)]))[0]), 27)
    )
    assert sets.is_real(cube(Bound(Interval(0, 1))).set)
