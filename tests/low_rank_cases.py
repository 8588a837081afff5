"""Architectures of a diagonal minus a rank-one matrix that no named one has, for the kernels of that structure."""

import dsf
from dsf.operators import DiagonalPlusLowRank

LogDecays = dsf.Vector(-dsf.inf, 0)


@dsf.architecture("Separate erase and write, decay per channel", register=False)
def separate(q=dsf.Vector, erase=dsf.Unit, seen=dsf.Unit, k=dsf.Vector, a=dsf.Gate, g=LogDecays):
    return dsf.System(A=DiagonalPlusLowRank(dsf.decay(g), a, erase, seen), B=k, C=q)


@dsf.architecture("Separate erase and write, read before, one decay", register=False)
def separate_before(q=dsf.Shared(dsf.Vector), erase=dsf.Unit, seen=dsf.Shared(dsf.Unit), k=dsf.Vector, g=dsf.LogDecay):
    return dsf.System(A=DiagonalPlusLowRank(dsf.decay(g), 1, erase, seen), B=k, C=q, reads="before")


@dsf.architecture("Signed diagonal minus rank one, read before", register=False)
def signed(q=dsf.Vector, k=dsf.Unit, beta=dsf.Gate, d=dsf.Vector(-1, 1)):
    return dsf.System(A=DiagonalPlusLowRank(d, beta, k, k), B=beta * k, C=q, reads="before")


@dsf.architecture("A scalar and one constant key for all heads", register=False)
def constant(q=dsf.Vector, k=dsf.Param(dsf.Unit), beta=dsf.Param(dsf.Gate), d=dsf.Gate, b=dsf.Shared(dsf.Vector, 2)):
    return dsf.System(A=DiagonalPlusLowRank(d, beta, k, k), B=b, C=q)
