"""Loops over vectors: compiled by numba on first use, run by as many threads as torch has.

Threads are made for each run and end with it: nothing is left that a fork could break, and no layer of threads of numba
meets torch's. A run costs some 0.1 ms for it. What is compiled is kept on disk, and made anew when the file of the loop
itself changes; after a change of vectors.py alone, empty __pycache__.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import torch

from . import vectors

WORTH = 2e6  # multiplications that pay for a thread


@cache
def compiled(function: Callable, helpers: tuple[Callable, ...] = ()) -> Callable:
    """The function for numba, and the helpers that it calls; one specialisation per dtype."""
    import numba
    from numba.extending import register_jitable

    vectors.teach()
    for helper in helpers:
        _known(register_jitable, helper)
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no directory for the cache can be written
        return numba.njit(**options)(function)


@cache
def _known(register: Callable, helper: Callable) -> None:
    register(helper)


def flat(x: torch.Tensor) -> np.ndarray:
    """The memory that a tensor spans, as one axis; entries are found by its strides."""
    span = 1 + sum((size - 1) * stride for size, stride in zip(x.shape, x.stride(), strict=True)) if x.numel() else 0
    return x.detach().as_strided((span,), (1,)).numpy()


def over_pieces(run: Callable[[int, int], None], pieces: int, work: float) -> None:
    """run(lo, hi) over all pieces by torch's number of threads; work: multiplications."""
    threads = max(1, min(torch.get_num_threads(), pieces, int(work / WORTH)))
    cuts = [pieces * i // threads for i in range(threads + 1)]
    if threads == 1:
        return run(0, pieces)
    with ThreadPoolExecutor(threads - 1) as pool:
        others = [pool.submit(run, *cut) for cut in zip(cuts[1:-1], cuts[2:], strict=True)]
        run(cuts[0], cuts[1])
        for other in others:
            other.result()
