"""What an attention mask says: causal or not, a window, padding. A recurrence can only see what lies behind it."""

from __future__ import annotations

import weakref
from dataclasses import dataclass

import torch

from .recording import Declined

ROWS = 256  # of the mask that are looked at together


@dataclass(frozen=True, eq=False)
class Sight:
    """Which of the S keys each of the last T queries sees: of those before the last `window` (None: all), if `valid`.

    valid [B, S] (None: all): the keys that are no padding.
    """

    window: int | None = None
    valid: torch.Tensor | None = None


def sight(mask: torch.Tensor | Sight | None, queries: int, keys: int, where: str) -> Sight:
    """Reads a mask: bool [..., T, S], True for what is seen, or float, 0 for what is seen and below -1e4 for the rest.

    Raises Declined, with a sentence, for attention that sees what comes after, or that no window and padding explain.
    """
    if isinstance(mask, Sight):
        return mask
    if mask is None:
        if queries > 1:
            raise Declined(f"{where} {BIDIRECTIONAL}")
        return Sight()
    if mask.is_inference():  # nothing says whether it was changed
        return _read(mask, queries, keys, where)
    known = _last.get("mask")
    asked = mask._version, queries, keys
    if known is not None and known[0]() is mask and known[1] == asked:
        return known[2]  # every layer of a model is given the same one, and to read it costs as much as attention
    found = _read(mask, queries, keys, where)
    _last["mask"] = weakref.ref(mask), asked, found
    return found


_last: dict[str, tuple] = {}


def _read(mask: torch.Tensor, queries: int, keys: int, where: str) -> Sight:
    plain = _without_padding(mask, queries, keys)
    if plain is not None:
        return plain
    seen = _as_bool(mask, where)[:, 0, :, :keys]
    if seen.shape[-2] != queries or seen.shape[-1] != keys:
        raise Declined(f"{where} has a mask {tuple(mask.shape)} for {queries} queries and {keys} keys")
    valid, furthest = _extent(seen, where)
    window = None if furthest + 1 >= keys else furthest + 1
    for start in range(0, queries, ROWS):
        rows = seen[:, start : start + ROWS]
        age = _ages(queries, keys, start, rows.shape[1], mask.device)
        expected = (age >= 0) & (age <= furthest) & valid[:, None]
        real = valid[:, keys - queries + start :][
            :, : rows.shape[1], None
        ]  # what a padding token sees is nobody's affair
        if ((rows != expected) & real).any():
            raise Declined(f"{where} has a mask that is neither a window nor padding: no state carries what it sees")
    return Sight(window, None if valid.all() else valid.expand(mask.shape[0], -1))


def _without_padding(mask: torch.Tensor, queries: int, keys: int) -> Sight | None:
    """What most masks are, the same window for all, read while rows are in the cache. None: it is not so."""
    if not queries or mask.shape[-2:] != (queries, keys) or (mask.dtype != torch.bool and not mask.is_floating_point()):
        return None
    for axis in range(mask.dim() - 2):
        mask = mask.narrow(axis, 0, 1) if mask.stride(axis) == 0 else mask
    window = max(1, int(_seen(mask[..., -1, :])[0].flatten(0, -2)[:1].sum())) if mask.dim() > 2 else None
    window = max(1, int(_seen(mask[-1])[0].sum())) if window is None else window
    age = torch.arange(ROWS, device=mask.device)[:, None] - torch.arange(-keys, keys, device=mask.device)
    strip = (age >= 0) & (age < window)  # [r, keys + s]: does query r see key s, where query 0 sees key 0 last?
    for start in range(0, queries, ROWS):
        rows = mask[..., start : start + ROWS, :]
        shift = keys - (keys - queries + start)
        expected = strip[: rows.shape[-2], shift : shift + keys]
        if not all((part == expected).all() for part in _seen(rows)):
            return None
    return Sight(None if window >= keys else window)


def _seen(rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """What is seen; of a float mask twice: what is 0, and what is not below -1e4. They differ where it is a bias."""
    return (rows,) if rows.dtype == torch.bool else (rows == 0, rows > -1e4)


BIDIRECTIONAL = (
    "is bidirectional attention: a token sees those after it, and x_t = A_t x_{t-1} + B_t u_t has seen none of them"
)


def _as_bool(mask: torch.Tensor, where: str) -> torch.Tensor:
    """[B, 1, T, S], True for what is seen."""
    mask = mask[None] if mask.dim() == 3 else mask[None, None] if mask.dim() == 2 else mask
    if mask.shape[1] > 1:
        if (mask != mask[:, :1]).any():
            raise Declined(f"{where} has another mask in each head")
        mask = mask[:, :1]
    if mask.dtype == torch.bool:
        return mask
    if ((mask != 0) & (mask > -1e4)).any():
        raise Declined(f"{where} adds a bias to its scores, of which dsf knows no recurrence")
    return mask == 0


def _ages(queries: int, keys: int, start: int, rows: int, device: torch.device) -> torch.Tensor:
    """t - s [rows, S] of the queries start..start+rows-1 of the last T."""
    t = torch.arange(keys - queries + start, keys - queries + start + rows, device=device)
    return t[:, None] - torch.arange(keys, device=device)


def _extent(seen: torch.Tensor, where: str) -> tuple[torch.Tensor, int]:
    """The keys that any query sees, and how far back the furthest of them is."""
    queries, keys = seen.shape[1:]
    sees = seen.any(-1)
    if not sees.any():
        return seen.any(1), 0
    t = torch.arange(keys - queries, keys, device=seen.device)
    bits = seen.view(torch.uint8) if seen.is_contiguous() else seen.to(torch.uint8)
    first, last = bits.argmax(-1), keys - 1 - bits.flip(-1).argmax(-1)  # argmax: the first of several
    if ((last > t) & sees).any():
        raise Declined(f"{where} {BIDIRECTIONAL}")
    return seen.any(1), int((t - first)[sees].max())
