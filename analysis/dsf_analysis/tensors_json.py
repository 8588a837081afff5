"""Tensors and numbers in JSON, without loss: shapes, dtypes, and shortest decimals that give the same floats back."""

from __future__ import annotations

import math
from typing import Any

import torch

_DTYPES = {str(t).removeprefix("torch."): t for t in (torch.float32, torch.float64, torch.complex128, torch.int64)}


def number_to_json(x: float) -> float | str:
    """A float, or "oo", "-oo", "nan"."""
    return float(x) if math.isfinite(x) else "nan" if math.isnan(x) else "oo" if x > 0 else "-oo"


def number_of_json(x: Any) -> float:
    """Its inverse. ValueError for anything else."""
    known = {"oo": math.inf, "-oo": -math.inf, "nan": math.nan}
    if isinstance(x, str) and x in known:
        return known[x]
    if isinstance(x, (int, float)) and not isinstance(x, bool):
        return float(x)
    raise ValueError(f"a number, oo or -oo is needed, got {x!r}")


def tensor_to_json(x: torch.Tensor) -> dict[str, Any]:
    """Shape, dtype and numbers, real and imaginary parts in turn."""
    flat = torch.view_as_real(x.resolve_conj()) if x.is_complex() else x
    whole = not (x.is_floating_point() or x.is_complex())
    data = [int(v) if whole else number_to_json(v) for v in flat.flatten().tolist()]
    return {"dtype": str(x.dtype).removeprefix("torch."), "shape": list(x.shape), "data": data}


def tensor_of_json(row: Any) -> torch.Tensor:
    """Its inverse. ValueError for what is none."""
    try:
        dtype, shape = _DTYPES[row["dtype"]], [int(n) for n in row["shape"]]
        if not dtype.is_floating_point and not dtype.is_complex:
            return torch.tensor([int(v) for v in row["data"]], dtype=dtype).reshape(shape)
        flat = torch.tensor([number_of_json(v) for v in row["data"]], dtype=torch.float64)
        if dtype.is_complex:
            return torch.view_as_complex(flat.reshape(*shape, 2))
        return flat.to(dtype).reshape(shape)
    except (KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"no tensor in JSON: {error}") from None
