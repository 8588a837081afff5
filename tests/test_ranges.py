"""What is said of the values of a tensor holds for every input; what is not known is not said."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

import dsf
from dsf import Interval, LogDecay, Scalar, inf
from dsf.converter_tools import found_domain
from dsf.ranges import Ranges
from dsf.recording import Call
from tiny_models import FAMILIES, example_tokens, tiny_model

OF_ONE = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "softplus": F.softplus,
    "softplus below": lambda x: F.softplus(x, beta=-2.0),
    "logsigmoid": F.logsigmoid,
    "silu": F.silu,
    "exp": torch.exp,
    "neg": torch.neg,
    "relu": torch.relu,
    "abs": torch.abs,
    "sqrt": lambda x: x.abs().sqrt(),
    "rsqrt": lambda x: (x * x).rsqrt(),
    "softmax": lambda x: x.softmax(-1),
    "clamp": lambda x: x.clamp(-0.5, 2.0),
    "clamp below": lambda x: x.clamp(min=0.25),
    "clamp above": lambda x: x.clamp(max=0.25),
    "clamp by a tensor": lambda x: x.clamp(min=torch.zeros(6)),
    "empty clamp": lambda x: x.clamp(2.0, -0.5),
    "twice": lambda x: x * 2.0,
    "minus": lambda x: -3 * x,
    "one minus": lambda x: 1 - x,
    "one minus three": lambda x: torch.rsub(x, 1, alpha=3),
    "less three": lambda x: torch.sub(x, 0.5, alpha=3),
    "plus": lambda x: x + 0.5,
    "plus infinity": lambda x: x + inf,
    "half": lambda x: x / 2,
    "over": lambda x: 2.0 / (x.abs() + 0.5),
    "whole": lambda x: x.long().to(x.dtype),
    "floor": lambda x: torch.div(x, 0.3, rounding_mode="floor"),
    "views": lambda x: x.view(2, 3).transpose(0, 1).reshape(-1).flip(0),
    "places": lambda x: x[torch.tensor([5, 4, 3, 0, 1, 2])],
    "parts": lambda x: torch.cat(x.chunk(2)[::-1]),
    "padded": lambda x: F.pad(x[:4], (1, 1), value=3.0),
    "masked": lambda x: x.masked_fill(torch.arange(6) > 3, -2.0),
    "float16": lambda x: x.half().to(x.dtype),
    "unknown": torch.sin,
}
OF_TWO = {
    "mul": torch.mul,
    "add": torch.add,
    "sub": torch.sub,
    "div": torch.div,
    "where": lambda a, b: torch.where(torch.arange(6) > 2, a, b),
    "stack": lambda a, b: torch.stack([a, b])[:, ::2].reshape(-1),
    "alpha": lambda a, b: torch.add(a, b, alpha=-3),
}
IN_PLACE = {
    "mul_": lambda a, b: a.mul_(-7.0),
    "sigmoid_": lambda a, b: a.sigmoid_(),
    "a part": lambda a, b: a[1:3].add_(5.0),
    "an entry": lambda a, b: a.__setitem__(0, 9.0),
    "entries": lambda a, b: a.__setitem__(torch.tensor([2, 3]), -9.0),
    "a view": lambda a, b: a.view(2, 3).neg_(),
    "copy_": lambda a, b: a.copy_(b),
    "clamp_": lambda a, b: a.clamp_(0.1, 0.2),
    "data": lambda a, b: a.data.add_(3.0),
    "out": lambda a, b: torch.sub(b, 8.0, out=a),
    "several": lambda a, b: torch._foreach_mul_([a], 11.0),
    "zero_": lambda a, b: a.zero_(),
}
STEPS = st.lists(
    st.tuples(st.sampled_from([*OF_ONE, *OF_TWO, *IN_PLACE]), st.integers(0, 9), st.integers(0, 9)), max_size=12
)


@settings(max_examples=400, deadline=None)
@given(STEPS, st.integers(0, 2**31))
def test_no_value_ever_leaves_the_range_that_is_claimed(steps, seed):
    """Of every tensor that there is, views too, after every step of a random program."""
    generator = torch.Generator().manual_seed(seed)
    with Ranges() as ranges:
        x = 4 * torch.randn(6, generator=generator, dtype=torch.float64)
        alive = [x, x[:], (3 * torch.randn(6, generator=generator, dtype=torch.float64)).sigmoid()]
        for name, i, j in steps:
            a, b = alive[i % len(alive)], alive[j % len(alive)]
            try:
                if name in IN_PLACE:
                    IN_PLACE[name](a, b)
                else:
                    alive += [OF_ONE[name](a) if name in OF_ONE else OF_TWO[name](a, b)]
            except RuntimeError:  # torch refuses (memory that overlaps, a view that is none): nothing happened
                continue
            for x in alive:
                found, values = ranges.of(x), x[~x.isnan()]
                if found is not None and len(values):
                    slack = 2e-3 * (1 + x[x.isfinite()].abs().amax().item() if x.isfinite().any() else 1)  # float16
                    assert found.lo - slack <= values.min() and values.max() <= found.hi + slack, (name, found, x)


@pytest.mark.parametrize(
    "name", sorted({*OF_ONE} - {"unknown", "clamp by a tensor", "plus infinity", "whole", "floor"})
)
def test_of_a_gate_much_is_known(name):
    """What is claimed of an operation on [0, 1] is no wider than need be, by more than the other rules allow."""
    silent = {"softplus below", "one minus three", "less three"}
    with Ranges() as ranges:
        found = ranges.of(OF_ONE[name](torch.randn(6).sigmoid()))
    assert (found is None) == (name in silent)
    exact = {"twice": (0, 2), "minus": (-3, 0), "one minus": (0, 1), "half": (0, 0.5), "neg": (-1, 0), "relu": (0, 1)}
    exact |= {"clamp": (0, 1), "clamp below": (0.25, 1), "clamp above": (0, 0.25), "empty clamp": (-0.5, -0.5)}
    exact |= {"over": (2 / 1.5, 4), "views": (0, 1), "places": (0, 1), "parts": (0, 1), "float16": (0, 1)}
    exact |= {"padded": (0, 3), "masked": (-2, 1), "plus": (0.5, 1.5), "abs": (0, 1)}
    if name in exact:
        assert (found.lo, found.hi) == pytest.approx(exact[name])


def test_what_is_known_is_said():
    x, weight = torch.randn(4), torch.nn.Parameter(torch.randn(4))
    with Ranges() as ranges:
        cases = {
            (x.sigmoid() * 2.0): Interval(0, 2),
            (-weight.float().exp() * F.softplus(x + weight)): Interval(-inf, 0),
            (-5.0 * torch.sigmoid(weight.exp() * x)): Interval(-5, 0),
            F.softplus(x).clamp(1e-3, inf): Interval(1e-3, inf),
            (1 - x.sigmoid()): Interval(0, 1),
            x.sigmoid().unsqueeze(0).expand(3, 4).chunk(2, -1)[0]: Interval(0, 1),
        }
        for tensor, expected in cases.items():
            assert ranges.of(tensor) == expected
        for unknown in (x, weight, -x, x * weight, x.sigmoid() * weight, 1 / x.tanh(), x.sigmoid() / x.tanh()):
            assert ranges.of(unknown) is None
        assert ranges.of(x.tanh().relu()) == Interval(0, 1) and ranges.of(x.relu()) == Interval(0, inf)
        value, buffer = torch.ops.aten.log_sigmoid_forward(x)  # the second is no logarithm
        assert ranges.of(value) == Interval(-inf, 0) and ranges.of(buffer) is None
    assert Ranges().of(0.5) == Interval(0.5, 0.5) and Ranges().of(float("nan")) is None


def test_a_write_in_place_ends_what_was_known_of_its_memory():
    with Ranges() as ranges:
        x = torch.rand(4).sigmoid()
        view, other = x.view(2, 2)[1], x + 0.0
        x += torch.randn(4)
        assert ranges.of(x) is ranges.of(view) is None and ranges.of(other) == Interval(0, 1)
        y = torch.rand(4).sigmoid()
        view = y[:2]
        y.mul_(3.0)
        assert ranges.of(y) == Interval(0, 3) and ranges.of(view) is None
        z = torch.rand(4).sigmoid()
        z[0] = 7.0
        assert ranges.of(z) is None
        z = torch.rand(4).sigmoid()
        with ranges.paused():
            z.mul_(3.0)
        assert ranges.of(z) is None


def test_what_is_beside_a_view_is_not_its_own():
    with Ranges() as ranges:
        x = torch.randn(8)
        part = x[:4].sigmoid_()
        assert ranges.of(part) == Interval(0, 1) and ranges.of(torch.as_strided(part, (8,), (1,))) is None


def test_numbers_beyond_a_dtype_are_infinite():
    with Ranges() as ranges:
        x = (torch.randn(4).sigmoid() * 1e6).half()
        assert (
            ranges.of(x) == Interval(0, inf) and ranges.of(x.long()) is ranges.of(torch.randn(3).cfloat().exp()) is None
        )
    with torch.inference_mode(), Ranges() as ranges:
        assert ranges.of(torch.randn(3).sigmoid()) == Interval(0, 1)


def test_a_pause():
    with Ranges() as ranges, ranges.paused():
        x = torch.rand(3).sigmoid()
    assert ranges.of(x) is None


@pytest.mark.parametrize(
    ("name", "beta"), [("olmo_hybrid", Interval(0, 2)), ("qwen3_next", Interval(0, 1)), ("kimi_linear", Interval(0, 1))]
)
def test_domains_of_real_models(name, beta):
    pytest.importorskip(FAMILIES[name].module)
    layer = next(iter(dsf.convert(tiny_model(name), example_tokens()).layers.values()))
    signals = layer.architecture.signals
    assert signals["beta"].set == beta and signals["g"].set.hi == 0


def test_where_the_operations_say_nothing_the_values_decide():
    call = Call("", None, {"g": -torch.rand(3), "h": torch.randn(3)}, ranges={})
    assert found_domain(call, "g", Scalar, within=LogDecay) == LogDecay
    assert found_domain(call, "h", Scalar, within=LogDecay) == Scalar == found_domain(call, "g", Scalar)
    known = replace(call, ranges={"g": Interval(-2, 0)})
    assert found_domain(known, "g", Scalar, within=LogDecay) == Scalar(-2, 0)


def test_a_mixer_of_another_name_gets_the_same_domains():
    """The domain comes from the operations, not from the class."""
    modeling = pytest.importorskip("transformers.models.olmo_hybrid.modeling_olmo_hybrid")

    class Elsewhere(modeling.OlmoHybridGatedDeltaNet):
        def forward(self, hidden_states, **kwargs):
            q, k, v = (F.silu(p(hidden_states)).unflatten(-1, (2, 12)) for p in (self.q_proj, self.k_proj, self.v_proj))
            beta = 0.75 * torch.sigmoid(self.b_proj(hidden_states))
            g = -F.softplus(self.a_proj(hidden_states))
            rule = modeling.torch_chunk_gated_delta_rule
            return rule(q, k, v, g=g, beta=beta, use_qk_l2norm_in_kernel=True)[0]

    transformers = pytest.importorskip("transformers")
    sizes = dict(linear_num_key_heads=2, linear_num_value_heads=2, linear_key_head_dim=12, linear_value_head_dim=12)
    config = transformers.OlmoHybridConfig(
        **dict(vocab_size=64, hidden_size=24, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2),
        **sizes,
        layer_types=["linear_attention", "full_attention"],
    )
    torch.manual_seed(0)
    mixer = Elsewhere(config, 0).eval()
    Elsewhere.__module__ = modeling.__name__  # its function is found in the file of its class
    conversion = dsf.convert(mixer, torch.randn(1, 20, 24))
    (layer,) = conversion.layers.values()
    assert layer.architecture.signals["beta"].set == Interval(0, 0.75)
    assert dsf.spectrum(layer.architecture).nonnegative and dsf.parity(layer).answer is False
