"""Which kernel runs a system, and why; what every run must respect; what is refused."""

import importlib.util
import pkgutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import dsf
from dsf.reference import scan
from dsf_kernels import registry
from dsf_kernels.costs import Cost
from kernel_cases import EXACT, close, draw, start


@dsf.architecture("Gated accumulator", register=False)
def gated(query=dsf.Vector, key=dsf.Vector, g=dsf.LogDecay):
    return dsf.System(A=dsf.decay(g) * dsf.I, B=key, C=query)


@dsf.architecture("Gated micro-steps", register=False)
def gated_steps(q=dsf.Vector, k=dsf.Each(dsf.Vector, 3), g=dsf.Each(dsf.LogDecay, 3)):
    return dsf.microsteps(dsf.System(A=dsf.decay(g) * dsf.I, B=k, C=q))


NAMED = {name: dsf.architecture_named(name) for name in ("linear_attention", "retnet", "mamba2")}


def test_an_initial_state_belongs_to_the_system():
    signals, u = draw(gated, 70)
    x0 = start(gated, signals, u)
    system = replace(gated(**signals), x0=x0)
    for backend in ("auto", "reference", "sequential"):
        assert close(dsf.simulate(system, u, backend=backend)[0], scan(gated(**signals), u, x0)[0], EXACT)
    for run in (dsf.simulate, scan):
        with pytest.raises(ValueError, match="the state should be"):
            run(replace(system, x0=x0[:1]), u)


def test_a_bidirectional_system_runs_both_ways():
    signals, u = draw(gated, 80)
    both = dsf.bidirectional(gated(**signals), gated(**signals))
    assert close(dsf.simulate(both, u)[0], scan(both, u)[0], EXACT)
    one = dsf.explain(gated(**signals), u).kernel
    assert dsf.explain(both, u).kernel == one and "backward in time" in str(dsf.explain(both, u))


# ------------------------------------------------------------------------------------------------ which kernel, and why
ZOO = {k: a for k, a in dsf.architectures().items() if a.body.__module__.startswith("dsf.zoo")}
SCALAR, DIAGONAL = ("linear_attention", "retnet", "mamba2", "mlstm", "rwkv4"), ("gla", "rwkv6", "mamba")
LOW_RANK, CONSTANT = ("deltanet", "gated_deltanet", "kda", "deltaproduct"), ("s4d", "lssl", "short_convolution")
EAGER = {
    **dict.fromkeys(SCALAR, "chunked_scalar"),
    **dict.fromkeys(DIAGONAL, "chunked_diagonal"),
    **dict.fromkeys(LOW_RANK, "chunked_low_rank"),
    **dict.fromkeys(CONSTANT, "constant"),
    **dict.fromkeys(("softmax_attention", "alibi"), "scaled_dot_product"),
    **dict.fromkeys(("lstm", "gru", "elman"), "fused_cells"),
    **{"rglru": "diagonal_states", "titans": "sequential"},
}
COMPILED = EAGER | {
    **dict.fromkeys((*SCALAR, *DIAGONAL), "compiled_diagonal"),
    **dict.fromkeys(LOW_RANK, "compiled_low_rank"),
    **{"rglru": "compiled_states", "titans": "compiled_dense", "lstm": "compiled_cells", "gru": "compiled_cells"},
}


@dsf.architecture("Own diagonal", register=False)
def own_diagonal(read=dsf.Vector, write=dsf.Vector, forget=dsf.Vector(-dsf.inf, 0)):
    return dsf.System(A=dsf.diag(dsf.decay(forget)), B=write, C=read)


@dsf.architecture("Own scalar", register=False)
def own_scalar(read=dsf.Vector, write=dsf.Vector, rate=dsf.Positive, speed=dsf.Param(dsf.Positive)):
    return dsf.System(A=dsf.decay(-rate * speed) * dsf.I, B=rate * write, C=read)


@dsf.architecture("Own rank one", register=False)
def own_rank_one(read=dsf.Vector, erase=dsf.Unit, write=dsf.Vector, much=dsf.Scalar(0, 2)):
    return dsf.System(A=dsf.I - much * dsf.outer(erase), B=write, C=read)


@dsf.architecture("Own matrix", register=False)
def own_dense(read=dsf.Vector, write=dsf.Vector, A=dsf.Matrix):
    return dsf.System(A=0.05 * A, B=write, C=read)


@dsf.architecture("Own filter", register=False)
def own_constant(b=dsf.Param(dsf.Vector), c=dsf.Param(dsf.Vector), a=dsf.Param(dsf.Vector(-0.9, 0.9))):
    return dsf.System(A=dsf.diag(a), B=b, C=c)


OWN = {
    "own_diagonal": ("chunked_diagonal", "compiled_diagonal"),
    "own_scalar": ("chunked_scalar", "compiled_diagonal"),
    "own_rank_one": ("chunked_low_rank", "compiled_low_rank"),
    "own_dense": ("sequential", "compiled_dense"),
    "own_constant": ("constant", "compiled_diagonal"),
}
REAL_SIZE = {"heads": 4, "n": 64, "p": 64, "batch": 1, "dtype": torch.float32}


@pytest.fixture(params=["compiled", "eager"])
def kernels_of(request, monkeypatch):
    """With numba, and on a machine without it."""
    found = importlib.util.find_spec
    if request.param == "eager":
        monkeypatch.setattr(registry, "find_spec", lambda name: None if name == "numba" else found(name))
    elif found("numba") is None:
        pytest.skip("needs numba")
    return request.param


def test_the_sixteen_are_here():
    assert len(ZOO) >= 16 and ZOO.keys() == EAGER.keys()


@pytest.mark.parametrize("name", ZOO)
def test_the_kernel_of_every_architecture(name, kernels_of):
    """Each runs through the kernel that its structure climbs to, at a real size; and agrees, at a small one."""
    signals, u = draw(ZOO[name], 1024, **REAL_SIZE)
    assert dsf.explain(ZOO[name](**signals), u).kernel == (EAGER if kernels_of == "eager" else COMPILED)[name]
    signals, u = draw(ZOO[name], 64, n=4)
    system = ZOO[name](**signals)
    y, state = dsf.simulate(system, u)
    expected, final = scan(system, u)
    assert all(close(a, b, EXACT) for a, b in zip((y, *_tuple(state)), (expected, *_tuple(final)), strict=True))


def _tuple(state):
    return state if isinstance(state, tuple) else (state,)


@pytest.mark.parametrize("name", OWN)
def test_structure_and_not_the_name_decides(name, kernels_of):
    """Four lines of one's own get the fast kernel."""
    architecture = globals()[name]
    signals, u = draw(architecture, 1024, **REAL_SIZE)
    assert dsf.explain(architecture(**signals), u).kernel == OWN[name][kernels_of == "compiled"]
    signals, u = draw(architecture, 70)
    chosen = dsf.simulate(architecture(**signals), u, backend=OWN[name][kernels_of == "compiled"])
    for a, b in zip(chosen, scan(architecture(**signals), u), strict=True):
        assert close(a, b, EXACT)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("deltanet", "Reflection does not climb to Scaled"),
        ("deltaproduct", "Reflection does not climb to Scaled"),
        ("gla", "Diagonal does not climb to Scaled"),
        ("lssl", "Dense does not climb to Scaled"),
        ("titans", "Block does not climb to Scaled"),
        ("softmax_attention", "infinite features"),
        ("lstm", "feedback"),
        ("rglru", "B is an operator (Diagonal)"),
    ],
)
def test_why_the_chunked_kernel_declines(name, reason):
    signals, u = draw(ZOO[name], 64, n=4)
    system = ZOO[name](**signals)
    explained = dsf.explain(system, u)
    assert reason in explained.declined["chunked_scalar"] and reason in str(explained)
    with pytest.raises(ValueError, match="declines") as error:
        dsf.simulate(system, u, backend="chunked_scalar")
    assert reason in str(error.value)


def test_a_decay_outside_log_space_is_told_what_to_write():
    key = torch.randn(2, 64, 2, 4)
    system = dsf.System(A=torch.rand(2, 64, 2, 1) * dsf.I, B=key, C=key)
    assert dsf.explain(system).declined["chunked_scalar"] == "the decay is not in log space: write decay(g)"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"B": dsf.diag(torch.rand(2, 64, 2, 4))}, "B is an operator"),
        ({"readout": torch.tanh}, "readout"),
        ({"A": dsf.decay(torch.zeros(2, 64, 2, 1, dtype=torch.complex64)) * dsf.I}, "complex"),
        ({"C": torch.zeros(2, 64, 2, 4, dtype=torch.complex64)}, "not in torch.complex64"),
    ],
)
def test_other_declines(change, reason):
    parts = {"A": dsf.I, "B": torch.randn(2, 64, 2, 4), "C": torch.randn(2, 64, 2, 4)} | change
    explained = dsf.explain(dsf.System(**parts))
    assert reason in explained.declined["chunked_scalar"]


def test_explain_says_what_it_assumes_and_measures_nothing():
    signals, u = draw(gated, 640)
    text = str(dsf.explain(gated(**signals)))
    assert "p = 64 assumed" in text and "not measured" in text
    times = [line for line in text.splitlines() if " ms" in line]
    assert len(times) > 3 and all("predicted, nominal" in line for line in times)
    assert "assumed" not in str(dsf.explain(gated(**signals), u))
    assert "T = 1024" in str(dsf.explain(dsf.System(A=0.5 * dsf.I, B=torch.ones(1, 1, 1, 2), C=torch.ones(1, 1, 1, 2))))
    steps = dsf.explain(gated_steps(**draw(gated_steps, 64)[0]))
    assert steps.route[:2] == ("Product (time x J)", "Scaled") and "J 3" in str(steps)


def test_the_floor_counts_signals_once():
    signals, u = draw(NAMED["linear_attention"], 64, heads=2, n=5, p=3, batch=2)
    rows, item = 2 * 2, 8
    expected = item * rows * (64 * (5 + 5) + 64 * (3 + 3) + 2 * 5 * 3)  # q, k; u, y; the state, in and out
    floor = dsf.explain(NAMED["linear_attention"](**signals), u).floor
    assert floor.bytes == expected and floor.flops == 2 * rows * 64 * 3 * (5 + 5)


def test_the_least_predicted_cost_wins(monkeypatch):
    """A kernel is one registered function; dispatch takes it when, and only when, it promises to be cheaper."""
    signals, u = draw(NAMED["linear_attention"], 64)
    system, registered = NAMED["linear_attention"](**signals), dict(registry.kernels())
    monkeypatch.setattr(registry, "_REGISTRY", registered)
    for flops, chosen in ((0.0, "free"), (1e15, dsf.explain(system, u).kernel)):
        registry.kernel("free", covers=dsf.Identity, cost=lambda z, flops=flops: Cost(flops, 0.0))(lambda *a: 1 / 0)
        explained = dsf.explain(system, u)
        assert explained.kernel == chosen
    assert "costs more" in explained.declined["free"]
    registry.kernel("free", covers=dsf.Identity, cost=lambda z: Cost(0, 0), devices=("cuda",))(lambda *a: 1 / 0)
    assert "runs on cuda, not on cpu" in dsf.explain(system, u).declined["free"]


def test_a_single_step_is_sequential():
    signals, u = draw(NAMED["mamba2"], 1)
    assert dsf.explain(NAMED["mamba2"](**signals), u).kernel == "sequential"


@pytest.mark.parametrize(
    ("error", "match", "call"),
    [
        (ValueError, "backend is", lambda s, u: dsf.simulate(s, u, backend="chunked")),
        (TypeError, "floating point", lambda s, u: dsf.simulate(s, u.long())),
        (TypeError, "torch.Tensor", lambda s, u: dsf.simulate(s, u.tolist())),
        (TypeError, "called with its signals", lambda s, u: dsf.simulate(gated, u)),
        (TypeError, "called with its signals", lambda s, u: dsf.explain(gated)),
        (ValueError, "axis T", lambda s, u: dsf.simulate(s, u[:, :-1])),
        (ValueError, r"\[B, T, H, p\]", lambda s, u: dsf.simulate(s, u[0])),
        (ValueError, "the state should be", lambda s, u: dsf.simulate(s, u, torch.zeros(2, 2, 5, 4))),
        (TypeError, "the state should be", lambda s, u: dsf.simulate(s, u, (u, u))),
    ],
)
def test_bad_input_is_refused(error, match, call):
    signals, u = draw(gated, 10)
    with pytest.raises(error, match=match):
        call(gated(**signals), u)


@pytest.mark.parametrize("name", ["lstm", "softmax_attention"])
def test_a_pair_of_the_wrong_shape_is_refused(name):
    signals, u = draw(ZOO[name], 10, n=4)
    system = ZOO[name](**signals)
    first, second = dsf.simulate(system, u)[1]
    with pytest.raises(ValueError, match="the state should be"):
        dsf.simulate(system, u, (first[:1], second[:1]))


def test_kernels_carry_no_architecture_names():
    import dsf_kernels

    for module in pkgutil.walk_packages(dsf_kernels.__path__, "dsf_kernels."):
        if module.name.startswith("dsf_kernels.benchmarks"):
            continue  # what is measured has a name
        source = Path(importlib.util.find_spec(module.name).origin).read_text()
        code = [line.split("#")[0] for line in source.split('"""')[::2]]  # without docstrings
        assert not [name for name in ZOO for line in code if name in line], module.name


def test_activation_checkpointing_around_a_run():
    """It hands every saved tensor out once."""
    from torch.utils.checkpoint import checkpoint

    arch = dsf.architecture_named("mamba2")
    signals, u = arch.sample(1, 150, 2, 4, 3, generator=torch.Generator().manual_seed(0))
    leaves = [u.requires_grad_(), *(s.requires_grad_() for s in signals.values())]

    def run(*values):
        return dsf.simulate(arch(**dict(zip(signals, values[1:], strict=True))), values[0])[0].square().sum()

    expected = torch.autograd.grad(run(*leaves), leaves)
    for a, b in zip(torch.autograd.grad(checkpoint(run, *leaves, use_reentrant=False), leaves), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize("length", [1, 40])
def test_a_product_of_matrices_that_writes_once_a_step(length):
    """Micro-steps multiply the state several times; that they also write at each is another thing."""
    architecture = dsf.architecture_named("deltaproduct")
    signals, u = draw(architecture, length)
    b = torch.randn(2, length, 1, 5, dtype=torch.float64)
    system = dsf.System(A=architecture(**signals).A, B=b, C=b)
    y, x = dsf.simulate(system, u[..., 0, :])
    expected, last = dsf.simulate(system, u[..., 0, :], backend="reference")
    assert close(y, expected, EXACT) and close(x, last, EXACT)


@pytest.mark.parametrize("length", [1, 40, 300])
@pytest.mark.parametrize("name", ["gla", "mamba2", "gated_deltanet", "rglru"])
def test_a_complex_state_of_a_real_system(name, length):
    architecture = dsf.architecture_named(name)
    signals, u = draw(architecture, length, batch=1)
    system, real = architecture(**signals), start(architecture, signals, u)
    state = torch.complex(real, real.flip(-2))
    expected = dsf.simulate(system, u, state, backend="reference")
    assert all(close(a, b, EXACT) for a, b in zip(dsf.simulate(system, u, state), expected, strict=True))
    ends = torch.tensor([0, length])
    assert close(dsf.simulate(system, u, state, cu_seqlens=ends)[0], expected[0], EXACT)


@pytest.mark.parametrize("length", [1, 10, 300])
def test_the_last_state_is_real_where_only_its_reader_is_complex(length):
    g, b = -torch.rand(1, length, 2, 4, dtype=torch.float64), torch.randn(1, length, 2, 4, dtype=torch.float64)
    c = torch.randn(1, length, 2, 4, dtype=torch.complex128)
    system = dsf.System(A=dsf.diag(dsf.decay(g)), B=b, C=dsf.operators.RealPart(c))
    u = torch.randn(1, length, 2, 3, dtype=torch.float64)
    y, x = dsf.simulate(system, u, backend="reference")
    for backend in ("auto", "segments", "chunked_diagonal", "diagonal_states"):
        found, last = dsf.simulate(system, u, backend=backend)
        assert last.dtype == x.dtype == torch.float64 and close(found, y, EXACT) and close(last, x, EXACT)
