"""Games on the beginnings of real film reviews: players, values from a reward model, and the tokens that it reads.

A review's first words are the prompt, what follows is the response. v(S) is the score of the prompt with only the
players in S as the response. White space runs become one blank before anything else, so that cutting words out gives
the same string here and in shap.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scar_ray.games import Plan
from scar_ray.records import CreditPlan, Prompt, Response, Units
from scar_ray.scoring.encoding import char_ranges

PROMPT_WORDS = 4

Scorer = Callable[[str, Sequence[str]], tuple[NDArray[np.float64], NDArray[np.int64]]]
"""Prompt and responses as text -> their scores and the lengths in tokens of the sequences that were read."""


@dataclass(slots=True)
class Game:
    """v(S) of one response; every distinct text is computed once, and tokens are counted for every text asked for."""

    prompt: str
    text_of: Callable[[NDArray[np.bool_]], str]
    """Players present (n,) -> the response without the others."""
    scorer: Scorer
    known: dict[str, tuple[float, int]] = field(default_factory=dict)
    """Score and tokens of every text so far; may be shared by games of one response."""

    def ask(self, texts: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Scores and tokens of the texts."""
        new = [text for text in dict.fromkeys(texts) if text not in self.known]
        if new:
            scores, lengths = self.scorer(self.prompt, new)
            self.known.update(zip(new, zip(scores.tolist(), lengths.tolist(), strict=True), strict=True))
        answers = [self.known[text] for text in texts]
        return np.array([score for score, _ in answers]), np.array([length for _, length in answers])

    def values(self, coalitions_Cn: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Values and tokens (C,) of the coalitions."""
        return self.ask([self.text_of(present_n) for present_n in coalitions_Cn])

    def credits(self, plan: Plan) -> tuple[NDArray[np.float64], int]:
        """Credits (n,) of the plan and the tokens of its coalitions."""
        values_C, tokens_C = self.values(plan.coalitions_Cn)
        return plan.credits(values_C), int(tokens_C.sum())


def shared_tokens(sequences: Iterable[Sequence[int]]) -> int:
    """Tokens of all sequences when every common beginning is computed once: the nodes of their prefix tree."""
    return len({tuple(ids[: i + 1]) for ids in sequences for i in range(len(ids))})


def deletion_game(response: Response, units: Units, scorer: Scorer, known: dict[str, tuple[float, int]]) -> Game:
    """The game of `units` whose characters are cut out, as masking=delete does where texts are exchanged."""
    pieces = [response.text[a:b] for a, b in char_ranges(response, units)]

    def text_of(present_n: NDArray[np.bool_]) -> str:
        return "".join(piece for piece, here in zip(pieces, present_n, strict=True) if here)

    return Game(response.prompt.text, text_of, scorer, known)


def reward_scorer(path: str) -> tuple[Scorer, Any]:
    """A scorer that asks the reward model in folder `path`, and its tokenizer."""
    from scar_ray.config.schema import RewardModelConfig
    from scar_ray.scoring import RewardModel

    model = RewardModel(RewardModelConfig(path=path, dtype="float32"), batch_tokens=4096)

    def score(prompt: str, texts: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        jobs = [(as_response(prompt, text, [(0, len(text))]), CreditPlan()) for text in texts]
        lengths = [len(model.encoder.sequences(response, plan)[0]) for response, plan in jobs]
        return np.array([answer.score for answer in model.evaluate(jobs)[0]]), np.array(lengths)

    return score, model.tokenizer


def as_response(prompt: str, text: str, spans: Sequence[tuple[int, int]]) -> Response:
    """An unfinished response with these token spans."""
    return Response(
        row=0,
        prompt=Prompt(0, (), prompt),
        sample=0,
        token_ids=(0,) * len(spans),
        text=text,
        token_spans=tuple(spans),
        finished=False,
        logprobs_T=np.zeros(len(spans), dtype=np.float32),
        policy_version=0,
        engine="",
    )


def texts(path: Path) -> Iterator[str]:
    """The reviews of a JSON-lines file, with single blanks; those in plain ASCII without mark-up."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            text = " ".join(json.loads(line)["text"].split())
            if text.isascii() and "<" not in text:
                yield text


def beginnings(text: str, tokenizer: Any, longest: int) -> list[Response]:
    """The beginnings of the review that end with a word, shortest first, of at most `longest` tokens."""
    words = text.split(" ")
    prompt = " ".join(words[:PROMPT_WORDS])
    rest = text[len(prompt) :][: 20 * longest]
    spans = tokenizer(rest, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    return [
        as_response(prompt, rest[: spans[n - 1][1]], spans[:n])
        for n in range(1, min(longest, len(spans) - 1) + 1)
        if rest[spans[n - 1][1]] == " "
    ]


def errors(estimate_n: NDArray[np.float64], target_n: NDArray[np.float64]) -> dict[str, float]:
    """Relative L2 error; Spearman's rank correlation; largest error of a prefix sum, relative to the largest sum."""
    ranks = [np.argsort(np.argsort(credits_n)) for credits_n in (estimate_n, target_n)]
    off_n, sums_n = np.cumsum(estimate_n - target_n), np.cumsum(target_n)
    return {
        "l2": float(np.linalg.norm(estimate_n - target_n) / np.linalg.norm(target_n)),
        "rank": float(np.corrcoef(*ranks)[0, 1]),
        "return": float(np.abs(off_n).max() / np.abs(sums_n).max()),
    }


def sampled_shapley(game: Game, n: int, pairs: int, seed: int) -> tuple[NDArray[np.float64], float]:
    """Shapley values (n,) from `pairs` random orders and their reverses, and the L2 norm of their standard errors."""
    rng = np.random.default_rng(seed)
    marginals = np.empty((pairs, n))
    for pair_n in marginals:
        order = rng.permutation(n)
        place = np.argsort(order)
        lengths = np.arange(n + 1)[:, None]
        forward, _ = game.values(place < lengths)
        backward, _ = game.values(place >= n - lengths)
        pair_n[order] = np.diff(forward) / 2
        pair_n[order[::-1]] += np.diff(backward) / 2
    return marginals.mean(axis=0), float(np.sqrt((marginals.var(axis=0, ddof=1) / pairs).sum()))


def median_interval(samples: Sequence[float], seed: int = 0) -> tuple[float, float, float]:
    """Median and the bounds of its 95% bootstrap interval."""
    return _interval(samples, np.median, seed)


def mean_interval(samples: Sequence[float], seed: int = 0) -> tuple[float, float, float]:
    """Mean and the bounds of its 95% bootstrap interval."""
    return _interval(samples, np.mean, seed)


def _interval(samples: Sequence[float], middle: Callable[..., Any], seed: int) -> tuple[float, float, float]:
    x = np.asarray(samples, dtype=float)
    draws = np.random.default_rng(seed).integers(0, len(x), (1000, len(x)))
    low, high = np.quantile(middle(x[draws], axis=1), [0.025, 0.975])
    return float(middle(x)), float(low), float(high)
