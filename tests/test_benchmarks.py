"""`dsf bench`: every case end to end at tiny sizes, the protocol, and what is told of peers that are away or wrong."""

import json
import math
import sys
import types
from dataclasses import replace

import pytest
import torch
from typer.testing import CliRunner

import dsf
from dsf.cli import app
from dsf.reference import scan
from dsf_kernels.benchmarks import bench, cases, checks, contest, rates, report
from dsf_kernels.benchmarks.case import Peer, Shape
from dsf_kernels.benchmarks.measure import Protocol, in_turn
from dsf_kernels.benchmarks.memory import peak
from dsf_kernels.benchmarks.peers import PACKAGES, picked
from dsf_kernels.benchmarks.rates import Rates
from dsf_kernels.benchmarks.sides import Side, distance, in_double, reference
from dsf_kernels.benchmarks.table import text
from long_cases import some_slow

RUNNER = CliRunner()
RATES, TWICE = Rates(copy=1e10, product=1e11), Protocol(repeats=2, warmups=1)
CASES = {case.name: case for case in cases.CASES}
AGREES = 1e-4  # relative to the largest entry, fp32


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Small tensors for the rates; the protocol of --quick with two rounds."""
    monkeypatch.setattr(rates, "COPIED", {"cpu": 2**12})
    monkeypatch.setattr(rates, "PRODUCT", {"cpu": 16})
    monkeypatch.setattr(report, "QUICK", TWICE)


def tiny(case, length=64):
    """Its shape with few heads and channels."""
    (shape,) = case.shapes["cpu"]
    return Shape(2, length, min(shape.heads, 3), 4, min(shape.p, 5))


def measured(case, length=64, protocol=TWICE, packages=PACKAGES):
    return contest.contest(case, tiny(case, length), "cpu", torch.float32, packages, RATES, protocol)


def with_peer(load, what="made up", name="gla"):
    """A case with one peer that is made up."""
    return replace(CASES[name], peers=(Peer("other", "torch", what, load, picked("q", "k", "u", "g")),))


def run(*args, status=0):
    result = RUNNER.invoke(app, ["bench", "--device", "cpu", *map(str, args)])
    assert result.exit_code == status, result.output
    return result


# ---------------------------------------------------------------------------------------------------------- every case
@pytest.mark.parametrize(
    "name", some_slow(CASES, "gated_deltanet", "kda", "one_hot", "mamba2", "gla", "dense", "linear_attention")
)
def test_every_side_computes_the_same_and_is_timed(name):
    case, found = CASES[name], measured(CASES[name])
    signals = case.signals(case.base(tiny(case), "cpu", torch.float32))
    system = case.found()(**{k: x for k, x in signals.items() if k != "u"})
    assert found.kernel == dsf.explain(system, signals["u"]).kernel
    rows = {row.name: row for row in found.rows}
    assert list(rows)[0] == "dsf" and {p.name for p in case.peers} <= rows.keys()
    for row in found.rows:
        if row.because:
            assert row.because.endswith(" is not installed") or "runs it on cuda" in row.because, row
            continue
        if row.name != "reference" and row.same:
            assert row.agrees is True and row.error <= AGREES and row.gradient_error <= AGREES, row
        if row.name not in ("dsf", "reference") and row.same:
            assert row.apart <= AGREES
        assert row.timings.keys() == {"forward", "with backward"}
        for direction, timing in row.timings.items():
            assert (timing.repeats, timing.warmups, timing.because) == (2, 1, None)
            assert 0 < timing.quickest <= timing.milliseconds
            own = rows["dsf"].timings[direction].milliseconds
            assert math.isclose(timing.ratio, timing.milliseconds / own)
            if row.same:
                assert math.isclose(timing.share_of_floor, found.floor[direction] / timing.milliseconds)
                assert math.isclose(timing.gb_per_s / timing.gflop_per_s, found.bytes / found.flops)
    assert any(row.same and row.because is None for row in found.rows[1:]), "nothing to compare with"
    assert math.isclose(found.floor["with backward"], 3 * found.floor["forward"]) and found.floor["forward"] > 0


def test_the_shapes_of_a_device_and_of_a_length():
    for case in CASES.values():
        assert {"cpu", "cuda"} == case.shapes.keys() and len(set(case.shapes["cuda"])) == len(case.shapes["cuda"])
    assert report._shapes(CASES["gla"], "cuda", 128) == [Shape(8, 128, 16, n, n) for n in (64, 128)]


def test_without_a_peer_the_reference_runs_on_a_short_piece():
    found = measured(CASES["one_hot"], 520)
    dsf_row, loop = found.rows
    assert (dsf_row.length, loop.name, loop.length) == (520, "reference", 256)
    per_token = (loop.timings["forward"].milliseconds / 256) / (dsf_row.timings["forward"].milliseconds / 520)
    assert math.isclose(loop.timings["forward"].ratio, per_token)


# ------------------------------------------------------------------------------------------------------ peers that fail
def test_a_peer_that_differs_is_told_and_fails_the_command(monkeypatch):
    attention = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(cases, "CASES", (with_peer(lambda: lambda q, k, u, g: attention(q, k, u)),))
    monkeypatch.setitem(CASES["gla"].shapes, "cpu", (Shape(1, 8, 2, 4, 4),))
    result = run("--quick", status=1)
    assert "DIFFERS" in result.stdout
    assert measured(cases.CASES[0]).rows[1].agrees is False


def test_a_peer_that_differs_in_its_gradients_only():
    theirs = with_peer(lambda: lambda q, k, u, g: _gla(q, k, u, g.detach()) + 0 * g.sum())
    row = measured(theirs).rows[1]
    assert row.error <= AGREES and row.gradient_error > 0.5 and row.agrees is False


def test_a_peer_that_fails_does_not_end_the_run():
    found = measured(with_peer(lambda: lambda *inputs: 1 / 0))
    assert found.rows[1].because == "it failed: ZeroDivisionError: division by zero" and not found.rows[1].timings
    assert found.rows[0].timings["forward"].milliseconds


def test_a_peer_that_is_away_is_named(monkeypatch):
    from dsf_kernels.benchmarks import peers

    monkeypatch.setattr(peers, "find_spec", lambda name: None if name == "transformers" else name)
    away = measured(CASES["mamba2"]).rows[-2:]
    assert [row.because for row in away] == ["transformers is not installed", "fla runs it on cuda, not on cpu"]

    def load():
        raise AttributeError("no attribute chunk")

    assert "no such function (no attribute chunk)" in measured(with_peer(load)).rows[-1].because
    assert len(measured(CASES["mamba2"], packages=["torch"]).rows) == 2  # dsf and the reference


def test_what_would_take_too_long_is_not_run(monkeypatch):
    def seconds(clock, call):
        return 11.0 if call.__self__.side.name == "other" else 0.1

    monkeypatch.setattr(checks, "_second", seconds)
    ours, theirs = measured(with_peer(lambda: _gla), 260).rows[:2]
    assert {t.because for t in theirs.timings.values()} == {"it would take about 11 s a call"}
    assert theirs.apart is None and theirs.timings["forward"].milliseconds is None
    assert ours.timings["with backward"].milliseconds and theirs.agrees  # on the short piece
    monkeypatch.setattr(checks, "_second", lambda clock, call: 11.0)  # and dsf itself is no exception
    ours, theirs = measured(CASES["gla"], 260).rows[:2]
    assert ours.timings["forward"].because and theirs.name == "reference" and theirs.timings["forward"].ratio is None


def test_what_would_take_too_much_memory_is_not_run(monkeypatch):
    sizes = {"forward": 10, "with_backward": 1000}
    monkeypatch.setattr(checks, "peak", lambda call, device: sizes[call.__name__])
    monkeypatch.setattr(checks, "available", lambda device: 1000)
    ours, theirs = measured(with_peer(lambda: _gla), 260).rows[:2]
    for row in (ours, theirs):
        assert row.timings["forward"].milliseconds and "GB" in row.timings["with backward"].because


# --------------------------------------------------------------------------------------------------------- the protocol
def test_sides_take_turns_and_warm_ups_do_not_count():
    order, ticks = [], iter(range(1000))

    def clock(call):
        call()
        return 1.0 + next(ticks)

    sides = {name: lambda name=name: order.append(name) for name in ("dsf", "peer")}
    times = in_turn(sides, clock, Protocol(repeats=3, warmups=2, budget=1e9))
    assert order == ["dsf", "peer"] * 5 and times.warmups == 2
    assert times.seconds == {"dsf": [5.0, 7.0, 9.0], "peer": [6.0, 8.0, 10.0]}


def test_long_rounds_are_fewer_and_the_result_says_how_many():
    assert Protocol().rounds(1e-3) == (5, 20) and Protocol().rounds(1e6) == (1, Protocol().least)
    times = in_turn({"slow": lambda: None}, lambda call: 1.0, Protocol(budget=10.0))
    assert len(times.seconds["slow"]) == 8 and times.warmups == 2


def test_the_floor_is_the_slower_of_memory_and_arithmetic():
    cost = dsf.explain(dsf.System(A=0.5 * dsf.I, B=torch.ones(1, 9, 1, 2), C=torch.ones(1, 9, 1, 2))).floor
    slow_memory, slow_products = Rates(copy=1.0, product=1e30), Rates(copy=1e30, product=1.0)
    assert slow_memory.floor(cost) == 1e3 * cost.bytes and slow_products.floor(cost) == 1e3 * cost.flops
    found = rates.measured("cpu", torch.float32)
    assert found.copy > 0 and found.product > 0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells the peak of a call")
def test_peak_memory_of_a_call():
    size = 2**26
    assert 0.9 * size < peak(lambda: torch.ones(size, dtype=torch.uint8), "cpu") < 1.5 * size


# ---------------------------------------------------------------------------------------------------------- the command
def test_the_json_document(monkeypatch):
    monkeypatch.setitem(CASES["linear_attention"].shapes, "cpu", (Shape(1, 8, 2, 4, 4),))
    before = torch.get_num_threads()
    found = json.loads(run("--cases", "linear_attention", "--quick", "--json", "--threads", 3).stdout)
    assert torch.get_num_threads() == before
    assert {"device", "name", "threads", "versions", "date", "dtype", "rates", "protocol", "cases"} <= found.keys()
    assert found["threads"] == 3 and found["versions"]["torch"] == torch.__version__ and found["protocol"]["quick"]
    assert found["rates"]["copy_gb_per_s"] > 0 and found["rates"]["product_gflop_per_s"] > 0
    (case,) = found["cases"]
    assert case["case"] == "linear_attention" and case["kernel"] and case["shape"]["length"] == 8
    rows = {row["name"]: row for row in case["rows"]}
    assert rows.keys() == {"dsf", "torch SDPA", "reference", "fla"} and not rows["torch SDPA"]["same"]
    assert rows["fla"]["because"] and rows["dsf"]["error"] <= AGREES
    timing = rows["dsf"]["timings"]["with backward"]
    assert timing["milliseconds"] > 0 and timing["ratio"] == 1 and "memory_bytes" in timing


def test_the_table_and_markdown(monkeypatch):
    monkeypatch.setitem(CASES["gla"].shapes, "cpu", (Shape(1, 8, 2, 4, 4),))
    printed = run("--cases", "gla", "--quick").stdout
    for word in ("gla: B 1, T 8, H 2, n 4, p 4, float32; kernel ", "QUICK", "Copy ", "GFLOP/s", "chunk_gla, not run"):
        assert word in printed, word
    found = bench(["gla"], "cpu", length=8, quick=True)
    assert max(map(len, text(found, narrow=True).split("\n\n")[1].splitlines())) < 80
    table = [line for line in found.markdown().splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in table}) == 1 and len(table) == 4
    marked = run("--cases", "gla", "--quick", "--markdown").stdout
    assert table[0] in marked and "- gla: B 1" in marked


@pytest.mark.parametrize(
    "args, words",
    [
        (["--cases", "gal"], "no case is called 'gal'; did you mean gla?"),
        (["--against", "jax"], "no peers are known of 'jax'"),
        (["--dtype", "int8"], "--dtype is one of float32"),
        (["--device", "tpu"], "the device is cpu or cuda"),
        (["--json", "--markdown"], "choose one"),
    ],
)
def test_errors_are_told_in_a_line(args, words):
    result = run(*args, status=2)
    (line,) = result.stderr.splitlines()
    assert line.startswith("dsf: ") and words in line and not result.stdout


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_a_device_that_is_absent():
    assert "there is no CUDA device" in run("--device", "cuda", status=2).stderr
    with pytest.raises(ValueError, match="at least 1"):
        bench(length=0, device="cpu")


# ------------------------------------------------------------------------------------------------------------------ fla
def _gla(q, k, v, g):
    return scan(dsf.architecture_named("gla")(q=q, k=k, g=g), v)[0]


def _scalar(q, k, v, g=None, g_gamma=None, scale=None):
    return _scaled(_gla(q, k, v, g[..., None].expand(k.shape)), k, scale)


def _delta(name):
    def chunk(q, k, v, g, beta, scale=None):
        return _scaled(scan(dsf.architecture_named(name)(q=q, k=k, g=g, beta=beta), v)[0], k, scale)

    return chunk


def _linear(q, k, v, scale=None, initial_state=None, output_final_state=False, normalize=True):
    y = scan(dsf.architecture_named("linear_attention")(q=q, k=k), v)[0]
    return _scaled(y / 0 if normalize else y, k, scale)


def _scaled(y, k, scale):
    return y * (k.shape[-1] ** -0.5 if scale is None else scale), None


FLA = {  # name of the case -> module, function, a stand-in with fla's parameters, defaults and layout
    "linear_attention": ("linear_attn", "chunk_linear_attn", _linear),
    "mamba2": ("simple_gla", "chunk_simple_gla", _scalar),
    "gla": ("gla", "chunk_gla", lambda q, k, v, g, scale=None: _scaled(_gla(q, k, v, g), k, scale)),
    "gated_deltanet": ("gated_delta_rule", "chunk_gated_delta_rule", _delta("gated_deltanet")),
    "kda": ("kda", "chunk_kda", _delta("kda")),
}


@pytest.mark.parametrize("name", FLA)
def test_how_fla_is_called(name, monkeypatch):
    """fla needs a GPU; a stand-in with its parameters shows that scale and layout are those of dsf's recurrence."""
    module, function, stand_in = FLA[name]
    case = CASES[name]
    (peer,) = (peer for peer in case.peers if peer.package == "fla")
    fake = types.ModuleType(f"fla.ops.{module}")
    setattr(fake, function, stand_in)
    for parent in ("fla", "fla.ops"):
        monkeypatch.setitem(sys.modules, parent, types.ModuleType(parent))
    monkeypatch.setitem(sys.modules, f"fla.ops.{module}", fake)
    base = in_double(case.base(tiny(case, 9), "cpu", torch.float64))
    expected, gradients = reference(case, 9).gradients(base)
    y, found = Side("fla", "fla", "", 9, peer.load(), peer.arrange, peer.back).gradients(base)
    assert distance(y, expected) <= 1e-12 and all(distance(found[k], gradients[k]) <= 1e-10 for k in gradients)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", CASES)
def test_on_a_gpu(name, monkeypatch):
    monkeypatch.undo()
    found = bench([name], "cuda", length=256, quick=True)
    assert found.agrees and all(row.timings["forward"].memory_bytes > 0 for row in found.found[0].rows if row.timings)
