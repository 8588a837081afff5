"""dsf.recognizes: the matrix of architectures and languages, a user's own instances, and what must not change it."""

import itertools
import json

import pytest
import torch

import dsf
from dsf import (
    Complex,
    Each,
    Gate,
    I,
    LogDecay,
    Matrix,
    Param,
    Scalar,
    System,
    Unit,
    UnitDisc,
    Vector,
    architecture,
    block,
    decay,
    diag,
    inner,
    microsteps,
    outer,
    sqrt,
    stack,
)
from dsf.sets import annulus
from dsf_analysis.languages.sources import language
from long_cases import some_slow
from parity_cases import NO, TWO, mine, named

CIRCLE = annulus(1, 1)
TASKS = ("parity", "mod 3", "cyclic 12", "flip-flop", "even pairs", "dyck-1 depth 3", "S3", "A4", "S4", "A5", "S5")
TASKS = (*TASKS, "random aperiodic 0")
GROUPS = ("parity", "mod 3", "cyclic 12", "S3", "A4", "S4", "A5", "S5")
STAR_FREE = ("flip-flop", "even pairs", "dyck-1 depth 3", "random aperiodic 0")

GATED = "deltanet gated_deltanet gla kda mamba mamba2 mlstm rglru rwkv6".split()
ALL = "deltaproduct elman gru lstm titans".split()
COUNTING = "linear_attention retnet s4d".split()  # A = I (or any constant), and B free
UNDECIDED = {
    **{name: ("flip-flop", "dyck-1 depth 3", "random aperiodic 0") for name in ("alibi", "rwkv4")},
    **{name: ("random aperiodic 0",) for name in COUNTING},
    "lssl": ("even pairs", "dyck-1 depth 3", "random aperiodic 0"),
}


def expected(name, task):
    if task in UNDECIDED.get(name, ()):
        return None
    if name in ALL:
        return True
    if task in GROUPS:
        return False
    if name in GATED:
        return True
    return task == "even pairs" and name != "short_convolution" or task.startswith("dyck") and name in COUNTING


def verdict_of(x, task, **more):
    """The verdict; where it is decided, its certificate must pass."""
    verdict = dsf.recognizes(x, task, **more)
    assert verdict.answer is None or verdict.check(), (x, task)
    return verdict


def row(x, tasks=TASKS, **more):
    return {task: verdict_of(x, task, **more).answer for task in tasks}


# ---------------------------------------------------------------------------------------------------------- the matrix
@pytest.mark.parametrize("name", some_slow([*NO, *ALL], "titans", "deltaproduct", "kda", "gru", "elman"))
def test_every_architecture_of_the_library_on_every_task(name):
    tasks = TASKS if name not in ALL else [t for t in TASKS if t not in ("A5", "S5", "S4")]
    assert row(named(name), tasks) == {task: expected(name, task) for task in tasks}


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_large_groups_by_the_expressive_ones(name):
    assert row(named(name), ("S4", "A5", "S5")) == dict.fromkeys(("S4", "A5", "S5"), True)


def test_the_shipped_architectures_are_all_in_the_matrix():
    shipped = {name for name, a in dsf.architectures().items() if a.body.__module__.startswith("dsf.zoo")}
    assert shipped == {*NO, *ALL}


# ------------------------------------------------------------------------------------------------ instances of a user
def diagonal(entries):
    return mine(lambda q=Vector, k=Vector, a=entries: System(A=diag(a), B=k, C=q))


def test_a_diagonal_that_stays_away_from_minus_one():
    a = diagonal(Vector(-0.5, 1))
    assert row(a, GROUPS) == dict.fromkeys(GROUPS, False)
    assert row(a, STAR_FREE) == dict.fromkeys(STAR_FREE, True)
    assert verdict_of(a, "parity").regimes == ("margin",)


def test_a_signed_diagonal_is_the_2_groups():
    a = diagonal(Vector(-1, 1))
    two_groups = ("parity", "D4", "Q8", "cyclic 8", *STAR_FREE)
    assert row(a, two_groups) == dict.fromkeys(two_groups, True)
    others = [task for task in GROUPS if task != "parity"]
    assert row(a, others) == dict.fromkeys(others, False)


@pytest.mark.parametrize("task, least", [("parity", 1), ("cyclic 4", 2), ("cyclic 8", 3), ("D4", 2), ("Q8", 2)])
def test_layers_that_signs_need(task, least):
    """As many as the series of squares has steps: with fewer it is a no, with so many a yes."""
    a = diagonal(Vector(-1, 1))
    assert language(task).algebra.sign_length == least
    assert verdict_of(a, task, layers=least).answer is True
    if least > 1:
        assert verdict_of(a, task, layers=least - 1).answer is False


@pytest.mark.parametrize("task, least", [("mod 3", 1), ("cyclic 12", 1), ("S3", 2), ("A4", 2), ("S4", 3), ("D5", 2)])
def test_layers_that_phases_need(task, least):
    """As many as the derived series has steps (shakerinava2026)."""
    a = mine(lambda q=Vector(Complex), k=Vector, a=Vector(UnitDisc): System(A=diag(a), B=k, C=q))
    assert language(task).algebra.derived_length == least
    assert verdict_of(a, task, layers=least).answer is True
    if least > 1:
        assert verdict_of(a, task, layers=least - 1).answer is False


def test_rotations_by_the_token_are_the_solvable_groups():
    a = mine(lambda q=Vector(Complex), k=Vector, a=Vector(CIRCLE): System(A=diag(a), B=k, C=q))
    solvable = ("parity", "mod 3", "cyclic 12", "S3", "A4", "S4")
    assert row(a, solvable) == dict.fromkeys(solvable, True)
    assert row(a, ("A5", "S5")) == {"A5": False, "S5": False}


def test_a_constant_rotation_is_no_group():
    a = mine(lambda q=Vector(Complex), k=Vector, a=Param(Vector(CIRCLE)): System(A=diag(a), B=k, C=q))
    assert row(a, (*GROUPS, "flip-flop")) == dict.fromkeys((*GROUPS, "flip-flop"), False)


@pytest.mark.slow
def test_betas():
    inside, whole = named("deltanet", beta=Scalar(0, 1.5)), named("deltanet", beta=TWO)
    assert row(inside, GROUPS) == dict.fromkeys(GROUPS, False)
    assert row(inside, STAR_FREE) == dict.fromkeys(STAR_FREE, True)
    assert row(whole) == dict.fromkeys(TASKS, True)
    one = row(whole, ("parity", "mod 3", "cyclic 12", "S3"), layers=1)
    assert one == {"parity": True, "mod 3": False, "cyclic 12": False, "S3": False}  # real eigenvalues


def test_a_product_of_two_reflections():
    two = mine(lambda q=Vector, k=Unit, h=Unit, b=TWO, c=TWO: System(
        A=(I - b * outer(k)) @ (I - c * outer(h)), B=b * k, C=q))  # fmt: skip
    groups = ("parity", "mod 3", "S3", "S4", "A5")
    found = {task: verdict_of(two, task) for task in groups}
    assert {task: v.answer for task, v in found.items()} == dict.fromkeys(groups, True)
    assert all(v.certificate.layers == 1 for v in found.values())


def test_triangular_gates():
    a = mine(lambda q=Vector, k=Vector, a=Gate, b=Gate, c=Gate: System(
        A=block([[a * I, b * I], [0, c * I]]), B=stack(k, k), C=stack(q, q)))  # fmt: skip
    assert row(a, GROUPS) == dict.fromkeys(GROUPS, False)
    assert verdict_of(a, "(abab)*").answer is False  # a group of words, not of letters
    assert verdict_of(a, "flip-flop").answer is not False


def test_blocks_of_two_and_three():
    two = mine(lambda q=Vector, r=Vector, k=Vector, a=Scalar, b=Scalar, c=Scalar, d=Scalar: System(
        A=block([[a * I, b * I], [c * I, d * I]]), B=stack(k, k), C=stack(q, r)))  # fmt: skip
    assert row(two, ("parity", "mod 3", "S3", "flip-flop")) == dict.fromkeys(
        ("parity", "mod 3", "S3", "flip-flop"), True
    )
    dense = mine(lambda q=Vector, k=Vector, M=Matrix: System(A=M, B=k, C=q))
    assert row(dense) == dict.fromkeys(TASKS, True)
    assert verdict_of(dense, "A5", layers=1).answer is True


def test_rwkv7():
    one, two = rwkv7_like(1.0), rwkv7_like(2.0)
    assert verdict_of(two, "parity").answer is True
    assert verdict_of(one, "parity").answer is not True
    assert verdict_of(one, "(abab)*").answer is not False  # products of such transitions have complex eigenvalues


def rwkv7_like(c):
    return mine(lambda r=Vector, k=Unit, v=Vector, w=Vector(0.5452, 1), a=Vector(0, 1): System(
        A=diag(w) - c * outer(k, a * k), B=v, C=r))  # fmt: skip


def test_a_constant_minus_one_before_non_negative_gates():
    signs = mine(lambda q=Vector, k=Vector, s=Param(Vector(-1, 1)): System(A=diag(s), B=k, C=q))
    for gates in (named("mamba"), named("gla"), named("gated_deltanet")):
        found = verdict_of((signs, gates), "parity")
        assert found.answer is False and found.theorem.own and "khavari2025" in found.theorem.cite
        assert dsf.recognizes((signs, gates), "length mod 2").answer is not False
        assert verdict_of((signs, gates), "flip-flop").answer is True
    assert verdict_of((signs, named("deltanet", beta=TWO)), "parity").answer is True


def test_a_no_for_a_stack_covers_every_kind_of_layer():
    assert dsf.recognizes((named("mamba"), named("deltaproduct")), "S3").answer is True
    assert dsf.recognizes([named("mamba"), named("gla")], "S3").answer is False
    with pytest.raises(ValueError, match="at least one"):
        dsf.recognizes((), "parity")


# --------------------------------------------------------------------------------------- other writings, names, sizes
def rewritten(beta, factor=1.0):
    """DeltaNet in other words and with other names; `beta` is its gate's domain."""
    return {
        "renamed": mine(lambda stripes=Vector, tail=Unit, hoof=beta: System(
            A=I - hoof * outer(tail), B=hoof * tail, C=stripes)),
        "low rank": mine(lambda q=Vector, k=Unit, b=beta: System(A=I - b * outer(k, 1.0 * k), B=b * k, C=q)),
        "a free vector": mine(lambda q=Vector, k=Vector, b=beta: System(
            A=I - b * outer(k / sqrt(inner(k, k))), B=b * k, C=q)),
        "twice a gate": mine(lambda q=Vector, k=Unit, g=Scalar(beta.set.lo / 2, beta.set.hi / 2): System(
            A=I - 2 * g * outer(k), B=2 * g * k, C=q)),
        "a sum": mine(lambda q=Vector, k=Unit, b=beta: System(A=dsf.Sum(I, -1 * (b * outer(k))), B=b * k, C=q)),
        "micro-steps": mine(lambda q=Vector, k=Each(Unit, 1), b=Each(beta, 1): microsteps(System(
            A=I - b * outer(k), B=b * k, C=q))),
        "a block": mine(lambda q=Vector, k=Unit, b=beta: System(
            A=block([[I - b * outer(k), 0], [0, I]]), B=stack(b * k, 0 * k), C=stack(q, 0 * q))),
        "with a decay of 1": mine(lambda q=Vector, k=Unit, b=beta, g=LogDecay: System(
            A=decay(0 * g) * (I - b * outer(k)), B=b * k, C=q)),
    }  # fmt: skip


BETAS = [Gate, Scalar(0, 1.5), TWO]


@pytest.mark.slow
@pytest.mark.parametrize("beta", BETAS, ids=["gate", "1.5", "2"])
def test_other_writings_never_get_the_opposite(beta):
    tasks = ("parity", "mod 3", "flip-flop", "S3", "even pairs")
    truth = row(named("deltanet", beta=beta), tasks)
    for how, a in rewritten(beta).items():
        found = row(a, tasks)
        assert all(found[t] in (truth[t], None) for t in tasks), (how, found)
        if how in ("renamed", "twice a gate", "a sum", "micro-steps"):
            assert found == truth, how


def test_dense_writings_are_never_a_no():
    dense = mine(lambda q=Vector, k=Vector, M=Matrix: System(A=M, B=k, C=q))
    assert all(answer is not False for answer in row(dense, ("parity", "S3", "flip-flop")).values())


# ----------------------------------------------------------------------------------------------- regimes and hypotheses
def test_a_verdict_states_every_regime_in_which_it_is_proved():
    gla, wide = named("gla"), named("deltanet", beta=Scalar(0, 1.5))
    assert verdict_of(gla, "parity").regimes == ("margin", "finite")
    assert verdict_of(wide, "parity").regimes == ("margin",)
    assert dsf.recognizes(wide, "parity", precision="finite").answer is None  # midpoints (docs/theorems.md)
    assert set(verdict_of(gla, "flip-flop").regimes) == {"margin", "finite", "machine", "log"}
    assert "machine" not in verdict_of(named("deltaproduct"), "mod 3").regimes  # rotations drift
    assert verdict_of(named("short_convolution"), "flip-flop", precision="machine").answer is False
    assert dsf.recognizes(gla, "parity", precision="log").answer is None


@pytest.mark.parametrize("precision", ["margin", "finite", "machine", "log"])
def test_a_decided_verdict_names_the_regime_that_was_asked(precision):
    for name, task in itertools.product(
        ("gla", "deltaproduct", "s4d", "softmax_attention"), ("parity", "flip-flop", "S3")
    ):
        found = dsf.recognizes(named(name), task, precision=precision)
        assert found.answer is None or precision in found.regimes


def test_a_transformed_drive_is_no_error():
    driven = mine(lambda a=Vector(0, 1), p=Vector, u=dsf.Drive: System(A=diag(a), B=I, C=I, u=dsf.tanh(u) + p))
    assert verdict_of(driven, "parity").answer is False and verdict_of(driven, "flip-flop").answer is not False
    assert verdict_of(driven.with_domain(a=Vector(-1, 1)), "parity").answer is True


@pytest.mark.parametrize("accepted", ["(a|b)*b", "a*", "(a|b)*"])
@pytest.mark.parametrize("name", ["gla", "softmax_attention", "short_convolution", "lstm"])
def test_what_the_last_letter_decides_needs_no_layer(name, accepted):
    found = verdict_of(named(name), accepted)
    assert found.answer is True and ("no layer" in found.layers) == (name != "lstm")


def test_bad_questions():
    with pytest.raises(ValueError, match="precision is one of"):
        dsf.recognizes(named("gla"), "parity", precision="fp32")
    for layers in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match="layers is a whole number"):
            dsf.recognizes(named("gla"), "parity", layers=layers)
    with pytest.raises(TypeError, match="an architecture"):
        dsf.recognizes("gla", "parity")
    with pytest.raises(TypeError, match="a language is"):
        dsf.recognizes(named("gla"), 3)


def test_a_monoid_over_its_cap_is_said_to_be_unknown():
    cycle = [(q + 1) % 7 for q in range(7)]
    swap, merge = [1, 0, *range(2, 7)], [0, 0, *range(2, 7)]
    table = {str(q): {"a": str(cycle[q]), "b": str(swap[q]), "c": str(merge[q])} for q in range(7)}
    huge = {"states": list(table), "alphabet": list("abc"), "transitions": table, "initial": "0", "accepting": ["0"]}
    assert dsf.recognizes(named("gla"), huge).answer is False  # the letter a counts modulo 7: no monoid is needed
    assert language(huge).algebra is None
    undecided = dsf.recognizes(named("deltaproduct"), huge)
    assert undecided.answer is not False


# -------------------------------------------------------------------------------------------------------------- fixes
def test_the_least_change_is_found_and_true():
    fix = dsf.recognizes(named("deltanet"), "parity").fix
    assert "beta" in fix and "[0, 2]" in fix
    assert "depend on the token" in dsf.recognizes(named("s4d"), "flip-flop").fix
    phases = mine(lambda q=Vector(Complex), k=Vector, a=Vector(UnitDisc): System(A=diag(a), B=k, C=q))
    assert "Householder" in dsf.recognizes(phases, "A5").fix
    assert dsf.recognizes(named("gla"), "flip-flop").fix is None
    assert json.dumps(dsf.recognizes(named("gla"), "parity").to_dict(), allow_nan=False)


# ------------------------------------------------------------------------------------------- claimed bounds, attacked
def products(a, count, length, n, seed=0):
    """Random products of transitions, a third of the signals at ends: [count, n, n]."""
    generator = torch.Generator().manual_seed(seed)
    signals, _ = a.sample(1, length, count, n, 1, generator=generator, ends=0.3)
    A = a(**signals).dense()[0].to(torch.complex128)
    P = A[0]
    for step in A[1:]:
        P = step @ P
    return P


SETTLING = {
    "non-negative diagonal": lambda: named("gla"),
    "beta to 1": lambda: named("deltanet"),
    "beta to 1.5": lambda: named("deltanet", beta=Scalar(0, 1.5)),
    "decay and beta": lambda: named("gated_deltanet"),
    "decay per channel": lambda: named("kda"),
    "three reflections": lambda: named("deltaproduct", k=Each(Unit, 3), beta=Each(Gate, 3)),
    "a diagonal in (-0.5, 1)": lambda: diagonal(Vector(-0.5, 1)),
}


def on_the_circle(a):
    """How many of 10^4 products have an eigenvalue on the unit circle that is not 1; and the largest norm of all."""
    count, longest = 0, 0.0
    for n, length in ((1, 6), (2, 1), (2, 4), (3, 6), (4, 12)):
        P = products(a, 2000, length, n)
        values = torch.linalg.eigvals(P)
        count += int(((values.abs() > 1 - 1e-6) & ((values - 1).abs() > 1e-3)).any(-1).sum())
        longest = max(longest, torch.linalg.matrix_norm(P, 2).max().item())
    return count, longest


@pytest.mark.parametrize("name", SETTLING)
def test_ten_thousand_products_settle(name):
    count, longest = on_the_circle(SETTLING[name]())
    assert count == 0 and longest <= 1 + 1e-9


LOOSENED = {
    "beta to 2": lambda: named("deltanet", beta=TWO),
    "three reflections to 2": lambda: named("deltaproduct", k=Each(Unit, 3), beta=Each(TWO, 3)),
    "a diagonal to -1": lambda: diagonal(Vector(-1, 1)),
}


@pytest.mark.parametrize("name", LOOSENED)
def test_the_same_search_finds_what_a_looser_hypothesis_allows(name):
    assert on_the_circle(LOOSENED[name]())[0] > 0


def test_two_factors_are_real_and_three_are_not():
    """grazzi2025, Proposition 1.3: with beta in [0, 1] two reflections have eigenvalues >= 0, three may be complex."""

    def most_imaginary(J):
        a = named("deltaproduct", k=Each(Unit, J), beta=Each(Gate, J))
        return max(torch.linalg.eigvals(products(a, 10_000, 1, 3, seed)).imag.abs().max().item() for seed in range(3))

    assert most_imaginary(2) < 1e-6 and most_imaginary(3) > 1e-2


def test_rwkv7_products_grow_with_c():
    """Single transitions: the least eigenvalue is above e^(-e^(-1/2)) - c; with c = 2 it passes -1."""
    for c, bound in ((1.0, -0.4548), (2.0, -1.4548)):
        a = rwkv7_like(c)
        values = torch.linalg.eigvals(products(a, 10_000, 1, 3)).real
        assert values.min() >= bound - 1e-9
    assert values.min() < -1


def test_architecture_decorator_is_the_way_in():
    @architecture("An unnamed sketch", register=False)
    def sketch(q=Vector, k=Vector, a=Vector(-1, 1)):
        return System(A=diag(a), B=k, C=q)

    assert verdict_of(sketch, "parity").answer is True
