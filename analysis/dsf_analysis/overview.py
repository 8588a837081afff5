"""One table of every architecture: what it is, where its eigenvalues lie, whether it computes parity."""

from __future__ import annotations

from dsf import architectures

from .recognition import parity
from .spectra import NotInvariant, spectrum

WORDS = {"const": "nothing", "token": "the token", "state": "the state"}


def eigenvalue_text(x) -> str:
    """The sets that hold the eigenvalues of A_t over all inputs, or why there is no such set."""
    try:
        return " u ".join(map(repr, spectrum(x).parts))
    except NotInvariant:
        return "a function of the state"


def markdown_table() -> str:
    """The library's architectures by year, as a Markdown table; the README and the documentation hold it."""
    lines = [
        "| name | architecture | A_t is | depends on | eigenvalues over all inputs | parity |",
        "|---|---|---|---|---|---|",
    ]
    own = [(name, a) for name, a in architectures().items() if a.body.__module__.startswith("dsf.")]
    for name, a in sorted(own, key=lambda item: (item[1].year or 0, item[0])):
        A = a.bounds().A
        of = WORDS.get(a.bounds().dependence()["A"], "the past")
        eigenvalues = eigenvalue_text(a).replace("|", "\\|")
        cells = (f"`{name}`", f"{a.title}, {a.year}", type(A).__name__, of, eigenvalues, parity(a).word)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
