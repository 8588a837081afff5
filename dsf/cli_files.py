"""FILE.py:NAME on the command line: an architecture of the user's own, from a file that is imported by its path."""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from .cli_output import fail
from .definition import Architecture
from .system import System

EXAMPLE = "as in mine.py:mine"
DECORATE = "decorate a function with @dsf.architecture(title)"


def names_a_file(what: str) -> bool:
    """Is it FILE.py:NAME, or FILE.py alone?"""
    return re.search(r"\.py(:[^/\\]*)?$", what) is not None


def from_file(what: str) -> Architecture | System:
    """The architecture of that name in that file: itself, what a function without arguments returns, or a layer's.

    The file runs, as `python FILE.py` would run it. Whatever fails is told in one line, with exit status 2.
    """
    path, _, name = what.rpartition(":") if not what.endswith(".py") else (what, "", "")
    file = Path(path)
    if not file.is_file():
        fail(f"{path} is not a file: give FILE.py:NAME, {EXAMPLE}")
    module = _imported(file)
    if not name.isidentifier():
        fail(f"say which architecture of {path}: FILE.py:NAME, {EXAMPLE}; {_offered(module)}")
    if not hasattr(module, name):
        fail(f"{path} defines no {name}; {_offered(module)}")
    return _architecture(getattr(module, name), file, name)


def _imported(file: Path) -> ModuleType:
    """The file as a module of a private name, with its folder on the import path while it runs."""
    name = f"_dsf_file_{re.sub(r'[^0-9A-Za-z]', '_', file.stem)}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses, and pickle, look there
    with _on_path(file.resolve().parent):
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            fail(f"{_where(error, file)}: {type(error).__name__}: {error}")
    return module


@contextmanager
def _on_path(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def _architecture(found: Any, file: Path, name: str) -> Architecture | System:
    """found, or what it returns, or the architecture that it is of."""
    if inspect.isfunction(found):
        needs = [p.name for p in inspect.signature(found).parameters.values() if p.default is p.empty and p.kind < 2]
        if needs:
            fail(
                f"{name} of {file} needs arguments ({', '.join(needs)}): {DECORATE}, or give a function without "
                "arguments that returns an architecture"
            )
        with _on_path(file.resolve().parent):
            try:
                found = found()
            except Exception as error:
                fail(f"{_where(error, file)}: {type(error).__name__}: {error}")
        name += "()"
    own = getattr(found, "architecture", None)
    if not isinstance(found, (Architecture, System)) and isinstance(own, Architecture):  # a layer
        return own
    if not isinstance(found, (Architecture, System)):
        fail(
            f"{name} of {file} is of type {type(found).__name__}: no architecture, no system, and no function that "
            "returns one"
        )
    return found


def _offered(module: ModuleType) -> str:
    own = [k for k, x in vars(module).items() if isinstance(x, (Architecture, System)) and not k.startswith("_")]
    return f"it has {', '.join(own)}" if own else f"it has no architecture: {DECORATE}"


def _where(error: BaseException, file: Path) -> str:
    """FILE, line N: the last line of the file that the error went through."""
    if isinstance(error, SyntaxError) and error.filename == str(file):
        return f"{file}, line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename).resolve() == file.resolve()]
    return f"{file}, line {lines[-1]}" if lines else str(file)
