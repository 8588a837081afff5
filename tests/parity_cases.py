"""What the tests of parity share: the expected verdicts, and short ways to an architecture and its answer."""

import torch

import dsf
from dsf import Scalar, architecture

NO = """deltanet gated_deltanet gla kda linear_attention lssl mamba mamba2 mlstm retnet rglru rwkv4 rwkv6 s4d
    short_convolution alibi softmax_attention""".split()
YES = "deltaproduct elman gru lstm titans".split()
UNDECIDED: list[str] = []
TWO = Scalar(0, 2)


def named(name, **domains):
    return dsf.architecture_named(name).with_domain(**domains)


def answer(x):
    """The answer; where there is one, its certificate must pass."""
    verdict = dsf.parity(x)
    assert verdict.answer is None or verdict.check()
    return verdict.answer


def mine(body):
    """A body of one's own, unregistered."""
    return architecture(f"my {body.__name__}", register=False)(body)


def ones(n=2):
    return torch.ones(1, 1, 1, n, dtype=torch.float64)
