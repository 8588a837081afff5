"""Systems from systems, each against a loop: series, parallel, both directions, normalised, micro-steps."""

import pytest
import torch

import dsf
from dsf import (
    Dense,
    Each,
    First,
    I,
    RealPart,
    Scalar,
    System,
    Unit,
    Vector,
    architecture,
    decay,
    diag,
    microsteps,
    outer,
)
from dsf.reference import scan
from helpers import assert_close, numbers, relative, sampled

EXACT = 1e-10
B, T, H, N, P = 2, 6, 2, 3, 2


def some(seed, n=N, kind="channels", time=T, x0=False, D=0.5):
    """A system of n states on p channels, or from vectors to vectors."""
    a, start = numbers(B, time, H, n, n, seed=seed) / 2, None
    if x0:
        start = numbers(B, H, n, P if kind == "channels" else 1, seed=seed + 9)
    if kind == "channels":
        b, c = numbers(1, 1, H, n, seed=seed + 1), numbers(B, time, H, n, seed=seed + 2)
        return System(A=Dense(a), B=b, C=c, D=D and numbers(B, 1, H, 1, seed=seed + 3), x0=start)
    b, c, d = (numbers(B, time, H, *size, seed=seed + i) for i, size in enumerate(((n, 4), (4, n), (4, 4))))
    return System(A=Dense(a), B=Dense(b), C=Dense(c), D=D and Dense(d), x0=start)


kinds = pytest.mark.parametrize("kind", ["channels", "vectors"])
starts = pytest.mark.parametrize("starts", [(False, False), (True, False), (False, True), (True, True)])


def drive(kind, dtype=torch.float64):
    return numbers(B, T, H, P if kind == "channels" else 4, seed=99, dtype=dtype)


@starts
@kinds
def test_series_feeds_one_system_into_the_other(kind, starts):
    first, second = some(1, 2, kind, x0=starts[0]), some(10, 3, kind, 1, x0=starts[1])
    u = drive(kind)
    between, x = scan(first, u)
    y, z = scan(second, between)
    assert_close(scan(dsf.series(first, second), u), (y, torch.cat([x, z], -2)), EXACT)
    assert relative(scan(dsf.series(second, first), u)[0], y) > 1e-3


@starts
@kinds
def test_parallel_adds_outputs(kind, starts):
    first, second = some(1, 2, kind, x0=starts[0]), some(10, 3, kind, 1, x0=starts[1])
    u = drive(kind)
    (y, x), (w, z) = scan(first, u), scan(second, u)
    assert_close(scan(dsf.parallel(first, second), u), (y + w, torch.cat([x, z], -2)), EXACT)


def test_joins_of_different_structures_and_of_complex_systems():
    """Identity, numbers and complex diagonals have no leaves of the full shape."""
    q, k, u = numbers(B, T, H, N, seed=1), numbers(B, T, H, N, seed=2), drive("channels")
    attention, halving = System(A=I, B=k, C=q), System(A=0.5 * I, B=k, C=q, D=2.0)
    y = scan(attention, u)[0] + scan(halving, u)[0]
    assert relative(scan(dsf.parallel(attention, halving), u)[0], y) < EXACT
    assert relative(scan(dsf.series(attention, halving), u)[0], scan(halving, scan(attention, u)[0])[0]) < EXACT
    spiral = System(A=diag(torch.complex(q, k) / 4), B=k, C=q)
    y = scan(attention, u)[0] + scan(spiral, u)[0]
    assert relative(scan(dsf.parallel(attention, spiral), u)[0], y) < EXACT


@pytest.mark.parametrize("join", [dsf.series, dsf.parallel])
def test_what_cannot_be_joined_is_refused(join):
    plain = some(1)
    before = System(A=plain.A, B=plain.B, C=plain.C, reads="before")
    softmax = dsf.architecture_named("softmax_attention")
    attention = softmax(**sampled(softmax, length=T)[0])
    real = System(A=plain.A, B=plain.B, C=RealPart(plain.C))
    for wrong, message in (
        (before, "read after the update"),
        (some(1, kind="vectors"), "takes vectors"),
        (attention, "infinite features"),
        (dsf.normalised(plain), "is normalised"),
        (real, "real form"),
        (some(1, time=T + 1), "axis T"),
    ):
        with pytest.raises(ValueError, match=message):
            join(plain, wrong)


@pytest.mark.parametrize("join", ["sum", "concatenate"])
@pytest.mark.parametrize("name", ["gla", "lstm", "s4d"])
def test_both_directions(name, join):
    arch = dsf.architecture_named(name)
    (there, u), (back, _) = sampled(arch, seed=1), sampled(arch, seed=2)
    both = dsf.bidirectional(arch(**there), arch(**back), join)
    turned = {k: x if arch.signals[k].const else x.flip(1) for k, x in back.items()}
    forward, backward = scan(arch(**there), u)[0], scan(arch(**turned), u.flip(1))[0].flip(1)
    expected = forward + backward if join == "sum" else torch.cat([forward, backward], -1)
    for run in (scan, dsf.simulate):
        y, state = run(both, u)
        assert relative(y, expected) < EXACT and state is None
        with pytest.raises(ValueError, match="no state to carry"):
            run(both, u, torch.zeros(1))
    assert "not causal" in repr(both)
    with pytest.raises(ValueError, match='"sum" or "concatenate"'):
        dsf.bidirectional(arch(**there), arch(**back), "add")


@pytest.mark.parametrize("floor", [None, 1.0])
@pytest.mark.parametrize(
    "name", ["linear_attention", "retnet", "deltanet", "rwkv6", "deltaproduct", "softmax_attention"]
)
def test_normalised_divides_by_the_run_on_ones(name, floor):
    arch = dsf.architecture_named(name)
    positive = {k: Vector(0.1, dsf.inf) for k in ("q", "k", "r") if k in arch.signals and not arch.signals[k].unit}
    if name not in ("deltaproduct", "softmax_attention"):  # a normaliser near 0 is ill-conditioned
        arch = arch.with_domain(**positive)
    signals, u = sampled(arch, ends=0.0)
    if name == "softmax_attention":
        scores = torch.einsum("bthn,bshn->bhts", signals["q"], signals["k"]).exp().tril()
        above, below = torch.einsum("bhts,bshp->bthp", scores, u), scores.sum(-1).transpose(1, 2)[..., None]
    else:
        above, below = scan(arch(**signals), u)[0], scan(arch(**signals), torch.ones_like(u))[0]
    expected = above / (below if floor is None else below.abs().clamp(min=floor))
    for run in (scan, dsf.simulate):
        y, state = run(arch.normalised(floor)(**signals), u)
        assert relative(y, expected) < EXACT
    if name != "softmax_attention":
        assert state.shape[-1] == u.shape[-1] + 1
    if floor:
        assert not torch.equal(below.abs().clamp(min=floor), below)


def test_only_channels_are_normalised():
    with pytest.raises(ValueError, match="vector B and a vector C"):
        dsf.normalised(some(1, kind="vectors"))
    with pytest.raises(ValueError, match="vector B and a vector C"):
        dsf.architecture_named("lstm").normalised().bounds()


ONCE = First(dsf.LogDecay)  # one decay per token


def test_microsteps_with_a_first_decay_and_three_steps():
    """Gated DeltaProduct: one decay per token, then J = 3 delta steps."""

    @architecture("Gated DeltaProduct", register=False)
    def gated(q=Vector, g=ONCE, k=Each(Unit, 3), beta=Each(Scalar(0, 2), 3)):
        return microsteps(System(A=decay(g) * (I - beta * outer(k)), B=beta * k, C=q))

    signals, u = sampled(gated)
    q, g, k, beta = signals.values()
    x, outputs = torch.zeros(B, H, N, P, dtype=torch.float64), []
    for t in range(7):
        x = g[:, t].exp()[..., None, None] * x
        for j in range(3):
            kj = k[:, t, :, j]
            error = u[:, t, :, j] - (kj[..., None] * x).sum(-2)
            x = x + beta[:, t, :, j, None, None] * kj[..., None] * error[..., None, :]
        outputs.append((q[:, t, ..., None] * x).sum(-2))
    for run in (scan, dsf.simulate):
        assert_close(run(gated(**signals), u), (torch.stack(outputs, 1), x), EXACT)
    with pytest.raises(ValueError, match="axis J of the drive u is 2, but the system has 3"):
        scan(gated(**signals), u[:, :, :, :2])
    with pytest.raises(ValueError, match=r"\[B, T, H, J, p\]"):
        scan(gated(**signals), u[:, :, :, 0])


def test_microsteps_that_read_before():
    k = numbers(B, T, H, 2, N, seed=1)
    system = microsteps(System(A=0.5 * I, B=k, C=numbers(B, T, H, 1, N, seed=2), reads="before"))
    u = numbers(B, T, H, 2, P, seed=3)
    y, _ = scan(system, u)
    assert y[:, 0].abs().max() == 0 and relative(dsf.simulate(system, u)[0], y) < EXACT
    after = scan(System(A=system.A, B=system.B, C=system.C.roll(-1, 1)), u)[0]
    assert relative(y[:, 1:], after[:, :-1]) < EXACT


def test_microsteps_refuse_what_has_no_meaning():
    k = numbers(B, T, H, 2, N)
    with pytest.raises(ValueError, match="no D"):
        microsteps(System(A=I, B=k, C=k, D=1.0))
    with pytest.raises(TypeError, match="read by a vector C"):
        microsteps(System(A=I, B=k, C=I))
    with pytest.raises(TypeError, match="written by a vector B"):
        microsteps(System(A=I, B=I, C=k))
