"""Functions of other packages' modules, handed to a handler while a block runs, and given back after it.

transformers keeps the recurrence of a mixer in a function of the mixer's own file, which `forward` finds by its name.
In that name's place stands a dispatcher for as long as any thread needs it; it asks the handler of ITS thread, and
calls the function itself where there is none.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock
from typing import Any

from torch import nn

Handler = Callable[[str, Callable, tuple, dict], Any]  # name, the function itself, its arguments -> what it returns

_handler: ContextVar[Handler | None] = ContextVar("dsf_handler", default=None)
_lock = Lock()
_users: dict[tuple[str, str], int] = {}  # (module, name) -> how many blocks need the dispatcher there


def places(modules: Iterable[nn.Module], names: Collection[str]) -> list[tuple[str, str]]:
    """(Python module, name) of every function of these names in the files of the modules' classes."""
    files = {cls.__module__ for m in modules for cls in type(m).__mro__ if not cls.__module__.startswith("torch.")}
    return [(file, name) for file in sorted(files) for name in names if callable(_namespace(file).get(name))]


@contextmanager
def intercepted(functions: Collection[tuple[str, str]], handler: Handler) -> Iterator[None]:
    """While the block runs, calls of these functions in this thread go to the handler; nested blocks: the inner one."""
    _install(functions)
    token = _handler.set(handler)
    try:
        yield
    finally:
        _handler.reset(token)
        _remove(functions)


@contextmanager
def untouched() -> Iterator[None]:
    """While the block runs, the functions of this thread are themselves."""
    token = _handler.set(None)
    try:
        yield
    finally:
        _handler.reset(token)


def _namespace(file: str) -> dict[str, Any]:
    return vars(sys.modules[file]) if file in sys.modules else {}


def _install(functions: Collection[tuple[str, str]]) -> None:
    with _lock:
        for file, name in functions:
            if not _users.get((file, name)):
                _namespace(file)[name] = _dispatcher(name, _namespace(file)[name])
            _users[file, name] = _users.get((file, name), 0) + 1


def _remove(functions: Collection[tuple[str, str]]) -> None:
    with _lock:
        for file, name in functions:
            _users[file, name] -= 1
            if not _users[file, name]:
                del _users[file, name]
                _namespace(file)[name] = _namespace(file)[name].__wrapped__


def _dispatcher(name: str, function: Callable) -> Callable:
    @functools.wraps(function)
    def dispatch(*args, **kwargs):
        handler = _handler.get()
        return function(*args, **kwargs) if handler is None else handler(name, function, args, kwargs)

    return dispatch
