"""Frozen records that travel between the parts of scar_ray.

Shape suffixes, here and everywhere: B responses of a batch, T tokens of a response (its EOS included),
n players (units of a response), C coalitions. Token indices count response tokens from 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from scar_ray.games.plan import Plan
from scar_ray.games.tree import Tree as Tree

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

Masking = Literal["delete", "blank", "mask", "pad", "attention"]
"""How units are left out of a response: cut out, replaced by blanks, mask or padding tokens, or not attended to."""
FILLS: tuple[Masking, ...] = ("blank", "mask", "pad")
"""The maskings that put another token in the place of each one that is left out."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt of a data set."""

    index: int
    """Position in the task's list of prompts; stable over a run."""
    token_ids: tuple[int, ...]
    """Policy tokens, special tokens included; what the engine is given."""
    text: str
    """The same prompt as text, special tokens left out; what a reward model with its own tokenizer reads."""
    data: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """What else the task knows about the prompt, such as a query's relevance judgements; reward functions get it."""


@dataclass(frozen=True, slots=True)
class Request:
    """One response asked for: sample number `sample` of `prompt`."""

    row: int
    """Row of the batch that the response fills, 0..B-1."""
    prompt: Prompt
    sample: int
    seed: int
    """Sampling seed, derived from (run seed, step, prompt, sample): independent of the engine that serves it."""
    kept: tuple[int, ...] = ()
    """Response tokens that are given; the policy goes on after them, and their number counts as its response's."""
    after: tuple[int, ...] = ()
    """Response tokens that follow what the policy writes, which then is what `PolicyConfig.infill` asks it for."""

    def most(self, max_new_tokens: int) -> int:
        """Most tokens that the policy may write, where a response may have so many; at most 0 leaves no room."""
        return max_new_tokens - len(self.kept) - len(self.after)

    def least(self, min_new_tokens: int) -> int:
        """Fewest tokens before the EOS, where a response must have so many; a gap may be filled with nothing."""
        return 0 if self.after else max(0, min_new_tokens - len(self.kept))


@dataclass(frozen=True, slots=True)
class Response:
    """One sampled response."""

    row: int
    prompt: Prompt
    sample: int
    token_ids: tuple[int, ...]
    """T response tokens; the EOS is kept when the policy produced it."""
    text: str
    """The response as text, without special tokens."""
    token_spans: tuple[tuple[int, int], ...]
    """T half-open character ranges of `text`, monotone and contiguous; an EOS has the empty range at the end."""
    finished: bool
    """True when the last token is the EOS."""
    logprobs_T: NDArray[np.float32]
    """Behaviour log-probabilities (nats) of the tokens, as the engine sampled them."""
    policy_version: int
    engine: str
    """Name of the engine that produced it, for messages."""
    kept: int = 0
    """Tokens at its beginning that were given, not sampled; their log-probabilities are NaN, as are those of tokens
    that were given after them (`Request.after`)."""

    @property
    def n_tokens(self) -> int:
        return len(self.token_ids)

    @property
    def n_content(self) -> int:
        """Tokens that can be players: all but the EOS."""
        return len(self.token_ids) - int(self.finished)


@dataclass(frozen=True, slots=True)
class Sample:
    """What a Python reward function reads: a response, whole or reduced to some of its units."""

    prompt: str
    response: str
    """Empty where all units are left out."""
    data: Mapping[str, Any]
    """`Prompt.data`."""


@dataclass(frozen=True, slots=True)
class Units:
    """The players of a response: contiguous runs of its content tokens that together cover all of them.

    Example: 5 content tokens in two units of 2 and 3 tokens: `ends=(2, 5)`, `tree=(0, 1)`.
    """

    ends: tuple[int, ...]
    """n exclusive end positions in tokens, increasing; the last one is the number of content tokens."""
    tree: Tree
    """Hierarchy above the players for Owen values; `()` when there are no players."""
    granularity: str = field(default="", compare=False)
    """What the players were cut as, before any merging: "token", "word", "chunk", "span", "sentence" or "paragraph";
    empty where the text was not parsed for them."""

    def __len__(self) -> int:
        return len(self.ends)

    @property
    def starts(self) -> tuple[int, ...]:
        return (0, *self.ends[:-1]) if self.ends else ()


class Question(Protocol):
    """What a reward model is asked about one response: a `CreditPlan`, or an `Excerpt` of one."""

    @property
    def units(self) -> Units | None:
        """The players."""

    @property
    def coalitions_Cn(self) -> BoolArray | None:
        """Coalitions whose values are asked for, one a row; None without a game."""

    @property
    def scored(self) -> bool:
        """True when the plain score is asked for."""

    @property
    def attention(self) -> bool:
        """True when last-layer attention is asked for."""

    @property
    def gold(self) -> bool:
        """True when the second reward model's score is asked for."""


@dataclass(frozen=True, slots=True)
class CreditPlan:
    """What a credit method asks of the reward model for one response; the plain score always comes too."""

    units: Units | None = None
    """The players; None for methods without any."""
    game: Plan | None = None
    """Coalitions whose values are needed, and the linear map from values to credits."""
    attention: bool = False
    """True when last-layer attention is needed (ABC)."""
    gold: bool = False
    """True when the second reward model's score is wanted too: in evaluations on held-out prompts."""

    @property
    def coalitions_Cn(self) -> BoolArray | None:
        return None if self.game is None else self.game.coalitions_Cn

    @property
    def scored(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class Excerpt:
    """Some of what a `CreditPlan` asks, without the map from values to credits; the fields are `Question`'s."""

    units: Units | None = None
    coalitions_Cn: BoolArray | None = None
    scored: bool = True
    attention: bool = False
    gold: bool = False


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What the reward model answered for one response; raw, before clipping and penalties."""

    score: float
    """r(x, y), the plain sequence score; equals the value of the full coalition bit for bit in fp32. NaN where it was
    not asked for."""
    values_C: FloatArray | None = None
    """v(S) of every coalition that was asked for, in their order."""
    attention_T: FloatArray | None = None
    """Share of attention that the read position pays to each response token; non-negative, sums to 1."""
    gold: float | None = None
    """Score of the second reward model."""
    asked_tokens: int = 0
    """Tokens of all sequences that were asked for, each as a whole; 0 where a function reads texts."""
    lengths_C: NDArray[np.int64] | None = None
    """Of them, those of every coalition; None where a function reads texts."""
    stderr_C: FloatArray | None = None
    """Standard errors of the values, where they are means of samples; 0 where a value is exact, NaN of one sample."""


@dataclass(frozen=True, slots=True)
class SequenceScore:
    """The plain score and what clipping and penalties made of it: `final = scale * raw + penalty`."""

    raw: float
    scale: float
    """clip(raw) / raw; 1 without clipping. Multiplies every share of the raw score."""
    penalty: float
    """Missing-EOS and over-length penalties, zero or negative; paid at the last token."""

    @property
    def final(self) -> float:
        return self.scale * self.raw + self.penalty


@dataclass(frozen=True, slots=True)
class TokenRewards:
    """The sequence score distributed over the tokens of one response."""

    rewards_T: FloatArray
    """Reward of each token, KL not included; sums to `SequenceScore.final`."""
    units: Units
    """Units for display; every token is a unit of its own for token-wise methods."""
    credits_n: FloatArray
    """Credit of each unit before mixing with the sparse reward, in units of the (scaled) reward."""
    base: float = 0.0
    """Score of the empty response, v(empty), where the method measured one."""
    efficiency_residual: float = 0.0
    """sum(credits) - (v(N) - v(empty)): numerical noise for an efficient method."""
    estimator: str = ""
    """How the credits were found, "owen" or "kernel" for instance; empty for methods without coalitions."""
    rest: float = 0.0
    """The part of the last token's reward that is nobody's credit: the sparse share, penalties, v(empty). Without a
    critic it concerns all tokens alike (`credit.advantages.levels`)."""
    levels_T: FloatArray | None = None
    """What each token is judged by without a critic, where the method has a rule of its own for that."""
    dropped: tuple[str, ...] = ()
    """What of the response was left out of the credits and why, a line each."""
