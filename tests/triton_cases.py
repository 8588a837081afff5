"""What the tests of Triton kernels share: they run in its interpreter (small sizes, fp32) or on a GPU, the same ones.

TRITON_INTERPRET=1 python -m pytest -m interpreter tests        python -m pytest -m gpu tests
"""

import os

import pytest
import torch

from kernel_cases import close, draw, in_dtype, run, start

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
    monkeypatch.setattr("dsf_kernels.gpu.walk_cut.LEAST", 1)
    monkeypatch.setattr("dsf_kernels.gpu.launching.MULTIPROCESSORS", 10**4)
    monkeypatch.setattr("dsf_kernels.gpu.walk_cut.multiprocessors", lambda device: 10**4)


PACK = (0, 5, 5, 70, 71, 140)  # where sequences end: one that is empty, one of a step, one with a chunk and a tail


def check_packed(kernel, architecture, ends=PACK, change=lambda signals: signals, **sizes):
    """Sequences in one pack, each from a state of its own, run as they lie, against separate runs in fp64."""
    signals, u = draw(architecture, ends[-1], **{"batch": 1, "heads": 2} | sizes)
    signals, ends = change(signals), torch.tensor(ends)
    one = start(architecture, signals, u)
    state = torch.randn(len(ends) - 1, *one.shape[1:], dtype=one.dtype, generator=torch.Generator().manual_seed(3))
    signals, u, state = ({k: rounded(x) for k, x in signals.items()}, rounded(u), rounded(state))
    expected = run(architecture, signals, u, state, "reference", cu_seqlens=ends)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dsf_kernels.dispatch.run_packed", None)  # no separate runs
        found = run(architecture, signals, u, state, kernel, torch.float32, DEVICE, cu_seqlens=ends.to(DEVICE))
    wrong = [name for name, value in expected.items() if not close(found[name], value, FP32)]
    assert not wrong, f"{kernel} differs from the reference in {wrong}"


def rounded(x):
    return in_dtype(in_dtype(x, torch.float32), torch.float64)
