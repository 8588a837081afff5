"""What a model can compute at every length: parity, by an ordered table of theorems about structure and domains."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from dsf import Architecture, Feedback, System
from dsf.enclosures import enclose
from dsf.features import Features

from .rules import RuleTable
from .spectra import INVARIANT, Spectrum, merged, spectrum
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
    "a layer with a state on which token 0 acts as the identity and token 1 exchanges two sets of states computes parity",
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

    @cached_property
    def bounds(self) -> System:
        return self.subject.bounds() if isinstance(self.subject, Architecture) else self.subject

    @cached_property
    def infinite(self) -> bool:
        return isinstance(self.bounds.B, Features)

    @cached_property
    def feedback(self) -> bool:
        return isinstance(self.subject, Architecture) and self.subject.feedback

    @cached_property
    def dependence(self) -> dict[str, str]:
        return self.bounds.dependence()

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
        return _yes(f, f.witness, SATURATED, "saturated gates make its cell the two-state automaton; the witness is run")


@PARITY.rule("past-dependent", "A, B, C or D is a function of a window, a prefix or the state, or unknown", "undecided")
def _(f: Facts) -> Verdict | None:
    past = {name: of for name, of in f.dependence.items() if of not in INVARIANT}
    if f.feedback:
        return f.verdict(None, "it feeds back, and the search at small sizes found no witness, which proves nothing")
    if past:
        what = ", ".join(f"{name}: {of}" for name, of in past.items())
        return f.verdict(None, f"its operators depend on more than the present token ({what}), and the theorems need that")


@PARITY.rule("real spectrum >= 0", "every eigenvalue of every A_t is proved real and >= 0", "no", GRAZZI_1)
def _(f: Facts) -> Verdict | None:
    if f.spectrum.nonnegative:
        where = " u ".join(map(repr, f.spectrum.parts))
        certificate = SpectrumCertificate(tuple((p.lo, p.hi) for p in f.spectrum.parts))  # type: ignore[union-attr]
        how = {"spectrum": f"{where} by: {'; '.join(f.spectrum.how)}"}
        because = f"every eigenvalue of A_t lies in {where}, so on a constant input every layer converges or saturates"
        regimes = ("margin", "finite")
        return f.verdict(False, because, GRAZZI_1, regimes=regimes, certificate=certificate, hypotheses=how)


@PARITY.rule("time-invariant", "A is a constant, whatever its eigenvalues", "no", TIME_INVARIANT)
def _(f: Facts) -> Verdict | None:
    if f.dependence["A"] == "const":
        because = "A is the same for every token, so flipping one bit far back moves the state along a path that no token steers"
        regimes = ("margin", "finite") if f.spectrum.real else ("margin",)  # finite: proved for rational angles only
        certificate = ConstantCertificate("const", tuple(map(repr, f.spectrum.parts)))
        how = {"spectrum": " u ".join(map(repr, f.spectrum.parts)), "state": "finite; bounded states under 'margin'"}
        return f.verdict(False, because, TIME_INVARIANT, regimes=regimes, certificate=certificate, hypotheses=how)


@PARITY.rule("-1 by a token", "-1 may be an eigenvalue, and a token-dependent witness was found and run", "yes", AUTOMATON)
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
        values = torch.linalg.eigvals(architecture(**w.signals[token]).dense().to(torch.complex128)).flatten()
        return ", ".join(f"{z.real:.4g}{f'{z.imag:+.4g}i' if abs(z.imag) > 1e-12 else ''}" for z in values.tolist())

    return f"of the token: A(0) has the eigenvalues {eig(0)}, A(1) has {eig(1)}"


def parity(x: Any) -> Verdict:
    """Can x compute the parity of a word of bits, at every length?

    x: an architecture (all inputs), a system or a converted layer (the family of its architecture, after a check that
    its signals lie in the domains; a bare time-invariant System is judged as it is). Rules: `print(PARITY)`.
    Raises ValueError where signals lie outside their domains, TypeError for anything else.

    >>> import dsf
    >>> verdict = dsf.parity(dsf.architecture_named("deltanet"))
    >>> verdict.answer, verdict.check()
    (False, True)
    >>> dsf.parity(dsf.architecture_named("deltanet").with_domain(beta=dsf.Scalar(0, 2))).answer
    True
    """
    if hasattr(x, "architecture") and hasattr(x, "drive"):
        x = x.system
    if isinstance(x, (System, Feedback)) and x.architecture is not None:
        _inside_domains(x)
        x = x.architecture
    if not isinstance(x, (Architecture, System)):
        raise TypeError(f"parity takes an architecture, a system or a converted layer, got {type(x).__name__}")
    return PARITY.decide(Facts(x))


def _inside_domains(x: System | Feedback) -> None:
    for name, tensor in (x.signals or {}).items():
        domain = x.architecture.signals[name]
        if not domain.contains(tensor):
            raise ValueError(
                f"the signal {name} of this system leaves its domain ({domain}), so the verdict of {x.architecture.name} "
                f"does not speak of it; widen it: architecture.with_domain({name}=...)"
            )


# -------------------------------------------------------------------------------------------------------- certificates


@dataclass(frozen=True)
class SpectrumCertificate:
    """Intervals of real numbers >= 0 that hold every eigenvalue of every A_t."""

    parts: tuple[tuple[float, float], ...]

    def check(self, subject: Architecture | System) -> bool:
        """Claims >= 0; the enclosure recomputed says the same; dense eigenvalues of sampled A_t (ends too) lie inside."""
        if not all(0 <= lo <= hi for lo, hi in self.parts):
            return False
        if isinstance(subject, System):
            values = torch.linalg.eigvals(subject.dense().to(torch.complex128)).flatten()
            claimed = tuple((p.lo, p.hi) for p in spectrum(subject).parts)  # type: ignore[union-attr]
            return claimed == self.parts and self._holds(values)
        recomputed = merged(list(enclose(subject.bounds().A).parts))
        if tuple((getattr(p, "lo", None), getattr(p, "hi", None)) for p in recomputed) != self.parts:
            return False
        generator = torch.Generator().manual_seed(0)
        for n in (1, 2, 3):
            signals, _ = subject.sample(8, 16, 2, n, 1, generator=generator, ends=0.3)
            if not self._holds(torch.linalg.eigvals(subject(**signals).dense().to(torch.complex128)).flatten()):
                return False
        return True

    def _holds(self, values: torch.Tensor) -> bool:
        slack = 1e-5 * values.abs().clamp(min=1)  # numerical eigenvalues of a defective 3 x 3 matrix: eps^(1/3)
        inside = torch.zeros_like(slack, dtype=torch.bool)
        for lo, hi in self.parts:
            inside |= (values.real >= lo - slack) & (values.real <= hi + slack) & (values.imag.abs() <= slack)
        return bool(inside.all())


@dataclass(frozen=True)
class ConstantCertificate:
    """A does not change with the tokens; the set of its eigenvalues, for the reader."""

    dependence: str
    parts: tuple[str, ...]

    def check(self, subject: Architecture | System) -> bool:
        """Dependence recomputed from the bounds; and other tokens with the same constants leave A as it is."""
        facts = Facts(subject)
        if self.dependence != "const" or facts.dependence["A"] != "const" or facts.infinite:
            return False
        if any(of not in INVARIANT for of in facts.dependence.values()) or self.parts != tuple(map(repr, facts.spectrum.parts)):
            return False
        if isinstance(subject, System):
            return subject.dense().shape[1] == 1
        generator = torch.Generator().manual_seed(0)
        (one, _), (two, _) = (subject.sample(2, 8, 2, 3, generator=generator, ends=0.2) for _ in range(2))
        mixed = {k: one[k] if d.const else two[k] for k, d in subject.signals.items()}
        return torch.equal(subject(**one).dense(), subject(**mixed).dense())
