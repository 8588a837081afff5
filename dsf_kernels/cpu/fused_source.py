"""The two loops of fused_diagonal.py as text: forward, and backward from chunk to chunk (see fused_text.py).

    x_t = a_t o x_{t-1} + w_t             l_t = l_{t+1} o a_{t+1} + c_t o dy_t      (before: c_{t+1} o dy_{t+1})

Backward the states of a chunk, and its factors, are computed again from the state before it, for `part` heads at once.
"""

from __future__ import annotations

from functools import cache

from ..expressions import Value
from .fused_text import Plan, Text

SIZES = "T, H, n, columns, groups, side, part, chunk, size"
HEAVY = ("exp", "expm1", "log", "sqrt", "div", "where")  # computed once, and kept while a chunk is walked through


@cache
def forward_source(plan: Plan) -> str:
    """at: addresses of the inputs, y, the states, and kept (0: nothing is), the states before every chunk."""
    text, count = Text(plan), len(plan.inputs)
    ((y, of_y),) = plan.outputs
    memories = text.inputs | {count: of_y}
    text.function("forward", memories, SIZES)
    text(f"S, kept = pointer(at[{count + 1}], kind), pointer(at[{count + 2}], kind)", "s = sequence * size")
    text.block("for t in range(T):")
    text.block(f"if at[{count + 2}] and t % chunk == 0:")
    text("copy(kept, (sequence * chunks + t // chunk) * size + first * n, S, s + first * n, " + _length(text) + ")")
    text.end()
    text.step(memories)
    wanted = text.needed((plan.factor, plan.write, y))
    for like in text.heads("first", "last"):

        def row(places: list[int], like: str, walk: bool) -> None:
            if not walk:
                return text.compute(places, like)
            text(f"old_{like} = load(S, s + {text.state}, {like})")
            late = text.after(places, "seen")
            text.compute([x for x in places if x not in late], like)
            text(f"new_{like} = {text.name(plan.write, like)} + {text.name(plan.factor, like)} * old_{like}")
            text(f"store(S, s + {text.state}, new_{like})")
            text.carried("seen", "old" if plan.before else "new", f"_{like}")
            text.compute([x for x in places if x in late], like)
            if of_y.rows:
                text(f"store(p{count}, {text.at(count, of_y)}, {text.name(y, like)})")

        last = text.through(wanted, like, row)
        if not of_y.rows:
            text(f"store(p{count}, {text.at(count, of_y)}, {text.name(y, last)})")
    return str(text)


def _length(text: Text) -> str:
    """Entries of the states of a group."""
    return "min((last + L - 1) // L * L * n, size) - first * n" if text.along else "(last - first) * n"


@cache
def backward_source(plan: Plan) -> str:
    """at: addresses of the inputs, the outputs, the gradient of the states (from that of the last to that of the
    first), and kept."""
    text, count = Text(plan), len(plan.inputs)
    outputs = {count + k: value for k, (_, value) in enumerate(plan.outputs)}
    inputs = text.inputs
    shared = {k: j for j, k in enumerate(k for k, v in outputs.items() if text.along and v.rows and not v.heads)}
    end = count + len(outputs)
    text.function("backward", inputs | outputs, SIZES)
    text(f"M, kept = pointer(at[{end}], kind), pointer(at[{end + 1}], kind)", "m = sequence * size")
    text("X, F = 0, (chunk + 1) * part * n", "Z = F + chunk * part * n")
    text("across = (n + L - 1) // L * L * L", f"out = Z + {len(shared)} * across")
    text.block("for number in range(chunks - 1, -1, -1):")
    text("begin = number * chunk", "count = min(chunk, T - begin)")
    text.block("for low in range(first, last, part):")
    text("high = min(low + part, last)", "x, base = low * n, (sequence * chunks + number) * size")
    text(f"copy(work, X, kept, base + x, {_length(text).replace('last', 'high').replace('first', 'low')})")
    _again(text, inputs)
    text.block("for k in range(count - 1, -1, -1):")
    text("t, f = begin + k, k * part * n - x")
    text.step(inputs | outputs)
    if shared:
        text(f"clear(work, Z, {len(shared)} * across)")
    _back(text, outputs, shared)
    for k, j in shared.items():
        _summed(text, k, j)
    return str(text)


def _keeps(text: Text) -> bool:
    """Is the factor worth keeping?"""
    x, value = text.plan.factor, text.plan.values[text.plan.factor]
    return x not in text.order and value.rows and value.op in HEAVY


def _again(text: Text, inputs: dict[int, Value]) -> None:
    """The states of a chunk, after each of its steps, and its factors."""
    plan = text.plan
    text.block("for k in range(count):")
    text("t, f = begin + k, k * part * n - x")
    text.step(inputs)
    for like in text.heads("low", "high"):

        def row(places: list[int], like: str, walk: bool) -> None:
            text.compute(places, like)
            if not walk:
                return
            factor = text.name(plan.factor, like)
            text(f"old_{like} = load(work, X + f + {text.state}, {like})")
            new = f"{text.name(plan.write, like)} + {factor} * old_{like}"
            text(f"store(work, X + part * n + f + {text.state}, {new})")
            if _keeps(text):
                text(f"store(work, F + f + {text.state}, {factor})")

        text.through(text.needed((plan.factor, plan.write)), like, row)
    text.end()


def _back(text: Text, outputs: dict[int, Value], shared: dict[int, int]) -> None:
    """A step backward: what it gives to every output."""
    plan, kept = text.plan, [text.plan.factor] if _keeps(text) else []
    refs = {k: ref for k, (ref, _) in zip(outputs, plan.outputs, strict=True)}
    wanted = text.needed((*refs.values(), plan.factor, plan.from_y), kept)
    for block in text.heads("low", "high"):

        def row(places: list[int], like: str, walk: bool, block: str = block) -> None:
            text(f"past_{like} = load(work, X + f + {text.state}, {like})")
            text.carried("past", "past", f"_{like}")
            if any(plan.values[x].op == "seen" for x in places):
                step = "" if plan.before else "part * n + "
                text(f"seen_{like} = load(work, X + {step}f + {text.state}, {like})")
                text.carried("seen", "seen", f"_{like}")
            if kept:
                text(f"v{plan.factor}_{like} = load(work, F + f + {text.state}, {like})")
            late = text.after(places, "lam")
            text.compute([x for x in places if x not in late and x not in kept], like)
            from_y, factor = text.name(plan.from_y, like), text.name(plan.factor, like)
            if walk or late:
                text(f"lam_{like} = load(M, m + {text.state}, {like})" + ("" if plan.before else f" + {from_y}"))
                text.carried("lam", "lam", f"_{like}")
            text.compute([x for x in places if x in late and x not in kept], like)
            if not walk:
                return
            passed = f"{factor} * lam_{like}" + (f" + {from_y}" if plan.before else "")
            text(f"store(M, m + {text.state}, {passed})")
            for k, value in outputs.items():
                if value.rows:
                    _give(text, k, value, text.name(refs[k], like), like, shared.get(k))

        last = text.through(wanted, block, row)
        for k, value in outputs.items():
            if not value.rows:
                _give(text, k, value, text.name(refs[k], last), last, None)


def _give(text: Text, k: int, value: Value, what: str, like: str, across: int | None) -> None:
    """To an output: alone, or beside other heads or steps, as a sum."""
    at = text.at(k, value)
    if across is not None and like == "row":
        at = f"Z + {across} * across + i * L"
        text(f"store(work, {at}, load(work, {at}, row) + {what})")
    elif text.along and not value.heads:
        text(f"p{k}[{at}] += total({what})")
    elif value.heads and value.time:
        text(f"store(p{k}, {at}, {what})")
    else:
        text(f"store(p{k}, {at}, load(p{k}, {at}, {like}) + {what})")


def _summed(text: Text, k: int, j: int) -> None:
    """What lanes have gathered for a vector that heads share."""
    text.block("for i in range(0, n, L):")
    text(f"found_{k} = totals(work, Z + {j} * across + i * L, L)")
    text.block("if i + L <= n:")
    text(f"store(p{k}, b{k} + i, load(p{k}, b{k} + i) + found_{k})")
    text.end()
    text.block("else:")
    text(f"store(work, out, found_{k})")
    text.block("for j in range(i, n):")
    text(f"p{k}[b{k} + j] += work[out + j - i]")
    text.end(3)
