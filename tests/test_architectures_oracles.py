"""Every architecture against implementations that share nothing with it: the papers' loops, torch.nn, transformers.

Outputs, final states and the gradient of every input; each comparison has controls that must fail.
"""

import math

import pytest
import torch
from torch.nn import functional as F

import dsf
from dsf.reference import scan
from helpers import flat, generator, numbers, relative, sampled
from oracles import ORACLES

EXACT = 1e-10  # fp64, relative
MODULES = 1e-12  # fp64 against torch.nn, relative
FP32 = 1e-5  # against functions of transformers, which compute in fp32
VISIBLE = 1e-4  # what a perturbed input must change, relative
RESETS = {"retnet": "log_gamma", "gla": "g", "gated_deltanet": "g", "rwkv6": "w", "kda": "g", "rglru": "g"}

ARCHITECTURES = dict(dsf.architectures())
every = pytest.mark.parametrize("name", ARCHITECTURES)


def test_every_architecture_has_an_oracle():
    assert set(ARCHITECTURES) <= set(ORACLES)


def run(name):
    return lambda signals, u: flat(scan(ARCHITECTURES[name](**signals), u))


def oracle(name):
    return lambda signals, u: flat(ORACLES[name](signals, u))


def gradients(f, signals, u):
    """d loss / d input for a loss that weighs every entry of the outputs and of the final state differently."""
    inputs = [x.detach().clone().requires_grad_() for x in (*signals.values(), u)]
    results = f(dict(zip(signals, inputs[:-1], strict=True)), inputs[-1])
    loss = 0
    for i, part in enumerate(results):
        if part.requires_grad:
            weights = numbers(*part.shape, seed=i, special=0)
            weights = torch.complex(weights, weights.flip(0)) if part.is_complex() else weights
            loss = loss + (weights * part).abs().square().sum() + (weights * part).real.sum()
    found = torch.autograd.grad(loss, inputs, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for g, x in zip(found, inputs, strict=True)]


@pytest.mark.parametrize("ends", [0.0, 0.3])
@every
def test_outputs_states_and_gradients_are_the_papers(name, ends):
    signals, u = sampled(ARCHITECTURES[name], ends=ends)
    for found, expected in zip(run(name)(signals, u), oracle(name)(signals, u), strict=True):
        assert found.dtype == expected.dtype and relative(found, expected) < EXACT
    ours, theirs = gradients(run(name), signals, u), gradients(oracle(name), signals, u)
    for key, found, expected in zip((*signals, "u"), ours, theirs, strict=True):
        if expected.abs().max() == 0:
            assert found.abs().max() < EXACT, key
        else:
            assert relative(found, expected) < EXACT, key


@every
def test_the_comparison_fails_where_one_input_is_perturbed(name):
    """Also where a parameter is: dt and lam of S4D, R of the LSTM."""
    signals, u = sampled(ARCHITECTURES[name], ends=0.0)
    y, *states = oracle(name)(signals, u)
    for key, x in (signals | {"u": u}).items():
        wrong = x + 0.1 * numbers(*x.shape, seed=3, special=0)
        found = run(name)({k: wrong if k == key else x for k, x in signals.items()}, wrong if key == "u" else u)
        assert relative(found[0], y) > VISIBLE, key
        reads_only = key in ("q", "r", "c", "d", "o", "bonus") or (name, key) == ("short_convolution", "w")
        if not reads_only:
            assert max(relative(a, b) for a, b in zip(found[1:], states, strict=True)) > VISIBLE, key


@pytest.mark.parametrize("name", RESETS)
def test_a_gate_of_exactly_zero_is_a_reset(name):
    """log decay = -oo, forward and backward, in fp32: what was before is forgotten, and no gradient is NaN."""
    arch, key, cut = ARCHITECTURES[name], RESETS[name], 4
    signals, u = sampled(arch, dtype=torch.float32, ends=0.0)
    at = slice(None) if arch.signals[key].const else (slice(None), cut)
    signals[key][at] = -math.inf
    inputs = {k: x.requires_grad_() for k, x in (signals | {"u": u}).items()}
    y, state = scan(arch(**signals), u)
    start = cut + (name == "rwkv6")  # RWKV-6 reads before it updates
    fresh = {k: x if arch.signals[k].const else x[:, cut:] for k, x in signals.items()}
    y_fresh, state_fresh = scan(arch(**fresh), u[:, cut:])
    torch.testing.assert_close(y[:, start:], y_fresh[:, start - cut :])
    torch.testing.assert_close(state, state_fresh)
    (y.square().sum() + state.square().sum()).backward()
    assert all(x.grad.isfinite().all() for x in inputs.values())


@pytest.mark.parametrize("name", ["deltanet", "gated_deltanet", "deltaproduct"])
@pytest.mark.parametrize("beta", [0.0, 1.0, 2.0])
def test_the_ends_of_beta(name, beta):
    wide = dsf.Scalar(0, 2)
    arch = ARCHITECTURES[name].with_domain(beta=dsf.Each(wide) if name == "deltaproduct" else wide)
    signals, u = sampled(arch, ends=0.0)
    signals["beta"] = torch.full_like(signals["beta"], beta)
    for found, expected in zip(run(name)(signals, u), oracle(name)(signals, u), strict=True):
        assert (found - expected).abs().max() < EXACT
    assert all(g.isfinite().all() for g in gradients(run(name), signals, u))


# --- torch.nn --------------------------------------------------------------------------------------------------------

GATES = {"RNN": "u", "LSTM": "ifuo", "GRU": "rzu"}  # in the order in which torch stacks them
ARCH = {"RNN": "elman", "LSTM": "lstm", "GRU": "gru"}


def from_module(module, x):
    """The signals of one head and the drive from a torch.nn layer and its input."""
    kind, n = type(module).__name__, module.hidden_size
    w, r, b, c = (getattr(module, f"{part}_l0").detach() for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    if kind == "GRU":  # r multiplies Ru y + bias
        b = torch.cat([b[: 2 * n] + c[: 2 * n], b[2 * n :]])
    else:
        b = b + c
    pre = dict(zip(GATES[kind], (x @ w.T + b)[:, :, None].split(n, -1), strict=True))
    recurrent = {"R" if kind == "RNN" else f"R{g}": R[None] for g, R in zip(GATES[kind], r.split(n), strict=True)}
    bias = {"bias": c[None, 2 * n :]} if kind == "GRU" else {}
    return {k: v for k, v in pre.items() if k != "u"} | recurrent | bias, pre["u"]


@pytest.mark.parametrize("kind", GATES)
def test_recurrent_networks_are_torch_nn(kind):
    torch.manual_seed(1)
    module = getattr(torch.nn, kind)(4, 5, batch_first=True).double()
    x = numbers(3, 11, 4, special=0)
    with torch.no_grad():
        expected, last = module(x)
    signals, u = from_module(module, x)
    y, (state, read) = scan(ARCHITECTURES[ARCH[kind]](**signals), u)
    assert relative(y[:, :, 0], expected) < MODULES
    hidden, cell = last if kind == "LSTM" else (last, last)
    assert relative(read[:, 0], hidden[0]) < MODULES and relative(state[:, 0, :, 0], cell[0]) < MODULES
    for key in signals:
        wrong = scan(ARCHITECTURES[ARCH[kind]](**(signals | {key: signals[key] + 0.1})), u)[0]
        assert relative(wrong[:, :, 0], expected) > VISIBLE


# --- transformers ----------------------------------------------------------------------------------------------------


def test_mamba_is_transformers():
    modeling = pytest.importorskip("transformers.models.mamba.modeling_mamba")
    signals, u = sampled(ARCHITECTURES["mamba"], length=11, heads=6, n=4, p=1, dtype=torch.float32)

    def theirs(dt):
        b, c = (signals[k][:, :, 0].mT for k in "bc")
        y, state = modeling.mamba_selective_scan(
            u[..., 0].mT, dt.mT, -signals["log_a"].exp(), b, c, D=signals["d"], return_last_state=True
        )
        return y.mT[..., None], state[..., None]

    for found, expected in zip(run("mamba")(signals, u), theirs(signals["dt"]), strict=True):
        assert relative(found, expected) < FP32
    assert relative(run("mamba")(signals, u)[0], theirs(signals["dt"] + 0.1)[0]) > VISIBLE


@pytest.mark.parametrize("name", ["mamba2", "retnet", "linear_attention"])
def test_scalar_decays_are_transformers(name):
    modeling = pytest.importorskip("transformers.models.mamba2.modeling_mamba2")
    signals, u = sampled(ARCHITECTURES[name], length=11, n=4, dtype=torch.float32)
    dt = signals.get("dt", torch.ones(u.shape[:3]))
    rate = -signals["log_a"].exp() if name == "mamba2" else signals.get("log_gamma", torch.zeros(u.shape[2]))

    def theirs(rate):
        q, k, d = signals["q"], signals["k"], signals.get("d")
        y, state = modeling.mamba2_chunk_scan(u, dt, rate, k, q, chunk_size=5, D=d, return_final_states=True)
        return y, state.mT

    for found, expected in zip(run(name)(signals, u), theirs(rate), strict=True):
        assert relative(found, expected) < FP32
    assert relative(run(name)(signals, u)[0], theirs(rate - 0.2)[0]) > VISIBLE


@pytest.mark.parametrize("form", ["chunk", "recurrent"])
@pytest.mark.parametrize("name", ["deltanet", "gated_deltanet"])
def test_delta_rules_are_transformers(name, form):
    modeling = pytest.importorskip("transformers.models.qwen3_next.modeling_qwen3_next")
    rule = getattr(modeling, f"torch_{form}_gated_delta_rule")
    signals, u = sampled(ARCHITECTURES[name], length=11, n=4, dtype=torch.float32)
    q, k, g = signals["q"], signals["k"], signals.get("g", torch.zeros(u.shape[:3]))

    def theirs(beta):
        return rule(q * 2, k, u, g, beta, output_final_state=True)  # theirs divides q by sqrt(n) = 2

    for found, expected in zip(run(name)(signals, u), theirs(signals["beta"]), strict=True):
        assert relative(found, expected) < FP32
    assert relative(run(name)(signals, u)[0], theirs(signals["beta"] / 2)[0]) > VISIBLE


def test_softmax_attention_is_torchs():
    signals, u = sampled(ARCHITECTURES["softmax_attention"], length=11)
    q, k, v = (x.transpose(1, 2) for x in (signals["q"], signals["k"], u))
    expected = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1.0).transpose(1, 2)
    assert relative(run("softmax_attention")(signals, u)[0], expected) < MODULES
    shifted = F.scaled_dot_product_attention(q, k.roll(1, 2), v, is_causal=True, scale=1.0).transpose(1, 2)
    assert relative(run("softmax_attention")(signals, u)[0], shifted) > VISIBLE


def test_samples_are_repeatable():
    arch = ARCHITECTURES["gla"]
    first, second = (arch.sample(1, 4, 1, 2, 2, generator=generator(7)) for _ in range(2))
    assert torch.equal(first[1], second[1]) and all(torch.equal(first[0][k], second[0][k]) for k in first[0])


# --- what an error in one file of the zoo would look like -----------------------------------------------------------


def test_the_order_of_decay_and_reflection_matters():
    """Kimi delta attention decays first; where all channels decay alike, the two orders agree, and no test can tell."""

    @dsf.architecture("Kimi delta attention, in the other order", register=False)
    def swapped(q=dsf.Vector, k=dsf.Unit, beta=dsf.Gate, g=dsf.Vector(-math.inf, 0)):
        A = dsf.diag(dsf.decay(g)) @ (dsf.I - beta * dsf.outer(k))
        return dsf.System(A=A, B=beta * k, C=q)

    signals, u = sampled(ARCHITECTURES["kda"], ends=0.0)
    assert relative(scan(swapped(**signals), u)[0], oracle("kda")(signals, u)[0]) > VISIBLE
    signals["g"] = signals["g"][..., :1].expand_as(signals["g"])
    assert relative(scan(swapped(**signals), u)[0], oracle("kda")(signals, u)[0]) < EXACT


def test_rglru_near_no_decay():
    """sqrt(1 - e^{2g}) has every digit in fp32, and at g = 0, where its slope is infinite, one of 1000 (and no NaN)."""
    arch = ARCHITECTURES["rglru"]
    near = -torch.tensor([0.0, 1e-12, 1e-9, 1e-7, 1e-6, 1e-3, 1.0, math.inf])
    signals = {"g": near[None, None, None], "i": torch.ones(1, 1, 1, 8)}
    g = signals["g"].clone().requires_grad_()
    y, _ = scan(arch(g=g, i=signals["i"]), torch.ones(1, 1, 1, 8))
    exact = torch.sqrt(-torch.expm1(2 * near.double()))
    torch.testing.assert_close(y.detach().double().flatten(), exact, rtol=3e-7, atol=0)
    assert y[0, 0, 0, -1] == 1 and y[0, 0, 0, 0] == 0
    (slope,) = torch.autograd.grad(y.sum(), g)
    bounded = -torch.exp(2 * near.double()) / exact.clamp(min=1 / 2000)
    torch.testing.assert_close(slope.double().flatten(), bounded, rtol=1e-6, atol=0)
    for point in (0.0, -1e-9, -0.5):  # the gradient of the gradient too
        x = torch.full((1, 1, 1, 1), point, dtype=torch.float64, requires_grad=True)
        u = torch.ones(1, 1, 1, 1, dtype=torch.float64)
        (first,) = torch.autograd.grad(scan(arch(g=x, i=u), u)[0].square().sum(), x, create_graph=True)
        assert torch.autograd.grad(first.sum(), x)[0].isfinite().all()


def test_rwkv4_reads_before_it_updates():
    """The first output is the first input, whatever the weights; the bonus is of the present token alone."""
    signals, u = sampled(ARCHITECTURES["rwkv4"], ends=0.0)
    y = scan(ARCHITECTURES["rwkv4"](**signals), u)[0]
    assert relative(y[:, 0], u[:, 0]) < EXACT
    only = ARCHITECTURES["rwkv4"](**(signals | {"bonus": torch.full_like(signals["bonus"], 60.0)}))
    assert relative(scan(only, u)[0], u) < 1e-6


def test_alibi_is_torchs_attention_with_biases():
    signals, u = sampled(ARCHITECTURES["alibi"], length=11, ends=0.0)
    q, k, v = (x.transpose(1, 2) for x in (signals["q"], signals["k"], u))
    distance = torch.arange(11)[:, None] - torch.arange(11)
    bias = torch.where(distance >= 0, -signals["slope"][:, None, None] * distance, -math.inf)
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0).transpose(1, 2)
    assert relative(run("alibi")(signals, u)[0], expected) < MODULES
    assert relative(run("softmax_attention")({"q": signals["q"], "k": signals["k"]}, u)[0], expected) > VISIBLE


def test_short_convolution_is_conv1d():
    signals, u = sampled(ARCHITECTURES["short_convolution"], length=9, heads=6, n=4, p=1)
    weight = signals["w"].flip(-1)[:, None]  # torch's last tap is the present token's
    expected = F.conv1d(u[..., 0].mT, weight, padding=3, groups=6)[..., :9].mT[..., None]
    assert relative(run("short_convolution")(signals, u)[0], expected) < MODULES
    unflipped = F.conv1d(u[..., 0].mT, signals["w"][:, None], padding=3, groups=6)[..., :9].mT[..., None]
    assert relative(run("short_convolution")(signals, u)[0], unflipped) > VISIBLE


@pytest.mark.parametrize("form", ["chunk", "recurrent"])
def test_kda_is_transformers(form):
    modeling = pytest.importorskip("transformers.models.kimi_linear.modeling_kimi_linear")
    rule = getattr(modeling, f"{form}_kimi_delta_attention")
    signals, u = sampled(ARCHITECTURES["kda"], length=11, n=4, dtype=torch.float32, ends=0.0)
    q, k, g, beta = (signals[key] for key in ("q", "k", "g", "beta"))
    expected = rule(q * 2, k, u, g=g, beta=beta, initial_state=None, output_final_state=True)
    for found, right in zip(run("kda")(signals, u), expected, strict=True):
        assert relative(found, right) < FP32
