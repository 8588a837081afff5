"""Softmax attention as models use it, against explicit weights of all pairs in fp64 and against torch's own attention.

Decays (ALiBi), windows, weights on the write (padding), soft caps, sinks, relative biases, grouped keys: alone and
together. Outputs, states and every gradient; in blocks and in pieces; where nothing is seen, y = 0 and no NaN.
"""

import math

import pytest
import torch
from torch.nn import functional as F

import dsf
from dsf import (
    I,
    LogDecay,
    Param,
    Positive,
    Scalar,
    Shared,
    Shift,
    System,
    Vector,
    architecture,
    decay,
    features,
    normalised,
    pairwise,
)
from dsf.enclosures import NILPOTENT, enclose
from dsf.exact_eigenvalues import eigenvalues
from dsf.matrix_form import matrices
from dsf.reference import scan
from helpers import assert_close, at_times, flat, numbers, relative, sampled

EXACT = 1e-10  # fp64, two orders of the same operations
VISIBLE = 1e-3  # what a feature left out must change, relative
OO = math.inf
W = 3  # of the windows
TABLE = numbers(4, 5, seed=11, special=0)  # of a relative bias: 4 heads, 5 ages


def body(title):
    return architecture(title, register=False)


def pair(q, k):
    return {"C": features.exp(q), "B": features.exp(k)}


@body("ALiBi")
def alibi(q=Vector, k=Vector, slope=Param(Positive)):
    return normalised(System(A=decay(-slope) * I, **pair(q, k)))


@body("Forgetting attention")
def forgetting(q=Vector, k=Vector, g=LogDecay):
    return normalised(System(A=decay(g) * I, **pair(q, k)))


@body("Sliding window")
def window(q=Vector, k=Vector):
    return normalised(System(A=Shift(slots=W), **pair(q, k)))


@body("Padding")
def padded(q=Vector, k=Vector, w=LogDecay):
    return normalised(System(A=I, B=decay(w) * features.exp(k), C=features.exp(q)))


@body("Soft cap")
def capped(q=Vector, k=Vector):
    return normalised(System(A=I, B=features.exp(k, cap=2.0), C=features.exp(q, cap=2.0)))


@body("Sink")
def sinking(q=Vector, k=Vector, s=Param(Scalar)):
    return normalised(System(A=I, **pair(q, k)), sink=s)


@body("Relative bias")
def biased(q=Vector, k=Vector):
    return normalised(System(A=I, B=features.relative(k, TABLE), C=features.relative(q, TABLE)))


@body("Unnormalised")
def bare(q=Vector, k=Vector, g=LogDecay, w=LogDecay):
    return System(A=decay(g) * Shift(slots=W), B=decay(w) * features.exp(k), C=features.exp(q))


@body("Floor")
def floored(q=Vector, k=Vector, s=Scalar):
    return normalised(System(A=I, **pair(q, k)), floor=2.0, sink=s)


@body("Everything")
def everything(q=Vector, k=Shared(Vector, 2), g=LogDecay, w=LogDecay, s=Scalar):
    B, C = decay(w) * features.exp(k, cap=3.0), features.exp(q, cap=3.0)
    return normalised(System(A=decay(g) * Shift(slots=W), B=B, C=C), sink=s)


@body("Everything, relative")
def everything_relative(q=Vector, k=Shared(Vector, 2), slope=Param(Positive), w=LogDecay, s=Param(Scalar)):
    B, C = decay(w) * features.relative(k, TABLE), features.relative(q, TABLE)
    return normalised(System(A=decay(-slope) * Shift(slots=4), B=B, C=C), sink=s)


GROUPED = {"alibi": alibi, "window": window, "padded": padded, "capped": capped, "sinking": sinking, "biased": biased}
ALL = (
    GROUPED
    | {"forgetting": forgetting, "bare": bare, "floored": floored}
    | {f"{name}, grouped": a.with_domain(k=Shared(Vector, 2)) for name, a in GROUPED.items()}
    | {"everything": everything, "everything relative": everything_relative}
)
WINDOWS = {"window": W, "window, grouped": W, "bare": W, "everything": W, "everything relative": 4}
UNFUSED = ("capped", "capped, grouped", "bare", "floored", "everything")  # what torch's attention does not know
CAPS = {"capped": 2.0, "capped, grouped": 2.0, "everything": 3.0}
every = pytest.mark.parametrize("name", ALL)


def draw(name, length=11, **more):
    """Signals and drive of 4 heads; positions in the last entry of q and k; some decays and weights are e^-oo."""
    arch = ALL[name]
    signals, u = sampled(arch, **({"length": length, "heads": 4, "n": 4, "p": 2, "ends": 0.0} | more))
    for key in signals.keys() & {"g", "w"}:
        places = torch.arange(signals[key].numel()).reshape(signals[key].shape) % 5
        signals[key] = signals[key].masked_fill(places == 2, -OO)
    if "biased" in name or "relative" in name:
        for key in "qk":
            signals[key][..., -1] = 7 + torch.arange(length)[:, None]
    return arch, signals, u


def explicit(name, signals, u):
    """y from the weights of all pairs, one matrix, no block; and the state, where one is asked for."""
    q, k = signals["q"], signals["k"].repeat_interleave(4 // signals["k"].shape[2], 2)
    T = q.shape[1]
    age = torch.arange(T)[:, None] - torch.arange(T)
    if "biased" in name or "relative" in name:
        q, k = q[..., :-1], k[..., :-1]
    scores = torch.einsum("bthn,bshn->bhts", q, k)
    if name in CAPS:
        scores = CAPS[name] * torch.tanh(scores / CAPS[name])
    if "biased" in name or "relative" in name:
        scores = scores + TABLE[:, age.clamp(0, TABLE.shape[1] - 1)]
    if "w" in signals:
        scores = scores + signals["w"].mT[:, :, None]
    if "slope" in signals:
        scores = scores - signals["slope"][:, None, None] * age.clamp(min=0)
    if "g" in signals:
        rows = [[signals["g"][:, s + 1 : t + 1].sum(1) for s in range(T)] for t in range(T)]
        scores = scores + torch.stack([torch.stack(row, -1) for row in rows], -2)
    weights = scores.exp() * ((age >= 0) & (age < WINDOWS.get(name, T)))
    above = torch.einsum("bhts,bshp->bthp", weights, u)
    if name == "bare":
        return above
    below = weights.sum(-1).mT[..., None]
    if "s" in signals:
        below = below + signals["s"].exp()[..., None]
    return above / (below.clamp(min=2.0) if name == "floored" else torch.where(below == 0, 1.0, below))


def with_gradients(f, signals, u):
    """What f returns, and the gradient of every input under a weight of every entry."""
    inputs = {k: x.detach().clone().requires_grad_() for k, x in (signals | {"u": u}).items()}
    y = f({k: inputs[k] for k in signals}, inputs["u"])
    return y.detach(), torch.autograd.grad((y * numbers(*y.shape, seed=5, special=0)).sum(), list(inputs.values()))


@pytest.mark.parametrize("run", [scan, dsf.simulate], ids=["reference", "simulate"])
@pytest.mark.parametrize("block", [1, 3, 256])
@every
def test_every_pair_has_the_weight_of_the_formula(name, block, run, monkeypatch):
    monkeypatch.setattr(pairwise, "BLOCK", block)
    arch, signals, u = draw(name)
    y, found = with_gradients(lambda s, u: run(arch(**s), u)[0], signals, u)
    expected, wanted = with_gradients(lambda s, u: explicit(name, s, u), signals, u)
    assert relative(y, expected) < EXACT
    for key, a, b in zip((*signals, "u"), found, wanted, strict=True):
        if name.startswith(("biased", "everything relative")) and key in "qk":
            assert not a[..., -1].any()  # positions are no variables
        assert relative(a, b) < EXACT, key


@pytest.mark.parametrize("block", [2, 256])
@every
def test_pieces_continue_the_run(name, block, monkeypatch):
    """Also states and gradients: a state is all that the rest of the run needs."""
    monkeypatch.setattr(pairwise, "BLOCK", block)
    arch, signals, u = draw(name)

    def pieces(signals, u):
        state, outputs = None, []
        for start, stop in ((0, 1), (1, 4), (4, 4), (4, 5), (5, 11)):
            system = arch(**at_times(arch, signals, slice(start, stop)))
            y, state = scan(system, u[:, start:stop], state)
            assert isinstance(state, tuple) and state[0].shape[1] == min(stop, WINDOWS.get(name, OO) - 1)
            outputs.append(y)
        return torch.cat(outputs, 1), state

    whole = scan(arch(**signals), u)
    assert_finite_parts_close(pieces(signals, u), whole)
    y, found = with_gradients(lambda s, u: pieces(s, u)[0], signals, u)
    for a, b in zip(found, with_gradients(lambda s, u: scan(arch(**s), u)[0], signals, u)[1], strict=True):
        assert relative(a, b) < EXACT


def assert_finite_parts_close(actual, expected):
    for a, b in zip(flat(actual), flat(expected), strict=True):
        assert torch.equal(a == -OO, b == -OO) and relative(a.clamp(min=-1e9), b.clamp(min=-1e9)) < EXACT


def test_what_a_state_is():
    """(k, u) of the past; with weights also their logarithm as of the last step; under a window its last W - 1."""
    arch, signals, u = draw("everything")
    k, v, w = scan(arch(**signals), u)[1]
    assert torch.equal(k, signals["k"].repeat_interleave(2, 2)[:, -2:]) and torch.equal(v, u[:, -2:])
    assert torch.equal(w, torch.stack([signals["w"][:, -2] + signals["g"][:, -1], signals["w"][:, -1]], 1))
    arch, signals, u = draw("alibi", length=5)
    w = scan(arch(**signals), u)[1][2]
    torch.testing.assert_close(w, (-signals["slope"] * torch.arange(4.0, -1, -1)[:, None]).expand(2, 5, 4))
    arch, signals, u = draw("capped")
    assert len(scan(arch(**signals), u)[1]) == 2


@every
def test_each_feature_is_seen(name):
    """The control: without it, the numbers are others."""
    arch, signals, u = draw(name)
    if "grouped" in name or name == "bare":
        return
    changed = {"g": 0.0, "w": 0.0, "slope": 0.0, "s": -OO}
    for key in signals.keys() & changed.keys():
        other = signals | {key: torch.full_like(signals[key], changed[key])}
        assert relative(scan(arch(**other), u)[0], explicit(name, signals, u)) > VISIBLE, key
    k = signals["k"].repeat_interleave(4 // signals["k"].shape[2], 2)
    plain = dsf.architecture_named("softmax_attention")(q=signals["q"], k=k)
    assert relative(scan(plain, u)[0], explicit(name, signals, u)) > VISIBLE


# ---------------------------------------------------------------------------------------------------- torch's attention


def torchs(q, k, u, bias):
    """scaled_dot_product_attention with a causal float mask."""
    T, S = q.shape[1], k.shape[1]
    causal = torch.ones(T, S, dtype=torch.bool).tril(S - T)
    mask = torch.where(causal, bias, -OO)
    q, k, u = (x.transpose(1, 2) for x in (q, k, u))
    return F.scaled_dot_product_attention(q, k, u, attn_mask=mask, scale=1.0).transpose(1, 2)


def test_alibi_and_a_window_are_torchs_with_a_mask():
    age = torch.arange(11)[:, None] - torch.arange(11)
    arch, signals, u = draw("alibi")
    bias = -signals["slope"][:, None, None] * age
    assert relative(scan(arch(**signals), u)[0], torchs(signals["q"], signals["k"], u, bias)) < EXACT
    arch, signals, u = draw("window")
    bias = torch.where(age < W, 0.0, -OO)
    assert relative(scan(arch(**signals), u)[0], torchs(signals["q"], signals["k"], u, bias.double())) < EXACT


def test_padding_on_the_left_is_as_if_it_were_not_there():
    arch, signals, u = draw("padded")
    signals["w"] = torch.zeros_like(signals["w"])
    signals["w"][0, :5] = -OO
    inputs = {k: x.requires_grad_() for k, x in signals.items()}
    y, _ = scan(arch(**inputs), u.requires_grad_())
    short = {k: x[:1, 5:].detach() for k, x in signals.items()}
    assert relative(y[:1, 5:], scan(arch(**short), u[:1, 5:])[0]) < EXACT
    assert not y[0, :5].any()  # nothing is seen there
    y.square().sum().backward()
    for x in (*inputs.values(), u):
        assert x.grad.isfinite().all() and not x.grad[0, :5].any()


# ------------------------------------------------------------------------------------------------------------- the ends


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("length", [1, 6])
@every
def test_nothing_seen_is_zero_and_never_nan(name, length, dtype):
    """All weights zero, all decays resets, a sink of zero: y = 0 or finite, and so is every gradient."""
    arch, signals, u = draw(name, length=length)
    for key in signals.keys() & {"g", "w", "s"}:
        signals[key] = torch.full_like(signals[key], -OO)
    inputs = {k: x.to(dtype).requires_grad_() for k, x in (signals | {"u": u}).items()}
    y, state = dsf.simulate(arch(**{k: inputs[k] for k in signals}), inputs["u"])
    assert y.isfinite().all() and y.dtype == dtype
    if "w" in signals:
        assert not y.any()
    y.square().sum().backward()
    assert all(x.grad is None or x.grad.isfinite().all() for x in inputs.values())


@pytest.mark.parametrize("scale", [1e3, -1e3])
@pytest.mark.parametrize("name", ["sinking", "floored", "alibi", "forgetting"])
def test_large_scores_neither_overflow_nor_vanish(name, scale):
    """Ratios of e^1000 and of e^-1000, in fp32."""
    arch, signals, u = draw(name, dtype=torch.float32)
    signals["q"], signals["k"] = torch.full_like(signals["q"], scale), torch.ones_like(signals["k"])
    if "s" in signals:
        signals["s"] = torch.full_like(signals["s"], 4 * scale)  # as large as every score: n = 4
    if "g" in signals:
        signals["g"] = torch.zeros_like(signals["g"])
    y, found = with_gradients(lambda s, u: scan(arch(**s), u)[0], signals, u)
    seen = torch.arange(1, 12)[:, None, None]
    if name == "sinking":
        torch.testing.assert_close(y, u.cumsum(1) / (seen + 1))
    if name == "floored":
        torch.testing.assert_close(y, u.cumsum(1) / (seen + 1) if scale > 0 else torch.zeros_like(u))
    assert y.isfinite().all() and all(g.isfinite().all() for g in found)


def test_a_sink_far_above_all_scores_takes_everything():
    arch, signals, u = draw("sinking", dtype=torch.float32)
    signals["s"] = torch.full_like(signals["s"], 1e4)
    y, found = with_gradients(lambda s, u: scan(arch(**s), u)[0], signals, u)
    assert not y.any() and all(g.isfinite().all() for g in found)


@pytest.mark.parametrize("name", ["everything", "floored", "everything relative"])
def test_a_part_of_a_system_has_its_part_of_every_signal(name):
    """A sink, a weight and a table are leaves: cut, turned round, and widened from half precision."""
    arch, signals, u = draw(name)
    part = {k: x if arch.signals[k].const else x[:, 3:8] for k, x in signals.items()}
    turned = {k: x if arch.signals[k].const else x.flip(1) for k, x in signals.items()}
    system = arch(**signals)
    assert torch.equal(scan(system.slice(3, 8), u[:, 3:8])[0], scan(arch(**part), u[:, 3:8])[0])
    both = dsf.bidirectional(system, system)
    expected = scan(system, u)[0] + scan(arch(**turned), u.flip(1))[0].flip(1)
    assert relative(scan(both, u)[0], expected) < EXACT
    half = {k: x.bfloat16() for k, x in signals.items()}
    full = {k: x.float() for k, x in half.items()}
    y = dsf.simulate(arch(**half), u.bfloat16())[0]
    assert torch.equal(y, scan(arch(**full), u.bfloat16().float())[0].bfloat16())


def test_a_reset_in_the_middle_forgets_what_was_before():
    arch, signals, u = draw("forgetting")
    signals["g"] = torch.full_like(signals["g"], -0.1)
    signals["g"][:, 4] = -OO
    y, (_, _, w) = scan(arch(**signals), u)
    fresh = scan(arch(**{k: x[:, 4:] for k, x in signals.items()}), u[:, 4:])
    assert relative(y[:, 4:], fresh[0]) < EXACT
    assert (w[:, :4] == -OO).all() and relative(w[:, 4:], fresh[1][2]) < EXACT


# --------------------------------------------------------------------------------------------------------------- memory


def test_no_matrix_of_all_pairs_is_kept_for_the_gradient():
    arch, signals, u = draw("everything relative", length=1024, batch=1)
    saved = []

    def pack(x):
        saved.append(x.numel())
        return x

    u.requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        y, _ = scan(arch(**signals), u)
    assert max(saved) <= 4 * 1024 * 8
    y.sum().backward()
    assert u.grad.isfinite().all()


@pytest.mark.parametrize("name", ["everything", "everything relative", "floored", "bare"])
def test_long_runs_recompute_their_blocks(name):
    """More than one block of the real size, gradients too, and the gradient of a gradient."""
    arch, signals, u = draw(name, length=pairwise.BLOCK + 9, batch=1)
    y, found = with_gradients(lambda s, u: scan(arch(**s), u)[0], signals, u)
    if "g" not in signals:  # the explicit sum over segments is slow
        expected, wanted = with_gradients(lambda s, u: explicit(name, s, u), signals, u)
        assert relative(y, expected) < EXACT
        assert all(relative(a, b) < EXACT for a, b in zip(found, wanted, strict=True))
    half = {k: x if arch.signals[k].const else x[:, -9:] for k, x in signals.items()}
    begin = {k: x if arch.signals[k].const else x[:, :-9] for k, x in signals.items()}
    first, state = scan(arch(**begin), u[:, :-9])
    assert_close(torch.cat([first, scan(arch(**half), u[:, -9:], state)[0]], 1), y, EXACT)
    k = signals["k"].requires_grad_()
    (g,) = torch.autograd.grad(scan(arch(**signals), u)[0].square().sum(), k, create_graph=True)
    assert torch.autograd.grad(g.square().sum(), k)[0].isfinite().all()


def test_gradients_by_finite_differences():
    arch, signals, u = draw("everything", length=4, batch=1, n=2, p=1)
    for key in "gw":
        signals[key] = signals[key].clamp(min=-2.0)
    names = list(signals)

    def f(u, *values):
        y, state = scan(arch(**dict(zip(names, values, strict=True))), u)
        return y, *state

    inputs = [x.requires_grad_() for x in (u, *signals.values())]
    assert torch.autograd.gradcheck(f, inputs) and torch.autograd.gradgradcheck(lambda *a: f(*a)[0], inputs)


# ------------------------------------------------------------------------------------------------- the other readings


@every
def test_the_other_readings(name):
    arch = ALL[name]
    verdict = dsf.parity(arch)  # weights that are functions of the two tokens alone fade or are averaged
    assert verdict.answer is (None if "bare" in name or "biased" in name or "relative" in name else False)
    assert verdict.answer is None or verdict.regimes == ("margin",) and verdict.check()
    text, latex = repr(arch), arch._repr_latex_()
    assert "phi(" in text and r"\phi" in latex and "infinite features" in text and "tensor(" not in text + latex
    assert "oo x oo" in repr(arch.symbolic(2)) and "phi" in arch.symbolic(2)._repr_latex_()
    assert set(matrices(arch)) == (set() if name in WINDOWS else {"A"})
    assert "oo x oo" in repr(arch.names()) and arch.open_range(1e-3).bounds()
    arch, signals, u = draw(name)
    system = arch(**signals)
    kernel = "sequential" if name in UNFUSED else "scaled_dot_product"
    assert "oo x 1" in repr(system) and dsf.explain(system, u).kernel == kernel
    assert dsf.parity(system).answer is None  # a member of its family, whose keys may carry positions
    assert dsf.spectrum(system).parts and "infinitely many" in dsf.spectrum(system).subject


def test_spectra():
    def hull(a):
        return repr(dsf.spectrum(a).parts)

    assert hull(alibi) == "([0, 1],)" and hull(forgetting) == "([0, 1],)"
    for name in WINDOWS:
        assert hull(ALL[name]) == "([0, 0],)" and NILPOTENT in dsf.spectrum(ALL[name]).how, name
    assert hull(capped) == hull(sinking) == "([1, 1],)"
    arch, signals, u = draw("alibi")
    assert torch.equal(dsf.spectrum(arch(**signals)).values.flatten(), (-signals["slope"]).exp())
    arch, signals, u = draw("everything")
    assert repr(dsf.spectrum(arch(**signals)).parts) == "([0, 0],)"


def test_equations():
    text = "\n".join(repr(a) for a in (alibi, window, padded, sinking, floored, everything))
    for part in (
        "x_t = exp(-slope) I x_{t-1} + phi(k_t) u_t^T",
        "x_t = S_3 x_{t-1} + phi(k_t) u_t^T",
        "x_t = x_{t-1} + exp(w_t) phi(k_t) u_t^T",
        "y_t = phi(q_t)^T x_t / ((the same, u = 1) + exp(s))",
        "y_t = phi(q_t)^T x_t / max(|(the same, u = 1) + exp(s_t)|, 2)",
        "x_t = exp(g_t) S_3 x_{t-1} + exp(w_t) phi(k_t) u_t^T",
        "Shift, a register of 3",
    ):
        assert part in text, part
    rwkv = dsf.architecture_named("rwkv6").normalised(floor=1.0)
    assert "y_t = (r_t^T x_{t-1} + " in repr(rwkv) and " u_t) / max(|(the same, u = 1)|, 1)" in repr(rwkv)
    assert r"\max(|" in rwkv._repr_latex_()
    assert r"S_{3} x_{t-1}" in window._repr_latex_() and "e^{s}" in sinking._repr_latex_()


def test_costs_count_the_pairs_that_are_seen():
    arch, signals, u = draw("window", length=2048)
    near, far = dsf.explain(arch(**signals), u), dsf.explain(dsf.architecture_named("softmax_attention")(**signals), u)
    for found, pairs in ((near, 1 + 2 + 2046 * 3), (far, 2048 * 2049 / 2)):
        per_pair = 2 * 2 * 4 * (4 + 3)  # flops of a multiply-add, B, H, n + p + 1
        assert abs(found.floor.flops / per_pair - pairs) <= 1024
    assert near.milliseconds < far.milliseconds


# ------------------------------------------------------------------------------------------- sinks of finite states


@pytest.mark.parametrize("floor", [None, 1.0])
@pytest.mark.parametrize("backend", ["reference", "sequential", "chunked_scalar"])
def test_a_sink_of_a_finite_state_is_added_to_its_normaliser(backend, floor):
    @body("Retention with a sink")
    def retention(q=Vector(0, OO), k=Vector(0, OO), g=LogDecay, s=Scalar):
        return normalised(System(A=decay(g) * I, B=k, C=q), floor=floor, sink=s)

    signals, u = sampled(retention, length=70)
    system = System(A=decay(signals["g"][..., None]) * I, B=signals["k"], C=signals["q"])
    expected, wanted = with_gradients(lambda s, u: explicit_retention(s, u, floor), signals, u)
    y, found = with_gradients(lambda s, u: dsf.simulate(retention(**s), u, backend=backend)[0], signals, u)
    assert relative(y, expected) < EXACT
    assert all(relative(a, b) < EXACT for a, b in zip(found, wanted, strict=True))
    assert relative(scan(normalised(system), u)[0], expected) > VISIBLE
    assert dsf.parity(retention).answer is False and "exp(s_t)" in repr(retention)
    assert dsf.parity(retention(**signals)).answer is False
    moved = retention(**signals)
    with pytest.raises(ValueError, match="edited"):
        dsf.parity(dsf.system.replace(moved, sink=moved.sink + 1))


def explicit_retention(s, u, floor):
    x, ones, outputs = 0, 0, []
    for t in range(u.shape[1]):
        g = s["g"][:, t, :, None, None].exp()
        x = g * x + s["k"][:, t, ..., None] * u[:, t, :, None]
        ones = g * ones + s["k"][:, t, ..., None]
        below = (s["q"][:, t, ..., None] * ones).sum(-2) + s["s"][:, t, :, None].exp()
        below = below if floor is None else below.abs().clamp(min=floor)
        outputs.append((s["q"][:, t, ..., None] * x).sum(-2) / below)
    return torch.stack(outputs, 1)


def test_a_sink_that_is_a_function_of_the_past_is_a_hypothesis():
    @body("A sink that knows the past")
    def knowing(q=Vector, k=Vector, s=dsf.Prefix(Scalar)):
        return normalised(System(A=I, B=k, C=q), sink=s)

    assert dsf.parity(knowing).answer is None and dsf.parity(knowing.with_domain(s=Scalar)).answer is False


# --------------------------------------------------------------------------------------------------------- the register


@pytest.mark.parametrize("by", [-2, -1, 0, 1, 2, 5])
@pytest.mark.parametrize("slots", [1, 3, 6])
def test_a_shift_of_slots_moves_blocks_of_rows(by, slots):
    x = numbers(2, 6, 2, special=0)
    blocks = x.unflatten(1, (slots, 6 // slots))
    expected = torch.zeros_like(blocks)
    for i in range(slots):
        if 0 <= i - by < slots:
            expected[:, i] = blocks[:, i - by]
    assert torch.equal(Shift(by, slots).apply(x), expected.flatten(1, 2))
    M = Shift(by, slots).dense(6)
    M = torch.tensor(M.tolist(), dtype=torch.float64)
    assert torch.equal(M @ x, expected.flatten(1, 2))
    assert torch.equal(Shift(by, slots).T.apply(x), M.mT @ x)
    assert not by or not torch.linalg.matrix_power(M, slots).any()


def test_a_multiple_of_a_shift():
    a = torch.tensor([[[[0.5]]]], dtype=torch.float64)
    for by, value in ((1, 0.0), (0, 0.5)):
        found = eigenvalues(decay(a.log()) * Shift(by), 4)
        assert torch.allclose(found, torch.full((1, 1, 1, 4), value).double())
        bound = enclose(dsf.Gate.bound() * Shift(by))
        assert value in bound and (1.0 in bound) == (by == 0) and bound.norm == 1
    negative = enclose(Scalar(-2, 1).bound() * dsf.diag(Vector(0, 3).bound()))
    assert negative.parts == (dsf.Interval(-6, 3),) and negative.norm == 6


# ----------------------------------------------------------------------------------------------------------- refusals


def test_what_is_refused():
    q = k = numbers(2, 5, 4, 3)
    g = numbers(2, 5, 4, 1).abs()
    phi, psi = features.exp(k), features.exp(q)
    for make, error, message in (
        (lambda: System(A=dsf.Scaled(g), B=phi, C=psi), ValueError, "in log space"),
        (lambda: System(A=Shift(), B=phi, C=psi), ValueError, r"Shift\(slots=W\)"),
        (lambda: System(A=Shift(2, 4), B=phi, C=psi), ValueError, r"Shift\(slots=W\)"),
        (lambda: System(A=dsf.diag(decay(-g)), B=phi, C=psi), ValueError, "with A = I"),
        (lambda: System(A=decay(torch.complex(g, g)) * I, B=phi, C=psi), ValueError, "in log space"),
        (lambda: System(A=I, B=phi, C=decay(g) * psi), ValueError, "only those in B a weight"),
        (lambda: System(A=I, B=features.exp(k, cap=2), C=psi), ValueError, "one and the same"),
        (lambda: System(A=I, B=phi, C=features.relative(q, TABLE)), ValueError, "one and the same"),
        (lambda: g * phi, ValueError, "log space"),
        (lambda: 2 * phi, ValueError, "log space"),
        (lambda: features.exp(k, cap=0.0), ValueError, "positive"),
        (lambda: features.relative(k, TABLE[0]), ValueError, r"\[H, ages\]"),
        (lambda: features.relative(k, 3), ValueError, r"\[H, ages\]"),
        (lambda: normalised(System(A=I, B=phi, C=psi), sink=decay(g)), TypeError, "logarithm"),
        (lambda: System(A=I, B=phi, C=psi, sink=g), ValueError, "part of a normaliser"),
        (lambda: Shift(slots=-1), ValueError, "slots"),
        (lambda: Shift(slots=4).apply(numbers(6, 1)), ValueError, "do not divide"),
        (lambda: scan(biased(**draw("biased", 5, heads=2)[1]), q[:, :, :2]), ValueError, "axis H"),
    ):
        with pytest.raises(error, match=message):
            make()
    for wrong in (
        lambda q=Vector, k=Vector, g=Scalar(-1, 1): System(A=g * I, B=features.exp(k), C=features.exp(q)),
        lambda q=Vector, k=Vector, w=Scalar: System(A=I, B=w * features.exp(k), C=features.exp(q)),
        lambda q=Vector, k=Vector, s=Vector: normalised(System(A=I, B=k, C=q), sink=s),
    ):
        with pytest.raises((ValueError, TypeError), match="log|scalar"):
            body("wrong")(wrong)


def test_wrong_states_say_what_a_state_is():
    arch, signals, u = draw("everything")
    system = arch(**signals)
    k, v, w = scan(system, u)[1]
    for wrong in ((k, v), k, (k, v, w, w)):
        with pytest.raises(TypeError, match=r"is the triple \(k, u, w\) so far"):
            scan(system, u, wrong)
    for wrong in ((k, v, w[:1]), (k[:, 1:], v, w), (k[:, :, :2], v, w), (k, v, w[..., None])):
        with pytest.raises(ValueError, match=r"the state should be \(k, u, w\) so far"):
            dsf.simulate(system, u, wrong)
    plain, signals, u = draw("window")
    with pytest.raises(TypeError, match=r"is the pair \(k, u\) so far, got a tuple of 3"):
        scan(plain(**signals), u, (k, v, w))


def test_layers_train():
    torch.manual_seed(0)
    for name in ("alibi", "everything", "sinking"):
        layer = dsf.Mixer(ALL[name], d_model=8, heads=4)
        x = torch.randn(2, 9, 8)
        y, state = layer(x)
        again = layer(x[:, 5:], layer(x[:, :5])[1])[0]
        torch.testing.assert_close(y[:, 5:], again)
        y.square().sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())
