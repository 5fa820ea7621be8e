"""The project's own grammar of short film reviews: text whose true sentiment is known, word by word."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from scar_ray.tasks.sentiment import ADJECTIVES, INTENSIFIERS, NEGATIONS, PAST_TENSE, VERBS, Reading, read

COUNTABLE = (
    "cast", "comedy", "ending", "lead actor", "opening scene", "plot", "romance", "score",
    "script", "soundtrack", "story", "villain",
)  # fmt: skip
ASPECTS = (*COUNTABLE, "acting", "dialogue", "direction", "editing", "humor", "music", "photography",
           "scenery", "writing", "film", "movie")  # fmt: skip
OPENINGS = (
    "from start to finish", "in the end", "in my opinion", "to be honest", "for most of the evening",
    "overall", "after a slow start", "as far as i can tell", "for a film of this kind", "looking back",
)  # fmt: skip
LINKING = ("was", "was", "was", "felt", "seemed", "looked", "turned out to be")
VERB_INTENSIFIERS = ("really", "truly", "rather", "somewhat", "slightly")
SUBJECTS = ("i", "we", "my friends", "most people")
MIN_WORDS, MAX_WORDS = 8, 24


def reviews(seed: int, count: int) -> list[Reading]:
    """`count` reviews of 1-3 clauses and 8-24 words, the same for the same seed; about half are positive."""
    stream = stream_reviews(np.random.default_rng(seed))
    return [next(stream) for _ in range(count)]


def stream_reviews(rng: np.random.Generator) -> Iterator[Reading]:
    """Endless reviews; those outside the range of lengths, and neutral ones, are drawn again."""
    while True:
        reading = read(_review(rng))
        n_words = sum(word[0].isalpha() for word in reading.words)
        if MIN_WORDS <= n_words <= MAX_WORDS and reading.sentiment != 0.0:
            yield reading


def _review(rng: np.random.Generator) -> str:
    n = int(rng.choice([1, 2, 3], p=[0.2, 0.5, 0.3]))
    aspects = [ASPECTS[i] for i in rng.choice(len(ASPECTS), size=n, replace=False)]
    clauses = [_clause(rng, aspect) for aspect in aspects]
    text = clauses[0]
    turned = False
    for clause in clauses[1:]:
        # One contrast at most, so that every clause is weighed against one other clause only.
        join = str(rng.choice(["and", ".", "but", "although"], p=[0.25, 0.3, 0.3, 0.15]))
        if turned and join in ("but", "although"):
            join = "."
        if join == "although" and text is clauses[0]:
            text = f"although {text}, {clause}"
        elif join in ("but", "although"):
            text = f"{text}, but {clause}"
        else:
            text = f"{text}, and {clause}" if join == "and" else f"{text}. {clause}"
        turned = turned or join in ("but", "although")
    if rng.random() < 0.3 and not text.startswith("although"):
        text = f"{_pick(rng, OPENINGS)}, {text}"
    sentences = [part[0].upper() + part[1:] for part in text.split(". ")]
    return ". ".join(sentences).replace(" i ", " I ") + "."


def _clause(rng: np.random.Generator, aspect: str) -> str:
    negation, intensifier = rng.random() < 0.25, rng.random() < 0.4
    form = int(rng.choice(3, p=[0.55, 0.25, 0.2] if aspect in COUNTABLE else [0.7, 0.3, 0.0]))
    strength = [_pick(rng, VERB_INTENSIFIERS if form == 1 else tuple(INTENSIFIERS))] if intensifier else []
    if form == 0:
        adjective = [*([_pick(rng, NEGATIONS)] if negation else []), *strength, _pick(rng, ADJECTIVES)]
        return f"the {aspect} {_pick(rng, LINKING)} {' '.join(adjective)}"
    if form == 1:
        verb = _pick(rng, VERBS)
        if negation:
            return f"{_pick(rng, SUBJECTS)} did not {' '.join([*strength, verb])} the {aspect}"
        return f"{_pick(rng, SUBJECTS)} {' '.join([*strength, PAST_TENSE[verb]])} the {aspect}"
    described = " ".join([*strength, _pick(rng, ADJECTIVES)])
    article = "an" if described[0] in "aeiou" else "a"
    return f"it {'did not have' if negation else 'had'} {article} {described} {aspect}"


def _pick(rng: np.random.Generator, choices: dict[str, float] | tuple[str, ...]) -> str:
    return list(choices)[int(rng.integers(len(choices)))]
