"""Verdicts in JSON files: the question, the language, the subject by its domains, and the certificate to re-check."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dsf import Architecture
from dsf.json_architectures import architecture_of_json, architecture_to_json

from .languages.sources import language
from .refutations import Refutation
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
    Path(path).write_text(json.dumps(row, allow_nan=False), encoding="utf-8")


def load_verdict(path: str | Path) -> Verdict:
    """Reads a verdict; `.check()` runs its certificate. ValueError where the file holds none."""
    try:
        row = json.loads(Path(path).read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} holds no JSON: {error}") from None
    if not isinstance(row, dict) or row.get("format") != FORMAT:
        raise ValueError(f"{path} holds no verdict: its format should be {FORMAT!r}")
    try:
        return _verdict(row)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(f"{path} holds no whole verdict: {error}") from None


def _verdict(row: dict[str, Any]) -> Verdict:
    kinds = {"Refutation": Refutation, "StackWitness": StackWitness}
    saved, found = row["certificate"], row["verdict"]
    certificate = kinds[saved["kind"]].of_dict(saved, language(saved["language"]).automaton)
    if certificate.language.to_dict() != saved["language"]:
        raise ValueError("the language of the certificate is not written as a minimal automaton")
    first, *others = (architecture_of_json(s) for s in row["subject"])
    return Verdict(
        question=found["question"],
        answer=found["answer"],
        theorem=Theorem(**found["theorem"]),
        hypotheses=found["hypotheses"],
        because=found["because"],
        regimes=tuple(found["regimes"]),
        layers=found["layers"],
        certificate=certificate,
        contested=found["contested"],
        subject=(first, *others) if others else first,
    )
