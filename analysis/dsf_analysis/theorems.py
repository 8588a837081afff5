"""The theorems that verdicts name. `own` marks a derivation of this library, with its proof in docs/theorems.md."""

from __future__ import annotations

from .verdicts import Theorem

LETTERS = Theorem(
    "grazzi2025, Theorem 1",
    "where every A_t has real eigenvalues >= 0 in every layer, the outputs on a letter repeated for ever become "
    "constant or grow beyond what is read, so no letter is counted modulo anything",
)
SETTLING = Theorem(
    "after grazzi2025, Theorem 1",
    "where every eigenvalue of every A_t lies inside the unit disc or is real and >= 0, outputs on a letter repeated "
    "for ever settle or grow beyond what is read, so no letter is counted modulo anything",
    own=True,
)
STAR_FREE = Theorem(
    "sarrof2024, Theorem 4 (recalled), for diagonal A",
    "with transitions that are diagonal, or triangular in one order, with eigenvalues >= 0, the regular languages that "
    "are recognised are star-free",
    own=True,
)
PARACONTRACTION = Theorem(
    "after grazzi2025, Proposition 1, and elsner1990",
    "products of normal matrices whose eigenvalues lie inside the unit disc or are 1 settle along a word repeated for "
    "ever, so the regular languages that are recognised are star-free",
    own=True,
)
WINDOW = Theorem(
    "finite impulse response",
    "layers that forget all but a window recognise definite languages only: membership is a matter of the last letters",
)
TIME_INVARIANT = Theorem(
    "sarrof2024 and khavari2025 for diagonal A",
    "with the same A for every token, outputs after some prefix are functions of the time and of the last letters",
    own=True,
)
MIXED = Theorem(
    "khavari2025 for diagonal A",
    "layers whose A is the same for every token (real eigenvalues), and layers that settle, do not count a word of "
    "even length modulo anything: one layer must depend on the token and reach an eigenvalue that is not >= 0",
    own=True,
)
AVERAGE = Theorem(
    "li2025 (fixed-precision softmax attention without positions)",
    "averages with weights >= 0 see the frequencies of letters, so states of one component are told apart by the last "
    "letter only",
    own=True,
)
SIGNS = Theorem(
    "grazzi2025, Theorem 2",
    "with real diagonal transitions in [-1, 1] every group is a 2-group, and each layer takes one step of its series "
    "of squares",
    own=True,
)
SOLVABLE = Theorem(
    "shakerinava2026, Theorems 1 and 2 (word problems)",
    "with complex diagonal transitions in the unit disc every group is solvable, and each layer takes one step of its "
    "derived series",
    own=True,
)
ONE_LAYER = Theorem(
    "grazzi2025, Theorem 2 (one layer)",
    "one layer whose A_t have real eigenvalues counts letters modulo 2 at most",
)
SATURATED = Theorem(
    "merrill2020 (saturated networks)",
    "a recurrent cell with saturated gates is a network of threshold units, and so any finite automaton",
)
CASCADES = Theorem(
    "grazzi2025, Theorem 4 (Krohn-Rhodes)",
    "layers that hold, overwrite and permute follow the holonomy cascade of the automaton, level by level",
)
COUNTING = Theorem(
    "sarrof2024, Theorem 6 (recalled)",
    "a layer that adds for ever counts up to a bound and beyond it keeps the sign, so it also remembers an event",
)
REMEMBERING = Theorem(
    "li2025 (partially ordered automata)",
    "layers that remember whether something happened follow an automaton whose states never come back",
)
THEOREMS = tuple(x for x in list(globals().values()) if isinstance(x, Theorem))
