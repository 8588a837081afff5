"""Bodies as graphs: the same numbers and the same gradients as torch's own, and what is no such graph."""

from dataclasses import replace

import pytest
import torch

import dsf
from dsf.tree import leaves
from dsf_kernels import fused_systems
from dsf_kernels.expressions import Graph
from dsf_kernels.fused_systems import fused_or_why_not, trace
from fused_cases import FUNCTIONS, OWN, of_torch, steps
from kernel_cases import EXACT, close, draw
from row_sum_cases import OVER_ROWS, SUMS

ZOO = {name: dsf.architecture_named(name) for name in ("mamba", "mamba2", "rglru")}


@pytest.fixture(autouse=True)
def at_any_length(monkeypatch):
    """Systems are not computed before they run, however short."""
    monkeypatch.setattr("dsf.deferred.LONG", 0)


def body_of(f):
    @dsf.architecture("A gate", register=False)
    def gated(x=dsf.Vector, s=dsf.Scalar, k=dsf.Param(dsf.Vector)):
        return dsf.System(A=dsf.diag(of_torch(f)(x + s)), B=k * of_torch(f)(s), C=of_torch(f)(k))

    return gated


def check(architecture, length=5, heads=3, n=4):
    """The graph, evaluated by torch, against the body and autograd."""
    signals, u = draw(architecture, length, heads=heads, n=n, p=1)
    signals = {k: x.requires_grad_() for k, x in signals.items()}
    system = architecture(**signals)
    fused = trace(system, True)
    given = leaves(tuple(system.values.values()))
    found, form = fused_systems.parts(system.evaluated)
    lead = (2, length, heads)
    carried = {"drive": form.drive, "dy": form.read, "seen": True, "past": True, "lam": True}
    inputs = {name: torch.randn(*lead, n if rows else 1, dtype=torch.float64) for name, rows in carried.items()}
    values = fused.graph.values
    known = dict(zip(fused.inputs, given, strict=True))
    known |= {place: inputs[v.op] for place, v in enumerate(values) if v.op in inputs}
    lam, dy, u = inputs["lam"], inputs["dy"], inputs["drive"]
    factor = found["a"].exp() if form.log else found["a"]
    y = found["c"] * inputs["seen"]
    y = (y if form.read else y.sum(-1, keepdim=True)) + found["d"] * u
    expected = (factor, found["b"] * u, y)
    for a, b in zip(fused.graph.evaluate(fused.forward, known), expected, strict=True):
        assert close(a.expand(b.shape) if isinstance(a, torch.Tensor) else torch.full_like(b, a), b, EXACT)
    lost = (lam * (factor * inputs["past"] + found["b"] * u)).sum() + (y * dy).sum()
    gradients = torch.autograd.grad(lost, given, materialize_grads=True)
    for a, b in zip(fused.graph.evaluate(fused.gradients, known), gradients, strict=True):
        a = a if isinstance(a, torch.Tensor) else torch.full_like(b, a)
        assert close(a.expand(torch.broadcast_shapes(a.shape, b.shape)).sum_to_size(b.shape), b, EXACT)


@pytest.mark.parametrize("name", OWN | ZOO)
def test_bodies(name):
    check((OWN | ZOO)[name])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name):
    check(body_of(FUNCTIONS[name]))


@pytest.mark.parametrize("name", SUMS)
def test_bodies_that_sum_over_rows(name):
    """As torch does, and nothing is computed of one row by itself."""
    check(SUMS[name])
    check(SUMS[name], heads=1, n=1)
    signals, _ = draw(SUMS[name], 5, p=1)
    assert all(trace(SUMS[name](**signals), backward).across for backward in (False, True))
    assert not trace(SUMS[name](**signals).slice(1, 2), True).across  # of one step all is constant


@pytest.mark.parametrize("name", OVER_ROWS)
def test_functions_of_all_rows(name):
    check(body_of(OVER_ROWS[name]))
    check(body_of(OVER_ROWS[name]), n=1)


@pytest.mark.parametrize("name", OWN | ZOO)
def test_other_bodies_sum_last(name):
    signals, _ = draw((OWN | ZOO)[name], 5, p=1)
    assert not trace((OWN | ZOO)[name](**signals), True).across


def test_one_head_one_row_one_step():
    check(steps, heads=1)
    check(steps, n=1)
    check(steps, length=2, heads=1, n=1)
    signals, u = draw(steps, 3, p=1)
    one = steps(**signals).slice(1, 2)
    fused = trace(one, True)
    assert not fused.varying and len(fused.totals) == 4  # the gradients of the logs, b, c and d


def test_what_is_constant_in_time_is_computed_before():
    signals, _ = draw(steps, 5, p=1)
    fused = trace(steps(**signals), True)
    values = fused.graph.values
    constants = fused.constants(fused.forward)
    assert [values[i].op for i in constants] == ["signal", "signal", "exp"]  # shift, d, e^log_a
    assert fused.varying == (0, 1, 2) and all(not values[i].time for i in constants)


def test_a_number_that_changes_is_seen():
    """A body is traced at every call; its way back only where it computes something new."""
    scale = [1.0]

    @dsf.architecture("Annealed", register=False)
    def annealed(q=dsf.Vector, k=dsf.Vector, z=dsf.Scalar):
        return dsf.System(A=dsf.diag(dsf.sigmoid(scale[0] * z)), B=k, C=q)

    signals, _ = draw(annealed, 5, p=1)
    system = annealed(**signals)
    first, again = trace(system, True), trace(annealed(**signals), True)
    scale[0] = 0.5
    other = trace(system, True)
    assert first is again and first is not other
    assert 0.5 in [v.args[0] for v in other.graph.values if v.op == "number"]
    check(annealed)


def test_equal_values_are_one():
    g = Graph()
    x, y = (g.input("signal", i, time=True, heads=True, rows=True) for i in range(2))
    assert g("add", x, y) == g("add", y, x) and g.sigmoid(x) == g.sigmoid(x)
    assert g("mul", x, 1.0) == g("add", 0.0, x) == g("div", x, 1.0) == x and g.number(g("sub", x, x)) == 0.0
    assert g.number(g("mul", 2.0, 3.0)) == 6.0 and g("add", x, 1.0) != g("add", x, y)


def system_of(body, **changes):
    arch = dsf.architecture("Declined", register=False)(body)
    signals, _ = draw(arch, 5, p=1)
    return arch(**signals)


def normalised(q=dsf.Vector, k=dsf.Vector, g=dsf.LogDecay):
    return dsf.normalised(dsf.System(A=dsf.decay(-dsf.exp(g)) * dsf.I, B=k, C=q))


def reflected(q=dsf.Vector, k=dsf.Unit, beta=dsf.Scalar(0, 2)):
    return dsf.System(A=dsf.I - beta * dsf.outer(k), B=beta * k, C=q)


def matrix(q=dsf.Vector, k=dsf.Vector, M=dsf.Matrix):
    return dsf.System(A=dsf.I, B=M @ k, C=q)


def complex_(q=dsf.Vector(dsf.Complex), k=dsf.Vector, g=dsf.LogDecay):
    return dsf.System(A=dsf.decay(-dsf.exp(g)) * dsf.I, B=k, C=dsf.RealPart(q))


def read_out(q=dsf.Vector, k=dsf.Vector, g=dsf.LogDecay):
    return dsf.System(A=dsf.decay(-dsf.exp(g)) * dsf.I, B=k, C=q, readout=dsf.tanh)


def micro(q=dsf.Vector, k=dsf.Each(dsf.Vector, 2), g=dsf.Each(dsf.LogDecay, 2)):
    return dsf.microsteps(dsf.System(A=dsf.decay(g) * dsf.I, B=k, C=q))


def plain(q=dsf.Vector, k=dsf.Vector, g=dsf.LogDecay):
    return dsf.System(A=dsf.decay(g) * dsf.I, B=k, C=q)


def through(f):
    def body(q=dsf.Vector, k=dsf.Vector, g=dsf.Vector):
        return dsf.System(A=dsf.diag(of_torch(f)(g)), B=k, C=q)

    return body


WEIGHTS = torch.ones(1, 1, 1, 1)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (normalised, "normaliser"),
        (reflected, "Reflection"),
        (matrix, "matrix"),
        (complex_, "complex"),
        (read_out, "readout"),
        (micro, "micro-steps"),
        (plain, "nothing to fuse"),
        (through(lambda x: x.cumsum(1)), "cumsum is no pointwise operation"),
        (through(lambda x: torch.softmax(x, 1)), "softmax is no pointwise operation"),
        (through(lambda x: x * x.sum(2, keepdim=True)), "sum is no pointwise operation"),
        (through(lambda x: x * x.sum((1, 3), keepdim=True)), "sum is no pointwise operation"),
        (through(lambda x: x * x.sum(-1, keepdim=True, dtype=torch.float64).float()), "sum is no pointwise operation"),
        (through(lambda x: x / x.norm(p=3, dim=-1, keepdim=True)), "a norm of order 3"),
        (through(lambda x: x * (x.sum(-1) * 2)[..., None]), "mul is no pointwise operation"),
        (through(lambda x: x.flip(-1)), "flip is no pointwise operation"),
        (through(lambda x: x * WEIGHTS), "a tensor that is no signal"),
        (through(lambda x: x * x.mean()), "mean is no pointwise operation"),
        (through(lambda x: x * float(x.sum())), "sum is no pointwise operation"),
        (through(lambda x: x if x[0, 0, 0, 0] > 0 else -x), "no pointwise operation"),
        (through(lambda x: x.double().exp().to(x.dtype)), "computes in float64"),
        (through(lambda x: x.clone().mul_(x.detach().mul_(2))), "mul_ changes what another name has too"),
        (through(lambda x: x.pow(2.7)), "a power of 2.7"),
    ],
)
def test_why_not(body, reason, monkeypatch):
    assert reason in fused_or_why_not(system_of(body))


def test_a_computed_system_and_feedback():
    signals, u = draw(steps, 5, p=1)
    assert "computed already" in fused_or_why_not(replace(steps(**signals).evaluated))
    lstm = dsf.architecture_named("lstm")
    assert "feedback" in fused_or_why_not(lstm(**draw(lstm, 5, p=1)[0]))
