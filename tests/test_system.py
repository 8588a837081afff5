"""The representation: its response, its slices, its start, small sizes, complex states."""

import pytest
import torch

import dsf
from dsf import Dense, I, RealPart, Shift, System, diag
from dsf.reference import scan
from helpers import assert_close, linear, numbers, relative, sampled
from systems import B, H, N, P, T, drive, plain

EXACT = 1e-10

ARCHITECTURES = dict(dsf.architectures())
OTHERS = "softmax_attention alibi deltaproduct mlstm rwkv4 lstm".split()  # no finite A, B, C, D of their own
LINEAR = [name for name in ARCHITECTURES if name not in OTHERS]
runs = pytest.mark.parametrize("run", [scan, dsf.simulate], ids=["reference", "simulate"])


# --- its response ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LINEAR)
def test_the_kernel_is_the_response(name):
    arch = ARCHITECTURES[name]
    signals, u = sampled(arch)
    system = linear(arch, signals, u)
    drive_ = u if system.u is None else system.u
    K = system.kernel(7)
    if system.input_is_vector:
        y = torch.einsum("bhtsij,bshj->bthi", K, drive_)
    else:
        y = torch.einsum("bhts,bshp->bthp", K[..., 0, 0], u)
    assert relative(y, scan(system, u)[0]) < EXACT
    assert all(K[:, :, t, t + 1 :].abs().sum() == 0 for t in range(7))


def test_the_kernel_of_numbers_and_structures_without_leaves():
    k = numbers(B, T, H, N)
    K = System(A=0.5 * I, B=k, C=k, D=2.0).kernel()
    expected = torch.einsum("bthn,bshn->bhts", k, k) * 0.5 ** (torch.arange(T)[:, None] - torch.arange(T))
    assert relative(K[..., 0, 0], expected.tril() + 2 * torch.eye(T, dtype=k.dtype)) < EXACT
    spiral = System(A=diag(torch.complex(k, k)), B=k, C=RealPart(torch.complex(k, -k))).kernel()
    assert spiral.dtype == torch.float64
    K = System(A=Shift(), B=k, C=k).kernel()
    assert relative(K[:, :, 1, 0, 0, 0], (k[:, 1, :, 1:] * k[:, 0, :, :-1]).sum(-1)) < EXACT


@pytest.mark.parametrize("reads", ["after", "before"])
def test_dense_operators_run_as_the_system_does(reads):
    c = torch.complex(numbers(B, T, H, N, seed=4), numbers(B, T, H, N, seed=5))
    for system, u in (
        (plain(reads=reads, D=numbers(1, 1, H, 1, seed=6)), drive()),
        (plain(A=diag(c), reads=reads), drive()),
        (plain(A=Dense(torch.diag_embed(c)), reads=reads), drive()),
        (
            System(A=diag(c), B=Dense(numbers(1, 1, H, N, 4)), C=Dense(numbers(B, T, H, 4, N)), D=0.5, reads=reads),
            drive(4),
        ),
        (System(A=0.3 * I, B=I, C=I, D=diag(numbers(1, 1, H, N)), reads=reads), drive(N)),
        (System(A=0.3 * I, B=Dense(numbers(1, 1, H, N, 4)), C=numbers(B, T, H, N), reads=reads), drive(4)),
        (System(A=0.3 * I, B=numbers(B, T, H, N), C=Dense(numbers(1, 1, H, 4, N)), reads=reads), drive(1)),
    ):
        parts = system.dense_operators()
        assert all(M.dim() == 5 for M in parts)
        A, b, C, D = parts
        operators = System(A=Dense(A), B=Dense(b), C=Dense(C), D=Dense(D), reads=reads)
        y = scan(system, u)[0]
        channels = [u] if system.input_is_vector else [u[..., p : p + 1] for p in range(u.shape[-1])]
        found = torch.cat([scan(operators, v)[0] for v in channels], -1)
        assert relative(found, y.to(found)) < EXACT


def test_slices_and_steps():
    system, u = plain(), drive()
    whole = scan(system, u)
    y, x = scan(system.slice(0, 4), u[:, :4])
    assert_close(scan(system.slice(4, T), u[:, 4:], x), (whole[0][:, 4:], whole[1]), EXACT)
    for t, step in enumerate(system.steps(T)):
        assert torch.equal(step.A.M, system.at(t).A.M) and torch.equal(step.C, system.C[:, t])
    constant = plain(A=0.5 * I, B=numbers(1, 1, H, N), C=numbers(1, 1, H, N))
    assert constant.length == 1 and constant.slice(2, 4).length == 1 and torch.equal(constant.at(5).B, constant.B[:, 0])
    assert (system.batch, system.length, system.heads, system.state_size) == (B, T, H, N)


# --- its start -------------------------------------------------------------------------------------------------------


@runs
@pytest.mark.parametrize("reads", ["after", "before"])
def test_the_initial_state_is_part_of_a_system(run, reads):
    x0, u = numbers(B, H, N, P, seed=9), drive()
    started, fresh = plain(x0=x0, reads=reads), plain(reads=reads)
    assert_close(run(started, u), run(fresh, u, x0), EXACT)
    other = numbers(B, H, N, P, seed=10)
    assert_close(run(started, u, other), run(fresh, u, other), EXACT)  # a state that is given wins
    assert relative(run(started, u)[0], run(fresh, u)[0]) > 1e-3


@runs
def test_no_steps_leave_the_state(run):
    x0 = numbers(B, H, N, P, seed=9)
    empty = System(A=0.5 * I, B=numbers(B, 0, H, N), C=numbers(B, 0, H, N), x0=x0)
    y, x = run(empty, numbers(B, 0, H, P))
    assert y.shape == (B, 0, H, P) and torch.equal(x, x0)


@runs
def test_sizes_that_only_the_start_or_the_drive_or_d_knows(run):
    """0.5 I between I and I fits any size."""
    u, x0 = drive(N), numbers(B, H, N, 1, seed=9)
    started = System(A=0.5 * I, B=I, C=I, x0=x0)
    assert started.state_size == N
    y, x = run(started, u)
    assert relative(y[:, 0], 0.5 * x0[..., 0] + u[:, 0]) < EXACT and x.shape == (B, H, N, 1)
    assert System(A=0.5 * I, B=I, C=I, u=u).state_size == System(A=0.5 * I, B=I, C=I, D=diag(u)).state_size == N


@runs
def test_a_state_of_one_number(run):
    one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    y, x = run(System(A=0.5 * I, B=one, C=one, D=3.0), torch.ones(1, 1, 1, 1, dtype=torch.float64))
    assert y.item() == 4 and x.item() == 1


@runs
def test_complex_states_of_real_inputs(run):
    """A is complex where B, C and u are real: the state is complex, and so is y unless RealPart reads it."""
    lam = torch.complex(numbers(1, 1, H, N) / 2, numbers(1, 1, H, N, seed=1) / 2)
    for A in (diag(lam), Dense(torch.diag_embed(lam))):
        system, u = plain(A=A), drive()
        y, x = run(system, u)
        z, outputs = torch.zeros(B, H, N, P, dtype=torch.complex128), []
        for t in range(T):
            z = lam[:, 0, ..., None] * z + system.B[:, t, ..., None] * u[:, t, :, None]
            outputs.append((system.C[:, t, ..., None] * z).sum(-2))
        assert relative(y, torch.stack(outputs, 1)) < EXACT and relative(x, z) < EXACT
        assert relative(run(plain(A=A, C=RealPart(system.C)), u)[0], y.real) < EXACT


@runs
def test_single_precision_stays_single(run):
    for name in ("gla", "lstm", "s4d", "softmax_attention"):
        arch = ARCHITECTURES[name]
        signals, u = sampled(arch, dtype=torch.float32)
        y, _ = run(arch(**signals), u)
        assert y.dtype == torch.float32
