"""What `explain` returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .costs import NOMINAL, Cost
from .sizes import Sizes


@dataclass(frozen=True)
class Explanation:
    """Which kernel runs a system, by which lifts, at which predicted cost; printing it says all of that.

    kernel: the name.  declined: every other kernel -> why not it.  route: the structures climbed through.
    cost: predicted for that kernel.  floor: what no kernel can avoid.  sizes: of the run, assumed where not given.
    """

    kernel: str
    declined: Mapping[str, str]
    route: tuple[str, ...]
    cost: Cost
    floor: Cost
    sizes: Sizes = field(repr=False)
    also: tuple[Explanation, ...] = ()  # of the other direction

    @property
    def milliseconds(self) -> float:
        """Predicted from the nominal rates of costs.NOMINAL; not measured."""
        return self.cost.milliseconds(self.sizes.device)

    def __str__(self) -> str:
        machine, device = NOMINAL.get(self.sizes.device, NOMINAL["cpu"]), self.sizes.device
        lines = [
            f"{self.kernel}: {' -> '.join(self.route)}",
            f"  sizes      {self.sizes}",
            f"  predicted  {self.cost}; {self.milliseconds:.3g} ms (predicted, nominal)",
            f"  floor      {self.floor}; {self.floor.milliseconds(device):.3g} ms (predicted, nominal)",
            *(f"  {name} not taken: {why}" for name, why in self.declined.items()),
            f"  nominal    {machine.name}: {machine.bandwidth / 1e9:.0f} GB/s, {machine.rate / 1e9:.0f} GFLOP/s, "
            f"{machine.call * 1e6:.0f} us a call; forward only; not measured",
        ]
        return "\n".join([*lines, *(f"backward in time, {other}" for other in self.also)])

    __repr__ = __str__
