"""Random trees of operators that nobody ships, read on bounds and on samples of the same signals.

A tree is a nested tuple, such as ("@", ("dense", "M0"), ("diag", "v1")): `evaluate` builds the operator from values in
any reading. A signal that occurs twice is one object, as in a body.
"""

import torch
from hypothesis import strategies as st

import dsf
from dsf import Dense, I, OneHotDiagonal, Product, Scalar, Shift, Unit, Vector, block, diag, outer
from dsf.functions import inner, sigmoid
from dsf.sets import Interval, Polar, Rectangle, annulus, arc, disc, inf
from dsf.values import MatrixBound

LARGEST = 3.0  # of samples of unbounded sets: intermediate results, and so rounding errors, stay small
REAL = (
    *(Interval(0, 1), Interval(-1, 1), Interval(0, 2), Interval(-2, -1), Interval(0.25, 0.5), Interval(1, 1)),
    *(Interval(), Interval(0, inf), Interval(-inf, 0)),
)
COMPLEX = (disc(1), annulus(0.5, 0.9), arc(1, -1, 1), Rectangle(Interval(-1, 0), Interval(-1, 1)), disc(2))
MATRICES = ("psd", "symmetric", "spd", "contraction", "triangular", "rotation", "free")


# ------------------------------------------------------------------------------------------------------------ signals
def vector_domain(s):
    return Unit if s == "unit" else Vector(s)


def matrix_bound(kind, steps=0):
    """What `matrix` draws, as bounds."""
    known = {
        "psd": MatrixBound(Interval(0, 1), 1.0, True),
        "spd": MatrixBound(Interval(0.5, 2), 2.0, True),
        "symmetric": MatrixBound(Interval(-1, 2), 2.0, True),
        "contraction": MatrixBound(disc(1), 1.0),
        "triangular": MatrixBound(Interval(-1, 0.5), 4.0),
        "rotation": MatrixBound(Polar(Interval(1, 1)), 1.0),
        "free": MatrixBound(dsf.Complex),
    }[kind]
    return MatrixBound(known.spectrum, known.norm, known.symmetric, "token", steps)


def matrix(kind, *shape, generator):
    """[..., n, n] inside `matrix_bound`, ends of the spectrum among them."""
    x = torch.randn(shape, dtype=torch.float64, generator=generator)
    q = torch.linalg.qr(x)[0]
    ends = torch.rand(shape[:-1], dtype=torch.float64, generator=generator)
    ends = torch.where(ends < 0.3, 0.0, torch.where(ends > 0.7, 1.0, ends))
    if kind in ("psd", "spd", "symmetric"):
        lo, hi = {"psd": (0, 1), "spd": (0.5, 2), "symmetric": (-1, 2)}[kind]
        return (q * (lo + (hi - lo) * ends)[..., None, :]) @ q.mT
    if kind == "triangular":
        above = x.triu(1)
        size = torch.linalg.matrix_norm(above, 2, keepdim=True).clamp(min=1e-300)
        return 3 * above / size + torch.diag_embed(-1 + 1.5 * ends)
    if kind == "rotation":
        return q
    return x / torch.linalg.matrix_norm(x, 2, keepdim=True) if kind == "contraction" else x


class Signals:
    """The domains of a tree's signals; `bounds` and `samples` are the two readings."""

    def __init__(self, scalars, vectors, matrices):
        self.complex = any(not isinstance(s, Interval) for s in (*scalars, *vectors) if s != "unit")
        self.domains = {f"s{i}": Scalar(s) for i, s in enumerate(scalars)}
        self.domains |= {f"v{i}": vector_domain(s) for i, s in enumerate(vectors)}
        self.matrices = {f"M{i}": kind for i, kind in enumerate(matrices)}

    def __repr__(self):
        return f"{self.domains} {self.matrices}"

    def bounds(self, steps=0):
        values = {k: dsf.Each(d, steps).bound() for k, d in self.domains.items()}
        values |= {k: Dense(matrix_bound(kind, steps)) for k, kind in self.matrices.items()}
        return values | {"p": dsf.Each(dsf.Index, steps).bound()}

    def samples(self, count, n, steps=0, seed=0, ends=0.2):
        generator = torch.Generator().manual_seed(seed)
        sizes, dtype = {"B": count, "T": 1, "H": 1, "n": n}, torch.complex128 if self.complex else torch.float64
        values = {}
        for k, d in self.domains.items():
            x = dsf.Each(d, steps).sample(sizes, generator=generator, ends=ends)[:, 0, 0]
            x = x if d.unit or not isinstance(d.set, Interval) else x.clamp(-LARGEST, LARGEST)
            values[k] = (x if d.own_axes else x[..., None]).to(dtype)
        lead = (count, *((steps,) if steps else ()))
        for k, kind in self.matrices.items():
            values[k] = Dense(matrix(kind, *lead, n, n, generator=generator).to(dtype))
        return values | {"p": torch.randint(0, n, (*lead, n), generator=generator)}


# -------------------------------------------------------------------------------------------------------------- trees
def evaluate(tree, values):
    """The operator (or vector, or scalar) that a tree stands for."""
    if isinstance(tree, (int, float)):
        return tree
    if isinstance(tree, str):
        return values[tree]
    head, *rest = tree
    if head == "shift":
        return Shift(rest[0])
    if head == "block":
        return block([[evaluate(part, values) for part in row] for row in rest[0]])
    if head == "product":
        return Product(evaluate(rest[1], values), rest[0])
    same = {id(part): evaluate(part, values) for part in rest}  # one subtree twice is one value, as `x * x` in a body
    parts = [same[id(part)] for part in rest]
    return {
        "I": lambda: I,
        "scaled": lambda a: a * I,
        "diag": diag,
        "dense": lambda M: M,
        "outer": outer,
        "onehot": lambda p, d: OneHotDiagonal(p, d),
        "onehot^T": lambda p, d: OneHotDiagonal(p, d).T,
        "+": lambda a, b: a + b,
        "-": lambda a, b: a - b,
        "*": lambda a, b: a * b,
        "@": lambda a, b: a @ b,
        "inner": inner,
        "sigmoid": sigmoid,
    }[head](*parts)


def signals():
    def pool(sets, extra=()):
        return st.lists(st.sampled_from([*sets, *extra]), min_size=2, max_size=2)

    matrices = st.lists(st.sampled_from(MATRICES), min_size=2, max_size=2)
    real = st.builds(Signals, pool(REAL), pool(REAL, ("unit", "unit", "unit")), matrices)
    mixed = st.builds(Signals, pool(REAL + COMPLEX), pool(COMPLEX, (*REAL, "unit", "unit")), matrices)
    return st.one_of(real, real, mixed)


VECTOR = st.sampled_from(["v0", "v1"])
SCALAR_SIGNAL = st.sampled_from(["s0", "s1"])
NUMBER = st.sampled_from([0, 1, -1, 2, 0.5])


def scalars():
    def squared(x):
        return ("*", x, x)

    return st.one_of(
        SCALAR_SIGNAL,
        SCALAR_SIGNAL,
        st.tuples(st.just("-"), st.just(1), SCALAR_SIGNAL),
        st.tuples(st.just("*"), SCALAR_SIGNAL, SCALAR_SIGNAL),
        st.tuples(st.just("*"), st.just(-1), SCALAR_SIGNAL),
        st.tuples(st.just("inner"), VECTOR, VECTOR),
        SCALAR_SIGNAL.map(squared),
    )


def vectors():
    M = st.sampled_from(["M0", "M1"])
    return st.one_of(
        VECTOR,
        VECTOR,
        st.tuples(st.just("*"), SCALAR_SIGNAL, VECTOR),
        st.tuples(st.just("*"), VECTOR, VECTOR),
        st.tuples(st.just("@"), M, VECTOR),
    )


def leaves():
    def reflection(parts):
        a, b, k = parts
        return ("-", ("scaled", a), ("*", b, ("outer", k)))

    def low_rank(parts):
        d, b, u, v = parts
        return ("-", d, ("*", b, ("outer", u, v)))

    def plus(kind, x):
        return st.tuples(st.just(kind), x)

    diagonal, scaled = plus("diag", vectors()), plus("scaled", st.one_of(scalars(), NUMBER))
    return st.one_of(
        scaled,
        diagonal,
        st.tuples(st.one_of(scalars(), NUMBER), scalars(), vectors()).map(reflection),
        st.tuples(st.just(1), SCALAR_SIGNAL, VECTOR).map(reflection),
        st.tuples(st.one_of(diagonal, scaled), scalars(), vectors(), vectors()).map(low_rank),
        st.tuples(st.just("outer"), VECTOR),
        plus("dense", st.sampled_from(["M0", "M1"])),
        st.tuples(st.just("onehot"), st.just("p"), VECTOR),
        st.tuples(st.just("onehot^T"), st.just("p"), VECTOR),
        st.tuples(st.just("shift"), st.sampled_from([0, 1, -1, 2])),
    )


def operators(most=4):
    def grow(inner_trees):
        return st.one_of(
            st.tuples(st.sampled_from(["+", "-", "@", "@"]), inner_trees, inner_trees),
            st.tuples(st.just("*"), st.one_of(scalars(), NUMBER), inner_trees),
            inner_trees.map(lambda A: ("@", A, A)),
        )

    return st.recursive(leaves(), grow, max_leaves=most)


def blocks():
    zero = st.just(0)

    def grid(*cells):
        size = round(len(cells) ** 0.5)
        return st.tuples(*cells).map(lambda ops: ("block", [list(ops[i * size : (i + 1) * size]) for i in range(size)]))

    def of_one_key(parts):
        (k, *rest), ops = parts, []
        for a, b in zip(rest[::2], rest[1::2], strict=True):
            ops.append(("scaled", a) if b == 0 else ("-", ("scaled", a), ("*", b, ("outer", k))))
        return ("block", [ops[:2], ops[2:]])

    op, small = operators(2), st.one_of(scalars(), NUMBER)
    return st.one_of(
        grid(op, op, op, op),
        grid(op, op, zero, op),
        grid(op, zero, op, op),
        st.tuples(VECTOR, *[small] * 8).map(of_one_key),
        grid(*[st.one_of(op, zero)] * 9),
        grid(op, op, op, zero, op, op, zero, zero, op),
    )


def products():
    return st.tuples(st.just("product"), st.integers(1, 3), operators(3))
