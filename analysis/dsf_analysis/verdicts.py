"""A verdict: an answer, the theorem that gives it, the hypotheses as checked, and a certificate that is re-checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Protocol


class Certificate(Protocol):
    """Evidence that can be verified again, by code that did not find it. `proves` is the answer that it is for."""

    proves: ClassVar[bool]

    def check(self, subject: Any) -> bool:
        """Does this evidence hold for the subject?"""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        ...


@dataclass(frozen=True)
class Theorem:
    """A statement and its source; `own` marks a derivation of this library (proof in docs/theorems.md)."""

    cite: str
    statement: str
    own: bool = False

    def __str__(self) -> str:
        return f"{self.statement} [{self.cite}{'; own derivation, docs/theorems.md' if self.own else ''}]"


@dataclass(frozen=True)
class Verdict:
    """answer True, False or None (undecided), never a guess.

    theorem: what gives the answer.  hypotheses: name -> how it was checked.  regimes: the models of precision in which
    it is proved.  layers: how many layers it speaks of.  certificate: weights that are run (True), words and sampled
    transitions (False).  contested: what the literature says against it.  fix: the least change that would turn a "no"
    into a "yes", looked for when it is asked for.  `bool()` of an undecided verdict raises, because None is falsy and
    undecided is not "no".
    """

    question: str
    answer: bool | None
    theorem: Theorem | None
    hypotheses: dict[str, str]
    because: str
    regimes: tuple[str, ...] = ()
    layers: str = "any number of layers"
    certificate: Certificate | None = None
    contested: str | None = None
    subject: Any = field(default=None, repr=False)
    find_fix: Callable[[], str] | None = field(default=None, repr=False, compare=False)

    def check(self) -> bool:
        """Verifies the certificate again, independently of how it was found. ValueError where there is none."""
        if self.certificate is None:
            raise ValueError(f"undecided, so there is no certificate to check: {self.because}")
        return self.certificate.proves is self.answer and self.certificate.check(self.subject)

    def __bool__(self) -> bool:
        if self.answer is None:
            raise ValueError(f"undecided: {self.because}. Compare .answer with True, False or None")
        return self.answer

    @property
    def word(self) -> str:
        return {True: "yes", False: "no", None: "undecided"}[self.answer]

    @cached_property
    def fix(self) -> str | None:
        """The least change that would turn a "no" into a "yes"; None for other answers."""
        return self.find_fix() if self.find_fix and self.answer is False else None

    def __repr__(self) -> str:
        lines = [f"{self.question} {self.word}: {self.because}"]
        if self.theorem:
            lines.append(f"  theorem     {self.theorem}")
        if self.answer is not None:
            lines.append(f"  proved for  {self.layers}; precision: {', '.join(self.regimes)}")
        if self.contested:
            lines.append(f"  contested   {self.contested}")
        lines += [f"  {name:11s} {how}" for name, how in self.hypotheses.items()]
        if self.fix:
            lines.append(f"  to change   {self.fix}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The verdict as plain data, for JSON; its certificate is saved apart (saved_verdicts.py)."""
        t = self.theorem
        theorem = t and {"cite": t.cite, "statement": t.statement, "own": t.own}
        return {
            "question": self.question,
            "answer": self.answer,
            "because": self.because,
            "theorem": theorem,
            "hypotheses": self.hypotheses,
            "regimes": list(self.regimes),
            "layers": self.layers,
            "contested": self.contested,
            "fix": self.fix,
        }
