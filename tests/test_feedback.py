"""Systems that read their own output: the frozen gates reproduce the trajectory, the Jacobian is the derivative."""

import pytest
import torch

import dsf
from dsf import Drive, I, Matrix, Param, Previous, System, architecture, tanh
from dsf.feedback import Feedback
from dsf.reference import scan
from helpers import assert_close, at_times, numbers, relative, sampled

EXACT = 1e-10
STEP = 1e-6
FINITE_DIFFERENCES = 1e-7  # of central differences with STEP, relative

FEEDBACK = {name: arch for name, arch in dsf.architectures().items() if arch.feedback}
every = pytest.mark.parametrize("name", FEEDBACK)


@architecture("Elman, the obvious way", register=False)
def obvious(u=Drive, y=Previous, R=Param(Matrix)):
    return System(A=0 * I, B=I, C=I, u=tanh(u + R @ y))


def run(name, **sizes):
    arch = FEEDBACK[name]
    signals, u = sampled(arch, **sizes)
    system = arch(**signals)
    y, state = scan(system, u)
    return arch, signals, system, u, y, state


def states(arch, signals, u, start=None):
    """x_t and y_t at every t, as [B, T, H, n], from runs of every length."""
    found = [scan(arch(**at_times(arch, signals, slice(t))), u[:, :t], start)[1] for t in range(1, u.shape[1] + 1)]
    return torch.stack([x[..., 0] for x, _ in found], 1), torch.stack([y for _, y in found], 1)


def test_the_three_recurrent_networks_feed_back():
    assert set(FEEDBACK) == {"elman", "lstm", "gru"}


@every
def test_frozen_gates_reproduce_the_trajectory(name):
    arch, signals, system, u, y, state = run(name)
    frozen = system.along(y, u)
    assert isinstance(frozen, System) and frozen.architecture is arch
    again, x = scan(frozen, u)
    assert relative(again, y) < EXACT and relative(x, state[0]) < EXACT
    for t in (0, 3):  # and the frozen operators are those of each step
        before = torch.zeros_like(y[:, 0]) if t == 0 else y[:, t - 1]
        assert relative(system.at(t, before, u[:, t]).dense()[:, 0], frozen.dense()[:, t]) < EXACT
    wrong = system.along(y.roll(1, 1), u)
    assert relative(scan(wrong, u)[0], y) > 1e-3


@every
def test_a_trajectory_that_started_elsewhere(name):
    arch, signals, system, u, _, _ = run(name)
    start = numbers(2, 2, 3, 1, seed=5), numbers(2, 2, 3, seed=6)
    y, state = scan(system, u, start)
    frozen = system.along(y, u, start)
    again, x = scan(frozen, u)
    assert relative(again, y) < EXACT and relative(x, state[0]) < EXACT
    xs, ys = states(arch, signals, u, start)
    J = system.jacobians(ys, xs, u, start)
    assert relative(J[:, 0], system.jacobian(0, start, u[:, 0])) < EXACT
    assert relative(J[:, 0], system.jacobians(ys, xs, u)[:, 0]) > 1e-6


def by_differences(system, t, state, u):
    """d(x_t, y_t) / d(x_{t-1}, y_{t-1}), one column per direction."""
    n = u.shape[-1]

    def flat(z):
        (x, y), _ = system.step(t, (z[..., :n, None], z[..., n:]), u)
        return torch.cat([x[..., 0], y], -1)

    z = torch.cat([state[0][..., 0], state[1]], -1)
    eye = STEP * torch.eye(2 * n, dtype=z.dtype)
    return torch.stack([(flat(z + e) - flat(z - e)) / (2 * STEP) for e in eye], -1)


@every
def test_the_jacobian_is_the_derivative(name):
    _, _, system, u, _, _ = run(name)
    state = numbers(2, 2, 3, 1, seed=5), numbers(2, 2, 3, seed=6)
    for t in (0, 4):
        J = system.jacobian(t, state, u[:, t])
        assert J.shape == (2, 2, 6, 6)
        assert relative(J, by_differences(system, t, state, u[:, t])) < FINITE_DIFFERENCES
        assert relative(J, by_differences(system, t + 1, state, u[:, t + 1])) > 1e-3


@every
def test_all_jacobians_at_once_are_those_of_each_step(name):
    arch, signals, system, u, y, _ = run(name)
    xs, ys = states(arch, signals, u)
    assert relative(ys, y) < EXACT
    J = system.jacobians(y, xs, u)
    assert J.shape == (2, 7, 2, 6, 6)
    state = system.zero_state(u)
    for t in range(7):
        assert relative(J[:, t], system.jacobian(t, state, u[:, t])) < EXACT
        state = xs[:, t, ..., None], y[:, t]
    assert relative(J[:, 1:], J[:, :-1]) > 1e-3
    with torch.no_grad():
        assert torch.equal(system.jacobians(y, xs, u), J)


@every
def test_batches_and_heads_do_not_mix(name):
    arch, signals, system, u, _, _ = run(name, heads=3)
    state = numbers(2, 3, 3, 1, seed=5), numbers(2, 3, 3, seed=6)
    alone = arch(**{k: x[2:3] if arch.signals[k].const else x[1:2, :, 2:3] for k, x in signals.items()})
    J = alone.jacobian(3, (state[0][1:2, 2:3], state[1][1:2, 2:3]), u[1:2, 3, 2:3])
    assert relative(system.jacobian(3, state, u[:, 3])[1, 2], J[0, 0]) < EXACT


@every
def test_slices_continue(name):
    _, _, system, u, y, state = run(name)
    assert isinstance(system.slice(2, 5), Feedback)
    first, reached = scan(system.slice(0, 4), u[:, :4])
    assert_close(scan(system.slice(4, 7), u[:, 4:], reached), (y[:, 4:], state), EXACT)
    assert relative(first, y[:, :4]) < EXACT


def test_the_frozen_matrix_is_not_unique():
    """Elman as A = 0 with drive tanh(a), and as A = diag(tanh(a) / a) R: one map, one Jacobian of y, two matrices A."""
    elman = FEEDBACK["elman"]
    signals, u = sampled(elman)
    (y, _), (z, _) = scan(elman(**signals), u), scan(obvious(**signals), u)
    assert relative(z, y) < EXACT
    A, zero = (arch(**signals).along(y, u).dense() for arch in (elman, obvious))
    assert A.abs().max() > 0.1 and zero.abs().max() == 0
    # y_t of either form is tanh(u + R y_{t-1}): whatever the split between x and y, the derivatives along it agree
    J, K = (arch(**signals).jacobians(y, y, u)[..., 3:, 3:] for arch in (elman, obvious))
    total = [M + arch(**signals).jacobians(y, y, u)[..., 3:, :3] for M, arch in ((J, elman), (K, obvious))]
    assert relative(total[0], total[1]) < EXACT


def test_elman_at_an_argument_of_zero():
    """tanh(a) / a at a = 0 is 1, with gradient 0."""
    elman = FEEDBACK["elman"]
    signals, u = sampled(elman)
    R = signals["R"].requires_grad_()
    y, _ = scan(elman(R=R), torch.zeros_like(u))
    assert y.abs().max() == 0
    (g,) = torch.autograd.grad(y.sum(), R)
    assert g.abs().max() == 0
    assert torch.equal(
        elman(R=R).jacobian(0, elman(R=R).zero_state(u), 0 * u[:, 0])[..., :3, :3].detach()[0], R.detach()
    )
