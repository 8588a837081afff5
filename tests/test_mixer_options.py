"""Short convolution, gate and norm around a layer's system; one token after the other; compiled, half, on no device."""

import copy
import io

import pytest
import torch
from torch.nn.functional import silu
from torch.utils.checkpoint import checkpoint

import dsf
from dsf_kernels.layer_parts import MixerState, ShortConvolution

B, T, D, HEADS, WIDTH = 2, 17, 16, 4, 4
STREAMED = 1e-10  # fp64, relative: in pieces against the whole
HALF = {torch.bfloat16: 0.1, torch.float16: 0.02}  # relative to the largest entry of y
ZOO = {k: a for k, a in dsf.architectures().items() if a.body.__module__.startswith("dsf.zoo")}
EVERYTHING = {"conv": WIDTH, "gate": True, "norm": "rms"}
OPTIONS = [{}, {"conv": WIDTH}, {"conv": 1, "gate": True}, {"norm": "rms"}, EVERYTHING]


def layer(architecture, **options):
    torch.manual_seed(0)
    return dsf.Mixer(architecture, D, HEADS, **({"dtype": torch.float64} | options))


def tokens(length=T, dtype=torch.float64):
    return torch.randn(B, length, D, dtype=dtype, generator=torch.Generator().manual_seed(1))


def close(x, y, tolerance=STREAMED):
    assert x.shape == y.shape
    assert (x - y).abs().max() <= tolerance * max(1, y.abs().max().item())


def parts_of(state):
    return [part for x in state for part in parts_of(x)] if isinstance(state, tuple) else [state]


@pytest.mark.parametrize("name", ZOO)
def test_every_architecture_learns_streams_and_steps_with_every_option(name):
    mixer, x = layer(name, **EVERYTHING), tokens().requires_grad_()
    y, final = mixer(x)
    assert y.shape == x.shape and y.isfinite().all() and isinstance(final, MixerState)
    y.square().mean().backward()
    expected, x.grad = x.grad, None
    still = [
        k for k, p in mixer.named_parameters() if p.grad is None or not p.grad.any() or not p.grad.isfinite().all()
    ]
    assert not still, f"these do not learn: {still}"
    state, parts = None, []
    for lo, hi in ((0, 2), (2, 2), (2, 3), (3, 11), (11, T)):  # also pieces shorter than the convolution, and none
        part, state = mixer(x[:, lo:hi], state)
        parts.append(part)
    close(torch.cat(parts, 1), y)
    torch.cat(parts, 1).square().mean().backward()
    close(x.grad, expected)
    for mine, whole in zip(parts_of(state), parts_of(final), strict=True):
        close(mine, whole)
    _, cache = mixer(x[:, :9])
    for t in range(9, T):
        now, cache = mixer.step(x[:, t] if t % 2 else x[:, t : t + 1], cache)
        assert now.shape == ((B, D) if t % 2 else (B, 1, D))
        close(now.reshape(B, D), y[:, t])


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("name", ["linear_attention", "lstm", "deltaproduct", "s4d"])
def test_a_layer_is_decoded_from_its_first_token(name, options):
    mixer, x = layer(name, **options), tokens()
    y, cache = mixer(x)[0], None
    for t in range(T):
        now, cache = mixer.step(x[:, t], cache)
        close(now, y[:, t])
    assert isinstance(cache, MixerState) == ("conv" in options)


def test_the_equations_written_out():
    """z_t = silu(sum_j w_j f_{t-j}) of q, k and u; y over its root mean square; the gate; the outward map."""
    mixer, x = layer("linear_attention", **EVERYTHING), tokens()
    torch.nn.init.normal_(mixer.norm.weight)
    features = x @ mixer.inward.weight.T + mixer.inward.bias
    w = mixer.convolution.weight[:, 0]  # as torch keeps it: the last entry meets the present
    z = [
        silu(sum(w[:, WIDTH - 1 - j] * features[:, t - j] for j in range(WIDTH) if t >= j)) for t in range(T)
    ]  # fmt: skip
    q, k, u = torch.stack(z, 1).unflatten(-1, (3, HEADS, -1)).unbind(2)
    y, _ = dsf.simulate(ZOO["linear_attention"](q=q, k=k), u)
    y = y / (y.square().mean(-1, keepdim=True) + 1e-5).sqrt() * mixer.norm.weight
    y = y.flatten(2) * silu(x @ mixer.gate.weight.T)
    close(mixer(x)[0], y @ mixer.outward.weight.T + mixer.outward.bias)


@pytest.mark.parametrize(
    ("name", "seen", "channels"),
    [
        ("deltanet", ("q", "k"), 3 * D),
        ("gla", ("q", "k"), 3 * D),  # not its decays
        ("gated_deltanet", ("q", "k"), 3 * D),
        ("deltaproduct", ("q", "k"), D + 2 * D + 2 * D),
        ("mamba", ("b", "c"), 2 * D // HEADS + D),  # shared by the heads
        ("rglru", (), D),  # a decay and a gate
        ("s4d", (), D),  # constants
        ("lstm", (), D),  # summands inside its gates
    ],
)
def test_the_convolution_sees_what_is_written_and_read(name, seen, channels):
    mixer = layer(name, **EVERYTHING)
    assert mixer.convolution.in_channels == channels
    x = tokens().requires_grad_()
    signals = mixer.system(x)[0].signals
    for signal in mixer.projected:
        felt = torch.autograd.grad(signals[signal][:, -1].sum(), x, retain_graph=True)[0]
        assert bool(felt[:, : T - 1].any()) == (signal in seen), signal
        assert not felt[:, : T - WIDTH].any()
    assert torch.autograd.grad(mixer.system(x)[1][:, -1].sum(), x)[0][:, -WIDTH:].any(-1).all()


def test_the_past_does_not_see_the_future():
    for name in ("mamba2", "deltaproduct", "lstm", "softmax_attention"):
        mixer, x = layer(name, **EVERYTHING), tokens()
        y, z = (mixer(torch.cat([x[:, :9], sign * x[:, 9:]], 1))[0] for sign in (1, -1))
        assert torch.equal(y[:, :9], z[:, :9]) and not torch.equal(y[:, 9], z[:, 9])


def test_options_start_as_torchs():
    mixer = layer("retnet", **EVERYTHING)
    torch.manual_seed(3)
    mixer.reset_parameters()
    torch.manual_seed(3)
    inward = torch.nn.Linear(D, mixer.inward.out_features, dtype=torch.float64)
    convolution = torch.nn.Conv1d(3 * D, 3 * D, WIDTH, groups=3 * D, bias=False, dtype=torch.float64)
    assert torch.equal(mixer.inward.weight, inward.weight)
    assert mixer.convolution.weight.abs().max() <= WIDTH**-0.5
    assert mixer.convolution.weight.std().item() == pytest.approx(convolution.weight.std().item(), rel=0.2)
    assert (mixer.norm.weight == 1).all() and mixer.gate.bias is None and mixer.convolution.bias is None


def test_a_tail_keeps_no_sequence():
    _, state = layer("retnet", conv=WIDTH)(tokens(500))
    assert state.tail.untyped_storage().nbytes() == state.tail.nbytes == B * (WIDTH - 1) * 3 * D * 8


# ------------------------------------------------------------------------------------------------------ being a module
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_it_is_saved_copied_and_pickled(options):
    for name in ("gla", "lssl", "gru"):
        mixer, x = layer(name, **options), tokens()
        expected, state = mixer(x)
        again, _ = mixer(x, state)
        fresh = dsf.Mixer(name, D, HEADS, dtype=torch.float64, **options)
        fresh.load_state_dict(mixer.state_dict())
        file = io.BytesIO()
        torch.save((mixer, state), file)
        file.seek(0)
        loaded, state = torch.load(file, weights_only=False)
        for same in (fresh, copy.deepcopy(mixer), loaded):
            assert torch.equal(same(x)[0], expected) and torch.equal(same(x, state)[0], again)


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("name", ZOO)
def test_half_precision_and_autocast(name, dtype):
    """Half modules and fp32 ones under autocast: y near that of fp32, finite gradients; decoding goes on."""
    mixer, x = layer(name, dtype=torch.float32, **EVERYTHING), tokens(dtype=torch.float32)
    expected = mixer(x)[0].detach()
    half = copy.deepcopy(mixer).to(dtype)
    y, state = half(x.to(dtype))
    y_autocast = None
    with torch.autocast("cpu", dtype):
        y_autocast, cast = mixer(x)
        assert mixer.step(x[:, 0], cast)[0].isfinite().all()
    for found, module in ((y, half), (y_autocast, mixer)):
        assert found.dtype == dtype
        assert (found - expected).abs().max() < HALF[dtype] * expected.abs().max()
        found.float().square().mean().backward()
        assert all(p.grad.isfinite().all() for p in module.parameters())
    assert half.step(x[:, 0].to(dtype), state)[0].dtype == dtype


@pytest.mark.parametrize("name", ZOO)
def test_it_is_made_without_memory_and_filled_later(name):
    with torch.device("meta"):
        also = dsf.Mixer(name, D, HEADS, **EVERYTHING)
    mixer = dsf.Mixer(name, D, HEADS, device="meta", dtype=torch.float64, **EVERYTHING)
    made = layer(name, **EVERYTHING)
    for module in (mixer, also):
        assert all(t.is_meta for t in (*module.parameters(), *module.buffers()))
        assert {k: t.shape for k, t in module.named_parameters()} == {k: t.shape for k, t in made.named_parameters()}
    mixer.to_empty(device="cpu")
    for module in (mixer, made):
        torch.manual_seed(5)
        module.reset_parameters()
    assert torch.equal(mixer(tokens())[0], made(tokens())[0])


@pytest.mark.parametrize("name", ["gated_deltanet", "lstm", "softmax_attention"])
def test_activations_are_checkpointed(name):
    mixer, x = layer(name, **EVERYTHING), tokens().requires_grad_()
    gradients = []
    for run in (mixer, lambda x: checkpoint(mixer, x, use_reentrant=False)):
        y, _ = run(x)
        gradients.append(torch.autograd.grad(y.square().mean(), [x, *mixer.parameters()]))
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["linear_attention", "deltanet", "gla", "lstm"])
def test_it_is_compiled(name):
    """Outputs, gradients, carried states, other lengths: as eager ones; a graph without a break."""
    mixer, x = layer(name, **EVERYTHING), tokens().requires_grad_()
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    compiled = torch.compile(mixer, backend="aot_eager", fullgraph=True)
    found = []
    for run in (mixer, compiled):
        state, parts = None, []
        for piece in x.split([9, 7, 1], 1):
            y, state = run(piece, state)
            parts.append(y)
        y = torch.cat(parts, 1)
        found.append((y, *torch.autograd.grad(y.square().mean(), [x, *mixer.parameters()])))
    for eager, other in zip(*found, strict=True):
        close(other, eager)


@pytest.mark.parametrize(
    ("error", "match", "call"),
    [
        (ValueError, "width of a short convolution", lambda: layer("retnet", conv=0)),
        (ValueError, "width of a short convolution", lambda: layer("retnet", conv=True)),
        (ValueError, "gate should be True or False", lambda: layer("retnet", gate="silu")),
        (ValueError, 'norm should be None or "rms"', lambda: layer("retnet", norm="layer")),
        (ValueError, "one channel", lambda: layer("retnet", p=1, norm="rms")),
        (ValueError, "step takes one token", lambda: layer("retnet").step(tokens())),
        (ValueError, "d_model = 16", lambda: layer("retnet").step(tokens()[:, 0, :-1])),
        (TypeError, "as a tensor", lambda: layer("retnet").step([1.0])),
        (TypeError, "floating-point", lambda: layer("retnet").step(tokens()[:, 0].long())),
        (TypeError, "no convolution", lambda: layer("retnet")(tokens(), layer("retnet", conv=2)(tokens())[1])),
        (TypeError, "carries MixerState", lambda: layer("retnet", conv=2)(tokens(), layer("retnet")(tokens())[1])),
        (ValueError, "the tail should", lambda: layer("gla", conv=3)(tokens(), MixerState(None, torch.ones(B, 1, 48)))),
        (ValueError, "the state should be", lambda: layer("retnet", n=3)(tokens(), layer("retnet")(tokens())[1])),
    ],
)  # fmt: skip
def test_options_and_states_that_do_not_fit_are_refused(error, match, call):
    with pytest.raises(error, match=match):
        call()


def test_the_convolution_is_torchs():
    convolution, x = ShortConvolution(6, WIDTH, dtype=torch.float64), tokens()[..., :6]
    padded = torch.nn.functional.pad(x.mT, (WIDTH - 1, 0))
    close(convolution(x)[0], silu(torch.nn.functional.conv1d(padded, convolution.weight, groups=6)).mT)
