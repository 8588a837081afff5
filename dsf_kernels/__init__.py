"""HOW a system runs: kernels that each cover one structure, and the dispatch that finds one for any system.

dispatch.py chooses, eager/ holds kernels in plain torch (one file = one structure), layers.py the trainable layer.
"""
