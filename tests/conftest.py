"""Settings that all tests share: the same examples in every run, and no clock in the verdict."""

import pytest
import torch
from hypothesis import settings

settings.register_profile("dsf", max_examples=100, deadline=None, derandomize=True, database=None)
settings.load_profile("dsf")


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
