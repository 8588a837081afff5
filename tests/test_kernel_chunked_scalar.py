"""Scalar decays in chunks: outputs, final state, all gradients, the end points, memory, derivatives of derivatives."""

from functools import partial

import pytest
import torch

import dsf
from dsf.reference import scan
from dsf_kernels import grouped
from dsf_kernels.chunks import over_chunks
from dsf_kernels.eager import chunked_scalar
from dsf_kernels.grouped import CHUNK, segments
from kernel_cases import (
    EXACT,
    FP32,
    HALF,
    MIN,
    check_causal,
    check_half,
    check_pieces,
    check_reference,
    close,
    draw,
    poisoned_memory,  # noqa: F401
)

pytestmark = pytest.mark.usefixtures("poisoned_memory")
KERNEL = "chunked_scalar"


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


def decays_at_the_ends(signals):
    """Decays of e^-20 and of exactly 0 among the others, in every signal that is a log decay."""
    for name in signals.keys() & {"g", "log_gamma"}:
        places = torch.arange(signals[name].numel()).reshape(signals[name].shape) % 5
        signals[name] = signals[name].masked_fill(places == 1, -20.0).masked_fill(places == 3, MIN)
    return signals


# ---------------------------------------------------------------------------------------------- against the reference
@pytest.mark.parametrize("length", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1])
@pytest.mark.parametrize("name", CHUNKED)
def test_chunked_scalar_is_the_reference(name, length):
    signals, u = draw(CHUNKED[name], length)
    check_reference(KERNEL, CHUNKED[name], decays_at_the_ends(signals), u)


@pytest.mark.parametrize("chunks", [1, 3, 16])  # of a group
@pytest.mark.parametrize("name", ["linear_attention", "retnet", "mamba2", "mamba2 normalised", "gated"])
def test_chunked_scalar_is_the_reference_over_many_chunks(name, chunks, monkeypatch):
    monkeypatch.setitem(grouped.TOGETHER, "cpu", chunks * chunked_scalar.MATRICES * CHUNK**2)
    signals, u = draw(CHUNKED[name], 1000, heads=1, n=3, p=2, batch=1)
    check_reference(KERNEL, CHUNKED[name], signals if name != "gated" else decays_at_the_ends(signals), u)


@pytest.mark.parametrize("name", ["linear_attention", "retnet", "mamba2", "mamba2 normalised", "gated", "gated_before"])
def test_fp32_at_the_end_points(name):
    """Decays of -20, -200, -10000 and -oo among weak ones; nothing overflows, forward or backward."""
    architecture = CHUNKED[name]
    signals, u = draw(architecture, 150)
    signals = decays_at_the_ends(signals)
    if "g" in signals:
        values = torch.tensor([0.0, -1e-3, -0.1, -20.0, -200.0, -1e4, MIN], dtype=torch.float64)
        signals["g"] = values[torch.randint(0, 7, signals["g"].shape, generator=torch.Generator().manual_seed(3))]
    check_reference(KERNEL, architecture, signals, u, torch.float32, FP32)


def test_all_decays_zero_forgets_everything():
    signals, u = draw(gated, 70, dtype=torch.float32)
    signals["g"] = torch.full_like(signals["g"], MIN).requires_grad_()
    y, state = dsf.simulate(gated(**signals), u, backend="chunked_scalar")
    expected = (signals["query"] * signals["key"]).sum(-1, keepdim=True) * u
    assert close(y, expected, FP32)
    assert torch.autograd.grad(y.sum() + state.sum(), signals["g"])[0].isfinite().all()


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("kernel", [KERNEL, "sequential"])
def test_half_precision_keeps_its_state_in_fp32(dtype, kernel):
    signals, u = draw(gated, 130)
    check_half(kernel, gated, decays_at_the_ends(signals), u, dtype)


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
    group = chunked_scalar._group
    monkeypatch.setattr(chunked_scalar, "_group", lambda *a, **k: heads.append(a[2].shape[1]) or group(*a, **k))
    y, _ = dsf.simulate(shared(**signals), u, backend="chunked_scalar")
    assert set(heads) == {1}
    assert close(y, dsf.simulate(NAMED["retnet"](**copied), u, backend="chunked_scalar")[0], EXACT)


# ------------------------------------------------------------------------------------------- what a run must respect
@pytest.mark.parametrize("name", CHUNKED)
def test_a_carried_state_continues_the_run(name):
    check_pieces(KERNEL, CHUNKED[name], *draw(CHUNKED[name], 150))


@pytest.mark.parametrize("name", CHUNKED)
def test_the_past_does_not_see_the_future(name):
    check_causal(KERNEL, CHUNKED[name])


def test_numbers_as_decays():
    key, u = torch.randn(2, 80, 2, 4, dtype=torch.float64), torch.randn(2, 80, 2, 3, dtype=torch.float64)
    for a in (0, 0.5, 1):
        system = dsf.System(A=a * dsf.I, B=key, C=key)
        assert close(dsf.simulate(system, u, backend="chunked_scalar")[0], scan(system, u)[0], EXACT)
    with pytest.raises(ValueError, match="negative"):
        dsf.simulate(dsf.System(A=-0.5 * dsf.I, B=key, C=key), u, backend="chunked_scalar")


# ------------------------------------------------------------------------------------------------ memory and autograd
def test_segments_sum_and_never_subtract():
    g = torch.tensor([-1.0, MIN, -2.0, -1e30])
    E = segments(g)
    sums = [[sum(g[j + 1 : i + 1].tolist()) if j <= i else MIN for j in range(4)] for i in range(4)]
    expected = torch.tensor(sums).exp()
    assert torch.equal(E, expected)


@pytest.mark.parametrize("before", [False, True])
def test_gradients_and_their_gradients(before):
    step, back = partial(chunked_scalar._group, before=before), partial(chunked_scalar._group_back, before=before)
    shapes = ((1, 2, 2, 2), (1, 2, 5, 1), (1, 1, 5, 2), (1, 2, 5, 2), (1, 2, 5, 2))
    inputs = [
        torch.randn(s, dtype=torch.float64, generator=torch.Generator().manual_seed(i)) for i, s in enumerate(shapes)
    ]
    inputs = [x.requires_grad_() for x in inputs]

    def f(*inputs):
        return over_chunks(step, 2, *inputs, back=back)

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
