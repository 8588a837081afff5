"""Which compiled kernel is chosen, where its cost is near another's; and the cache of what is compiled."""

import os
import subprocess
import sys

import pytest
import torch

import dsf
from dsf_kernels.cpu import compiling
from kernel_cases import HALF, close

pytest.importorskip("numba")

DIAGONAL, LOW_RANK, ONE_HOT, DENSE = (f"compiled_{name}" for name in ("diagonal", "low_rank", "one_hot", "dense"))


@dsf.architecture("A matrix of every step", register=False)
def matrix(M=dsf.Matrix, b=dsf.Vector, c=dsf.Vector):
    return dsf.System(A=0.3 * M, B=b, C=c)


@dsf.architecture("One-hot times diagonal", register=False)
def one_hot(p=dsf.Index, d=dsf.Vector(-1, 1), b=dsf.Vector, c=dsf.Vector):
    return dsf.System(A=dsf.OneHotDiagonal(p, d), B=b, C=c)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    "name, kernel", [("gla", DIAGONAL), ("kda", LOW_RANK), (matrix, DENSE), ("gla", "compiled_states")]
)
def test_gradients_in_half_precision(name, kernel, dtype):
    """Rounded to half precision once, at the end: those of the reference in fp64, within its last bits."""
    architecture = name if isinstance(name, dsf.Architecture) else dsf.architecture_named(name)
    signals, u = architecture.sample(1, 70, 2, 8, 4, torch.float64, torch.Generator().manual_seed(0))
    gradients = []
    for kind, backend in ((dtype, kernel), (torch.float64, "reference")):
        leaves = {k: x.to(dtype).to(kind).requires_grad_() for k, x in (signals | {"u": u}).items()}
        y, _ = dsf.simulate(architecture(**{k: leaves[k] for k in signals}), leaves["u"], backend=backend)
        gradients.append(torch.autograd.grad(y.double().square().sum(), list(leaves.values())))
    for found, expected in zip(*gradients, strict=True):
        assert found.dtype == dtype and close(found, expected, 2 * HALF[dtype])


def chosen(architecture, length, n, p):
    if isinstance(architecture, str):
        architecture = dsf.architecture_named(architecture)
    signals, u = architecture.sample(1, length, 2, n, p)
    return dsf.explain(architecture(**signals), u).kernel


@pytest.mark.parametrize("length", [64, 1000])
@pytest.mark.parametrize("n, p", [(16, 16), (16, 64), (64, 64), (128, 128), (64, 16)])
def test_each_structure_has_its_kernel(n, p, length):
    assert chosen("gla", length, n, p) == chosen("linear_attention", length, n, p) == DIAGONAL
    assert chosen("gated_deltanet", length, n, p) == chosen("kda", length, n, p) == LOW_RANK
    assert chosen(one_hot, length, n, p) == ONE_HOT
    assert length * n * n > 2**20 or chosen(matrix, length, n, p) == DENSE


@pytest.mark.parametrize("architecture", ["gla", "gated_deltanet", matrix, one_hot])
def test_one_token_is_a_step(architecture):
    assert chosen(architecture, 1, 16, 16) == "sequential"


def test_rows_of_one_entry_stay_diagonal():
    assert chosen("gla", 1000, 1, 64) == DIAGONAL
    assert chosen("mamba", 1000, 16, 1) == DIAGONAL


def test_the_folder_of_the_cache_changes_with_any_source(tmp_path, monkeypatch):
    monkeypatch.setattr(compiling, "HERE", tmp_path)
    folders = []
    for text in ("x = 1", "x = 2"):
        (tmp_path / "helper.py").write_text(text)
        folders.append(compiling.cache_folder.__wrapped__())
    assert folders[0] != folders[1] and all(tmp_path in folder.parents for folder in folders)


RUN = """
import torch, dsf
architecture = dsf.architecture_named("{name}")
signals, u = architecture.sample(1, 70, 3, 16, {p}, torch.float64, torch.Generator().manual_seed(0))
y, expected = (dsf.simulate(architecture(**signals), u, backend=b)[0] for b in ("{kernel}", "reference"))
assert torch.allclose(y, expected, rtol=1e-9, atol=1e-9)
print("agrees")
"""
ONES = [("gla", DIAGONAL, 16), ("mamba", DIAGONAL, 1), ("kda", LOW_RANK, 16)]


def in_a_process(code, **environment):
    found = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, timeout=100
    )
    assert found.returncode == 0 and "agrees" in found.stdout, found.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name, kernel, p", ONES)
def test_a_cpu_without_wide_vectors(name, kernel, p, tmp_path):
    in_a_process(
        RUN.format(name=name, kernel=kernel, p=p),
        NUMBA_CPU_NAME="generic",
        NUMBA_CPU_FEATURES="",
        NUMBA_CACHE_DIR=str(tmp_path),
    )


@pytest.mark.slow
def test_no_folder_can_be_written(tmp_path):
    nowhere = "from pathlib import Path\nfrom dsf_kernels.cpu import compiling\n" + (
        "def refuse(*a, **k): raise PermissionError('read-only')\nPath.mkdir = refuse\n"
    )
    after = "\nassert compiling.cache_folder() is None"
    in_a_process(nowhere + RUN.format(name="gla", kernel=DIAGONAL, p=16) + after)


@pytest.mark.slow
def test_a_fork_runs_on():
    """Before and after it by two threads of our own; torch has one, since those of its OpenMP do not outlive a fork."""
    code = RUN.format(name="gla", kernel=DIAGONAL, p=64)
    two = "import os, torch\nfrom dsf_kernels.cpu import running\nrunning.WORTH = 1\ntorch.set_num_threads(1)\n"
    forked = (
        "child = os.fork()\nif child:\n    assert os.waitpid(child, 0)[1] == 0\nelse:\n    run()\n    os._exit(0)\n"
    )
    body = "def run():\n" + "".join(f"    {line}\n" for line in code.splitlines())
    in_a_process(two + "torch.get_num_threads = lambda: 2\n" + body + "run()\n" + forked)


def test_threads_raise_what_fails():
    from dsf_kernels.cpu.running import over_rows

    def fails(kind, memory, lo, hi):
        if hi == 4:
            raise ArithmeticError("of a thread")

    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with pytest.raises(ArithmeticError, match="of a thread"):
            over_rows(fails, (), torch.zeros(1), 1, 4, 1e9)
    finally:
        torch.set_num_threads(threads)
