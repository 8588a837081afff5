"""The cases of `dsf bench`: architectures of the library and some of one's own, at sizes of real layers.

Where a body does arithmetic of its own (decays from step lengths, a gate on the drive), dsf's time includes it, and so
does the peer's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from difflib import get_close_matches

from . import inputs, of_packages, of_torch, own
from .case import Case, Shape

CPU = (Shape(2, 4096, 8, 64, 64),)
CUDA = tuple(Shape(8, T, 16, n, n) for T in (2048, 8192, 32768) for n in (64, 128))
MATRICES = {"cpu": CPU, "cuda": CUDA}
ALIKE = "both sides take the signals as they are"


def _of(cpu: Shape, *cuda: Shape) -> dict[str, tuple[Shape, ...]]:
    return {"cpu": (cpu,), "cuda": cuda}


CASES = (
    Case(
        "linear_attention",
        "linear_attention",
        ALIKE,
        MATRICES,
        inputs.attention,
        (of_torch.ATTENTION_AS_YARDSTICK, of_packages.FLA_LINEAR),
    ),
    Case(
        "mamba2",
        "mamba2",
        "both sides make the decays and dt k, and add d u",
        MATRICES,
        inputs.mamba2,
        (of_packages.MAMBA2, of_packages.FLA_SIMPLE_GLA),
    ),
    Case("gla", "gla", ALIKE, MATRICES, inputs.gla, (of_packages.FLA_GLA,)),
    Case(
        "gated_deltanet",
        "gated_deltanet",
        ALIKE,
        MATRICES,
        inputs.delta,
        (of_packages.GATED_DELTA, of_packages.FLA_GATED_DELTA),
    ),
    Case("kda", "kda", ALIKE, MATRICES, inputs.kda, (of_packages.KIMI_DELTA, of_packages.FLA_KIMI_DELTA)),
    Case(
        "mamba",
        "mamba",
        "both sides make the decays and dt b u, and add d u",
        _of(Shape(1, 4096, 512, 16, 1), Shape(8, 2048, 2048, 16, 1), Shape(8, 8192, 2048, 16, 1)),
        inputs.mamba,
        (of_packages.MAMBA,),
    ),
    Case(
        "diagonal",
        own.diagonal,
        "both sides take the exponential of the log decays; the sum only reads two such tensors and writes one",
        {"cpu": (Shape(1, 4096, 8, 1024, 1),), "cuda": tuple(replace(shape, p=1) for shape in CUDA)},
        inputs.diagonal,
        (of_torch.ADD, of_torch.LOOP),
    ),
    Case(
        "rglru",
        "rglru",
        "both sides make the gate on the drive",
        _of(Shape(1, 4096, 8, 1024, 1), Shape(8, 8192, 16, 256, 1)),
        inputs.rglru,
        (of_torch.ADD, of_torch.GATED_LOOP, of_packages.RGLRU),
    ),
    Case(
        "softmax_attention",
        "softmax_attention",
        "both sides take q with its scale in it",
        {"cpu": CPU, "cuda": CUDA[:4]},
        inputs.attention,
        (of_torch.ATTENTION,),
    ),
    Case(
        "lstm",
        "lstm",
        "dsf takes the input's shares of the gates; torch makes them of one feature, which costs next to nothing",
        _of(Shape(8, 512, 1, 256, 1), Shape(64, 1024, 1, 512, 1)),
        inputs.lstm,
        (of_torch.LSTM,),
        signals=inputs.lstm_signals,
    ),
    Case(
        "s4d",
        "s4d",
        "both sides discretise; the convolution computes its kernel too, and has no final state",
        _of(Shape(2, 4096, 512, 64, 1), Shape(8, 8192, 1024, 64, 1)),
        inputs.s4d,
        (of_torch.CONVOLUTION,),
        half=False,
    ),
    Case("one_hot", own.one_hot, ALIKE, MATRICES, inputs.one_hot),
    Case("dense", own.dense, ALIKE, _of(Shape(2, 4096, 8, 16, 16), Shape(8, 8192, 16, 16, 16)), inputs.dense),
)


def cases_named(names: Iterable[str] = ()) -> list[Case]:
    """Those cases in the order given, or all; ValueError names the nearest of an unknown one.

    >>> [case.name for case in cases_named(["gla", "kda"])]
    ['gla', 'kda']
    """
    known = {case.name: case for case in CASES}
    for name in (names := list(names)):
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise ValueError(f"no case is called {name!r}; {hint}the cases are {', '.join(known)}")
    return [known[name] for name in names] if names else list(CASES)
