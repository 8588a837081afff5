"""The kernel "compiled_low_rank" against the reference: delta rules with one decay, one per channel, none, signed."""

import pytest
import torch

import dsf
from dsf.operators import DiagonalPlusLowRank
from kernel_cases import (
    EXACT,
    FP32,
    HALF,
    LENGTHS,
    MIN,
    check_causal,
    check_half,
    check_kept,
    check_pieces,
    check_reference,
    close,
    draw,
    poisoned_memory,  # noqa: F401
    with_ends,
)
from low_rank_cases import constant, separate, separate_before, signed

pytest.importorskip("numba")
pytestmark = pytest.mark.usefixtures("poisoned_memory")
KERNEL = "compiled_low_rank"


@dsf.architecture("No diagonal at all, one number written", register=False)
def no_diagonal(q=dsf.Vector, k=dsf.Unit, v=dsf.Unit, s=dsf.Scalar):
    return dsf.System(A=DiagonalPlusLowRank(0, 1, k, v), B=s, C=q)


ZOO = {name: dsf.architecture_named(name) for name in ("deltanet", "gated_deltanet", "kda", "deltaproduct")}
TO_TWO = {name: ZOO[name].with_domain(beta=dsf.Scalar(0, 2)) for name in ("gated_deltanet", "kda")}
OWN = {a.name: a for a in (separate, separate_before, signed, constant, no_diagonal)}
ALL = ZOO | {f"{name} to two": a for name, a in TO_TWO.items()} | OWN


def at_the_ends(signals, decays=(-20.0, MIN, 0.0)):
    """Decays and multipliers at their ends, and one key for all steps of the first head."""
    ends = {"g": decays, "beta": (0.0, 1.0, 2.0), "d": (0.0, 1.0)}
    signals = with_ends(signals, **{key: values for key, values in ends.items() if key in signals})
    k = signals["k"]
    if k.dim() < 4 or not k.shape[1]:
        return signals
    return signals | {"k": torch.cat([k[:, :1, :1].expand_as(k[:, :, :1]), k[:, :, 1:]], 2)}


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("name", ALL)
def test_it_is_the_reference(name, length):
    signals, u = draw(ALL[name], length, heads=2)
    check_reference(KERNEL, ALL[name], at_the_ends(signals), u)


@pytest.mark.parametrize("n, p", [(1, 1), (16, 64), (20, 1), (5, 70), (3, 130), (200, 2)])
@pytest.mark.parametrize("name", ["gated_deltanet", "kda"])
def test_any_size_of_the_state(name, n, p):
    signals, u = draw(ALL[name], 67, heads=1, n=n, p=p, batch=1)
    check_reference(KERNEL, ALL[name], signals, u)
    check_reference(KERNEL, ALL[name], signals, u, torch.float32, FP32)


@pytest.mark.parametrize("name", ["deltanet", "kda to two", "deltaproduct", *OWN])
def test_fp32_at_the_end_points(name):
    """Decays of -20, -200, -10000 and -oo among weak ones, beta of 0, 1 and 2, one key over and over."""
    signals, u = draw(ALL[name], 150, heads=2)
    check_reference(KERNEL, ALL[name], at_the_ends(signals, (0, -1e-3, -20, -200, -1e4, MIN)), u, torch.float32, FP32)


def test_a_thousand_steps():
    signals, u = draw(ALL["gated_deltanet"], 1000, heads=1, batch=1)
    check_reference(KERNEL, ALL["gated_deltanet"], at_the_ends(signals), u)


def test_large_norms():
    signals, u = draw(ALL["kda"], 130, heads=1)
    check_reference(KERNEL, ALL["kda"], signals | {"q": 1e4 * signals["q"]}, 1e4 * u, torch.float32, FP32)


@pytest.mark.parametrize("dtype", HALF)
def test_half_precision(dtype):
    signals, u = draw(ALL["gated_deltanet"], 130)
    check_half(KERNEL, ALL["gated_deltanet"], at_the_ends(signals), u, dtype)


@pytest.mark.parametrize("name", ALL)
def test_pieces_and_causality(name):
    signals, u = draw(ALL[name], 150)
    check_pieces(KERNEL, ALL[name], at_the_ends(signals), u)
    check_causal(KERNEL, ALL[name])


def test_memory_of_any_strides():
    signals, u = draw(ALL["kda"], 70)
    expected = dsf.simulate(ALL["kda"](**signals), u, backend="reference")[0]
    turned = {key: x.mT.contiguous().mT for key, x in signals.items()}
    assert close(dsf.simulate(ALL["kda"](**turned), u.mT.contiguous().mT, backend=KERNEL)[0], expected, EXACT)


def test_threads_share_the_heads():
    signals, u = draw(ALL["kda"], 300, heads=5, n=32, p=32)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        check_reference(KERNEL, ALL["kda"], signals, u)
    finally:
        torch.set_num_threads(threads)


def test_second_derivatives_and_torch_func():
    signals, u = draw(separate, 4, heads=1, n=2, p=1, batch=1)
    inputs = [signals[key].detach().requires_grad_() for key in signals]

    def f(*values):
        return dsf.simulate(separate(**dict(zip(signals, values, strict=True))), u, backend=KERNEL)

    assert torch.autograd.gradgradcheck(f, inputs)
    found = torch.func.grad(lambda x: f(x, *inputs[1:])[0].sum())(inputs[0])
    assert close(found, torch.autograd.grad(f(*inputs)[0].sum(), inputs[0])[0], EXACT)


def test_backward_keeps_inputs_and_one_state_per_chunk():
    heads, length, n = 2, 640, 8
    signals, u = draw(ALL["gated_deltanet"], length, heads=heads, n=n, p=n, batch=1)
    written = heads * length * (n + 2)  # beta k, the decay, and its product with beta, which the body computes
    check_kept(KERNEL, ALL["gated_deltanet"], signals, u, heads * n * n * (length // 64 + 1) * 2 + 3 * written)


@pytest.mark.parametrize("d", [1j, torch.ones(1, 1, 1, 2, dtype=torch.complex128)])
def test_complex_entries_are_declined(d):
    k = torch.ones(1, 3, 1, 2, dtype=torch.float64)
    with pytest.raises(ValueError, match="complex"):
        dsf.simulate(dsf.System(A=DiagonalPlusLowRank(d, 1, k, k), B=k, C=k), k, backend=KERNEL)
