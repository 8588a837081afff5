"""Which modules mix tokens along time and have no converter: named, so that nothing is left out in silence."""

from __future__ import annotations

import re
from collections.abc import Iterable

from torch import nn

from .mixing import Mixing, inside

_ADVICE = {
    nn.RNNCellBase: "runs one step at a time: use the nn.RNN, nn.LSTM or nn.GRU with its weights "
    "(weight_ih -> weight_ih_l0 ...), or dsf.linearize(step, x0, u)",
    nn.RNNBase: "has a forward of its own: pass mixers={Class: ...} or register a converter, @dsf.converter(Class)",
}
_UNKNOWN = "dsf does not know it: mixers={Class: function}, @dsf.converter(Class) or dsf.linearize(step, x0, u) tell it"
_NAMES = re.compile("RNN|LSTM|GRU|SSM|RWKV|LRU|Recurrent|Mamba|Attention|Retention|DeltaNet")
_PARTS = re.compile(
    "(Norm|NormGated|MLP|FeedForward|Embedding|Experts|Router|Gate|Head|Model|ForCausalLM|MoE|Block)$", re.I
)


def unknown_mixers(module: nn.Module, known: Iterable[str], mixing: Mixing) -> dict[str, str]:
    """What mixes tokens along time, or looks so, has no converter, and does not merely contain what is listed or known.

    mixing: what the modules themselves answered in the run. Where one did not run, or cannot be asked, its class or its
    name speaks for it.
    """
    known = list(known)
    mixers = {p for p in mixing.mixers(module) if not any(inside(p, k) or inside(k, p) for k in known)}
    found: dict[str, str] = {}
    for path, part in reversed(list(module.named_modules())):  # the innermost first
        name = type(part).__name__
        advice = next((text for cls, text in _ADVICE.items() if isinstance(part, cls)), None)
        if advice is None and path in mixers:
            advice = f"mixes tokens along time, and {_UNKNOWN}"
        elif advice is None and mixing.answer(path, part) is None and _NAMES.search(name) and not _PARTS.search(name):
            if not any(inside(path, outer) for outer in (*mixers, *filter(None, known))):
                unrun = "was not run on these inputs; it " * bool(mixing.ran and path not in mixing.ran)
                advice = f"{unrun}looks recurrent by its name, and {_UNKNOWN}"
        if advice and not any(inside(other, path) for other in (*known, *found)):
            found[path] = f"{name} {advice}"
    return dict(reversed(found.items()))
