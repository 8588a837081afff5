"""Any step function as A_t, B_t, C_t, D_t: against finite differences, a torch.nn.GRUCell, and dsf's own systems."""

import pytest
import torch

import dsf
from dsf import linearize
from dsf.linearization import Linearization
from dsf.reference import scan
from helpers import numbers, relative, sampled

EXACT = 1e-12
STEP, FINITE_DIFFERENCES = 1e-6, 1e-7
N, M, T, B = 4, 3, 5, 2
pytestmark = pytest.mark.filterwarnings("ignore:There is a performance drop")  # vmap of nn.GRUCell

torch.manual_seed(0)
cell = torch.nn.GRUCell(M, N).double()
weights = torch.randn(4 * (N // 2), M + N // 2, dtype=torch.float64)


def gru_step(x, u):
    after = cell(u[None], x[None])[0]
    return after, after[:2] * u[:2]


def lstm_step(x, u):
    h, c = x.split(N // 2)
    i, f, g, o = (weights @ torch.cat([u, h])).split(N // 2)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    h = o.sigmoid() * c.tanh()
    return torch.cat([h, c]), h


STEPS = {"gru": gru_step, "lstm": lstm_step, "scalar output": lambda x, u: (torch.sin(x) * u.sum(), x @ x)}


@pytest.mark.parametrize("name", STEPS)
def test_jacobians_are_finite_differences_along_the_trajectory(name):
    step = STEPS[name]
    x0, u = numbers(B, N, seed=1, special=0), numbers(B, T, M, seed=2, special=0)
    line = linearize(step, x0, u)
    assert isinstance(line, Linearization) and "5 steps" in repr(line)
    for b in range(B):
        x = x0[b]
        for t in range(T):
            after, y = step(x, u[b, t])
            torch.testing.assert_close(line.x[b, t], x)
            torch.testing.assert_close(line.y[b, t], y.reshape(-1))
            for part, index in (("A", 0), ("B", 0), ("C", 1), ("D", 1)):
                wrt = 0 if part in "AC" else 1
                columns = []
                for e in STEP * torch.eye((N, M)[wrt], dtype=torch.float64):
                    ends = [
                        step(*(z + s * e if i == wrt else z for i, z in enumerate((x, u[b, t]))))[index]
                        for s in (1, -1)
                    ]
                    columns.append((ends[0] - ends[1]).reshape(-1) / (2 * STEP))
                found = getattr(line.system, part).M[b, t, 0].detach()
                assert relative(found, torch.stack(columns, -1).detach()) < FINITE_DIFFERENCES, (part, t)
            x = after.detach()
        torch.testing.assert_close(line.x[b, T], x)


def test_the_linear_system_predicts_small_deviations():
    """The system acts on deviations: a perturbed start and input, to second order."""
    x0, u = numbers(B, N, seed=1), numbers(B, T, M, seed=2)
    dx, du = 1e-5 * numbers(B, N, seed=3), 1e-5 * numbers(B, T, M, seed=4)
    line, moved = linearize(gru_step, x0, u), linearize(gru_step, x0 + dx, u + du)
    y, state = scan(line.system, du[:, :, None], dx[:, None, :, None])
    assert relative(y[:, :, 0], (moved.y - line.y).detach()) < 1e-3
    assert relative(state[:, 0, :, 0], (moved.x - line.x)[:, -1].detach()) < 1e-3
    assert relative(y[:, :, 0].roll(1, 1), (moved.y - line.y).detach()) > 1e-1


def test_a_linear_system_is_its_own_linearization():
    arch = dsf.architecture_named("lssl")
    signals, u = sampled(arch, batch=1, heads=1, n=N, p=1)
    system = arch(**signals)
    A, b, c, d = system.at(0).A.M[0, 0], system.B[0, 0, 0], system.C[0, 0, 0], system.D[0, 0, 0]
    line = linearize(
        lambda x, v: (A @ x + b * v, c @ (A @ x + b * v) + d * v), torch.zeros(N, dtype=torch.float64), u[0, :, 0]
    )
    control = system.to_control()
    for found, expected in zip(line.system.dense_operators(), control.dense_operators(), strict=True):
        assert relative(found, expected.expand_as(found)) < EXACT
    assert relative(line.y[:, :, None], scan(system, u)[0]) < EXACT


def test_the_jacobian_of_a_feedback_system():
    arch = dsf.architecture_named("lstm")
    signals, u = sampled(arch, batch=1, heads=1, ends=0.0)
    # time-invariant gates, so that one step function serves all t
    signals = {k: x if arch.signals[k].const else x[:, :1].expand_as(x) for k, x in signals.items()}
    system = arch(**signals)

    def step(z, v):
        (x, y), _ = system.step(0, (z[None, None, :3, None], z[None, None, 3:]), v[None, None])
        return torch.cat([x[0, 0, :, 0], y[0, 0]]), y[0, 0]

    line = linearize(step, torch.zeros(6, dtype=torch.float64), u[0, :, 0])
    y, _ = scan(system, u)
    J = system.jacobians(y, line.x[:, 1:, None, :3], u)
    assert relative(line.system.A.M, J) < EXACT and relative(line.y[:, :, None], y) < EXACT


ZERO, ONES = torch.zeros(N), torch.ones(T, M)


@pytest.mark.parametrize(
    "step, x0, u, error, message",
    [
        (gru_step, [0.0], ONES, TypeError, "x0 should be a floating-point tensor"),
        (gru_step, torch.zeros(N, dtype=torch.int64), ONES, TypeError, "x0 should be a floating-point tensor"),
        (gru_step, ZERO, torch.ones(T), ValueError, r"u should be \[T, m\] or \[B, T, m\], got shape \(5,\)"),
        (gru_step, torch.zeros(1, 1, N), ONES, ValueError, r"x0 should be \[N\] or \[B, N\]"),
        (gru_step, ZERO, torch.ones(0, M), ValueError, "at least one step"),
        (gru_step, torch.zeros(3, N), torch.ones(2, T, M), ValueError, "x0 holds 3 sequences, but u 2"),
        (lambda x, u: (x[:1], u), ZERO, ONES, ValueError, r"state of shape \(4,\), got \(1,\)"),
        (lambda x, u: (x * 1e30, u), ZERO + 1, ONES, ValueError, "not finite"),
        (lambda x, u: (x, u), ZERO, ONES * torch.nan, ValueError, "not finite"),
    ],
)
def test_errors(step, x0, u, error, message):
    with pytest.raises(error, match=message):
        linearize(step, x0, u)


def test_one_start_serves_many_sequences():
    x0, u = numbers(N, seed=1), numbers(B, T, M, seed=2)
    line = linearize(gru_step, x0, u)
    each = [linearize(gru_step, x0, u[b]) for b in range(B)]
    assert relative(line.system.A.M, torch.cat([one.system.A.M for one in each])) < EXACT
    assert line.system.A.M.shape == (B, T, 1, N, N) and line.system.C.M.shape == (B, T, 1, 2, N)
