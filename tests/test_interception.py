"""Functions are handed to the handler of their own thread, and given back whatever happens."""

import functools
import gc
import sys
import threading
import types
import weakref

import pytest
from torch import nn

from dsf import interception
from dsf.interception import intercepted, places, untouched
from dsf.recording import signature_of

FILE = "a_file_for_the_test_of_interception"


@pytest.fixture
def file(monkeypatch):
    module = types.ModuleType(FILE)
    exec("def f(x):\n    return x + 1\ndef g(x):\n    return f(x) * 10", vars(module))
    monkeypatch.setitem(sys.modules, FILE, module)
    return module


def times(factor):
    return lambda name, function, args, kwargs: factor * function(*args, **kwargs)


def test_a_block_a_nested_block_and_afterwards(file):
    own = file.f
    with intercepted([(FILE, "f")], times(2)):
        assert file.f(1) == 4 and file.g(1) == 40 and file.f.__name__ == "f"
        with intercepted([(FILE, "f"), (FILE, "g")], times(3)):
            assert file.f(1) == 6 and file.g(1) == 3 * 60
            with untouched():
                assert file.g(1) == 20
        assert file.f(1) == 4
    assert file.f is own and not interception._users


def test_an_exception_gives_them_back(file):
    own = file.f
    with pytest.raises(ZeroDivisionError), intercepted([(FILE, "f")], times(2)):
        1 / 0  # noqa: B018
    assert file.f is own and file.g(1) == 20


def test_blocks_of_threads_end_in_any_order(file):
    """The dispatcher stays for as long as one of them needs it."""
    own, inside, free = file.f, threading.Event(), threading.Event()

    def outlasting():
        with intercepted([(FILE, "f")], times(5)):
            inside.set()
            free.wait(timeout=10)
            found.append(file.g(1))

    found = []
    thread = threading.Thread(target=outlasting)
    with intercepted([(FILE, "f")], times(2)):
        thread.start()
        inside.wait(timeout=10)
    assert file.f is not own and file.g(1) == 20
    free.set()
    thread.join()
    assert found == [100] and file.f is own and not interception._users


def test_what_others_put_there_meanwhile_stays(file):
    own = file.f
    with intercepted([(FILE, "f")], times(2)):
        wrapped = file.f
        file.f = lambda x: wrapped(x) + 100
        assert file.f(1) == 104
    assert file.f(1) == 102 and not interception._users
    file.f = own
    with intercepted([(FILE, "f"), (FILE, "g")], times(2)):
        del sys.modules[FILE]
    assert file.f is own and file.g(1) == 20


def test_a_handler_that_fails_and_functions_that_fail(file):
    def failing(name, function, args, kwargs):
        raise KeyError(name)

    own = file.f
    with pytest.raises(KeyError, match="'f'"), intercepted([(FILE, "f")], failing):
        file.g(1)
    with pytest.raises(TypeError, match="can only concatenate"), intercepted([(FILE, "f")], times(2)), untouched():
        file.f("x")
    assert file.f is own and file.g(1) == 20 and interception._handler.get() is None


def test_two_threads_have_their_own_handlers(file):
    own, found, both = file.f, {}, threading.Barrier(3)

    def run(factor):
        with intercepted([(FILE, "f")], times(factor)):
            both.wait(timeout=10)
            found[factor] = file.g(1)
            both.wait(timeout=10)

    threads = [threading.Thread(target=run, args=(factor,)) for factor in (5, 7)]
    for thread in threads:
        thread.start()
    both.wait(timeout=10)
    assert file.g(1) == 20  # this thread has none
    both.wait(timeout=10)
    for thread in threads:
        thread.join()
    assert found == {5: 100, 7: 140} and file.f is own and not interception._users


def test_places_are_those_of_the_classes_files(file):
    Mixer = type("Mixer", (nn.Module,), {"__module__": FILE})
    Child = type("Child", (Mixer,), {})
    assert places([Mixer()], ["f", "h"]) == [(FILE, "f")]
    assert places([Child(), nn.Linear(1, 1)], ["f", "g"]) == [(FILE, "f"), (FILE, "g")]


def test_a_signature_is_read_once_and_keeps_nothing_alive():
    """Of a function and of its methods, which are new objects at every call; they differ by the first parameter."""

    def make():
        def forward(self, x, scale=2.0): ...

        return forward

    forward = make()
    first, second = (types.MethodType(forward, object()) for _ in range(2))
    assert list(signature_of(forward).parameters) == ["self", "x", "scale"]
    assert list(signature_of(first).parameters) == ["x", "scale"]
    assert signature_of(first) is signature_of(second)
    assert list(signature_of(functools.partial(forward, None)).parameters) == ["x", "scale"]
    gone = weakref.ref(forward)
    del forward, first, second
    gc.collect()
    assert gone() is None
