"""What is found of a case: a row for each side, a timing for each direction."""

from __future__ import annotations

from dataclasses import dataclass, field

from .case import Shape


@dataclass
class Timing:
    """One direction of one side; `because` says why it was not run."""

    milliseconds: float | None = None
    quickest: float | None = None
    repeats: int = 0
    warmups: int = 0
    gb_per_s: float | None = None
    gflop_per_s: float | None = None
    share_of_floor: float | None = None
    ratio: float | None = None  # its time per token over dsf's
    memory_bytes: int | None = None
    because: str | None = None


@dataclass
class Row:
    """One side of a case; errors are relative to the largest entry."""

    name: str
    package: str
    what: str
    same: bool = True
    length: int = 0
    error: float | None = None  # of y against the reference in fp64, on a short piece
    gradient_error: float | None = None  # the same, of every gradient
    apart: float | None = None  # y at full length, from dsf's
    agrees: bool | None = None  # None: not compared with anything
    because: str | None = None  # why it did not run at all
    timings: dict[str, Timing] = field(default_factory=dict)


@dataclass
class Found:
    """One case at one size. floor: milliseconds by direction, from flops and bytes, which no kernel can avoid."""

    case: str
    architecture: str
    about: str
    shape: Shape
    dtype: str
    kernel: str
    route: tuple[str, ...]
    flops: float
    bytes: float
    floor: dict[str, float]
    rows: list[Row]
