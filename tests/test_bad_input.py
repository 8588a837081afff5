"""What every bad drive, state and system is told: what was wrong, with the shape, and never a wrong number."""

import pytest
import torch

import dsf
from dsf import Dense, I, Scaled, System, features
from dsf.reference import scan
from helpers import linear, numbers, sampled
from systems import B, H, N, P, T, drive, plain

EXACT = 1e-10

ARCHITECTURES = dict(dsf.architectures())
LINEAR = [name for name in ARCHITECTURES if name not in ("softmax_attention", "deltaproduct", "lstm")]
runs = pytest.mark.parametrize("run", [scan, dsf.simulate], ids=["reference", "simulate"])


def mamba2(**sizes):
    return ARCHITECTURES["mamba2"](**sampled(ARCHITECTURES["mamba2"], length=T, **sizes)[0])


@runs
@pytest.mark.parametrize(
    "make, u, error, message",
    [
        (plain, numbers(B, T, H), ValueError, r"u should be \[B, T, H, p\], got shape \(2, 6, 2\)"),
        (plain, numbers(B, T, H, P).long(), TypeError, "u should be floating point, got torch.int64"),
        (plain, [1.0], TypeError, r"u should be a torch.Tensor \[B, T, H, p\], got list"),
        (plain, numbers(B, T + 1, H, P), ValueError, "axis T of the drive u is 7, but 6 in"),
        (plain, numbers(B + 1, T, H, P), ValueError, "axis B of the drive u is 3, but 2 in"),
        (plain, numbers(B, T, 1, P), ValueError, "axis H of the drive u is 1, but 2 in"),
        (plain, torch.zeros(B, T, H, P, device="meta"), ValueError, "u is on meta, the system on cpu"),
        (mamba2, numbers(B, T, H + 1, P), ValueError, "axis H of the drive u is 3, but 2 in q"),
        (lambda: mamba2(batch=1), numbers(B, T, H, P), ValueError, "axis B of the drive u is 2, but 1 in q"),
        (
            lambda: ARCHITECTURES["s4d"](**sampled(ARCHITECTURES["s4d"], heads=1)[0]),
            drive(),
            ValueError,
            "axis H .* is 2, but 1 in dt",
        ),
        (
            lambda: plain(B=I, C=I),
            numbers(B, T, H, N + 1),
            ValueError,
            "vectors of size 3, but the last axis of the drive u is 4",
        ),
        (lambda: plain(C=I), drive(), ValueError, "u should have one channel, but the last axis of the drive u is 2"),
        (lambda: plain(B=I, D=2.0), drive(N), ValueError, "D is a scalar, but y has 1 entries and u has 3"),
        (
            lambda: ARCHITECTURES["gla"],
            drive(),
            TypeError,
            "expected a System, got Architecture; .* called with its signals",
        ),
        (
            lambda: ARCHITECTURES["lstm"](**sampled(ARCHITECTURES["lstm"], length=T)[0]),
            drive(N + 1),
            ValueError,
            "size 3",
        ),
    ],
)
def test_wrong_drives(run, make, u, error, message):
    with pytest.raises(error, match=message):
        run(make(), u)


GOOD = {"gla": (B, H, N, P), "s4d": (B, H, N, P), "titans": (B, H, 2 * N, P), "softmax_attention": None, "lstm": None}


@runs
@pytest.mark.parametrize("name", GOOD)
def test_wrong_states(run, name):
    arch = ARCHITECTURES[name]
    signals, u = sampled(arch)
    system = arch(**signals)
    good = run(system, u)[1]
    if GOOD[name]:
        assert tuple(good.shape) == GOOD[name]
        for wrong in (good[:1], good[:, :, :1], good[..., :1], good[..., None]):
            with pytest.raises(ValueError, match=r"state should be \[B, H, n, p\] = .*, got"):
                run(system, u, wrong)
            with pytest.raises(ValueError, match=r"state should be \[B, H, n, p\]"):
                run(System(A=system.A, B=system.B, C=system.C, x0=wrong), u)
        with pytest.raises(TypeError, match="state should be a tensor"):
            run(system, u, (good, good))
        return
    with pytest.raises(TypeError, match="is the pair"):
        run(system, u, good[0])
    for wrong in ((good[0][:1], good[1]), (good[0], good[1][:1]), (good[1], good[0])):
        with pytest.raises(ValueError, match="state should be"):
            run(system, u, wrong)


@pytest.mark.parametrize(
    "changes, error, message",
    [
        ({"A": numbers(N, N)}, TypeError, "A must be an operator, .* got Tensor"),
        ({"reads": "during"}, ValueError, 'reads is "after" or "before"'),
        ({"B": I, "C": I, "normalised": True}, ValueError, "vector B and a vector C"),
        ({"A": Scaled(0.5), "B": features.exp(numbers(N)), "C": features.exp(numbers(N))}, ValueError, "with A = I"),
        ({"A": I, "B": features.exp(numbers(N))}, ValueError, "both B and C"),
        ({"A": I, "B": features.exp(numbers(N)), "C": features.exp(numbers(N)), "D": 1.0}, ValueError, "D = 0"),
        (
            {"A": I, "B": features.exp(numbers(N)), "C": features.exp(numbers(N)), "reads": "before"},
            ValueError,
            "after",
        ),
    ],
)
def test_wrong_systems(changes, error, message):
    with pytest.raises(error, match=message):
        plain(**changes)


def test_what_has_no_matrices_says_why():
    for name, why in (
        ("softmax_attention", "infinite features"),
        ("deltaproduct", "micro-steps"),
        ("lstm", "nonlinear readout"),
    ):
        arch = ARCHITECTURES[name]
        signals, u = sampled(arch)
        with pytest.raises(ValueError, match=f"this one .*{why}"):
            linear(arch, signals, u).dense_operators()
    with pytest.raises(ValueError, match="not complex linear"):
        ARCHITECTURES["s4d"](**sampled(ARCHITECTURES["s4d"])[0]).dense_operators()
    with pytest.raises(ValueError, match="y has 4 entries and u has 1"):
        plain(C=Dense(numbers(B, T, H, 4, N)), D=1.0).dense_operators()
    with pytest.raises(ValueError, match="numbers only"):
        System(A=I, B=I, C=I).dense_operators()
    with pytest.raises(ValueError, match="varies over 6 steps: it has no kernel of length 3"):
        plain().kernel(3)


def test_dependence_of_a_system_without_an_architecture():
    assert plain().dependence()["A"] == "unknown"
    assert plain(A=I, B=numbers(1, 1, H, N), C=numbers(1, 1, H, N)).dependence()["A"] == "const"
