"""The order of structures: every lift says the same as the operator it lifts, and a lost lift is seen."""

from dataclasses import replace

import pytest
import torch

import dsf
from dsf.algebra import dense, outer
from dsf.lattice import LIFTS, climb, expand_microsteps, path, vector_like
from dsf.reference import scan
from dsf.tree import leaves
from dsf.values import Log

LIFTED = 1e-12  # fp64, the same numbers in another structure
B, T, H, J, N = 2, 3, 2, 2, 4
LIKE = torch.zeros(1, 1, 1, N, dtype=torch.float64)


def token(*own, seed=0):
    return torch.randn(B, T, H, *own, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def operators():
    """One of every structure, and of the leaves that lifts treat apart: numbers, logs, scalars, constants."""
    a, g, d, k, v = token(1, seed=1), -token(1, seed=2).exp(), token(N, seed=3), token(N, seed=4), token(N, seed=5)
    index = torch.randint(0, N, (B, T, H, N), generator=torch.Generator().manual_seed(6))
    reflection = dsf.I - a * outer(k)
    return {
        "identity": dsf.I,
        "scaled": dsf.Scaled(a),
        "scaled log": dsf.decay(g) * dsf.I,
        "scaled number": 0.5 * dsf.I,
        "diagonal": dsf.diag(d),
        "diagonal log": dsf.diag(dsf.decay(-d.exp())),
        "diagonal complex": dsf.diag(torch.complex(d, v)),
        "reflection": reflection,
        "reflection gated": dsf.decay(g) * reflection,
        "reflection a": a * dsf.I - outer(k),
        "outer": outer(k),
        "low rank": dsf.diag(d) - a * outer(k, v),
        "one hot": dsf.OneHotDiagonal(index, d),
        "shift": dsf.Shift(1),
        "block": dsf.block([[dsf.diag(d[..., :2]), 0.5 * dsf.I], [0, outer(k[..., :2])]]),
        "product": dsf.Product(dsf.I - token(J, 1, seed=7) * outer(token(J, N, seed=8))),
        "kda": reflection @ dsf.diag(dsf.decay(-d.exp())),
        "composed": dsf.diag(d) @ reflection,
        "sum": dsf.OneHotDiagonal(index, d) + reflection,
        "dense": dsf.Dense(token(N, N, seed=9)),
    }


def error(A, M):
    return (A - M).abs().max().item()


@pytest.mark.parametrize("name", operators())
def test_every_reachable_lift_is_the_operator(name):
    A = operators()[name]
    expected = dense(A, N, LIKE)
    state = torch.randn(B, T, H, N, 3, dtype=torch.float64)
    structures = {hi for above in LIFTS.values() for hi in above} | {dsf.Dense}
    for hi in structures:
        lifted = climb(A, hi, N, LIKE)
        if path(type(A), hi) is None:
            assert lifted is None
            continue
        if name == "composed" and hi is dsf.DiagonalPlusLowRank:
            assert lifted is None
            continue
        assert type(lifted) is hi
        assert error(dense(lifted, N, LIKE), expected) < LIFTED
        assert error(lifted.apply(state.to(expected.dtype)), A.apply(state)) < LIFTED
        assert all(leaf.dim() >= 4 for leaf in leaves(lifted)), "a leaf has lost its axes [B, T, H]"


def test_everything_climbs_to_dense():
    structures = {type(A) for A in operators().values()} | set(LIFTS)
    assert all(path(structure, dsf.Dense) for structure in structures)


@pytest.mark.parametrize(
    ("lo", "hi", "names"),
    [
        (dsf.Identity, dsf.Scaled, "Identity Scaled"),
        (dsf.Scaled, dsf.DiagonalPlusLowRank, "Scaled Diagonal DiagonalPlusLowRank"),
        (dsf.Reflection, dsf.Dense, "Reflection DiagonalPlusLowRank Dense"),
        (dsf.OneHotDiagonal, dsf.Dense, "OneHotDiagonal Dense"),
        (dsf.Dense, dsf.Dense, "Dense"),
    ],
)
def test_shortest_path(lo, hi, names):
    assert [structure.__name__ for structure in path(lo, hi)] == names.split()


@pytest.mark.parametrize(("lo", "hi"), [("Diagonal", "Scaled"), ("Reflection", "Diagonal"), ("Dense", "Block")])
def test_nothing_climbs_down(lo, hi):
    assert path(getattr(dsf, lo), getattr(dsf, hi)) is None


def test_a_decay_stays_a_log_of_size_one():
    g = -token(1).exp()
    lifted = climb(dsf.decay(g) * dsf.I, dsf.DiagonalPlusLowRank, N, LIKE)
    assert isinstance(lifted.d, Log) and lifted.d.log is g
    assert climb(dsf.I, dsf.Diagonal, N, LIKE).d.log.shape == (1, 1, 1, 1)
    gated = climb(dsf.decay(g) * (dsf.I - outer(token(N))), dsf.DiagonalPlusLowRank, N, LIKE)
    assert isinstance(gated.d, Log) and gated.d.log is g


def test_partial_lift_only_where_its_identity_holds():
    k, d = token(N), dsf.diag(token(N, seed=1))
    plain = dsf.I - outer(k)
    assert climb(plain @ d, dsf.DiagonalPlusLowRank, N, LIKE) is not None
    for A in (d @ plain, (0.5 * dsf.I - outer(k)) @ d, (token(1) * plain) @ d, plain @ plain):
        assert climb(A, dsf.DiagonalPlusLowRank, N, LIKE) is None


@pytest.mark.parametrize("name", ["lstm", "gru", "elman"])
def test_frozen_gates_climb(name):
    architecture = dsf.architecture_named(name)
    signals, u = architecture.sample(batch=B, length=T, heads=H, n=N)
    feedback = architecture(**signals)
    y, _ = scan(feedback, u)
    frozen = feedback.along(y, u)
    lifted = climb(frozen.A, dsf.Dense, N, vector_like(frozen))
    assert error(lifted.M, frozen.dense()) < LIFTED
    again, _ = scan(replace(frozen, A=lifted), u)
    assert error(again, y) < LIFTED


@pytest.mark.parametrize("name", sorted(k for k, a in dsf.architectures().items() if not a.feedback))
def test_every_architecture_climbs_to_dense(name):
    architecture = dsf.architecture_named(name)
    signals, _ = architecture.sample(batch=B, length=T, heads=H, n=N)
    system = architecture(**signals)
    lifted = climb(system.A, dsf.Dense, system.state_size, vector_like(system))
    assert error(lifted.M, system.dense()) < LIFTED


def microstep_systems():
    k, q, beta = token(J, N, seed=1), token(N, seed=2)[:, :, :, None], token(J, 1, seed=3)
    constant = token(1, N, seed=4)[:, :1]
    rotation = dsf.Dense(torch.linalg.qr(token(J, N, N, seed=5))[0])
    return {
        "reflections": dsf.System(A=dsf.I - beta * outer(k), B=beta * k, C=q),
        "one key": dsf.System(A=dsf.I - beta * outer(constant), B=beta * k, C=q),
        "constant": dsf.System(A=dsf.I - 0.1 * outer(constant), B=constant, C=constant),
        "before": dsf.System(A=dsf.I - beta * outer(k), B=beta * k, C=q, reads="before"),
        "dense": dsf.System(A=rotation, B=beta * k, C=q),
        "gated first": dsf.System(A=dsf.decay(-(beta**2)) * (dsf.I - outer(k)), B=k, C=q),
    }


@pytest.mark.parametrize("name", microstep_systems())
def test_micro_steps_are_time_times_j(name):
    system = dsf.microsteps(microstep_systems()[name])
    u = token(system.micro_steps, 3, seed=9)
    y, x = scan(system, u)
    flat, v, read = expand_microsteps(system, u)
    assert v.shape == (B, T * system.micro_steps, H, 3)
    y_flat, x_flat = scan(flat, v)
    assert error(y_flat[:, read], y) < LIFTED and error(x_flat, x) < LIFTED


def test_a_system_without_micro_steps_is_left_alone():
    system, u = dsf.System(A=dsf.I, B=token(N), C=token(N)), token(3)
    assert expand_microsteps(system, u) == (system, u, slice(None))


def test_micro_steps_refuse_a_direct_way():
    with pytest.raises(ValueError, match="no D"):
        dsf.microsteps(dsf.System(A=dsf.I - outer(token(J, N)), B=token(J, N), C=token(1, N), D=token(1, 1)))


def test_a_vector_leaf_is_found_also_among_matrices():
    M, d = token(N, N), token(N, seed=1)
    assert vector_like(dsf.System(A=dsf.I, B=dsf.Dense(M), C=dsf.I)).shape == (B, T, H, N)
    assert vector_like(dsf.System(A=dsf.Dense(M) @ dsf.diag(d), B=dsf.I, C=dsf.I)).shape == (B, T, H, N)
    assert vector_like(dsf.System(A=dsf.diag(d) @ dsf.Dense(M), B=dsf.I, C=dsf.I)) is d


def test_a_system_of_numbers_only_has_no_vector():
    with pytest.raises(ValueError, match="no signals"):
        vector_like(dsf.System(A=dsf.I, B=dsf.I, C=dsf.I))
