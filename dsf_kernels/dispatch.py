"""Which kernel runs a system, and why: the least predicted cost among those that its structure can reach."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch.autograd import forward_ad

from dsf.deferred import Deferred
from dsf.feedback import Feedback
from dsf.lattice import path
from dsf.reference import scan
from dsf.system import System
from dsf.transforms import Bidirectional
from dsf.validation import check_drive, check_state

from .blocks import run_in_blocks, suits
from .columns import run_columns
from .costs import Cost, floor, lift_cost, operators_cost
from .explanation import Explanation
from .packed import check_count, packing_of, run_packed
from .packing import Outline, Packing
from .reach import transition, why_not, working_dtype
from .registry import Kernel, kernels
from .signature import signature
from .sizes import Sizes, sizes_of
from .states import run_states


def simulate(
    system: System | Feedback | Bidirectional,
    u: torch.Tensor,
    state: Any = None,
    backend: str = "auto",
    cu_seqlens: torch.Tensor | None = None,
) -> tuple[torch.Tensor, Any]:
    """Runs a system on a drive: x_t = A_t x_{t-1} + B_t u_t, y_t = C_t x_t + D_t u_t. Differentiable, any structure.

    u [B, T, H, p] (B an operator: [B, T, H, m]; J micro-steps: [B, T, H, J, p]). Returns y [B, T, H, p] and the final
    state, which continues the run: x [B, H, n, p] (p + 1 channels if normalised; complex where A is; fp32 for half
    precision), feedback (x, y), bidirectional None; infinite features the past (k, u), or (k, u, w) with the log
    weights of its tokens, where there are any (see dsf.reference.scan).

    backend: "auto", "reference", or the name of a kernel. cu_seqlens [N + 1]: u [1, T, H, p] holds N sequences, packed
    from cu_seqlens[i] to cu_seqlens[i + 1]; their states are [N, H, n, p]. Kernels that pack take them as they lie, on
    others they are separate runs, equal lengths side by side; on the CPU, cu_seqlens makes nobody wait for a device.
    Raises ValueError where sizes, dtypes, devices or the state do not fit, or where the kernel of that name declines;
    TypeError for what is no system or no tensor. Numbers are taken to be finite: a NaN may reach earlier steps of its
    own sequence and head, no others.

    >>> import dsf
    >>> arch = dsf.architecture_named("mamba2")
    >>> signals, u = arch.sample(batch=1, length=100, heads=2, n=8, p=4)
    >>> y, state = simulate(arch(**signals), u)
    >>> y.shape, state.shape
    (torch.Size([1, 100, 2, 4]), torch.Size([1, 2, 8, 4]))
    """
    if cu_seqlens is not None:
        packing = packing_of(system, u, cu_seqlens)
        return _simulate_packed(system, _widened(system, u, state), state, backend, packing)
    check_drive(system, u)
    check_state(system, u, state)
    check_state(system, u, getattr(system, "x0", None))
    if backend == "reference" or not u.shape[0]:  # nothing to be fast at
        return scan(system, u, state)
    u = _widened(system, u, state)
    if isinstance(system, Bidirectional):
        forward, _ = simulate(system.forward, u, backend=backend)
        backward, _ = simulate(system.backward, u.flip(1), backend=backend)
        return system.combine(forward, backward.flip(1)), None
    if forward_ad._current_level >= 0:  # kernels know no tangents: plain operations carry them
        if backend != "auto":
            raise ValueError('kernels have no forward-mode derivatives; backend="auto" takes the reference for them')
        return scan(system, u, state)
    chosen = _named(backend, system, u) if backend != "auto" else _remembered(system, u)
    run = _runner(chosen)
    if isinstance(system, Deferred) and not chosen.streams:
        if chosen.form != "system" and suits(system, u, state):
            return run_in_blocks(run, system, u, state)
        system = system.evaluated
    return run(system, u, state)


def _widened(system: Any, u: torch.Tensor, state: Any) -> torch.Tensor:
    """The drive in the dtype of the run: complex where nothing but the state is."""
    start = getattr(system, "x0", None) if state is None else state
    if not (isinstance(start, torch.Tensor) and start.is_complex()) or working_dtype(system, u).is_complex:
        return u
    return u.to(torch.promote_types(u.dtype, torch.complex64))


def _simulate_packed(system: Any, u: torch.Tensor, state: Any, backend: str, packing: Packing) -> tuple:
    """By a kernel that takes sequences as they lie, where that is the cheapest; else by separate runs."""
    chosen = _packing_kernel(system, u, state, backend, packing)
    if chosen is None:
        return run_packed(lambda *part: simulate(*part, backend=backend), system, u, state, packing)
    check_count(state, packing.count, False)
    each = packing.each(u)
    check_state(system, each, state)
    check_state(system, each, getattr(system, "x0", None))
    late = isinstance(system, Deferred) and not chosen.streams
    return _runner(chosen)(system.evaluated if late else system, u, state, packing)


def _packing_kernel(system: Any, u: torch.Tensor, state: Any, backend: str, packing: Packing) -> Kernel | None:
    """The kernel that runs all sequences at once, or None: they are separate runs, equal lengths side by side."""
    plain = forward_ad._current_level >= 0 or torch._C._are_functorch_transforms_active()
    if len(set(packing.lengths)) == 1 or plain or backend not in ("auto", *kernels()):
        return None
    chosen = kernels()[backend] if backend != "auto" else _remembered(system, u, packing.outline)
    in_blocks = isinstance(system, Deferred) and not chosen.streams and suits(system, u, state)
    if not chosen.packs or in_blocks:
        return None
    return chosen if backend == "auto" else _named(backend, system, u)


def explain(system: System | Feedback | Bidirectional, u: torch.Tensor | None = None) -> Explanation:
    """Which kernel `simulate(system, u)` takes, the lifts on the way, its predicted cost, and why not another.

    Without u, sizes that the system does not tell are assumed, and the text says so. Raises as `simulate` does.

    >>> import dsf
    >>> arch = dsf.architecture_named("s4d")
    >>> signals, u = arch.sample(length=4096, heads=64, n=64, p=1)
    >>> found = explain(arch(**signals), u)
    >>> found.kernel, found.route
    ('constant', ('Diagonal',))
    >>> arch = dsf.architecture_named("deltanet")
    >>> explain(arch(**arch.sample()[0])).declined["chunked_scalar"]
    'Reflection does not climb to Scaled'
    """
    if isinstance(system, Bidirectional):
        forward, backward = explain(system.forward, u), explain(system.backward, u)
        return replace(forward, also=(backward,))
    if u is not None or not isinstance(system, (System, Feedback)):
        check_drive(system, u)
    chosen, declined, sizes = _choice(system, u)
    route = _route(chosen, system)
    return Explanation(chosen.name, declined, route, _cost(chosen, system, sizes), floor(system, sizes), sizes)


MOST = 512  # choices that are remembered
WHOLE = "it needs A, B, C of all steps at once, and they are many times as large as the signals"


def _runner(kernel: Kernel) -> Any:
    """(system, u, state) -> y, state, whatever the kernel's form."""
    if kernel.form == "system" or kernel.covers is None:
        return kernel.run
    return partial({"columns": run_columns, "states": run_states}[kernel.form], kernel.covers, kernel.run)


# --------------------------------------------------------------------------------------------------------- the choice
def _choice(
    system: System | Feedback, u: torch.Tensor | None, packed: Outline | None = None
) -> tuple[Kernel, dict[str, str], Sizes]:
    """The kernel, why not each other one, and the sizes on which the costs rest. One that does not pack runs several
    times where sequences are packed."""
    sizes, dtype = replace(sizes_of(system, u), packed=packed), working_dtype(system, u)
    runs = packed.lengths if packed else 1
    reasons = {k: _reason(k, system, dtype, sizes) for k in kernels().values()}
    in_blocks = [k for k, why in reasons.items() if why is None and k.form != "system"]
    if isinstance(system, Deferred) and u is not None and suits(system, u, None) and in_blocks:
        reasons |= {k: WHOLE for k, why in reasons.items() if why is None and k not in in_blocks and not k.streams}
    costs = {k: _cost(k, system, sizes) for k, why in reasons.items() if why is None}
    costs = {k: cost if k.packs else replace(cost, calls=runs * cost.calls) for k, cost in costs.items()}
    times = {k: cost.milliseconds(sizes.device) for k, cost in costs.items()}
    chosen = min(times, key=lambda k: times[k])
    dearer = {k: f"it costs more: {ms:.3g} ms (predicted, nominal)" for k, ms in times.items()}
    return chosen, {k.name: why or dearer[k] for k, why in reasons.items() if k is not chosen}, sizes


def _reason(kernel: Kernel, system: System | Feedback, dtype: torch.dtype, sizes: Sizes) -> str | None:
    """Why a kernel cannot run this system at these sizes, or None."""
    return kernel.unsupported(dtype, sizes.device) or why_not(kernel, system) or kernel.fits(sizes)


_KNOWN: dict[tuple, Kernel] = {}


def _remembered(system: System | Feedback, u: torch.Tensor, packed: Outline | None = None) -> Kernel:
    """The kernel; one token after the other, a system is asked about once."""
    key = (*signature(system, u), id(kernels()), len(kernels()), packed)
    try:
        found = _KNOWN.get(key)
    except TypeError:  # an operator of the user's with a field that is no value
        return _choice(system, u, packed)[0]
    if found is None:
        if len(_KNOWN) >= MOST:
            _KNOWN.clear()
        found = _KNOWN[key] = _choice(system, u, packed)[0]
    return found


def _named(name: str, system: System | Feedback, u: torch.Tensor) -> Kernel:
    if name not in kernels():
        raise ValueError(f'backend is "auto", "reference" or a kernel ({", ".join(kernels())}), got {name!r}')
    kernel = kernels()[name]
    reason = _reason(kernel, system, working_dtype(system, u), sizes_of(system, u))
    if reason:
        raise ValueError(f'the kernel {name} declines this system: {reason}; backend="auto" finds one that runs it')
    return kernel


def _cost(kernel: Kernel, system: System | Feedback, sizes: Sizes) -> Cost:
    late, least = Cost(0, 0) if kernel.streams else operators_cost(system, sizes), floor(system, sizes).bytes
    if kernel.covers is None:
        return kernel.cost(system, sizes).moves_at_least(least) + late
    assert isinstance(system, System)
    return kernel.cost(sizes).moves_at_least(least) + lift_cost(system, kernel.covers, sizes) + late


def _route(kernel: Kernel, system: System | Feedback) -> tuple[str, ...]:
    if isinstance(system, Feedback):
        return ("Feedback",)
    if kernel.covers is None:
        return (type(system.outline.A).__name__,)
    A = transition(system)
    climbed = path(type(A), kernel.covers) or ()
    whole = type(system.outline.A)
    steps = () if type(A) is whole else (f"{whole.__name__} (time x J)",)
    return (*steps, *(structure.__name__ for structure in climbed))
