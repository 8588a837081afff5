"""Packed sequences are separate runs: outputs, states, gradients; lengths of 0, equal lengths, carried states."""

import pytest
import torch

import dsf
from kernel_cases import EXACT, close, draw

ENDS = torch.tensor([0, 5, 5, 70, 75, 80, 200])
NAMES = ("gla", "mamba2", "deltanet", "deltaproduct", "s4d", "rglru", "lstm", "titans", "mlstm")


def separately(system, u, states=None):
    results = []
    for i, (lo, hi) in enumerate(zip(ENDS.tolist(), ENDS.tolist()[1:], strict=False)):
        results.append(dsf.simulate(system.slice(lo, hi), u[:, lo:hi], None if states is None else states[i]))
    return results


def parts(state, i):
    return tuple(x[i : i + 1] for x in state) if isinstance(state, tuple) else state[i : i + 1]


@pytest.mark.parametrize("name", NAMES)
def test_packed_is_separate(name):
    architecture = dsf.architecture_named(name)
    signals, u = draw(architecture, 200, batch=1, heads=2)
    for x in (*signals.values(), u):
        x.requires_grad_()
    system, count = architecture(**signals), len(ENDS) - 1
    y, state = dsf.simulate(system, u, cu_seqlens=ENDS)
    again, last = dsf.simulate(system, u, state, cu_seqlens=ENDS)
    first = separately(system, u)
    second = separately(system, u, [parts(state, i) for i in range(count)])
    for (found, ends), expected in (((y, state), first), ((again, last), second)):
        assert close(found, torch.cat([part for part, _ in expected], 1), EXACT)
        for i, (_, end) in enumerate(expected):
            mine = parts(ends, i)
            pairs = zip(mine, end, strict=True) if isinstance(end, tuple) else ((mine, end),)
            assert all(close(a, b, EXACT) for a, b in pairs)
    weight = torch.randn(again.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    gradients = [
        torch.autograd.grad((out * weight).sum(), [*signals.values(), u], materialize_grads=True, retain_graph=True)
        for out in (again, torch.cat([part for part, _ in second], 1))
    ]
    assert all(close(a, b, EXACT) for a, b in zip(*gradients, strict=True))


def test_pasts_of_different_lengths_are_a_list():
    architecture = dsf.architecture_named("softmax_attention")
    signals, u = draw(architecture, 200, batch=1)
    system = architecture(**signals)
    y, pasts = dsf.simulate(system, u, cu_seqlens=ENDS)
    assert [past[0].shape[1] for past in pasts] == ENDS.diff().tolist()
    again, _ = dsf.simulate(system, u, pasts, cu_seqlens=ENDS)
    expected = separately(system, u, pasts)
    assert close(again, torch.cat([part for part, _ in expected], 1), EXACT) and not torch.equal(again, y)


def test_equal_lengths_run_side_by_side(monkeypatch):
    from dsf_kernels import packed

    seen = []
    architecture = dsf.architecture_named("mamba2")
    signals, u = draw(architecture, 200, batch=1)
    run = lambda system, u, state: seen.append(tuple(u.shape[:2])) or dsf.simulate(system, u, state)  # noqa: E731
    packing = packed.Packing((50, 50, 40, 20, 40))
    packed.run_packed(run, architecture(**signals), u, None, packing)
    assert seen == [(2, 50), (2, 40), (1, 20)]


def test_ends_are_read_at_every_call():
    """Whoever wrote to them: torch does not see what numpy does."""
    architecture, ends = dsf.architecture_named("gla"), torch.tensor([0, 4, 10])
    signals, u = draw(architecture, 10, batch=1)
    system = architecture(**signals)
    first = dsf.simulate(system, u, cu_seqlens=ends)[0]
    ends.numpy()[1] = 7
    changed = dsf.simulate(system, u, cu_seqlens=ends)[0]
    assert torch.equal(changed, dsf.simulate(system, u, cu_seqlens=torch.tensor([0, 7, 10]))[0])
    assert not torch.equal(changed, first)


@pytest.mark.parametrize(
    ("ends", "error", "match"),
    [
        ([0, 5, 10], TypeError, "whole numbers"),
        (torch.tensor([0.0, 10.0]), TypeError, "whole numbers"),
        (torch.tensor([[0, 10]]), TypeError, "whole numbers"),
        (torch.tensor([False, True]), TypeError, "whole numbers"),
        (torch.tensor([0, 5]), ValueError, "from 0 to T = 10"),
        (torch.tensor([1, 10]), ValueError, "from 0 to T = 10"),
        (torch.tensor([0, 7, 5, 10]), ValueError, "from 0 to T = 10"),
        (torch.tensor([0]), ValueError, "from 0 to T = 10"),
    ],
)
def test_bad_ends_are_refused(ends, error, match):
    architecture = dsf.architecture_named("gla")
    signals, u = draw(architecture, 10, batch=1)
    with pytest.raises(error, match=match):
        dsf.simulate(architecture(**signals), u, cu_seqlens=ends)


def test_other_bad_input_is_refused():
    architecture, ends = dsf.architecture_named("gla"), torch.tensor([0, 4, 10])
    signals, u = draw(architecture, 10, batch=2)
    with pytest.raises(ValueError, match="one row"):
        dsf.simulate(architecture(**signals), u, cu_seqlens=ends)
    signals, u = draw(architecture, 10, batch=1)
    system = architecture(**signals)
    with pytest.raises(ValueError, match="2 packed sequences on its first axis"):
        dsf.simulate(system, u, dsf.simulate(system, u)[1], cu_seqlens=ends)
    with pytest.raises(ValueError, match="no packed form"):
        dsf.simulate(dsf.bidirectional(system, system), u, cu_seqlens=ends)
