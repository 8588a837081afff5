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
from dsf_kernels.gpu.configurations import Configuration, asked, configuration, forced, rule
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
    """One small case, and a clock to which two warps are fast."""
    (case,) = cases_named(["linear_attention"])
    case = replace(case, shapes={"cpu": (Shape(1, 20, 1, 4, 3),)})
    monkeypatch.setattr(tuning, "cases_named", lambda names: [case])
    monkeypatch.setattr(tuning, "CANDIDATES", [Configuration(16, 1, 1), Configuration(16, 2, 1)])

    def clock(call):
        with asked() as programs:
            call()
        return 1.0 if programs[KEY].warps == 2 else 2.0

    return clock


def tuned(clock):
    how = dict(device="cpu", dtype=torch.float32, protocol=Protocol(1, 1, least=1), clock=clock)
    return {one.key: one for one in tuning.tune(backend="triton_scalar", **how)}


def test_what_is_faster_is_kept_and_used(folder, small):
    found = tuned(small)
    assert set(found) == {KEY, "scalar_gradients 16 16 float32"}
    assert found[KEY].now == Configuration(16, 2, 1)
    assert (found[KEY].milliseconds_before, found[KEY].milliseconds) == (2000.0, 1000.0)
    assert json.loads((folder / "cpu.json").read_text()) == {KEY: {"columns": 16, "warps": 2, "stages": 1}}
    assert configuration("walk", 4, 3, torch.float32, CPU) == Configuration(16, 2, 1)
    assert configuration("walk", 64, 64, torch.float32, CPU) == rule(64, 64, torch.float32)


def test_what_computes_something_else_is_left_out(folder, small, monkeypatch):
    monkeypatch.setattr(tuning, "_works", lambda candidate, expected: False)
    assert tuned(small)[KEY].now == rule(4, 3, torch.float32) and not list(folder.iterdir())


def test_a_candidate_that_fails_or_differs_does_not_work():
    y = torch.ones(3)
    assert tuning._works(lambda: [y + 1e-3], [y])
    assert not tuning._works(lambda: [y + 1], [y])
    assert not tuning._works(lambda: [y * torch.nan], [y])
    assert not tuning._works(lambda: 1 / 0, [y])


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
