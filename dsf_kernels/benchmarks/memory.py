"""The memory that a call takes at its peak, beyond what is there before it."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak(call: Callable[[], object], device: str) -> int | None:
    """Bytes; None where the system does not tell (on a CPU, Linux alone does)."""
    if torch.device(device).type == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        return torch.cuda.max_memory_allocated() - before
    if not STATUS.exists():
        return None
    _give_back()
    try:
        RESET.write_text("5")  # the high-water mark starts again at what is resident now
    except OSError:
        return None
    before = _kilobytes("VmRSS")
    call()
    return max(_kilobytes("VmHWM") - before, 0) * 1024


def available(device: str) -> int | None:
    """Bytes that could be taken now; None where the system does not tell."""
    if torch.device(device).type == "cuda":
        return torch.cuda.mem_get_info()[0]
    try:
        found = re.search(r"MemAvailable:\s+(\d+)", Path("/proc/meminfo").read_text())
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None


def _kilobytes(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+)", STATUS.read_text())
    return int(found[1]) if found else 0


def _give_back() -> None:
    """Freed memory that the allocator keeps goes back to the system: else a call could take it unseen."""
    trim = _trim()
    if trim is not None:
        trim(0)


@cache
def _trim() -> Callable | None:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):
        return None
