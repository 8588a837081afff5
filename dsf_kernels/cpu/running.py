"""Compiled loops run by as many threads as torch has.

Threads are made for each run and end with it: nothing is left that a fork could break, and no layer of threads of numba
meets torch's. A run costs some 0.1 ms for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

WORTH = 1e6  # multiplications that pay for a thread
CALLS = 20  # operations of torch that take as long as a run takes at least


def addresses(*tensors: torch.Tensor | None) -> tuple[int, ...]:
    """Where each begins; 0 of none."""
    return tuple(0 if x is None else x.data_ptr() for x in tensors)


def over_rows(run: Callable, arguments: tuple, like: torch.Tensor, memory: int, rows: int, work: float) -> None:
    """run(*arguments, kind, memory, lo, hi) over all rows by torch's number of threads.

    Each has a buffer of zeros of its own. work: multiplications; too few are not worth a thread.
    """
    kind = _KINDS[like.dtype]
    threads = max(1, min(torch.get_num_threads(), rows, int(work / WORTH)))
    buffers = [torch.zeros(memory, dtype=like.dtype) for _ in range(threads)]
    cuts = [rows * i // threads for i in range(threads + 1)]
    calls = [(*arguments, kind, b.data_ptr(), *cut) for b, *cut in zip(buffers, cuts[:-1], cuts[1:], strict=True)]
    if threads == 1:
        return run(*calls[0])
    errors: list[BaseException] = []

    def attempt(call: tuple[Any, ...]) -> None:
        try:
            run(*call)
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    others = [threading.Thread(target=attempt, args=(call,)) for call in calls[1:]]
    for thread in others:
        thread.start()
    attempt(calls[0])
    for thread in others:
        thread.join()
    if errors:
        raise errors[0]


_KINDS = {
    torch.float32: np.float32(0),
    torch.float64: np.float64(0),
    torch.complex64: np.complex64(0),
    torch.complex128: np.complex128(0),
}
