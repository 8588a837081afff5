"""Changes of one layer of a converted model: clamp a gate, scale a time step, drop states, mute a head.

    conversion.edit("model.layers.0.linear_attn", beta=clamp(0, 1))

A change acts on the signal's values and on its domain alike, so that verdicts speak of the edited layer.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from .cores import Core
from .domains import Domain
from .sets import Complex, Interval, inf, mul, point

DRIVE = "drive"  # the name under which u is edited


@dataclass(frozen=True)
class Change:
    """What happens to a signal: to its values (with its heads on axis `heads`) and to its domain."""

    text: str
    values: Callable[[torch.Tensor, int], torch.Tensor] = field(repr=False)
    domain: Callable[[Domain], Domain] = field(repr=False)


@dataclass(frozen=True)
class Edit:
    """A change of one signal, or of the drive, of a core."""

    signal: str
    change: Change

    def __call__(self, core: Core) -> Core:
        if self.signal == DRIVE:
            return replace(core, drive=self._changed(core.drive, 2))
        if self.signal not in core.signals:
            known = ", ".join([*core.signals, DRIVE])
            raise ValueError(f"{core.architecture.name} has the signals {known}, not {self.signal!r}")
        domain, x = core.architecture.signals[self.signal], core.signals[self.signal]
        changed = self._changed(x, 0 if domain.const else 2)
        arch = core.architecture.with_domain(**{self.signal: self.change.domain(domain)})
        return replace(core, architecture=arch, signals={**core.signals, self.signal: changed})

    def _changed(self, before: torch.Tensor, heads: int) -> torch.Tensor:
        try:
            after: Any = self.change.values(before, heads)
        except ValueError as error:
            raise ValueError(f"the edit of {self.signal}: {error}") from None
        if not isinstance(after, torch.Tensor) or after.shape != before.shape:
            got = tuple(after.shape) if isinstance(after, torch.Tensor) else type(after).__name__
            raise ValueError(f"the edit of {self.signal} should keep its shape {tuple(before.shape)}, got {got}")
        return after

    def __str__(self) -> str:
        return f"{self.signal} = {self.change.text}"


def clamp(lo: float = -inf, hi: float = inf) -> Change:
    """min(max(signal, lo), hi).

    >>> clamp(0, 1).values(torch.tensor([[[1.5]]]), 2), clamp(0, 1).domain(Domain("scalar", Interval(0, 2))).set
    (tensor([[[1.]]]), [0, 1])
    """
    if not lo <= hi:
        raise ValueError(f"clamp takes two ends, lo <= hi, got {lo}, {hi}")

    def domain(d: Domain) -> Domain:
        return _on(d, _interval(d, "clamp").map(lambda end: min(max(end, lo), hi)))

    return Change(f"clamp({_text(lo)}, {_text(hi)})", lambda x, _: x.clamp(lo, hi), domain)


def scale(factor: float) -> Change:
    """factor * signal, for a finite factor."""
    if not abs(factor) < inf:
        raise ValueError(f"scale takes a finite factor, got {factor}")
    return Change(f"scale({_text(factor)})", lambda x, _: factor * x, lambda d: _on(d, mul(d.set, point(factor))))


def constant(value: float | torch.Tensor) -> Change:
    """The same value, or tensor, in place of the signal."""
    ends = torch.as_tensor(value, dtype=torch.float64)
    if not ends.numel() or ends.isnan().any():
        raise ValueError(f"constant takes numbers, got {'NaN' if ends.numel() else 'none'}")

    def values(x: torch.Tensor, _: int) -> torch.Tensor:
        given = torch.as_tensor(value, dtype=x.dtype, device=x.device)
        try:
            return given.expand(x.shape)
        except RuntimeError:
            shapes = f"{tuple(given.shape)} does not expand to the signal's {tuple(x.shape)}"
            raise ValueError(f"a tensor of shape {shapes}; a function of the signal fits every shape") from None

    text = f"constant({_text(value)})" if isinstance(value, (int, float)) else "constant(tensor)"
    return Change(text, values, lambda d: _on(d, Interval(ends.min().item(), ends.max().item())))


def drop(*channels: int) -> Change:
    """Zero in these entries of a vector: states that are not written (or read) any more."""

    def values(x: torch.Tensor, _: int) -> torch.Tensor:
        _check_places("channel", channels, x.shape[-1])
        return x.index_fill(-1, torch.tensor(channels, device=x.device), 0)

    def domain(d: Domain) -> Domain:
        if not d.own_axes:
            raise ValueError("drop names entries of vectors, and this signal is a scalar; mute(...) names heads")
        return _with_zero(d)

    return Change(f"drop({', '.join(map(str, channels))})", values, domain)


def mute(*heads: int) -> Change:
    """Zero in these heads; of a signal that groups of heads share, in these groups."""

    def values(x: torch.Tensor, axis: int) -> torch.Tensor:
        _check_places("head", heads, x.shape[axis])
        return x.index_fill(axis, torch.tensor(heads, device=x.device), 0)

    return Change(f"mute({', '.join(map(str, heads))})", values, _with_zero)


VERBS: dict[str, Callable[..., Change]] = {f.__name__: f for f in (clamp, scale, constant, drop, mute)}


def change_of(value: Any) -> Change:
    """A Change as it is; a number or tensor as a constant; a function of the signal, on the widest domain there is."""
    if isinstance(value, Change):
        return value
    if isinstance(value, (int, float, torch.Tensor)):
        return constant(value)
    if callable(value):
        name = getattr(value, "__name__", "function")
        function: Any = value
        return Change(name, lambda x, _: function(x), lambda d: _on(d, Interval() if d.reals == 1 else Complex))
    raise TypeError(f"an edit is a change ({', '.join(VERBS)}), a number, a tensor or a function, got {value!r}")


def parse_edit(text: str) -> tuple[str, Edit]:
    """ "layers.0.mixer:dt=scale(0.5)" -> path and edit, for the command line.

    >>> path, edit = parse_edit("layers.0.mixer:dt=scale(0.5)")
    >>> path, str(edit)
    ('layers.0.mixer', 'dt = scale(0.5)')
    """
    path, colon, assignment = text.partition(":")
    signal, equals, change = assignment.partition("=")
    verb, _, numbers = change.strip().partition("(")
    example = "as in layers.0.mixer:beta=clamp(0,1)"
    if not (colon and equals and signal.strip() and numbers.endswith(")")) or verb not in VERBS:
        raise ValueError(f"an edit is PATH:SIGNAL=CHANGE, with {', '.join(VERBS)}, {example}; got {text!r}")
    try:
        values = ast.literal_eval(f"({numbers[:-1].replace('oo', '1e999')},)") if numbers[:-1].strip() else ()
    except (ValueError, SyntaxError):
        raise ValueError(f"{change.strip()} does not read: between the brackets stand numbers, {example}") from None
    try:
        return path.strip(), Edit(signal.strip(), VERBS[verb](*values))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{change.strip()} does not read: {error}; {example}") from None


def _text(x: float) -> str:
    """The number as `parse_edit` reads it."""
    return ("-" * (x < 0) + "oo") if abs(x) == inf else f"{x:g}" if float(f"{x:g}") == x else repr(float(x))


def _interval(d: Domain, verb: str) -> Interval:
    if not isinstance(d.set, Interval):
        raise ValueError(f"{verb} changes real signals, and this one lies in {d.set}")
    return d.set


def _on(d: Domain, s: Any) -> Domain:
    """The domain on another set; what was known of its norm, or its eigenvalues, is not known any more."""
    if d.value or d.kind not in ("scalar", "vector", "matrix"):
        raise ValueError(f"a signal that is a {d} is not edited")
    return replace(d, set=s, unit=False, ball=False, spectrum=Complex)


def _with_zero(d: Domain) -> Domain:
    return _on(d, _interval(d, "drop or mute").hull(Interval(0, 0)))


def _check_places(what: str, places: tuple[int, ...], size: int) -> None:
    if not places or not all(isinstance(i, int) and 0 <= i < size for i in places):
        raise ValueError(f"name {what}s in 0..{size - 1}, got {', '.join(map(str, places)) or 'none'}")
