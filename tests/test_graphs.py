"""A run as one operation of torch: torch.compile sees through it whole, trains, and finds what eager finds."""

import pytest
import torch

import dsf
from dsf_kernels.graphs import key_of, run_in_graph
from kernel_cases import close, draw

NAMES = ("linear_attention", "deltanet", "gla", "softmax_attention", "lstm", "mamba", "s4d", "deltaproduct", "mlstm")
SAME = 1e-12  # the same operations in the same order, but for what the compiler folds


def compiled(architecture, **options):
    key = key_of(architecture, "auto")

    def f(signals, u, state):
        y, last = run_in_graph(
            key, tuple(architecture.signals), {k: 1.0 * x for k, x in signals.items()}, 2.0 * u, state
        )
        return y + 1.0, last

    torch._dynamo.reset()
    return torch.compile(f, backend="aot_eager", fullgraph=True, **options)


def parts(state):
    return state if isinstance(state, tuple) else (state,)


def gradients(y, state, inputs):
    loss = y.square().sum() + sum(x.abs().square().sum() for x in parts(state))
    return torch.autograd.grad(loss, inputs, materialize_grads=True)


@pytest.mark.parametrize("name", NAMES)
def test_a_compiled_run_is_the_eager_one(name):
    architecture = dsf.architecture_named(name)
    signals, u = draw(architecture, 70, heads=2)
    inputs = [x.requires_grad_() for x in (*signals.values(), u)]
    f = compiled(architecture)
    y, state = f(signals, u, None)
    expected, last = dsf.simulate(architecture(**signals), 2.0 * u)
    assert close(y, expected + 1, SAME)
    for a, b in zip(gradients(y, state, inputs), gradients(expected + 1, last, inputs), strict=True):
        assert close(a, b, SAME)
    y, _ = f(signals, u, tuple(x.detach() for x in parts(state)) if isinstance(state, tuple) else state.detach())
    assert close(y, dsf.simulate(architecture(**signals), 2.0 * u, last)[0] + 1, SAME)


def test_another_length_needs_no_other_code():
    architecture = dsf.architecture_named("gla")
    f = compiled(architecture, dynamic=True)
    for length in (70, 71, 130):
        signals, u = draw(architecture, length)
        assert close(f(signals, u, None)[0], dsf.simulate(architecture(**signals), 2.0 * u)[0] + 1, SAME)


@pytest.mark.parametrize("name", ["gla", "lstm", "softmax_attention"])
def test_torch_s_own_checks_of_an_operation(name):
    """Schema, autograd registration, the fake implementation's shapes, ahead-of-time dispatch."""
    architecture = dsf.architecture_named(name)
    signals, u = draw(architecture, 9, heads=1)
    inputs = [x.requires_grad_() for x in (*signals.values(), u)]
    torch.library.opcheck(torch.ops.dsf.run.default, (key_of(architecture, "auto"), inputs[:-1], u, []))
    torch.library.opcheck(torch.ops.dsf.run.default, (key_of(architecture, "reference"), inputs[:-1], u, []))
