"""What this device can do at all, measured: the speed of a copy and of matrix products. The floor rests on them.

    floor of a run = max(bytes that it must move / copy speed, flops of the plain recurrence / speed of products)

Forward: costs.floor. With backward three times that: the inputs are read once more, a gradient is read and one is
written for each of them, and each product of the forward pass has two in the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..costs import Cost
from .measure import timer

PASSES = {"forward": 1, "with backward": 3}
COPIED = {"cpu": 2**26, "cuda": 2**28}  # entries of fp32: beyond every cache
PRODUCT = {"cpu": 1024, "cuda": 8192}
ROUNDS = 8


@dataclass(frozen=True)
class Rates:
    """bytes/s of a copy (read and written), flop/s of a large matrix product in this dtype."""

    copy: float
    product: float

    def floor(self, cost: Cost, direction: str = "forward") -> float:
        """Milliseconds that no kernel can avoid.

        >>> Rates(copy=1e9, product=1e9).floor(Cost(flops=2e6, bytes=1e6), "with backward")
        6.0
        """
        return 1e3 * PASSES[direction] * max(cost.bytes / self.copy, cost.flops / self.product)


def measured(device: str, dtype: torch.dtype) -> Rates:
    """Of this device, here and now: the quickest of a few, since a floor is what the device can do."""
    kind = torch.device(device).type
    x, y = (torch.ones(COPIED[kind], device=device) for _ in range(2))
    copied = 2 * x.nbytes / _seconds(lambda: y.copy_(x), device)
    n = PRODUCT[kind]
    a = torch.randn(n, n, device=device).to(dtype)  # of equal numbers a GPU makes products faster
    out = torch.empty_like(a)
    return Rates(copied, 2 * n**3 / _seconds(lambda: torch.mm(a, a, out=out), device))


def _seconds(call: Callable[[], object], device: str) -> float:
    clock = timer(device)
    return min([clock(call) for _ in range(ROUNDS)])
