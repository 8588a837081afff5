"""The equations of an architecture or a system, in text and in LaTeX, from the reading on names."""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import sympy as sp
import torch

from .composites import Block, Composed, Product, Sum, Writes
from .features import Features
from .functions import Stack
from .operators import (
    Dense,
    Diagonal,
    DiagonalPlusLowRank,
    Identity,
    OneHotDiagonal,
    Operator,
    RealPart,
    Reflection,
    Scaled,
    Shift,
)
from .system import System
from .tree import leaves
from .values import is_one, is_zero, value


@dataclass(frozen=True)
class Style:
    """How a sympy expression of signal names is written; signals that vary carry the index t."""

    latex: bool
    symbols: dict[sp.Symbol, str]

    def expression(self, x: Any) -> str:
        if not isinstance(x, sp.Basic):
            return f"{x:g}" if isinstance(x, float) else str(x)
        if self.latex:
            return sp.latex(x, symbol_names=self.symbols)
        named = x.xreplace({s: sp.Symbol(name) for s, name in self.symbols.items()})
        return sp.sstr(named).replace("**", "^").replace("*", " ")

    def factor(self, x: Any) -> str:
        """x in front of an operator: nothing for 1, in brackets if a sum."""
        if is_one(x):
            return ""
        if isinstance(x, (int, float)) and x == -1:
            return "-"
        text = self.expression(x)
        return (self.bracket(text) if isinstance(x, sp.Add) else text) + (r" \," if self.latex else " ")

    def transposed(self, x: Any) -> str:
        text = self.expression(x)
        plain = not isinstance(x, sp.Basic) or x.is_Atom or isinstance(x, Stack)
        return (text if plain else self.bracket(text)) + (r"^\top" if self.latex else "^T")

    def bracket(self, text: str) -> str:
        return rf"\left({text}\right)" if self.latex else f"({text})"

    def word(self, name: str) -> str:
        return rf"\mathrm{{{name}}}" if self.latex else name

    def minus(self, left: str, factor: Any, rest: str) -> str:
        """left - factor rest, with the sign of the factor pulled out."""
        x: Any = factor
        negative = x < 0 if isinstance(x, (int, float)) else isinstance(x, sp.Expr) and x.could_extract_minus_sign()
        sign, x = ("+", -x) if negative else ("-", x)
        if not left:
            return ("-" if sign == "-" else "") + f"{self.factor(x)}{rest}"
        return f"{left} {sign} {self.factor(x)}{rest}"


@singledispatch
def show(op: Any, s: Style) -> str:
    """An operator (or a vector) as mathematics."""
    return s.expression(op)


show.register(Identity)(lambda op, s: "I")
show.register(Dense)(lambda op, s: s.expression(op.M))
show.register(Diagonal)(lambda op, s: s.word("diag") + s.bracket(s.expression(op.d)))
show.register(Sum)(lambda op, s: f"{show(op.left, s)} + {show(op.right, s)}".replace("+ -", "- "))
show.register(RealPart)(lambda op, s: (r"\mathrm{Re}\, " if s.latex else "Re ") + s.transposed(op.c))
show.register(Product)(lambda op, s: (r"\prod_j " if s.latex else "prod_j ") + s.bracket(show(op.factor, s)))


@show.register
def _(op: Features, s: Style) -> str:
    return s.factor(op.weight) + (r"\phi" if s.latex else "phi") + s.bracket(s.expression(op.x))


@show.register
def _(op: Shift, s: Style) -> str:
    slots = "" if not op.slots else f"_{{{op.slots}}}" if s.latex else f"_{op.slots}"
    return (f"S{slots}" if op.by == 1 else f"S{slots}^{{{op.by}}}") if op.by else "I"


@show.register
def _(op: Composed, s: Style) -> str:
    left = s.factor(op.left.a) if isinstance(op.left, Scaled) else _tight(op.left, s) + " "
    return left + _tight(op.right, s)


@show.register
def _(op: Scaled, s: Style) -> str:
    return "0" if is_zero(op.a) else f"{s.factor(op.a)}I"


@show.register
def _(op: OneHotDiagonal, s: Style) -> str:
    d, p = s.word("diag") + s.bracket(s.expression(op.d)), "P" + s.bracket(s.expression(op.p))
    top = r"^\top" if s.latex else "^T"
    return f"{d} {p}{top}" if op.transposed else f"{p} {d}"


@show.register
def _(op: Writes, s: Style) -> str:
    inside = r"\sum_j \Big(\prod_{i>j} A_i\Big)" if s.latex else "sum_j (prod_{i>j} A_i)"
    return f"{inside} {s.expression(op.b)}"


@show.register
def _(op: Block, s: Style) -> str:
    grid = [[show(o, s) for o in row] for row in op.rows]
    if s.latex:
        return r"\begin{pmatrix}" + r" \\ ".join(" & ".join(row) for row in grid) + r"\end{pmatrix}"
    return "[[" + "], [".join(", ".join(row) for row in grid) + "]]"


@show.register
def _(op: Reflection, s: Style) -> str:
    head = "" if is_zero(op.a) else f"{s.factor(op.a)}I"
    body = s.minus(head, op.b, f"{s.expression(op.k)} {s.transposed(op.k)}")
    return body if is_one(op.c) else f"{s.factor(op.c)}{s.bracket(body)}"


@show.register
def _(op: DiagonalPlusLowRank, s: Style) -> str:
    head = "" if is_zero(op.d) else show(Diagonal(op.d), s)
    return s.minus(head, op.b, f"{s.expression(op.u)} {s.transposed(op.v)}")


def _tight(op: Operator, s: Style) -> str:
    text = show(op, s)
    is_sum = isinstance(op, (Sum, DiagonalPlusLowRank)) or isinstance(op, Reflection) and is_one(op.c)
    return s.bracket(text) if is_sum else text


def equations(architecture: Any, latex: bool = False) -> tuple[str, str]:
    """The two equations of an architecture at generic n, with its signals' names: (x_t = ..., y_t = ...)."""
    system, style = architecture.names(), _style(architecture, latex)
    old, new, u = "x_{t-1}", "x_t", "u_t" if system.u is None else style.expression(system.u)
    A = show(system.A, style)
    if isinstance(system.A, (Reflection, Sum, DiagonalPlusLowRank)):
        A = style.bracket(A) if not (isinstance(system.A, Reflection) and not is_one(system.A.c)) else A
    moved = old if isinstance(system.A, Identity) else "" if A == "0" else f"{A} {old}"
    B = "" if isinstance(system.B, Identity) else show(system.B, style) + (r" \, " if latex else " ")
    vector = not isinstance(system.B, Operator) or isinstance(system.B, Writes)
    top = r"^\top" if latex else "^T"
    written = f"{B}{u.replace('u_t', 'u_{j,t}') if isinstance(system.B, Writes) else u}{top if vector else ''}"
    state = new if system.reads == "after" else old
    if system.readout:
        state = style.word(system.readout.__name__) + style.bracket(state)
    if isinstance(system.C, Identity):
        read = state
    elif isinstance(system.C, Features):
        read = show(system.C, style) + top + " " + state
    else:
        C = show(system.C, style) if isinstance(system.C, Operator) else style.transposed(system.C)
        read = f"{C} {state}"
    if not is_zero(system.D):
        read += f" + {show(system.D, style) if isinstance(system.D, Operator) else style.factor(system.D)}u_t"
    if system.normalised:
        ones = "(the same, u = 1)" if not latex else r"\text{the same with } u = 1"
        if system.sink is not None:
            ones = f"{ones} + {style.expression(sp.exp(system.sink))}"
            ones = ones if latex or system.floor is not None else f"({ones})"
        largest = r"\max" if latex else "max"
        ones = ones if system.floor is None else f"{largest}(|{ones}|, {system.floor:g})"
        above = read if is_zero(system.D) or latex else style.bracket(read)
        read = rf"\frac{{{read}}}{{{ones}}}" if latex else f"{above} / {ones}"
    return f"{new} = " + " + ".join(part for part in (moved, written) if part), f"y_t = {read}"


def _style(architecture: Any, latex: bool) -> Style:
    symbols = {}
    for name, domain in architecture.signals.items():
        text = name
        if latex:
            log = name.startswith("log_")
            text = sp.latex(sp.Symbol(name[4:] if log else name))
            text = rf"\mathbf{{{text}}}" if domain.kind == "vector" else text
            text = rf"{{\log {text}}}" if log else text
        if not domain.const and domain.kind != "matrix":
            text = f"{{{text}}}_t" if latex else f"{text}_t"
        symbols[sp.Symbol(name, real=True)] = text
    return Style(latex, symbols)


def architecture_latex(architecture: Any) -> str:
    """Both equations as LaTeX, for a notebook."""
    x, y = (line.replace(" = ", " &= ", 1) for line in equations(architecture, latex=True))
    return rf"$\displaystyle \begin{{aligned}} {x} \\ {y} \end{{aligned}}$"


STRUCTURES = {
    Reflection: "Reflection c(aI - b k k^T)",
    DiagonalPlusLowRank: "DiagonalPlusLowRank diag(d) - b u v^T",
    Product: "Product of micro-steps",
    Features: "infinite features",
}


def structure(x: Any) -> str:
    """The structure of A, B, C or D in a word or two."""
    if x is None or is_zero(x):
        return "0"
    if isinstance(x, Shift) and x.slots:
        return f"Shift, a register of {x.slots}"
    if isinstance(x, (Operator, Features)):
        return STRUCTURES.get(type(x), type(x).__name__)
    return "vector"


def describe_architecture(a: Any) -> str:
    """repr of an architecture: its equations, the structure, shape and dependence of A, B, C, D, and its signals."""
    system = a.bounds()
    year = f" ({a.year})" if a.year else ""
    kind = "  reads y_{t-1}: it exists along a trajectory" if a.feedback else ""
    lines = [f"{a.title}{year}, dsf name {a.name}{kind}", *(f"  {line}" for line in equations(a))]
    shapes = _shapes(system)
    depends = system.dependence()
    for name in "ABCD":
        op = getattr(system, name)
        if name == "D" and is_zero(op):
            continue
        what = structure(op) if name != "D" or isinstance(op, Operator) else "scalar"
        lines.append(f"  {name}  {what:38s} {shapes[name]:8s} {depends[name]}")
    width = max((len(k) for k in a.signals), default=0)
    lines += [f"  {k:{width}s}  {d}" for k, d in a.signals.items()]
    return "\n".join(lines)


def _shapes(system: System) -> dict[str, str]:
    operator = isinstance(system.B, Operator) and not isinstance(system.B, Writes)
    n = f"{len(system.A.rows)}n" if isinstance(system.A, Block) else "oo" if isinstance(system.B, Features) else "n"
    reads = isinstance(system.C, Operator) and not isinstance(system.C, RealPart)
    B, C = (f"{n} x {n}" if operator else f"{n} x 1"), (f"{n} x {n}" if reads else f"1 x {n}")
    return {"A": f"{n} x {n}", "B": B if not isinstance(system.B, Writes) else f"{n} x J", "C": C, "D": "1"}


def describe_system(system: System) -> str:
    """repr of a system: equations where its architecture is known, and sizes; matrices where it is on symbols."""
    known = [leaf for leaf in system.leaves if isinstance(value(leaf), torch.Tensor)]
    arch = system.architecture
    head = [f"System of {arch.title}" if arch else "System"]
    if arch:
        head += [f"  {line}" for line in equations(arch)]
    else:
        state = "x_t" if system.reads == "after" else "x_{t-1}"
        head += ["  x_t = A_t x_{t-1} + B_t u_t", f"  y_t = C_t {state} + D_t u_t"]
    if known:
        sizes = f"B={system.batch} T={system.length} H={system.heads} n={system.state_size} {known[0].dtype}"
        head[0] += f": {sizes.replace('torch.', '')}"
    elif leaves(system.A) and _has_matrix(system):
        head += [f"  A = {system.dense()}"]
    depends = system.dependence()
    shapes = _shapes(system)
    if known and not isinstance(system.B, Features):  # on tensors n is a number
        size = {"2n": str(system.state_size), "n": str(system.state_size)}
        shapes = {k: " ".join(size.get(word, word) for word in shape.split()) for k, shape in shapes.items()}
    head += [f"  {k}  {structure(getattr(system, k)):38s} {shapes[k]:8s} {depends[k]}" for k in "ABC"]
    return "\n".join(head)


def _has_matrix(system: System) -> bool:
    """Is it on symbols, with a state of finite size?"""
    on_tensors = any(isinstance(value(leaf), torch.Tensor) for leaf in system.leaves)
    on_symbols = any(hasattr(leaf, "shape") for leaf in system.leaves) and not on_tensors
    return on_symbols and not isinstance(system.B, Features)


def system_latex(system: System) -> str | None:
    """LaTeX of a system on symbols (its matrices) or of its architecture's equations."""
    if _has_matrix(system):
        return rf"$\displaystyle A = {sp.latex(system.dense())}$"
    return architecture_latex(system.architecture) if system.architecture else None


def describe_feedback(feedback: Any) -> str:
    """repr of a feedback system."""
    first, *rest = describe_architecture(feedback.architecture).splitlines()
    parts = leaves(tuple(feedback.values.values()))
    sizes = "" if not parts else " B={} T={} H={}".format(*(max(p.shape[i] for p in parts) for i in range(3)))
    return "\n".join([f"Feedback system of {first}:{sizes}", *rest])
