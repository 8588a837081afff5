"""What must not change a verdict: names, the order of signals, other writings of a model, the sizes of samples."""

import inspect
from dataclasses import replace
from types import MappingProxyType

import pytest
import torch

import dsf
from dsf import (
    Complex,
    Dense,
    Gate,
    I,
    LogDecay,
    Param,
    Scalar,
    System,
    Unit,
    UnitDisc,
    Vector,
    block,
    decay,
    diag,
    inner,
    outer,
    sqrt,
    stack,
)
from dsf_analysis import refutations
from dsf_analysis.spectra import NotInvariant
from dsf_analysis.witnesses import matrix_skills, skills
from parity_cases import NO, TWO, YES, mine, named

FEW = ("parity", "mod 3", "flip-flop", "even pairs")
MANY = (*FEW, "cyclic 12", "dyck-1 depth 3", "S3", "A4", "S4", "A5", "S5", "random aperiodic 0")


def matrix(x, tasks=FEW):
    """The answers: none is given before its certificate passed its check."""
    return {task: dsf.recognizes(x, task).answer for task in tasks}


_TRUTH = {}


def truth(name, tasks=FEW, **domains):
    key = (name, tasks, tuple(domains))
    if key not in _TRUTH:
        _TRUTH[key] = matrix(named(name, **domains), tasks)
    return _TRUTH[key]


# --------------------------------------------------------------------------------------------------------------- names
def renamed(a, backwards):
    """The same body under names that mean nothing: of the architecture, and of all its parameters."""
    parameters = [*a.signals, *a.reserved_names]
    fresh = {f"z{i}_": old for i, old in enumerate(reversed(parameters) if backwards else parameters)}
    of_old = {old: new for new, old in fresh.items()}

    def nothing(**values):
        return a.body(**{fresh[k]: v for k, v in values.items()})

    nothing.__signature__ = inspect.Signature([inspect.Parameter(k, inspect.Parameter.KEYWORD_ONLY) for k in fresh])
    signals = {new: a.signals[old] for new, old in fresh.items() if old in a.signals}
    reserved = {of_old[old]: kind for old, kind in a.reserved_names.items()}
    return replace(
        a, title="Nothing", body=nothing, signals=MappingProxyType(signals), reserved_names=MappingProxyType(reserved)
    )


def test_renaming_keeps_nothing_but_the_equations():
    a = renamed(named("gru"), True)
    assert a.name == "nothing" and set(a.signals) == {f"z{i}_" for i in range(2, 8)} and a.feedback
    b = named("deltanet")
    signals, u = b.sample(1, 5, 2, 3, 2)
    other = renamed(b, False)
    y, _ = dsf.simulate(other(**dict(zip(other.signals, signals.values(), strict=True))), u)
    assert torch.equal(y, dsf.simulate(b(**signals), u)[0])


@pytest.mark.parametrize("name", NO)
def test_names_and_order_of_signals_do_not_matter(name):
    assert matrix(renamed(named(name), True)) == truth(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*NO, *YES])
def test_names_and_order_of_signals_do_not_matter_for_any_task(name):
    assert matrix(renamed(named(name), False), MANY) == truth(name, MANY)


# ------------------------------------------------------------------------------------------- other writings of a System
WRITINGS = {  # what may be done to the System of any body without a change of what it computes
    "A times I": lambda s: replace(s, A=s.A @ I),
    "I times A": lambda s: replace(s, A=I @ s.A),
    "A plus 0": lambda s: replace(s, A=dsf.Sum(s.A, 0 * I)),
    "1 times A": lambda s: replace(s, A=1.0 * s.A),
    "half of A, twice": lambda s: replace(s, A=dsf.Sum(0.5 * s.A, 0.5 * s.A)),
}
LOSSY = ("A plus 0", "half of A, twice")  # a sum may hide what its terms are


def never_opposite(found, expected):
    return all(answer in (expected[task], None) for task, answer in found.items())


def rewritten(a, how):
    """Infinite features are refused where A is not literally a multiple of I or a shift: then None."""
    other = replace(a, wrappers=(*a.wrappers, WRITINGS[how]))
    try:
        other.bounds()
        dsf.spectrum(other)
    except NotInvariant:
        return other
    except ValueError:
        return None
    return other


def check_writings(name, how, tasks):
    other = rewritten(named(name), how)
    if other is None:
        assert name in ("alibi", "softmax_attention") and how in LOSSY
        return
    found, expected = matrix(other, tasks), truth(name, tasks)
    assert never_opposite(found, expected) and (how in LOSSY or found == expected)


@pytest.mark.parametrize("how", WRITINGS)
@pytest.mark.parametrize("name", ["deltanet", "s4d", "short_convolution"])
def test_other_writings_of_the_transition(name, how):
    check_writings(name, how, FEW)


@pytest.mark.slow
@pytest.mark.parametrize("how", WRITINGS)
@pytest.mark.parametrize("name", [*NO, *YES])
def test_other_writings_of_any_transition_for_more_tasks(name, how):
    check_writings(name, how, (*FEW, "S3", "dyck-1 depth 3"))


# ------------------------------------------------------------------------------------------- other writings of a body
def bodies():
    """(name in the library, its domains, another body that can do the same, must the answers be the same?)."""

    def row(name, body, same=True, **domains):
        return name, domains, mine(body), same

    def solved(q=Vector, k=Vector, beta=Gate):
        unit = k / sqrt(inner(k, k))
        return System(A=I - beta * outer(unit), B=beta * unit, C=q)

    def in_the_disc(b=Param(Vector(Complex)), c=Param(Vector(Complex)), a=Param(Vector(UnitDisc)), d=Param(Scalar)):
        return System(A=diag(a), B=b, C=dsf.RealPart(2 * c), D=d)

    def turned(q=Vector, k=Unit, alpha=Gate, eta=Gate, theta=Gate):
        descent = 2 * theta * outer(k)
        A = block([[eta * I, -descent], [eta * I, (1 - alpha) * I - descent]])
        return System(A=A, B=stack(2 * theta * k, 2 * theta * k), C=stack(0 * q, q))

    def leaky(z=Vector, r=Vector, u=dsf.Drive, y=dsf.Previous, Rz=Param(dsf.Matrix), Rr=Param(dsf.Matrix),
              Ru=Param(dsf.Matrix), bias=Param(Vector)):  # fmt: skip
        z, r = dsf.sigmoid(z + Rz @ y), dsf.sigmoid(r + Rr @ y)
        return System(A=diag(1 - z), B=diag(z), C=I, u=dsf.tanh(u + r * (Ru @ y + bias)))

    return [
        row("deltanet", solved, False),
        row("deltanet", lambda q=Vector, k=Unit, h=Gate: System(A=I - outer(h * k, k), B=h * k, C=q), False),
        row("deltanet", lambda q=Vector, k=Unit, g=Gate: System(
            A=I - 2 * g * outer(k), B=2 * g * k, C=q), beta=TWO),
        row("gated_deltanet", lambda q=Vector, k=Unit, b=Gate, a=Gate: System(
            A=(I - b * outer(k)) @ (a * I), B=b * k, C=q)),
        row("gated_deltanet", lambda q=Vector, k=Unit, b=Gate, a=Gate: System(
            A=a * I - a * b * outer(k), B=b * k, C=q), False),
        row("gla", lambda q=Vector, k=Vector, a=Vector(0, 1): System(A=diag(a), B=k, C=q)),
        row("gla", lambda q=Vector, k=Vector, a=Vector: System(A=diag(dsf.sigmoid(a)), B=k, C=q)),
        row("gla", lambda q=Vector, k=Vector, a=Vector(0, 1): System(A=I - diag(a), B=k, C=q)),
        row("kda", lambda q=Vector, k=Unit, b=Gate, a=Vector(0, 1): System(
            A=diag(a) - outer(b * k, a * k), B=b * k, C=q), False),
        row("linear_attention", lambda q=Vector, k=Vector, g=LogDecay: System(A=decay(0 * g) * I, B=k, C=q), False),
        row("mamba2", lambda q=Vector, k=Vector, a=Gate, b=Scalar, d=Param(Scalar): System(
            A=diag(a * (0 * k + 1)), B=b * k, C=q, D=d)),
        row("retnet", lambda q=Vector, k=Vector, a=Param(Gate): System(A=a * I, B=k, C=q)),
        row("retnet", lambda q=Vector, k=Vector, a=Param(Scalar(-1, 0)): System(A=I + a * I, B=k, C=q)),
        row("s4d", in_the_disc),
        row("short_convolution", lambda w=Param(Vector), b=Param(Vector): System(A=dsf.Shift(), B=b, C=w)),
        row("softmax_attention", lambda r=Vector, z=Vector: dsf.normalised(System(
            A=1.0 * I, B=dsf.features.exp(z), C=dsf.features.exp(r)))),
        row("titans", turned),
        row("gru", leaky),
    ]  # fmt: skip


SLOW = ("titans", "gru", "kda")


@pytest.mark.parametrize(
    "number",
    [pytest.param(i, marks=[pytest.mark.slow] * (name in SLOW)) for i, (name, *_) in enumerate(bodies())],
)
def test_other_bodies_get_the_same_or_none(number):
    name, domains, other, same = bodies()[number]
    found, expected = matrix(other), truth(name, **domains)
    assert found == expected if same else never_opposite(found, expected)


def test_a_dense_matrix_of_the_same_entries_is_never_a_no():
    """A free matrix holds every transition, and more; a constant one is no group, as every constant transition."""
    free = mine(lambda q=Vector, k=Vector, M=dsf.Matrix: System(A=M, B=k, C=q))
    assert False not in matrix(free).values()
    assert matrix(free.with_domain(M=Param(dsf.Matrix)), ("parity", "flip-flop")) == truth(
        "s4d", ("parity", "flip-flop")
    )
    numbers = torch.tensor([[0.5, 0.25], [0.0, -0.5]], dtype=torch.float64)[None, None, None]
    for A in (Dense(numbers), block([[0.5 * I, 0.25 * I], [0 * I, -0.5 * I]])):
        one = torch.ones(1, 1, 1, A.dense().shape[-1] if isinstance(A, Dense) else 2, dtype=torch.float64)
        assert dsf.recognizes(System(A=A, B=one, C=one), "parity").answer is False


# ----------------------------------------------------------------------------------------------------- sizes of samples
SIZES = {
    "samples of a refutation": lambda patch: patch.setattr(refutations, "SIZES", (2, 5)),
    "one size": lambda patch: patch.setattr(refutations, "SIZES", (4,)),
    "the size of a template": lambda patch: patch.setattr(matrix_skills, "SIZE", 4),
    "the size of candidates": lambda patch: patch.setattr(
        skills, "draw", lambda a, n, *more: matrix_skills.draw(a, 2, *more)
    ),
}


@pytest.mark.parametrize("how", SIZES)
@pytest.mark.parametrize("name", ["deltanet", "gla", pytest.param("deltaproduct", marks=pytest.mark.slow)])
def test_sizes_do_not_matter(name, how, monkeypatch):
    expected = truth(name)
    SIZES[how](monkeypatch)
    assert matrix(replace(named(name))) == expected  # a new object: nothing is remembered of it
