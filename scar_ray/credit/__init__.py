"""Credit methods: how the sequence score is shared out over the tokens of a response.

| name    | token rewards                                               | asks the reward model for |
|---------|-------------------------------------------------------------|---------------------------|
| sparse  | all of the score at the last token                          | the score                 |
| uniform | equal parts                                                 | the score                 |
| abc     | parts proportional to the reward model's attention          | last-layer attention      |
| prefix  | what each unit adds to the score of the response so far     | n + 1 prefixes            |
| scar    | Shapley or Owen values of tokens, phrases or sentences      | at most `budget` coalitions |
| ospo    | mean marginals of phrases over contiguous coalitions        | at most `budget` coalitions |
| shape_grpo | Shapley shares of the candidates that a response lists   | one coalition a candidate |

Every method's token rewards add up to the sequence score, `rewards_T.sum() == score.final`. That score is the reward
model's of the whole response, for shape_grpo the worth of its set of candidates.

How to add a method
-------------------
1. Write one file here with a frozen dataclass. Its fields are its options, with names and types of
   `config.schema.CreditConfig` (unit, estimator, alpha, budget, budget_tokens, max_units, base, masking, w_max,
   candidates) and `parser`, as many as it needs::

       @dataclass(frozen=True, slots=True)
       class FirstCredit(CreditMethod):
           \"""All of the score to the first unit.\"""

           unit: Unit = "span"
           alpha: float = 0.8

           def plan(self, response: Response) -> CreditPlan:
               return CreditPlan(units=segment(response, self.unit, max_units=64))

           def assign(self, response, plan, evaluation, score) -> TokenRewards:
               check_finite(score)
               credits_n = np.zeros(len(plan.units))
               credits_n[:1] = score.scale * score.raw
               left = score.scale * score.raw - credits_n.sum()  # a response may have no units
               rewards_T = place(response, plan.units, credits_n, score, self.alpha, left)
               return TokenRewards(rewards_T, plan.units, credits_n)

   A method that needs values of coalitions puts a `scar_ray.games.Plan` into `CreditPlan.game` (coalitions,
   and the linear map from their values to credits), sets `plays_game = True` so that it is audited, and ends with
   `assign_credits`, as `prefix.py` does.
2. Give it a name in `METHODS` below, in `CreditConfig.method`, and a file `configs/credit/<name>.yaml`.

The tests of tests/credit/test_contract.py run for every name in `METHODS`, so the new method is covered.
"""

from __future__ import annotations

import difflib
from dataclasses import fields, is_dataclass

from scar_ray.credit.attention import AttentionCredit
from scar_ray.credit.base import Base, CreditMethod, assign_credits, check_finite, every_token, place
from scar_ray.credit.ospo import OspoCredit
from scar_ray.credit.prefix import PrefixCredit
from scar_ray.credit.scar import ScarCredit
from scar_ray.credit.shape_grpo import RULES, CandidateRules, ShapeCredit
from scar_ray.credit.sparse import SparseCredit
from scar_ray.credit.uniform import UniformCredit
from scar_ray.games import Estimator
from scar_ray.games.contiguous import W_MAX
from scar_ray.records import Masking
from scar_ray.text.parse import Parser, parse
from scar_ray.text.units import Unit

METHODS: dict[str, type[CreditMethod]] = {
    "sparse": SparseCredit,
    "uniform": UniformCredit,
    "abc": AttentionCredit,
    "prefix": PrefixCredit,
    "scar": ScarCredit,
    "ospo": OspoCredit,
    "shape_grpo": ShapeCredit,
}

PARSING = tuple(name for name, cls in METHODS.items() if "parser" in {field.name for field in fields(cls)})  # type: ignore[arg-type]
"""Methods whose units may need the phrases that `credit.parser` finds."""


def build(
    method: str,
    *,
    unit: Unit,
    estimator: Estimator,
    alpha: float,
    budget: int,
    max_units: int,
    base: Base,
    budget_tokens: int | None = None,
    masking: Masking = "delete",
    w_max: int = W_MAX,
    candidates: CandidateRules = RULES,
    parser: Parser = parse,
) -> CreditMethod:
    """The credit method of that name, with those of the options that it declares. ValueError if unknown."""
    if method not in METHODS:
        nearest = difflib.get_close_matches(method, METHODS, n=1, cutoff=0.0)[0]
        raise ValueError(f"credit: no method {method!r}; use {nearest!r} or one of {', '.join(METHODS)}")
    options: dict[str, object] = {
        "unit": unit,
        "estimator": estimator,
        "alpha": alpha,
        "budget": budget,
        "max_units": max_units,
        "base": base,
        "budget_tokens": budget_tokens,
        "masking": masking,
        "w_max": w_max,
        "candidates": candidates,
        "parser": parser,
    }
    cls = METHODS[method]
    assert is_dataclass(cls), cls
    return cls(**{field.name: options[field.name] for field in fields(cls)})


__all__ = [
    "METHODS",
    "PARSING",
    "CandidateRules",
    "CreditMethod",
    "assign_credits",
    "build",
    "check_finite",
    "every_token",
    "place",
]
