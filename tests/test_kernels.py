"""Every kernel against dsf.reference: outputs, final state, all gradients; the end points; which kernel, and why."""

import importlib
import math
import pkgutil

import pytest
import torch

import dsf
from dsf.reference import scan
from dsf_kernels import registry
from dsf_kernels.chunks import over_chunks
from dsf_kernels.costs import Cost
from dsf_kernels.eager import chunked_scalar
from dsf_kernels.eager.chunked_scalar import CHUNK, segments

EXACT = 1e-10  # fp64, relative to the largest entry
FP32 = 2e-5  # the same in fp32, against the reference in fp64
HALF = {torch.float16: 5e-3, torch.bfloat16: 3e-2}  # inputs and outputs rounded to 11 and 8 bits, the state in fp32
MIN = -math.inf


@pytest.fixture(autouse=True)
def poisoned_memory(monkeypatch):
    """torch.empty and its kin hold NaN: a kernel that reads what it has not written shows."""

    def poisoned(make):
        def made(*args, **kwargs):
            fresh = make(*args, **kwargs)
            return fresh.fill_(math.nan) if fresh.is_floating_point() or fresh.is_complex() else fresh

        return made

    for owner, name in ((torch, "empty"), (torch, "empty_like"), (torch.Tensor, "new_empty")):
        monkeypatch.setattr(owner, name, poisoned(getattr(owner, name)))


@dsf.architecture("Gated accumulator", register=False)
def gated(query=dsf.Vector, key=dsf.Vector, g=dsf.LogDecay):
    return dsf.System(A=dsf.decay(g) * dsf.I, B=key, C=query)


@dsf.architecture("Gated accumulator, read before", register=False)
def gated_before(r=dsf.Shared(dsf.Vector), k=dsf.Vector, g=dsf.LogDecay, bonus=dsf.Param(dsf.Vector)):
    direct = dsf.inner(r, bonus * k)
    return dsf.System(A=dsf.decay(g) * dsf.I, B=k, C=r, D=direct, reads="before")


@dsf.architecture("Gated micro-steps", register=False)
def gated_steps(q=dsf.Vector, k=dsf.Each(dsf.Vector, 3), g=dsf.Each(dsf.LogDecay, 3)):
    return dsf.microsteps(dsf.System(A=dsf.decay(g) * dsf.I, B=k, C=q))


# a normaliser near 0 would make both runs ill-conditioned
POSITIVE = {"q": dsf.Vector(0, dsf.inf), "k": dsf.Vector(0, dsf.inf), "d": dsf.Param(dsf.Positive)}


def positive(architecture):
    return architecture.with_domain(**{k: POSITIVE[k] for k in architecture.signals if k in POSITIVE})


NAMED = {name: dsf.architecture_named(name) for name in ("linear_attention", "retnet", "mamba2")}
ZOO_NORMALISED = {name: dsf.architecture_named(name) for name in ("mlstm", "rwkv4")}
OWN = {"gated": gated, "gated_before": gated_before, "gated_steps": gated_steps}
CHUNKED = (
    NAMED
    | {f"{name} normalised": positive(a).normalised() for name, a in NAMED.items()}
    | ZOO_NORMALISED
    | OWN
    | {"floor": NAMED["retnet"].normalised(floor=1), "grouped": gated.with_domain(key=dsf.Shared(dsf.Vector, 2))}
)


def draw(architecture, length, heads=4, n=5, p=3, batch=2, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return architecture.sample(batch, length, heads, n, p, dtype, generator)


def decays_at_the_ends(signals):
    """Decays of e^-20 and of exactly 0 among the others, in every signal that is a log decay."""
    for name in signals.keys() & {"g", "log_gamma"}:
        places = torch.arange(signals[name].numel()).reshape(signals[name].shape) % 5
        signals[name] = signals[name].masked_fill(places == 1, -20.0).masked_fill(places == 3, MIN)
    return signals


def close(a, b, tolerance):
    scale = max(1.0, b.abs().max().item()) if b.numel() else 1.0
    return a.shape == b.shape and (not a.numel() or (a.double() - b.double()).abs().max().item() <= tolerance * scale)


def run(architecture, signals, u, state, backend, dtype=torch.float64):
    """y, the final state and the gradient of every input under random weights of both."""
    inputs = {k: x.to(dtype).clone().requires_grad_() for k, x in (signals | {"u": u, "state": state}).items()}
    u, state = inputs["u"], inputs["state"]
    y, x = dsf.simulate(architecture(**{k: inputs[k] for k in signals}), u, state, backend=backend)
    generator = torch.Generator().manual_seed(1)
    loss = sum((a * torch.randn(a.shape, generator=generator, dtype=torch.float64).to(a.dtype)).sum() for a in (y, x))
    gradients = torch.autograd.grad(loss, list(inputs.values()), materialize_grads=True)  # T = 0 uses no signal
    return {"y": y.detach(), "final state": x.detach()} | {f"d {k}": g for k, g in zip(inputs, gradients, strict=True)}


def start(architecture, signals, u):
    final = dsf.simulate(architecture(**signals), u, backend="reference")[1]
    return torch.randn(final.shape, dtype=final.dtype, generator=torch.Generator().manual_seed(2)).abs()


def compare(architecture, signals, u, dtype, tolerance):
    state = start(architecture, signals, u)
    expected = run(architecture, signals, u, state, "reference")
    found = run(architecture, signals, u, state, "chunked_scalar", dtype)
    wrong = [name for name, value in expected.items() if not close(found[name], value, tolerance)]
    assert not wrong, f"these differ from the reference: {wrong}"


# ---------------------------------------------------------------------------------------------- against the reference
@pytest.mark.parametrize("length", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1])
@pytest.mark.parametrize("name", CHUNKED)
def test_chunked_scalar_is_the_reference(name, length):
    signals, u = draw(CHUNKED[name], length)
    compare(CHUNKED[name], decays_at_the_ends(signals), u, torch.float64, EXACT)


@pytest.mark.parametrize("name", ["linear_attention", "retnet", "mamba2", "mamba2 normalised", "gated"])
def test_chunked_scalar_is_the_reference_over_many_chunks(name):
    signals, u = draw(CHUNKED[name], 1000, heads=1, n=3, p=2, batch=1)
    compare(CHUNKED[name], signals if name != "gated" else decays_at_the_ends(signals), u, torch.float64, EXACT)


@pytest.mark.parametrize("name", ["linear_attention", "retnet", "mamba2", "mamba2 normalised", "gated", "gated_before"])
def test_fp32_at_the_end_points(name):
    """Decays of -20, -200, -10000 and -oo among weak ones; nothing overflows, forward or backward."""
    architecture = CHUNKED[name]
    signals, u = draw(architecture, 150)
    signals = decays_at_the_ends(signals)
    if "g" in signals:
        values = torch.tensor([0.0, -1e-3, -0.1, -20.0, -200.0, -1e4, MIN], dtype=torch.float64)
        signals["g"] = values[torch.randint(0, 7, signals["g"].shape, generator=torch.Generator().manual_seed(3))]
    compare(architecture, signals, u, torch.float32, FP32)


def test_all_decays_zero_forgets_everything():
    signals, u = draw(gated, 70, dtype=torch.float32)
    signals["g"] = torch.full_like(signals["g"], MIN).requires_grad_()
    y, state = dsf.simulate(gated(**signals), u, backend="chunked_scalar")
    expected = (signals["query"] * signals["key"]).sum(-1, keepdim=True) * u
    assert close(y, expected, FP32)
    assert torch.autograd.grad(y.sum() + state.sum(), signals["g"])[0].isfinite().all()


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("backend", ["chunked_scalar", "sequential"])
def test_half_precision_keeps_its_state_in_fp32(dtype, backend):
    signals, u = draw(gated, 130)
    signals = {k: x.to(dtype) for k, x in decays_at_the_ends(signals).items()}
    u = u.to(dtype)
    expected, final = scan(gated(**{k: x.double() for k, x in signals.items()}), u.double())
    y, state = dsf.simulate(gated(**signals), u, backend=backend)
    assert (y.dtype, state.dtype) == (dtype, torch.float32)
    assert close(y, expected, HALF[dtype]) and close(state, final, FP32)
    again, _ = dsf.simulate(gated(**signals), u, state, backend=backend)
    assert again.dtype == dtype and not torch.equal(again, y)


def test_autocast_leaves_the_kernel_in_fp32():
    signals, u = draw(gated, 130, dtype=torch.float32)
    expected, _ = dsf.simulate(gated(**signals), u, backend="chunked_scalar")
    with torch.autocast("cpu", torch.bfloat16):
        y, _ = dsf.simulate(gated(**signals), u, backend="chunked_scalar")
    assert torch.equal(y, expected)


def test_heads_that_share_b_and_c_share_their_product(monkeypatch):
    """One b and c for all heads reach the kernel with an axis of size 1, and agree with their copies."""
    shared = NAMED["retnet"].with_domain(q=dsf.Shared(dsf.Vector), k=dsf.Shared(dsf.Vector))
    signals, u = draw(shared, 70, heads=4)
    copied = signals | {k: signals[k].expand(-1, -1, 4, -1) for k in "qk"}
    heads = []
    chunk = chunked_scalar._chunk
    monkeypatch.setattr(chunked_scalar, "_chunk", lambda *a: heads.append(a[2].shape[1]) or chunk(*a))
    y, _ = dsf.simulate(shared(**signals), u, backend="chunked_scalar")
    assert set(heads) == {1}
    assert close(y, dsf.simulate(NAMED["retnet"](**copied), u, backend="chunked_scalar")[0], EXACT)


# ------------------------------------------------------------------------------------------- what a run must respect
@pytest.mark.parametrize("name", CHUNKED)
def test_a_carried_state_continues_the_run(name):
    architecture = CHUNKED[name]
    signals, u = draw(architecture, 150)
    system = architecture(**signals)
    whole, final = dsf.simulate(system, u, backend="chunked_scalar")
    state, parts = None, []
    for lo, hi in ((0, 1), (1, 70), (70, 70), (70, 150)):
        y, state = dsf.simulate(system.slice(lo, hi), u[:, lo:hi], state, backend="chunked_scalar")
        parts.append(y)
    assert close(torch.cat(parts, 1), whole, EXACT) and close(state, final, EXACT)


@pytest.mark.parametrize("name", CHUNKED)
def test_the_past_does_not_see_the_future(name):
    architecture, t = CHUNKED[name], 37
    signals, u = draw(architecture, 100)
    other, v = draw(architecture, 100, seed=5)
    for key, domain in architecture.signals.items():
        other[key] = signals[key] if domain.const else torch.cat([signals[key][:, :t], other[key][:, t:]], 1)
    v = torch.cat([u[:, :t], v[:, t:]], 1)
    y, z = (dsf.simulate(architecture(**s), w, backend="chunked_scalar")[0] for s, w in ((signals, u), (other, v)))
    assert torch.equal(y[:, :t], z[:, :t]) and not torch.equal(y[:, t:], z[:, t:])


def test_an_initial_state_belongs_to_the_system():
    from dataclasses import replace

    signals, u = draw(gated, 70)
    x0 = start(gated, signals, u)
    system = replace(gated(**signals), x0=x0)
    for backend in ("auto", "reference", "sequential"):
        assert close(dsf.simulate(system, u, backend=backend)[0], scan(gated(**signals), u, x0)[0], EXACT)
    for run in (dsf.simulate, scan):
        with pytest.raises(ValueError, match="the state should be"):
            run(replace(system, x0=x0[:1]), u)


def test_numbers_as_decays():
    key, u = torch.randn(2, 80, 2, 4, dtype=torch.float64), torch.randn(2, 80, 2, 3, dtype=torch.float64)
    for a in (0, 0.5, 1):
        system = dsf.System(A=a * dsf.I, B=key, C=key)
        assert close(dsf.simulate(system, u, backend="chunked_scalar")[0], scan(system, u)[0], EXACT)
    with pytest.raises(ValueError, match="negative"):
        dsf.simulate(dsf.System(A=-0.5 * dsf.I, B=key, C=key), u, backend="chunked_scalar")


def test_a_bidirectional_system_runs_both_ways():
    signals, u = draw(gated, 80)
    both = dsf.bidirectional(gated(**signals), gated(**signals))
    assert close(dsf.simulate(both, u)[0], scan(both, u)[0], EXACT)
    assert dsf.explain(both, u).kernel == "chunked_scalar" and "backward in time" in str(dsf.explain(both, u))


# ------------------------------------------------------------------------------------------------ memory and autograd
def test_segments_sum_and_never_subtract():
    g = torch.tensor([-1.0, MIN, -2.0, -1e30])
    E = segments(g)
    expected = torch.tensor([[math.exp(sum(g[j:i].tolist())) if j <= i else 0.0 for j in range(5)] for i in range(5)])
    assert torch.equal(E, expected)


@pytest.mark.parametrize("before", [False, True])
def test_gradients_and_their_gradients(before):
    step = chunked_scalar._chunk_before if before else chunked_scalar._chunk_after
    shapes = ((1, 2, 2, 2), (1, 2, 5), (1, 1, 5, 2), (1, 2, 5, 2), (1, 2, 5, 2))
    inputs = [
        torch.randn(s, dtype=torch.float64, generator=torch.Generator().manual_seed(i)) for i, s in enumerate(shapes)
    ]
    inputs = [x.requires_grad_() for x in inputs]

    def f(*inputs):
        return over_chunks(step, 2, *inputs)

    assert torch.autograd.gradcheck(f, inputs) and torch.autograd.gradgradcheck(f, inputs)


def test_the_transforms_of_torch_func():
    signals, u = draw(gated, 2 * CHUNK, heads=1, n=2, p=1, batch=1)

    def last(g, backend):
        return dsf.simulate(gated(**signals | {"g": g}), u, backend=backend)[0][:, -1].sum()

    g = signals["g"].clamp(min=-1)
    found, expected = (torch.func.grad(last)(g, backend) for backend in ("chunked_scalar", "reference"))
    assert close(found, expected, EXACT) and found.any()


def test_backward_keeps_inputs_and_one_state_per_chunk():
    heads, length, n = 2, 10 * CHUNK, 8
    signals, u = draw(gated, length, heads=heads, n=n, p=n, batch=1)
    signals["g"].requires_grad_()
    system, saved = gated(**signals), {}
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.setdefault(id(x), x), lambda x: x):
        dsf.simulate(system, u, backend="chunked_scalar")
    states, inputs = heads * n * n * length // CHUNK, heads * length * (3 * n + 1)
    assert sum(x.numel() for x in saved.values()) <= states + inputs


@pytest.mark.parametrize("backend", ["sequential", "chunked_scalar"])
@pytest.mark.parametrize(
    "architecture", [gated, NAMED["mamba2"], dsf.architecture_named("lstm")], ids=["own", "mamba2", "lstm"]
)
def test_no_gradient_of_full_length_per_step(architecture, backend):
    """x[:, t] in a loop gives, backward, a full-size gradient at every step: quadratic in time."""
    if architecture.feedback and backend != "sequential":
        return
    signals, u = draw(architecture, 2 * CHUNK)
    for x in (*signals.values(), u):
        x.requires_grad_()
    y, _ = dsf.simulate(architecture(**signals), u, backend=backend)
    seen, todo = set(), [y.grad_fn]
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.add(node)
            todo += [above for above, _ in node.next_functions]
    slices = [node for node in seen if node.name() in ("SelectBackward0", "SliceBackward0")]
    assert sum(node._saved_self_sym_sizes[node._saved_dim] > 1 for node in slices) < 10


# ------------------------------------------------------------------------------------------------ which kernel, and why
ZOO = {k: a for k, a in dsf.architectures().items() if a.body.__module__.startswith("dsf.zoo")}


def test_the_sixteen_are_here():
    assert len(ZOO) >= 16 and NAMED.keys() <= ZOO.keys()


@pytest.mark.parametrize("name", ZOO)
def test_the_kernel_of_every_architecture(name):
    signals, u = draw(ZOO[name], 64, n=4)
    system = ZOO[name](**signals)
    assert dsf.explain(system, u).kernel == dsf.explain(system).kernel == EXPECTED.get(name, "sequential")
    y, state = dsf.simulate(system, u)
    expected, final = scan(system, u)
    pairs = zip((y, *_tuple(state)), (expected, *_tuple(final)), strict=True)
    assert all(
        close(torch.view_as_real(a) if a.is_complex() else a, torch.view_as_real(b) if b.is_complex() else b, EXACT)
        for a, b in pairs
    )


EXPECTED = dict.fromkeys(NAMED | ZOO_NORMALISED, "chunked_scalar")


def _tuple(state):
    return state if isinstance(state, tuple) else (state,)


@pytest.mark.parametrize("name", CHUNKED)
def test_structure_and_not_the_name_decides(name):
    signals, u = draw(CHUNKED[name], 64)
    assert dsf.explain(CHUNKED[name](**signals), u).kernel == "chunked_scalar"


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
        ("s4d", "C is an operator (RealPart)"),
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
    assert explained.kernel == "sequential" and reason in explained.declined["chunked_scalar"]


def test_explain_says_what_it_assumes_and_measures_nothing():
    signals, u = draw(gated, 640)
    text = str(dsf.explain(gated(**signals)))
    assert "p = 64 assumed" in text and "not measured" in text
    times = [line for line in text.splitlines() if " ms" in line]
    assert len(times) == 3 and all("predicted, nominal" in line for line in times)
    assert "assumed" not in str(dsf.explain(gated(**signals), u))
    assert "T = 1024" in str(dsf.explain(dsf.System(A=0.5 * dsf.I, B=torch.ones(1, 1, 1, 2), C=torch.ones(1, 1, 1, 2))))
    steps = dsf.explain(gated_steps(**draw(gated_steps, 64)[0]))
    assert steps.route == ("Product (time x J)", "Scaled") and "J 3" in str(steps)


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
    for flops, chosen in ((0.0, "free"), (1e15, "chunked_scalar")):
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
        source = importlib.util.find_spec(module.name).loader.get_source(module.name)
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

    assert dsf.explain(arch(**signals), u).kernel == "chunked_scalar"
    expected = torch.autograd.grad(run(*leaves), leaves)
    for a, b in zip(torch.autograd.grad(checkpoint(run, *leaves, use_reentrant=False), leaves), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
