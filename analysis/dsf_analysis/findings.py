"""What `dsf check` prints: eigenvalues and verdicts, each with what it rests on and a check that was run just now."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from dsf import Architecture, System
from dsf.conversion import allowed_error
from dsf.converted_layer import ConvertedLayer
from dsf.exact_eigenvalues import eigenvalues
from dsf.features import Features

from .languages.sources import Language, language
from .measured import STEPS, measure
from .recognition import recognizes
from .report import all_inputs, matrix_of
from .spectra import NotInvariant, Spectrum, spectrum
from .verdicts import Verdict


@dataclass(frozen=True)
class Asked:
    """What is asked of a subject: parity, and these languages too; with at most so many layers, in this precision."""

    languages: tuple[Language, ...] = ()
    layers: int | None = None
    precision: str = "margin"

    @property
    def every(self) -> tuple[Language, ...]:
        """Parity first; each of them once."""
        return tuple({one.title: one for one in (language("parity"), *self.languages)}.values())


PARITY = Asked()


@dataclass(frozen=True)
class Finding:
    """A statement in words and as plain data; `held` is the result of its check, None where nothing can be checked."""

    name: str
    text: str
    data: dict[str, Any]
    held: bool | None
    checked: str  # what the check does, or why there is none
    verdict: Verdict | None = field(default=None, repr=False)

    @property
    def word(self) -> str:
        """The answer of its verdict, for a table; FAILED where its check did not pass."""
        return "FAILED" if self.held is False else "" if self.verdict is None else self.verdict.word

    def __str__(self) -> str:
        outcome = {True: "passed", False: "FAILED", None: "none"}[self.held]
        return f"{self.name}: {self.text}\n  check       {outcome}: {self.checked}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return self.data | {"check": self.held, "checked": self.checked}


def architecture_findings(architecture: Architecture, asked: Asked = PARITY) -> tuple[Finding, ...]:
    """Spectrum, parity and other languages of an architecture, over all inputs.

    >>> import dsf
    >>> [finding.held for finding in architecture_findings(dsf.architecture_named("deltanet"))]
    [True, True]
    """
    return _of_spectrum(architecture), *verdict_findings(architecture, asked)


def verdict_findings(x: Any, asked: Asked = PARITY, family: str | None = None) -> tuple[Finding, ...]:
    """A verdict for each language, parity first. family: the title of the family of x, which they speak of."""
    return tuple(
        _of_verdict(one.title, recognizes(x, one, asked.layers, asked.precision), family) for one in asked.every
    )


def _of_spectrum(architecture: Architecture) -> Finding:
    try:
        found = spectrum(architecture)
    except NotInvariant as why:
        return Finding("spectrum", str(why), {"parts": None, "because": str(why)}, None, "nothing is claimed")
    text = " u ".join(map(repr, found.parts)) + f"  ({found.subject})"
    lines = [text, *(f"  lemma       {how}" for how in found.how), f"  gauge       {found.gauge}"]
    lines.append(f"  dependence  A_t is a function of: {found.dependence}")
    held, checked = None, "no finite matrix to sample"
    if not isinstance(architecture.bounds().B, Features):
        held, checked = holds(found, architecture), "eigenvalues of sampled A_t, ends of the domains too"
    return Finding("spectrum", "\n".join(lines), found.to_dict(), held, checked)


def system_findings(system: System, asked: Asked = PARITY) -> tuple[Finding, ...]:
    """Spectrum, parity and other languages of a system of numbers."""
    found = spectrum(system)
    text = f"{' u '.join(map(repr, found.parts))}  ({found.subject})\n  how         {'; '.join(found.how)}"
    rests = Finding("spectrum", text, found.to_dict(), None, "of numbers, not of a family")
    return rests, *verdict_findings(system, asked)


def layer_finding(layer: ConvertedLayer, steps: int = STEPS) -> Finding:
    """Eigenvalues of a converted layer, over all inputs and on its recorded one; checked by running it again."""
    m, of = measure(layer, steps), matrix_of(layer.architecture.feedback)
    lo, hi = m.real or m.moduli
    what = f"eigenvalues of {of}" if m.real else f"|lambda| of {of}"
    parts, because = all_inputs(layer)
    text = f"{what} in [{lo:.4g}, {hi:.4g}] at {m.steps} of {layer.length} steps of this text"
    text += f"\n  all inputs  {' u '.join(parts) if parts else f'none: A_t is {because}'}"
    lemmas = list(spectrum(layer.architecture).how) if parts else []
    data = {"eigenvalues_of": of, "all_inputs": parts and list(parts), "because": because, "lemmas": lemmas}
    data |= {"steps": m.steps, "real": m.real and list(m.real), "moduli": list(m.moduli)}
    error, allowed = layer.verify(), allowed_error(layer)
    held, checked = error <= allowed, f"the layer re-simulated, relative error {error:.1e}"
    if layer.edits:
        held, checked = None, f"edited ({', '.join(map(str, layer.edits))}), so it is not the module's any more"
    return Finding("spectrum", text, data | {"error": error}, held, checked)


def _of_verdict(name: str, verdict: Verdict, family: str | None = None) -> Finding:
    held = None if verdict.certificate is None else verdict.check()
    checked = "undecided, no certificate" if held is None else f"{type(verdict.certificate).__name__}.check()"
    text, data = repr(verdict), verdict.to_dict()
    if family:
        these = {True: " with some weights, not with these", False: " with any weights, with these too", None: ""}
        speaks_of = f"{family}{these[verdict.answer]}"
        text, data = f"{text}\n  speaks of   {speaks_of}", data | {"speaks_of": speaks_of}
    return Finding(name, text, data, held, checked, verdict)


def holds(found: Spectrum, architecture: Architecture, samples: int = 64) -> bool:
    """Do the eigenvalues of sampled A_t, with ends of the domains among the samples, lie in the set?"""
    generator = torch.Generator().manual_seed(0)
    for n in (1, 2, 3):
        signals, _ = architecture.sample(4, samples, 2, n, 1, generator=generator, ends=0.3)
        system = architecture(**signals)
        assert isinstance(system, System)  # spectrum refuses feedback
        values, slack = eigenvalues(system.A, system.state_size), 0.0
        if values is None:
            values, slack = torch.linalg.eigvals(system.dense().to(torch.complex128)), 1e-5  # defective: eps^(1/3)
        if not all(_near(complex(z), found, slack) for z in values.flatten().tolist()):
            return False
    return True


def _near(z: complex, found: Spectrum, slack: float) -> bool:
    r = slack * max(1.0, abs(z))
    around = [z, z + r, z - r, z + 1j * r, z - 1j * r]
    around += [w.real for w in around] * (abs(z.imag) <= r)
    return any(w in found for w in around)
