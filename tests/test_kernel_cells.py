"""Feedback whose step is a classical cell: recognised by what it computes, and equal to the reference and to torch."""

import importlib.util

import pytest
import torch

import dsf
from dsf import (
    Drive,
    I,
    Matrix,
    Param,
    Previous,
    Scalar,
    Shared,
    System,
    Vector,
    architecture,
    diag,
    relu,
    sigmoid,
    tanh,
)
from dsf.reference import scan
from dsf_kernels import registry
from dsf_kernels.cell_recognition import plan_of
from dsf_kernels.cpu import cells
from kernel_cases import EXACT, FP32, HALF, close, draw, poisoned_memory  # noqa: F401

pytestmark = pytest.mark.usefixtures("poisoned_memory")
LENGTHS = (1, 2, 65)


def body(title):
    return architecture(title, register=False)


@body("Another order, other names, a gate of one number")
def memory(
    out=Shared(Vector),
    now=Drive,
    V=Param(Matrix),
    keep=Scalar,
    P=Param(Matrix),
    Q=Param(Matrix),
    v=Param(Vector),
    last=Previous,
    R=Param(Matrix),
):
    """Its drive is the forget gate's; the state is bent before it is read."""
    bent = tanh(v + R @ last)
    return System(
        A=diag(sigmoid(now + V @ last)),
        B=diag(sigmoid(keep + Q @ last)),
        C=diag(sigmoid(out + P @ last)),
        u=bent,
        readout=tanh,
    )


@body("Its bias comes in time")
def leaky(b=Vector, z=Scalar, r=Vector, y=Previous, u=Drive, X=Param(Matrix), Y=Param(Matrix), Z=Param(Matrix)):
    z, v = sigmoid(z + X @ y), tanh(u + sigmoid(r + Y @ y) * (b + Z @ y))
    return System(A=diag(z), B=diag(1 - z), C=I, u=v)


@body("A = 0")
def plain(u=Drive, y=Previous, R=Param(Matrix)):
    return System(A=0 * I, B=I, C=I, u=tanh(u + R @ y))


@body("Rectified")
def rectified(u=Drive, y=Previous, R=Shared(Param(Matrix))):
    return System(A=0 * I, B=I, C=I, u=relu(u + R @ y))


CELLS = {name: dsf.architecture_named(name) for name in ("lstm", "gru", "elman")}
CELLS |= {"memory": memory, "leaky": leaky, "plain": plain, "rectified": rectified}
every = pytest.mark.parametrize("name", CELLS)


def drawn(name, length, **more):
    signals, u = draw(CELLS[name], length, **({"n": 4, "heads": 3} | more))
    return signals, u


def start(u):
    """x and y that no run would leave behind: the first step tells them apart."""
    generator = torch.Generator().manual_seed(3)
    B, _, H, n = u.shape
    return tuple(torch.randn(shape, generator=generator, dtype=u.dtype) for shape in ((B, H, n, 1), (B, H, n)))


@pytest.fixture(autouse=True, params=["fused_cells", "compiled_cells"])
def kernel(request, monkeypatch):
    """Both kernels, where a cell has both."""
    if registry.kernels()[request.param].unsupported(torch.float64, "cpu"):
        pytest.skip("needs numba")
    monkeypatch.setitem(globals(), "KERNEL", request.param)


KERNEL = ""


def kernel_of(name):
    compiled = KERNEL == "compiled_cells" and plan_of(CELLS[name]).cell in cells.LOOPS
    return "compiled_cells" if compiled else "fused_cells"


def with_gradients(architecture, signals, u, state, backend, dtype=torch.float64):
    """y, the final state, and the gradients of all that goes in under a weight of every entry of y and the state."""
    given = [x.to(dtype).requires_grad_() for x in (*signals.values(), u, *(state or ()))]
    signals = dict(zip(signals, given, strict=False))
    state = tuple(given[-2:]) if state else None
    y, final = dsf.simulate(architecture(**signals), given[len(signals)], state, backend=backend)
    found, generator = [y, *final], torch.Generator().manual_seed(1)
    weights = [torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x.dtype) for x in found]
    loss = sum((x * w).sum() for x, w in zip(found, weights, strict=True))
    names = ["y", "x", "last", *(f"d {name}" for name in signals), "d u", "d x0", "d y0"]
    return dict(zip(names, [*found, *torch.autograd.grad(loss, given)], strict=False))


def assert_same(found, expected, tolerance):
    wrong = [name for name, x in expected.items() if not close(found[name].detach(), x.detach(), tolerance)]
    assert not wrong


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("started", [False, True])
@every
def test_outputs_states_and_gradients(name, started, dtype, length):
    signals, u = drawn(name, length)
    signals, u = {k: x.to(dtype).double() for k, x in signals.items()}, u.to(dtype).double()
    state = tuple(x.to(dtype).double() for x in start(u)) if started else None
    expected = with_gradients(CELLS[name], signals, u, state, "reference")
    found = with_gradients(CELLS[name], signals, u, state, kernel_of(name), dtype)
    assert_same(found, expected, EXACT if dtype == torch.float64 else FP32)


@every
def test_many_sequences_and_a_long_run(name):
    """More sequences than go together, more steps than a piece has; states of a size that fills no row."""
    signals, u = drawn(name, 530, batch=7, heads=2, n=3)
    y, state = dsf.simulate(CELLS[name](**signals), u, backend=kernel_of(name))
    expected, final = scan(CELLS[name](**signals), u)
    assert close(y, expected, EXACT) and all(close(a, b, EXACT) for a, b in zip(state, final, strict=True))


@every
def test_no_step_leaves_the_state(name):
    signals, u = drawn(name, 0)
    state = start(u)
    y, final = dsf.simulate(CELLS[name](**signals), u, state, backend=kernel_of(name))
    assert y.shape == u.shape and all(torch.equal(a, b) for a, b in zip(final, state, strict=True))


@pytest.mark.parametrize("dtype", HALF)
@every
def test_half_precision_keeps_its_state_in_fp32(name, dtype):
    signals, u = drawn(name, 40)
    signals, u = {k: (x / 2).to(dtype) for k, x in signals.items()}, u.to(dtype)
    expected, _ = scan(CELLS[name](**{k: x.double() for k, x in signals.items()}), u.double())
    y, state = dsf.simulate(CELLS[name](**signals), u, backend=kernel_of(name))
    assert y.dtype == dtype and {x.dtype for x in state} == {torch.float32} and close(y, expected, HALF[dtype])


@every
def test_pieces_are_the_whole_and_the_past_does_not_see_the_future(name):
    signals, u = drawn(name, 20)
    system, state, parts = CELLS[name](**signals), None, []
    whole, final = dsf.simulate(system, u, backend=kernel_of(name))
    for lo, hi in ((0, 1), (1, 9), (9, 9), (9, 20)):
        y, state = dsf.simulate(system.slice(lo, hi), u[:, lo:hi], state, backend=kernel_of(name))
        parts.append(y)
    assert close(torch.cat(parts, 1), whole, EXACT)
    assert all(close(a, b, EXACT) for a, b in zip(state, final, strict=True))
    other = torch.cat([u[:, :9], u[:, 9:] + 1], 1)
    again = dsf.simulate(system, other, backend=kernel_of(name))[0]
    assert torch.equal(again[:, :9], whole[:, :9]) and not torch.equal(again[:, 9:], whole[:, 9:])


@pytest.mark.parametrize(("name", "theirs"), [("lstm", torch.nn.LSTM), ("gru", torch.nn.GRU), ("elman", torch.nn.RNN)])
def test_torchs_own_network(name, theirs):
    network = theirs(3, 5, batch_first=True).double()
    x = torch.randn(2, 30, 3, dtype=torch.float64)
    layer = dsf.convert(network, x).layers["layer0"]
    y, _ = dsf.simulate(layer.system, layer.drive, layer.state, backend=kernel_of(name))
    assert close(y[:, :, 0], network(x)[0], EXACT)


@pytest.mark.parametrize("name", ["memory", "leaky", "rectified"])
def test_derivatives_of_the_gradient(name):
    """Those of the reference; and torch.func's transforms pass."""
    signals, u = drawn(name, 3, n=2, heads=1)

    def second(backend):
        x, *rest = (u.clone().requires_grad_(), *(s.clone().requires_grad_() for s in signals.values()))
        system = CELLS[name](**dict(zip(signals, rest, strict=True)))
        y, state = dsf.simulate(system, x, backend=backend)
        first = torch.autograd.grad((y.pow(2).sum() + state[0].pow(3).sum()), (x, *rest), create_graph=True)
        return torch.autograd.grad(sum(g.pow(2).sum() for g in first), (x, *rest))

    for a, b in zip(second(kernel_of(name)), second("reference"), strict=True):
        assert close(a, b, EXACT)
    gradient = torch.func.grad(lambda x: dsf.simulate(CELLS[name](**signals), x, backend=kernel_of(name))[0].sum())(u)
    assert gradient.isfinite().all() and gradient.any()


# ---------------------------------------------------------------------------------------------------------- recognition
@body("Coupled gates")
def coupled(f=Vector, o=Vector, u=Drive, y=Previous, P=Param(Matrix), Q=Param(Matrix), R=Param(Matrix)):
    f = sigmoid(f + P @ y)
    return System(A=diag(f), B=diag(1 - f), C=diag(sigmoid(o + Q @ y)), u=tanh(u + R @ y), readout=tanh)


@body("Reset before the product")
def reset_first(z=Vector, r=Vector, u=Drive, y=Previous, X=Param(Matrix), Y=Param(Matrix), Z=Param(Matrix), b=Vector):
    z, r = sigmoid(z + X @ y), sigmoid(r + Y @ y)
    return System(A=diag(z), B=diag(1 - z), C=I, u=tanh(u + Z @ y) * r + 0 * b)


@body("Nearly")
def nearly(u=Drive, y=Previous, R=Param(Matrix)):
    return System(A=1e-9 * I, B=I, C=I, u=tanh(u + R @ y))


@body("Transposed")
def bent_twice(u=Drive, y=Previous, R=Param(Matrix)):
    return System(A=0 * I, B=I, C=I, u=tanh(tanh(u) + R @ y))


@pytest.mark.parametrize("architecture", [coupled, reset_first, nearly, bent_twice], ids=lambda a: a.title)
def test_what_is_no_classical_cell_runs_step_by_step(architecture):
    signals, u = draw(architecture, 5, n=4)
    explained = dsf.explain(architecture(**signals), u)
    assert explained.kernel == "sequential" and "classical" in explained.declined[KERNEL]


@every
def test_every_cell_takes_the_kernel(name, monkeypatch):
    signals, u = drawn(name, 64)
    if KERNEL == "fused_cells":
        found = importlib.util.find_spec
        monkeypatch.setattr(registry, "find_spec", lambda name: None if name == "numba" else found(name))
    assert dsf.explain(CELLS[name](**signals), u).kernel == kernel_of(name)


def test_roles_are_found_whatever_the_order():
    """The roles of a body's signals follow what it does with them."""
    found = plan_of(memory)
    assert found.vectors == ("out", None, "keep", "v") and found.matrices == ("P", "V", "Q", "R")


def test_matrices_that_vary_are_declined():
    varying = plain.with_domain(R=Matrix)
    signals, u = draw(varying, 5, n=4)
    assert "vary" in dsf.explain(varying(**signals), u).declined[KERNEL]


def test_no_slice_of_full_length_per_step():
    """What is kept: the gates and the states, no copy per step."""
    signals, u = drawn("lstm", 40)
    inputs = [x.requires_grad_() for x in (*signals.values(), u)]
    saved = {}
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.setdefault(id(x), x), lambda x: x):
        dsf.simulate(CELLS["lstm"](**signals), u, backend=KERNEL)
    rows = u.numel()
    assert sum(x.numel() for x in saved.values()) <= sum(x.numel() for x in inputs) + 7 * rows + 1000
