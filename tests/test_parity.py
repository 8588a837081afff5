"""dsf.parity: every verdict, what it rests on, and what a hostile reader would try against it.

A "no" must follow from a theorem whose hypotheses hold; a "yes" from weights that are run; anything else is undecided.
"""

import ast
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import sympy as sp
import torch

import dsf
from dsf import (
    Complex,
    Dense,
    Drive,
    Each,
    First,
    Fixed,
    Gate,
    I,
    LogDecay,
    Matrix,
    Param,
    Positive,
    Prefix,
    Previous,
    Scalar,
    Shared,
    System,
    Unit,
    UnitDisc,
    Vector,
    Window,
    architecture,
    block,
    decay,
    diag,
    features,
    inf,
    inner,
    known,
    microsteps,
    normalised,
    outer,
    sigmoid,
    sqrt,
    stack,
    tanh,
)
from dsf.reference import scan
from dsf.sets import LeftHalfPlane, annulus, arc
from dsf_analysis.recognition import RECOGNITION
from dsf_analysis.refutations import Refutation
from dsf_analysis.witnesses.stacks import StackWitness
from parity_cases import NO, TWO, UNDECIDED, YES, answer, mine, named, ones

SIGNED = Scalar(-1, 1)


# ------------------------------------------------------------------------------------------------ every architecture
def test_every_architecture_of_the_library_has_its_verdict():
    shipped = {name for name, a in dsf.architectures().items() if a.body.__module__.startswith("dsf.zoo")}
    assert shipped == {*NO, *YES, *UNDECIDED}, "a new architecture needs its expected verdict here"


@pytest.mark.parametrize("name", [*NO, *YES, *UNDECIDED])
def test_verdicts(name):
    verdict = dsf.parity(dsf.architecture_named(name))
    expected, word = (True, "yes") if name in YES else (False, "no") if name in NO else (None, "undecided")
    assert verdict.answer is expected and verdict.word == word
    assert json.loads(json.dumps(verdict.to_dict(), allow_nan=False))["answer"] is verdict.answer
    text = repr(verdict)
    assert dsf.architecture_named(name).title in text and f" {verdict.word}: {verdict.because}" in text
    assert all(how in text for how in verdict.hypotheses.values())
    if verdict.answer is None:
        assert verdict.theorem is None and verdict.certificate is None
        return
    assert verdict.check() and bool(verdict) is verdict.answer
    assert verdict.theorem.statement in text and verdict.theorem.cite in text and "margin" in verdict.regimes
    assert verdict.hypotheses["dependence"] and "closed" in verdict.hypotheses["domains"]


def test_the_certificates_fit_the_theorems():
    assert isinstance(dsf.parity(named("gla")).certificate, Refutation)
    assert isinstance(dsf.parity(named("s4d")).certificate, Refutation)
    assert isinstance(dsf.parity(named("titans")).certificate, StackWitness)
    assert dsf.parity(named("s4d")).theorem.own and "own derivation" in repr(dsf.parity(named("s4d")))
    assert not dsf.parity(named("gla")).theorem.own


def test_infinite_features_that_are_averaged_are_a_no_of_one_regime():
    """On finitely many tokens the features span a space of finite dimension; with positions nothing is claimed."""
    for a in (named("softmax_attention"), named("alibi")):
        verdict = dsf.parity(a)
        assert verdict.answer is False and verdict.check() and verdict.hypotheses["state"] == "infinite"
        assert verdict.regimes == ("margin",) and "no positional encoding" in verdict.hypotheses["inputs"]
        assert dsf.recognizes(a, "parity", precision="finite").answer is None
    bare = mine(lambda q=Vector, k=Vector: System(A=I, B=features.exp(k), C=features.exp(q)))
    assert dsf.parity(bare).answer is None and "infinite" in dsf.parity(bare).because


def test_an_undecided_verdict_is_no_falsehood():
    verdict = dsf.parity(named("gla", g=Prefix(Vector(-inf, 0))))
    with pytest.raises(ValueError, match="undecided"):
        bool(verdict)
    with pytest.raises(ValueError, match="no certificate to check"):
        verdict.check()


def test_the_table_of_rules_is_printed_in_order():
    lines = repr(RECOGNITION).splitlines()
    assert lines[0] == "recognition of a regular language: the first rule that matches decides"
    rules = [line for line in lines if line[:2].strip().isdigit()]
    column = rules[0].index("yes")
    assert [r.name for r in RECOGNITION.rules][:3] == ["feedback", "past-dependent", "real spectrum >= 0"]
    assert len(rules) == len(RECOGNITION.rules)
    for position, (line, rule) in enumerate(zip(rules, RECOGNITION.rules, strict=True), 1):
        assert line.startswith(f"{position:2d}  {rule.name}") and rule.condition in line
    answers = [line[column:].split()[0] for line in rules]
    assert answers == ["yes", "undecided", *["no"] * 11, "yes", "undecided"]
    assert sum("grazzi2025" in line for line in lines) >= 5


# ------------------------------------------------------------------------------------------ the domain is the claim
@pytest.mark.parametrize("name", ["deltanet", "gated_deltanet"])
def test_a_wider_gate_changes_the_answer(name):
    assert answer(named(name)) is False
    assert answer(named(name, beta=TWO)) is True
    assert answer(named(name, beta=TWO).open_range(1e-6)) is False  # -1 is out of reach: every layer settles
    assert answer(named(name).open_range(1e-6)) is False
    settling = dsf.parity(named(name, beta=Scalar(0, 1.999)))
    assert settling.answer is False and settling.check() and settling.regimes == ("margin",) and settling.theorem.own
    assert dsf.recognizes(named(name, beta=Scalar(0, 1.999)), "parity", precision="finite").answer is None


def test_the_minus_one_must_come_from_the_token():
    """Constant beta and key: every token reflects, whatever its domain."""
    constant = named("deltanet", beta=Param(TWO), k=Param(Unit))
    verdict = dsf.parity(constant)
    assert verdict.answer is False and verdict.check() and "same for every token" in verdict.because
    assert answer(named("deltanet", k=Param(Unit), beta=TWO)) is True


def test_keys_that_are_not_normalised_are_never_a_no():
    """1 - beta |k|^2 has no lower end."""
    assert answer(named("deltanet", k=Vector)) is not False
    assert answer(named("deltanet", k=Vector(-1, 1))) is not False


def test_grouped_and_shared_signals():
    for groups in (1, 2, 4):
        shared = Shared(Vector, groups)
        assert answer(named("deltanet", q=shared)) is False
        assert answer(named("deltanet", q=shared, beta=TWO)) is True
        assert answer(named("gla", q=shared, k=Shared(Vector, 2))) is False


def test_normalised_architectures():
    for floor in (None, 1.0):
        assert answer(named("linear_attention").normalised(floor)) is False
        assert answer(named("deltanet").normalised(floor)) is False
    assert answer(named("deltanet", beta=TWO).normalised(1.0)) is True
    assert answer(named("s4d")) is False


def test_reading_before_the_update():
    def before(a):
        return mine(lambda q=Vector, k=Vector, g=a: System(A=diag(g), B=k, C=q, reads="before"))

    assert answer(before(Vector(0, 1))) is False
    assert answer(before(Vector(-1, 1))) is True


@pytest.mark.parametrize("J", [1, 2, 3])
def test_micro_steps(J):
    def product(domain):
        return named("deltaproduct", k=Each(Unit, J), beta=Each(domain, J))

    assert answer(product(TWO)) is True
    assert answer(product(Gate)) is False  # of three the spectrum may be complex, but products are paracontractions
    assert dsf.recognizes(product(Gate), "parity", precision="finite").answer is (False if J <= 2 else None)

    @mine
    def first(q=Vector, k=Each(Unit, J), beta=Each(Gate, J), g=First(LogDecay)):
        return microsteps(System(A=decay(g) * (I - beta * outer(k)), B=beta * k, C=q))

    assert answer(first) is False


# -------------------------------------------------------------------------------------------- time-invariant systems
def constant(*rows):
    return Dense(torch.tensor(rows, dtype=torch.float64)[None, None, None])


LTI = {
    "-I": -1 * I,
    "a diagonal with -1": diag(torch.tensor([1.0, -1.0]).double().reshape(1, 1, 1, 2)),
    "i I": 1j * I,
    "a swap": constant([0, 1], [1, 0]),
    "a rotation": constant([0, -1], [1, 0]),
    "a Jordan block at -1": constant([-1, 1], [0, -1]),
    "a reflection": I - 2.0 * outer(torch.tensor([0.6, 0.8], dtype=torch.float64).reshape(1, 1, 1, 2)),
    "an expanding one": -2 * I,
}


@pytest.mark.parametrize("name", LTI)
def test_a_constant_minus_one_is_a_no(name):
    system = System(A=LTI[name], B=ones(), C=ones())
    verdict = dsf.parity(system)
    assert verdict.answer is False and verdict.check() and isinstance(verdict.certificate, Refutation)
    assert verdict.theorem.own
    unproved = name in ("i I", "a rotation", "an expanding one")  # "finite" is proved for angles 0 and pi, no growth
    assert verdict.regimes == (("margin",) if unproved else ("margin", "finite"))


def test_a_constant_spectrum_above_zero_is_a_no_by_the_spectrum():
    for A in (0.5 * I, I, constant([0.5, 1], [0, 0.25]), 2 * I):
        verdict = dsf.parity(System(A=A, B=ones(), C=ones()))
        assert verdict.answer is False and verdict.check() and isinstance(verdict.certificate, Refutation)


def test_a_control_system_with_minus_one_is_a_no():
    A, B, C, D = [[0.0, 1.0], [1.0, 0.0]], [[1.0], [0.0]], [[1.0, 1.0]], [[0.0]]
    verdict = dsf.parity(System.from_control((A, B, C, D)))
    assert verdict.answer is False and verdict.check() and verdict.hypotheses["spectrum"].startswith("[-1, 1]")


def test_a_bare_system_that_varies_is_undecided():
    varying = System(A=diag(torch.rand(1, 5, 1, 2)), B=ones().float(), C=ones().float())
    verdict = dsf.parity(varying)
    assert verdict.answer is None and "says nothing of other tokens" in verdict.because


def test_a_constant_minus_one_beside_gates_is_never_a_yes():
    """The -1 must be the token's: an entry that flips at every token, and gates in [0, 1] elsewhere (khavari2025)."""

    @mine
    def beside(q=Vector, k=Vector, g=Gate):
        return System(A=block([[-1 * I, 0], [0, g * I]]), B=stack(k, k), C=stack(q, q))

    @mine
    def param(q=Vector, k=Vector, g=Gate, r=Param(Scalar(-1, -1))):
        return System(A=block([[r * I, 0], [0, g * I]]), B=stack(k, k), C=stack(q, q))

    @mine
    def coupled(q=Vector, k=Vector, g=Gate):
        return System(A=block([[-1 * I, g * I], [0, g * I]]), B=stack(k, k), C=stack(q, q))

    @mine
    def mixed(q=Vector, k=Vector, g=Vector(0, 1), s=Param(Vector(-1, 1))):
        return System(A=diag(g) @ diag(s), B=k, C=q)

    for a in (beside, param, coupled, mixed):
        assert answer(a) is None


def test_gates_of_one_negative_sign():
    @mine
    def negative(q=Vector, k=Vector, g=Gate):
        return System(A=-g * I, B=k, C=q)

    assert answer(negative) is None  # -1 and 0, but no 1: token 0 keeps nothing


# -------------------------------------------------------------------------------------------------- of what it speaks
def test_operators_of_the_past_are_undecided():
    for tag, word in ((Window, "window"), (Prefix, "prefix")):
        cases = {
            "A": named("gla", g=tag(Vector(-inf, 0))),
            "B": named("linear_attention", k=tag(Vector)),
            "C": named("deltanet", q=tag(Vector)),
            "D": named("mamba2", d=tag(Scalar)),
        }
        for operator, a in cases.items():
            verdict = dsf.parity(a)
            assert verdict.answer is None and f"{operator}: {word}" in verdict.because
            assert word in verdict.hypotheses["dependence"]


def test_a_drive_or_a_readout_of_the_past_is_undecided():
    """The theorems want functions of the token in every place, not in A, B, C, D alone: p may be the parity itself."""

    @mine
    def driven(a=Vector(0, 1), p=Prefix(Vector), u=Drive):
        return System(A=diag(a), B=I, C=I, u=tanh(u) + p)

    @mine
    def read(q=Vector, k=Vector, p=Prefix(Vector)):
        return System(A=I, B=k, C=q, readout=lambda x: x * p[0, 0, 0, 0])

    for a, place in ((driven, "u: prefix"), (read, "readout: prefix")):
        verdict = dsf.parity(a)
        assert verdict.answer is None and place in verdict.because
    assert answer(driven.with_domain(p=Vector)) is False
    assert answer(driven.with_domain(p=Vector, a=Vector(-1, 1))) is True


def test_feedback_that_finds_nothing_is_undecided():
    @mine
    def leaky(u=Drive, y=Previous, a=Param(Vector(0, 0.5))):
        return System(A=diag(a), B=I, C=I, u=u + 0 * y)

    verdict = dsf.parity(leaky)
    assert verdict.answer is None and "proves nothing" in verdict.because


def test_a_member_of_the_family_gets_the_familys_verdict():
    arch = dsf.architecture_named("deltanet")
    for length in (1, 6):  # one step is not "constant in time": the architecture says what depends on the token
        system = arch(**arch.sample(1, length, 2, 3, 2)[0])
        verdict = dsf.parity(system)
        assert verdict.answer is False and verdict.check() and verdict.subject is arch
        assert "family" in verdict.hypotheses
    assert "family" not in dsf.parity(arch).hypotheses
    feedback = dsf.architecture_named("gru")
    assert answer(feedback(**feedback.sample(1, 4, 1, 2)[0])) is True
    layer = dsf.convert(torch.nn.GRU(3, 4), torch.randn(5, 1, 3)).layers["layer0"]
    assert answer(layer) is True and "not for these" in repr(dsf.parity(layer))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_signals_outside_their_domains_are_refused_by_name(dtype):
    arch = dsf.architecture_named("deltanet")
    signals, _ = arch.sample(1, 8, 2, 3, 2, dtype=dtype)
    assert dsf.parity(arch(**signals)).answer is False
    with pytest.raises(ValueError, match=r"signal beta .* leaves its domain .*with_domain\(beta="):
        dsf.parity(arch(**signals | {"beta": 2 * torch.ones_like(signals["beta"])}))
    with pytest.raises(ValueError, match="signal k of this system leaves its domain"):
        dsf.parity(arch(**signals | {"k": 2 * signals["k"]}))
    with pytest.raises(ValueError, match="leaves its domain"):
        dsf.parity(arch(**signals | {"beta": torch.full_like(signals["beta"], math.nan)}))


def test_a_system_that_was_edited_is_no_member():
    arch = dsf.architecture_named("deltanet")
    signals, _ = arch.sample(1, 8, 2, 3, 2)
    wide = signals | {"beta": 2 * torch.ones_like(signals["beta"])}
    system, other = arch(**signals), arch(**wide)
    gru = dsf.architecture_named("gru")
    gated, u = gru.sample(1, 8, 1, 2)
    cell = gru(**gated)
    edited = {
        "cut": other.slice(0, 4),
        "one step": other.slice(0, 1),
        "mapped": system.map(lambda leaf: 2 * leaf),
        "negated": replace(system, A=-1 * system.A),
        "another B": replace(system, B=torch.rand_like(signals["k"])),
        "another C": replace(system, C=torch.rand_like(signals["q"])),
        "a D": replace(system, D=1),
        "normalised": normalised(system),
        "read before": replace(system, reads="before"),
        "a readout": replace(system, readout=torch.tanh),
        "another architecture": replace(other, architecture=arch, signals=signals),
        "frozen gates": cell.along(scan(cell, u)[0], u),
        "a cut cell": cell.slice(0, 4),
    }
    for what, x in edited.items():
        with pytest.raises(ValueError, match="is not what .* makes of its signals"):
            dsf.parity(x)
            pytest.fail(what)
    assert answer(replace(system, x0=torch.ones(1, 2, 3, 2).double())) is False  # the family has any initial state
    assert dsf.parity(replace(other.slice(0, 4), architecture=None)).answer is None


def test_a_readout_written_in_the_body_is_recognised_in_its_systems():
    @mine
    def squashed(q=Vector, k=Vector, a=Vector(0, 1)):
        return System(A=diag(a), B=k, C=q, readout=lambda x: torch.tanh(x))

    verdict = dsf.parity(squashed(**squashed.sample(1, 3, 1, 2, 1)[0]))  # no member would be an error
    assert verdict.answer is None and "function of the state" in verdict.because


def test_other_things_are_refused():
    _, system = None, dsf.architecture_named("gla")(**dsf.architecture_named("gla").sample(1, 3, 1, 2, 1)[0])
    for x in (3, "gla", lambda x: x, torch.eye(2), dsf.bidirectional(system, system)):
        with pytest.raises(TypeError, match="an architecture, a system or a converted layer"):
            dsf.parity(x)


# ---------------------------------------------------------------------------------- the same model in other writings
def test_renaming_changes_nothing():
    @architecture("Zebra", register=False)
    def zebra(stripes=Vector, tail=Unit, hoof=Gate):
        return System(A=I - hoof * outer(tail), B=hoof * tail, C=stripes)

    for domain, expected in ((Gate, False), (TWO, True), (Scalar(0, 1.5), False)):
        a, b = dsf.parity(zebra.with_domain(hoof=domain)), dsf.parity(named("deltanet", beta=domain))
        assert a.answer is b.answer is expected
        assert a.certificate == b.certificate or expected is True


def rewritten(beta):
    """DeltaNet in other words; `beta` is its gate's domain."""

    @mine
    def as_low_rank(q=Vector, k=Unit, b=beta):
        return System(A=I - b * outer(k, 1.0 * k), B=b * k, C=q)

    @mine
    def as_diagonal(q=Vector, k=Unit, b=beta):
        return System(A=diag(0 * k + 1) - b * outer(k), B=b * k, C=q)

    @mine
    def composed(q=Vector, k=Unit, b=beta):
        return System(A=(I - b * outer(k)) @ I, B=b * k, C=q)

    @mine
    def by_the_square(q=Vector, k=Vector, b=beta):
        unit = k / sqrt(inner(k, k))
        return System(A=I - b * outer(unit), B=b * unit, C=q)

    @mine
    def as_a_block(q=Vector, k=Unit, b=beta):
        return System(A=block([[I - b * outer(k), 0], [0, I]]), B=stack(b * k, 0 * k), C=stack(q, 0 * q))

    @mine
    def as_a_sum(q=Vector, k=Unit, b=beta):
        return System(A=dsf.Sum(I, -1 * (b * outer(k))), B=b * k, C=q)

    @mine
    def with_a_shift_of_nothing(q=Vector, k=Unit, b=beta):
        return System(A=dsf.Shift(0) @ (I - b * outer(k)), B=b * k, C=q)

    return [as_low_rank, as_diagonal, composed, by_the_square, as_a_block, as_a_sum, with_a_shift_of_nothing]


@pytest.mark.parametrize("domain, expected", [(Gate, False), (TWO, True)])
def test_another_writing_never_gets_the_opposite_verdict(domain, expected):
    found = {a.name: answer(a) for a in rewritten(domain)}
    assert set(found.values()) <= {expected, None}
    assert found["composed"] is found["as_a_sum"] is found["as_a_block"] is expected


def test_a_factor_two_in_the_body():
    @mine
    def doubled(q=Vector, k=Unit, g=Gate):
        return System(A=I - 2 * g * outer(k), B=2 * g * k, C=q)

    @mine
    def squashed(q=Vector, k=Unit, g=Scalar):
        return System(A=I - 2 * sigmoid(g) * outer(k), B=g * k, C=q)

    @mine
    def halved(q=Vector, k=Unit, g=TWO):
        return System(A=I - 0.5 * g * outer(k), B=g * k, C=q)

    assert (answer(doubled), answer(squashed), answer(halved)) == (True, True, False)


def test_matrices():
    @mine
    def free(q=Vector, k=Vector, M=Matrix):
        return System(A=M, B=k, C=q)

    @mine
    def gated(q=Vector, k=Vector, g=Gate, M=Param(Matrix)):
        return System(A=g * M, B=k, C=q)

    assert answer(free) is True and answer(free.with_domain(M=Param(Matrix))) is False
    assert answer(gated) is None


def test_complex_operators():
    @mine
    def ring(q=Vector(Complex), k=Vector(Complex), lam=Vector(UnitDisc)):
        return System(A=diag(lam), B=k, C=dsf.RealPart(q))

    @mine
    def complex_key(q=Vector(Complex), k=Vector(UnitDisc), beta=Gate):
        return System(A=I - beta * outer(k), B=k, C=dsf.RealPart(q))

    assert answer(ring) is True
    for s in (arc(1, -1, 1), LeftHalfPlane):  # an arc has rotations of order 8: they count to parity
        assert answer(ring.with_domain(lam=Vector(s))) is not False
    assert answer(ring.with_domain(lam=Vector(annulus(0.5, 0.9)))) is False  # all of it fades
    assert answer(ring.with_domain(lam=Param(Vector(UnitDisc)))) is False
    assert answer(complex_key) is not False  # k^T k is any complex number, no square


def test_a_square_of_complex_numbers_is_no_square():
    @mine
    def squared(q=Vector, lam=Vector(Complex), b=Vector):
        w = diag(lam) @ b
        return System(A=diag(w * w), B=b, C=q)

    assert dsf.parity(squared).answer is not False and not dsf.spectrum(squared).real


def test_scalars_alone_and_one_state():
    @mine
    def scalar(b=Scalar, a=Gate, c=Scalar):
        return System(A=a * I, B=diag(b), C=I)

    assert answer(scalar) is False and answer(scalar.with_domain(a=SIGNED)) is True


# ------------------------------------------------------------------------------------------------- claims of an author
def test_a_false_claim_is_noticed():
    @mine
    def lie(q=Vector, k=Unit, beta=TWO):
        return System(A=known(1 - beta, 0, 1) * I, B=k, C=q)

    @mine
    def truth(q=Vector, k=Vector, beta=Positive):
        erase = known(beta * k * k / (1 + beta * inner(k, k)), 0, 1)
        return System(A=diag(1 - erase), B=k, C=q)

    minus_one = Fixed("matrix", lambda n: -sp.eye(n), dsf.Interval(0, 1))

    @mine
    def false_spectrum(q=Vector, k=Vector, g=Gate, M=minus_one):
        return System(A=g * M, B=k, C=q)

    for a in (lie, false_spectrum):
        verdict = dsf.parity(a)
        assert verdict.answer is None and "claims too much" in verdict.because
    assert answer(truth) is False


def test_infinite_features_inside_a_body_of_ones_own():
    @mine
    def kernel(q=Vector, k=Vector):
        return System(A=I, B=features.exp(2 * k), C=features.exp(q))

    assert answer(kernel) is None
    for wrong in (
        lambda q=Vector, k=Vector: System(A=I, B=features.exp(k), C=q),
        lambda q=Vector, k=Vector, g=SIGNED: System(A=g * I, B=features.exp(k), C=features.exp(q)),
        lambda q=Vector, k=Each(Vector): microsteps(System(A=I, B=features.exp(k), C=features.exp(q))),
    ):
        with pytest.raises((ValueError, TypeError)):
            dsf.parity(mine(wrong))


# --------------------------------------------------------------------------------------------- structure, never names
def test_no_code_tests_the_name_of_an_architecture():
    names = {*dsf.architectures()} | {a.title for a in dsf.architectures().values()}
    root = Path(dsf.__file__).parents[1]
    files = [*(root / "analysis").rglob("*.py"), *(root / "dsf_kernels").rglob("*.py")]
    files = [path for path in files if path.parent.name != "benchmarks"]  # what is measured has a name
    assert len(files) > 10
    for path in files:
        assert not (found := strings_in_code(path.read_text()) & names), f"{path.name} holds {found}"


def strings_in_code(source):
    """The string constants of a module that are no docstrings."""
    tree = ast.parse(source)
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation
    }


def test_that_test_would_notice():
    assert strings_in_code('"""deltanet"""\nif a.name == "deltanet":\n    pass') == {"deltanet"}


def test_one_step_of_something_that_varies_is_not_constant():
    """A system of T = 1 is constant only where nothing that varies was cut, joined or linearized into it."""
    flip = dsf.linearize(lambda x, u: (x * (1 - 2 * u), x), torch.ones(1), torch.ones(1, 1)).system
    wide = named("deltanet", beta=Scalar(0, 2))
    one, long = (wide(**wide.sample(1, T, 1, 2, 1)[0]) for T in (1, 8))
    cut = dsf.parallel(long, long).slice(2, 3)
    for system in (flip, dsf.series(one, one), dsf.parallel(one, one), one.to_control(), cut):
        assert dsf.parity(system).answer is None
    lti = dsf.System.from_control(([[-1.0]], [[1.0]], [[1.0]], [[0.0]]))
    assert dsf.parity(lti).answer is False and dsf.parity(lti.slice(0, 1)).answer is False
