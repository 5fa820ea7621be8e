"""Shapley shares of the candidates in one response (ShapE-GRPO; arXiv 2603.29871)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

import numpy as np

from scar_ray.credit.advantages import Scaling, candidate_rewards
from scar_ray.credit.base import CreditMethod, check_finite, place, rest
from scar_ray.credit.set_utility import SetUtility
from scar_ray.games.plan import Coalitions, Plan
from scar_ray.games.tree import Tree, halved
from scar_ray.records import CreditPlan, Evaluation, FloatArray, Response, SequenceScore, TokenRewards, Units
from scar_ray.text.candidates import ListFormat, find_candidates

THE_BEST = SetUtility("max")


@dataclass(frozen=True, slots=True)
class CandidateRules:
    """How candidates are written, what a set of them is worth, and how a share is spread over tokens."""

    form: ListFormat = "numbered"
    count: int = 3
    """Candidates that a response is asked for, K."""
    separator: str = "\n"
    utility: SetUtility = THE_BEST
    floor: float | None = None
    """Reward of a missing candidate, and worth of an empty list; none: the reward of the empty response."""
    scaling: Scaling = "length_exact"


RULES = CandidateRules()


@dataclass(frozen=True, slots=True)
class _Cut:
    """The units of a response and which of them are candidates."""

    units: Units
    candidate_n: tuple[int, ...]
    """For each unit the number of its candidate; -1 for preamble, separators and what follows."""
    texts: tuple[str, ...]
    """The candidates that have tokens."""
    dropped: tuple[str, ...]

    @property
    def unit_of_K(self) -> list[int]:
        return [self.candidate_n.index(k) for k in range(len(self.texts))]


@dataclass(frozen=True, slots=True)
class ShapeCredit(CreditMethod):
    """The score of a response is U of the rewards of its candidates, each scored as a response of its own.

    Candidate k earns its Shapley share phi_k of U, paid at its last token; what the shares leave (a floor, shares of
    candidates that are missing, penalties) is paid at the end. Without a critic (`algorithm=shape_grpo`) every token of
    a candidate is judged by phi_k, scaled:

    | scaling      | level of a token of candidate k | mean over the response |
    |--------------|---------------------------------|------------------------|
    | length_exact | phi_k * sum of lengths / length_k | U, whatever the lengths |
    | k_phi        | K * phi_k                       | U for equal lengths    |
    | raw          | phi_k                           | no                     |

    and every other token by U. For equal candidates of equal length all tokens then have the level U, as in GRPO.
    """

    candidates: CandidateRules = RULES

    scores_itself = True

    def plan(self, response: Response) -> CreditPlan:
        """One coalition for each candidate, after the empty and the full one."""
        cut = self._cut(response)
        if len(cut.units) == 0:
            return CreditPlan(cut.units)
        coalitions, _ = _single(cut)
        game = Plan(coalitions.array(), np.zeros((len(cut.units), len(coalitions))), "shapley")
        return CreditPlan(cut.units, game)

    def score(self, response: Response, plan: CreditPlan, evaluation: Evaluation) -> float:
        """U of the candidates; the reward model's score of the list as a whole is not used."""
        cut = self._cut(response)
        rewards_K, floor = self._rewards(cut, evaluation)
        texts = [*cut.texts, *[""] * (len(rewards_K) - len(cut.texts))]
        return self.candidates.utility.value(texts, rewards_K, floor) if cut.texts else self._of_no_list(floor)

    def assign(
        self, response: Response, plan: CreditPlan, evaluation: Evaluation, score: SequenceScore
    ) -> TokenRewards:
        """`score` is `score()`, shaped. Without candidates the reward is sparse."""
        check_finite(score)
        cut, utility = self._cut(response), self.candidates.utility
        if plan.game is not None:
            assert evaluation.values_C is not None, "the plan asks for coalition values"
            plan.game.check(np.asarray(evaluation.values_C, dtype=np.float64))
        n, phi_K, residual, base = len(cut.units), np.zeros(0), 0.0, 0.0
        if cut.texts:
            rewards_K, floor = self._rewards(cut, evaluation)
            texts = [*cut.texts, *[""] * (len(rewards_K) - len(cut.texts))]
            phi_all, base = utility.shapley(texts, rewards_K, floor), utility.of_none(floor)
            residual = float(phi_all.sum()) - (utility.value(texts, rewards_K, floor) - base)
            phi_K = phi_all[: len(cut.texts)]
        credits_n = np.zeros(n)
        credits_n[cut.unit_of_K] = score.scale * phi_K
        left = score.scale * (score.raw - float(phi_K.sum()))
        return TokenRewards(
            place(response, cut.units, credits_n, score, 1.0, left),
            cut.units,
            credits_n,
            base=base,
            efficiency_residual=score.scale * residual,
            estimator="shapley" if cut.texts else "",
            rest=rest(score, 1.0, left),
            levels_T=self._levels(response, cut, phi_K, score),
            dropped=cut.dropped,
        )

    def _levels(self, response: Response, cut: _Cut, phi_K: FloatArray, score: SequenceScore) -> FloatArray:
        levels_T = np.full(response.n_tokens, score.raw)
        if len(phi_K):
            lengths_n = np.subtract(cut.units.ends, cut.units.starts)
            of_K = candidate_rewards(phi_K, lengths_n[cut.unit_of_K].astype(np.float64), self.candidates.scaling)
            for k, unit in enumerate(cut.unit_of_K):
                tokens = slice(cut.units.starts[unit], cut.units.ends[unit])
                levels_T[tokens] = of_K[k] + score.raw - phi_K.sum()
        return score.scale * levels_T + score.penalty

    def _rewards(self, cut: _Cut, evaluation: Evaluation) -> tuple[FloatArray, float]:
        """The candidates' rewards, those of missing ones at the end, and the floor that these are."""
        rules = self.candidates
        values_C = np.array([evaluation.score]) if evaluation.values_C is None else evaluation.values_C
        floor = float(values_C[0]) if rules.floor is None else rules.floor
        rows = _single(cut)[1] if cut.texts else []
        missing = [floor] * (rules.count - len(rows))
        return np.array([*(float(values_C[row]) for row in rows), *missing]), floor

    def _of_no_list(self, floor: float) -> float:
        return self.candidates.utility.value((), np.zeros(0), floor)

    def _cut(self, response: Response) -> _Cut:
        """Every token is a candidate's that has most of its characters; runs of tokens of one owner are the units."""
        rules = self.candidates
        found = find_candidates(response.text, rules.form, rules.count, rules.separator)
        owner_of_char = np.full(len(response.text) + 1, -1)
        for k, (start, end) in enumerate(found.spans):
            owner_of_char[start:end] = k
        owners: list[int] = []
        following = -1
        for start, end in reversed(response.token_spans[: response.n_content]):
            visible = [int(owner_of_char[i]) for i in range(start, end) if not response.text[i].isspace()]
            if visible:  # white space and tokens without characters belong to the token that follows
                following = max(set(visible), key=lambda owner: (visible.count(owner), owner))
            owners.append(following)
        runs = [(owner, len(list(run))) for owner, run in groupby(reversed(owners))]
        kept = sorted({owner for owner, _ in runs if owner >= 0})
        lost = len(found.spans) - len(kept)
        dropped = (*found.dropped, f"{lost} without a token of its own") if lost else found.dropped
        tree: Tree = halved(tuple(range(len(runs)))) if len(runs) > 1 else 0 if runs else ()
        units = Units(tuple(int(end) for end in np.cumsum([length for _, length in runs])), tree)
        number = {owner: k for k, owner in enumerate(kept)} | {-1: -1}
        texts = tuple(response.text[slice(*found.spans[owner])] for owner in kept)
        return _Cut(units, tuple(number[owner] for owner, _ in runs), texts, dropped)


def _single(cut: _Cut) -> tuple[Coalitions, list[int]]:
    """The empty, the full and each candidate's coalition, and the row of each candidate's."""
    coalitions = Coalitions(len(cut.units))
    rows = [coalitions.row(np.arange(len(cut.units)) == unit) for unit in cut.unit_of_K]
    return coalitions, rows
