"""Functions compiled by numba on first use; what is compiled is kept on disk, in a folder per state of the sources.

Numba looks at the file of a function only, not at those of the functions that it calls; the folder's name is a hash of
all files here, so nobody runs what belongs to another version. It lies in __pycache__, or in the user's cache where
that cannot be written (NUMBA_CACHE_DIR, if set, comes first); where no folder can be, a process compiles for itself.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from . import lanes, lowering

HERE = Path(__file__).parent
_LOCK = threading.RLock()


def compiled(function: Callable) -> Callable:
    """The function for numba, and what it calls; one specialisation per dtype."""
    with _LOCK:
        return _compiled(function)


@cache
def _compiled(function: FunctionType) -> Callable:
    import numba

    lowering.install()
    for helper in _helpers(function):
        _known(helper)
    settings: Any = numba.config  # type: ignore[attr-defined]
    folder, given = cache_folder(), settings.CACHE_DIR
    if folder is None:
        return numba.njit(nogil=True, error_model="numpy")(function)
    try:
        settings.CACHE_DIR = str(folder)
        return numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    finally:
        settings.CACHE_DIR = given


@cache
def compiled_text(source: str, name: str) -> Callable:
    """A function of a module that is written here, for numba; the module's text lies beside what is compiled."""
    key = hashlib.sha256(source.encode()).hexdigest()[:16]
    module = ModuleType(f"{__package__}.text_{key}")
    folder = cache_folder()
    path = "<text>" if folder is None else _written(folder / f"text_{key}.py", source)
    exec(compile(source, str(path), "exec"), vars(module))
    sys.modules[module.__name__] = module  # numba asks for it by name when it loads what it has compiled
    return compiled(vars(module)[name])


def _written(path: Path, text: str) -> Path:
    """A file of that text, there at once or not at all: processes may write it side by side."""
    if not path.exists():
        with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".tmp", delete=False) as file:
            file.write(text)
        os.replace(file.name, path)
    return path


def _helpers(function: FunctionType) -> list[FunctionType]:
    """The functions of this package that a function's module knows, and theirs; lanes.py has no code of its own."""
    found, left = [], [function]
    while left:
        for other in _called(left.pop()):
            if other is not function and other not in found:
                found.append(other)
                left.append(other)
    return found


def _called(function: FunctionType) -> list[FunctionType]:
    names = (function.__globals__.get(name) for name in function.__code__.co_names)
    ours = (f for f in names if isinstance(f, FunctionType) and f.__module__.startswith(__package__ or ""))
    return [f for f in ours if f.__module__ != lanes.__name__]


@cache
def _known(helper: FunctionType) -> None:
    from numba.extending import register_jitable

    register_jitable(helper)


@cache
def cache_folder() -> Path | None:
    """The first place that can be written."""
    sources = sorted(HERE.glob("*.py"))
    name = f"numba-{hashlib.sha256(b''.join(path.read_bytes() for path in sources)).hexdigest()[:16]}"
    users = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    given = os.environ.get("NUMBA_CACHE_DIR")
    for place in (*([Path(given) / "dsf"] if given else ()), HERE / "__pycache__", users / "dsf"):
        try:
            (place / name).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=place / name):
                return place / name
        except OSError:
            continue
    return None
