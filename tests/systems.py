"""A plain system of vectors, and a drive that fits: what tests change one thing of."""

from dsf import Dense, System
from helpers import numbers

B, T, H, N, P = 2, 6, 2, 3, 2


def plain(**changes):
    parts = {"A": Dense(numbers(B, T, H, N, N) / 2), "B": numbers(B, T, H, N, seed=1), "C": numbers(B, T, H, N, seed=2)}
    return System(**(parts | changes))


def drive(*own):
    return numbers(B, T, H, *(own or (P,)), seed=3)
