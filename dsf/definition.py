"""An architecture: ONE typed function, and its readings on tensors, symbols, names and bounds."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
import sympy as sp
import torch

from .composites import Writes
from .deferred import Deferred, is_long
from .domains import Domain
from .feedback import Feedback
from .operators import Dense, Operator
from .sets import Interval, Polar, Rectangle, Set, inf
from .system import System
from .transforms import normalised
from .validation import check_signals
from .values import Bound


@dataclass(frozen=True, eq=False)
class Architecture:
    """A body with the domains of its signals. Call it with tensors to get a System (or a Feedback).

    >>> import dsf
    >>> deltanet = dsf.architecture_named("deltanet")
    >>> signals, u = deltanet.sample(batch=1, length=8, heads=2, n=4, p=3)
    >>> y, state = dsf.simulate(deltanet(**signals), u)
    >>> y.shape, state.shape
    (torch.Size([1, 8, 2, 3]), torch.Size([1, 2, 4, 3]))
    """

    title: str
    body: Callable[..., System]
    signals: Mapping[str, Domain]
    year: int | None = None
    cite: str | None = None
    wrappers: tuple[Callable[[System], System], ...] = ()
    reserved_names: Mapping[str, str] = field(default_factory=dict)  # parameter -> "drive" | "previous"

    @property
    def name(self) -> str:
        """The lower-case identifier: the name of the function."""
        return self.body.__name__

    @property
    def steps(self) -> int:
        """The number of micro-steps J of a token, 0 where it has none."""
        return max((d.steps for d in self.signals.values()), default=0)

    @property
    def feedback(self) -> bool:
        """Does the body read y_{t-1}?"""
        return "previous" in self.reserved_names.values()

    def reserved(self, y: Any, u: Any) -> dict[str, Any]:
        """The reserved parameters of the body, given y_{t-1} and u_t."""
        return {name: {"previous": y, "drive": u}[kind] for name, kind in self.reserved_names.items()}

    def with_domain(self, **domains: Domain) -> Architecture:
        """The same body on other domains: another equation, layer, test and verdict."""
        self._check_known(domains)
        for name, domain in domains.items():
            if not isinstance(domain, Domain) or domain.kind in ("drive", "previous"):
                raise TypeError(f"{name} should be a domain such as Scalar(0, 2), got {domain!r}")
        return replace(self, signals=MappingProxyType({k: domains.get(k, d) for k, d in self.signals.items()}))

    def _check_known(self, names: Mapping[str, Any]) -> None:
        if unknown := names.keys() - self.signals.keys():
            raise TypeError(f"{self.name} has the signals {', '.join(self.signals)}, not {', '.join(sorted(unknown))}")

    def normalised(self, floor: float | None = None) -> Architecture:
        """The same architecture with its output divided by its own run on ones (see transforms.normalised)."""
        return replace(self, wrappers=(*self.wrappers, partial(normalised, floor=floor)))

    def open_range(self, delta: float = 1e-6) -> Architecture:
        """The same architecture on domains shrunk by delta: what it can do without reaching their ends.

        Raises ValueError where delta is not positive, or so large that a domain would be empty.
        """
        if not (isinstance(delta, (int, float)) and 0 < delta < inf):
            raise ValueError(f"delta is a small positive number, got {delta!r}")
        return replace(self, signals=MappingProxyType({k: d.shrunk(delta) for k, d in self.signals.items()}))

    def evaluate(self, values: Mapping[str, Any], y: Any = None, u: Any = None) -> System:
        """The body on signals in any reading, given y_{t-1} and u_t where it reads them."""
        system = self.body(**values, **self.reserved(y, u))
        if not isinstance(system, System):
            raise TypeError(f"the body of {self.name} should return a System, got {type(system).__name__}")
        if self.steps and not isinstance(system.B, Writes):
            raise TypeError(f"{self.name} has signals Each(...), so its body should return microsteps(System(...))")
        if self.reserved_names and not (system.input_is_vector and system.output_is_vector):
            raise TypeError(
                f"{self.name} reads y_(t-1) or u_t, which are vectors: B and C should be operators, such as diag(b), I"
            )
        for wrap in self.wrappers:
            system = wrap(system)
        return replace(system, architecture=self)

    def __deepcopy__(self, memo: dict) -> Architecture:
        return self  # it never changes; layers that hold one are copied

    def __reduce__(self):  # a body cannot be pickled (its name is this object): it is found again by its name
        return _restored, (self.name, dict(self.signals), self.wrappers)

    # ------------------------------------------------------------------------------------------------------ readings
    def __call__(self, **tensors: torch.Tensor) -> System | Feedback:
        """Signals in the public layout -> System. Sizes are compared, never broadcast.

        Raises TypeError for unknown or missing signals, ValueError for a size or device that does not fit.
        """
        check_signals(self.name, dict(self.signals), tensors)
        groups = max((d.groups for d in self.signals.values()), default=1)  # the heads, where every signal is shared
        heads = next((tensors[k].shape[d.axes.index("H")] for k, d in self.signals.items() if not d.groups), groups)
        values = {k: self._canonical(d, tensors[k], heads) for k, d in self.signals.items()}
        if self.reserved_names:
            if not isinstance(self.bounds().B, Operator):
                raise TypeError(
                    f"{self.name} reads y_{{t-1}} or transforms the drive, so its input is a vector: B must be an "
                    "operator such as I or diag(b). Without y=Previous, drop u=Drive and transform the drive yourself"
                )
            return Feedback(self, values, tensors)
        if is_long(values) and not (system := Deferred.of(self, values, tensors)).is_constant:
            return system
        return replace(self.evaluate(values), signals=tensors)

    def _canonical(self, d: Domain, x: torch.Tensor, heads: int) -> Any:
        """Every leaf [B, T, H, (J,) 1 | n | n, n]: a scalar ends in an axis of size 1, so that bodies broadcast."""
        x = x[None, None] if d.const else x
        if d.groups > 1:
            x = x.repeat_interleave(heads // d.groups, 2)
        if self.steps and not d.steps:
            x = x[:, :, :, None]
            if d.first:
                x = torch.cat([x] + [torch.zeros_like(x)] * (self.steps - 1), 3)
        return Dense(x) if d.kind == "matrix" else x if d.own_axes else x[..., None]

    def symbolic(self, n: int = 2, prefix: str = "") -> System:
        """The System on sympy symbols at a state size n. `prefix` keeps the symbols of two systems apart."""
        _check_size("n", n, 1)

        def canonical(d: Domain, x: np.ndarray) -> Any:
            if self.steps and not d.steps:
                x = np.stack([x] + [0 * x if d.first else x] * (self.steps - 1))
            return Dense(x) if d.kind == "matrix" else x

        symbols = {k: d.symbols(prefix + k, n) for k, d in self.signals.items()}
        reserved = {kind: Domain(kind).symbols(prefix + k, n) for k, kind in self.reserved_names.items()}
        _check_distinct([*symbols.values(), *reserved.values()])
        values = {k: canonical(d, symbols[k]) for k, d in self.signals.items()}
        return self.evaluate(values, reserved.get("previous"), reserved.get("drive"))

    def names(self) -> System:
        """The System on one symbol per signal: equations at generic n."""
        values: dict[str, Any] = {k: sp.Symbol(k, real=True) for k in self.signals}
        values = {k: Dense(v) if self.signals[k].kind == "matrix" else v for k, v in values.items()}
        return self.evaluate(values, sp.Symbol("y_{t-1}", real=True), sp.Symbol("u_t", real=True))

    def bounds(self, **within: Set) -> System:
        """The System on bounds: what A can be over ALL inputs. `within` cuts the sets of some signals."""
        self._check_known(within)
        previous = Bound(Interval(), Interval(0, inf), "state")
        drive = Bound(Interval(), Interval(0, inf), "token")
        return self.evaluate({k: d.bound(within.get(k)) for k, d in self.signals.items()}, previous, drive)

    def sample(
        self,
        batch: int = 2,
        length: int = 64,
        heads: int = 4,
        n: int = 16,
        p: int = 16,
        dtype: torch.dtype = torch.float64,
        generator: torch.Generator | None = None,
        ends: float = 0.1,
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Random signals inside their domains (a share `ends` of them at an end) and a drive u that fits.

        u is [B, T, H, p]; [B, T, H, n] where B is an operator; [B, T, H, J, p] with micro-steps.
        """
        for label, size in {"batch": batch, "length": length, "heads": heads, "n": n, "p": p}.items():
            _check_size(label, size, 0 if label in ("batch", "length") else 1)
        sizes = {"B": batch, "T": length, "H": heads, "n": n}
        signals = {k: d.sample(sizes, dtype, generator, ends) for k, d in self.signals.items()}
        operator = isinstance(self.bounds().B, Operator)
        tail = (self.steps, p) if self.steps else (n,) if operator else (p,)
        return signals, torch.randn((batch, length, heads, *tail), dtype=dtype, generator=generator)

    def __repr__(self) -> str:
        from .printing import describe_architecture

        return describe_architecture(self)

    def _repr_latex_(self) -> str:
        from .printing import architecture_latex

        return architecture_latex(self)


def _check_distinct(arrays: list[np.ndarray]) -> None:
    """sympy takes two symbols of one name for the same: a scalar k_0 beside a vector k would be its first entry."""
    names = [x.name for array in arrays for x in array.ravel() if isinstance(x, sp.Symbol)]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"two entries of the signals would both be the symbol {twice}: rename a signal")


_REGISTRY: dict[str, Architecture] = {}


def architecture(
    title: str, *, year: int | None = None, cite: str | None = None, register: bool = True
) -> Callable[[Callable[..., System]], Architecture]:
    """Makes an Architecture of a body: a function whose defaults are domains and which returns a System.

    The function's name is the architecture's. Redefining it in the same module (a notebook cell) replaces it; a name
    that another module uses is refused with ValueError. register=False keeps it out of `dsf.architectures()`.

    >>> from dsf import I, Scalar, System, Unit, Vector, architecture, outer
    >>> @architecture("My delta rule", register=False)
    ... def mine(q=Vector, k=Unit, beta=Scalar(0, 2)):
    ...     return System(A=I - beta * outer(k), B=beta * k, C=q)
    >>> mine.bounds().A.b.set
    [0, 2]
    """
    if not isinstance(title, str):
        raise TypeError('architecture takes a title: write @architecture("My model")')

    def define(body: Callable[..., System]) -> Architecture:
        if not callable(body):
            raise TypeError(f"@architecture decorates a function, got {type(body).__name__}")
        domains = {k: p.default for k, p in inspect.signature(body).parameters.items()}
        for k, d in domains.items():
            if isinstance(d, (Interval, Rectangle, Polar)):
                raise TypeError(f"{k} of {body.__name__} is a set: say what lies in it, as in {k}=Vector({d})")
            if not isinstance(d, Domain):
                raise TypeError(f"the signal {k} of {body.__name__} needs a domain as its default, as in {k}=Vector")
        reserved = {k: d.kind for k, d in domains.items() if d.kind in ("drive", "previous")}
        signals = MappingProxyType({k: d for k, d in domains.items() if k not in reserved})
        arch = Architecture(title, body, signals, year, cite, reserved_names=MappingProxyType(reserved))
        _try(arch)
        if register:
            owner = _owner(arch.name)
            if owner not in (None, body.__module__):
                raise ValueError(
                    f"the name {arch.name!r} is taken by {owner}: rename the function, or "
                    "register=False (redefining your own is fine)"
                )
            _REGISTRY[arch.name] = arch
        return arch

    return define


def _check_size(label: str, size: Any, least: int) -> None:
    if not isinstance(size, int) or size < least:
        raise ValueError(f"{label} is a whole number >= {least}, got {size!r}")


def _try(arch: Architecture) -> None:
    """Reads the body once, on bounds: a mistake is told where it is made."""
    try:
        arch.bounds()
    except (TypeError, AttributeError) as error:
        raise TypeError(
            f"the body of {arch.name} does not work on bounds: {error}. Bodies are free of branches on values, use "
            "dsf's own functions (dsf.sigmoid, not torch.sigmoid), and return a System"
        ) from error


def _zoo() -> dict[str, str]:
    """The library's own architectures, loaded or not: name -> module (one file = one architecture, of its name)."""
    from . import zoo

    return {found.name: f"{zoo.__name__}.{found.name}" for found in pkgutil.iter_modules(zoo.__path__)}


def _owner(name: str) -> str | None:
    """The module that owns a name, or None."""
    return _zoo().get(name) or (_REGISTRY[name].body.__module__ if name in _REGISTRY else None)


def architectures() -> Mapping[str, Architecture]:
    """Every registered architecture, by name: those of the library, and the user's own."""
    for module in _zoo().values():
        importlib.import_module(module)
    return MappingProxyType(dict(sorted(_REGISTRY.items())))


def architecture_named(name: str) -> Architecture:
    """The architecture of that name; KeyError names the nearest ones."""
    import difflib

    if not isinstance(name, str):
        raise TypeError(f"an architecture is named by a string, got {type(name).__name__}")
    known = architectures()
    if name not in known:
        near = difflib.get_close_matches(name, known, 3, 0.4)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise KeyError(f"no architecture is called {name!r}.{hint} dsf.architectures() lists all {len(known)}.")
    return known[name]


def _restored(name: str, signals: dict[str, Domain], wrappers: tuple) -> Architecture:
    return replace(architecture_named(name), signals=MappingProxyType(signals), wrappers=wrappers)
