"""Which modules look recurrent and have no converter: named, so that nothing is left out in silence."""

from __future__ import annotations

import re
from collections.abc import Iterable

from torch import nn

_ADVICE = {
    nn.RNNCellBase: "runs one step at a time: use the nn.RNN, nn.LSTM or nn.GRU with its weights "
    "(weight_ih -> weight_ih_l0 ...), or dsf.linearize(step, x0, u)",
    nn.RNNBase: "has a forward of its own: pass mixers={Class: ...} or register a converter, @dsf.converter(Class)",
}
_NAMES = re.compile("RNN|LSTM|GRU|SSM|RWKV|LRU|Recurrent|Mamba|Attention|Retention|DeltaNet")
_PARTS = re.compile(
    "(Norm|NormGated|MLP|FeedForward|Embedding|Experts|Router|Gate|Head|Model|ForCausalLM|MoE|Block)$", re.I
)


def unknown_mixers(module: nn.Module, known: Iterable[str]) -> dict[str, str]:
    """What looks recurrent by class or name, has no converter, and does not merely contain what is listed or known."""
    found: dict[str, str] = {}
    known = list(known)

    def inside_known(path: str) -> bool:
        return any(_inside(path, outer) for outer in known if outer)

    for path, part in reversed(list(module.named_modules())):  # the innermost first
        advice = next((text for cls, text in _ADVICE.items() if isinstance(part, cls)), None)
        name = type(part).__name__
        if advice is None and _NAMES.search(name) and not _PARTS.search(name) and not inside_known(path):
            advice = (
                "looks recurrent by its name, and dsf does not know it: mixers={Class: function}, @dsf.converter(Class)"
            )
            advice += " or dsf.linearize(step, x0, u) tell it"
        if advice and not any(_inside(other, path) for other in (*known, *found)):
            found[path] = f"{type(part).__name__} {advice}"
    return dict(reversed(found.items()))


def _inside(path: str, outer: str) -> bool:
    return path == outer or outer == "" or path.startswith(outer + ".")
