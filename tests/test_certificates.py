"""What a verdict on parity carries: every changed entry of it is noticed, and no attack on a "no" succeeds."""

import math
from dataclasses import replace

import pytest
import torch

import dsf
from dsf import Complex, Gate, I, Positive, Prefix, Scalar, Shared, System, UnitDisc, Vector, diag, inf
from dsf.reference import scan
from dsf.sets import LeftHalfPlane, annulus, arc
from dsf_analysis import witnesses
from dsf_analysis.recognition import SpectrumCertificate
from dsf_analysis.verdicts import Verdict
from dsf_analysis.witnesses import find_parity_witness
from helpers import generator
from parity_cases import NO, TWO, answer, mine, named, ones


# --------------------------------------------------------------------------------------------------------- witnesses
def test_a_witness_says_what_it_is():
    witness = dsf.parity(named("deltanet", beta=TWO)).certificate
    assert witness.states == 2 and witness.margin > 0.5
    assert [token["beta"].item() for token in witness.signals] == [0, 2]
    a = named("deltanet", beta=TWO)
    bits = torch.randint(2, (3000,), generator=generator(5))
    assert torch.equal(witness.decide(a, bits), (bits.cumsum(0) % 2).bool())
    assert "A(0) has the eigenvalues 1, A(1) has -1" in repr(dsf.parity(a))


def test_growth_is_no_automaton():
    """A = +-1.5 separates short words with ever wider margins; the states never close."""

    @mine
    def growing(q=Vector, k=Vector, g=Gate):
        return System(A=(3 * g - 1.5) * I, B=k, C=q)

    assert answer(growing) is None


@pytest.mark.parametrize("top", [1.9, 1.99, 1.9999])
def test_a_slow_decay_is_no_automaton(top):
    """1 - beta = -0.99 alternates for a thousand tokens, and fades; its states are as many as the tokens."""
    assert find_parity_witness(named("deltanet", beta=Scalar(0, top))) is None


@pytest.mark.parametrize("far", [Scalar(2000, 3000), Scalar(-3000, -2000), Scalar(-inf, -2000), Scalar(1500, inf)])
def test_domains_far_away_are_searched_without_error(far):
    @mine
    def distant(q=Vector, k=Vector, s=far):
        return System(A=(-1 * s) * I, B=k, C=q)

    assert answer(distant) in (None, False)


@pytest.mark.parametrize("s", [UnitDisc, annulus(0.5, 1), arc(1, -1, 1), arc(1, 2, 4), LeftHalfPlane, Complex])
def test_candidates_of_the_search_lie_in_their_domains(s):
    for domain in (Scalar(s), Vector(s)):
        corners = witnesses._corners(domain, 1)
        assert len(corners) and corners.dtype == torch.complex128 and domain.contains(corners)


def test_an_output_that_is_no_number_is_no_decision(monkeypatch):
    a = named("deltanet", beta=TWO)
    verdict = dsf.parity(a)
    assert verdict.check()
    plain, calls = witnesses.scan, []

    def scan_with_nan(system, u, state=None):
        y, after = plain(system, u, state)
        calls.append(u)
        return (y * math.nan, after) if len(calls) == 3 else (y, after)  # Python's min loses a NaN that is not first

    monkeypatch.setattr(witnesses, "scan", scan_with_nan)
    assert not verdict.check()


# -------------------------------------------------------------------------------------------------- corrupted evidence
WITNESSES = {
    "deltanet": lambda: named("deltanet", beta=TWO),
    "titans": lambda: named("titans"),
    "deltaproduct": lambda: named("deltaproduct"),
    "gru": lambda: named("gru"),
    "shared q": lambda: named("deltanet", beta=TWO, q=Shared(Vector, 2)),
}


def changed(x, position):
    y = x.clone()
    y.view(-1)[position] = y.view(-1)[position] + (1 if not x.is_floating_point() else 0.5)
    return y


def corruptions(w):
    """The witness with one entry changed, for every entry of every field."""
    for token in (0, 1):
        for name, x in w.signals[token].items():
            for position in range(x.numel()):
                signals = tuple(s | {name: changed(x, position)} if t == token else s for t, s in enumerate(w.signals))
                yield f"signal {name} of token {token}", replace(w, signals=signals)
            fewer = {k: v for k, v in w.signals[token].items() if k != name}
            without = tuple(fewer if t == token else s for t, s in enumerate(w.signals))
            yield f"signal {name} of token {token} missing", replace(w, signals=without)
        for position in range(w.drive[token].numel()):
            drive = tuple(changed(u, position) if t == token else u for t, u in enumerate(w.drive))
            yield f"drive {token}", replace(w, drive=drive)
    pieces = w.state if isinstance(w.state, tuple) else (w.state,)
    for i, piece in enumerate(pieces):
        for position in range(piece.numel()):
            state = tuple(changed(p, position) if j == i else p for j, p in enumerate(pieces))
            yield "state", replace(w, state=state if isinstance(w.state, tuple) else state[0])
    for position in range(w.decoder.numel()):
        yield "decoder", replace(w, decoder=changed(w.decoder, position))
    for number in ("threshold", "margin"):
        for value in (getattr(w, number) + 1e-3, -getattr(w, number) - 1, math.nan, math.inf):
            yield number, replace(w, **{number: value})
    for states in (w.states + 1, w.states - 1, 0):
        yield "states", replace(w, states=states)
    yield "seal", replace(w, seal="")
    yield "seal", replace(w, seal=w.seal[::-1])


@pytest.mark.parametrize("name", WITNESSES)
def test_every_changed_entry_of_a_witness_is_noticed(name):
    verdict = dsf.parity(WITNESSES[name]())
    assert verdict.check()
    count = 0
    for what, corrupted in corruptions(verdict.certificate):
        assert not replace(verdict, certificate=corrupted).check(), what
        count += 1
    assert count > 20


def resealed(w, **changes):
    w = replace(w, **changes)
    return replace(w, seal=w.digest())


def test_a_forged_seal_does_not_help():
    """With the digest recomputed, the evidence itself must fail: domains, constants, states, threshold, decisions."""
    a = named("deltanet", beta=TWO)
    w = dsf.parity(a).certificate
    zero, one = w.signals
    assert resealed(w).check(a)
    far = torch.full_like(one["beta"], 2.5)
    forged = {
        "swapped tokens": {"signals": (one, zero)},
        "equal tokens": {"signals": (zero, zero)},
        "outside the domain": {"signals": (zero, one | {"beta": far})},
        "no number": {"signals": (zero, one | {"beta": torch.full_like(far, math.nan)})},
        "another shape": {"signals": (zero | {"beta": far[0]}, one)},
        "one signal more": {"signals": (zero | {"p": far}, one)},
        "a zero state": {"state": torch.zeros_like(w.state)},
        "a zero decoder": {"decoder": torch.zeros_like(w.decoder)},
        "the decoder's sign": {"decoder": -w.decoder},
        "threshold": {"threshold": w.threshold + 0.25},
        "threshold off the scale": {"threshold": w.threshold + 10},
        "threshold no number": {"threshold": math.nan},
        "margin": {"margin": 2 * w.margin},
        "margin no number": {"margin": math.nan},
        "states": {"states": 1},
        "no margin": {"decoder": w.decoder * 1e-4, "threshold": w.threshold * 1e-4, "margin": w.margin * 1e-4},
        "a drive that is written": {"drive": (w.drive[0], w.drive[1] + 1)},
    }
    for what, changes in forged.items():
        assert not resealed(w, **changes).check(a), what
    assert not w.check(named("deltanet")) and not w.check(named("gated_deltanet", beta=TWO))


def test_constants_of_a_witness_are_the_same_for_both_tokens():
    a = named("gru")
    w = dsf.parity(a).certificate
    zero, one = w.signals
    for name, x in one.items():
        if a.signals[name].const:
            assert not resealed(w, signals=(zero, one | {name: x + 1})).check(a)


@pytest.mark.parametrize("name", ["deltanet", "gated_deltanet", "linear_attention", "mamba"])
def test_every_changed_bound_of_a_spectrum_is_noticed(name):
    verdict = dsf.parity(named(name))
    parts = verdict.certificate.parts
    for i, (lo, hi) in enumerate(parts):
        moved = ((lo + 1e-6, hi), (lo, hi + 1e-6), (lo, hi - 1e-6), (-1.0, hi))
        for new in (*moved, (lo, math.inf), (math.nan, hi), (hi, lo - 1)):
            wrong = tuple(new if j == i else part for j, part in enumerate(parts))
            assert not replace(verdict, certificate=SpectrumCertificate(wrong)).check(), new
    for wrong in ((), (*parts, (5.0, 6.0)), parts[:-1]):
        assert not replace(verdict, certificate=SpectrumCertificate(wrong)).check()


def test_a_spectrum_of_numbers_is_noticed_too():
    verdict = dsf.parity(System(A=0.5 * I, B=ones(), C=ones()))
    for wrong in (((0.0, 0.5),), ((0.5, 0.6),), ((0.25, 0.25),)):
        assert not replace(verdict, certificate=SpectrumCertificate(wrong)).check()


@pytest.mark.parametrize("name", ["s4d", "lssl"])
def test_every_changed_field_of_a_constant_is_noticed(name):
    verdict = dsf.parity(named(name))
    good = verdict.certificate
    for wrong in ((), ("[0, 1]",), (*good.parts, "C")):
        assert not replace(verdict, certificate=replace(good, parts=wrong)).check()
    for wrong in ("token", "", "state"):
        assert not replace(verdict, certificate=replace(good, dependence=wrong)).check()


def test_evidence_for_one_thing_is_no_evidence_for_another():
    delta, wide, soft, s4d = named("deltanet"), named("deltanet", beta=TWO), named("softmax_attention"), named("s4d")
    spectrum, witness, fixed = (dsf.parity(a).certificate for a in (delta, wide, s4d))
    assert not spectrum.check(wide) and not witness.check(delta) and not fixed.check(delta) and not fixed.check(wide)
    one = dsf.parity(named("linear_attention")).certificate
    assert one.check(named("linear_attention")) and not one.check(soft)  # A = I in both: the state is what differs
    assert not one.check(named("linear_attention", k=Prefix(Vector)))
    assert not fixed.check(named("s4d", lam=Vector(LeftHalfPlane), dt=Positive))
    verdict = dsf.parity(delta)
    assert not replace(verdict, answer=True).check() and not replace(dsf.parity(wide), answer=False).check()
    assert isinstance(verdict, Verdict)


# ------------------------------------------------------------------------------------------------- attacks on the "no"
def parities_told_apart(a, heads, seed, n):
    """How many random pairs of tokens have an output that separates odd from even prefixes of a random word."""
    draw = generator(seed)
    groups = {k: replace(d, groups=0) for k, d in a.signals.items()}
    alone = replace(a, signals=groups)
    signals, u = alone.sample(1, 2, heads, n, 1, generator=draw, ends=0.4)
    bits = torch.randint(2, (72,), generator=draw)
    words = {k: x if alone.signals[k].const else x[:, bits] for k, x in signals.items()}
    system, u = alone(**words), torch.zeros_like(u[:, bits]) if seed % 2 else u[:, bits]
    state = torch.ones_like(scan(system.slice(0, 1), u[:, :1])[1])
    y = scan(system, u, state)[0][0, 24:].flatten(1)
    y, odd = y.real if y.is_complex() else y, (bits.cumsum(0)[24:] % 2).bool()
    found = torch.zeros(y.shape[1], dtype=torch.bool)
    for sign in (1, -1):
        gap = (sign * y[odd]).min(0).values - (sign * y[~odd]).max(0).values
        found |= gap > 1e-3 * y.abs().max(0).values.clamp(min=1.0)
    return int(found.sum())


def attack(rounds):
    for name in NO:
        a = named(name)
        for seed in range(rounds):
            for n in (1, 2, 3):
                assert parities_told_apart(a, 1000, seed, n) == 0, f"{name}, seed {seed}, n = {n}"
            assert find_parity_witness(a, seed) is None, f"{name}, seed {seed}"


def test_random_attacks_on_every_no():
    attack(rounds=2)


@pytest.mark.slow
def test_many_random_attacks_on_every_no():
    attack(rounds=20)


def test_the_attacks_succeed_where_the_answer_is_yes():
    @mine
    def signed(q=Vector, k=Vector, g=Vector(-1, 1)):
        return System(A=diag(g), B=k, C=q)

    for a in (named("deltanet", beta=TWO), named("gated_deltanet", beta=TWO), signed):
        assert sum(parities_told_apart(a, 1000, seed, 1) for seed in range(4)) > 0
        assert all(find_parity_witness(a, seed) for seed in range(2))
