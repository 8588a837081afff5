"""Who else can run a case: is the package here, and the function in it?"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

import torch

from .case import Peer, Tensors

PACKAGES = ("torch", "transformers", "fla")


def absent(peer: Peer, device: str) -> str | None:
    """Why a peer cannot run here, or None."""
    kind = torch.device(device).type
    if find_spec(peer.package) is None:
        return f"{peer.package} is not installed"
    if kind not in peer.devices:
        return f"{peer.package} runs it on {', '.join(peer.devices)}, not on {kind}"
    try:
        peer.load()
    except (ImportError, AttributeError) as error:
        return f"this version of {peer.package} has no such function ({error})"
    return None


def picked(*names: str) -> Callable[[Tensors], tuple[torch.Tensor, ...]]:
    """Those tensors as they are."""
    return lambda base: tuple(base[name] for name in names)
