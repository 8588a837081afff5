"""Settings that all tests share: the same examples in every run, and no clock in the verdict."""

from importlib.util import find_spec

import pytest
import torch

if find_spec("hypothesis"):  # where there is a GPU, there may be no more than torch, triton and pytest
    from hypothesis import settings

    settings.register_profile("dsf", max_examples=100, deadline=None, derandomize=True, database=None)
    settings.load_profile("dsf")


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
