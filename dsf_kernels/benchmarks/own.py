"""Architectures of one's own, as any user would write them: no kernel knows their names."""

import dsf


@dsf.architecture("Diagonal scan", register=False)
def diagonal(g=dsf.Vector(-dsf.inf, 0)):
    return dsf.System(A=dsf.diag(dsf.decay(g)), B=dsf.I, C=dsf.I)


@dsf.architecture("One-hot times diagonal", register=False)
def one_hot(p=dsf.Index, d=dsf.Vector(-1, 1), b=dsf.Vector, c=dsf.Vector):
    return dsf.System(A=dsf.OneHotDiagonal(p, d), B=b, C=c)


@dsf.architecture("Dense transition", register=False)
def dense(M=dsf.Matrix, b=dsf.Vector, c=dsf.Vector):
    return dsf.System(A=M, B=b, C=c)
