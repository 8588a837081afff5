"""Derivatives of derivatives: the gradients of a plain run, as operations that have gradients themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch


def differentiable_gradients(
    plain: Callable[..., Sequence[torch.Tensor]],
    inputs: Sequence[torch.Tensor | None],
    needs: Sequence[bool],
    gradients: Sequence[torch.Tensor],
) -> list[torch.Tensor | None]:
    """Of plain(*inputs), one per input (None where it needs none), given those of its outputs.

    Each input is differentiated through a view of its own: where one was made of another (a write 1 - a beside a decay
    a), a path that leads from it to the other would count twice.
    """
    own = [a.view_as(a) if a is not None and need else a for a, need in zip(inputs, needs, strict=True)]
    pairs = [(y, g) for y, g in zip(plain(*own), gradients, strict=True) if y.requires_grad]
    outputs, weights = zip(*pairs, strict=True)
    wanted = [a for a, need in zip(own, needs, strict=True) if need]
    found = iter(torch.autograd.grad(outputs, wanted, weights, create_graph=True, materialize_grads=True))  # type: ignore[arg-type]
    return [next(found) if need else None for need in needs]
