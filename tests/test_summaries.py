"""Summaries of stretches of time: x_out = P x_in + S composes, associatively, for every structure."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import dsf
from dsf import OneHotDiagonal, Shift, System
from dsf.features import Features
from dsf.reference import scan
from dsf.tree import leaves, tree_map
from dsf.values import Log
from dsf_kernels import summaries
from dsf_kernels.products import CLOSED, over_time, product
from dsf_kernels.summaries import Summary, apply, compose, each_segment, fold, fold_tensor, of_segments, summary
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
    system, u = system.slice(0, length), u[:, :length]
    found = summary(system, u)
    x = numbers(2, 2, N, P, seed=3).to(found.state.dtype)
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
    each = of_segments(fold(system, 2, T, 5), fold_tensor(u, 2, T, 5))
    assert all(leaf.shape[0] in (1, 4) for leaf in leaves(each))
    for k, found in enumerate(each_segment(each, 2, 2)):
        same(found, of_piece(system, u, 5 * k, 5 * k + 5))


ZOO = [name for name, a in dsf.architectures().items() if isinstance(a(**a.sample(1, 1, 1, 2, 2)[0]), System)]
FINITE = [name for name in ZOO if not isinstance(dsf.architecture_named(name).bounds().B, Features)]


@pytest.mark.parametrize("name", FINITE)
def test_every_architecture(name):
    """Whatever normalises, reads, or is late to compute its operators (from 257 tokens on)."""
    architecture = dsf.architecture_named(name)
    for length in (20, 260):
        signals, u = architecture.sample(2, length, 2, 4, 3, torch.float64, torch.Generator().manual_seed(0))
        system = architecture(**signals)
        final = scan(system, u)[1]
        x = numbers(*final.shape, seed=3).to(final.dtype)
        assert relative(apply(summary(system, u), x), scan(system, u, x)[1]) < EXACT


def written_by_an_operator(r):
    return System(A=STRUCTURES["reflection"](r), B=dsf.Dense(r.array(N, P)), C=dsf.Dense(r.array(3, N)))


def read_by_a_function(r):
    A, x0 = STRUCTURES["diagonal plus low rank"](r), numbers(2, 2, N, P, seed=9)
    return System(A=A, B=r.array(N), C=r.array(N), readout=torch.log, reads="before", x0=x0)


def complex_rank_one(r):
    b, u, v = (torch.complex(r.array(size), r.array(size)) for size in (1, N, N))
    return System(A=dsf.DiagonalPlusLowRank(r.array(N), b, u, v), B=r.array(N), C=dsf.RealPart(r.array(N)))


@pytest.mark.parametrize("made", [written_by_an_operator, read_by_a_function, complex_rank_one])
def test_how_it_is_written_and_read_does_not_matter(made):
    system, u = made(Long(2)), numbers(2, T, 2, P, seed=1)
    final = scan(system, u)[1]
    x = numbers(*final.shape, seed=3).to(final.dtype)
    assert relative(apply(summary(system, u), x), scan(system, u, x)[1]) < EXACT


@pytest.mark.parametrize("name", ["gla", "gated_deltanet", "deltaproduct", "titans"])
def test_first_and_second_derivatives(name):
    architecture = dsf.architecture_named(name)
    signals, u = architecture.sample(1, 7, 1, 3, 2, torch.float64, torch.Generator().manual_seed(0))
    x = numbers(*scan(architecture(**signals), u)[1].shape, seed=3)

    def derivatives(run):
        given = {k: v.clone().requires_grad_() for k, v in {**signals, "u": u}.items()}
        y = run(architecture(**{k: given[k] for k in signals}), given["u"])
        first = torch.autograd.grad(y.sin().sum(), given.values(), create_graph=True, materialize_grads=True)
        second = torch.autograd.grad(sum(g.sin().sum() for g in first), given.values(), materialize_grads=True)
        return (*first, *second)

    found = derivatives(lambda system, u: apply(summary(system, u), x))
    expected = derivatives(lambda system, u: scan(system, u, x)[1])
    assert all(relative(a, b) < EXACT for a, b in zip(found, expected, strict=True))


def test_one_run_of_a_kernel_where_there_is_one(monkeypatch):
    """Beside it the columns of I, where products keep no structure; no run where a step is a matrix that none takes."""
    widths = []

    def counted(system, drive, x):
        widths.append(drive.shape[-1])
        return dsf.simulate(system, drive, x)

    monkeypatch.setattr(summaries, "simulate", counted)
    for name in ("diagonal", "reflection", "product", "block"):
        summary(*system_of(name, 7))
    assert widths == [P, P + N]


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
    found, step = matrix(over_time(A, length)), matrix(A)
    expected = step[:, 0]
    for t in range(1, length):
        expected = step[:, t] @ expected
    assert relative(*torch.broadcast_tensors(found, expected)) < EXACT


def test_what_has_no_summary_is_told():
    lstm = dsf.architecture_named("lstm")
    signals, u = lstm.sample(length=5, n=3)
    with pytest.raises(ValueError, match="Feedback has no summary"):
        summary(lstm(**signals), u)
    gla = dsf.architecture_named("gla")
    signals, u = gla.sample(length=5)
    with pytest.raises(ValueError, match="axis T"):
        summary(gla(**signals), u[:, :3])
    with pytest.raises(TypeError, match="Tensor"):
        summary(gla(**signals), [1.0])
