"""Kernels in plain torch, for every device. One file = one structure; found by their registry, not listed here."""
