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
from dataclasses import dataclass
from threading import Lock
from typing import Any

from torch import nn

Handler = Callable[[str, Callable, tuple, dict], Any]  # name, the function itself, its arguments -> what it returns


@dataclass
class _Place:
    """A name of a file: its function, what stands in its place, and how many blocks need that."""

    namespace: dict[str, Any]
    function: Callable
    dispatcher: Callable
    blocks: int = 0


_handler: ContextVar[Handler | None] = ContextVar("dsf_handler", default=None)
_lock = Lock()
_users: dict[tuple[str, str], _Place] = {}  # (module, name) -> what stands there while a block needs it


def places(modules: Iterable[nn.Module], names: Collection[str]) -> list[tuple[str, str]]:
    """(Python module, name) of every function of these names in the files of the modules' classes."""
    files = {cls.__module__ for m in modules for cls in type(m).__mro__ if not cls.__module__.startswith("torch.")}
    spaces = [(file, _namespace(file)) for file in sorted(files)]
    return [(file, name) for file, space in spaces for name in names if callable(space.get(name))]


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


def shared_places(*found: tuple[str, str]) -> list[tuple[str, str]]:
    """Those of ("package.module:table", key) that are there: functions that models find in a table of their package."""
    return [(file, name) for file, name in found if callable(_namespace(file).get(name))]


def _namespace(file: str) -> dict[str, Any]:
    """The names of a module, or the entries of a table in it."""
    module, _, path = file.partition(":")
    found: Any = sys.modules.get(module)
    for part in filter(None, path.split(".")):
        found = getattr(found, part, None)
    return {} if found is None else found if isinstance(found, dict) else vars(found)


def _install(functions: Collection[tuple[str, str]]) -> None:
    with _lock:
        for file, name in functions:
            if (file, name) not in _users:
                namespace = _namespace(file)
                function = namespace[name]
                _users[file, name] = _Place(namespace, function, _dispatcher(name, function))
                namespace[name] = _users[file, name].dispatcher
            _users[file, name].blocks += 1


def _remove(functions: Collection[tuple[str, str]]) -> None:
    with _lock:
        for at in functions:
            place = _users[at]
            place.blocks -= 1
            if not place.blocks:
                del _users[at]
                if place.namespace.get(at[1]) is place.dispatcher:  # not where somebody put his own there meanwhile
                    place.namespace[at[1]] = place.function


def _dispatcher(name: str, function: Callable) -> Callable:
    @functools.wraps(function)
    def dispatch(*args, **kwargs):
        handler = _handler.get()
        return function(*args, **kwargs) if handler is None else handler(name, function, args, kwargs)

    return dispatch
