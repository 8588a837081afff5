"""The sizes of a run, on which predicted costs rest."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from dsf.feedback import Feedback
from dsf.system import System
from dsf.tree import leaves

from .packing import Outline
from .reach import working_dtype

ASSUMED_LENGTH, ASSUMED_CHANNELS = 1024, 64


@dataclass(frozen=True)
class Sizes:
    """Of a run: state [batch, heads, n, p], `length` tokens of `micro` steps, bytes per entry. `assumed` says of which
    of them the system alone does not tell. packed: where they are several sequences in one.
    trains: are gradients wanted?"""

    batch: int
    length: int
    heads: int
    n: int
    p: int
    itemsize: int
    device: str = "cpu"
    micro: int = 1
    assumed: str = ""
    packed: Outline | None = None
    trains: bool = False

    @property
    def steps(self) -> int:
        return self.length * self.micro

    @property
    def sequences(self) -> int:
        return self.packed.sequences if self.packed else self.batch

    @property
    def longest(self) -> int:
        """Steps of the longest sequence."""
        return self.micro * (self.packed.longest if self.packed else self.length)

    @property
    def rows(self) -> int:
        """Sequences that run side by side."""
        return self.batch * self.heads

    def __str__(self) -> str:
        micro = f", J {self.micro}" if self.micro > 1 else ""
        note = f" ({self.assumed})" if self.assumed else ""
        run = f"B {self.batch}, T {self.length}, H {self.heads}{micro}, n {self.n}, p {self.p}"
        return f"{run}, {self.itemsize}-byte entries{note}"


def sizes_of(system: System | Feedback, u: torch.Tensor | None = None) -> Sizes:
    """From the drive; without it from the system's leaves, and T (nothing varies in time) and p are assumed."""
    feedback = isinstance(system, Feedback)
    known = leaves(tuple(system.values.values())) if feedback else system.leaves
    B, T, H = (max((leaf.shape[axis] for leaf in known), default=1) for axis in range(3))
    n = known[0].shape[-1] if feedback else system.state_size
    vectors = feedback or system.input_size is not None
    micro = 1 if feedback else system.micro_steps or 1
    ones = 0 if feedback else int(system.normalised)
    itemsize = working_dtype(system, u).itemsize
    if u is not None:
        p = 1 if vectors else u.shape[-1] + ones
        trains = torch.is_grad_enabled() and any(x.requires_grad for x in (u, *known))
        return Sizes(u.shape[0], u.shape[1], u.shape[2], n, p, itemsize, u.device.type, micro, trains=trains)
    assumed = [f"T = {ASSUMED_LENGTH}"] * (T == 1) + [f"p = {ASSUMED_CHANNELS}"] * (not vectors)
    note = f"{' and '.join(assumed)} assumed: pass u" if assumed else ""
    device, p = known[0].device.type if known else "cpu", 1 if vectors else ASSUMED_CHANNELS + ones
    return Sizes(B, ASSUMED_LENGTH if T == 1 else T, H, n, p, itemsize, device, micro, note)
