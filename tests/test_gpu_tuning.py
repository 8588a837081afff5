"""`dsf tune`: what is measured to be faster is kept and used; what computes something else is not."""

import json
from dataclasses import replace

import pytest
import torch

from dsf_kernels.benchmarks import tuning
from dsf_kernels.benchmarks.case import Shape
from dsf_kernels.benchmarks.cases import cases_named
from dsf_kernels.benchmarks.measure import Protocol
from dsf_kernels.gpu import configurations
from dsf_kernels.gpu.configurations import COLUMNS, Configuration, asked, configuration, forced, rule
from long_cases import some_slow
from triton_cases import MARKS

pytestmark = [*MARKS, pytest.mark.skipif(torch.cuda.is_available(), reason="here the clock is the test's own")]
CPU = torch.device("cpu")
KEY = "walk 16 16 float32"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DSF_TUNED", str(tmp_path))
    configurations.tuned.cache_clear()
    yield tmp_path
    configurations.tuned.cache_clear()


@pytest.fixture
def small(monkeypatch):
    """One small case, and a clock to which two warps are fast; one warp comes before them."""
    only(monkeypatch, "linear_attention", Shape(1, 5, 1, 4, 3))
    monkeypatch.setattr(tuning, "beside", lambda how, most: [Configuration(16, 1, 1), Configuration(16, 2, 1)])

    def clock(call):
        with asked() as programs:
            call()
        return 1.0 if programs[KEY].warps == 2 else 2.0

    return clock


def only(monkeypatch, name, shape):
    (case,) = cases_named([name])
    monkeypatch.setattr(tuning, "cases_named", lambda names: [replace(case, shapes={"cpu": (shape,)})])


def tuned(clock, backend="triton_scalar"):
    how = dict(device="cpu", dtype=torch.float32, protocol=Protocol(1, 1, least=1), clock=clock)
    return {one.key: one for one in tuning.tune(backend=backend, **how)}


def test_what_is_faster_is_kept_and_used(folder, small):
    found = tuned(small)
    assert set(found) == {KEY, "scalar_gradients 16 16 float32"}
    assert found[KEY].now == Configuration(16, 2, 1)
    assert (found[KEY].milliseconds_before, found[KEY].milliseconds) == (2000.0, 1000.0)
    assert json.loads((folder / "cpu.json").read_text()) == {KEY: {"columns": 16, "warps": 2, "stages": 1}}
    assert configuration("walk", 4, 3, torch.float32, CPU) == Configuration(16, 2, 1)
    assert configuration("walk", 64, 64, torch.float32, CPU) == rule(64, 64, torch.float32)


def test_what_computes_something_else_is_left_out(folder, small, monkeypatch):
    monkeypatch.setattr(tuning, "SAME", -1.0)
    one = tuned(small)[KEY]
    assert one.now == rule(4, 3, torch.float32) and not list(folder.iterdir())
    assert one.left_out[0] == "16 columns, 1 warps, 1 stages: it computes something else"


def test_what_does_not_compile_is_left_out_and_told(folder, small, monkeypatch):
    monkeypatch.setattr(tuning, "beside", lambda how, most: [Configuration(3, 4, 1), Configuration(16, 2, 1)])
    one = tuned(small)[KEY]
    assert one.now == Configuration(16, 2, 1) and len(one.left_out) == 1
    assert one.left_out[0].startswith("3 columns, 4 warps, 1 stages: ") and "power of 2" in one.left_out[0]


def test_a_candidate_that_fails_or_differs_does_not_work():
    y = torch.ones(3)
    assert tuning._why_not(lambda: [y + 1e-3], [y]) is None
    assert tuning._why_not(lambda: [y + 1], [y]) == tuning._why_not(lambda: [y * torch.nan], [y]) is not None
    assert tuning._why_not(lambda: 1 / 0, [y]) == "ZeroDivisionError: division by zero"


def test_what_is_tried_lies_beside_and_can_be_kept():
    for columns in COLUMNS:
        how = Configuration(columns, 4, 2)
        found = tuning.beside(how, 128)
        assert len(set(found)) == len(found) and how not in found and all(one.possible for one in found)
        assert max(one.columns for one in found) == min(2 * columns, max(128, columns))
        assert {one.warps for one in found} == {2, 4, 8} and {one.stages for one in found} == {1, 2, 3}


REACHED = {  # case: kernel, what it asks for
    "dense": ("triton_dense", {"dense", "dense_backward"}),
    "rglru": ("triton_states", {"few_states"}),
    "mamba": ("triton_fused_diagonal", {"fused_forward_mamba", "fused_backward_mamba"}),
    "gla": ("triton_diagonal", {"walk", "diagonal_prepare", "diagonal_gradients"}),
    "kda": ("triton_low_rank", {"low_rank_walk", "low_rank_prepare_by_channel", "low_rank_gradients_by_channel"}),
    "gated_deltanet": ("triton_step_low_rank", {"step"}),
    "s4d": ("triton_constant", {"constant"}),
}


@pytest.mark.parametrize("name", some_slow(REACHED, "gla", "kda", "mamba"))
def test_every_program_is_tuned_from_a_case_that_reaches_it(folder, name, monkeypatch):
    """Twice the columns, and more stages: the programs take them, and compute the same."""
    kernel, programs = REACHED[name]
    monkeypatch.setattr("dsf.deferred.LONG", 0 if name == "mamba" else 10**9)
    only(monkeypatch, name, Shape(1, 64 if name == "s4d" else 5, 1, 4, 1 if name in ("rglru", "mamba", "s4d") else 3))
    twice = lambda how, most: [] if how.stages == 4 else [replace(how, columns=2 * how.columns, stages=4)]  # noqa: E731
    monkeypatch.setattr(tuning, "beside", twice)

    def clock(call):
        with asked() as found:
            call()
        return 1 / sum(how.columns for how in found.values())

    found = tuned(clock, kernel)
    assert {key.rsplit(" ", 3)[0] for key in found} == programs
    assert all(one.now.columns == 2 * one.before.columns and not one.left_out for one in found.values())


def test_a_folder_that_cannot_be_read_holds_nothing(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", "~nobody-of-that-name"):
        configurations.tuned.cache_clear()
        monkeypatch.setenv("DSF_TUNED", str(folder))
        assert configuration("walk", 4, 3, torch.float32, CPU) == rule(4, 3, torch.float32)
    configurations.tuned.cache_clear()


FLOATS = '{"walk": {"columns": 16.0, "warps": 4, "stages": 1}}'
IMPOSSIBLE = '{"walk": {"columns": 3, "warps": 4, "stages": 1}}'


@pytest.mark.parametrize("text", ["{", "[]", '{"walk": 3}', FLOATS, IMPOSSIBLE])
def test_a_damaged_file_is_told(folder, text):
    (folder / "cpu.json").write_text(text)
    with pytest.raises(ValueError, match="dsf tune"):
        configuration("walk", 4, 3, torch.float32, CPU)


def test_forced_in_a_block_only():
    with forced(KEY, Configuration(32, 1, 1)):
        assert configuration("walk", 4, 3, torch.float32, CPU).columns == 32
    assert configuration("walk", 4, 3, torch.float32, CPU).columns == 16
