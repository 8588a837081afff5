"""Kernels written in Triton, for CUDA devices (extra `triton`). One file = one structure; found by their registry.

Nothing here imports Triton before a kernel runs: what it runs is in programs/, one file each.
"""
