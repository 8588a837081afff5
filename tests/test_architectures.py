"""What must hold of EVERY architecture in the library: adding one adds its tests, and a row to the tables below."""

import re

import numpy as np
import pytest
import sympy as sp
import torch

import dsf
from dsf.algebra import dense
from dsf.composites import Writes
from dsf.enclosures import enclose
from dsf.exact_eigenvalues import eigenvalues
from dsf.features import Features
from dsf.feedback import Feedback
from dsf.operators import Operator, RealPart
from dsf.printing import equations
from dsf.system import OPERATORS
from dsf.values import value
from helpers import linear, numbers, sampled

SYMBOLIC = 1e-12  # fp64 tensors against the symbols evaluated at the same numbers
EXACT = 1e-10  # fp64, two orders of the same operations
SOLVER = 1e-6  # eigenvalues of a defective matrix from a numerical solver

ARCHITECTURES = dict(dsf.architectures())
every = pytest.mark.parametrize("name", ARCHITECTURES)

SPECTRUM = dict.fromkeys(ARCHITECTURES, "[0, 1]") | {  # the hull of what encloses the eigenvalues of A_t
    "softmax_attention": "[1, 1]",
    "linear_attention": "[1, 1]",
    "s4d": "{|z| in [0, 1]}",
    "lssl": "[-1, 1]",
    "deltaproduct": "{|z| in [0, 1]}",
    "titans": "{|z| in [0, 2.5]}",
    "short_convolution": "[0, 0]",
    "elman": "{|z| in [0, oo]}",  # a free matrix has the whole plane as spectrum
}
DEPENDENCE = dict.fromkeys(ARCHITECTURES, ("token", "token", "token")) | {  # of A, B, C
    "softmax_attention": ("const", "token", "token"),
    "linear_attention": ("const", "token", "token"),
    "retnet": ("const", "token", "token"),
    "s4d": ("const", "const", "const"),
    "lssl": ("const", "const", "const"),
    "short_convolution": ("const", "const", "const"),
    "alibi": ("const", "token", "token"),
    "rglru": ("token", "token", "const"),
    "rwkv4": ("const", "token", "const"),
    "elman": ("state", "state", "const"),
    "gru": ("state", "state", "const"),
    "lstm": ("state", "state", "state"),
}


def small(name, **sizes):
    arch = ARCHITECTURES[name]
    signals, u = sampled(arch, **sizes)
    return arch, signals, u


# --- symbols ---------------------------------------------------------------------------------------------------------


def readings_of_one_step(name, n):
    """The System of one step on tensors [1, 1, 1, ...] and on symbols, and the numbers that the symbols stand for."""
    arch, signals, u = small(name, batch=1, length=1, heads=1, n=n, p=1)
    numeric, symbolic, numbers_of = arch(**signals), arch.symbolic(n), {}
    pairs = [(arch.signals[k].symbols(k, n), signals[k]) for k in signals if not arch.signals[k].value]
    if isinstance(numeric, Feedback):
        y = numbers(1, 1, 1, n, seed=5, special=0)
        numeric = arch.evaluate(numeric.values, y, u)
        pairs += [(dsf.Vector.symbols("y", n), y), (dsf.Vector.symbols("u", n), u)]
    for symbols, x in pairs:
        real = not x.is_complex()
        exact = [
            sp.Rational(z) if real else sp.Rational(z.real) + sp.I * sp.Rational(z.imag) for z in x.flatten().tolist()
        ]
        numbers_of.update(zip(symbols.ravel(), exact, strict=True))
    return numeric, symbolic, numbers_of


def as_matrix(system, part, n):
    """A, B, C, D or the drive as a matrix of numbers or of symbols, in either reading."""
    x = value(getattr(system, part))
    x = x.x if isinstance(x, Features) else x.c if isinstance(x, RealPart) else x
    on_symbols = any(isinstance(leaf, np.ndarray) for leaf in system.leaves)
    like = np.zeros(1, dtype=object) if on_symbols else torch.zeros(1, dtype=torch.float64)
    if isinstance(x, Writes):  # the response to each of the J inputs
        eye = np.eye(x.b.shape[-2], dtype=int)
        units = [
            np.array([[sp.Integer(int(i))] for i in row]) if on_symbols else torch.tensor(row)[:, None].double()
            for row in eye
        ]
        columns = [x.apply(unit) for unit in units]
        return np.concatenate(columns, -1) if on_symbols else torch.cat(columns, -1)
    if isinstance(x, Operator):
        return dense(x, system.state_size if part != "C" or system.output_is_vector else n, like)
    return x if isinstance(x, (np.ndarray, torch.Tensor)) else np.array([x], dtype=object)


@pytest.mark.parametrize("n", [2, 3])
@every
def test_tensors_say_what_symbols_say(name, n):
    numeric, symbolic, numbers_of = readings_of_one_step(name, n)
    parts = OPERATORS + (("u",) if symbolic.u is not None else ())
    for part in parts:
        found = as_matrix(numeric, part, n)
        found = (found.numpy() if isinstance(found, torch.Tensor) else found).astype(complex).ravel()
        formula = sp.Matrix(np.array(as_matrix(symbolic, part, n), dtype=object).ravel())
        expected = np.array(formula.xreplace(numbers_of).evalf(25).tolist(), dtype=complex).ravel()
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= SYMBOLIC * max(1, np.abs(expected).max()), part
    assert (numeric.reads, numeric.normalised, numeric.floor) == (symbolic.reads, symbolic.normalised, symbolic.floor)


@every
def test_symbol_prefixes_keep_two_systems_apart(name):
    first, second = (ARCHITECTURES[name].symbolic(2, prefix=p) for p in ("a_", "b_"))
    free = [
        set().union(*(sp.Matrix([as_matrix(s, part, 2).ravel()]).free_symbols for part in "ABC"))
        for s in (first, second)
    ]
    assert free[0] and not free[0] & free[1]


# --- bounds ----------------------------------------------------------------------------------------------------------


def sampled_eigenvalues(name):
    """Eigenvalues of A_t on samples of the domains: their inside, half of all entries at ends, all of them there."""
    for ends, n, seed in ((0.1, 4, 1), (0.5, 4, 2), (0.5, 1, 3), (1.0, 2, 4)):
        arch, signals, u = small(name, batch=2, length=6, heads=12, n=n, seed=seed, ends=ends)
        system = linear(arch, signals, u)
        found = eigenvalues(system.A, system.state_size)
        if found is None:
            A = system.dense()
            found = torch.linalg.eigvalsh(A) if torch.equal(A, A.mT) else torch.linalg.eigvals(A)
        yield from set(found.flatten().tolist())


@every
def test_bounds_hold_every_sampled_eigenvalue(name):
    enclosure = enclose(ARCHITECTURES[name].bounds().A)
    around = [SOLVER * d for d in (0, 1, -1, 1j, -1j)]
    found = list(sampled_eigenvalues(name))
    assert len(found) > 20 or SPECTRUM[name] in ("[1, 1]", "[0, 0]")
    for z in found:
        assert any(z + d in enclosure for d in around), f"{z} is not in {enclosure.parts}"
        assert abs(z) <= enclosure.norm + SOLVER
    assert repr(enclosure.hull) == SPECTRUM[name]


@every
def test_structured_eigenvalues_are_those_of_the_matrix(name):
    arch, signals, u = small(name, ends=0)
    system = linear(arch, signals, u)
    found = eigenvalues(system.A, system.state_size)
    if found is not None:
        M = system.dense().to(torch.complex128)
        for z in found.unbind(-1):  # det(A - z I) = 0, relative to the scale of A - z I
            shifted = M - z[..., None, None] * torch.eye(M.shape[-1])
            assert (torch.linalg.svdvals(shifted)[..., -1] < EXACT * (1 + torch.linalg.svdvals(M)[..., 0])).all()
        torch.testing.assert_close(found.sum(-1).to(M), M.diagonal(dim1=-2, dim2=-1).sum(-1).expand(found.shape[:-1]))


@every
def test_dependence(name):
    arch = ARCHITECTURES[name]
    assert tuple(arch.bounds().dependence()[part] for part in "ABC") == DEPENDENCE[name]
    arch, signals, u = small(name)
    assert linear(arch, signals, u).dependence() == arch.bounds().dependence()


# --- text ------------------------------------------------------------------------------------------------------------

COMMANDS = set(
    "top left right mathrm mathbf begin end displaystyle phi frac text Re prod sum Big gamma beta theta alpha eta log"
    " exp operatorname lambda kappa sigma tanh ell circ sqrt max".split()
)


@every
def test_equations_in_text_and_latex(name):
    arch = ARCHITECTURES[name]
    text, latex = repr(arch), arch._repr_latex_()
    for line in equations(arch):
        assert line in text
    assert "x_t = " in text and "y_t = " in text and arch.title in text
    for k, d in arch.signals.items():
        assert re.search(rf"^\s+{k}\s+{re.escape(repr(d))}$", text, re.M)
    assert not re.search(r"\w+\(set=|Bound|object at|tensor\(", text + latex)
    stripped = latex.replace(r"\{", "").replace(r"\}", "")
    depth = np.cumsum([{"{": 1, "}": -1}.get(c, 0) for c in stripped])
    assert depth.min() >= 0 and depth[-1] == 0
    assert latex.count(r"\left") == latex.count(r"\right") and latex.startswith("$") and latex.endswith("$")
    assert sorted(re.findall(r"\\begin\{(\w+)\}", latex)) == sorted(re.findall(r"\\end\{(\w+)\}", latex))
    assert set(re.findall(r"\\([A-Za-z]+)", latex)) <= COMMANDS


@every
def test_systems_show_their_sizes(name):
    arch, signals, u = small(name)
    text = repr(arch(**signals))
    varies = not all(d.const for d in arch.signals.values())
    assert arch.title in text and ("B=2 T=7 H=2" if varies else "B=1 T=1 H=2") in text and "x_t = " in text
    without = (
        "linear_attention",
        "softmax_attention",
        "alibi",
        "short_convolution",
    )  # no symbol in A, or infinite
    assert "Matrix" in repr(arch.symbolic(2)) or name in without
