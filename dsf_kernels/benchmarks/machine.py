"""Where a result comes from: the device, the versions, the day."""

from __future__ import annotations

import os
import platform
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import dsf

PACKAGES = ("torch", "numba", "triton", "transformers", "flash-linear-attention", "fla-core")


def describe(device: str) -> dict[str, Any]:
    """Device, threads, versions and date, for a document."""
    return {
        **{"device": device, "name": _name(device), "cores": os.cpu_count(), "threads": torch.get_num_threads()},
        **{"versions": _versions(), "date": datetime.now(timezone.utc).isoformat(timespec="seconds")},
    }


def check_device(device: str) -> None:
    """ValueError for a device that torch does not have here."""
    kind = device.partition(":")[0]
    if kind not in ("cpu", "cuda"):
        raise ValueError(f"the device is cpu or cuda, got {device!r}")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError("there is no CUDA device here that torch can use")


def _name(device: str) -> str:
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    found = {"dsf": dsf.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
