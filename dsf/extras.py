"""Optional dependencies: imported where they are used, and named where they are missing."""

from __future__ import annotations

import importlib
from types import ModuleType


def required(module: str, extra: str) -> ModuleType:
    """The module, or an ImportError that says which extra brings it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != module.split(".")[0]:
            raise
        raise ImportError(f"this needs the extra \"{extra}\": pip install 'dsf-toolkit[{extra}]'") from error
