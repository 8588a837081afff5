"""Kernels compiled for the CPU by numba (extra `cpu`). One file = one structure; found by their registry."""
