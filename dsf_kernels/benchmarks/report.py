"""The whole benchmark: the rates of this device, then every case; a report that is data, text and Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch

from .case import Case, Shape
from .cases import cases_named
from .contest import contest
from .machine import check_device, describe
from .measure import QUICK, Protocol
from .peers import PACKAGES
from .rates import PASSES, Rates, measured
from .results import Found
from .table import markdown, text

Plan = list[tuple[Case, Shape]]
DTYPES = {name: getattr(torch, name) for name in ("float32", "bfloat16", "float16", "float64")}


@dataclass(frozen=True)
class Report:
    """What was measured, where, when and by which protocol. Printing it gives the table."""

    machine: dict[str, Any]
    rates: Rates
    protocol: Protocol
    dtype: str
    found: list[Found]

    @property
    def quick(self) -> bool:
        return self.protocol == QUICK

    @property
    def agrees(self) -> bool:
        """Did every side that computes the same agree?"""
        return all(row.agrees is not False for one in self.found for row in one.rows)

    def to_dict(self) -> dict[str, Any]:
        """The document of --json."""
        return {
            **self.machine,
            "dtype": self.dtype,
            "rates": {"copy_gb_per_s": self.rates.copy / 1e9, "product_gflop_per_s": self.rates.product / 1e9},
            "protocol": asdict(self.protocol) | {"quick": self.quick, "floor_passes": PASSES},
            "agrees": self.agrees,
            "cases": [asdict(one) for one in self.found],
        }

    def markdown(self) -> str:
        """For docs/performance.md."""
        return markdown(self)

    def __str__(self) -> str:
        return text(self)


def bench(
    cases: Sequence[str] = (),
    device: str | None = None,
    against: Sequence[str] = PACKAGES,
    length: int | None = None,
    dtype: torch.dtype | None = None,
    threads: int | None = None,
    quick: bool = False,
    progress: Callable[[Plan], Iterable[tuple[Case, Shape]]] = iter,
) -> Report:
    """Measures the cases (default: all) on the device: cuda where there is one, in bfloat16; else cpu, in float32.

    against: packages of peers; one that is not installed is named in the report. length: instead of the cases' own.
    threads: of torch, for this call. quick: fewer rounds; the report says so. progress: wraps what is gone through.
    ValueError names what is unknown.
    """
    chosen, packages = cases_named(cases), _packages(against)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    check_device(device)
    kind = torch.device(device).type
    dtype = dtype or (torch.bfloat16 if kind == "cuda" else torch.float32)
    plan = [(case, shape) for case in chosen for shape in _shapes(case, kind, length)]
    protocol, found = QUICK if quick else Protocol(), []
    with _threads(threads):
        rates = {each: measured(device, each) for each in {dtype, _wide(dtype)}}
        for case, shape in progress(plan):
            fitting = dtype if case.half else _wide(dtype)
            found.append(contest(case, shape, device, fitting, packages, rates[fitting], protocol))
        return Report(describe(device), rates[dtype], protocol, str(dtype).removeprefix("torch."), found)


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _shapes(case: Case, kind: str, length: int | None) -> list[Shape]:
    """The sizes of the case; with another length, each that remains once."""
    if length is not None and length < 1:
        raise ValueError(f"the length is a number of tokens, at least 1, got {length}")
    return list(dict.fromkeys(shape if length is None else shape.at(length) for shape in case.shapes[kind]))


def _packages(against: Sequence[str]) -> list[str]:
    for name in against:
        if name not in PACKAGES:
            raise ValueError(f"no peers are known of {name!r}; they are of {', '.join(PACKAGES)}")
    return list(against)


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    if number is not None:
        torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
