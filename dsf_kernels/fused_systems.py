"""Which systems have gates to fuse, and their graphs: the body is traced, and so is the way back.

da, db, dc, dd of fusion.py meet the traced derivative of the body; sums over what was broadcast are its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

import torch

from dsf.deferred import Deferred
from dsf.feedback import Feedback
from dsf.lattice import climb, vector_like
from dsf.operators import Diagonal, Operator, RealPart
from dsf.system import System
from dsf.tree import Node, leaves
from dsf.values import Log, is_zero, value

from .expressions import Graph
from .fusion import Form, Fused
from .tracing import Trace, Untraceable


def parts(system: System) -> tuple[dict[str, Any], Form]:
    """a (its log), b, c, d of one system, tensors or numbers; raises Untraceable where it is no such recurrence."""
    if system.normalised or system.readout or system.u is not None or system.micro_steps:
        raise Untraceable("a normaliser, a readout, a drive of its own or micro-steps")
    A = _diagonal(system.A, system, "A")
    b, drive = _vector(system.B, system, "B")
    c, read = _vector(system.C, system, "C")
    d = system.D.d if isinstance(system.D, Diagonal) else system.D
    if not is_zero(d) and (isinstance(d, Operator) or drive != read):
        raise Untraceable("D is an operator")
    rows = isinstance(value(d), torch.Tensor) and value(d).shape[-1] > 1
    if rows and not drive:
        raise Untraceable("D has an entry per row beside a vector B")
    log = isinstance(A, Log)
    found = {"a": A.log if isinstance(A, Log) else A, "b": b, "c": c, "d": value(d)}
    return found, Form(log, system.reads == "before", drive, read)


def _diagonal(M: Operator, system: System, name: str) -> Any:
    found = climb(M, Diagonal, system.state_size, vector_like(system))
    if not isinstance(found, Diagonal):
        raise Untraceable(f"{name} ({type(M).__name__}) does not climb to Diagonal")
    return found.d


def _vector(M: Any, system: System, name: str) -> tuple[Any, bool]:
    """A vector, or the diagonal of an operator; and whether it is one."""
    if isinstance(M, RealPart):
        raise Untraceable(f"{name} is complex")
    if isinstance(M, Operator):
        return value(_diagonal(M, system, name)), True
    if isinstance(M, Node) and not isinstance(M, Log):
        raise Untraceable(f"{name} is of features or of micro-steps")
    return value(M), False


def fused_or_why_not(system: System | Feedback) -> Fused | str:
    """The graph both ways of a system with gates to fuse, or why there is nothing to fuse."""
    if isinstance(system, Feedback):
        return "feedback: A_t is a function of y_{t-1}"
    if not isinstance(system, Deferred):
        return "its operators are computed already"
    if torch._C._are_functorch_transforms_active():
        return "the transforms of torch.func see plain operations only"
    try:
        fused = trace(system, True)  # there may be no way back where there is one forward
    except Untraceable as reason:
        return str(reason)
    values, form = fused.graph.values, fused.form
    steps = bool(fused.varying)  # else this is one step, all of which is constant
    made = [i for i in fused.graph.needed(fused.forward) if values[i].children and values[i].time >= steps]
    plain = 3 + form.log + 2 * (values[fused.y].op == "add")  # b u, c x, its sum, e^a, + d u
    return fused if len(made) > plain or form.drive or form.read else "its operators are its signals: nothing to fuse"


_WAYS_BACK: WeakKeyDictionary[Any, dict[tuple, Fused]] = WeakKeyDictionary()
MOST = 64  # of an architecture that are remembered: one per sizes of its signals


def trace(system: Deferred, backward: bool) -> Fused:
    """The graph of a system that is not computed yet; raises Untraceable.

    A body is traced at every call: its numbers may have changed. The way back, which takes three times as long, is
    remembered for as long as it computes the same forward.
    """
    forward = _traced(system, False)
    if not backward:
        return forward
    known = _WAYS_BACK.setdefault(system.architecture, {})
    key = *forward.graph.values, *(x.shape[3:] for x in system.leaves)
    if key not in known:
        if len(known) >= MOST:
            known.clear()
        known[key] = _traced(system, True)
    return known[key]


def _traced(system: Deferred, backward: bool) -> Fused:
    known = leaves(tuple(system.values.values()))
    if any(isinstance(x, Node) for x in system.values.values()) or any(x.dim() != 4 for x in known):
        raise Untraceable("a signal is a matrix, or has micro-steps")
    if not all(x.is_floating_point() for x in known):
        raise Untraceable("a signal is complex, or an index")
    graph = Graph()
    try:
        with _undisturbed():
            return _trace(system, known, graph, Trace(graph), backward)
    except Untraceable:
        raise
    except Exception as error:
        raise Untraceable(f"its body cannot be traced ({str(error).splitlines()[0][:100]})") from error


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Whatever modes and hooks there are around: derivatives are recorded, in fp32, and nothing is packed away."""

    hooks = torch.autograd.graph.saved_tensors_hooks(torch.Tensor.detach, lambda x: x)
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast("cpu", enabled=False), hooks:
        yield


def _small(x: torch.Tensor) -> torch.Tensor:
    """Zeros of one sequence, and of two steps and heads where there are several: along what does a signal vary?"""
    _, T, H, *own = x.shape
    return torch.zeros(1, 2 if T > 1 else 1, 2 if H > 1 else 1, *own, dtype=torch.float32, device="cpu")


def _trace(system: Deferred, known: list[torch.Tensor], graph: Graph, tracer: Trace, backward: bool) -> Fused:
    signals = [_small(x).requires_grad_(backward) for x in known]  # on the CPU
    sized = [[size > 1 for size in x.shape] for x in known]
    inputs = tuple(graph.input("signal", i, time=v[1], heads=v[2], rows=v[3]) for i, v in enumerate(sized))
    for x, place in zip(signals, inputs, strict=True):
        tracer.know(x, place)
    with tracer:
        made = system.architecture.evaluate(dict(zip(system.values, signals, strict=True)))
        found, form = parts(made)
    a, b, c, d = (tracer.place(found[name]) for name in "abcd")
    if any(isinstance(x, torch.Tensor) and (x.dim() not in (0, 4)) for x in found.values()):
        raise Untraceable("an operator's leaf is no [B, T, H, ...]")

    def carried(name: str, rows: bool = True) -> int:
        return graph.input(name, time=True, heads=True, rows=rows)

    u, seen = carried("drive", form.drive), carried("seen")
    factor = graph("exp", a) if form.log else a
    y = graph.total(graph("mul", c, seen), time=False, rows=not form.read)
    y = y if graph.number(d) == 0.0 else graph("add", y, graph("mul", d, u))
    steps = Fused(graph, form, inputs, factor, graph("mul", b, u), y)
    if not backward:
        return steps
    lam, past, dy = carried("lam"), carried("past"), carried("dy", form.read)
    of_a = graph("mul", graph("mul", lam, past), factor) if form.log else graph("mul", lam, past)
    raw = {"a": of_a, "b": graph("mul", lam, u), "c": graph("mul", seen, dy), "d": graph("mul", u, dy)}
    found = {name: x for name, x in found.items() if isinstance(x, torch.Tensor) and x.requires_grad}
    weights = {name: torch.empty_like(x) for name, x in found.items()}
    for name, x in weights.items():
        tracer.know(x, graph.total(raw[name], time=x.shape[1] == 1, rows=x.shape[3] == 1))
    tracer.sums = True
    with tracer:
        gradients = torch.autograd.grad(
            list(found.values()), signals, list(weights.values()), create_graph=True, allow_unused=True
        )
    of_signals = tuple(graph.place(0.0) if g is None else tracer.place(g) for g in gradients)
    for place, g in zip(inputs, of_signals, strict=True):
        _check(graph, place, g)
    du = graph.total(graph("mul", b, lam), time=False, rows=not form.drive)
    du = du if graph.number(d) == 0.0 else graph("add", du, graph("mul", d, dy))
    return replace(steps, from_y=graph("mul", c, dy), drive=du, gradients=of_signals)


def _check(graph: Graph, signal: int, gradient: int) -> None:
    axes = ("time", "rows")
    along = ([graph.varies(place, axis) for axis in axes] for place in (gradient, signal))
    if graph.number(gradient) is None and next(along) != next(along):
        raise Untraceable("a gradient varies along other axes than its signal")
