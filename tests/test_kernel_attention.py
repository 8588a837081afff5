"""Infinite features through torch's fused attention: the reference, in every form of bias, with and without a past."""

import math
from dataclasses import replace

import pytest
import torch

import dsf
from dsf import I, Shared, Vector, architecture, features, normalised, pairwise
from dsf.reference import scan
from dsf_kernels import attention_parts
from dsf_kernels.eager import attention, flash_attention
from dsf_kernels.registry import kernels
from kernel_cases import EXACT, FP32, HALF, close, poisoned_memory  # noqa: F401
from test_attention_features import ALL, draw

pytestmark = pytest.mark.usefixtures("poisoned_memory")
KERNEL = "scaled_dot_product"
DECLINED = {"capped": "q^T k plus a bias", "bare": "not normalised", "floored": "floor", "everything": "q^T k"}
RUN = [name for name in ALL if name.split(",")[0] not in DECLINED]
every = pytest.mark.parametrize("name", RUN)


def cut(name, signals, u, start, stop):
    arch = ALL[name]
    return {k: x if arch.signals[k].const else x[:, start:stop] for k, x in signals.items()}, u[:, start:stop]


def finite(x):
    """Log weights are -oo in both or in neither."""
    return x.masked_fill(x == -math.inf, -1e9)


def with_gradients(arch, signals, u, state, backend, dtype=torch.float64):
    """y, the past after it, and the gradients of all that goes in under a weight of every finite entry of these."""
    given = [x.to(dtype).clone().requires_grad_() for x in (*signals.values(), u, *(state or ()))]
    past = tuple(given[len(signals) + 1 :]) or None
    y, final = dsf.simulate(arch(**dict(zip(signals, given, strict=False))), given[len(signals)], past, backend=backend)
    generator, loss = torch.Generator().manual_seed(1), 0.0
    for x in (y, *final):
        weight = torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x.dtype)
        loss = loss + torch.where(x == -math.inf, 0, x * weight).sum()
    gradients = torch.autograd.grad(loss, given, materialize_grads=True)
    names = ["y", *(f"past {i}" for i in range(len(final)))]
    names += [f"d {name}" for name in (*signals, "u", *(f"past {i}" for i in range(len(past or ()))))]
    return dict(zip(names, (finite(x.detach()) for x in (y, *final, *gradients)), strict=True))


def assert_same(found, expected, tolerance):
    wrong = [name for name, x in expected.items() if not close(found[name], x, tolerance)]
    assert not wrong


@pytest.fixture(params=[4, 256], ids=lambda size: f"blocks of {size}")
def blocks(request, monkeypatch):
    monkeypatch.setattr(attention_parts, "BLOCK", request.param)


@pytest.mark.parametrize(("past", "length"), [(0, 1), (0, 11), (5, 1), (9, 7), (3, 20), (4, 0)])
@every
def test_outputs_pasts_and_gradients(name, past, length, blocks):
    arch, signals, u = draw(name, length=past + length)
    state = scan(arch(**cut(name, signals, u, 0, past)[0]), u[:, :past])[1] if past else None
    signals, u = cut(name, signals, u, past, past + length)
    expected, found = (with_gradients(arch, signals, u, state, backend) for backend in ("reference", KERNEL))
    assert_same(found, expected, EXACT)


@pytest.mark.parametrize("length", [63, 65, 300])
@every
def test_lengths_around_a_block(name, length):
    arch, signals, u = draw(name, length=length, batch=1)
    expected, found = (with_gradients(arch, signals, u, None, backend) for backend in ("reference", KERNEL))
    assert_same(found, expected, EXACT)


@every
def test_fp32(name, blocks):
    arch, signals, u = draw(name, length=40)
    signals, u = {k: x.float().double() for k, x in signals.items()}, u.float().double()
    expected = with_gradients(arch, signals, u, None, "reference")
    assert_same(with_gradients(arch, signals, u, None, KERNEL, torch.float32), expected, FP32)


@pytest.mark.parametrize("dtype", HALF)
@every
def test_half_precision(name, dtype):
    arch, signals, u = draw(name, length=40)
    signals, u = {k: x.to(dtype) for k, x in signals.items()}, u.to(dtype)
    expected, _ = scan(arch(**{k: x.double() for k, x in signals.items()}), u.double())
    y, state = dsf.simulate(arch(**signals), u, backend=KERNEL)
    assert y.dtype == dtype and {x.dtype for x in state} == {torch.float32} and close(y, expected, HALF[dtype])
    again, _ = dsf.simulate(arch(**signals), u, state, backend=KERNEL)
    assert again.dtype == dtype and again.isfinite().all()


@every
def test_token_by_token(name):
    arch, signals, u = draw(name, length=9)
    whole, final = dsf.simulate(arch(**signals), u, backend=KERNEL)
    state, outputs = None, []
    for t in range(9):
        now, token = cut(name, signals, u, t, t + 1)
        y, state = dsf.simulate(arch(**now), token, state, backend=KERNEL)
        outputs.append(y)
    assert close(torch.cat(outputs, 1), whole, EXACT)
    assert all(close(finite(a), finite(b), EXACT) for a, b in zip(state, final, strict=True))


@every
def test_the_past_does_not_see_the_future(name, blocks):
    arch, signals, u = draw(name, length=20)
    other = {k: x if arch.signals[k].const else x.clone() for k, x in signals.items()}
    for key in other.keys() & {"q", "k", "w", "g"}:
        other[key][:, 13:, ..., :1] -= 1.0  # positions, the last entries, stay
    later = torch.cat([u[:, :13], u[:, 13:] + 1], 1)
    y, z = (dsf.simulate(arch(**s), v, backend=KERNEL)[0] for s, v in ((signals, u), (other, later)))
    assert torch.equal(y[:, :13], z[:, :13]) and not torch.equal(y[:, 13:], z[:, 13:])


@every
def test_nothing_seen_is_zero(name):
    """Weights, decays and sinks of 0: no NaN, forward or backward, with a past or without."""
    arch, signals, u = draw(name, length=12)
    for key in signals.keys() & {"g", "w", "s"}:
        signals[key] = torch.full_like(signals[key], -math.inf)
    state = scan(arch(**cut(name, signals, u, 0, 5)[0]), u[:, :5])[1]
    expected, found = (with_gradients(arch, signals, u, None, backend) for backend in ("reference", KERNEL))
    assert_same(found, expected, EXACT)
    signals, u = cut(name, signals, u, 5, 12)
    expected, found = (with_gradients(arch, signals, u, state, backend) for backend in ("reference", KERNEL))
    assert_same(found, expected, EXACT)


@pytest.mark.parametrize("g", [0.0, -20.0, -200.0, -1e4, -1e30, -math.inf])
def test_decays_of_every_size(g, blocks):
    arch, signals, u = draw("forgetting", length=30)
    signals["g"][:, ::3] = g
    expected, found = (with_gradients(arch, signals, u, None, backend) for backend in ("reference", KERNEL))
    assert_same(found, expected, EXACT)


def test_positions_that_jump_and_positions_in_order_agree(monkeypatch):
    """The table is read along diagonals only where every position follows the one before."""
    calls = []
    diagonals = attention_parts._diagonals
    monkeypatch.setattr(attention_parts, "_diagonals", lambda *a: calls.append(a) or diagonals(*a))
    arch, signals, u = draw("biased", length=30)
    for jump, read in ((0, True), (2, False)):
        signals["k"][0, 20:, :, -1] += jump
        before = len(calls)
        expected, found = (with_gradients(arch, signals, u, None, backend) for backend in ("reference", KERNEL))
        assert_same(found, expected, EXACT)
        assert (len(calls) > before) == read


@pytest.mark.parametrize("past", [0, 9])
def test_a_table_gets_its_gradient(past, blocks):
    _, signals, u = draw("biased", length=20 + past)
    table = torch.randn(4, 5, dtype=torch.float64).requires_grad_()

    @architecture("learned", register=False)
    def learned(q=Vector, k=Vector):
        B, C = (features.relative(x, table) for x in (k, q))
        return normalised(dsf.System(A=I, B=B, C=C))

    state = scan(learned(**{k: x[:, :past] for k, x in signals.items()}), u[:, :past])[1] if past else None
    signals = {k: x[:, past:] for k, x in signals.items()}
    found, expected = (
        torch.autograd.grad(
            dsf.simulate(learned(**signals), u[:, past:], state, backend=backend)[0].square().sum(), table
        )[0]
        for backend in (KERNEL, "reference")
    )
    assert close(found, expected, EXACT) and expected.any()


@pytest.mark.parametrize("name", ["alibi", "sinking", "biased", "everything relative"])
def test_derivatives_of_the_gradient(name):
    """Those of the reference; and torch.func's transforms pass."""
    arch, signals, u = draw(name, length=5, batch=1)

    def second(backend):
        inputs = [x.clone().requires_grad_() for x in (*signals.values(), u)]
        y, _ = dsf.simulate(arch(**dict(zip(signals, inputs, strict=False))), inputs[-1], backend=backend)
        first = torch.autograd.grad(y.pow(2).sum(), inputs, create_graph=True)
        return torch.autograd.grad(sum(g.pow(2).sum() for g in first), inputs, materialize_grads=True)

    for a, b in zip(second(KERNEL), second("reference"), strict=True):
        assert close(a, b, EXACT)
    gradient = torch.func.grad(lambda u: dsf.simulate(arch(**signals), u, backend=KERNEL)[0].sum())(u)
    assert gradient.isfinite().all() and gradient.any()


@pytest.mark.parametrize("name", ["alibi", "window", "padded", "everything relative"])
def test_no_matrix_of_all_pairs(name, monkeypatch):
    """Neither kept, nor made: no tensor has an entry for every pair of 1024 tokens."""
    arch, signals, u = draw(name, length=1024, batch=1, n=4, p=4)
    if "w" in signals:
        signals["w"] = torch.zeros_like(signals["w"])
    sizes = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, f, types, args=(), kwargs=None):
            out = f(*args, **(kwargs or {}))
            for x in out if isinstance(out, tuple) else (out,):
                if isinstance(x, torch.Tensor):
                    sizes.append(x.shape[-1] * x.shape[-2] if x.dim() > 1 else 0)
            return out

    inputs = [x.requires_grad_() for x in (*signals.values(), u)]
    with Watch():
        y, _ = dsf.simulate(arch(**signals), u, backend=KERNEL)
        torch.autograd.grad(y.sum(), inputs, materialize_grads=True)
    assert 0 < max(sizes) <= attention_parts.BLOCK * 1024


def test_plain_attention_is_one_call(monkeypatch):
    calls = []
    fused = attention.fused
    monkeypatch.setattr(attention, "fused", lambda *a: calls.append(a[-1]) or fused(*a))
    arch, signals, u = draw("window", length=700, batch=1)
    plain = dsf.architecture_named("softmax_attention")
    y, state = dsf.simulate(plain(**signals), u, backend=KERNEL)
    assert [(part.causal, part.bias) for part in calls] == [(True, None)]
    dsf.simulate(plain(**signals), u, state, backend=KERNEL)
    assert [(part.causal, part.bias) for part in calls[1:]] == [(False, None), (True, None)]
    dsf.simulate(arch(**signals), u, backend=KERNEL)
    assert max(part.bias.shape[-1] for part in calls[3:]) <= attention_parts.BLOCK + 3


def test_heads_that_share_a_key_are_not_copied(monkeypatch):
    strides = []
    fused = attention.fused
    monkeypatch.setattr(attention, "fused", lambda *a: strides.append(a[1].stride(1)) or fused(*a))
    shared = dsf.architecture_named("softmax_attention").with_domain(k=dsf.Shared(Vector))
    signals, u = shared.sample(2, 20, 4, 4, 4)
    y, _ = dsf.simulate(shared(**signals), u, backend=KERNEL)
    assert close(y, scan(shared(**signals), u)[0], EXACT) and strides == [0]


@pytest.mark.parametrize("name", ALL)
def test_which_kernel(name):
    arch, signals, u = draw(name, length=pairwise.BLOCK)
    explained = dsf.explain(arch(**signals), u)
    base = name.split(",")[0]
    assert explained.kernel == ("sequential" if base in DECLINED else KERNEL)
    assert base not in DECLINED or DECLINED[base] in explained.declined[KERNEL]


def test_autocast_leaves_fp32_as_it_is():
    arch, signals, u = draw("everything relative", length=20)
    signals, u = {k: x.float() for k, x in signals.items()}, u.float()
    expected = with_gradients(arch, signals, u, None, KERNEL, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found = with_gradients(arch, signals, u, None, KERNEL, torch.float32)
    assert_same(found, expected, 1e-6)


# ---------------------------------------------------------------------------------------------------------- on CUDA
@pytest.fixture
def anywhere(monkeypatch):
    """The kernel of CUDA on the CPU: what it calls is torch's, for every device."""
    known = kernels()
    monkeypatch.setitem(known, "flash_attention", replace(known["flash_attention"], devices=None))


@pytest.mark.parametrize(("past", "length"), [(0, 1), (0, 70), (5, 1), (9, 7)])
@pytest.mark.parametrize("shared", [False, True])
def test_flash_attention(shared, past, length, anywhere):
    arch = dsf.architecture_named("softmax_attention")
    arch = arch.with_domain(k=Shared(Vector, 2)) if shared else arch
    signals, u = arch.sample(2, past + length, 4, 5, 3)
    before, after = ({k: x[:, now] for k, x in signals.items()} for now in (slice(past), slice(past, None)))
    state = scan(arch(**before), u[:, :past])[1] if past else None
    signals, u = after, u[:, past:]
    expected, found = (with_gradients(arch, signals, u, state, backend) for backend in ("reference", "flash_attention"))
    assert_same(found, expected, EXACT)


@every
def test_flash_attention_leaves_what_stands_beside_the_scores(name):
    arch, signals, u = draw(name, length=8)
    assert "bias, a window" in (flash_attention.declines(arch(**signals)) or "")
