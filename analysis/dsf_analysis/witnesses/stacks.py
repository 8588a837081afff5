"""A "yes" carries weights that are run: a stack of layers of the architecture, with tables for what lies between them.

Each head reads symbols (the letter, and what heads of earlier layers show), a finite table turns them into its signals,
and thresholds on its output make a symbol again. Tables stand for the MLPs between layers: on finitely many symbols a
lookup is all that one needs.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch

from dsf import Architecture
from dsf.reference import scan

from ..languages.automaton import Automaton
from ..tensors_json import number_of_json, number_to_json, tensor_of_json, tensor_to_json
from .forever import lasts

LETTER = -1  # what a head reads: the letter, or the symbol of an earlier head
LONG, WORDS = 512, 2  # length and number of the fresh random words of a check
ENDLESS = 12  # pairs of letters that are repeated for ever
SHORT = 800  # words: all of them are run up to a length at which there are so many


@dataclass(frozen=True, eq=False)
class Head:
    """One head: signals per row (token signals [K, G | H, ...], constants [G | H, ...]), drive [K, H, ...], x_0.

    rows[symbols read] is a row; the symbol that it shows is the number of `edges` below Re(weights . y_t), which keeps
    a distance of `margin` from all of them. Where groups of heads share signals, it stands there in equal copies.
    """

    layer: int
    reads: tuple[int, ...]
    rows: torch.Tensor
    signals: dict[str, torch.Tensor]
    drive: torch.Tensor
    state: Any
    weights: torch.Tensor
    edges: tuple[float, ...]
    margin: float
    kind: int = 0  # which architecture of a stack of several

    def along(self, symbols: Sequence[torch.Tensor]) -> torch.Tensor:
        """Its rows [B, T] along the symbols that it reads, each [B, T]."""
        rows = self.rows[tuple(symbols)]
        if bool((rows < 0).any()):
            raise ValueError("a combination of symbols came up that the table of the witness does not have")
        return rows

    def run(self, a: Architecture, rows: torch.Tensor, state: Any) -> tuple[torch.Tensor, Any]:
        """What is compared with the edges, [B, T], along rows [B, T]; and the last state."""
        signals = {k: s if a.signals[k].const else s[rows] for k, s in self.signals.items()}
        y, state = scan(a(**signals), self.drive[rows], state)
        scores = (y[:, :, 0] * self.weights).sum(-1)
        return (scores.real if scores.is_complex() else scores).contiguous(), state


@dataclass(frozen=True, eq=False)
class StackWitness:
    """Heads in order, and the answer: table[symbols of `reads`] after each letter. `seal`: a digest of all the rest."""

    proves: ClassVar[bool] = True
    language: Automaton
    heads: tuple[Head, ...]
    reads: tuple[int, ...]
    answer: torch.Tensor
    recipe: str  # in words, for the reader
    seal: str = ""

    @property
    def layers(self) -> int:
        """0 where the last letter decides, and no head is needed."""
        return max((h.layer for h in self.heads), default=0)

    def decide(self, subject: Any, words: torch.Tensor, endless: int = 0) -> tuple[torch.Tensor, bool]:
        """words [B, T] of letter numbers: (is each prefix accepted? [B, T], did all heads keep their margins?).

        The last `endless` words are repetitions, which are also followed for ever.
        """
        kinds = subject if isinstance(subject, tuple) else (subject,)
        symbols, kept = {LETTER: words}, True
        for i, head in enumerate(self.heads):
            a, rows = kinds[head.kind], head.along([symbols[r] for r in head.reads])
            scores, state = head.run(a, rows, repeated(head.state, len(rows)))
            edges = torch.tensor(head.edges, dtype=scores.dtype)
            kept = kept and bool(((scores[..., None] - edges).abs() >= head.margin).all())
            symbols[i] = torch.bucketize(scores, edges)
            last = slice(len(words) - endless, None)
            kept = kept and (not endless or lasts(a, head, rows[last], symbols[i][last], pieces(state)[0][last]))
        return (self.answer[tuple(symbols[r] for r in self.reads)] == 1).expand(words.shape), kept

    def check(self, subject: Any) -> bool:
        """Seal; layers in order; signals in their domains; short, long and endless words are decided right."""
        kinds = subject if isinstance(subject, tuple) else (subject,)
        if self.seal != self.digest() or not all(map(self._in_order, range(len(self.heads)))):
            return False
        if not all(0 <= h.kind < len(kinds) and inside(kinds[h.kind], h) for h in self.heads):
            return False
        try:
            return all(self._decides(subject, *words) for words in self.words())
        except (ValueError, LookupError, TypeError, RuntimeError):  # of an architecture or tables that were changed
            return False

    def words(self) -> list[tuple[torch.Tensor, int]]:
        """All short words of one length (their prefixes are shorter ones); words of length LONG, fresh random ones and
        letters and pairs of letters that are repeated. With the number of these, which are the last ones."""
        k, length = len(self.language.letters), 1
        while k ** (length + 1) <= SHORT and length < 12:
            length += 1
        every = torch.tensor(list(itertools.islice(itertools.product(range(k), repeat=length), SHORT)))
        generator = torch.Generator().manual_seed(7)
        wander = torch.randint(k, (WORDS, LONG), generator=generator)
        units = torch.tensor([[a, b] for a, b in itertools.product(range(k), repeat=2) if a <= b][:ENDLESS])
        endless = units.repeat(1, LONG // 2)
        return [(every, 0), (torch.cat([wander, self._undecided(generator), endless]), len(endless))]

    def _undecided(self, generator: torch.Generator) -> torch.Tensor:
        """Long words that avoid states from which nothing can change any more: [WORDS, LONG]."""
        a = self.language
        alive = [any(r in a.accepting for r in a.words_to(q)) != all(r in a.accepting for r in a.words_to(q))
                 and len(a.words_to(q)) > 1 for q in range(a.size)]  # fmt: skip
        rows = []
        for _ in range(WORDS):
            q, word = a.initial, []
            for _ in range(LONG):
                good = [i for i, r in enumerate(a.table[q]) if alive[r]] or list(range(len(a.letters)))
                word.append(good[int(torch.randint(len(good), (), generator=generator))])
                q = a.table[q][word[-1]]
            rows.append(word)
        return torch.tensor(rows)

    def _decides(self, subject: Any, words: torch.Tensor, endless: int) -> bool:
        table = torch.tensor(self.language.table)
        accepting = torch.zeros(self.language.size, dtype=torch.bool)
        accepting[sorted(self.language.accepting)] = True
        q, truth = torch.zeros(len(words), dtype=torch.long), []
        for letters in words.unbind(1):
            q = table[q, letters]
            truth.append(accepting[q])
        found, kept = self.decide(subject, words, endless)
        return kept and torch.equal(found, torch.stack(truth, 1))

    def _in_order(self, i: int) -> bool:
        """Does head i read only the letter, and heads of earlier layers, and stand right after the last of these?"""
        h = self.heads[i]
        if not (h.margin > 0 and all(r == LETTER or 0 <= r < i for r in h.reads)):
            return False
        return h.layer == 1 + max((self.heads[r].layer for r in h.reads if r != LETTER), default=0)

    def digest(self) -> str:
        """SHA-256 of every entry but the seal."""
        row = replace(self, seal="").to_dict()
        return hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest()

    def sealed(self) -> StackWitness:
        return replace(self, seal=self.digest())

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON, without loss."""
        heads = [
            {
                **{"layer": h.layer, "kind": h.kind, "reads": list(h.reads), "rows": tensor_to_json(h.rows)},
                "signals": {k: tensor_to_json(s) for k, s in h.signals.items()},
                **{"drive": tensor_to_json(h.drive), "state": [tensor_to_json(s) for s in pieces(h.state)]},
                **{"weights": tensor_to_json(h.weights), "edges": [number_to_json(e) for e in h.edges]},
                "margin": number_to_json(h.margin),
            }
            for h in self.heads
        ]
        found = {"language": self.language.to_dict(), "heads": heads, "reads": list(self.reads)}
        return {**found, "answer": tensor_to_json(self.answer), "recipe": self.recipe, "seal": self.seal}

    @staticmethod
    def of_dict(row: dict[str, Any], language: Automaton) -> StackWitness:
        """Of plain data and its language, which is read elsewhere."""
        heads = []
        for h in row["heads"]:
            state = tuple(map(tensor_of_json, h["state"]))
            heads.append(
                Head(
                    layer=int(h["layer"]),
                    reads=tuple(map(int, h["reads"])),
                    rows=tensor_of_json(h["rows"]),
                    signals={k: tensor_of_json(s) for k, s in h["signals"].items()},
                    drive=tensor_of_json(h["drive"]),
                    state=state if len(state) != 1 else state[0],
                    weights=tensor_of_json(h["weights"]),
                    edges=tuple(map(number_of_json, h["edges"])),
                    margin=number_of_json(h["margin"]),
                    kind=int(h["kind"]),
                )
            )
        answer = tensor_of_json(row["answer"])
        return StackWitness(language, tuple(heads), tuple(row["reads"]), answer, str(row["recipe"]), str(row["seal"]))


def pieces(state: Any) -> tuple[torch.Tensor, ...]:
    """The tensors of a state."""
    return state if isinstance(state, tuple) else (state,)


def repeated(state: Any, batch: int) -> Any:
    """A state of batch 1 for `batch` words."""
    if isinstance(state, tuple):
        return tuple(s.expand(batch, *s.shape[1:]) for s in state)
    return state.expand(batch, *state.shape[1:])


def inside(a: Architecture, h: Head) -> bool:
    """Are the head's signals those of the architecture, in their domains?"""
    if h.signals.keys() != a.signals.keys():
        return False
    try:
        return all(d.contains(h.signals[k] if d.const else h.signals[k][None]) for k, d in a.signals.items())
    except (RuntimeError, ValueError):
        return False
