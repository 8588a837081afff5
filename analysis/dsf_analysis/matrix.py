"""The matrix of `dsf check --all`: every architecture and every language, decided, with each certificate checked again.

Rows are shared among processes: each is started afresh (no fork), reads the architecture by its name, and keeps what it
finds out about it for all languages of the row.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from typing import Any

import torch

from dsf import Architecture, architecture_named, architectures

from .languages.sources import Language, language
from .recognition import recognizes
from .verdicts import Theorem

TASKS = (
    *("parity", "mod 3", "cyclic 12", "flip-flop", "even pairs", "dyck-1 depth 3"),
    *("S3", "A4", "S4", "A5", "S5", "random aperiodic 0"),
)


@dataclass(frozen=True)
class Cell:
    """A verdict without its weights and words. check: did the certificate pass again? None where there is none."""

    language: str
    answer: bool | None
    theorem: Theorem | None
    regimes: tuple[str, ...]
    layers: str
    because: str
    contested: str | None
    check: bool | None

    @property
    def mark(self) -> str:
        """A word of at most six letters; * marks a theorem that is this library's own derivation."""
        if self.check is False:
            return "FAILED"
        own = "*" * bool(self.theorem and self.theorem.own)
        return {True: "yes", False: "no", None: "?"}[self.answer] + own

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self) | {"regimes": list(self.regimes)}


def cells_of(
    a: Architecture, languages: Sequence[Any] = TASKS, layers: int | None = None, precision: str = "margin"
) -> tuple[Cell, ...]:
    """The verdicts of one architecture, each certificate checked again. Raises as `recognizes` does.

    >>> import dsf
    >>> [cell.mark for cell in cells_of(dsf.architecture_named("deltanet"), ("parity", "flip-flop", "S5"))]
    ['no', 'yes', 'no']
    """
    found = []
    for one in map(language, languages):
        v = recognizes(a, one, layers, precision)
        held = None if v.certificate is None else v.check()
        found.append(Cell(one.title, v.answer, v.theorem, v.regimes, v.layers, v.because, v.contested, held))
    return tuple(found)


def matrix(
    names: Sequence[str] | None = None,
    languages: Sequence[Any] = TASKS,
    layers: int | None = None,
    precision: str = "margin",
    workers: int = 1,
) -> Iterator[tuple[str, tuple[Cell, ...]]]:
    """(name, its cells) as they are done, in no order. names: of registered architectures; None: of all.

    workers: processes; more than 1 know the architectures of this library only, and need a main module that may be
    imported (`if __name__ == "__main__":`). Raises as `recognizes` does, KeyError for a name that is not registered.

    >>> {name: cells[0].answer for name, cells in matrix(["gla", "lstm"], ["parity"])} == {"gla": False, "lstm": True}
    True
    """
    read: list[Language] = [language(x) for x in languages]
    order = sorted(names or architectures(), key=_effort, reverse=True)
    if min(workers, len(order)) <= 1:
        yield from ((name, cells_of(architecture_named(name), read, layers, precision)) for name in order)
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(order)), spawn, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        rows = {pool.submit(_row, name, read, layers, precision): name for name in order}
        try:
            for done in as_completed(rows):
                yield rows[done], done.result()
        finally:
            pool.shutdown(cancel_futures=True)


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _row(name: str, languages: Sequence[Language], layers: int | None, precision: str) -> tuple[Cell, ...]:
    return cells_of(architecture_named(name), languages, layers, precision)


def _effort(name: str) -> tuple[bool, int]:
    """Long rows first, so that none is left at the end: those with larger matrices or more signals to choose."""
    a = architecture_named(name)
    return a.feedback or a.steps > 0, len(a.signals)
