"""How a program reaches the device: who may run it, in which precision, on which sizes.

With TRITON_INTERPRET=1 in the environment, set before Triton is imported, programs run in Triton's interpreter on the
CPU, step by step, in fp32 alone: its bfloat16 is wrong.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial, reduce
from typing import Any

import torch

from ..recurrences import lined
from ..registry import kernel

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICES = ("cpu",) if INTERPRETED else ("cuda",)
DTYPES = (torch.float32,) if INTERPRETED else (torch.float16, torch.bfloat16, torch.float32)
LONGEST = 65535  # programs along the second and third axis of a grid
MULTIPROCESSORS = 132  # of the card that sizes are chosen for where there is none
SHARED, SMALL = 163 * 1024, 99 * 1024  # bytes of shared memory that a program may have there, and on cards for graphics

gpu_kernel: Callable[..., Callable] = partial(kernel, dtypes=DTYPES, devices=DEVICES, needs=("triton", "triton"))


def alike(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """What is multiplied with one another, in the dtype to which all promote; decays have their own."""
    dtype = reduce(torch.promote_types, (x.dtype for x in tensors))
    return tuple(x.to(dtype) for x in tensors)


def up_to(rows: int = LONGEST, sequences: int = LONGEST**2) -> Callable[[Any], str | None]:
    """What `fits` is where a program holds all rows of a state, or an axis of the grid is as long as the run."""

    def fits(z: Any) -> str | None:
        if z.n > rows:
            return f"its programs hold states of up to {rows} rows, this one has {z.n}"
        if z.sequences > sequences:
            return f"its grid has room for {sequences} sequences"
        return None

    return fits


def launch(program: Any, grid: tuple[int, ...], like: torch.Tensor, *arguments: Any, **constants: Any) -> None:
    """program[grid](*arguments, **constants) on the device of `like`; an empty grid is nothing to do."""
    if max(grid[1:], default=0) > LONGEST:
        raise ValueError(f"a run of this size takes a grid of {grid}, and CUDA has {LONGEST} at most: split the batch")
    if all(grid):
        with torch.cuda.device(like.device) if like.is_cuda else nullcontext():
            program[grid](*arguments, **constants)


def power(size: int, least: int = 16) -> int:
    """The next power of two, at least 16: what a tile's side, and a side of a product of tiles, has to be."""
    return max(least, 1 << (size - 1).bit_length())


def multiprocessors(device: torch.device) -> int:
    """How many programs run side by side at least."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else MULTIPROCESSORS


def shared_memory(device: torch.device) -> int:
    """Bytes that one program may have."""
    if device.type != "cuda":
        return SHARED
    card = torch.cuda.get_device_properties(device)
    small = (card.major, card.minor) in ((8, 6), (8, 9)) or card.major == 12
    return getattr(card, "shared_memory_per_block_optin", SMALL if small else SHARED)  # torch 2.6 does not tell


def placed(x: torch.Tensor, B: int, T: int, H: int, size: int | None = None) -> tuple[Any, ...]:
    """A leaf [B | 1, T | 1, H | 1, n] whose rows lie entry behind entry, and its strides of batch, time and head; 0
    where it is broadcast."""
    x = lined(x, size)
    return x, *x.expand(B, T, H, x.shape[-1]).stride()[:3]


def operands(dtype: torch.dtype) -> dict[str, Any]:
    """The dtype in which products take their factors, and their precision.

    A state may outgrow float16, whose factors go through TF32: as many digits, the range of float32. fp32 takes three
    TF32 products, which together have its digits.
    """
    import triton.language as tl

    KIND = {torch.bfloat16: tl.bfloat16}.get(dtype, tl.float32)
    return {"KIND": KIND, "PRECISION": "tf32x3" if dtype == torch.float32 else "tf32"}
