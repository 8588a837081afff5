"""Models that compute what a careless rule would deny, and models that hold nothing for ever: none gets that answer."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import dsf
from dsf import Complex, Gate, I, LogDecay, Param, Scalar, System, Unit, Vector, decay, diag, normalised, outer
from dsf.operators import Dense
from dsf.reference import scan
from dsf.sets import annulus
from dsf_analysis.languages.automaton import Automaton
from dsf_analysis.languages.patterns import Clash, Permuting
from dsf_analysis.languages.search import window_clash, word_period
from dsf_analysis.languages.sources import language
from dsf_analysis.refutations import Refutation, plain_parts
from dsf_analysis.theorems import THEOREMS
from dsf_analysis.witnesses.exactness import exact_in_floats
from dsf_analysis.witnesses.stacks import StackWitness
from parity_cases import mine, named

ROOT = Path(__file__).resolve().parent.parent
CIRCLE, WIDE = annulus(1, 1), annulus(0, 2)
WORD = torch.randint(2, (400,), generator=torch.Generator().manual_seed(0))
PARITY = WORD.cumsum(0) % 2


def bare(A):
    """A system without an architecture, of one dense matrix."""
    one = torch.ones(1, 1, 1, len(A), dtype=torch.float64)
    return System(A=Dense(A[None, None, None]), B=one, C=one)


# ------------------------------------------------------------------------------------------- what a model can compute
def test_the_cosine_of_a_counter_is_parity():
    """A = I has the eigenvalue 1 alone, but a function of the state may see what no clipped output does."""
    cosine = mine(lambda q=Vector, k=Vector: System(A=I, B=k, C=q, readout=torch.cos))
    one = torch.ones(1, len(WORD), 1, 1, dtype=torch.float64)
    y = scan(cosine(q=one, k=one), torch.pi * WORD.double()[None, :, None, None])[0].flatten()
    assert torch.equal((y < 0).long(), PARITY) and (y.abs() > 0.9).all()
    assert dsf.parity(cosine).answer is not False


def test_a_quotient_of_fading_states_is_parity():
    """All eigenvalues lie inside the disc; numerator and denominator fade alike, and their quotient keeps the sign."""
    quotient = mine(lambda q=Vector, k=Vector, a=Vector(-0.5, 0.5): normalised(System(A=diag(a), B=k, C=q)))
    x = torch.ones(2, dtype=torch.float64)
    seen = []
    for bit in WORD[:200].tolist():  # numerator and denominator of one head of size 2, written at the beginning
        x = x * torch.tensor([-0.5 if bit else 0.5, 0.5], dtype=torch.float64)
        seen.append(x[0] / x[1])
    assert torch.equal((torch.stack(seen) < 0).long(), PARITY[:200])
    assert dsf.parity(quotient).answer is not False
    faded = mine(lambda q=Vector, k=Vector, a=Vector(-0.5, 0.5): System(A=diag(a), B=k, C=q))
    assert dsf.parity(faded).answer is False  # without the quotient it is a theorem


def test_a_turn_that_only_a_solver_saw_proves_nothing():
    """A rotation by a third inside a 40 x 40 matrix: too large to be certified, and it counts lengths modulo 3."""
    Q = torch.linalg.qr(torch.randn(40, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))[0]
    A = torch.eye(40, dtype=torch.float64)
    A[:2, :2] = torch.tensor([[-0.5, -(0.75**0.5)], [0.75**0.5, -0.5]])
    system = bare(Q @ A @ Q.T)
    assert not dsf.spectrum(system).certified
    for task in ("length mod 3", "length mod 2"):
        assert dsf.recognizes(system, task).answer is not False
    assert dsf.recognizes(system, "parity").answer is False  # A is the same for every token: no eigenvalue is needed


def test_ends_within_rounding_of_the_circle_count_as_on_it():
    near = mine(lambda q=Vector, k=Vector, a=Vector(-1 + 1e-15, 1): System(A=diag(a), B=k, C=q))
    assert dsf.parity(near).answer is not False


def test_constant_layers_remember_the_first_letter():
    """An x_0 that fades marks the beginning, so the next layer can keep the first letter: a clash needs words that part
    inside a component that no word leaves."""
    table = ((1, 2), (3, 3), (4, 4), (1, 1), (2, 2))  # the first letter, then the length modulo 2
    first = Automaton(letters=("a", "b"), table=table, initial=0, accepting=frozenset({1, 4}))
    joined = Automaton(letters=("a", "b"), table=((1, 2), (2, 2), (1, 1)), initial=0, accepting=frozenset({1}))
    for automaton in (first, joined):
        assert window_clash(language(automaton)) is None
    forged = Clash("window", (0,), (1,), (0, 0), (), (), (0,))  # states 1 and 2 of `joined`, one component
    assert joined.run((0,)) != joined.run((1,)) and not forged.check(joined)
    flip_flop = language("flip-flop")
    found = window_clash(flip_flop)
    assert found is not None and found.check(flip_flop.automaton)


# ----------------------------------------------------------------------------------------------- certificates, forged
def rwkv7_like():
    return mine(lambda r=Vector, k=Unit, v=Vector, w=Vector(0.5452, 1), a=Vector(0, 1): System(
        A=diag(w) - 1.0 * outer(k, a * k), B=v, C=r))  # fmt: skip


def forged(subject, claim, task):
    """A sealed certificate that a word of the language settles, whatever the subject is."""
    parts = tuple(plain_parts(k.parts) for k in (dsf.spectrum(subject),))
    pattern = word_period(language(task), lambda m: m > 1)
    assert pattern is not None
    return Refutation(claim, parts, language(task).automaton, pattern).sealed()


def test_few_sampled_products_do_not_make_a_certificate():
    """Six-letter products of these transitions have an eigenvalue below -1, which no sample of them shows."""
    assert not forged(rwkv7_like(), "settles on words", "parity").check(rwkv7_like())
    assert dsf.recognizes(rwkv7_like(), "(abab)*").answer is not False
    for a in (named("gla"), named("kda"), named("deltanet", beta=Scalar(0, 1.5))):
        assert forged(a, "settles on words", "parity").check(a)


def test_permuted_points_must_be_different_states():
    """Two copies of one state make a larger group than the language has."""
    twice = Automaton(letters=("a",), table=((1,), (2,), (3,), (0,)), initial=0, accepting=frozenset({0, 2}))
    cycle = Permuting(((0,),), (0, 1, 2, 3), "sign", 2)
    assert not cycle.check(twice)
    assert cycle.check(replace(twice, accepting=frozenset({0})))


# --------------------------------------------------------------------------------------------------- "yes", for ever?
def gated(lo, hi):
    return mine(lambda q=Vector, k=Vector, a=Scalar(lo, hi): System(A=a * I, B=k, C=q))


def test_a_gate_that_nearly_holds_holds_nothing_for_ever():
    """0.99999999999 passes every run that anyone makes; at every length it forgets."""
    assert dsf.recognizes(gated(0, 1), "flip-flop").answer is True
    for short in (1e-8, 1e-10, 1e-11):
        assert dsf.recognizes(gated(0, 1 - short), "flip-flop").answer is None


@pytest.mark.parametrize("name", ["linear_attention", "retnet", "s4d"])
def test_a_counter_does_not_stop_at_the_end_of_float64(name):
    """Its states never come back, and it forgets nothing: no proof in `machine`, a proof where outputs are clipped."""
    found = dsf.recognizes(named(name), "dyck-1 depth 3")
    assert found.answer is True and set(found.regimes) == {"margin", "finite", "log"}
    assert isinstance(found.certificate, StackWitness)
    assert not exact_in_floats(found.subject, found.certificate)
    assert dsf.recognizes(named(name), "dyck-1 depth 3", precision="machine").answer is None


def test_averages_and_feedback_are_not_in_the_regime_of_casts():
    """`finite` casts the terms of a linear recurrence with a finite state; these have none."""
    for name, task in (("softmax_attention", "even pairs"), ("elman", "parity")):
        found = dsf.recognizes(named(name), task)
        assert found.answer is True and "finite" not in found.regimes
        assert dsf.recognizes(named(name), task, precision="finite").answer is None


def test_bounded_states_are_named_where_a_proof_needs_them():
    signs = mine(lambda q=Vector, k=Vector, a=Vector(-1, 1): System(A=diag(a), B=k, C=q))
    spiral = mine(lambda q=Vector(Complex), k=Vector, a=Param(Vector(WIDE)): System(A=diag(a), B=k, C=q))
    circle = spiral.with_domain(a=Param(Vector(CIRCLE)))
    for a, task, bounded in ((signs, "mod 3", True), (spiral, "flip-flop", True), (circle, "flip-flop", False)):
        found = dsf.recognizes(a, task)
        assert found.answer is False and found.hypotheses["precision"].startswith("states are bounded") is bounded


def test_turns_by_the_token_are_contested():
    turning = mine(lambda q=Vector(Complex), k=Vector, a=Vector(CIRCLE): System(A=diag(a), B=k, C=q))
    found = dsf.recognizes(turning, "mod 3")
    assert found.answer is True and "karuvally2025" in str(found.contested)
    assert "machine" not in found.regimes
    assert dsf.recognizes(turning, "parity").contested is None  # -1 comes back bit by bit
    assert dsf.recognizes(named("deltaproduct"), "mod 3").contested is None


def test_a_constant_matrix_has_no_turns_to_look_for():
    """A = I fits any size; looking for reflections in it was an error of shapes."""
    for precision in ("machine", "log"):
        assert dsf.recognizes(named("linear_attention"), "S3", precision=precision).answer is None


# ------------------------------------------------------------------------------------------ lemmas, on random numbers
def test_outputs_of_non_negative_spectra_are_eventually_monotone():
    """Lemma 1, with Jordan blocks and growth: sums and quotients of k^j lambda^k stop turning."""
    generator = torch.Generator().manual_seed(0)
    k = torch.arange(1, 6000, dtype=torch.float64)
    for _ in range(200):
        bases = 0.1 * torch.rand(3, generator=generator, dtype=torch.float64) + torch.tensor([0.4, 0.7, 0.9])
        f, g = (
            sum(c * k**j * b**k for b in bases for j, c in enumerate(torch.randn(2, generator=generator).tolist()))
            for _ in range(2)
        )
        late = (f / g)[4000:]
        steps = late.diff()
        small = 1e-9 * late.abs().max()
        assert (steps >= -small).all() or (steps <= small).all()


def test_paracontractions_settle_along_any_word():
    """|A x| < |x| unless A x = x is kept by products, so powers of a product converge."""
    a = named("deltanet", beta=Scalar(0, 1.9))
    generator = torch.Generator().manual_seed(0)
    signals, _ = a.sample(1, 2, 2000, 3, 1, generator=generator, ends=0.4)
    first, second = a(**signals).dense()[0]
    P = second @ first
    far = torch.linalg.matrix_power(P, 1 << 20)
    assert (far @ P - far).abs().max() < 1e-6


@pytest.mark.parametrize("domain", [Vector(0, 1), Vector(-1, 1)], ids=["non-negative", "signed"])
def test_real_diagonals_have_periods_of_two_along_words(domain):
    """Two steps of u give squares: with entries >= 0 outputs settle, with signs they alternate at most."""
    a = mine(lambda q=Vector, k=Vector, a=domain: System(A=diag(a), B=k, C=q))
    generator = torch.Generator().manual_seed(1)
    word, _ = a.sample(1, 3, 200, 2, 1, generator=generator, ends=0.4)
    u = torch.randn(1, 3, 200, 1, dtype=torch.float64, generator=generator) * (domain.set.lo == 0)
    signals = {k: s.repeat(1, 2000, *((1,) * (s.dim() - 2))) for k, s in word.items()}
    start = torch.randn(1, 200, 2, 1, dtype=torch.float64, generator=generator)
    y = scan(a(**signals), u.repeat(1, 2000, 1, 1), start)[0][0, 2::3, :, 0]
    step = 1 if domain.set.lo == 0 else 2
    moved = (y[step:] - y[:-step])[-4:]
    drift = moved - moved.mean(0)
    assert drift.abs().max() < 1e-2


# -------------------------------------------------------------------------------------------------------- the document
def test_every_theorem_has_its_source_and_every_own_one_its_proof():
    keys = set(re.findall(r"@\w+\{([\w-]+),", (ROOT / "docs" / "references.bib").read_text()))
    page = (ROOT / "docs" / "theorems.md").read_text()
    for theorem in THEOREMS:
        cited = re.findall(r"[a-z]+\d{4}", theorem.cite)
        assert set(cited) <= keys and all(key in page for key in cited), theorem
    proofs = page[page.index("## Recognition") : page.index('## What a "yes" rests on')]
    sections = [part for part in proofs.split("\n### ") if "*Own derivation*" in " ".join(part.split())]
    for theorem in THEOREMS:
        keys = re.findall(r"[a-z]+\d{4}", theorem.cite)
        assert not theorem.own or any(all(key in part for key in keys) for part in sections), theorem


def test_a_period_is_of_the_automaton():
    """The half of a certificate that speaks of the language: a wrong period, word or end is refused."""
    parity = language("parity").automaton
    good = word_period(language("parity"), lambda m: m > 1)
    assert good is not None and good.check(parity)
    for bad in (replace(good, period=3), replace(good, u=(0,)), replace(good, u=())):
        assert not bad.check(parity)


def test_a_decay_of_its_own_in_numerator_and_normaliser_settles():
    """Quotients with eigenvalues >= 0 settle on letters, also where both states fade or grow."""
    a = mine(lambda q=Vector, k=Vector, g=LogDecay, i=Gate: normalised(System(A=decay(g) * I, B=i * k, C=q)))
    assert dsf.parity(a).answer is False and dsf.parity(a).regimes == ("margin", "finite")


@pytest.mark.parametrize("root, size", [(1.0, 8), (0.5, 6)])
def test_a_defective_matrix_is_refuted_in_exact_arithmetic(root, size):
    """A solver scatters eight equal eigenvalues over a circle of radius 0.01."""
    companion = torch.diag(torch.ones(size - 1), -1).double()
    companion[0] = torch.tensor([-c for c in np.poly([root] * size)[1:]])
    one = torch.zeros(size, 1)
    one[0] = 1
    system = System.from_control((companion.tolist(), one.tolist(), [[1.0] * size], [[0.0]]))
    verdict = dsf.parity(system)
    assert verdict.answer is False and verdict.check()
    forged = replace(verdict.certificate, parts=(((root, root + 1e-3, True), (0.0, root / 2, True)),)).sealed()
    assert forged.check(system)  # a wider claim that holds
    assert not replace(forged, parts=(((0.0, root - 1e-3, True),),)).sealed().check(system)
