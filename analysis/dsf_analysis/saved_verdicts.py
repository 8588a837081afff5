"""Verdicts in JSON files: the question, the language, the subject by its domains, and the certificate to re-check.

The words of a verdict are read, and no check runs them: a seal over the whole file notices where one was changed. It
is no signature. Who makes a new seal is not noticed by it, but the certificate is still run.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from dsf import Architecture
from dsf.json_architectures import architecture_of_json, architecture_to_json

from .languages.sources import language
from .refutations import Refutation
from .subjects import heads_for
from .verdicts import Theorem, Verdict
from .witnesses.stacks import StackWitness

FORMAT = "dsf verdict, version 1"


def save_verdict(verdict: Verdict, path: str | Path) -> None:
    """Writes a decided verdict. ValueError where it is undecided, or its subject is no architecture that has a name.

    >>> import dsf, tempfile
    >>> path = Path(tempfile.mkdtemp()) / "verdict.json"
    >>> save_verdict(dsf.parity(dsf.architecture_named("gla")), path)
    >>> load_verdict(path).check()
    True
    """
    if verdict.certificate is None:
        raise ValueError(f"an undecided verdict has no certificate to save: {verdict.because}")
    subjects = verdict.subject if isinstance(verdict.subject, tuple) else (verdict.subject,)
    if not all(isinstance(s, Architecture) for s in subjects):
        raise ValueError("a system of numbers is not saved with its verdict: ask about an architecture")
    row = {
        "format": FORMAT,
        "subject": [architecture_to_json(s) for s in subjects],
        "verdict": verdict.to_dict() | {"fix": None},
        "certificate": {"kind": type(verdict.certificate).__name__, **verdict.certificate.to_dict()},
    }
    Path(path).write_text(json.dumps(row | {"seal": seal_of(row)}, allow_nan=False), encoding="utf-8")


def seal_of(row: dict[str, Any]) -> str:
    """SHA-256 of all entries of a saved verdict but its seal, in one way of writing them."""
    rest = {key: value for key, value in row.items() if key != "seal"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def load_verdict(path: str | Path) -> Verdict:
    """Reads a verdict; `.check()` runs its certificate. ValueError where the file holds none, or was changed."""
    try:
        row = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} holds no JSON: {error}") from None
    if not isinstance(row, dict) or row.get("format") != FORMAT:
        raise ValueError(f"{path} holds no verdict: its format should be {FORMAT!r}")
    if "seal" not in row:
        raise ValueError(f"{path} holds no whole verdict: it has no seal. Decide and save it again")
    if row["seal"] != seal_of(row):
        raise ValueError(f"{path} was changed since it was saved: its seal does not fit. Decide and save it again")
    try:
        return _verdict(row)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(f"{path} holds no whole verdict: {error}") from None


def _verdict(row: dict[str, Any]) -> Verdict:
    kinds = {"Refutation": Refutation, "StackWitness": StackWitness}
    saved, found = row["certificate"], row["verdict"]
    hypotheses, regimes = found["hypotheses"], found["regimes"]
    if not isinstance(hypotheses, dict) or not isinstance(regimes, list):
        raise ValueError("hypotheses of a verdict are named, and its regimes are a list")
    theorem, contested = Theorem(**found["theorem"]), found["contested"] or ""
    words = [found["question"], found["because"], found["layers"], contested, theorem.cite, theorem.statement]
    if not all(isinstance(x, str) for x in [*words, *hypotheses.values(), *regimes]):
        raise ValueError("a verdict says in text what was asked and found")
    if not isinstance(found["answer"], bool) or not isinstance(theorem.own, bool):
        raise ValueError("the answer of a saved verdict, and whether its theorem is own, are true or false")
    certificate = kinds[saved["kind"]].of_dict(saved, language(saved["language"]).automaton)
    if certificate.language.to_dict() != saved["language"]:
        raise ValueError("the language of the certificate is not written as a minimal automaton")
    first, *others = map(_subject, row["subject"])
    return Verdict(
        question=found["question"],
        answer=found["answer"],
        theorem=theorem,
        hypotheses=hypotheses,
        because=found["because"],
        regimes=tuple(regimes),
        layers=found["layers"],
        certificate=certificate,
        contested=found["contested"],
        subject=(first, *others) if others else first,
    )


def _subject(row: dict[str, Any]) -> Architecture:
    """The architecture, tried once: domains may each be right, and not be what its body takes."""
    a = architecture_of_json(row)
    try:
        a(**a.sample(1, 2, heads_for(a), 3, 2, generator=torch.Generator().manual_seed(0))[0])
    except (TypeError, ValueError, RuntimeError, IndexError) as error:
        raise ValueError(f"the domains of {a.title} are not those that it takes: {error}") from None
    return a
