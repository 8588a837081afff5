"""Settings that all tests share: the same examples in every run, and no clock in the verdict."""

from importlib.util import find_spec

import pytest
import torch

if find_spec("hypothesis"):  # where there is a GPU, there may be no more than torch, triton and pytest
    from hypothesis import settings

    settings.register_profile("dsf", max_examples=100, deadline=None, derandomize=True, database=None)
    settings.load_profile("dsf")

NEIGHBOURS = 4


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def pytest_addoption(parser):
    parser.addoption("--share", metavar="I/N", help="the I-th of N shares of the tests, for N processes side by side")


@pytest.hookimpl(trylast=True)  # of what -m and -k leave
def pytest_collection_modifyitems(config, items):
    """Neighbours stay together: they compile the same programs."""
    if config.getoption("--share"):
        mine, count = map(int, config.getoption("--share").split("/"))
        left_out = [item for place, item in enumerate(items) if place // NEIGHBOURS % count != mine]
        items[:] = [item for place, item in enumerate(items) if place // NEIGHBOURS % count == mine]
        config.hook.pytest_deselected(items=left_out)
