"""An analysis is an ordered, printable table of rules: the first that matches decides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .verdicts import Theorem, Verdict


@dataclass(frozen=True)
class Rule:
    """A condition on facts, and what follows. `conclude` may return None: the rule declines, the next one is tried."""

    name: str
    condition: str
    answer: str  # what it says where it matches, for the printed table
    theorem: Theorem | None
    conclude: Callable[[Any], Verdict | None]


class RuleTable:
    """Rules in order; `print(table)` shows them.

    >>> print(RuleTable("nothing", []))
    nothing: the first rule that matches decides
    """

    def __init__(self, title: str, rules: list[Rule]):
        self.title, self.rules = title, rules

    def rule(self, name: str, condition: str, answer: str, theorem: Theorem | None = None) -> Callable:
        """Appends the decorated function as the next rule."""

        def add(conclude: Callable[[Any], Verdict | None]) -> Callable:
            self.rules.append(Rule(name, condition, answer, theorem, conclude))
            return conclude

        return add

    def decide(self, facts: Any) -> Verdict:
        """The verdict of the first rule that matches."""
        for rule in self.rules:
            verdict = rule.conclude(facts)
            if verdict is not None:
                return verdict
        raise AssertionError(f"the last rule of {self.title} must match everything")

    def __repr__(self) -> str:
        lines = [f"{self.title}: the first rule that matches decides"]
        for position, r in enumerate(self.rules, 1):
            lines.append(f"{position:2d}  {r.name:22s} {r.answer:10s} if {r.condition}")
            if r.theorem:
                lines.append(f"{'':37s}{r.theorem}")
        return "\n".join(lines)
