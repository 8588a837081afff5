"""Summaries of stretches of time: x_out = P x_in + S composes, associatively, for every structure."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import dsf
from dsf import OneHotDiagonal, Shift, System
from dsf.reference import scan
from dsf.tree import leaves, tree_map
from dsf.values import Log
from dsf_kernels import summaries
from dsf_kernels.summaries import CLOSED, Summary, apply, compose, product, summary
from helpers import numbers, relative
from structures import STRUCTURES, N, P, Tensors, matrix

EXACT = 1e-11  # fp64, relative
T = 11


class Long(Tensors):
    """Leaves of eleven steps; some are constant in time, or shared by the sequences."""

    def array(self, *own, dtype=torch.float64):
        seed = next(self.seeds)
        return numbers(*((2, T, 1), (1, 1, 1), (2, 1, 1), (1, T, 2))[seed % 4], *own, seed=seed, dtype=dtype) / 2


def system_of(name, seed):
    A = STRUCTURES[name](r := Long(seed))
    b, c = r.array(N), r.array(N)
    return System(A=A, B=b, C=c), numbers(2, T, 2, P, seed=seed + 1)


def of_piece(system, u, start, stop):
    return summary(system.slice(start, stop), u[:, start:stop])


def same(a: Summary, b: Summary):
    P, Q = (matrix(x.A, like=x.state) for x in (a, b))
    assert relative(*torch.broadcast_tensors(P, Q)) < EXACT and relative(a.state, b.state) < EXACT


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(sorted(STRUCTURES)), st.integers(0, 50), st.tuples(st.integers(0, T), st.integers(0, T)))
def test_the_summary_of_the_whole_is_composed_of_those_of_its_pieces(name, seed, cuts):
    system, u = system_of(name, seed)
    first, second = sorted(cuts)
    a, b, c = (of_piece(system, u, *ends) for ends in ((0, first), (first, second), (second, T)))
    whole = summary(system, u)
    same(compose(compose(a, b), c), whole)
    same(compose(a, compose(b, c)), whole)


@pytest.mark.parametrize("length", [0, 1, 2, T])
@pytest.mark.parametrize("name", STRUCTURES)
def test_it_says_what_the_run_does_to_a_state(name, length):
    system, u = system_of(name, 7)
    system, u = system.slice(0, length) if length else system, u[:, :length]
    found = summary(system, u)
    x = numbers(2, 2, N, P, seed=3).to(found.state.dtype)
    if not length and any(leaf.shape[1] > 1 for leaf in system.leaves):
        system = system.slice(0, 0)
    assert relative(apply(found, x), scan(system, u, x)[1].to(found.state.dtype)) < EXACT
    assert isinstance(found.A, CLOSED)
    if length and isinstance(system.A, CLOSED):
        assert type(found.A) is type(system.A)


def test_logs_are_summed():
    """Decays of -oo stay in log space, and their gradient is 0, not NaN."""
    g = torch.tensor([-1.0, -torch.inf, -2.0, 0.0, -400.0]).reshape(1, 5, 1, 1).requires_grad_()
    system = System(A=dsf.decay(g) * dsf.I, B=torch.ones(1, 1, 1, 1), C=torch.ones(1, 1, 1, 1))
    found = summary(system, torch.ones(1, 5, 1, 1))
    assert isinstance(found.A.a, Log) and found.A.a.log.item() == -torch.inf
    (gradient,) = torch.autograd.grad(apply(found, torch.ones(1, 1, 1, 1)).sum(), g)
    assert gradient.isfinite().all()
    assert summary(system.slice(2, 5), torch.ones(1, 3, 1, 1)).A.a.log.item() == -402


@pytest.mark.parametrize("transposed", [False, True])
def test_products_of_one_hot_matrices_are_one_hot(transposed):
    """Also where columns share their row: no permutation."""
    p, q = torch.tensor([0, 0, 2, 1]), torch.tensor([3, 0, 0, 2])
    d, e = numbers(4, seed=1), numbers(4, seed=2)
    A, B = OneHotDiagonal(p, d, transposed), OneHotDiagonal(q, e, transposed)
    found = product(A, B)
    assert isinstance(found, OneHotDiagonal) and found.transposed == transposed
    assert torch.allclose(found.dense(), A.dense() @ B.dense())


def test_shifts_add_where_they_go_the_same_way():
    assert product(Shift(1), Shift(2)) == Shift(3)
    there_and_back = product(Shift(-1), product(Shift(1), dsf.Dense(torch.eye(3))))
    assert torch.equal(there_and_back.M, torch.diag(torch.tensor([1.0, 1.0, 0.0])))


def test_micro_steps_normalisers_and_half_precision():
    for name in ("deltaproduct", "retnet"):
        architecture = dsf.architecture_named(name)
        architecture = architecture.normalised() if name == "retnet" else architecture
        signals, u = architecture.sample(2, 20, 2, 4, 3, torch.float32, torch.Generator().manual_seed(0))
        expected = scan(architecture(**signals), u)[1]
        assert relative(summary(architecture(**signals), u).state, expected) < 1e-5
        half = summary(architecture(**{k: x.bfloat16() for k, x in signals.items()}), u.bfloat16())
        assert half.state.dtype == torch.float32 and relative(half.state, expected) < 0.05


def test_segments_side_by_side_are_the_pieces():
    system, u = system_of("dense", 3)
    each = summaries.of_segments(summaries.fold(system, 2, T, 5), summaries.fold_tensor(u, 2, T, 5))
    assert all(leaf.shape[0] in (1, 4) for leaf in leaves(each))
    for k, found in enumerate(summaries.each_segment(each, 2, 2)):
        same(found, of_piece(system, u, 5 * k, 5 * k + 5))


def test_infinite_features_have_none():
    architecture = dsf.architecture_named("softmax_attention")
    signals, u = architecture.sample(1, 4, 1, 2, 2)
    with pytest.raises(ValueError, match="the past itself"):
        summary(architecture(**signals), u)


@pytest.mark.parametrize("length", range(1, 9))
@pytest.mark.parametrize("name", ["dense", "one hot", "transposed one hot", "complex diagonal"])
def test_products_over_time_are_in_order(name, length):
    """Whatever finds no neighbour, at one level or at several."""
    A = STRUCTURES[name](Long(1))
    A = tree_map(lambda leaf: leaf.expand(leaf.shape[0], T, *leaf.shape[2:])[:, :length], A)
    found, step = matrix(summaries.over_time(A, length)), matrix(A)
    expected = step[:, 0]
    for t in range(1, length):
        expected = step[:, t] @ expected
    assert relative(*torch.broadcast_tensors(found, expected)) < EXACT
