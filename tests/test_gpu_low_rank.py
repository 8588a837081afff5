"""The Triton kernel of delta rules against the reference: one decay, one per channel, none; erase and write apart."""

import pytest
import torch

import dsf
from dsf.operators import DiagonalPlusLowRank
from dsf_kernels.gpu.walk_cut import cut_of
from kernel_cases import MIN, check_causal, check_reference, close, draw, poisoned_memory, with_ends  # noqa: F401
from long_cases import some_slow
from low_rank_cases import separate, separate_before, signed
from triton_cases import DEVICE, FP32, LENGTHS, MARKS, check_packed, many_segments  # noqa: F401

pytestmark = [*MARKS, pytest.mark.usefixtures("poisoned_memory")]
KERNEL = "triton_low_rank"
ENDS = (-20.0, MIN, 0.0, -200.0)


@dsf.architecture("RWKV-7's transition", register=False)
def rwkv7(q=dsf.Vector, k=dsf.Vector, a=dsf.Gate, along=dsf.Unit, g=dsf.Vector(-dsf.inf, 0)):
    return dsf.System(A=DiagonalPlusLowRank(dsf.decay(g), 1, a * along, along), B=k, C=q)


@dsf.architecture("Decay per channel, read before", register=False)
def channels_before(q=dsf.Vector, k=dsf.Unit, beta=dsf.Gate, g=dsf.Vector(-dsf.inf, 0)):
    return dsf.System(A=DiagonalPlusLowRank(dsf.decay(g), beta, k, k), B=k, C=q, reads="before")


@dsf.architecture("No diagonal at all, one number written", register=False)
def no_diagonal(q=dsf.Vector, k=dsf.Unit, v=dsf.Unit, s=dsf.Scalar):
    return dsf.System(A=DiagonalPlusLowRank(0, 1, k, v), B=s, C=q)


@dsf.architecture("One key for all steps, one column for all heads", register=False)
def shared(q=dsf.Vector, k=dsf.Param(dsf.Unit), beta=dsf.Param(dsf.Gate), g=dsf.LogDecay, b=dsf.Shared(dsf.Vector, 2)):
    return dsf.System(A=DiagonalPlusLowRank(dsf.decay(g), beta, k, k), B=b, C=q)


def named(name):
    own = {"rwkv7": rwkv7, "separate": separate, "separate_before": separate_before}
    return own.get(name) or dsf.architecture_named(name)


def check(arch, length, n=5, p=3, heads=1, batch=1, change=lambda signals: signals, **ends):
    signals, u = draw(arch, length, heads=heads, n=n, p=p, batch=batch)
    signals = change(with_ends(signals, **ends))
    check_reference(KERNEL, arch, signals, u, torch.float32, FP32, device=DEVICE)


CASES = [("gated_deltanet", length) for length in LENGTHS] + [("kda", 1), ("kda", 130)]


@pytest.mark.parametrize("name, length", some_slow(CASES, *(("gated_deltanet", length) for length in (63, 64, 65))))
def test_agrees_with_the_reference(name, length):
    check(named(name), length)


@pytest.mark.parametrize("name", ["deltanet", "deltaproduct", "rwkv7", "separate", "separate_before"])
def test_every_form_of_erase_and_write(name):
    check(named(name), 20, heads=2)


def test_reads_before_and_resets_by_a_number():
    check(channels_before, 20)
    check(no_diagonal, 20)


@pytest.mark.parametrize("arch, ends", [(separate, {"g": ENDS, "a": (0.0, 1.0)}), (separate_before, {"g": ENDS})])
def test_resets_and_strong_decays_are_exact(arch, ends):
    check(arch, 70, **ends)


def one_key(signals):
    return signals | {"k": signals["k"][:, :1].expand_as(signals["k"])}


@pytest.mark.parametrize("name", ["deltanet", "kda"])
def test_one_key_over_and_over(name):
    """Reflections, whose triangle has large powers and a small inverse; and beta of 0 and 1 among them."""
    arch = named(name).with_domain(beta=dsf.Scalar(0, 2))
    weak = {"g": (0.0,) * 6} if "g" in arch.signals else {}
    check(arch, 64, change=one_key, beta=(2.0,) * 6, **weak)
    check(arch, 64, change=one_key, beta=(0.0, 1.0, 2.0, 2.0, 1.0), **weak)


@pytest.mark.parametrize("name", ["gated_deltanet", "kda"])
def test_segments_of_time_meet(name, many_segments):  # noqa: F811
    check(named(name), 100)


@pytest.mark.parametrize("name", ["gated_deltanet", "kda"])
def test_several_blocks_of_channels(name):
    check(named(name), 20, n=130, p=35)


def test_states_too_wide_for_summaries(many_segments):  # noqa: F811
    """They are not cut in time."""
    check(named("gated_deltanet"), 66, n=130)
    u = torch.empty(1, 1000, 1, 3)
    segments = [cut_of(u, n, None, READY=True, RANK=True, BEFORE=0).segments for n in (128, 130)]
    assert segments[0] > 1 == segments[1]


@pytest.mark.parametrize("name", ["gated_deltanet", "kda"])
def test_short_chunks(name, monkeypatch):
    """As fp32 has them on a device."""
    monkeypatch.setattr("dsf_kernels.gpu.walk_cut.INTERPRETED", False)
    check(named(name), 40)


@pytest.mark.parametrize("name", ["gated_deltanet", "kda"])
def test_the_future_does_not_reach_the_past(name):
    check_causal(KERNEL, named(name), heads=1, n=5, p=3, batch=1, dtype=torch.float32, device=DEVICE)


def test_second_derivatives():
    signals, u = draw(separate, 3, heads=1, n=2, p=1, batch=1, dtype=torch.float32)
    inputs = [signals[key].to(DEVICE).requires_grad_() for key in signals]

    def twice(backend):
        y = dsf.simulate(separate(**dict(zip(signals, inputs, strict=True))), u.to(DEVICE), backend=backend)[0]
        first = torch.autograd.grad(y.square().sum(), inputs, create_graph=True)
        return torch.autograd.grad(sum(g.square().sum() for g in first), inputs)

    assert all(close(a, b, FP32) for a, b in zip(twice(KERNEL), twice("reference"), strict=True))


def test_what_is_shared_is_read_where_it_lies():
    check(shared, 20, heads=2, batch=2)


PACK = (0, 5, 5, 70, 71, 80)  # one that is empty, one of a step, one with a chunk and a tail


@pytest.mark.parametrize("name", some_slow(["gated_deltanet", "separate_before"], "separate_before"))
def test_sequences_in_one_pack(name):
    check_packed(KERNEL, named(name), PACK)


def test_resets_in_a_pack():
    check_packed(KERNEL, separate, PACK, lambda signals: with_ends(signals, g=ENDS), heads=1)


@pytest.mark.parametrize("name", some_slow(["gated_deltanet", "kda"], "gated_deltanet"))
def test_segments_of_packed_sequences(name, many_segments):  # noqa: F811
    check_packed(KERNEL, named(name), (0, 10, 140), heads=1)


@pytest.mark.parametrize("name", some_slow(["gated_deltanet", "kda"], "gated_deltanet"))
def test_short_chunks_of_packed_sequences(name, monkeypatch):
    """As fp32 has them on a device: several chunks in a unit, and none in the rest of the last."""
    monkeypatch.setattr("dsf_kernels.gpu.walk_cut.INTERPRETED", False)
    check_packed(KERNEL, named(name), (0, 5, 5, 38, 39), heads=1)


def test_decays_outside_log_space_are_declined():
    signals, u = draw(signed, 5, heads=1, n=2, p=1, batch=1, dtype=torch.float32)
    system = signed(**{key: x.to(DEVICE) for key, x in signals.items()})
    with pytest.raises(ValueError, match="log space"):
        dsf.simulate(system, u.to(DEVICE), backend=KERNEL)
