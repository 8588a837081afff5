"""Of what a verdict speaks: an architecture, a member of its family, or a system of numbers alone."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from dsf import Architecture, Feedback, System
from dsf.composites import Writes
from dsf.converted_layer import ConvertedLayer
from dsf.features import Features
from dsf.tree import Node, leaves
from dsf.values import Bound, MatrixBound, widest

PAST = {"window": "the last tokens", "prefix": "all tokens so far", "state": "the state"}  # a dependence, in words


def some_steps(length: int, most: int) -> list[int]:
    """Up to `most` evenly spaced steps of a run, the first and the last among them."""
    return torch.linspace(0, length - 1, min(length, most)).round().long().tolist()


def steps_of(layer: ConvertedLayer, times: Sequence[int]) -> System:
    """The system of a layer without feedback at some steps of its recorded input: that of all steps is never made."""
    signals = layer.architecture.signals
    some = {k: s if signals[k].const else s[:, list(times)] for k, s in layer.signals.items()}
    system = layer.architecture(**some)
    assert isinstance(system, System)
    return system


def subject_of(x: Any) -> Architecture | System:
    """The architecture of x where it has one, after a check that x belongs to its family; else x, a System.

    Raises ValueError where a signal lies outside its domain, or where x is no longer what its architecture makes of its
    signals (a slice, a map, an edit): a theorem about the family does not speak of it. TypeError for anything else.
    """
    if hasattr(x, "architecture") and hasattr(x, "drive"):  # a converted layer: its system is made when it is asked for
        check_domains(x.architecture, x.signals)
        return x.architecture
    if isinstance(x, (System, Feedback)) and x.architecture is not None:
        check_membership(x)
        return x.architecture
    if not isinstance(x, (Architecture, System)):
        raise TypeError(f"expected an architecture, a system or a converted layer, got {type(x).__name__}{hint(x)}")
    return x


def hint(x: Any) -> str:
    """What the user probably meant."""
    if isinstance(x, str):
        return f"; by its name: dsf.architecture_named({x!r})"
    return "; one of its .layers" if hasattr(x, "layers") else "; its .system" if hasattr(x, "system") else ""


def check_membership(x: System | Feedback) -> None:
    """Is x its architecture on signals of their domains? ValueError where not."""
    a, signals = x.architecture, x.signals or {}
    check_domains(a, signals)
    if signals.keys() != a.signals.keys() or not _same(_parts(x), _parts(a(**signals))):
        raise ValueError(
            f"this system is not what {a.name} makes of its signals (it was cut, mapped or edited), so the verdict of "
            f"{a.name} does not speak of it: ask about the architecture, or, if its numbers hold for every "
            "token, about dataclasses.replace(system, architecture=None)"
        )


def check_domains(a: Architecture, signals: Mapping[str, torch.Tensor]) -> None:
    """Do all signals lie in their domains? ValueError names the first that does not."""
    for name, tensor in signals.items():
        domain = a.signals[name]
        if not domain.contains(tensor):
            raise ValueError(
                f"the signal {name} of this system leaves its domain ({domain}), so the verdict of {a.name} does not "
                f"speak of it; widen it: architecture.with_domain({name}=...)"
            )


def _parts(x: System | Feedback) -> tuple:
    if isinstance(x, Feedback):
        return tuple(x.values.values())
    return x.A, x.B, x.C, x.D, x.u, x.readout, x.normalised, x.floor, x.sink, x.reads


def _same(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        return a.shape == b.shape and a.dtype == b.dtype and bool(torch.equal(a, b))
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, Node):
        fields = [f.name for f in dataclasses.fields(a)]  # type: ignore[arg-type]
        return all(_same(getattr(a, f), getattr(b, f)) for f in fields)
    return a == b or getattr(a, "__code__", a) == getattr(b, "__code__", b)  # a lambda in a body is made at each run


def dependence_of(x: Architecture | System) -> dict[str, str]:
    """Of what A, B, C, D and a transformed drive are functions. A readout may read any signal: it takes the widest."""
    if isinstance(x, System):
        return x.dependence()
    bounds = x.bounds()
    found = bounds.dependence()
    if bounds.u is not None:
        found["u"] = widest(leaf.dependence for leaf in leaves(bounds.u) if isinstance(leaf, (Bound, MatrixBound)))
    if bounds.sink is not None:
        found["sink"] = widest(leaf.dependence for leaf in leaves(bounds.sink))
    if bounds.readout is not None:
        found["readout"] = widest("const" if d.const else d.dependence for d in x.signals.values())
    return found


def has_infinite_state(system: System) -> bool:
    B = system.B.b if isinstance(system.B, Writes) else system.B
    return isinstance(B, Features) or isinstance(system.C, Features)


def heads_for(a: Architecture) -> int:
    """The least number of heads that all groups of shared signals divide."""
    return math.lcm(*(d.groups for d in a.signals.values() if d.groups), 1)


def transition(a: Architecture, signals: dict[str, torch.Tensor], u: torch.Tensor) -> torch.Tensor:
    """A_t as matrices [..., n, n], of a body that does not read y_(t-1)."""
    system = a(**signals)
    return (system.along(torch.zeros_like(u), u) if isinstance(system, Feedback) else system).dense()
