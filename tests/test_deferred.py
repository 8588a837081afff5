"""Systems that are not computed yet: the same numbers as computed ones, in blocks, without the memory."""

import copy
import pickle
from dataclasses import replace

import pytest
import torch

import dsf
from dsf.deferred import LONG, Deferred
from dsf.reference import scan
from dsf.system import System
from dsf_kernels import blocks, registry
from dsf_kernels.costs import Cost
from dsf_kernels.reach import why_not
from dsf_kernels.states import run_states
from kernel_cases import EXACT, check_half, check_pieces, close, draw, run, start

MAMBA = dsf.architecture_named("mamba")
SIZES = {"heads": 6, "n": 8, "p": 1}


@dsf.architecture("Wide decays", register=False)
def wide(dt=dsf.Positive, rate=dsf.Param(dsf.Vector(0, 2)), c=dsf.Shared(dsf.Vector), unused=dsf.Scalar):
    a = dsf.decay(-dt * rate)
    return dsf.System(A=dsf.diag(a), B=dsf.diag(1 - a) @ dsf.I, C=dsf.diag(c), readout=dsf.tanh)


@pytest.fixture(autouse=True)
def a_plain_kernel(monkeypatch):
    """A kernel of each form, in plain torch, which no machine lacks; and blocks of 64 steps."""
    registered = dict(registry.kernels())
    monkeypatch.setattr(registry, "_REGISTRY", registered)
    monkeypatch.setattr(blocks, "NUMBERS", 1)

    @registry.kernel("plain states", covers=dsf.Diagonal, form="states", cost=lambda z: Cost(0, 0))
    def states(A, w, x):
        found = []
        for a, now in zip(dsf.values.value(A.d).expand(w.shape[:4]).unbind(1), w.unbind(1), strict=True):
            x = a[..., None] * x + now
            found.append(x)
        return torch.stack(found, 1) if found else w


def evaluated(system):
    return replace(system.evaluated, signals=system.signals)


@pytest.mark.parametrize("architecture", [MAMBA, wide], ids=lambda a: a.name)
@pytest.mark.parametrize("length", [LONG + 1, 320, 700])
def test_blocks_are_the_whole(architecture, length):
    signals, u = draw(architecture, length, **SIZES)
    system = architecture(**signals)
    assert isinstance(system, Deferred) and "evaluated" not in vars(system)
    state = start(architecture, signals, u)
    expected = run(architecture, signals, u, state, "reference")
    found = run(architecture, signals, u, state, "plain states")
    assert not [name for name in expected if not close(found[name], expected[name], EXACT)]


def test_a_run_computes_no_operator_of_the_whole_sequence():
    signals, u = draw(MAMBA, 700, **SIZES)
    system = MAMBA(**signals)
    dsf.explain(system, u)
    y, _ = dsf.simulate(system, u)
    assert dsf.explain(system, u).kernel == "plain states"
    assert not vars(system).keys() & {"evaluated", "A", "B", "C", "D"}
    assert close(y, scan(system, u)[0], EXACT) and "evaluated" in vars(system)


def test_pieces_halves_and_gradients_of_gradients():
    signals, u = draw(MAMBA, 600, **SIZES)
    check_pieces("plain states", MAMBA, signals, u)
    check_half("plain states", MAMBA, signals, u, torch.bfloat16)

    def twice(backend):
        u.requires_grad_(), signals["dt"].requires_grad_()
        y, _ = dsf.simulate(MAMBA(**signals), u, backend=backend)
        (g,) = torch.autograd.grad(y.square().sum(), signals["dt"], create_graph=True)
        return torch.autograd.grad(g.square().sum(), (u, signals["dt"]))

    for a, b in zip(twice("plain states"), twice("reference"), strict=True):
        assert close(a, b, 1e-8)


def test_what_is_kept_for_backward_is_small():
    signals, u = draw(MAMBA, 2048, **SIZES)
    signals["dt"].requires_grad_()
    saved = {}
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.setdefault(id(x), x), lambda x: x):
        dsf.simulate(MAMBA(**signals), u)
    whole = 2 * 2048 * 6 * 8  # one operator
    assert sum(x.numel() for x in saved.values()) < whole


def test_short_systems_are_computed_at_once():
    for architecture, length in ((MAMBA, LONG), (wide, 1), (dsf.architecture_named("s4d"), 1000)):
        assert type(architecture(**draw(architecture, length, **SIZES)[0])) is System


def test_blocks_where_they_are_worth_it():
    """Operators that are the signals themselves, and light ones beside a large state that is trained, are run whole."""
    for name, trained, expected in (
        ("mamba", False, True),
        ("mamba", True, True),
        ("gla", False, False),
        ("mamba2", False, False),
        ("mamba2", True, False),
    ):
        architecture = dsf.architecture_named(name)
        signals, u = draw(architecture, 300, heads=2, n=16, p=1 if name == "mamba" else 16)
        u.requires_grad_(trained)
        assert blocks.suits(architecture(**signals), u, None) is expected, (name, trained)


def test_a_signal_that_was_changed_in_place_is_told():
    signals, u = draw(MAMBA, 300, **SIZES)
    system = MAMBA(**signals)
    signals["dt"].mul_(2)
    for use in (lambda: system.A, lambda: dsf.simulate(system, u), lambda: system.slice(0, 9)):
        with pytest.raises(RuntimeError, match="changed in place"):
            use()
    y, _ = dsf.simulate(MAMBA(**signals), u)
    assert y.isfinite().all()


def test_gradients_flow_as_they_would_from_computed_operators():
    """What counts is whether gradients were on when the architecture was called, not when it is looked at."""
    signals, u = draw(MAMBA, 300, **SIZES)
    dt = signals["dt"].requires_grad_()
    system = MAMBA(**signals)
    with torch.no_grad():
        assert system.A.d.log.requires_grad
        without = MAMBA(**signals)
    assert not without.A.d.log.requires_grad and not dsf.simulate(without, u)[0].requires_grad
    assert torch.autograd.grad(dsf.simulate(system, u)[0].sum(), dt)[0].any()
    with torch.inference_mode():
        assert close(dsf.simulate(MAMBA(**signals), u)[0], scan(system, u)[0], EXACT)


def test_it_is_a_system_in_every_other_respect():
    signals, u = draw(MAMBA, 300, **SIZES)
    system = MAMBA(**signals)
    plain = evaluated(MAMBA(**signals))
    assert isinstance(system, System) and system.length == 300 and system.heads == 6 and system.batch == 2
    assert (system.state_size, system.input_size, system.reads, system.normalised) == (8, None, "after", False)
    assert system.dependence() == plain.dependence() and repr(system) == repr(plain)
    assert type(replace(system, D=0)) is System and replace(system, D=0).D == 0
    assert torch.equal(system.dense(), plain.dense())
    for other in (copy.deepcopy(system), pickle.loads(pickle.dumps(system))):
        assert torch.equal(scan(other, u)[0], scan(plain, u)[0])
    cut = system.slice(10, 290)
    assert isinstance(cut, Deferred) and close(
        scan(cut, u[:, 10:290])[0], scan(plain.slice(10, 290), u[:, 10:290])[0], 0
    )
    assert cut.at(3).A.d.log.shape == plain.at(13).A.d.log.shape


def test_wrong_shapes_are_told_as_ever():
    signals, u = draw(MAMBA, 300, **SIZES)
    with pytest.raises(ValueError, match="axis T"):
        MAMBA(**signals | {"dt": signals["dt"][:, 1:]})
    with pytest.raises(ValueError, match="axis H"):
        dsf.simulate(MAMBA(**signals), u[:, :, :1])
    with pytest.raises(ValueError, match="the state should be"):
        dsf.simulate(MAMBA(**signals), u, torch.zeros(2, 6, 7, 1))
    assert why_not(registry.kernels()["chunked_scalar"], MAMBA(**signals)) == "Diagonal does not climb to Scaled"


def test_states_are_read_before_the_step_where_the_system_says_so():
    signals, u = draw(wide, 20, **SIZES)
    system = replace(wide(**signals), reads="before")
    u = torch.randn(2, 20, 6, 8, dtype=torch.float64)
    found = run_states(dsf.Diagonal, registry.kernels()["plain states"].run, system, u, None)
    for a, b in zip(found, scan(system, u), strict=True):
        assert close(a, b, EXACT)
