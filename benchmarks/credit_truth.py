"""How near the credits of every method are to the truth, on reviews of the demo's grammar.

    python benchmarks/credit_truth.py [--reviews 40]

The grammar knows what each word contributes (`scar_ray.tasks.truth`). Every method shares out two values: the score
of the demo's reward model (trained first where the cache has none), and the true sentiment itself. With the second
what is left is the method's own error; what the first has beyond it is the reward model's. Reviews that the models were
not trained on, behind a prompt of three tokens. Writes `credit_truth.json`, `README.md` and `credit_truth.png`: rank
correlation and sign accuracy with 95% bootstrap intervals over the reviews, for the method's own units and for words,
where a unit's credit is divided by the characters of its words. Counts and credits do not depend on the machine.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from credit_truth_report import write_report
from review_games import mean_interval

from scar_ray.config.load import load
from scar_ray.config.schema import RewardModelConfig
from scar_ray.credit import CreditMethod, build
from scar_ray.records import CreditPlan, Evaluation, Prompt, Response, SequenceScore, Units
from scar_ray.tasks.grammar import reviews
from scar_ray.tasks.truth import Truth, rank_correlation, sign_accuracy, truth_of, word_shares
from scar_ray.text.offsets import token_spans

METHODS: dict[str, tuple[str, ...]] = {
    "sparse": (),
    "uniform": (),
    "abc": (),
    "prefix": (),
    "scar_token": (),
    "scar_token, permutations": ("credit.estimator=permutations",),
    "scar_token, paired_flat": ("credit.estimator=paired_flat",),
    "scar_token, paired_tree": ("credit.estimator=paired_tree",),
    "scar_token, contiguous": ("credit.estimator=contiguous",),
    "scar_token, myerson": ("credit.estimator=myerson",),
    "scar_token, budget 32": ("credit.budget=32",),
    "scar_word": (),
    "scar_span": (),
    "scar_span, paired_tree": ("credit.estimator=paired_tree",),
    "scar_sentence": (),
}
"""Rows of the table: `credit=`, and what else is set."""
SEED = 20_260_101
"""Of the reviews; other than those of the models' training and test texts."""
PROMPT_TOKENS = 3
MEASURES = {"rank_correlation": rank_correlation, "sign_accuracy": sign_accuracy}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reviews", type=int, default=40)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "credit_truth")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    result = compare(arguments.reviews)
    (arguments.out / "credit_truth.json").write_text(json.dumps(result, indent=1) + "\n")
    write_report(arguments.out)


def compare(count: int) -> dict[str, Any]:
    """A row for each method and value function: means and intervals of the measures."""
    from scar_ray.scoring import RewardModel
    from scar_ray.workers.supervised.demo import ensure_demo_models

    models = ensure_demo_models()
    config = RewardModelConfig(path=str(models.reward))
    model = RewardModel(config, policy_tokenizer=str(models.policy), attention=True)
    responses = grammar_responses(model.tokenizer, count)
    truths = [truth_of(response) for response in responses]
    rows = []
    for name, overrides in METHODS.items():
        credit = load([f"credit={name.partition(',')[0]}", *overrides]).credit
        method = build(**credit.method_options())
        plans = [method.plan(response) for response in responses]
        jobs = list(zip(responses, plans, strict=True))
        answers = {"reward model": model.evaluate(jobs)[0]}
        if credit.method != "abc":  # the truth pays no attention
            answers["truth"] = [true_evaluation(*job, truth) for job, truth in zip(jobs, truths, strict=True)]
        for source, evaluations in answers.items():
            found = [measured(method, *one) for one in zip(responses, plans, evaluations, truths, strict=True)]
            rows.append({"method": name, "values": source, **counts(plans), **summary(found)})
    mean = float(np.mean([response.n_content for response in responses]))
    return {"reviews": count, "tokens": mean, "rows": rows, "reward_model": rank_of_scores(model, responses, truths)}


def grammar_responses(tokenizer: Any, count: int) -> list[Response]:
    """Reviews as prompt and finished response in the tokens of the demo's policy."""
    found = []
    for row, review in enumerate(reviews(SEED, count)):
        ids = tokenizer(review.text, add_special_tokens=False)["input_ids"]
        prompt, content = ids[:PROMPT_TOKENS], ids[PROMPT_TOKENS:]
        text, spans = token_spans(content, lambda ids: tokenizer.decode(list(ids), skip_special_tokens=True))
        found.append(
            Response(
                row=row,
                prompt=Prompt(row, tuple(prompt), tokenizer.decode(prompt)),
                sample=0,
                token_ids=(*content, tokenizer.eos_token_id),
                text=text,
                token_spans=(*spans, (len(text), len(text))),
                finished=True,
                logprobs_T=np.zeros(len(content) + 1, np.float32),
                policy_version=0,
                engine="",
            )
        )
    return found


def true_evaluation(response: Response, plan: CreditPlan, truth: Truth) -> Evaluation:
    """The true sentiment of the prompt with the words that mostly belong to units that are there."""
    if plan.game is None:
        return Evaluation(truth.reading.sentiment)
    assert plan.units is not None
    shares_Wn = word_shares(truth, response, plan.units)
    values = []
    for present_n in plan.game.coalitions_Cn:
        kept = [word for word, share in zip(truth.words, shares_Wn @ present_n, strict=True) if share > 0.5]
        values.append(truth.reading.value({*truth.given, *kept}))
    return Evaluation(truth.reading.sentiment, np.array(values))


def measured(
    method: CreditMethod, response: Response, plan: CreditPlan, evaluation: Evaluation, truth: Truth
) -> dict[str, float | None]:
    """Both measures of one response's credits, for the method's units and for words."""
    rewards = method.assign(response, plan, evaluation, SequenceScore(evaluation.score, 1.0, 0.0))
    shares_Wn = word_shares(truth, response, rewards.units)
    of_words = by_characters(shares_Wn, truth, rewards.units) @ rewards.credits_n
    found: dict[str, float | None] = {}
    for name, measure in MEASURES.items():
        found[f"units_{name}"] = measure(rewards.credits_n, truth.of_units(shares_Wn))
        found[f"words_{name}"] = measure(of_words, truth.contributions_W)
    return found


def by_characters(shares_Wn: np.ndarray, truth: Truth, units: Units) -> np.ndarray:
    """(W, n) part of each unit's credit that each word gets: by its characters in the unit."""
    lengths_W = np.array([last - first for first, last in (truth.reading.spans[word] for word in truth.words)])
    characters_Wn = shares_Wn * lengths_W[:, None]
    assert characters_Wn.shape[1] == len(units)
    return characters_Wn / np.maximum(characters_Wn.sum(axis=0), 1e-12)


def counts(plans: Sequence[CreditPlan]) -> dict[str, Any]:
    """Mean units and evaluations of the plans, and the estimators that they use."""
    games = [plan.game for plan in plans if plan.game is not None]
    return {
        "units": float(np.mean([game.n_players for game in games])) if games else None,
        "evaluations": float(np.mean([game.n_coalitions for game in games])) if games else 1.0,
        "estimators": sorted({game.estimator for game in games}),
    }


def summary(found: Sequence[dict[str, float | None]]) -> dict[str, Any]:
    """Mean, 95% bootstrap interval and number of responses of each measure, over those where it is defined; or None."""
    kept = {name: [one[name] for one in found if one[name] is not None] for name in found[0]}
    return {name: [*mean_interval(values), len(values)] if values else None for name, values in kept.items()}


def rank_of_scores(model: Any, responses: Sequence[Response], truths: Sequence[Truth]) -> dict[str, float]:
    """How the reward model's scores of whole reviews agree with their true sentiments."""
    scores = np.array([answer.score for answer in model.evaluate([(one, CreditPlan()) for one in responses])[0]])
    sentiments = np.array([truth.reading.sentiment for truth in truths])
    return {
        "correlation": float(np.corrcoef(scores, sentiments)[0, 1]),
        "sign_accuracy": float(np.mean(np.sign(scores) == np.sign(sentiments))),
    }


if __name__ == "__main__":
    main()
