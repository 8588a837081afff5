"""Verdict.fix: what it says would turn a "no" into a "yes" is decided again here, from its words alone."""

import re

import pytest

import dsf
from dsf import Complex, Each, Gate, I, Matrix, Param, System, Unit, UnitDisc, Vector, diag, microsteps, outer
from long_cases import some_slow
from parity_cases import TWO, mine, named


def diagonal(entries, ends=Vector):
    return mine(lambda q=ends, k=ends, a=entries: System(A=diag(a), B=k, C=q))


OURS = {
    "signs": lambda: diagonal(Vector(-1, 1)),
    "constant signs": lambda: diagonal(Param(Vector(-1, 1))),
    "constant gates": lambda: diagonal(Param(Vector(0, 1))),
    "phases": lambda: diagonal(Vector(UnitDisc), Vector(Complex)),
    "a shared gate": lambda: mine(lambda q=Vector, k=Vector, a=Gate: System(A=a * I, B=k, C=q)),
    "beta to 2": lambda: named("deltanet", beta=TWO),
    "two kinds": lambda: (diagonal(Param(Vector(-1, 1))), named("deltanet")),
}
STRUCTURES = {
    "diag(a) with a in [0, 1]": lambda: diagonal(Vector(0, 1)),
    "diag(a) with a in [-1, 1]": lambda: diagonal(Vector(-1, 1)),
    "diag(a) with complex |a| <= 1": lambda: diagonal(Vector(UnitDisc), Vector(Complex)),
    "a Householder factor I - beta k k^T with |k| = 1 and beta in [0, 2]": OURS["beta to 2"],
    "two Householder factors I - beta k k^T with |k| = 1 and beta in [0, 2]": lambda: mine(
        lambda q=Vector, k=Each(Unit), b=Each(TWO): microsteps(System(A=I - b * outer(k), B=b * k, C=q))
    ),
    "a dense matrix": lambda: mine(lambda q=Vector, k=Vector, M=Matrix: System(A=M, B=k, C=q)),
}


def subject(name):
    return OURS[name]() if name in OURS else named(name)


def meant(x, fix):
    """The model that a sentence speaks of."""
    if fix.startswith("more layers: "):
        return x
    structure = re.fullmatch(r"another kind of transition, (.*), by the token: a yes with .*", fix)
    if structure:
        return STRUCTURES[structure[1]]()
    signal, whose, code = re.fullmatch(
        r"let (\w+)(?: of (.*?))? (?:depend|reach) .*: with_domain\((.*)\) gives a yes with .*", fix
    ).groups()
    domains = eval(f"dict({code})", vars(dsf).copy())  # as a reader would paste it
    assert signal in domains
    if isinstance(x, tuple):
        return tuple(a.with_domain(**domains) if a.title == whose else a for a in x)
    return x.with_domain(**domains)


NAMES = "gla deltanet retnet softmax_attention alibi short_convolution s4d mamba rwkv4".split()


LONG = ("s4d", "deltanet", "gla", "rwkv4", "mamba", "alibi", "retnet", "short_convolution", "two kinds", "phases")
LONG += ("constant gates", "constant signs", "a shared gate", "signs", "softmax_attention")


@pytest.mark.parametrize("name", some_slow([*NAMES, *OURS], *LONG))
def test_what_is_said_is_a_yes(name):
    x = subject(name)
    for task, layers in (("parity", None), ("mod 3", None), ("flip-flop", None), ("S3", 1), ("A5", 2)):
        verdict = dsf.recognizes(x, task, layers=layers)
        if verdict.answer is not False:
            assert verdict.fix is None
            continue
        number, heads = re.search(r"a yes with (\d+) layers? of up to (\d+) heads?$", verdict.fix).groups()
        again = dsf.recognizes(meant(x, verdict.fix), task, layers=int(number))
        assert again.answer is True and again.check(), (task, verdict.fix)
        assert again.layers.startswith(number) and f"to {heads} head" in again.layers


@pytest.mark.parametrize(
    "name, task, layers, says",
    [
        ("deltanet", "parity", None, "let beta reach [0, 2]: with_domain(beta=Scalar(0, 2))"),
        ("beta to 2", "S3", 1, "more layers: a yes with 3 layers"),
        ("signs", "mod 3", None, "let a reach UnitDisc: with_domain(a=Vector(UnitDisc), q=Vector(Complex), k="),
        ("gla", "mod 3", None, "another kind of transition, diag(a) with complex |a| <= 1"),
        ("gla", "S3", 1, "another kind of transition, two Householder factors"),
        ("phases", "A5", None, "another kind of transition, a Householder factor"),
        ("retnet", "flip-flop", None, "let log_gamma depend on the token: with_domain(log_gamma=Scalar(-inf, 0))"),
        ("retnet", "parity", None, "another kind of transition, diag(a) with a in [-1, 1]"),
        ("s4d", "flip-flop", None, "let dt depend on the token"),
        ("s4d", "A5", None, "another kind of transition, a Householder factor"),
        ("softmax_attention", "parity", None, "another kind of transition, diag(a) with a in [-1, 1]"),
        ("short_convolution", "flip-flop", None, "another kind of transition, diag(a) with a in [0, 1]"),
        ("constant gates", "flip-flop", None, "let a depend on the token: with_domain(a=Vector(0, 1))"),
        ("constant gates", "parity", None, "let a depend on the token and reach [-1, 1]"),
        ("two kinds", "parity", None, "let beta of "),
    ],
)
def test_the_least_change_comes_first(name, task, layers, says):
    assert dsf.recognizes(subject(name), task, layers=layers).fix.startswith(says)


def test_domains_are_written_as_they_are():
    uneven = mine(
        lambda q=Vector, k=dsf.Shared(Vector), a=dsf.Shared(Vector(0.123456789, 1)): System(A=diag(a), B=k, C=q)
    )
    assert "with_domain(a=Shared(Vector(-1, 1), 1))" in dsf.recognizes(uneven, "parity").fix
    slow = diagonal(Param(Vector(-0.123456789, 1)))
    assert "with_domain(a=Vector(-0.123456789, 1))" in dsf.recognizes(slow, "flip-flop").fix


def test_a_body_that_takes_no_complex_numbers_is_skipped():
    gate = mine(lambda q=Vector, k=Vector, a=Vector(0, 1): System(A=diag(dsf.relu(a)), B=k, C=q))
    assert "diag(a) with a in [-1, 1]" in dsf.recognizes(gate, "parity").fix


def test_none_where_nothing_is_decided(monkeypatch):
    from dsf_analysis import fixes

    monkeypatch.setattr(fixes, "_structures", dict)
    assert dsf.recognizes(named("gla"), "parity").fix is None
    assert "to change" not in repr(dsf.recognizes(named("gla"), "parity"))
