"""The trainable layer: what an architecture needs per token is projected from x, into the domains of its signals."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import nn
from torch.nn.functional import silu

from dsf.definition import Architecture, architecture_named
from dsf.feedback import Feedback
from dsf.system import System

from . import layer_parts as parts
from .dispatch import simulate
from .graphs import key_of, run_in_graph
from .initial_values import start, start_of_param
from .layer_parts import MixerState, ShortConvolution

EPSILON = 1e-5  # of the norm


class Mixer(nn.Module):
    """x -> signals and drive -> the system -> y: an architecture as a layer, used like torch.nn.LSTM(batch_first=True).

        signals = domain.project(W x + b)      u = W_u x      x_t = A_t x_{t-1} + B_t u_t ...      out = W_o y
        with conv = 4, gate = True, norm = "rms":   q, k, u through silu(conv(.)),   out = W_o (rms(y) silu(W_g x))

    Args:
        architecture: a name in `dsf.architectures()`, or an Architecture.
        d_model: features of the input and of the output.
        heads: independent systems side by side.
        n, p: state size and channels per head; both d_model / heads unless given. Where B is an operator (LSTM), p = 1
            and u has n entries.
        conv: width of a short causal convolution with SiLU, one filter per channel, over the drive and the projected
            vectors that are written and read (q, k); decays, gates and scalars pass by. None: there is none.
        gate: multiply y by silu(W_g x) before the outward map, after the norm.
        norm: "rms" divides every head of y by its root mean square. None: it does not.
        backend: as in `dsf.simulate`.
        device, dtype: of the parameters.

    Signals that are functions of the token share one linear map; constants (Param) are parameters, raw values behind
    the domain's projection; Fixed ones are buffers. Raises TypeError for an architecture that has no trainable layer
    (integer signals), ValueError for sizes or options that do not fit.

    >>> import torch
    >>> layer = Mixer("gated_deltanet", d_model=32, heads=4)
    >>> y, state = layer(torch.randn(2, 10, 32))
    >>> y.shape, state.shape
    (torch.Size([2, 10, 32]), torch.Size([2, 4, 8, 8]))
    >>> y, state = layer(torch.randn(2, 1, 32), state)

    One token after the other, the cache after a prompt that was read at once:

    >>> layer = Mixer("gated_deltanet", d_model=32, heads=4, conv=4, gate=True, norm="rms")
    >>> y, cache = layer(torch.randn(2, 10, 32))
    >>> y, cache = layer.step(torch.randn(2, 32), cache)
    >>> y.shape
    torch.Size([2, 32])
    """

    def __init__(
        self,
        architecture: str | Architecture,
        d_model: int,
        heads: int,
        n: int | None = None,
        p: int | None = None,
        *,
        conv: int | None = None,
        gate: bool = False,
        norm: str | None = None,
        backend: str = "auto",
        device: Any = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.architecture = architecture_named(architecture) if isinstance(architecture, str) else architecture
        self.d_model, self.heads, self.backend = d_model, heads, backend
        parts.check_options(conv, gate, norm)
        self._layout = parts.layout_of(self.architecture, d_model, heads, n, p)
        self._key = key_of(self.architecture, backend)
        self.n, self.p = self._layout.n, self._layout.p
        signals = self.architecture.signals
        self._drive: tuple[int, ...] = self._layout.drive
        self.constant = tuple(k for k, d in signals.items() if d.const)
        seen = [k for k in signals if conv is not None and parts.convolved(self.architecture, k)]
        passing = [k for k, d in signals.items() if not d.const and k not in seen]
        self.projected = (*passing, *seen)  # what a convolution sees comes last, with the drive
        self._passing = [prod(self._layout.raw(signals[k])) for k in passing]
        self._seen = [*(prod(self._layout.raw(signals[k])) for k in seen), prod(self._drive)]
        self.inward = nn.Linear(d_model, sum(self._passing) + sum(self._seen), device=device, dtype=dtype)
        self.convolution = None if conv is None else ShortConvolution(sum(self._seen), conv, device, dtype)
        for name in self.constant:
            if signals[name].value:
                fixed = torch.zeros(self._layout.shape(signals[name]), device=device, dtype=dtype)
                self.register_buffer(f"fixed_{name}", fixed, persistent=False)
            else:
                raw = torch.zeros(self._layout.raw(signals[name]), device=device, dtype=dtype)
                self.register_parameter(f"raw_{name}", nn.Parameter(raw))
        *_, channels = shape = self._output_shape()
        width = prod(shape)
        if norm and channels == 1:
            raise ValueError('norm="rms" would keep but the sign of y: a head has one channel; give p > 1, or no norm')
        self.norm = nn.RMSNorm(channels, EPSILON, device=device, dtype=dtype) if norm else None
        self.gate = nn.Linear(d_model, width, bias=False, device=device, dtype=dtype) if gate else None
        self.outward = nn.Linear(width, d_model, device=device, dtype=dtype)
        self.reset_parameters()

    @torch.no_grad()
    def _output_shape(self) -> torch.Size:
        """The heads of y and what each gives: a run of one step shows it (without values on the device "meta")."""
        x = self.inward.weight.new_zeros(1, 1, self.d_model)
        y = simulate(*self.system(x), backend="reference" if x.is_meta else self.backend)[0]
        if y.is_complex():
            raise ValueError(f"the output of {self.architecture.name} is complex; read its state with C=RealPart(c)")
        return y.shape[2:]

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Linear maps as in torch.nn.Linear without bias; biases and constants where initial_values starts domains.

        Fixed constants are filled in again too: a layer made on the device "meta" is ready after `to_empty` and this.
        """
        for part in (self.inward, self.convolution, self.norm, self.gate, self.outward):
            if part is not None:
                part.reset_parameters()
        self.inward.bias.zero_()
        self.outward.bias.zero_()
        signals, shape = self.architecture.signals, self._layout.shape
        biases = self.inward.bias.split([*self._passing, *self._seen])[:-1]
        with torch.device("cpu"):  # also while modules are made on another device
            for name, bias in zip(self.projected, biases, strict=True):
                bias.copy_(start(signals[name], shape(signals[name])).flatten())
            for name in self.constant:
                if signals[name].value:
                    getattr(self, f"fixed_{name}").copy_(signals[name].fixed(self.n, torch.float64))
                else:
                    getattr(self, f"raw_{name}").copy_(start_of_param(signals[name], shape(signals[name])))

    def system(self, x: torch.Tensor) -> tuple[System | Feedback, torch.Tensor]:
        """The system of an input x [B, T, d_model] and its drive u: for `dsf.explain`, `dsf.spectrum`, ...

        Raises ValueError or TypeError where x has another shape or is not floating point.
        """
        signals, u, _ = self._signals(x)
        return self.architecture(**signals), u

    def _signals(self, x: torch.Tensor, tail: Any = None) -> tuple[dict[str, torch.Tensor], torch.Tensor, Any]:
        """The signals and the drive of x, and the tail of the convolution, which began with the one given."""
        parts.check_input(x, self.d_model)
        passing, seen = self.inward(x).split([sum(self._passing), sum(self._seen)], -1)
        if self.convolution is not None:
            seen, tail = self.convolution(seen, tail)
        *varying, drive = *passing.split(self._passing, -1), *seen.split(self._seen, -1)
        domains = self.architecture.signals
        raw = {k: x.unflatten(-1, self._layout.raw(domains[k])) for k, x in zip(self.projected, varying, strict=True)}
        raw |= {k: getattr(self, f"raw_{k}") for k in self.constant if not domains[k].value}
        signals = {k: parts.project(domains[k], values) for k, values in raw.items()}
        signals |= {k: getattr(self, f"fixed_{k}") for k in self.constant if k not in raw}
        return signals, drive.unflatten(-1, self._drive), tail

    def forward(self, x: torch.Tensor, state: Any = None) -> tuple[torch.Tensor, Any]:
        """x [B, T, d_model] -> y [B, T, d_model] and the final state, which continues the sequence.

        The state is the system's; with a short convolution it is MixerState(state, tail), which holds its last inputs.
        """
        parts.check_mixer_state(state, self.convolution is not None)
        before, tail = state if isinstance(state, MixerState) else (state, None)
        signals, u, tail = self._signals(x, tail)
        if torch.compiler.is_compiling():  # one operation of the graph: kernels are compiled already
            y, after = run_in_graph(self._key, tuple(self.architecture.signals), signals, u, before)
        else:
            y, after = simulate(self.architecture(**signals), u, before, backend=self.backend)
        if self.norm is not None:
            y = self.norm(y.to(self.norm.weight.dtype))  # autocast leaves y in half precision and the weight in fp32
        y = y.flatten(2)
        y = self.outward(y if self.gate is None else y * silu(self.gate(x)))
        return y, (after if tail is None else MixerState(after, tail))

    def step(self, x: torch.Tensor, cache: Any = None) -> tuple[torch.Tensor, Any]:
        """One token, x [B, d_model] or [B, 1, d_model], to y of the same shape, and the cache for the next.

        The cache is the state of `forward` (None before the first token): a prompt may be read by it at once.
        """
        parts.check_token(x)
        y, cache = self(x if x.dim() == 3 else x[:, None], cache)
        return y.reshape(x.shape), cache

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._key = key_of(self.architecture, self.backend)  # a key is one process's

    def extra_repr(self) -> str:
        """One line in the repr: name and sizes."""
        sizes = f"d_model={self.d_model}, heads={self.heads}, n={self.n}, p={self.p}"
        return f"{self.architecture.name}, {sizes}" + (f", backend={self.backend}" if self.backend != "auto" else "")
