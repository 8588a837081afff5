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
    "logsigmoid": F.logsigmoid,
    "silu": F.silu,
    "exp": torch.exp,
    "neg": torch.neg,
    "relu": torch.relu,
    "abs": torch.abs,
    "softmax": lambda x: x.softmax(-1),
    "clamp": lambda x: x.clamp(-0.5, 2.0),
    "clamp below": lambda x: x.clamp(min=0.25),
    "twice": lambda x: x * 2.0,
    "minus": lambda x: -3 * x,
    "one minus": lambda x: 1 - x,
    "plus": lambda x: x + 0.5,
    "half": lambda x: x / 2,
    "views": lambda x: x.view(2, 3).transpose(0, 1)[1:].reshape(-1).repeat(2)[:6],
    "half precision": lambda x: x.bfloat16().float(),
    "unknown": torch.sin,
}
OF_TWO = {"mul": torch.mul, "add": torch.add, "sub": torch.sub}


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from(sorted(OF_ONE)), min_size=1, max_size=5),
    st.lists(st.sampled_from(sorted(OF_ONE)), min_size=1, max_size=5),
    st.sampled_from(sorted(OF_TWO)),
    st.integers(0, 2**31),
)
def test_no_value_leaves_the_range_that_is_claimed(first, second, joined, seed):
    generator = torch.Generator().manual_seed(seed)
    results = []
    with Ranges() as ranges:
        for chain in (first, second):
            x = 4 * torch.randn(6, generator=generator)
            for name in chain:
                x = OF_ONE[name](x)
                results.append((x, ranges.of(x)))
            x = x if len(x) == 6 else F.pad(x, (0, 6 - len(x)))
            results.append(x)
        a, b = (x for x in results if isinstance(x, torch.Tensor))
        joined = OF_TWO[joined](a, b)
        results.append((joined, ranges.of(joined)))
    for x, found in (r for r in results if isinstance(r, tuple)):
        if found is not None and x.isfinite().all() and len(x):
            slack = 1e-2 * max(1.0, x.abs().max().item())  # bfloat16 rounds
            assert found.lo - slack <= x.min() and x.max() <= found.hi + slack


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
        assert ranges.of(x) is ranges.of(weight) is ranges.of(x * weight) is ranges.of(x.sigmoid() * weight) is None
    assert Ranges().of(0.5) == Interval(0.5, 0.5) and Ranges().of(float("nan")) is None


def test_an_operation_in_place_ends_what_was_known():
    with Ranges() as ranges:
        x = torch.rand(3).sigmoid()
        assert ranges.of(x) == Interval(0, 1)
        x += torch.randn(3)
        assert ranges.of(x) is None
        y = torch.rand(3).sigmoid()
        y.mul_(3.0)
        assert ranges.of(y) in (None, Interval(0, 3))


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
