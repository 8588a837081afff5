"""Copies between a kernel's buffer and tensors, inside functions that numba compiles."""

from __future__ import annotations

from typing import Any

from .lanes import every_fourth, load, narrow, single, splat, store, wide, width


def room(count: int, multiple: int) -> int:
    """count, up to a multiple."""
    return (count + multiple - 1) // multiple * multiple


def copy(target: Any, at: Any, source: Any, start: Any, count: Any) -> None:
    """target[at : at + count] = source[start : start + count]."""
    row, one = narrow(target), single(target)
    whole = count - count % width(row)
    for i in range(0, whole, width(row)):
        store(target, at + i, load(source, start + i, row))
    for i in range(whole, count):
        store(target, at + i, load(source, start + i, one))


def fill(target: Any, at: Any, count: Any, x: Any) -> None:
    """target[at : at + count] = x."""
    row, one = splat(x, narrow(target)), splat(x, single(target))
    whole = count - count % width(row)
    for i in range(0, whole, width(row)):
        store(target, at + i, row)
    for i in range(whole, count):
        store(target, at + i, one)


def clear(target: Any, at: Any, count: Any) -> None:
    """target[at : at + count] = 0."""
    fill(target, at, count, 0.0)


def copy_scaled(target: Any, at: Any, source: Any, start: Any, count: Any, scale: Any) -> None:
    """target[at : at + count] = scale source[start : start + count]."""
    row, one = narrow(target), single(target)
    whole = count - count % width(row)
    for i in range(0, whole, width(row)):
        store(target, at + i, row + splat(scale, row) * load(source, start + i, row))
    for i in range(whole, count):
        store(target, at + i, one + splat(scale, one) * load(source, start + i, one))


def enter(buffer: Any, S: Any, x: Any, start: Any, n: Any, p: Any, P: Any) -> None:
    """A state [n, p] into tiles, wide ones first: rows of a tile behind each other, columns behind p zero."""
    j = 0
    while j < P:
        size = width(wide(x)) if j + width(wide(x)) <= P else width(narrow(x))
        used = min(size, p - j)
        for i in range(n):
            copy(buffer, S + j * n + i * size, x, start + i * p + j, used)
            clear(buffer, S + j * n + i * size + used, size - used)
        j += size


def leave(x: Any, start: Any, buffer: Any, S: Any, n: Any, p: Any, P: Any) -> None:
    """The tiles back into a state [n, p]."""
    j = 0
    while j < P:
        size = width(wide(x)) if j + width(wide(x)) <= P else width(narrow(x))
        for i in range(n):
            copy(x, start + i * p + j, buffer, S + j * n + i * size, min(size, p - j))
        j += size


def place(strides: Any, leaf: Any, b: Any, t: Any, h: Any) -> Any:
    """Where a token of a leaf begins."""
    return b * strides[3 * leaf] + t * strides[3 * leaf + 1] + h * strides[3 * leaf + 2]


def every_fourth_out(target, start, buffer, at, n) -> None:
    """target[start : start + n] = buffer[at], buffer[at + 4], ..."""
    row = narrow(target)
    whole = n - n % width(row)
    for i in range(0, whole, width(row)):
        store(target, start + i, every_fourth(buffer, at + 4 * i, row))
    for i in range(whole, n):
        target[start + i] = buffer[at + 4 * i]
