"""What a model can compute at every length: parity, by an ordered table of theorems about structure and domains."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch

from dsf import Architecture, Interval, System
from dsf.enclosures import enclose

from .rules import RuleTable
from .spectra import INVARIANT, Spectrum, merged, spectrum
from .subjects import dependence_of, has_infinite_state, heads_for, subject_of, transition
from .verdicts import Theorem, Verdict
from .witnesses import ParityWitness, find_parity_witness

GRAZZI_1 = Theorem(
    "grazzi2025, Theorem 1",
    "a linear RNN x_t = A(u_t) x_{t-1} + B(u_t) with any number of layers and any decoder recognises parity at every "
    "length in finite precision only if some A(u) has an eigenvalue that is not real and >= 0",
)
TIME_INVARIANT = Theorem(
    "sarrof2024 and khavari2025 for diagonal A",
    "layers whose A is the same for every token do not recognise parity, whatever its eigenvalues",
    own=True,
)
AUTOMATON = Theorem(
    "grazzi2025, Theorem 3 (m = 2)",
    "a layer with a state that token 0 keeps, and on which token 1 exchanges two sets of states, computes parity",
)
SATURATED = Theorem(
    "merrill2020 (saturated networks)",
    "a recurrent cell whose saturated gates realise the two-state automaton computes parity",
)
CLOSED = "closed: the ends of every set are reached (floats saturate: sigmoid(17) is 1.0 in float32)"


@dataclass
class Facts:
    """What the rules look at: structure, domains, dependence. Never a name."""

    subject: Architecture | System
    member: bool = False  # was the question about a system of the architecture's family?

    @cached_property
    def bounds(self) -> System:
        return self.subject.bounds() if isinstance(self.subject, Architecture) else self.subject

    @cached_property
    def infinite(self) -> bool:
        return has_infinite_state(self.bounds)

    @cached_property
    def feedback(self) -> bool:
        return isinstance(self.subject, Architecture) and self.subject.feedback

    @cached_property
    def dependence(self) -> dict[str, str]:
        return dependence_of(self.subject)

    @cached_property
    def spectrum(self) -> Spectrum:
        return spectrum(self.subject)

    @cached_property
    def witness(self) -> ParityWitness | None:
        return find_parity_witness(self.subject) if isinstance(self.subject, Architecture) else None

    @property
    def title(self) -> str:
        return self.subject.title if isinstance(self.subject, Architecture) else "this system"

    def verdict(self, answer: bool | None, because: str, theorem: Theorem | None = None, **more: Any) -> Verdict:
        hypotheses = {"state": "infinite" if self.infinite else "finite", "domains": CLOSED}
        hypotheses["dependence"] = ", ".join(f"{name} {of}" for name, of in self.dependence.items())
        if self.member:
            hypotheses["family"] = "a no holds for this member too; a yes holds for some weights, not for these"
        hypotheses |= more.pop("hypotheses", {})
        question = f"Does {self.title} compute parity at every length?"
        return Verdict(question, answer, theorem, hypotheses, because, subject=self.subject, **more)


PARITY = RuleTable("parity", [])


@PARITY.rule("infinite state", "the features are infinite (the state is the past itself)", "undecided")
def _(f: Facts) -> Verdict | None:
    if f.infinite:
        return f.verdict(None, "its state is not finite, and the theorems here speak of finite states")


@PARITY.rule("feedback", "operators read y_{t-1}, and a witness was found and run", "yes", SATURATED)
def _(f: Facts) -> Verdict | None:
    if f.feedback and f.witness:
        because = "saturated gates make its cell the two-state automaton; the witness is run"
        return _yes(f, f.witness, SATURATED, because)


@PARITY.rule("past-dependent", "an operator, the drive or the readout depends on more than the token", "undecided")
def _(f: Facts) -> Verdict | None:
    past = {name: of for name, of in f.dependence.items() if of not in INVARIANT}
    if f.feedback:
        return f.verdict(None, "it feeds back, and the search at small sizes found no witness, which proves nothing")
    if past:
        what = ", ".join(f"{name}: {of}" for name, of in past.items())
        return f.verdict(None, f"its operators depend on more than the present token ({what})")


@PARITY.rule("real spectrum >= 0", "every eigenvalue of every A_t is proved real and >= 0", "no", GRAZZI_1)
def _(f: Facts) -> Verdict | None:
    if f.spectrum.nonnegative:
        where = " u ".join(map(repr, f.spectrum.parts))
        certificate = SpectrumCertificate(tuple((p.lo, p.hi) for p in f.spectrum.parts))  # type: ignore[union-attr]
        how = {"spectrum": f"{where} by: {'; '.join(f.spectrum.how)}"}
        because = f"every eigenvalue of A_t lies in {where}, so on a constant input every layer converges or saturates"
        if not certificate.check(f.subject):
            return f.verdict(None, "sampled eigenvalues leave the set that its bounds claim: its body claims too much")
        regimes = ("margin", "finite")
        return f.verdict(False, because, GRAZZI_1, regimes=regimes, certificate=certificate, hypotheses=how)


@PARITY.rule("time-invariant", "A is a constant, whatever its eigenvalues", "no", TIME_INVARIANT)
def _(f: Facts) -> Verdict | None:
    if f.dependence["A"] == "const":
        because = "A is the same for every token, so a bit flipped far back moves the state as no later token steers"
        proved = f.spectrum.real and f.spectrum.radius in Interval(0, 1)  # angles 0 and pi, and no growth
        regimes = ("margin", "finite") if proved else ("margin",)
        certificate = ConstantCertificate("const", tuple(map(repr, f.spectrum.parts)))
        how = {"spectrum": " u ".join(map(repr, f.spectrum.parts)), "state": "finite; bounded states under 'margin'"}
        return f.verdict(False, because, TIME_INVARIANT, regimes=regimes, certificate=certificate, hypotheses=how)


@PARITY.rule("-1 by a token", "-1 may be an eigenvalue, and a witness by the token was found and run", "yes", AUTOMATON)
def _(f: Facts) -> Verdict | None:
    if -1 in f.spectrum and f.witness:
        return _yes(f, f.witness, AUTOMATON, "token 1 flips a state that token 0 keeps; the witness is run")


@PARITY.rule("otherwise", "no rule above matched", "undecided")
def _(f: Facts) -> Verdict | None:
    reach = "-1 is out of reach, an eigenvalue that is not real and >= 0 is not: neither side has a theorem here"
    if -1 in f.spectrum:
        reach = "-1 lies in the set that holds the eigenvalues, but the search at n = 1 found no witness"
    return f.verdict(None, reach, hypotheses={"spectrum": " u ".join(map(repr, f.spectrum.parts))})


def _yes(f: Facts, witness: ParityWitness, theorem: Theorem, because: str) -> Verdict:
    how = {
        "initial": "x_0 as in the witness: learned, or set by a token at the beginning",
        "witness": f"{witness.states} states under all words, margin {witness.margin:.3g}, by exhaustion in float64",
    }
    if not f.feedback:
        how["the -1"] = _where_from(f.subject, witness)
    regimes = ("margin", "finite", "machine")
    return f.verdict(True, because, theorem, regimes=regimes, layers="one layer", certificate=witness, hypotheses=how)


def _where_from(architecture: Any, w: ParityWitness) -> str:
    def eig(token: int) -> str:
        A = transition(architecture, w.signals[token], w.drive[token])
        values = torch.linalg.eigvals(A.to(torch.complex128)).reshape(-1, A.shape[-1])[0]
        return ", ".join(f"{z.real:.4g}{f'{z.imag:+.4g}i' if abs(z.imag) > 1e-12 else ''}" for z in values.tolist())

    return f"of the token: A(0) has the eigenvalues {eig(0)}, A(1) has {eig(1)}"


def parity(x: Any) -> Verdict:
    """Can x compute the parity of a word of bits, at every length?

    x: an architecture (all inputs), a system or a converted layer (the family of its architecture, after a check that
    its signals lie in the domains; a bare time-invariant System is judged as it is). Rules: `print(PARITY)`.
    Raises ValueError where signals lie outside their domains or the system was edited, TypeError for anything else.

    >>> import dsf
    >>> verdict = dsf.parity(dsf.architecture_named("deltanet"))
    >>> verdict.answer, verdict.check()
    (False, True)
    >>> dsf.parity(dsf.architecture_named("deltanet").with_domain(beta=dsf.Scalar(0, 2))).answer
    True
    """
    subject = subject_of(x)
    return PARITY.decide(Facts(subject, member=subject is not x))


# -------------------------------------------------------------------------------------------------------- certificates


@dataclass(frozen=True)
class SpectrumCertificate:
    """Intervals of real numbers >= 0 that hold every eigenvalue of every A_t."""

    proves: ClassVar[bool] = False
    parts: tuple[tuple[float, float], ...]

    def check(self, subject: Architecture | System) -> bool:
        """Claims >= 0; bounds and dependence recomputed; dense eigenvalues of sampled A_t (ends too) lie inside."""
        if not self.parts or not all(0 <= lo <= hi for lo, hi in self.parts) or not _speaks_of(subject):
            return False
        if isinstance(subject, System):
            recomputed, sampled = spectrum(subject).parts, [subject.dense()]
        else:
            recomputed, sampled = merged(list(enclose(subject.bounds().A).parts)), _sampled(subject)
        claims = tuple((p.lo, p.hi) if isinstance(p, Interval) else None for p in recomputed)
        return claims == self.parts and all(map(self._holds, sampled))

    def _holds(self, A: torch.Tensor) -> bool:
        A = A.to(torch.complex128).reshape(-1, *A.shape[-2:])
        A = A[A.isfinite().all(-1).all(-1)]
        values = torch.linalg.eigvals(A)
        slack = 1e-5 * torch.linalg.matrix_norm(A).clamp(min=1)[:, None]  # defective 3 x 3 matrices: eps^(1/3)
        inside = torch.zeros_like(values, dtype=torch.bool)
        for lo, hi in self.parts:
            inside |= (values.real >= lo - slack) & (values.real <= hi + slack) & (values.imag.abs() <= slack)
        return bool(inside.all())


@dataclass(frozen=True)
class ConstantCertificate:
    """A does not change with the tokens; the set of its eigenvalues, for the reader."""

    proves: ClassVar[bool] = False
    dependence: str
    parts: tuple[str, ...]

    def check(self, subject: Architecture | System) -> bool:
        """Dependence and set recomputed; and other tokens with the same constants leave A as it is."""
        facts = Facts(subject)
        if self.dependence != "const" or facts.dependence["A"] != "const" or not _speaks_of(subject):
            return False
        if self.parts != tuple(map(repr, facts.spectrum.parts)):
            return False
        if isinstance(subject, System):
            return subject.length == 1
        generator, heads = torch.Generator().manual_seed(0), heads_for(subject)
        (one, u), (two, v) = (subject.sample(2, 8, heads, 3, generator=generator, ends=0.2) for _ in range(2))
        mixed = {k: one[k] if d.const else two[k] for k, d in subject.signals.items()}
        return torch.equal(*torch.broadcast_tensors(transition(subject, one, u), transition(subject, mixed, v)))


def _speaks_of(subject: Architecture | System) -> bool:
    """The hypotheses of both theorems: a finite state, no feedback, operators of the present token or constant."""
    facts = Facts(subject)
    return not (facts.infinite or facts.feedback) and all(of in INVARIANT for of in facts.dependence.values())


def _sampled(a: Architecture) -> Iterator[torch.Tensor]:
    """A_t of random signals, the ends of their domains among them, at small sizes."""
    generator, heads = torch.Generator().manual_seed(0), heads_for(a)
    for n in (1, 2, 3):
        signals, u = a.sample(8, 16, heads, n, 1, generator=generator, ends=0.3)
        yield transition(a, signals, u)
