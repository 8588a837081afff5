"""Cases of a parametrised test that take long, and are left to `make test-all`."""

import pytest


def some_slow(names, *slow):
    """The names as parameters, those among `slow` marked so.

    >>> [case.marks for case in some_slow(["a", "b"], "b") if case != "a"][0][0].name
    'slow'
    """
    return [pytest.param(*_values(name), marks=pytest.mark.slow) if name in slow else name for name in names]


def _values(name):
    """A tuple holds the values of several parameters."""
    return name if isinstance(name, tuple) else (name,)
