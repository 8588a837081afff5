"""How a program is cut and compiled on a device: a rule by size, or what `dsf tune` measured to be faster there.

Nothing is measured while a model runs. What `tune` found lies in one JSON file per device, in the folder DSF_TUNED or
dsf/tuned of the user's cache.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from .launching import SHARED, power, shared_memory


@dataclass(frozen=True)
class Configuration:
    """columns: of the state or the drive, that a program holds at a time, or entries, where it takes these; warps of
    it; stages of loads under way."""

    columns: int
    warps: int
    stages: int

    @property
    def compile(self) -> dict[str, int]:
        return {"num_warps": self.warps, "num_stages": self.stages}

    @property
    def possible(self) -> bool:
        whole = all(type(size) is int for size in astuple(self))
        return whole and self.columns in COLUMNS and self.warps in WARPS and self.stages in STAGES

    def __str__(self) -> str:
        return f"{self.columns} columns, {self.warps} warps, {self.stages} stages"


COLUMNS, WARPS, STAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512), (1, 2, 4, 8), (1, 2, 3, 4)
NOWHERE = torch.device("cpu")
_FORCED: dict[str, Configuration] = {}
_ASKED: list[dict[str, Configuration]] = []


def configuration(
    program: str, n: int, p: int, dtype: torch.dtype, device: torch.device, otherwise: Configuration | None = None
) -> Configuration:
    """Of a program on states [n, p] of this dtype; without measurements `otherwise`, or that of `rule`."""
    key = f"{program} {power(n)} {power(p)} {str(dtype).removeprefix('torch.')}"
    found = _FORCED.get(key) or tuned(name_of(device)).get(key) or otherwise or rule(n, p, dtype, device)
    for asked in _ASKED:
        asked[key] = found
    return found


def rule(n: int, p: int, dtype: torch.dtype, device: torch.device = NOWHERE) -> Configuration:
    """Without measurements: blocks of up to 64 columns, warps enough that the state stays in registers."""
    small, half = cramped(n, dtype, device), dtype != torch.float32
    columns = min(power(p), 32 if small and dtype != torch.bfloat16 or n > 64 and not half else 64)
    return Configuration(columns, 4 if power(n) * columns < 64 * 64 else 8, 2 if half and not small else 1)


def cramped(n: int, dtype: torch.dtype, device: torch.device) -> bool:
    """Would programs on states of n rows take more shared memory than they have? Factors of float16 take 4 bytes."""
    return shared_memory(device) < SHARED and n > (128 if dtype == torch.bfloat16 else 64)


@contextmanager
def forced(key: str, how: Configuration) -> Iterator[None]:
    """This configuration, whatever was measured before."""
    _FORCED[key] = how
    try:
        yield
    finally:
        del _FORCED[key]


@contextmanager
def asked() -> Iterator[dict[str, Configuration]]:
    """The configurations that runs in the block ask for, by key."""
    found: dict[str, Configuration] = {}
    _ASKED.append(found)
    try:
        yield found
    finally:
        _ASKED.remove(found)


# --------------------------------------------------------------------------------------------------------------- files
def name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def file_of(name: str) -> Path:
    """Where the measurements of a device lie."""
    folder, users = os.environ.get("DSF_TUNED"), os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    place = Path(folder or Path(users) / "dsf" / "tuned").expanduser()
    return place / f"{re.sub(r'[^a-z0-9]+', '-', name.lower())}.json"


@cache
def tuned(name: str) -> dict[str, Configuration]:
    """What was measured on a device of this name; nothing where `dsf tune` was never run, or no folder can be read.

    Raises ValueError where the file is damaged.
    """
    try:
        path = file_of(name)
        text = path.read_text()
    except (OSError, RuntimeError):  # there may be no home
        return {}
    try:
        data: Any = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}): delete it, and run `dsf tune` again") from error
    try:
        found = {key: Configuration(**how) for key, how in data.items()}
    except (AttributeError, TypeError) as error:
        raise ValueError(f"{path} holds no configurations: delete it, and run `dsf tune` again") from error
    for key, how in found.items():
        if not how.possible:
            raise ValueError(f"{path} has an impossible configuration for {key}: delete it, and run `dsf tune` again")
    return found


def keep(name: str, found: dict[str, Configuration]) -> Path:
    """Adds measurements to those of a device, all or nothing."""
    path = file_of(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = {key: asdict(how) for key, how in {**tuned(name), **found}.items()}
    beside = path.with_suffix(f".{os.getpid()}")
    beside.write_text(json.dumps(data, indent=1, sort_keys=True))
    beside.replace(path)
    tuned.cache_clear()
    return path
