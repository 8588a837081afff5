"""Shares of the tests, for processes side by side: every test is in one of them."""

from types import SimpleNamespace

import pytest

from conftest import pytest_collection_modifyitems


def share(tests, which):
    left_out = []
    hook = SimpleNamespace(pytest_deselected=lambda items: left_out.extend(items))
    items = list(tests)
    pytest_collection_modifyitems(SimpleNamespace(getoption=lambda name: which, hook=hook), items)
    assert sorted(items + left_out) == list(tests)
    return items


@pytest.mark.parametrize("count", [1, 3, 16])
def test_shares_are_the_whole(count):
    tests = range(100)
    shares = [share(tests, f"{i}/{count}") for i in range(count)]
    assert all(shares) and sorted(sum(shares, [])) == list(tests)
    assert share(tests, None) == list(tests)
