"""Exact eigenvalues by structure: against traces of powers of the dense matrix, and against sympy's polynomial.

A multiset of n numbers is determined by its power sums, and tr A^k = sum of lambda^k is well conditioned where the
eigenvalues of a defective matrix are not: so these comparisons are exact to rounding for every matrix.
"""

import itertools

import numpy as np
import pytest
import sympy as sp
import torch
from sympy.polys.matrices import DomainMatrix

import dsf
from dsf import (
    Block,
    Dense,
    Diagonal,
    DiagonalPlusLowRank,
    I,
    OneHotDiagonal,
    Product,
    Reflection,
    Scaled,
    Shift,
    block,
    decay,
    diag,
    outer,
)
from dsf.algebra import dense
from dsf.exact_eigenvalues import eigenvalues
from helpers import numbers

EXACT = 1e-11  # of a power sum, relative to n |A|^k
LEAD = (2, 3, 1)  # [B, T, H]


def leaf(seed, *own, complex_=False, dtype=torch.float64):
    lead = (LEAD, (1, 1, 1))[seed % 2]
    x = numbers(*lead, *own, seed=seed, dtype=dtype)
    return torch.complex(x, numbers(*lead, *own, seed=100 + seed, dtype=dtype)) if complex_ else x


def assert_power_sums(values, A, tolerance=EXACT):
    """The multiset of values [..., n] is that of the eigenvalues of A [..., n, n]."""
    n = A.shape[-1]
    assert values.shape[-1] == n, f"{values.shape[-1]} eigenvalues of a {n} x {n} matrix"
    values, A = values.to(torch.complex128), A.to(torch.complex128)
    size = torch.linalg.matrix_norm(A, 2).clamp(min=1.0)
    power = torch.eye(n, dtype=A.dtype)
    for k in range(1, n + 1):
        power = power @ A
        error = (power.diagonal(dim1=-2, dim2=-1).sum(-1) - (values**k).sum(-1)).abs() / (n * size**k)
        assert error.max() < tolerance, f"tr A^{k} is off by {error.max():.1e}"


def structures(n, complex_):
    def scalar(seed):
        return leaf(seed, 1, complex_=complex_)

    def vector(seed):
        return leaf(seed, n, complex_=complex_)

    k, a, b = vector(1), scalar(2), scalar(3)
    one_key = block([[a * I - b * outer(k), scalar(4) * I], [I, scalar(5) * (I - scalar(6) * outer(k))]])
    p = torch.randint(0, n, (*LEAD, n), generator=torch.Generator().manual_seed(n))
    yield "reflection", I - b * outer(k), 1
    yield "scaled reflection", a * (I - b * outer(k)), 1
    yield "sum of reflections", a * I - b * outer(k) + outer(k), 1
    yield "outer", b * outer(k), 1
    yield "diagonal", diag(k), 1
    yield "diagonal of size 1", Diagonal(a), 1
    yield "scaled", a * I, 1
    yield "identity", I, 1
    yield "number", 3 * I, 1
    yield "complex number", (1 - 2j) * I, 1
    yield "diagonal of a number", diag(0.5), 1
    yield "low rank", a * I - b * outer(k, vector(7)), 1
    yield "identity - u v^T", I - outer(k, vector(7)), 1
    yield "low rank with a vector d, b = 0", DiagonalPlusLowRank(vector(8), 0, k, k), 1
    yield "low rank with a scalar d, b = 0", DiagonalPlusLowRank(a, 0, k, k), 1
    yield "shift", Shift(1), 1
    yield "shift back", Shift(-2), 1
    yield "no shift", Shift(0), 1
    yield "one-hot", OneHotDiagonal(p, k), 1
    yield "one-hot, transposed", OneHotDiagonal(p, k).T, 1
    yield "one-hot of a number", OneHotDiagonal(p, 2.0), 1
    yield "block of one key", one_key, 2
    yield "block without a key", block([[a * I, b * I], [-b * I, 0]]), 2
    yield "block of numbers", block([[0, -1 * I], [I, 0]]), 2
    if not complex_:
        yield "log decays", diag(decay(-k.abs())), 1
        yield "gated reflection", decay(-a.abs()) * (I - b * outer(k)), 1
        yield "a reset", diag(decay(torch.where(k < 0, -torch.inf, k))), 1


NAMES = [name for name, _, _ in structures(2, False)]


@pytest.mark.parametrize("n", [1, 2, 3, 5])
@pytest.mark.parametrize("name", NAMES)
def test_eigenvalues_of_tensors(name, n):
    for complex_ in (False, True):
        for found, A, copies in structures(n, complex_):
            if found == name:
                like = torch.ones(1, dtype=torch.complex128 if complex_ else torch.float64)
                assert_power_sums(eigenvalues(A, copies * n), dense(A, copies * n, like))


def test_the_judge_rejects_a_wrong_multiset():
    A = torch.diag(torch.tensor([1.0, 2.0, 2.0], dtype=torch.float64))
    assert_power_sums(torch.tensor([2.0, 1.0, 2.0]), A)
    for wrong in ([1.0, 1.0, 2.0], [2.0, 1.0, 2.0 + 1e-9], [2.0, 1.0]):
        with pytest.raises(AssertionError):
            assert_power_sums(torch.tensor(wrong, dtype=torch.float64), A)


@pytest.mark.parametrize("J", [1, 2, 3])
def test_micro_steps_of_diagonals_multiply(J):
    for factor in (diag(leaf(2, J, 4)), leaf(3, J, 1) * I, diag(leaf(5, J, 4, complex_=True))):
        A = Product(factor, J)
        like = torch.ones(1, dtype=torch.complex128)
        assert_power_sums(eigenvalues(A, 4), dense(A, 4, like))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtypes_are_kept(dtype):
    k = leaf(1, 3, dtype=dtype)
    assert eigenvalues(I - 0.5 * outer(k)).dtype == dtype
    assert eigenvalues(block([[I, 0], [0, I - outer(k)]])).dtype == (
        torch.complex64 if dtype == torch.float32 else torch.complex128
    )


def test_exact_where_the_solver_is_not():
    """I - 2 u v^T with v^T u = 0 is defective: a solver errs by eps^(1/2), the lemma does not."""
    u, v = torch.tensor([1.0, 1.0, 0.0]).double(), torch.tensor([1e3, -1e3, 7.0]).double()
    exact = eigenvalues(I - 2 * outer(u, v))
    assert torch.equal(exact, torch.ones(3, dtype=torch.float64))
    assert (torch.linalg.eigvals(dense(I - 2 * outer(u, v))) - 1).abs().max() > 1e-9


def test_eigenvalues_are_differentiable():
    k = leaf(1, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda k: eigenvalues(I - 0.5 * outer(k)), k)


# ------------------------------------------------------------------------------------------------------- unknown, said
def test_none_where_the_structure_does_not_tell():
    k, other, d, b = leaf(1, 3), leaf(2, 3), leaf(3, 3), leaf(4, 1)
    reflection, another = I - b * outer(k), I - b * outer(other)
    unknown = {
        "dense": Dense(leaf(1, 3, 3)),
        "composed": reflection @ diag(d),
        "two reflections": reflection @ another,
        "sum": reflection + another,
        "diagonal - low rank": diag(d) - b * outer(k),
        "micro-steps": Product(I - leaf(1, 2, 1) * outer(leaf(2, 2, 3)), 2),
        "block of two keys": block([[reflection, I], [I, another]]),
        "block with a diagonal": block([[diag(d), I], [I, I]]),
        "three by three": block([[I, 0, 0], [0, I, 0], [0, 0, I]]),
        "a vector as a scalar": Reflection(d, b, k),
        "a vector in a block": Block(((Scaled(d), I), (I, I))),
        "one-hot on symbols": OneHotDiagonal(np.array(sp.symbols("p:3")), np.array(sp.symbols("d:3"))),
    }
    for name, A in unknown.items():
        assert eigenvalues(A, 6) is None, name


def test_a_size_is_asked_for_where_no_leaf_has_one():
    for A in (I, 2 * I, Shift(1)):
        with pytest.raises(ValueError, match="say eigenvalues"):
            eigenvalues(A)


# -------------------------------------------------------------------------------------------------- proofs, by symbols
X = sp.Symbol("X")


def vector_of(name, n):
    return np.array(sp.symbols(f"{name}:{n}"), dtype=object)


def scalar_of(name):
    return np.array([sp.Symbol(name)], dtype=object)


def assert_characteristic(values, A):
    """prod (X - lambda) is the characteristic polynomial, identically in every symbol."""
    matrix = DomainMatrix.from_Matrix(sp.Matrix(A))
    coefficients = [matrix.domain.to_sympy(c) for c in matrix.charpoly()]
    computed = sum(c * X ** (len(A) - i) for i, c in enumerate(coefficients))
    assert len(values) == len(A)
    assert sp.expand(sp.prod([X - value for value in values]) - computed) == 0


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_rank_one_lemma(n):
    """c (a I - b k k^T) and a I - b u v^T, at every symbol."""
    a, b, c = map(scalar_of, "abc")
    A = Reflection(a, b, vector_of("k", n), c)
    assert_characteristic(eigenvalues(A), dense(A, n))
    A = DiagonalPlusLowRank(a, b, vector_of("u", n), vector_of("v", n))
    assert_characteristic(eigenvalues(A), dense(A, n))


@pytest.mark.parametrize("n", [1, 2])
def test_blocks_of_one_key(n):
    k = vector_of("k", n)
    ops = [scalar_of(f"a{i}") * I - scalar_of(f"b{i}") * outer(k) for i in range(4)]
    A = block([ops[:2], ops[2:]])
    assert_characteristic(eigenvalues(A, 2 * n), dense(A, 2 * n))


def test_blocks_with_identities_and_zeros_on_symbols():
    A = block([[I, scalar_of("a") * I], [0, I - scalar_of("b") * outer(vector_of("k", 2))]])
    assert_characteristic(eigenvalues(A, 4), dense(A, 4))


def test_a_body_on_symbols():
    for name in ("deltanet", "gated_deltanet", "gla", "mamba2"):
        A = dsf.architecture_named(name).symbolic(3)
        values = eigenvalues(A.A, 3)
        product = sp.prod([X - value for value in values])
        assert sp.simplify(product - sp.Matrix(A.dense()).charpoly(X).as_expr()) == 0


@pytest.mark.parametrize("n", [1, 2, 3])
def test_every_functional_graph(n):
    """j -> p_j: every map of n points, with weights that tell cycles apart, one of them 0."""
    d = torch.tensor([2.0, -3.0, 0.5])[:n].double()
    for p in itertools.product(range(n), repeat=n):
        for weights in (d, d * (torch.arange(n) > 0)):
            A = OneHotDiagonal(torch.tensor(p), weights)
            assert_power_sums(eigenvalues(A), dense(A))


def test_cycles_of_a_permutation():
    """(0 1 2)(3 4)(5), with products 8, -9 and 5: the roots of X^3 - 8, X^2 + 9, X - 5."""
    p, d = torch.tensor([1, 2, 0, 4, 3, 5]), torch.tensor([2.0, 2.0, 2.0, -3.0, 3.0, 5.0]).double()
    found = sorted(eigenvalues(OneHotDiagonal(p, d)).tolist(), key=lambda z: (round(z.real, 6), round(z.imag, 6)))
    half = 1.7320508075688772
    assert found == pytest.approx([-1 - 1j * half, -1 + 1j * half, -3j, 3j, 2, 5], abs=1e-12)


# ----------------------------------------------------------------------------------------------- on every architecture
@pytest.mark.parametrize("name", [name for name, a in dsf.architectures().items() if not a.reserved_names])
def test_architectures(name):
    arch = dsf.architecture_named(name)
    for n in (1, 2, 4):
        signals, _ = arch.sample(2, 5, 2, n, 1, ends=0.3)
        system = arch(**signals)
        values = eigenvalues(system.A, system.state_size)
        if values is not None:
            A = system.dense()
            finite = torch.isfinite(A).all(-1).all(-1)
            assert_power_sums(values.expand(*A.shape[:-1])[finite], A[finite], tolerance=1e-9)
