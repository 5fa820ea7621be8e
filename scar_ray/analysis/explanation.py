"""What is known about the score of one response under one credit method, and how its numbers are shown."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from scar_ray.records import Tree


@dataclass(frozen=True, slots=True)
class ExplainedUnit:
    """One unit of the response: a token, a phrase, a sentence."""

    text: str
    """Its characters, white space in front included; empty for the EOS."""
    start: int
    end: int
    """Half-open character range in the response."""
    n_tokens: int
    """Tokens of the unit. The units follow each other from token 0 on."""
    credit: float
    """Share of the score, before it is mixed with the sparse reward (`credit.alpha`); units of the score."""


@dataclass(frozen=True, slots=True)
class ExplainedToken:
    """One token of the response, as the reward model's tokenizer cuts it."""

    text: str
    """Its characters; the name of the EOS for the EOS, which has none."""
    reward: float
    """What PPO would be paid at this token, KL not included; the rewards of a response add up to its score."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """The score of one response, shared out by one credit method."""

    credit: str
    """The method, as the word of `credit=`."""
    prompt: str
    response: str
    score: float
    """r(x, y), what the reward model gives prompt + response, or what a method makes of its list of candidates; nothing
    is clipped or shaped."""
    base: float | None
    """v(empty), the score of the response without any unit; None where the method does not measure it."""
    residual: float | None
    """sum(credits) - (v(all) - v(empty)): rounding for an efficient method; None where there is no game."""
    estimator: str | None
    """The estimator that was used; None for methods without coalitions."""
    units: tuple[ExplainedUnit, ...]
    tree: Tree
    """Hierarchy over the indices of `units`, as nested tuples: ((0, 1), 2)."""
    tokens: tuple[ExplainedToken, ...]
    finished: bool
    """True when the last token is the EOS, which causal reward models read at the end."""
    asked: int
    """Sequences asked for: the response and its coalitions."""
    evaluated: int
    """Distinct ones among them, which are the ones computed."""
    reward_tokens: int
    """Reward-model tokens of the distinct sequences."""
    seconds: float
    """Time of planning, evaluating and sharing out."""
    dropped: tuple[str, ...] = ()
    """What of the response was left out of the credits and why, a line each."""

    @property
    def rest(self) -> float:
        """The part of the score that is no unit's credit: v(empty) unless `credit.base` is zero."""
        return self.score - math.fsum(unit.credit for unit in self.units)

    @property
    def covers_all(self) -> bool:
        """True when the EOS is a unit too, or there is none."""
        return sum(unit.n_tokens for unit in self.units) == len(self.tokens)

    def to_json(self) -> dict[str, object]:
        """The same as plain JSON types, tuples as lists; `json.dumps` writes it."""
        return {key: _lists(value) for key, value in asdict(self).items()}


def _lists(value: object) -> object:
    if isinstance(value, dict):
        return {key: _lists(inner) for key, inner in value.items()}
    return [_lists(inner) for inner in value] if isinstance(value, tuple | list) else value


def full_strength(explanations: Sequence[Explanation]) -> float:
    """The credit that is drawn in full colour, the same for all: the largest one of a unit.

    The sparse reward, all of it on one token, counts only where nothing else is shown: it would leave the units of
    the other methods pale.
    """
    dense = [found for found in explanations if found.credit != "sparse"]
    sizes = [abs(unit.credit) for found in dense or explanations for unit in found.units]
    return max(sizes, default=0.0) or 1.0


def decimals(scale: float) -> int:
    """Decimals that credits of this size call for, so that numbers beside each other compare: 2 for 1.5, 4 for 0.02."""
    return min(6, max(0, 2 - math.floor(math.log10(float(f"{scale:.0e}")))))


def signed(value: float, places: int) -> str:
    """A credit as text: +1.23, −0.40; a number that rounds to zero is 0."""
    text = f"{value:+.{places}f}"
    return "0" if float(text) == 0 else text.replace("-", "−")


def one_line(text: str) -> str:
    """Text that is safe to print in one line: line breaks and tabs as arrows, other control characters replaced.

    Also replaced: halves of surrogate pairs and the marks that turn the direction of the text around them.
    """
    named = {"\n": "⏎", "\t": "→", "\r": "␍"}
    return "".join(
        named.get(char) or ("\ufffd" if unicodedata.category(char) in ("Cc", "Cs") or char in _TURNS else char)
        for char in text
    )


_TURNS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c\u2028\u2029"
