"""What the tests of Triton kernels share: they run in its interpreter (small sizes, fp32) or on a GPU, the same ones.

TRITON_INTERPRET=1 python -m pytest -m interpreter tests        python -m pytest -m gpu tests
"""

import os

import pytest
import torch

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
LENGTHS = (1, 63, 64, 65, 130)  # one, around a chunk, several with a tail
FP32 = 2e-5  # relative to the largest entry, against the reference in fp64
MARKS = [
    pytest.mark.interpreter,
    pytest.mark.gpu,
    pytest.mark.skipif(not INTERPRETED and not torch.cuda.is_available(), reason="neither TRITON_INTERPRET=1 nor CUDA"),
]


@pytest.fixture
def many_segments(monkeypatch):
    """Runs are cut in time wherever they have two chunks."""
    monkeypatch.setattr("dsf_kernels.gpu.walking.LEAST", 1)
    monkeypatch.setattr("dsf_kernels.gpu.launching.MULTIPROCESSORS", 10**4)
    monkeypatch.setattr("dsf_kernels.gpu.walking.multiprocessors", lambda device: 10**4)
