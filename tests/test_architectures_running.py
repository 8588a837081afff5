"""Every architecture as it runs: lifts, causality, a carried state, axes of size 1 and 0."""

import pytest
import torch

import dsf
from dsf.algebra import dense
from dsf.lattice import LIFTS, climb, path, vector_like
from dsf.reference import scan
from helpers import assert_close, at_times, linear, numbers, relative, sampled

EXACT = 1e-10  # fp64, two orders of the same operations

ARCHITECTURES = dict(dsf.architectures())
every = pytest.mark.parametrize("name", ARCHITECTURES)
FORGETFUL = {"retnet", "mamba2", "mlstm", "rwkv4"}  # scalar decays, in which one number ends all


def small(name, **sizes):
    arch = ARCHITECTURES[name]
    return arch, *sampled(arch, **sizes)


@every
def test_every_lift_acts_as_the_operator(name):
    arch, signals, u = small(name, length=3)
    system = linear(arch, signals, u)
    like, n = vector_like(system), system.state_size
    dtype = torch.complex128 if any(leaf.is_complex() for leaf in system.leaves) else torch.float64
    x = numbers(2, 3, 2, n, 2, seed=8, dtype=torch.float64).to(dtype)
    expected, reached = system.A.apply(x), set()
    for structure in {hi for above in LIFTS.values() for hi in above}:
        if path(type(system.A), structure) and (lifted := climb(system.A, structure, n, like)) is not None:
            assert type(lifted) is structure
            assert relative(lifted.apply(x), expected) < EXACT
            reached.add(structure)
    assert dsf.Dense in reached
    M = dense(system.A, n, like.new_zeros(1))
    assert relative((M.to(dtype) @ x), expected) < EXACT


runs = pytest.mark.parametrize("run", [scan, dsf.simulate], ids=["reference", "simulate"])


@runs
@every
def test_the_past_does_not_see_the_future(name, run):
    arch, signals, u = small(name, length=9)
    cut = 5

    def change(x):
        return torch.cat([x[:, :cut], x[:, cut:].flip(1) * 0.5], 1)

    y = run(arch(**signals), u)[0]
    changed = run(arch(**at_times(arch, signals, change)), change(u))[0]
    assert torch.equal(changed[:, :cut], y[:, :cut])
    assert relative(changed, y) > 1e-3


@runs
@every
def test_a_carried_state_continues_the_run(name, run):
    arch, signals, u = small(name, length=9)
    whole = run(arch(**signals), u)
    state, outputs = None, []
    for start, stop in ((0, 1), (1, 4), (4, 4), (4, 9)):
        part = arch(**at_times(arch, signals, slice(start, stop)))
        y, state = run(part, u[:, start:stop], state)
        outputs.append(y)
    assert_close((torch.cat(outputs, 1), state), whole, EXACT)
    forgotten = run(arch(**at_times(arch, signals, slice(4, None))), u[:, 4:])[0]
    if name not in FORGETFUL:  # random decays may have forgotten everything by then
        assert relative(forgotten, whole[0][:, 4:]) > 1e-6


@pytest.mark.parametrize(
    "sizes", [{"length": 1}, {"n": 1}, {"heads": 1}, {"batch": 1, "length": 1, "heads": 1, "n": 1, "p": 1}]
)
@every
def test_axes_of_size_one(name, sizes):
    """One head of one sequence is what it is among others: sizes of 1 are no broadcast."""
    arch, signals, u = small(name, **({"batch": 2, "length": 5, "heads": 2, "n": 3} | sizes))
    y, state = scan(arch(**signals), u)
    if not any(d.groups for d in arch.signals.values()):
        alone = {k: x[-1:] if arch.signals[k].const else x[-1:, :, -1:] for k, x in signals.items()}
        assert relative(scan(arch(**alone), u[-1:, :, -1:])[0], y[-1:, :, -1:]) < EXACT
    assert_close(dsf.simulate(arch(**signals), u), (y, state), EXACT)


@runs
@every
def test_no_steps(name, run):
    arch, signals, u = small(name, length=0)
    y, state = run(arch(**signals), u)
    assert y.shape == (*u.shape[:3], u.shape[-1])
    later = small(name, length=1, seed=1)
    assert_close(run(arch(**later[1]), later[2], state), run(arch(**later[1]), later[2]), EXACT)
