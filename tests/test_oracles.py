"""The oracles against implementations that share nothing with them: torch's layers and optimisers, scipy, transformers.

Every comparison has its failing controls: each signal in turn is perturbed, and the results must then differ.
"""

import ast
import math
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import torch
from torch.nn import functional as F

from oracles import ORACLES
from oracles._discretization import gbt, zoh
from oracles._loops import over_heads
from oracles.lssl import hippo_legs

EXACT = 1e-12  # two fp64 computations of the same formula, relative
FP32 = 1e-5  # against functions that cast to fp32 inside, relative
VISIBLE = 1e-3  # what a control must exceed, relative

B, T, H, N, P, J = 2, 12, 2, 4, 3, 2


class Sizes:
    """Random signals of given sizes in the public layout; all of them float64 (complex128) values."""

    def __init__(self, seed=0, batch=B, length=T, heads=H, n=N, p=P, micro=J):
        self.batch, self.length, self.heads, self.n, self.p, self.micro = batch, length, heads, n, p, micro
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape, dtype=torch.float64):
        return torch.randn(*shape, dtype=dtype, generator=self.generator)

    def token(self, *inner):
        return self.normal(self.batch, self.length, self.heads, *inner)

    def param(self, *inner, dtype=torch.float64):
        return self.normal(self.heads, *inner, dtype=dtype)

    def unit(self, *inner):
        return F.normalize(self.token(*inner), dim=-1)

    def signals(self, name):
        return SIGNALS[name](self)

    def drive(self, name):
        if name == "deltaproduct":
            return self.token(self.micro, self.p)
        return self.token(self.n if name in ("elman", "lstm", "gru", "rglru") else self.p)


def recurrent(*names):
    """Recurrent weights small enough that no gate saturates."""
    return lambda s: {name: 0.5 * s.param(s.n, s.n) for name in names}


SIGNALS = {
    "softmax_attention": lambda s: {"q": s.token(s.n), "k": s.token(s.n)},
    "linear_attention": lambda s: {"q": s.token(s.n), "k": s.token(s.n)},
    "retnet": lambda s: {"q": s.token(s.n), "k": s.token(s.n), "log_gamma": -s.param().exp() / 4},
    "gla": lambda s: {"q": s.token(s.n), "k": s.token(s.n), "g": F.logsigmoid(s.token(s.n))},
    "s4d": lambda s: {
        "dt": s.param().sigmoid(),
        "lam": torch.complex(-s.param(s.n).exp(), 3 * s.param(s.n)),
        "b": s.param(s.n, dtype=torch.complex128),
        "c": s.param(s.n, dtype=torch.complex128),
        "d": s.param(),
    },
    "lssl": lambda s: {
        "dt": s.param().sigmoid(),
        "a": hippo_legs(s.n)[0].repeat(s.heads, 1, 1),
        "b": hippo_legs(s.n)[1].repeat(s.heads, 1),
        "c": s.param(s.n),
        "d": s.param(),
    },
    "mamba": lambda s: {
        "b": s.token(s.n)[:, :, :1],
        "c": s.token(s.n)[:, :, :1],
        "dt": F.softplus(s.token()),
        "log_a": s.param(s.n) - 1,
        "d": s.param(),
    },
    "mamba2": lambda s: {
        "q": s.token(s.n),
        "k": s.token(s.n),
        "dt": F.softplus(s.token()),
        "log_a": s.param() - 1,
        "d": s.param(),
    },
    "deltanet": lambda s: {"q": s.token(s.n), "k": s.unit(s.n), "beta": 2 * s.token().sigmoid()},
    "gated_deltanet": lambda s: {
        "q": s.token(s.n),
        "k": s.unit(s.n),
        "beta": 2 * s.token().sigmoid(),
        "g": F.logsigmoid(s.token()),
    },
    "deltaproduct": lambda s: {
        "q": s.token(s.n),
        "k": s.unit(s.micro, s.n),
        "beta": 2 * s.token(s.micro).sigmoid(),
    },
    "rwkv6": lambda s: {
        "r": s.token(s.n),
        "k": s.token(s.n),
        "w": F.logsigmoid(s.token(s.n)),
        "bonus": s.param(s.n),
    },
    "titans": lambda s: {
        "q": s.token(s.n),
        "k": s.unit(s.n),
        "alpha": s.token().sigmoid() / 4,
        "eta": s.token().sigmoid(),
        "theta": s.token().sigmoid() / 2,
    },
    "kda": lambda s: {
        "q": s.token(s.n),
        "k": s.unit(s.n),
        "beta": s.token().sigmoid(),
        "g": F.logsigmoid(s.token(s.n)),
    },
    "rglru": lambda s: {"g": -1 - s.token(s.n).exp() / 4, "i": s.token(s.n).sigmoid()},
    "rwkv4": lambda s: {"k": s.token(), "w": -s.param().exp() / 4, "bonus": s.param()},
    "mlstm": lambda s: {"q": s.token(s.n), "k": s.token(s.n), "f": F.logsigmoid(s.token() + 2), "i": s.token()},
    "alibi": lambda s: {"q": s.token(s.n), "k": s.token(s.n), "slope": s.param().exp() / 4},
    "short_convolution": lambda s: {"w": s.param(s.n)},
    "elman": recurrent("R"),
    "lstm": lambda s: {name: s.token(s.n) for name in "fio"} | recurrent("Rf", "Ri", "Ro", "Ru")(s),
    "gru": lambda s: {name: s.token(s.n) for name in "zr"} | recurrent("Rz", "Rr", "Ru")(s) | {"bias": s.param(s.n)},
}


def relative(actual, expected):
    assert actual.shape == expected.shape
    return ((actual - expected).abs().max() / expected.abs().max()).item()


def flat(result):
    """(y, state) or (y, (x, y)) as a list of tensors."""
    y, state = result
    return [y, *(state if isinstance(state, tuple) else (state,))]


def compare(name, reference, tolerance=EXACT, signals=None, u=None):
    """The oracle equals ``reference(signals, u) -> (y, state)``, and stops doing so when any one input is perturbed."""
    sizes = Sizes()
    signals = sizes.signals(name) if signals is None else signals
    u = sizes.drive(name) if u is None else u
    expected = flat(reference(signals, u))

    for actual, right in zip(flat(ORACLES[name](signals, u)), expected, strict=True):
        assert relative(actual.to(right.dtype), right) < tolerance

    perturbed_inputs = [(signals | {key: x + 0.1 * sizes.normal(*x.shape)}, u) for key, x in signals.items()]
    perturbed_inputs.append((signals, u + 0.1 * sizes.normal(*u.shape)))
    for wrong in perturbed_inputs:
        y = flat(ORACLES[name](*wrong))[0]
        assert relative(y.to(expected[0].dtype), expected[0]) > VISIBLE


# --- torch -----------------------------------------------------------------------------------------------------------


def test_softmax_attention_is_torchs():
    def reference(signals, u):
        q, k, v = (x.transpose(1, 2) for x in (signals["q"], signals["k"], u))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1.0)
        return y.transpose(1, 2), (signals["k"], u)

    compare("softmax_attention", reference)


def test_alibi_is_torchs_attention_with_a_bias():
    def reference(signals, u):
        q, k, v = (x.transpose(1, 2) for x in (signals["q"], signals["k"], u))
        distance = torch.arange(T)[:, None] - torch.arange(T)
        bias = -signals["slope"][:, None, None] * distance
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=torch.where(distance >= 0, bias, -math.inf), scale=1.0)
        return y.transpose(1, 2), (signals["k"], u, bias[:, -1].T.expand(B, T, H))

    compare("alibi", reference)


def test_short_convolution_is_torchs():
    def reference(signals, u):
        def channel(u):  # [B, H, T]
            return F.conv1d(u, signals["w"].flip(-1)[:, None], padding=N - 1, groups=H)[..., :T].mT

        y = torch.stack([channel(u[..., p].mT) for p in range(P)], -1)
        return y, u[:, -N:].flip(1).transpose(1, 2)

    compare("short_convolution", reference)


def torch_layer(make, n, inputs, recurrent_weights, bias=None):
    """A torch.nn layer of one head whose input weights are the identity, so that it is fed pre-activations."""
    layer = make(len(inputs) * n, n, batch_first=True).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        layer.weight_ih_l0.copy_(torch.eye(len(inputs) * n)[: layer.weight_ih_l0.shape[0]])
        layer.weight_hh_l0.copy_(torch.cat(recurrent_weights))
        if bias is not None:
            layer.bias_hh_l0[-n:].copy_(bias)
    with torch.no_grad():
        return layer(torch.cat(inputs, dim=-1))


def test_elman_is_torch_rnn():
    def reference(signals, u):
        heads = [torch_layer(torch.nn.RNN, N, [u[:, :, h]], [signals["R"][h]]) for h in range(H)]
        y = torch.stack([y for y, _ in heads], dim=2)
        hidden = torch.stack([hidden[0] for _, hidden in heads], dim=1)
        return y, (hidden[..., None], hidden)

    compare("elman", reference)


def test_lstm_is_torch_lstm():
    def reference(signals, u):
        heads = []
        for h in range(H):
            inputs = [x[:, :, h] for x in (signals["i"], signals["f"], u, signals["o"])]  # torch's order: i, f, g, o
            weights = [signals[name][h] for name in ("Ri", "Rf", "Ru", "Ro")]
            heads.append(torch_layer(torch.nn.LSTM, N, inputs, weights))
        y = torch.stack([y for y, _ in heads], dim=2)
        hidden = torch.stack([hidden[0] for _, (hidden, _) in heads], dim=1)
        cell = torch.stack([cell[0] for _, (_, cell) in heads], dim=1)
        return y, (cell[..., None], hidden)

    compare("lstm", reference)


def test_gru_is_torch_gru():
    def reference(signals, u):
        heads = []
        for h in range(H):
            inputs = [x[:, :, h] for x in (signals["r"], signals["z"], u)]  # torch's order: r, z, n
            weights = [signals[name][h] for name in ("Rr", "Rz", "Ru")]
            heads.append(torch_layer(torch.nn.GRU, N, inputs, weights, signals["bias"][h]))
        y = torch.stack([y for y, _ in heads], dim=2)
        hidden = torch.stack([hidden[0] for _, hidden in heads], dim=1)
        return y, (hidden[..., None], hidden)

    compare("gru", reference)


def test_titans_is_sgd_with_momentum_and_decoupled_decay():
    """With a constant theta, Titans' S is -theta times the momentum buffer of torch.optim.SGD."""
    sizes = Sizes()
    signals, u = sizes.signals("titans"), sizes.drive("titans")
    signals["theta"] = torch.full_like(signals["theta"], 0.3)

    def one_head(q, k, alpha, eta, u):
        M = torch.zeros(P, N, dtype=u.dtype, requires_grad=True)
        optimiser = torch.optim.SGD([M], lr=0.3, momentum=0.9)
        y = []
        for t in range(T):
            optimiser.zero_grad()
            F.mse_loss(M @ k[t], u[t], reduction="sum").backward()
            optimiser.param_groups[0]["momentum"] = eta[t].item()
            with torch.no_grad():
                M.mul_(1 - alpha[t])
            optimiser.step()
            y.append(M.detach() @ q[t])
        momentum = -0.3 * optimiser.state[M]["momentum_buffer"]
        return torch.stack(y), torch.cat([M.detach().T, momentum.T])

    def reference(signals, u):
        return over_heads(one_head, {key: x for key, x in signals.items() if key != "theta"}, u)

    compare("titans", reference, signals=signals, u=u)


# --- scipy -----------------------------------------------------------------------------------------------------------


def scipy_response(A, B, C, d, dt, method, u):
    """Output and final state of the sampled system, one channel at a time, in double precision.

    scipy's x_{t+1} = A x_t + B u_t, y_t = C x_t reads before the update, so that our y_t is its y_{t+1}.
    """
    A_d, B_d, *_ = scipy.signal.cont2discrete((A, B, C, np.zeros((1, 1))), dt, method)
    outputs, states = [], []
    for channel in u.T:
        _, y, x = scipy.signal.dlsim((A_d, B_d, C, np.zeros((1, 1)), dt), np.append(channel, 0.0))
        outputs.append(y[1:, 0] + d * channel)
        states.append(x[-1])
    return torch.tensor(np.stack(outputs, axis=-1)), torch.tensor(np.stack(states, axis=-1))


def test_s4d_is_scipys_sampled_system():
    def one_head(dt, lam, b, c, d, u):
        # the complex diagonal system as a real one of twice the size
        re, im = torch.diag(lam.real), torch.diag(lam.imag)
        A = torch.cat([torch.cat([re, -im], dim=1), torch.cat([im, re], dim=1)])
        B = torch.cat([b.real, b.imag])[:, None]
        C = torch.cat([2 * c.real, -2 * c.imag])[None]
        y, x = scipy_response(A.numpy(), B.numpy(), C.numpy(), d.item(), dt.item(), "zoh", u.numpy())
        return y, torch.complex(x[:N], x[N:])

    def reference(signals, u):
        return over_heads(one_head, signals, u, params=tuple(signals))

    compare("s4d", reference)


def test_lssl_is_scipys_sampled_system():
    def one_head(dt, a, b, c, d, u):
        return scipy_response(
            a.numpy(), b[:, None].numpy(), c[None].numpy(), d.item(), dt.item(), "bilinear", u.numpy()
        )

    def reference(signals, u):
        return over_heads(one_head, signals, u, params=tuple(signals))

    compare("lssl", reference)


@pytest.mark.parametrize("singular", [False, True])
@pytest.mark.parametrize("method, alpha", [("zoh", None), ("gbt", 0.0), ("gbt", 0.3), ("gbt", 0.5), ("gbt", 1.0)])
def test_discretisations_are_scipys(method, alpha, singular):
    sizes = Sizes()
    A, B, dt = sizes.normal(5, 5), sizes.normal(5, 2), 0.3
    if singular:
        A[:, 0] = 0
    system = (A.numpy(), B.numpy(), np.zeros((1, 5)), np.zeros((1, 2)))
    expected = scipy.signal.cont2discrete(system, dt, method, alpha)[:2]

    actual = zoh(A, B, dt) if method == "zoh" else gbt(A, B, dt, alpha)
    control = gbt(A, B, dt, 0.7)
    for ours, wrong, theirs in zip(actual, control, expected, strict=True):
        assert relative(ours, torch.tensor(theirs)) < EXACT
        assert relative(wrong, torch.tensor(theirs)) > VISIBLE


def test_named_discretisations_are_gbts():
    sizes = Sizes()
    A, B = sizes.normal(5, 5), sizes.normal(5, 2)
    system = (A.numpy(), B.numpy(), np.zeros((1, 5)), np.zeros((1, 2)))
    for method, alpha in (("euler", 0.0), ("bilinear", 0.5), ("backward_diff", 1.0)):
        for ours, theirs in zip(gbt(A, B, 0.3, alpha), scipy.signal.cont2discrete(system, 0.3, method), strict=False):
            assert relative(ours, torch.tensor(theirs)) < EXACT


@pytest.mark.parametrize("power", [0, 1, 2, 5])
def test_hippo_legs_tracks_legendre_coefficients(power):
    """The definition: the coefficients c(t) of f on [0, t] in the Legendre polynomials, orthonormal for the uniform
    measure, obey t c' = A c + B f(t). For f(t) = t^m this reads m c = A c + B at t = 1."""
    n = 8
    A, B = hippo_legs(n)
    nodes, weights = np.polynomial.legendre.leggauss(20)
    f = ((nodes + 1) / 2) ** power
    basis = np.polynomial.legendre.legvander(nodes, n - 1) * np.sqrt(2 * np.arange(n) + 1)
    c = torch.tensor((weights / 2 * f) @ basis)

    torch.testing.assert_close(A @ c + B, power * c, rtol=0, atol=EXACT * A.abs().max().item())
    assert (A @ c + 1.1 * B - power * c).abs().max() > VISIBLE
    assert torch.allclose(torch.linalg.eigvals(A).real.sort().values, -torch.arange(n, 0, -1, dtype=A.dtype))


# --- transformers, whose torch functions compute in fp32 -------------------------------------------------------------


@pytest.fixture(scope="module")
def mamba_scan():
    return pytest.importorskip("transformers.models.mamba.modeling_mamba").mamba_selective_scan


@pytest.fixture(scope="module")
def mamba2_scan():
    return pytest.importorskip("transformers.models.mamba2.modeling_mamba2").mamba2_chunk_scan


@pytest.fixture(scope="module", params=["chunk", "recurrent"])
def delta_rule(request):
    qwen = pytest.importorskip("transformers.models.qwen3_next.modeling_qwen3_next")
    rule = getattr(qwen, f"torch_{request.param}_gated_delta_rule")

    def unscaled(q, k, u, g, beta):
        q = q * math.sqrt(q.shape[-1])  # theirs divides q by the root of its size
        return rule(*(x.float() for x in (q, k, u, g, beta)), output_final_state=True)

    return unscaled


def test_mamba_is_transformers(mamba_scan):
    def reference(signals, u):
        s = {key: x.float() for key, x in signals.items()}
        y, state = mamba_scan(
            u[..., 0].transpose(1, 2).float(),
            s["dt"].transpose(1, 2),
            -s["log_a"].exp(),
            s["b"][:, :, 0].transpose(1, 2),
            s["c"][:, :, 0].transpose(1, 2),
            D=s["d"],
            return_last_state=True,
        )
        return y.transpose(1, 2)[..., None], state[..., None]

    compare("mamba", reference, FP32, u=Sizes().token(1))  # its heads are channels: p = 1


def scalar_decay(mamba2_scan, q, k, u, dt, log_decay_rate, d=None):
    y, state = mamba2_scan(
        *(x.float() for x in (u, dt, log_decay_rate, k, q)),
        chunk_size=5,
        D=None if d is None else d.float(),
        return_final_states=True,
    )
    return y, state.transpose(-1, -2)


def test_mamba2_is_transformers(mamba2_scan):
    def reference(signals, u):
        q, k, dt, log_a, d = (signals[key] for key in ("q", "k", "dt", "log_a", "d"))
        return scalar_decay(mamba2_scan, q, k, u, dt, -log_a.exp(), d)

    compare("mamba2", reference, FP32)


def test_retnet_is_mamba2_with_a_constant_decay(mamba2_scan):
    def reference(signals, u):
        return scalar_decay(mamba2_scan, signals["q"], signals["k"], u, torch.ones(B, T, H), signals["log_gamma"])

    compare("retnet", reference, FP32)


def test_linear_attention_is_mamba2_without_decay(mamba2_scan):
    def reference(signals, u):
        return scalar_decay(mamba2_scan, signals["q"], signals["k"], u, torch.ones(B, T, H), torch.zeros(H))

    compare("linear_attention", reference, FP32)


def test_gla_is_mamba_where_its_decay_is_an_outer_product(mamba_scan):
    """g = -dt a, with dt per token and a per channel: then each value channel is a Mamba channel with the same dt."""
    sizes = Sizes()
    signals, u = sizes.signals("gla"), sizes.drive("gla")
    dt, a = F.softplus(sizes.token()), sizes.param(N).exp()
    signals["g"] = -dt[..., None] * a

    def one_head(q, k, dt, a, u):
        y, state = mamba_scan(
            u.T[None].float(),
            dt.expand(P, T)[None].float(),
            -a.expand(P, N).float(),
            (k / dt[:, None]).T[None].float(),  # theirs writes dt b
            q.T[None].float(),
            return_last_state=True,
        )
        return y[0].T, state[0].T

    def reference(signals, u):
        return over_heads(one_head, {"q": signals["q"], "k": signals["k"], "dt": dt, "a": a}, u, params=("a",))

    compare("gla", reference, FP32, signals=signals, u=u)


def test_gated_deltanet_is_transformers(delta_rule):
    def reference(signals, u):
        return delta_rule(signals["q"], signals["k"], u, signals["g"], signals["beta"])

    compare("gated_deltanet", reference, FP32)


def test_deltanet_is_transformers_without_decay(delta_rule):
    def reference(signals, u):
        return delta_rule(signals["q"], signals["k"], u, torch.zeros(B, T, H), signals["beta"])

    compare("deltanet", reference, FP32)


def test_deltaproduct_is_transformers_on_micro_steps(delta_rule):
    def steps(x):  # [B, T, H, J, ...] -> [B, T J, H, ...]
        return x.transpose(2, 3).flatten(1, 2)

    def reference(signals, u):
        q = steps(signals["q"][:, :, :, None].expand(B, T, H, J, N))
        y, state = delta_rule(q, steps(signals["k"]), steps(u), torch.zeros(B, T * J, H), steps(signals["beta"]))
        return y[:, J - 1 :: J], state

    compare("deltaproduct", reference, FP32)


@pytest.mark.parametrize("form", ["chunk", "recurrent"])
def test_kda_is_transformers(form):
    kimi = pytest.importorskip("transformers.models.kimi_linear.modeling_kimi_linear")

    def reference(signals, u):
        q, k, g, beta, v = (x.float() for x in (*(signals[key] for key in ("q", "k", "g", "beta")), u))
        rule = getattr(kimi, f"{form}_kimi_delta_attention")
        q = q * math.sqrt(N)  # theirs divides q by the root of its size
        return rule(q, k, v, g=g, beta=beta, initial_state=None, output_final_state=True)

    compare("kda", reference, FP32)


def test_rglru_is_transformers():
    gemma = pytest.importorskip("transformers.models.recurrent_gemma.modeling_recurrent_gemma")

    def reference(signals, u):
        a, i, u = (x.flatten(2).float() for x in (signals["g"].exp(), signals["i"], u))
        drive = gemma.SqrtBoundDerivative.apply(1 - a**2) * (i * u)
        never = torch.zeros(B, T, 1, dtype=torch.bool)
        y, state = gemma.RecurrentGemmaRglru._rnn_scan(None, drive, a, never, None)
        return y.unflatten(2, (H, N)), state.unflatten(1, (H, N))[..., None]

    compare("rglru", reference, FP32)


def test_rwkv4_is_transformers():
    rwkv = pytest.importorskip("transformers.models.rwkv.modeling_rwkv")

    def reference(signals, u):
        k, w, bonus, v = (x.float() for x in (*(signals[key] for key in ("k", "w", "bonus")), u[..., 0]))
        y, (num, den, top) = rwkv.rwkv_linear_attention_cpu((-w).log(), bonus, k, v, return_state=True)
        return y[..., None], (torch.stack([num, den], -1) * top.exp()[..., None])[:, :, None]

    compare("rwkv4", reference, FP32, u=Sizes().token(1))  # its heads are channels: p = 1


def test_mlstm_is_transformers():
    xlstm = pytest.importorskip("transformers.models.xlstm.modeling_xlstm")

    def reference(signals, u):
        q, k, i, v = (x.float().transpose(1, 2) for x in (*(signals[key] for key in "qki"), u))
        gate = (signals["f"] - (-torch.expm1(signals["f"])).log()).float().transpose(1, 2)  # before the log sigmoid
        q = q * math.sqrt(N)  # theirs divides q by the root of its size
        run = xlstm.mlstm_recurrent_sequence_native
        y, (C, n, m) = run(q, k, v, i, gate, return_last_states=True)
        return y.transpose(1, 2), torch.cat([C, n[..., None]], -1) * m.exp()[..., None]

    compare("mlstm", reference, FP32)


# --- closed forms, where nobody ships an independent implementation --------------------------------------------------


def sum_of_decays(g):
    """[T, T, n]: sum of g_j over s < j <= t at [t, s], by differences of a cumulative sum (finite g only)."""
    G = g.cumsum(0)
    return G[:, None] - G[None, :]


def test_gla_is_its_parallel_form():
    """Yang et al. (GLA), equation (4): P_ts = sum_n q_tn k_sn exp(log b_tn - log b_sn), masked."""

    def one_head(q, k, g, u):
        decays = sum_of_decays(g).exp()
        P_ts = torch.einsum("tn,sn,tsn->ts", q, k, decays).tril()
        return P_ts @ u, torch.einsum("sn,sn,sp->np", decays[-1], k, u)

    compare("gla", lambda signals, u: over_heads(one_head, signals, u))


def test_rwkv6_is_its_sum():
    """Peng et al. (RWKV-6), equation (19): the decays between i and t are those of i + 1 .. t - 1."""

    def one_head(r, k, w, bonus, u):
        decays = sum_of_decays(w)
        strictly_past = torch.einsum("tn,sn,tsn->ts", r, k, (decays - w[:, None]).exp()).tril(-1)
        present = torch.diag((r * bonus * k).sum(-1))
        return (strictly_past + present) @ u, torch.einsum("sn,sn,sp->np", decays[-1].exp(), k, u)

    compare("rwkv6", lambda signals, u: over_heads(one_head, signals, u, params=("bonus",)))


def test_titans_is_a_linear_system_in_memory_and_momentum():
    """The gradient written out, 2 (M k - u) k^T: a linear time-varying system with state [memory; momentum]."""

    def one_head(q, k, alpha, eta, theta, u):
        x, y = torch.zeros(2 * N, P, dtype=u.dtype), []
        for t in range(T):
            step = 2 * theta[t] * torch.outer(k[t], k[t])
            identity = torch.eye(N, dtype=u.dtype)
            above = torch.cat([(1 - alpha[t]) * identity - step, eta[t] * identity], dim=1)
            below = torch.cat([-step, eta[t] * identity], dim=1)
            x = torch.cat([above, below]) @ x + 2 * theta[t] * torch.outer(k[t].repeat(2), u[t])
            y.append(q[t] @ x[:N])
        return torch.stack(y), x

    compare("titans", lambda signals, u: over_heads(one_head, signals, u))


# --- what every oracle must be ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SIGNALS)
def test_gradients(name):
    """By finite differences, of the output and of the final state, with respect to every signal and the drive."""
    sizes = Sizes(batch=1, length=3, heads=2, n=2, p=2)
    signals, u = sizes.signals(name), sizes.drive(name)
    inputs = [x.detach().requires_grad_() for x in (*signals.values(), u)]

    def function(*inputs):
        return tuple(flat(ORACLES[name](dict(zip(signals, inputs, strict=False)), inputs[-1])))

    assert torch.autograd.gradcheck(function, inputs)


@pytest.mark.parametrize("name", SIGNALS)
def test_layout_and_precision(name):
    sizes = Sizes(heads=3)
    signals, u = sizes.signals(name), sizes.drive(name)
    y, state = ORACLES[name](signals, u)
    assert y.shape == (B, T, 3, u.shape[-1])
    assert y.dtype == torch.float64
    first = state[0] if isinstance(state, tuple) else state
    assert first.shape == {
        "softmax_attention": (B, T, 3, N),
        "titans": (B, 3, 2 * N, P),
        "elman": (B, 3, N, 1),
        "lstm": (B, 3, N, 1),
        "gru": (B, 3, N, 1),
        "alibi": (B, T, 3, N),
        "rglru": (B, 3, N, 1),
        "rwkv4": (B, 3, 1, P + 1),
        "mlstm": (B, 3, N, P + 1),
    }.get(name, (B, 3, N, P))
    assert first.dtype == (torch.complex128 if name == "s4d" else torch.float64)


@pytest.mark.parametrize("name", SIGNALS)
def test_causality(name):
    sizes = Sizes()
    signals, u = sizes.signals(name), sizes.drive(name)
    past, future = flat(ORACLES[name](signals, u))[0].split([T - 3, 3], dim=1)

    def change_the_future(x):
        return torch.cat([x[:, : T - 3], x[:, T - 3 :] + 1], dim=1) if x.shape[:2] == (B, T) else x

    changed = flat(ORACLES[name]({key: change_the_future(x) for key, x in signals.items()}, change_the_future(u)))[0]
    assert torch.equal(changed[:, : T - 3], past)
    assert relative(changed[:, T - 3 :], future) > VISIBLE


@pytest.mark.parametrize(
    "name, decay",
    [("retnet", "log_gamma"), ("gla", "g"), ("gated_deltanet", "g"), ("rwkv6", "w"), ("kda", "g"), ("rglru", "g")],
)
def test_a_log_decay_of_minus_infinity_forgets_everything(name, decay):
    sizes = Sizes()
    signals, u = sizes.signals(name), sizes.drive(name)
    cut = T // 2
    if decay == "log_gamma":
        signals[decay] = torch.full_like(signals[decay], -math.inf)
    else:
        signals[decay][:, cut] = -math.inf
    inputs = {key: x.requires_grad_() for key, x in (signals | {"u": u}).items()}
    y, state = ORACLES[name](signals, u)

    # what follows is the same run, started afresh; RWKV-6 reads before it updates, and so forgets one step later
    start = cut + 1 if name == "rwkv6" else cut
    fresh = {key: x if key in ("log_gamma", "bonus") else x[:, cut:] for key, x in signals.items()}
    y_fresh, state_fresh = ORACLES[name](fresh, u[:, cut:])
    torch.testing.assert_close(y[:, start:], y_fresh[:, start - cut :])
    torch.testing.assert_close(state, state_fresh)

    (y.square().sum() + state.square().sum()).backward()
    for key, x in inputs.items():
        assert x.grad.isfinite().all(), key


@pytest.mark.parametrize("name", ["deltanet", "gated_deltanet", "deltaproduct"])
def test_the_end_points_of_beta(name):
    """Along a unit key, beta = 0 keeps what is stored, 1 replaces it, 2 reflects it about what is written."""
    sizes = Sizes(length=2, micro=1)
    signals, u = sizes.signals(name), sizes.drive(name)
    signals["k"] = signals["k"][:, :1].expand_as(signals["k"]).clone()
    signals["q"] = signals["k"].reshape(signals["q"].shape)
    if name == "gated_deltanet":
        signals["g"] = torch.zeros_like(signals["g"])
    stored, written = u.reshape(B, 2, H, P).unbind(1)
    for beta, expected in ((0, stored), (1, written), (2, 2 * written - stored)):
        signals["beta"] = torch.ones_like(signals["beta"])
        signals["beta"][:, 1] = beta
        inputs = {key: x.detach().requires_grad_() for key, x in (signals | {"u": u}).items()}
        y, state = ORACLES[name]({key: inputs[key] for key in signals}, inputs["u"])
        torch.testing.assert_close(y[:, 1], expected)
        (y.square().sum() + state.square().sum()).backward()
        for key, x in inputs.items():
            assert x.grad.isfinite().all(), key


def test_a_pole_at_zero_integrates():
    """lam = 0 in S4D: the hold's B is dt b, the state dt b times the running sum of the drive."""
    sizes = Sizes()
    signals, u = sizes.signals("s4d"), sizes.drive("s4d")
    signals["lam"] = torch.zeros_like(signals["lam"])
    _, state = ORACLES["s4d"](signals, u)
    gain = signals["dt"][:, None] * signals["b"]
    torch.testing.assert_close(state, gain[..., None] * u.sum(1)[:, :, None])


def test_sizes_are_not_broadcast():
    sizes = Sizes()
    signals, u = sizes.signals("deltanet"), sizes.drive("deltanet")
    with pytest.raises(ValueError, match="'q' has 1 heads"):
        ORACLES["deltanet"](signals | {"q": signals["q"][:, :, :1]}, u)
    with pytest.raises(ValueError, match="'beta'"):
        ORACLES["deltanet"](signals | {"beta": signals["beta"][:, :1]}, u)


def test_oracles_import_nothing_but_torch():
    """An oracle that used the library would agree with its errors."""
    for file in Path(__file__).with_name("oracles").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules = {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                modules = {node.module.split(".")[0]}
            else:
                continue
            allowed = {"importlib", "pkgutil"} if file.name == "__init__.py" else {"torch"}
            assert modules <= allowed, f"{file.name} imports {modules - allowed}"
