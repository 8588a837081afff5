"""The programs of fused_diagonal.py as text in Triton's language: the recurrence of a graph (see ../fusion.py).

A program takes a tile [HEADS, ROWS] of one sequence's states through a segment of time, STEPS at a time: what these
read is asked for at once, before the first of them. Forward keeps a state before every PARTS of them; backward those in
between are computed again, and then those of STEPS, which stay in registers.

    x <- a o x + w        l <- a o (l + c o dy)        (before: a o l + c o dy)
"""

from __future__ import annotations

from functools import cache

from ..expressions import Value
from .fused_text import STATE, Plan, Text


@cache
def forward_source(plan: Plan, summary: bool) -> str:
    """y, the last state and those before every group (KEEP); or the summaries of segments: what they leave of no state
    (ends), and what they multiply by (products), [segments, B, H, n]."""
    text = Text(plan)
    inputs = text.inputs
    ((y, of_y),), count = plan.outputs, len(inputs)
    memories = inputs if summary else inputs | {count: of_y}
    text.function("forward", memories, "start, ends, products, last, kept")
    text.places(memories)
    wanted = text.needed((plan.factor, plan.write) if summary else (plan.factor, plan.write, y))
    text.constants(wanted)
    if summary:
        text("x, product = nothing, one")
    else:
        _enter(text, "x", "start", "segment", "turn")
    text.block("for group in range(segment * per, tl.minimum(segment * per + per, tl.cdiv(length, STEPS))):")
    text("t = tl.full([], 0, tl.int64) + group * STEPS")
    if not summary:
        text.block("if KEEP:")
        text.block("if group % PARTS == 0:")
        text.store("kept + (unit + group // PARTS) * size + own", "x", "inside")
        text.end(2)
    read = text.ask(wanted)
    text.block("for k in tl.static_range(STEPS):")
    text("there = t + k < length")
    text(*(f"v{x} = r{x}[k].to(tl.float32)" for x in read))
    late = text.after(wanted, "seen")
    text.compute(x for x in wanted if x not in late)
    text(f"after = {text.name(plan.factor)} * x + {text.name(plan.write)}")
    if summary:
        text(f"product = tl.where(there, product * {text.name(plan.factor)}, product)")
    else:
        text.carried("seen", "x" if plan.before else "after")
        text.compute(x for x in wanted if x in late)
        at = f"p{count} + (t + k) * t{count}"
        text.store(at, _whole(text, y, of_y), text.mask(of_y, "there"))
    text("x = tl.where(there, after, x)")
    text.end(2)
    if summary:
        text.store("ends + segment * sequences + entries", "x", "inside")
        text.store("products + segment * sequences + entries", "product", "inside")
    else:
        text.store("last + entries", "x", text.mask(STATE, "segment == segments - 1"))
    return str(text)


def _enter(text: Text, x: str, start: str, before: str, turn: str) -> None:
    """The state before a segment: the first one, taken through the segments before it."""
    text(f"{x} = tl.load({start} + entries, mask=inside, other=0.0)")
    text.block("if REST:")
    text.block(f"for turn in range({before}):")
    text(f"at = {turn} * sequences + entries")
    text(f"{x} = tl.load(products + at, mask=inside, other=0.0) * {x} + tl.load(ends + at, mask=inside, other=0.0)")
    text.end(2)


def _whole(text: Text, place: int, value: Value) -> str:
    """A value as the tile that its memory takes."""
    shape = f"[{'HEADS' if value.heads else 1}, {'ROWS' if value.rows else 1}]"
    return f"({text.name(place)} + tl.zeros({shape}, tl.float32))"


@cache
def backward_source(plan: Plan, summary: bool) -> str:
    """Segments count from the end, of groups of PARTS x STEPS steps. Gradients; or the summaries of segments for the
    gradient of the state. between: room for a state before each part, [segments, B, PARTS, H, n]."""
    text = Text(plan)
    inputs = text.inputs
    outputs = {} if summary else {len(inputs) + k: value for k, (_, value) in enumerate(plan.outputs)}
    refs = {k: ref for k, (ref, _) in zip(outputs, plan.outputs, strict=False)}
    text.function("backward", inputs | outputs, "start, ends, products, last, kept, between")
    text.places(inputs)
    _placed_outputs(text, outputs)
    wanted = text.needed((plan.factor, plan.from_y, *(() if summary else (plan.write, *refs.values()))))
    text.constants(wanted)
    if summary:
        text("m, product = nothing, one")
    else:
        _enter(text, "m", "start", "segment", "turn")
        text(*(f"total{k} = {_zeros(value)}" for k, value in outputs.items() if not value.time))
    text("groups = tl.cdiv(length, STEPS * PARTS)")
    text.block("for turn in range(segment * per, tl.minimum(segment * per + per, groups)):")
    text("group = groups - 1 - turn")
    if not summary:
        text("x = tl.load(kept + (unit + group) * size + own, mask=inside, other=0.0)")
        text("room = between + (segment * sequences + number * size) * PARTS + own")
        _parts(text)
    text.block("for from_end in range(PARTS):")
    text("part = PARTS - 1 - from_end", "t = tl.full([], 0, tl.int64) + (group * PARTS + part) * STEPS")
    read = text.ask(wanted)
    if not summary:
        text("x = tl.load(room + part * size, mask=inside, other=0.0)")
        _again(text, read, True)
    text.block("for back in tl.static_range(STEPS):")
    text("there = t + (STEPS - 1 - back) < length")
    text(*(f"v{x} = r{x}[STEPS - 1 - back].to(tl.float32)" for x in read))
    if not summary:
        text.carried("past", "states[STEPS - 1 - back]")
        text.carried("seen", f"states[STEPS - {1 if plan.before else 0} - back]")
    late = text.after(wanted, "lam")
    text.compute(x for x in wanted if x not in late)
    factor, from_y = text.name(plan.factor), text.name(plan.from_y)
    text("lam = m" if plan.before else f"lam = m + {from_y}")
    if not summary:
        text.carried("lam", "lam")
        text.compute(x for x in wanted if x in late)
        for k, value in outputs.items():
            _give(text, k, value, refs[k])
    else:
        text(f"product = tl.where(there, product * {factor}, product)")
    text(f"m = tl.where(there, {factor} * lam" + (f" + {from_y}, m)" if plan.before else ", m)"))
    text.end(3)
    if summary:
        text.store("ends + segment * sequences + entries", "m", "inside")
        text.store("products + segment * sequences + entries", "product", "inside")
        return str(text)
    for k, value in outputs.items():
        if not value.time:
            text.store(f"p{k}", f"total{k}", text.mask(value))
    text.store("last + entries", "m", text.mask(STATE, "segment == segments - 1"))
    return str(text)


def _zeros(value: Value) -> str:
    return f"tl.zeros([{'HEADS' if value.heads else 1}, {'ROWS' if value.rows else 1}], tl.float32)"


def _placed_outputs(text: Text, outputs: dict[int, Value]) -> None:
    """The first stride of an output is that of its parts, which are summed in the end: over blocks of what it shares,
    and of what has no time over segments. In a part sequences lie behind each other, as steps do."""
    for k, value in outputs.items():
        part = "here" if value.heads else "(here + tile // blocks)"
        part = part if value.rows else f"({part} * blocks + tile % blocks)"
        part = part if value.time else f"({part} * segments + segment)"
        start = "batch * T + first" if value.time else "number"
        text(f"p{k} += {part} * b{k} + ({start}) * t{k}{text.entries(k, value)}")


def _parts(text: Text) -> None:
    """The states before the parts of a group."""
    text.block("for part in range(PARTS):")
    text.store("room + part * size", "x", "inside")
    text("t = tl.full([], 0, tl.int64) + (group * PARTS + part) * STEPS")
    _again(text, text.ask(text.needed((text.plan.factor, text.plan.write))), False)
    text.end()
    text("tl.debug_barrier()")


def _again(text: Text, read: list[int], kept: bool) -> None:
    """The states after STEPS steps, of which all are wanted, or the last."""
    plan = text.plan
    places = text.needed((plan.factor, plan.write))
    text(*["states = (x,)"] * kept)
    text.block("for k in tl.static_range(STEPS):")
    text(*(f"v{x} = r{x}[k].to(tl.float32)" for x in read if x in places))
    text.compute(places)
    text(f"x = {text.name(plan.factor)} * x + {text.name(plan.write)}")
    text(*["states += (x,)"] * kept)
    text.end()


def _give(text: Text, k: int, value: Value, ref: int) -> None:
    """To an output: of this step, or added to what is summed over time."""
    what = _whole(text, ref, value._replace(heads=True))
    if not value.heads:
        over = "inside" if value.rows else "(h < H)"
        what = f"tl.sum(tl.where({over}, {what}, 0.0), 0)[None, :]"
    if value.time:
        at = f"p{k} + (t + (STEPS - 1 - back)) * t{k}"
        text.store(at, what, text.mask(value, "there"))
    else:
        text(f"total{k} += tl.where(there, {what}, 0.0)")
