"""A question of recognition: kinds of layers, a language, a precision; and the verdicts that answer it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from .fixes import fix_for
from .languages.patterns import Pattern
from .languages.sources import Language
from .layer_facts import LayerFacts, described
from .refutations import Refutation, plain_parts
from .verdicts import Theorem, Verdict
from .witnesses.exactness import exact_in_floats, keeps
from .witnesses.stacks import StackWitness

REGIMES = ("margin", "finite", "machine", "log")
CLOSED = "closed: the ends of every set are reached (floats saturate: sigmoid(17) is 1.0 in float32)"
INPUTS = "signals are functions of the token and of what earlier layers show: no positional encoding"
MARGIN = "outputs are read up to a bound that does not depend on the length, and decisions keep such a margin"
BOUNDED = "states are bounded, and decisions keep a margin that does not depend on the length"
ROTATING = (
    "of AUSSM, whose A_t turn by the token (karuvally2025), the first version claimed finite precision, the last one a "
    "precision logarithmic in the length: turns by 2 pi/m are exact for real weights only"
)


@dataclass
class Question:
    """Can layers of these kinds, in any order and number up to `layers`, recognise the language in this regime?"""

    kinds: tuple[LayerFacts, ...]
    language: Language
    layers: int | None = None
    precision: str = "margin"
    member: bool = False  # was the question about a system of the architecture's family?

    def all(self, has: Callable[[LayerFacts], bool]) -> bool:
        return all(map(has, self.kinds))

    @property
    def title(self) -> str:
        return " and ".join(k.title for k in self.kinds)

    @property
    def subject(self) -> Any:
        subjects = tuple(k.subject for k in self.kinds)
        return subjects if len(subjects) > 1 else self.kinds[0].subject

    def verdict(self, answer: bool | None, because: str, theorem: Theorem | None = None, **more: Any) -> Verdict:
        hypotheses = {"domains": CLOSED}
        for i, kind in enumerate(self.kinds):
            mark = f" {i + 1}" if len(self.kinds) > 1 else ""
            hypotheses |= {name + mark: how for name, how in described(kind).items()}
        if self.member:
            hypotheses["family"] = "a no holds for this member too; a yes holds for some weights, not for these"
        question = f"Does {self.title} recognise {self.language.title} at every length?"
        if self.language.title == "parity":
            question = f"Does {self.title} compute parity at every length?"
        hypotheses |= more.pop("hypotheses", {})
        return Verdict(question, answer, theorem, hypotheses, because, subject=self.subject, **more)

    def no(
        self,
        claim: str,
        theorem: Theorem,
        pattern: Pattern | None,
        because: str,
        regimes: tuple[str, ...],
        margin: str = MARGIN,
    ) -> Verdict | None:
        """The verdict "no", if there is such a pattern, it is proved in this regime, and the check passes."""
        if pattern is None or self.precision not in regimes or any(k.readout for k in self.kinds):
            return None
        automaton = self.language.automaton
        parts = tuple(plain_parts(k.spectrum.parts) for k in self.kinds)
        certificate = Refutation(claim, parts, automaton, pattern, self.layers).sealed()
        how = {"inputs": INPUTS, "language": pattern.said(automaton)} | (
            {"precision": margin} if regimes[0] == "margin" else {}
        )
        if not certificate.check(self.subject):
            return self.verdict(None, "sampled transitions leave what its bounds claim: its body claims too much")
        speaks = f"{self.layers} layer{'s' * (self.layers > 1)}" if self.layers else "any number of layers"
        found = self.verdict(
            False, because, theorem, regimes=regimes, layers=speaks, certificate=certificate, hypotheses=how
        )
        return replace(found, find_fix=self._fix)

    def _fix(self) -> str | None:
        from .recognition import recognizes  # which asks questions, and is above this file

        return fix_for(self, recognizes)

    def yes(self, witness: StackWitness, theorem: Theorem, because: str) -> Verdict | None:
        """The verdict "yes", if the witness is no deeper than asked, and passes its check."""
        if self.layers is not None and witness.layers > self.layers or not witness.check(self.subject):
            return None
        exact = exact_in_floats(self.subject, witness)
        if not exact and not keeps(self.subject, witness):
            return None
        cast = not any(k.feedback or k.infinite for k in self.kinds)  # "finite" speaks of products of finite A_t
        regimes = ("margin", *(["finite"] if cast else []), *(["machine"] if exact else []), "log")
        if self.precision not in regimes:
            return None
        depth, ran = "no layer: the last letter decides", "run on all short and on long fresh words"
        how = {"witness": f"a table of the letters; {ran}"}
        if witness.heads:
            widest = max(sum(h.layer == layer for h in witness.heads) for layer in range(1, witness.layers + 1))
            depth = f"{witness.layers} layer{'s' * (witness.layers > 1)} of up to {widest} head{'s' * (widest > 1)}"
            margin = min(h.margin for h in witness.heads)
            how = {
                "initial": "x_0 as in the witness: learned, or set by a token at the beginning",
                "between": "tables between layers, as an MLP on finitely many symbols can be",
                "witness": f"{witness.recipe}; {ran}, margins from {margin:.3g} on",
            }
        turns = not exact and self.all(lambda k: k.linear and k.complex_diagonal and not k.real)
        return self.verdict(
            True,
            because,
            theorem,
            regimes=regimes,
            layers=depth,
            certificate=witness,
            contested=ROTATING if turns else None,
            hypotheses=how,
        )
