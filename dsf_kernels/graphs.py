"""A run as one operation of torch: what torch.compile, torch.export and their like see of an architecture.

    dsf::run(key, signals, u, state) -> [y, *state]       key: an architecture and a backend, kept here

The bodies, lifts and the choice of a kernel are Python that no tracer should walk through. Backward runs once more with
gradients: kernels keep little, and a graph's operation can keep nothing of its own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dsf.definition import Architecture
from dsf.features import Features, decay_and_window

from .dispatch import simulate

_RUNS: dict[str, tuple[Architecture, str]] = {}


def key_of(architecture: Architecture, backend: str) -> str:
    """The name under which an architecture's run is known to graphs, in this process."""
    key = f"{architecture.name} {id(architecture):x} {backend}"
    _RUNS[key] = architecture, backend  # held: its id is not given to another
    return key


def run_in_graph(
    key: str, names: tuple[str, ...], signals: dict[str, Tensor], u: Tensor, state: Any
) -> tuple[Tensor, Any]:
    """simulate(architecture(**signals), u, state) as one operation; names: of its signals, in their order."""
    parts = [] if state is None else [state] if isinstance(state, Tensor) else list(state)
    y, *last = torch.ops.dsf.run(key, [signals[name] for name in names], u, parts)
    return y, last[0] if len(last) == 1 else tuple(last)


def _simulated(key: str, signals: list[Tensor], u: Tensor, state: list[Tensor], backend: str = "") -> list[Tensor]:
    architecture, chosen = _RUNS[key]
    system = architecture(**dict(zip(architecture.signals, signals, strict=True)))
    given: Any = None if not state else state[0] if len(state) == 1 else tuple(state)
    y, last = simulate(system, u, given, backend=backend or chosen)
    return [y, *(last if isinstance(last, tuple) else (last,))]


@torch.library.custom_op("dsf::run", mutates_args=())
def _run(key: str, signals: list[Tensor], u: Tensor, state: list[Tensor]) -> list[Tensor]:
    inputs = {x.untyped_storage().data_ptr() for x in (*signals, u, *state)}
    found = (x.contiguous() for x in _simulated(key, signals, u, state))
    # a graph's operation returns no views of what it was given
    return [x.clone() if x.untyped_storage().data_ptr() in inputs else x for x in found]


@_run.register_fake
def _(key: str, signals: list[Tensor], u: Tensor, state: list[Tensor]) -> list[Tensor]:
    """A run of one step shows every size but those that grow with time."""
    architecture, T = _RUNS[key][0], u.shape[1]
    step = [x if d.const else x[:, :1] for d, x in zip(architecture.signals.values(), signals, strict=True)]
    y, *last = _simulated(key, step, u[:, :1], state, "reference")
    if isinstance((system := architecture.bounds()).B, Features):  # the past: as long as the run, or as the window
        window, length = decay_and_window(system.A)[1], T + (state[0].shape[1] if state else 0)
        kept: Any = length if window is None else torch.sym_min(length, window - 1)
        last = [x.new_empty((x.shape[0], kept, *x.shape[2:])) for x in last]
    return [y.new_empty((y.shape[0], T, *y.shape[2:])), *(x.new_empty(x.shape) for x in last)]


@torch.library.custom_op("dsf::run_backward", mutates_args=())
def _run_backward(
    key: str, signals: list[Tensor], u: Tensor, state: list[Tensor], gradients: list[Tensor], needed: list[bool]
) -> list[Tensor]:
    with torch.enable_grad(), _autograd():
        inputs = [x.detach().requires_grad_(need) for x, need in zip((*signals, u, *state), needed, strict=True)]
        count = len(signals)
        outputs = _simulated(key, inputs[:count], inputs[count], inputs[count + 1 :])
        pairs = [(y, g) for y, g in zip(outputs, gradients, strict=True) if y.requires_grad]
        wanted, (ys, weights) = [x for x in inputs if x.requires_grad], zip(*pairs, strict=True)
        found = torch.autograd.grad(ys, wanted, weights, materialize_grads=True)
    return [g.clone(memory_format=torch.contiguous_format) if g._is_view() else g.contiguous() for g in found]


def _autograd() -> Any:
    """Inside an operation torch looks past autograd; a backward that differentiates asks for it again."""
    excluded = torch._C._dispatch_tls_local_exclude_set()
    for key in ("AutogradFunctionality", "AutogradOther", "AutogradNestedTensor", "ADInplaceOrView"):
        excluded = excluded.remove(getattr(torch._C.DispatchKey, key))
    return torch._C._ForceDispatchKeyGuard(torch._C._dispatch_tls_local_include_set(), excluded)


@_run_backward.register_fake
def _(key, signals, u, state, gradients, needed):
    return [x.new_empty(x.shape) for x, need in zip((*signals, u, *state), needed, strict=True) if need]


def _keep(ctx: Any, inputs: tuple, output: list[Tensor]) -> None:
    key, signals, u, state = inputs
    ctx.key, ctx.count = key, len(signals)
    ctx.save_for_backward(*signals, u, *state)
    ctx.needed = [x.requires_grad for x in (*signals, u, *state)]
    ctx.outputs = [(y.shape, y.dtype, y.device) for y in output]


def _backward(ctx: Any, gradients: list[Tensor | None]) -> tuple:
    inputs, n = ctx.saved_tensors, ctx.count
    full = [
        torch.zeros(shape, dtype=dtype, device=device) if g is None else g
        for g, (shape, dtype, device) in zip(gradients, ctx.outputs, strict=True)
    ]
    found = iter(
        torch.ops.dsf.run_backward(ctx.key, list(inputs[:n]), inputs[n], list(inputs[n + 1 :]), full, ctx.needed)
    )
    each = [next(found) if need else None for need in ctx.needed]
    return None, each[:n], each[n], each[n + 1 :]


_run.register_autograd(_backward, setup_context=_keep)
