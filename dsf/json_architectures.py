"""Architectures in JSON: by name, or by the converter that makes them, with the exact domains of their signals.

Numbers are finite, or "oo" and "-oo". A file names an architecture that is registered here, or a factory of dsf's own
converters: nothing else is imported, whatever it says.
"""

from __future__ import annotations

import importlib
import math
import pkgutil
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any

from .definition import Architecture, architectures
from .domains import Domain
from .sets import Interval, Polar, Rectangle, Set
from .transforms import normalised
from .values import DEPENDENCE

# fields of a domain that JSON holds as they are
_PLAIN = ("kind", "unit", "ball", "const", "groups", "steps", "first", "dependence")


def architecture_to_json(a: Architecture) -> dict[str, Any]:
    """By its name, or by how a converter makes it; and its domains."""
    made = getattr(a.body, "rebuild", None)
    known = architectures().get(a.name)
    if made is None and known is None:
        raise ValueError(f"{a.title} is not registered, and could not be found again: leave out register=False")
    if made is None and known is not None and known.body is not a.body:
        raise ValueError(
            f"{a.title} is not the architecture that is registered as {a.name!r}: give it a name of its own"
        )
    row: dict[str, Any] = {"name": a.name, "title": a.title, "made_by": None}
    if made is not None:
        row["made_by"] = [made[0], {name: _value_to_json(x) for name, x in made[1].items()}]
    row["wrappers"] = [_wrapper_to_json(wrap, a) for wrap in a.wrappers]
    own = _base(row)
    row["domains"] = {name: domain_to_json(d, own.signals[name]) for name, d in a.signals.items()}
    return row


def architecture_of_json(row: Mapping[str, Any]) -> Architecture:
    a = _base(row)
    if a.signals.keys() != row["domains"].keys():
        theirs = ", ".join(row["domains"])
        raise ValueError(f"{a.name} has the signals {', '.join(a.signals)} here, and {theirs} in the file")
    domains = {name: domain_of_json(d, a.signals[name], name) for name, d in row["domains"].items()}
    wrappers = tuple(partial(normalised, floor=_floor(wrap)) for wrap in row["wrappers"])
    signals = MappingProxyType({name: domains[name] for name in a.signals})
    return replace(a, title=str(row["title"]), signals=signals, wrappers=wrappers)


def _base(row: Mapping[str, Any]) -> Architecture:
    """The architecture before its domains: the one of that name, or what a factory of dsf makes."""
    name, made = row["name"], row["made_by"]
    if made is None:
        if name not in architectures():
            raise ValueError(
                f"the architecture {name!r} is not defined here: define it by that name (import the file that does), "
                "then load"
            )
        return architectures()[name]
    home, arguments = made
    if not isinstance(home, str) or home.partition(":")[0] not in _homes():
        raise ValueError(f"an architecture is to be made by {home!r}, which is none of dsf's converters")
    module, _, factory = home.partition(":")
    found = getattr(importlib.import_module(module), factory, None)
    if callable(found) and getattr(found, "__module__", None) == module and not isinstance(found, Architecture):
        found = found(**{name: _value_of_json(x) for name, x in arguments.items()})
    if not isinstance(found, Architecture) or found.name != name:
        raise ValueError(f"{home!r} does not make the architecture {name!r}: the file is of another version of dsf")
    return found


def _homes() -> set[str]:
    """Modules of dsf that make architectures: a file names one of these, and nothing else is imported."""
    from . import converters

    return {"dsf.attention", *(f"dsf.converters.{found.name}" for found in pkgutil.iter_modules(converters.__path__))}


def _wrapper_to_json(wrap: Any, a: Architecture) -> dict[str, Any]:
    if not (
        isinstance(wrap, partial) and wrap.func is normalised and not wrap.args and wrap.keywords.keys() == {"floor"}
    ):
        raise ValueError(f"{a.title} is wrapped by a function that has no name in dsf: write it in the body instead")
    return {"normalised": _value_to_json(wrap.keywords["floor"])}


def _floor(row: Mapping[str, Any]) -> float | None:
    return None if row["normalised"] is None else number(row["normalised"])


# --------------------------------------------------------------------------------------------------- domains and sets


def domain_to_json(d: Domain, own: Domain) -> dict[str, Any]:
    """own: the architecture's; what it prescribes is found there again."""
    if d.value or own.value:
        if d != own:
            raise ValueError(
                f"a signal that is a {d} is not what its architecture prescribes, and JSON does not hold it"
            )
        return {"kind": d.kind, "fixed": True}
    plain = {name: getattr(d, name) for name in _PLAIN}
    return plain | {"set": _set_to_json(d.set), "spectrum": _set_to_json(d.spectrum)}


def domain_of_json(row: Mapping[str, Any], own: Domain, name: str = "a signal") -> Domain:
    if row["kind"] != own.kind or boolean(row.get("fixed", False)) != bool(own.value):
        raise ValueError(f"{name} is a {own} here, and a {'fixed ' * bool(row.get('fixed'))}{row['kind']} in the file")
    if own.value:
        return own
    for field in _PLAIN:
        known = row[field] in DEPENDENCE if field == "dependence" else type(row[field]) is type(getattr(own, field))
        if not known:
            raise ValueError(f"{field} of {name} is {row[field]!r}")
    plain = {field: row[field] for field in _PLAIN}
    return Domain(**plain, set=_set_of_json(row["set"]), spectrum=_set_of_json(row["spectrum"]))


def _set_to_json(s: Set) -> dict[str, Any]:
    if isinstance(s, Interval):
        return {"interval": [number_to_json(s.lo), number_to_json(s.hi)]}
    if isinstance(s, Polar):
        return {"polar": [_set_to_json(s.r), _set_to_json(s.theta)]}
    assert isinstance(s, Rectangle)
    return {"rectangle": [_set_to_json(s.re), _set_to_json(s.im)]}


def _set_of_json(row: Mapping[str, Any]) -> Any:
    ((kind, (one, other)),) = row.items()
    if kind == "interval":
        return Interval(number(one), number(other))
    sides = _set_of_json(one), _set_of_json(other)
    if kind not in ("polar", "rectangle") or not all(isinstance(side, Interval) for side in sides):
        raise ValueError(f"{kind!r} is no set of two intervals")
    return (Polar if kind == "polar" else Rectangle)(*sides)


def number_to_json(x: float) -> float | str:
    """JSON has no infinity: "oo"."""
    return x if math.isfinite(x) else "oo" if x > 0 else "-oo"


def number(x: Any) -> float:
    if x in ("oo", "-oo"):
        return math.inf if x == "oo" else -math.inf
    if isinstance(x, bool) or not isinstance(x, (int, float)) or not math.isfinite(x):
        raise ValueError(f"{x!r} is no number")
    return float(x)


def _value_to_json(x: Any) -> Any:
    """Arguments of a factory: numbers, words, None, and lists of them."""
    if isinstance(x, (list, tuple)):
        return [_value_to_json(part) for part in x]
    return number_to_json(x) if isinstance(x, float) else x


def _value_of_json(x: Any) -> Any:
    if isinstance(x, list):
        return [_value_of_json(part) for part in x]
    return number(x) if x in ("oo", "-oo") else x


def boolean(x: Any) -> bool:
    if not isinstance(x, bool):
        raise ValueError(f"{x!r} is neither true nor false")
    return x
