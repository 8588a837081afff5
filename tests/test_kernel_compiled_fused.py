"""The compiled diagonal recurrence with its gates against the reference: all gradients, ends, pieces, layouts."""

import pytest
import torch
from torch.utils.checkpoint import checkpoint

import dsf
from dsf_kernels.cpu import compiling, fused_diagonal
from fused_cases import FUNCTIONS, OWN, of_torch
from kernel_cases import (
    EXACT,
    FP32,
    HALF,
    MIN,
    check_causal,
    check_half,
    check_kept,
    check_pieces,
    check_reference,
    close,
    draw,
    poisoned_memory,  # noqa: F401
    run,
    start,
    with_ends,
)
from long_cases import some_slow
from row_sum_cases import LARGEST, OVER_ROWS, SUMS

pytest.importorskip("numba")
pytestmark = pytest.mark.usefixtures("poisoned_memory")
NAME = "compiled_fused_diagonal"
ZOO = {name: dsf.architecture_named(name) for name in ("mamba", "rglru")}
BY_SUMS = [name for name in SUMS if name != "largest"]
ENDS = (0.0, -20.0, -200.0, -1e4, MIN)


@pytest.fixture(autouse=True)
def at_any_length(monkeypatch):
    monkeypatch.setattr("dsf.deferred.LONG", 0)


def at_the_ends(signals):
    return with_ends(signals, **{name: ENDS for name in signals.keys() & {"g"}})


def check(architecture, length, dtype=torch.float64, tolerance=EXACT, **sizes):
    signals, u = draw(architecture, length, **({"heads": 8, "n": 3, "p": 1} | sizes))
    check_reference(NAME, architecture, at_the_ends(signals), u, dtype, tolerance)


@pytest.mark.parametrize("name", OWN | ZOO)
def test_the_reference(name):
    for length in (2, 63, 64, 65):
        check((OWN | ZOO)[name], length)


@pytest.mark.parametrize("heads, n", some_slow([(8, 3), (3, 17), (2, 16)], (8, 3), (2, 16)))
@pytest.mark.parametrize("name", some_slow(BY_SUMS, *BY_SUMS[1:]))
def test_gates_that_sum_over_rows(name, heads, n):
    """These take their rows twice at every step."""
    check(SUMS[name], 21, heads=heads, n=n)


@pytest.mark.slow
def test_functions_of_all_rows():
    def every(x):
        return sum(0.1 * f(x) for name, f in OVER_ROWS.items() if name not in LARGEST)

    @dsf.architecture("Every function of all rows", register=False)
    def gated(x=dsf.Vector, s=dsf.Scalar, k=dsf.Vector):
        return dsf.System(A=dsf.diag(dsf.sigmoid(x + s)), B=of_torch(every)(k), C=k)

    check(gated, 21, heads=3, n=17)


def test_the_largest_row_is_left_to_others():
    signals, u = draw(SUMS["largest"], 9, p=1)
    assert "takes the largest" in dsf.explain(SUMS["largest"](**signals), u).declined[NAME]


@pytest.mark.parametrize("name", ["steps", "resets"])
@pytest.mark.parametrize("heads, n", some_slow([(19, 3), (3, 17), (2, 16), (9, 1)], (19, 3), (2, 16), (9, 1)))
def test_lanes_of_heads_and_of_rows(name, heads, n):
    check(OWN[name], 21, heads=heads, n=n)


@pytest.mark.parametrize("name", some_slow(["steps", "resets", "shared"], "steps", "shared"))
def test_several_columns(name):
    check(OWN[name], 21, p=3)
    check(OWN[name], 21, heads=16, n=2, p=2)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["steps", "resets"])
def test_fp32_over_many_steps(name):
    check(OWN[name], 1000, torch.float32, FP32, batch=1, heads=16)


@pytest.mark.parametrize("dtype", HALF)
def test_half(dtype):
    check_half(NAME, OWN["steps"], *draw(OWN["steps"], 70, heads=16, n=3, p=1), dtype)


@pytest.mark.parametrize("name", ["steps", "resets", "through_rows"])
def test_pieces_and_causality(name):
    """Among the pieces is one of a single step, at which everything is constant."""
    check_pieces(NAME, OWN[name], *draw(OWN[name], 70, heads=8, n=3, p=1))
    check_causal(NAME, OWN[name], length=70, heads=8, n=3, p=1)


def test_functions():
    """All at once, on both sides of where they bend, and far from it."""

    def every(x):
        return sum(0.1 * f(x) for f in FUNCTIONS.values())

    @dsf.architecture("Every function", register=False)
    def gated(x=dsf.Vector, s=dsf.Scalar, k=dsf.Vector):
        return dsf.System(A=dsf.diag(dsf.sigmoid(x + s)), B=of_torch(every)(k), C=k)

    signals, u = draw(gated, 40, heads=2, n=8, p=1)
    signals = with_ends(signals, k=(0.0, 4.0, -4.0, 1e-9), x=(30.0, -30.0, 800.0, -800.0))
    check_reference(NAME, gated, signals, u)


def test_far_ends_of_softplus_and_its_kin():
    @dsf.architecture("Gates of far inputs", register=False)
    def far(z=dsf.Vector, k=dsf.Vector):
        dt = of_torch(torch.nn.functional.softplus)(z)
        a = of_torch(torch.nn.functional.logsigmoid)(z)
        return dsf.System(A=dsf.diag(dsf.decay(a)), B=dt * k, C=dsf.tanh(z) * k)

    signals, u = draw(far, 40, heads=2, n=16, p=1)
    for dtype, tolerance in ((torch.float64, EXACT), (torch.float32, FP32)):
        ends = with_ends(signals, z=(0.0, 90.0, -90.0, 25.0, -25.0, 1e-7))
        check_reference(NAME, far, ends, u, dtype, tolerance)


@pytest.mark.parametrize("threads, heads, batch", some_slow([(2, 24, 1), (3, 16, 2), (2, 8, 3)], (2, 24, 1), (2, 8, 3)))
def test_threads(threads, heads, batch, monkeypatch):
    monkeypatch.setattr("dsf_kernels.cpu.running.WORTH", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    for name in ("steps", "shared"):
        check(OWN[name], 40, heads=heads, batch=batch)


@pytest.mark.slow
def test_rows_of_one_head_are_shared_by_threads(monkeypatch):
    monkeypatch.setattr("dsf_kernels.cpu.running.WORTH", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    for name in ("rglru", "leaky", "centred", "one_gate"):  # the last two need all of them
        check((OWN | ZOO | SUMS)[name], 21, heads=1, batch=1, n=24)
    check(OWN["leaky"], 21, heads=1, batch=1, n=16)  # which three do not divide


@pytest.mark.parametrize("side, part", [(1, 1), (100, 30)])
def test_groups_of_heads(side, part, monkeypatch):
    monkeypatch.setattr(fused_diagonal, "SIDE", side)
    monkeypatch.setattr(fused_diagonal, "PART", part)
    for name, heads, n in (("steps", 40, 3), ("shared", 40, 3), ("resets", 5, 16)):
        check(OWN[name], 40, heads=heads, n=n)


def test_views():
    """Signals and drives in strides, of one sequence for all."""
    arch = OWN["resets"]
    signals, u = draw(arch, 30, heads=3, n=16, p=2)
    strided = {k: x.transpose(1, 2).contiguous().transpose(1, 2) for k, x in signals.items()}
    strided["k"] = strided["k"].flip(-1).mT.contiguous().mT
    check_reference(NAME, arch, strided, u.mT.contiguous().mT)


def test_gradients_of_gradients_and_transforms():
    arch = OWN["steps"]
    signals, u = draw(arch, 12, heads=8, n=3, p=1)
    u.requires_grad_(), signals["z"].requires_grad_()

    def twice(backend):
        y, _ = dsf.simulate(arch(**signals), u, backend=backend)
        (g,) = torch.autograd.grad(y.square().sum(), signals["z"], create_graph=True)
        return torch.autograd.grad(g.square().sum(), (u, signals["z"]))

    assert all(close(a, b, EXACT) for a, b in zip(twice(NAME), twice("reference"), strict=True))
    found = torch.func.grad(lambda v: dsf.simulate(arch(**signals), v)[0].square().sum())(u.detach())
    assert close(found, torch.autograd.grad(dsf.simulate(arch(**signals), u)[0].square().sum(), u)[0], EXACT)


def test_whatever_is_around():
    """Activation checkpointing, inference, autocast: none of them meets the trace."""
    arch = OWN["steps"]
    signals, u = draw(arch, 40, heads=8, n=3, p=1)
    leaves = [u.requires_grad_(), *(x.requires_grad_() for x in signals.values())]

    def run(*values):
        return dsf.simulate(arch(**dict(zip(signals, values[1:], strict=True))), values[0], backend=NAME)[0]

    expected = torch.autograd.grad(run(*leaves).square().sum(), leaves)
    found = torch.autograd.grad(checkpoint(run, *leaves, use_reentrant=False).square().sum(), leaves)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(run(*leaves), run(*leaves))
        assert close(run(*leaves), dsf.simulate(arch(**signals), u, backend="reference")[0], EXACT)
    with torch.inference_mode():
        assert torch.equal(run(*(x.clone() for x in leaves)), run(*leaves))


def test_gradients_of_some():
    """What asks for no gradient gets none; the others are the same."""
    arch = OWN["steps"]
    signals, u = draw(arch, 40, heads=8, n=3, p=1)
    whole = run(arch, signals, u, start(arch, signals, u), NAME)
    leaves = {k: x.clone().requires_grad_(k in ("log_a", "z")) for k, x in signals.items()}
    y, x = dsf.simulate(arch(**leaves), u, start(arch, signals, u), backend=NAME)
    assert close(y, whole["y"], 0) and y.requires_grad and close(x, whole["final state"], 0)
    torch.autograd.grad(y.sum(), [leaves["log_a"], leaves["z"]])


def test_what_is_kept():
    """The signals, and one state per chunk."""
    arch = OWN["steps"]
    signals, u = draw(arch, 320, heads=8, n=4, p=1, batch=1)
    check_kept(NAME, arch, signals, u, (320 // fused_diagonal.CHUNK + 2) * 8 * 4 + 2 * 320 * 8)


def test_it_is_chosen_where_operators_are_large():
    """And computes none of them; a state of many channels is worth its operators, and a short run no trace."""
    arch = OWN["steps"]
    sizes = {"dtype": torch.float32, "batch": 1}
    signals, u = draw(arch, 4096, heads=64, n=16, p=1, **sizes)
    system = arch(**signals)
    assert dsf.explain(system, u).kernel == NAME
    dsf.simulate(system, u)
    assert not vars(system).keys() & {"evaluated", "A", "B", "C", "D"}
    for length, n, p in ((300, 16, 1), (4096, 64, 64)):
        signals, u = draw(arch, length, heads=2, n=n, p=p, **sizes)
        assert dsf.explain(arch(**signals), u).kernel == "compiled_diagonal"


def test_texts_are_kept_beside_what_is_compiled(tmp_path, monkeypatch):
    monkeypatch.setattr(compiling, "cache_folder", lambda: tmp_path)
    found = compiling.compiled_text("def twice(x):\n    return 2 * x\n", "twice")
    assert found(3) == 6
    assert [path.suffix for path in tmp_path.iterdir() if path.is_file()] == [".py"]
    again = compiling.compiled_text.__wrapped__("def twice(x):\n    return 2 * x\n", "twice")
    assert again(3) == 6
    monkeypatch.setattr(compiling, "cache_folder", lambda: None)
    assert compiling.compiled_text.__wrapped__("def thrice(x):\n    return 3 * x\n", "thrice")(3) == 9
