"""Which regular languages a model can recognise at every length: an ordered table of theorems about its layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from dsf import Architecture, System

from . import theorems as of
from .languages import search as words
from .languages import sources
from .languages.patterns import Pattern
from .layer_facts import LayerFacts
from .questions import BOUNDED, MARGIN, REGIMES, Question
from .rules import RuleTable
from .subjects import subject_of
from .verdicts import Theorem, Verdict
from .witnesses.builder import NotBuilt
from .witnesses.cascades import cascade_witness
from .witnesses.counting import counter_witness, ordered_witness
from .witnesses.saturated import saturated_witness
from .witnesses.stacks import StackWitness

RECOGNITION = RuleTable("recognition of a regular language", [])


@RECOGNITION.rule("feedback", "operators read y_{t-1}: threshold units were found, and run", "yes", of.SATURATED)
def _(f: Question) -> Verdict | None:
    first = f.kinds[0]
    if len(f.kinds) > 1 or not first.feedback:
        return None
    try:
        assert isinstance(first.subject, Architecture)
        witness = saturated_witness(first.subject, f.language)
    except NotBuilt as why:
        return f.verdict(None, f"it feeds back, and the search found no witness ({why}), which proves nothing")
    return f.yes(witness, of.SATURATED, "saturated gates make its cell any finite automaton; the witness is run") or (
        f.verdict(None, "it feeds back, and the witness that was built is not proved in this regime of precision")
    )


@RECOGNITION.rule("past-dependent", "an operator, the drive or the readout depends on more than the token", "undecided")
def _(f: Question) -> Verdict | None:
    for kind in f.kinds:
        if kind.feedback:
            return f.verdict(None, f"{kind.title} feeds back, and stacks with such layers have no theorem here")
        if "unknown" in kind.past.values():
            return f.verdict(None, "a system whose numbers vary, and of no architecture, says nothing of other tokens")
        if kind.past:
            what = ", ".join(f"{name}: {on}" for name, on in kind.past.items())
            return f.verdict(None, f"its operators depend on more than the present token ({what})")
        if f.member and kind.infinite:
            return f.verdict(None, "its keys may carry positions, of which a layer alone says nothing")
        if not kind.linear:
            return f.verdict(
                None, "its features are infinite: the theorems here are on averages e^{q^T k} of the tokens"
            )


@RECOGNITION.rule(
    "real spectrum >= 0", "every eigenvalue of every A_t is real and >= 0; a letter counts", "no", of.LETTERS
)
def _(f: Question) -> Verdict | None:
    if f.all(lambda k: k.nonnegative):
        pattern = words.letter_period(f.language, lambda m: m > 1)
        because = (
            f"every eigenvalue of A_t lies in {_sets(f)}, so on a constant input every layer converges or saturates"
        )
        regimes = ("margin",) if any(k.infinite for k in f.kinds) else ("margin", "finite")
        return f.no("settles on letters", of.LETTERS, pattern, because, regimes)


@RECOGNITION.rule(
    "settling on letters", "eigenvalues lie inside the unit disc or are >= 0; a letter counts", "no", of.SETTLING
)
def _(f: Question) -> Verdict | None:
    if f.all(lambda k: k.settles_on_letters):
        pattern = words.letter_period(f.language, lambda m: m > 1)
        because = f"every eigenvalue of A_t lies in {_sets(f)}, so on a constant input every layer settles"
        return f.no("settles on letters", of.SETTLING, pattern, because, ("margin",))


@RECOGNITION.rule("only a window", "A is nilpotent and the same for every token; memory is needed", "no", of.WINDOW)
def _(f: Question) -> Verdict | None:
    if f.all(lambda k: k.window):
        return f.no("window", of.WINDOW, words.memory_clash(f.language), "it forgets all but its last tokens", REGIMES)


@RECOGNITION.rule("non-negative products", "products keep eigenvalues >= 0; a word counts", "no", of.STAR_FREE)
def _(f: Question) -> Verdict | None:
    if f.all(lambda k: k.nonnegative_products):
        because = "products of its transitions have eigenvalues >= 0 only, so it tells star-free languages only"
        regimes = ("margin",) if any(k.infinite for k in f.kinds) else ("margin", "finite")
        return f.no("settles on words", of.STAR_FREE, _word(f), because, regimes)


@RECOGNITION.rule("paracontractions", "products settle along repetitions; a word counts", "no", of.PARACONTRACTION)
def _(f: Question) -> Verdict | None:
    if f.all(lambda k: k.settles_on_words):
        because = "products of its transitions settle when they are repeated, so it tells star-free languages only"
        return f.no("settles on words", of.PARACONTRACTION, _word(f), because, ("margin",))


@RECOGNITION.rule(
    "time-invariant", "A is the same for every token; equal lengths are told apart", "no", of.TIME_INVARIANT
)
def _(f: Question) -> Verdict | None:
    if f.all(lambda k: k.constant and not k.ratio):
        because = "A is the same for every token, so letters far back move the state as no later letter steers"
        regimes = ("margin", "finite") if f.all(lambda k: k.real and k.in_disc) else ("margin",)
        margin = MARGIN if f.all(lambda k: k.real or k.complex_diagonal) else BOUNDED  # what inputs move does not grow
        return f.no("constant", of.TIME_INVARIANT, words.window_clash(f.language), because, regimes, margin)


@RECOGNITION.rule(
    "mixed", "each kind of layer is time-invariant (real) or settles; a word of even length counts", "no", of.MIXED
)
def _(f: Question) -> Verdict | None:
    if f.all(lambda k: k.settles_on_words or (k.constant and k.real_products)):
        because = "no kind of layer both depends on the token and reaches an eigenvalue that is not >= 0"
        return f.no("constant or settles", of.MIXED, words.even_period(f.language), because, ("margin",))


@RECOGNITION.rule(
    "averages", "outputs are averages of the past; states of one component are told apart", "no", of.AVERAGE
)
def _(f: Question) -> Verdict | None:
    if f.all(lambda k: k.average):
        because = "averages over the past see how often letters occur, and late words hardly change that"
        return f.no("average", of.AVERAGE, words.average_clash(f.language), because, ("margin",))


@RECOGNITION.rule(
    "real diagonal", "transitions are real and diagonal; a group is no 2-group, or too deep", "no", of.SIGNS
)
def _(f: Question) -> Verdict | None:
    if f.all(lambda k: k.real_products and k.complex_diagonal):
        because = "real diagonal transitions only change signs, one step of squares per layer"
        pattern = words.permuting(f.language, "sign", _most(f))
        return f.no("real products", of.SIGNS, pattern, because, ("margin",), BOUNDED)


@RECOGNITION.rule(
    "complex diagonal", "transitions are diagonal; a group is not solvable, or too deep", "no", of.SOLVABLE
)
def _(f: Question) -> Verdict | None:
    if f.all(lambda k: k.complex_diagonal):
        because = "diagonal transitions commute, so each layer takes one abelian step"
        pattern = words.permuting(f.language, "derived", _most(f))
        return f.no("unit disc products", of.SOLVABLE, pattern, because, ("margin",), BOUNDED)


@RECOGNITION.rule(
    "one real layer", "one layer, real eigenvalues; a letter counts modulo more than 2", "no", of.ONE_LAYER
)
def _(f: Question) -> Verdict | None:
    if f.layers == 1 and f.all(lambda k: k.real and not k.ratio and not k.infinite):
        pattern = words.letter_period(f.language, lambda m: m > 2)
        because = f"every eigenvalue of A_t lies in {_sets(f)}, so on a constant input one layer has period 1 or 2"
        return f.no("real", of.ONE_LAYER, pattern, because, ("margin", "finite"))


@RECOGNITION.rule(
    "cascade", "heads that hold, overwrite, turn or count were found; the stack is run", "yes", of.CASCADES
)
def _(f: Question) -> Verdict | None:
    ways = (
        (ordered_witness, of.REMEMBERING, "layers remember which states of a partial order were left"),
        (counter_witness, of.COUNTING, "one layer counts, the next remembers whether a bound was crossed"),
        (cascade_witness, of.CASCADES, "its layers follow the automaton level by level"),
    )
    found: list[tuple[int, StackWitness, Theorem, str]] = []
    for number, kind in enumerate(f.kinds):
        search = kind.search
        for build, theorem, because in ways if search else ():
            try:
                assert search is not None
                witness = build(search, f.language)
            except NotBuilt:
                continue
            witness = replace(witness, heads=tuple(replace(h, kind=number) for h in witness.heads)).sealed()
            found.append((witness.layers, witness, theorem, because))
    for _, witness, theorem, because in sorted(found, key=lambda item: item[0]):
        verdict = f.yes(witness, theorem, f"{because}; the witness is run")
        if verdict is not None:
            return verdict


@RECOGNITION.rule("otherwise", "no rule above matched", "undecided")
def _(f: Question) -> Verdict | None:
    unknown = f.language.unknown.get("monoid")
    if unknown:
        return f.verdict(None, f"the algebra of the language is unknown ({unknown}), and the search found no witness")
    if any(k.readout for k in f.kinds):
        return f.verdict(None, "it reads a function of the state, and the theorems here are on linear outputs")
    if any(isinstance(k.subject, System) for k in f.kinds):
        return f.verdict(None, "no theorem here refutes it, and a witness is looked for in architectures only")
    return f.verdict(None, "no theorem here refutes it, and the search found no witness, which proves nothing")


def _sets(f: Question) -> str:
    return "; ".join(dict.fromkeys(k.parts for k in f.kinds))


def _word(f: Question) -> Pattern | None:
    return words.word_period(f.language, lambda m: m > 1)


def _most(f: Question) -> float:
    return float("inf") if f.layers is None else f.layers


def recognizes(x: Any, language: Any, layers: int | None = None, precision: str = "margin") -> Verdict:
    """Can x recognise a regular language, at every length?

    x: an architecture (all inputs), a system or a converted layer (the family of its architecture, after a check that
    its signals lie in the domains; a bare time-invariant System is judged as it is), or a tuple of architectures: a
    model whose layers are of these kinds. language: a name, an expression, an automaton, a group (`dsf.language`).
    layers: at most so many (None: any number). precision: "margin", "finite", "machine" or "log".
    Rules: `print(RECOGNITION)`. Raises ValueError where signals lie outside their domains or the system was edited,
    TypeError for anything else.

    >>> import dsf
    >>> deltanet = dsf.architecture_named("deltanet")
    >>> verdict = recognizes(deltanet, "flip-flop")
    >>> verdict.answer, verdict.check(), recognizes(deltanet, "mod 3").answer
    (True, True, False)
    >>> recognizes(deltanet.with_domain(beta=dsf.Scalar(0, 2)), "S3", layers=1).answer
    False
    """
    if precision not in REGIMES:
        raise ValueError(f"precision is one of {', '.join(REGIMES)}; got {precision!r}")
    if layers is not None and (not isinstance(layers, int) or isinstance(layers, bool) or layers < 1):
        raise ValueError(f"layers is a whole number >= 1, or None for any number; got {layers!r}")
    several = isinstance(x, (tuple, list))
    if several and not x:
        raise ValueError("a model has at least one kind of layer, got an empty list")
    subjects = [subject_of(each) for each in x] if isinstance(x, Sequence) and several else [subject_of(x)]
    given = list(x) if several else [x]
    member = any(s is not g for s, g in zip(subjects, given, strict=True))
    kinds = tuple(map(facts_of, subjects))
    return RECOGNITION.decide(Question(kinds, sources.language(language), layers, precision, member))


_KNOWN: list[tuple[Any, LayerFacts]] = []  # of the last subjects: searches are long, and questions come in rows


def facts_of(subject: Architecture | System) -> LayerFacts:
    """The facts of a subject; those of the last few are kept."""
    for known, facts in _KNOWN:
        if known is subject:
            return facts
    facts = LayerFacts(subject)
    _KNOWN.append((subject, facts))
    del _KNOWN[:-8]
    return facts


def parity(x: Any) -> Verdict:
    """Can x compute the parity of a word of bits, at every length? `recognizes(x, "parity")`.

    >>> import dsf
    >>> verdict = dsf.parity(dsf.architecture_named("deltanet"))
    >>> verdict.answer, verdict.check()
    (False, True)
    >>> dsf.parity(dsf.architecture_named("deltanet").with_domain(beta=dsf.Scalar(0, 2))).answer
    True
    """
    return recognizes(x, "parity")
