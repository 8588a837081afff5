"""The Triton programs of diagonal recurrences with their gates, against the reference."""

import pytest
import torch

import dsf
from dsf_kernels.gpu import fused_cut, fused_diagonal
from dsf_kernels.gpu.configurations import Configuration, asked, forced
from fused_cases import FUNCTIONS, OWN, of_torch
from kernel_cases import (
    MIN,
    check_causal,
    check_reference,
    close,
    draw,
    in_dtype,
    poisoned_memory,  # noqa: F401
    run,
    start,
    with_ends,
)
from long_cases import some_slow
from row_sum_cases import OVER_ROWS, SUMS
from triton_cases import DEVICE, FP32, INTERPRETED, MARKS

pytestmark = [*MARKS, pytest.mark.usefixtures("poisoned_memory")]
KERNEL = "triton_fused_diagonal"
ZOO = {name: dsf.architecture_named(name) for name in ("mamba", "rglru")}
ENDS = (0.0, -20.0, -200.0, -1e4, MIN)
PACKED = torch.tensor([0, 3, 3, 4, 26, 30])  # among them none, one, and one over several kept states


@pytest.fixture(autouse=True)
def small_and_at_any_length(monkeypatch):
    monkeypatch.setattr("dsf.deferred.LONG", 0)
    if INTERPRETED:
        monkeypatch.setattr(fused_cut, "STAGES", (2, 1))
        for module in (fused_cut, fused_diagonal):
            monkeypatch.setattr(module, "EVERY", 8)


@pytest.fixture
def in_segments(monkeypatch):
    monkeypatch.setattr(fused_cut, "LEAST", 10)
    monkeypatch.setattr(fused_cut, "multiprocessors", lambda device: 10**4)


def check(architecture, length, batch=1, heads=2, n=3):
    signals, u = draw(architecture, length, heads=heads, n=n, p=1, batch=batch)
    signals = with_ends(signals, **{name: ENDS for name in signals.keys() & {"g"}})
    check_reference(KERNEL, architecture, signals, u, torch.float32, FP32, device=DEVICE)


@pytest.mark.parametrize("name", OWN | ZOO)
def test_the_reference(name):
    check((OWN | ZOO)[name], 21)


@pytest.mark.parametrize("length", [2, 63, 64, 65])
def test_lengths(length):
    check(OWN["steps"], length)


@pytest.mark.parametrize("name", ["steps", "resets", "rooted", "shared", "numbers"])
def test_segments_of_time_meet(name, in_segments):
    check(OWN[name], 37)


@pytest.mark.parametrize("name", ["steps", "shared", "leaky"])
def test_blocks_of_heads_and_of_rows(name, monkeypatch):
    monkeypatch.setattr(fused_cut, "ENTRIES", 2)
    check(OWN[name], 9, heads=3, n=3)


@pytest.mark.parametrize("n", some_slow([3, 5], 3))
@pytest.mark.parametrize("name", some_slow(SUMS, *SUMS.keys() - {"unit_shared", "agreeing"}))
def test_gates_that_sum_over_rows(name, n):
    check(SUMS[name], 9, heads=3, n=n)


@pytest.mark.slow
@pytest.mark.parametrize("name", SUMS)
def test_gates_that_sum_over_rows_in_segments(name, in_segments):
    check(SUMS[name], 21)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["unit_shared", "one_gate", "centred"])
def test_gates_that_sum_over_rows_have_all_rows(name, monkeypatch):
    """Of one head, however few entries a tile is to have."""
    monkeypatch.setattr(fused_cut, "ENTRIES", 2)
    check(SUMS[name], 9, heads=3, n=5)


@pytest.mark.parametrize("name", some_slow(SUMS, *SUMS.keys() - {"shares"}))
def test_packed_gates_that_sum_over_rows(name):
    check_packed(name)


@pytest.mark.slow
def test_functions_of_all_rows():
    def every(x):
        return sum(0.1 * f(x) for f in OVER_ROWS.values())

    @dsf.architecture("Every function of all rows", register=False)
    def gated(x=dsf.Vector, s=dsf.Scalar, k=dsf.Vector):
        return dsf.System(A=dsf.diag(dsf.sigmoid(x + s)), B=of_torch(every)(k), C=k)

    signals, u = draw(gated, 9, heads=2, n=5, p=1, batch=1)
    check_reference(KERNEL, gated, signals, u, torch.float32, FP32, device=DEVICE)


def test_what_is_outside_of_a_tile_does_not_count():
    check(OWN["divided"], 9, heads=3)


def test_one_head_and_one_row():
    check(OWN["steps"], 9, heads=1)
    check(OWN["steps"], 9, n=1)


def test_functions():
    def every(x):
        return sum(0.1 * f(x) for f in FUNCTIONS.values())

    @dsf.architecture("Every function", register=False)
    def gated(x=dsf.Vector, s=dsf.Scalar, k=dsf.Vector):
        return dsf.System(A=dsf.diag(dsf.sigmoid(x + s)), B=of_torch(every)(k), C=k)

    signals, u = draw(gated, 9, heads=2, n=5, p=1, batch=1)
    signals = with_ends(signals, k=(0.0, 4.0, -4.0, 1e-9), x=(30.0, -30.0, 80.0, -80.0))
    check_reference(KERNEL, gated, signals, u, torch.float32, FP32, device=DEVICE)


def test_the_future_does_not_reach_the_past():
    check_causal(KERNEL, OWN["steps"], length=20, t=10, heads=2, n=3, p=1, batch=1, dtype=torch.float32, device=DEVICE)


def test_a_run_in_pieces():
    """Among them one of a single step, at which everything is constant."""
    arch = OWN["steps"]
    signals, u = draw(arch, 12, heads=2, n=3, p=1, batch=1, dtype=torch.float32)
    system, u, state, parts = arch(**{k: x.to(DEVICE) for k, x in signals.items()}), u.to(DEVICE), None, []
    for lo, hi in ((0, 1), (1, 1), (1, 12)):
        y, state = dsf.simulate(system.slice(lo, hi), u[:, lo:hi], state, backend=KERNEL)
        parts.append(y)
    whole, final = dsf.simulate(system, u, backend=KERNEL)
    assert close(torch.cat(parts, 1), whole, FP32) and close(state, final, FP32)


@pytest.mark.parametrize("arch, signal", [(OWN["gates"], "f"), (SUMS["unit_rows"], "k")])
def test_gradients_of_gradients(arch, signal):
    signals, u = draw(arch, 6, heads=2, n=3, p=1, dtype=torch.float32)
    u, signals = u.to(DEVICE).requires_grad_(), {k: x.to(DEVICE).requires_grad_() for k, x in signals.items()}

    def twice(backend):
        y, _ = dsf.simulate(arch(**signals), u, backend=backend)
        (g,) = torch.autograd.grad(y.square().sum(), signals[signal], create_graph=True)
        return torch.autograd.grad(g.square().sum(), (u, signals[signal]))

    for a, b in zip(twice(KERNEL), twice("reference"), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def packed(name, **sizes):
    """Signals and u of sequences one behind the other, and a state of each; all as fp32 rounds them."""
    arch = (OWN | ZOO | SUMS)[name]
    signals, u = draw(arch, 30, **({"heads": 2, "n": 3, "p": 1, "batch": 1} | sizes))
    signals = with_ends(signals, **{name: ENDS for name in signals.keys() & {"g"}})
    one = start(arch, signals, u)
    states = torch.randn(5, *one.shape[1:], dtype=one.dtype, generator=torch.Generator().manual_seed(3))
    rounded = lambda x: in_dtype(in_dtype(x, torch.float32), torch.float64)  # noqa: E731
    return arch, {k: rounded(x) for k, x in signals.items()}, rounded(u), rounded(states)


def check_packed(name, **sizes):
    given = packed(name, **sizes)
    expected = run(*given, "reference", cu_seqlens=PACKED)
    found = run(*given, KERNEL, torch.float32, DEVICE, cu_seqlens=PACKED)
    wrong = [name for name, value in expected.items() if not close(found[name], value, FP32)]
    assert not wrong, f"packed {KERNEL} differs from the reference in {wrong}"


@pytest.mark.parametrize(
    "name", some_slow(["steps", "resets", "shared", "numbers", "leaky", "rglru"], "numbers", "leaky", "shared")
)
def test_packed_sequences(name):
    check_packed(name)


@pytest.mark.parametrize("name", some_slow(["steps", "resets", "shared"], "steps", "resets"))
def test_packed_sequences_in_segments(name, in_segments):
    check_packed(name)


@pytest.mark.parametrize("name", some_slow(["shared", "leaky"], "leaky"))
def test_packed_sequences_in_blocks(name, monkeypatch):
    """Parts of what heads and rows share lie behind each other."""
    monkeypatch.setattr(fused_cut, "ENTRIES", 2)
    check_packed(name)


def test_packed_sequences_are_one_run(monkeypatch):
    """As many launches as of one sequence, and the bits of separate runs."""
    counted, launch = [], fused_diagonal.launch
    monkeypatch.setattr(fused_diagonal, "launch", lambda *a, **k: counted.append(1) or launch(*a, **k))
    given = packed("steps")
    found = run(*given, KERNEL, torch.float32, DEVICE, cu_seqlens=PACKED)
    assert len(counted) == 2
    arch, signals, u, states = given
    u, states = (x.to(DEVICE, torch.float32) for x in (u, states))
    system = arch(**{k: x.to(DEVICE, torch.float32) for k, x in signals.items()})
    for i, (lo, hi) in enumerate(zip(PACKED.tolist(), PACKED.tolist()[1:], strict=False)):
        if hi - lo > 1:  # a single step is a graph of its own: all of it is constant
            y, x = dsf.simulate(system.slice(lo, hi), u[:, lo:hi], states[i : i + 1], backend=KERNEL)
            assert torch.equal(found["y"][:, lo:hi], y.cpu()) and torch.equal(found["final state"][i : i + 1], x.cpu())


def test_packed_gradients_of_gradients():
    arch, signals, u, states = packed("steps")
    signals = {k: x.to(DEVICE, torch.float32).requires_grad_() for k, x in signals.items()}
    u, states = (x.to(DEVICE, torch.float32).requires_grad_() for x in (u, states))

    def twice(backend):
        y, x = dsf.simulate(arch(**signals), u, states, backend=backend, cu_seqlens=PACKED)
        (g,) = torch.autograd.grad(y.square().sum() + x.square().sum(), signals["z"], create_graph=True)
        return torch.autograd.grad(g.square().sum(), (u, states, signals["z"], signals["log_a"]))

    for a, b in zip(twice(KERNEL), twice("reference"), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("columns, stages", some_slow([(16, 1), (16, 3), (32, 1), (32, 3)], (16, 3), (32, 1), (32, 3)))
def test_configurations_that_can_be_measured(columns, stages):
    """Every tile and number of steps computes the same; a program of each body has its own."""
    signals, u = draw(OWN["shared"], 9, heads=3, n=7, p=1, batch=1)
    keys = [f"fused_{way}_shared 16 32 float32" for way in ("forward", "backward")]
    with asked() as found, forced(keys[0], Configuration(columns, 4, stages)):
        with forced(keys[1], Configuration(columns, 4, stages)):
            check_reference(KERNEL, OWN["shared"], signals, u, torch.float32, FP32, device=DEVICE)
    assert found == dict.fromkeys(keys, Configuration(columns, 4, stages))


def test_what_it_declines():
    arch = OWN["steps"]
    signals, u = draw(arch, 9, p=2, dtype=torch.float32)
    system = arch(**{k: x.to(DEVICE) for k, x in signals.items()})
    assert "one column" in dsf.explain(system, u.to(DEVICE)).declined[KERNEL]
    for wide in (arch, SUMS["centred"]):
        signals, u = draw(wide, 9, n=300, p=1, dtype=torch.float32)
        system = wide(**{k: x.to(DEVICE) for k, x in signals.items()})
        assert "256 rows" in dsf.explain(system, u.to(DEVICE)).declined[KERNEL]
