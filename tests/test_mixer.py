"""The trainable layer: shapes, domains, streaming, initial memory, and a user's own four lines on the fast kernel."""

import copy
import importlib.util
import io
import math
import sys

import pytest
import torch

import dsf
from dsf import definition
from dsf_kernels.initial_values import FARTHEST, NEAREST, start

STREAMED = 1e-10  # fp64, relative: a run in pieces against the whole
B, T, D, HEADS = 2, 21, 16, 4
ZOO = {k: a for k, a in dsf.architectures().items() if a.body.__module__.startswith("dsf.zoo")}


def layer(architecture, **sizes):
    torch.manual_seed(0)
    return dsf.Mixer(architecture, **({"d_model": D, "heads": HEADS, "dtype": torch.float64} | sizes))


def tokens(length=T, dtype=torch.float64):
    return torch.randn(B, length, D, dtype=dtype, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", ZOO)
def test_every_architecture_is_a_layer(name):
    """The shape comes back, signals lie in their domains, every parameter has a gradient, states stream."""
    mixer, x = layer(name), tokens()
    y, final = mixer(x)
    assert y.shape == x.shape and y.isfinite().all()
    system, _ = mixer.system(x)
    assert all(domain.contains(system.signals[k]) for k, domain in ZOO[name].signals.items())
    y.square().mean().backward()
    still = [k for k, parameter in mixer.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert not still, f"these do not learn: {still}"
    state, parts = None, []
    for lo, hi in ((0, 1), (1, 9), (9, 9), (9, T)):
        part, state = mixer(x[:, lo:hi], state)
        parts.append(part)
    assert (torch.cat(parts, 1) - y).abs().max() < STREAMED * max(1, y.abs().max().item())
    for mine, whole in zip(_tuple(state), _tuple(final), strict=True):
        assert (mine - whole).abs().max() < STREAMED * max(1, whole.abs().max().item())


def _tuple(state):
    return state if isinstance(state, tuple) else (state,)


def test_the_past_does_not_see_the_future():
    for name in ("mamba2", "deltanet", "lstm", "softmax_attention"):
        mixer, x = layer(name), tokens()
        other = torch.cat([x[:, :9], -x[:, 9:]], 1)
        y, z = mixer(x)[0], mixer(other)[0]
        assert torch.equal(y[:, :9], z[:, :9]) and not torch.equal(y[:, 9:], z[:, 9:])


@pytest.mark.parametrize(
    ("architecture", "sizes", "drive"),
    [
        ("retnet", {"n": 3, "p": 5}, (HEADS, 5)),
        ("deltaproduct", {"p": 5}, (HEADS, 2, 5)),
        (
            ZOO["deltaproduct"].with_domain(k=dsf.Each(dsf.Unit, 3), beta=dsf.Each(dsf.Gate, 3)),
            {},
            (HEADS, 3, D // HEADS),
        ),
        ("lstm", {"n": 7}, (HEADS, 7)),
        ("mamba", {"heads": 6, "n": 3, "p": 1}, (6, 1)),
        (ZOO["mamba2"].with_domain(q=dsf.Shared(dsf.Vector, 2), k=dsf.Shared(dsf.Vector, 2)), {}, (HEADS, D // HEADS)),
        (ZOO["linear_attention"].normalised(floor=1), {}, (HEADS, D // HEADS)),
    ],
)
def test_sizes_of_the_drive(architecture, sizes, drive):
    mixer = layer(architecture, **sizes)
    _, u = mixer.system(tokens())
    assert u.shape == (B, T, *drive)
    assert mixer(tokens())[0].shape == (B, T, D)


def test_it_is_used_like_torch_nn_lstm():
    mine, torchs, x = (
        layer("lstm", heads=1, dtype=torch.float32),
        torch.nn.LSTM(D, D, batch_first=True),
        tokens(dtype=torch.float32),
    )
    for module in (mine, torchs):
        y, state = module(x)
        assert y.shape == (B, T, D) and len(state) == 2
        assert module(x, state)[0].shape == (B, T, D)


# ------------------------------------------------------------------------------------------------------- initial values
@pytest.mark.parametrize("domain", [dsf.LogDecay, dsf.Positive, dsf.Vector(-math.inf, 0), dsf.Scalar(2, math.inf)])
def test_half_infinite_domains_start_near_their_end(domain):
    shape = (8,) if domain.kind == "scalar" else (8, 5)
    found = domain.project(start(domain, shape)[..., 0])
    end = domain.set.lo if math.isfinite(domain.set.lo) else domain.set.hi
    distance = (found - end).abs()
    assert distance.min() == pytest.approx(NEAREST, rel=1e-3) and distance.max() == pytest.approx(FARTHEST, rel=1e-3)
    logs = distance.flatten().log().sort().values.diff()
    assert logs.std() < 1e-2 * logs.mean() or logs.numel() == 1, "not evenly spread on a log scale"
    if domain.kind == "vector":  # every head covers the range, none starts at one of its ends alone
        assert (distance.amax(-1) / distance.amin(-1)).min() > 10


@pytest.mark.parametrize(
    ("name", "decay"), [("retnet", "log_gamma"), ("gla", "g"), ("rwkv6", "w"), ("gated_deltanet", "g")]
)
def test_a_fresh_layer_remembers(name, decay):
    """At a zero input the decays of the heads are memories of 10 to 1000 steps."""
    system, _ = layer(name).system(torch.zeros(1, 1, D, dtype=torch.float64))
    memory = -1 / system.signals[decay]
    assert memory.min() > 9.9 and memory.max() < 1010 and memory.max() / memory.min() > 50


def test_a_fresh_layer_hears_its_first_token():
    for name in ("mamba2", "mamba", "s4d"):
        mixer, x = layer(name), tokens(100).requires_grad_()
        y, _ = mixer(x)
        felt = torch.autograd.grad(y[:, -1].square().sum(), x)[0].norm(dim=-1)
        assert (felt[:, 0] > 1e-3 * felt[:, -1]).all(), name


def test_poles_start_as_s4d_lin():
    lam = layer("s4d").system(tokens())[0].signals["lam"]
    expected = torch.complex(torch.full((D // HEADS,), -0.5), math.pi * torch.arange(D // HEADS)).to(lam)
    assert torch.allclose(lam, expected.expand_as(lam), atol=1e-6)


def test_the_unit_disc_starts_near_its_edge():
    domain = dsf.Vector(dsf.UnitDisc)
    found = domain.project(*start(domain, (4, 16)).unbind(-1))
    assert domain.contains(found) and 1 - found.abs().max() < 2e-3 and 1 - found.abs().min() < 0.11
    assert found.angle().max() > 3 and found.angle().min() < -3


# --------------------------------------------------------------------------------------------------- being an nn.Module
def test_constants_are_parameters_and_fixed_ones_buffers():
    mixer = layer("lssl")
    assert {k for k, _ in mixer.named_parameters() if k.startswith("raw")} == {"raw_dt", "raw_c", "raw_d"}
    assert {k for k, _ in mixer.named_buffers()} == {"fixed_a", "fixed_b"}
    assert "fixed_a" not in mixer.state_dict()
    assert mixer.float()(tokens(dtype=torch.float32))[0].dtype == torch.float32


def test_it_is_saved_copied_and_pickled():
    mixer, x = layer(ZOO["mamba2"].with_domain(dt=dsf.Scalar(0, 1)).normalised(floor=1)), tokens()
    expected, _ = mixer(x)
    fresh = dsf.Mixer(mixer.architecture, D, HEADS, dtype=torch.float64)
    assert not torch.equal(fresh(x)[0], expected)
    fresh.load_state_dict(mixer.state_dict())
    file = io.BytesIO()
    torch.save(mixer, file)
    file.seek(0)
    for again in (fresh, copy.deepcopy(mixer), torch.load(file, weights_only=False)):
        assert torch.equal(again(x)[0], expected)


def test_repr_names_the_architecture_and_its_sizes():
    assert "retnet, d_model=16, heads=4, n=3, p=4" in repr(layer("retnet", n=3))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    mixer = layer("mamba2", dtype=torch.float32)
    expected, _ = mixer(tokens(dtype=torch.float32))
    y, state = mixer.to(dtype)(tokens(dtype=dtype))
    assert y.dtype == dtype and state.dtype == torch.float32
    assert (y - expected).abs().max() < 0.1 * expected.abs().max()


@dsf.architecture("Chosen by an index", register=False)
def indexed(p=dsf.Index, d=dsf.Vector(0, 1), b=dsf.Vector, c=dsf.Vector):
    return dsf.System(A=dsf.OneHotDiagonal(p, d), B=b, C=c)


@dsf.architecture("Complex output", register=False)
def complex_output(d=dsf.Vector(dsf.UnitDisc), b=dsf.Vector, c=dsf.Vector):
    return dsf.System(A=dsf.diag(d), B=b, C=c)


@pytest.mark.parametrize(
    ("error", "match", "call"),
    [
        (ValueError, "does not divide into 5 heads", lambda: layer("retnet", heads=5)),
        (ValueError, "heads should be a positive integer", lambda: layer("retnet", heads=0)),
        (ValueError, "n should be a positive integer", lambda: layer("retnet", n=-1)),
        (ValueError, "d_model = 16", lambda: layer("retnet")(tokens()[..., :-1])),
        (ValueError, "got shape", lambda: layer("retnet")(tokens()[0])),
        (TypeError, "floating-point", lambda: layer("retnet")(tokens().long())),
        (ValueError, "the state should be", lambda: layer("retnet")(tokens(), torch.zeros(B, HEADS, 4, 5))),
        (KeyError, "Did you mean", lambda: layer("retnett")),
        (TypeError, "a name or an Architecture", lambda: layer(torch.nn.LSTM)),
        (TypeError, "no trainable layer", lambda: layer(indexed)),
        (ValueError, "complex", lambda: layer(complex_output)),
        (ValueError, "3 groups", lambda: layer(ZOO["retnet"].with_domain(q=dsf.Shared(dsf.Vector, 3)))),
        (ValueError, "declines", lambda: layer("deltanet", backend="chunked_scalar")),
    ],
)
def test_bad_sizes_and_inputs_are_refused(error, match, call):
    with pytest.raises(error, match=match):
        call()


# ------------------------------------------------------------------------------------------------------- a user's own
OWN = """
from dsf import LogDecay, System, Vector, architecture, decay, I

@architecture("Leaky memory")
def leaky_memory(ask=Vector, tell=Vector, fade=LogDecay):
    return System(A=decay(fade) * I, B=tell, C=ask)
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    file = tmp_path / "leaky.py"
    file.write_text(OWN)
    spec = importlib.util.spec_from_file_location("leaky", file)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "leaky", module)
    monkeypatch.setattr(definition, "_REGISTRY", dict(definition._REGISTRY))
    spec.loader.exec_module(module)
    return module.leaky_memory


def test_a_users_own_architecture_trains_on_a_fast_kernel(own):
    """It learns to give back the sum of what it has seen, and no file of the library knows its name."""
    assert dsf.architecture_named("leaky_memory") is own
    torch.manual_seed(0)
    mixer = dsf.Mixer("leaky_memory", d_model=D, heads=2)
    x = torch.randn(4, 100, D)
    target = x.cumsum(1) / 10
    assert dsf.explain(*mixer.system(x)).kernel != "sequential"
    optimiser, losses = torch.optim.Adam(mixer.parameters(), lr=1e-2), []
    for _ in range(40):
        loss = (mixer(x)[0] - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_a_users_own_architecture_shows_runs_and_is_judged(own):
    """No file of the library knows its name or its signals: equations, a run, a spectrum and a verdict all the same."""
    text = repr(own)
    assert "x_t = " in text and all(signal in text for signal in own.signals) and "Scaled" in text
    signals, u = own.sample(batch=1, length=70, heads=2, n=3, p=2)
    system = own(**signals)
    (y, x), (expected, state) = dsf.simulate(system, u), dsf.simulate(system, u, backend="reference")
    assert torch.allclose(y, expected, rtol=1e-10) and torch.allclose(x, state, rtol=1e-10)
    assert dsf.explain(system, u).kernel != "sequential"
    assert dsf.spectrum(own).parts == (dsf.Interval(0, 1),)
    verdict = dsf.parity(own)
    assert verdict.answer is False and verdict.check()


def test_training_is_the_same_on_the_reference(own):
    gradients = []
    for backend in ("auto", "reference"):
        mixer = layer(own, backend=backend)
        mixer(tokens(100))[0].square().mean().backward()
        gradients.append({k: parameter.grad for k, parameter in mixer.named_parameters()})
    for name, gradient in gradients[0].items():
        scale = max(1, gradients[1][name].abs().max().item())
        assert (gradient - gradients[1][name]).abs().max() < STREAMED * scale, name
