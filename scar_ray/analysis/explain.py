"""Explains the score of a response: which of its tokens, phrases or sentences earned it, under any credit method.

    from scar_ray import explain

    [found] = explain("models/reward", "The film is", " not good at all.", credit="scar_span")
    for unit in found.units:
        print(unit.text, unit.credit)

Needs torch and transformers, not Ray.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scar_ray.analysis.completing import LocalPolicy, LocalScores
from scar_ray.analysis.explanation import ExplainedToken, ExplainedUnit, Explanation
from scar_ray.analysis.loading import load_reward_model, source
from scar_ray.config.errors import UserError
from scar_ray.config.load import load
from scar_ray.config.schema import Config
from scar_ray.credit import CreditMethod, build
from scar_ray.parsing import load_bracketer
from scar_ray.records import CreditPlan, Evaluation, Prompt, Response, SequenceScore, TokenRewards
from scar_ray.text.parse import parse

if TYPE_CHECKING:
    from scar_ray.scoring import FunctionReward, RewardModel, Workload

_CREDIT_KEYS = ("credit.",)
_MODEL_KEYS = (
    "model.reward.",
    "model.trust_remote_code",
    "cluster.reward.batch_tokens",
    "cluster.reward.engine",
    "cluster.reward.memory_gib",
)
_POLICY_KEYS = ("model.policy.dtype", "model.policy.infill", "task.sampling.")


def explain(
    reward_model: str | Path | RewardModel | FunctionReward,
    prompt: str,
    response: str,
    credit: str | Sequence[str] = "scar_span",
    *,
    overrides: Sequence[str] = (),
    device: str = "cpu",
    policy: str | None = None,
) -> list[Explanation]:
    """The score of one response, shared out: one explanation for each method of `credit`, in that order.

    `reward_model` is a folder, a name on the hub, a Python function (`rewards.py:score`, whose tokens are words; its
    options are keys of `model.reward.options`), or a loaded `scar_ray.scoring.RewardModel` (with `attention=True`
    for "abc"). `credit` is one word of `credit=` or several: sparse, uniform, abc, prefix, scar_token, scar_span,
    scar_sentence, ospo, shape_grpo... `overrides` are keys of the configuration, such as `credit.budget=512`,
    `credit.masking=blank`, `model.reward.template=...`; those of the model only where it is not loaded yet. The model
    reads prompt + response as text, by its own tokenizer, and causal models the EOS after it unless
    `model.reward.append_eos=false`. Units are cut from the text; only a model that was loaded for a policy with its
    tokenizer cuts token ids, as training does.

    `policy` is a folder or a name on the hub, for credits by completion (`credit=prefix_complete`): it writes the
    responses that are values there, as `task.sampling.KEY` says, and the response is cut into its tokens; see
    `scar_ray.trainer.completion`. The response counts as ended by the policy's EOS.

    ValueError, in one line, for a model that cannot be used, a wrong key, or a response without tokens, too long for
    the model or without a finite score.
    """
    return Explainer(reward_model, credit, overrides=overrides, device=device, policy=policy).explain(prompt, response)


def explain_many(
    reward_model: str | Path | RewardModel | FunctionReward,
    pairs: Iterable[tuple[str, str]],
    credit: str | Sequence[str] = "scar_span",
    *,
    overrides: Sequence[str] = (),
    device: str = "cpu",
    policy: str | None = None,
) -> Iterator[list[Explanation]]:
    """`explain` for each (prompt, response) of `pairs`, one after another as they are asked for.

    The model is loaded once, at once. All coalitions of a response are one batch, so its numbers are those of
    `explain` whatever else is in `pairs`.
    """
    explainer = Explainer(reward_model, credit, overrides=overrides, device=device, policy=policy)
    return (explainer.explain(prompt, response) for prompt, response in pairs)


@dataclass(frozen=True, slots=True)
class _Method:
    """One credit method and the reward model with its masking."""

    word: str
    method: CreditMethod
    model: RewardModel | FunctionReward
    policy: LocalPolicy | None
    """Where values are completions."""
    config: Config

    @property
    def tokenizer(self) -> Any:
        """What cuts the response into its tokens."""
        return self.model.tokenizer if self.policy is None else self.policy.tokenizer

    def record(self, prompt: str, text: str) -> Response:
        """The response in tokens, and the EOS where the model reads one or a policy has written it."""
        tokenizer = self.tokenizer
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        ids, spans = tuple(encoded["input_ids"]), token_ranges(encoded["offset_mapping"], len(text))
        if not ids:
            whose = "reward model" if self.policy is None else "policy"
            raise UserError(f"response {text!r}: the {whose}'s tokenizer finds no token in it; it must hold text")
        eos = (tokenizer.eos_token_id,)
        finished = (self.policy is not None or self.model.appends_eos) and ids[-1:] != eos
        if finished:
            ids, spans = ids + eos, (*spans, (len(text), len(text)))
        longest = self.config.task.sampling.max_new_tokens
        if self.policy is not None and len(ids) > longest:
            raise UserError(
                f"response {text!r}: has {len(ids)} tokens of the policy with its EOS, over "
                f"task.sampling.max_new_tokens={longest}, as long as it writes; raise that"
            )
        return Response(
            row=0,
            prompt=Prompt(0, tuple(tokenizer(prompt, verbose=False)["input_ids"]), prompt),
            sample=0,
            token_ids=ids,
            text=text,
            token_spans=spans,
            finished=finished,
            logprobs_T=np.zeros(len(ids), np.float32),
            policy_version=0,
            engine="",
        )

    def evaluated(self, response: Response, plan: CreditPlan) -> tuple[Evaluation, Workload]:
        """The answers to the plan, and what they took."""
        if self.policy is None:
            [evaluation], work = self.model.evaluate([(response, plan)])
            return evaluation, work
        from scar_ray.trainer.completion import CompletedValues

        scores = LocalScores(self.model)
        values = CompletedValues(self.config, self.policy, scores)
        values.begin([response.prompt])
        values.submit(response, plan)
        return values.results()[0], scores.work


class Explainer:
    """A loaded reward model and credit methods; the arguments are those of `explain`."""

    def __init__(
        self,
        reward_model: str | Path | RewardModel | FunctionReward,
        credit: str | Sequence[str] = "scar_span",
        *,
        overrides: Sequence[str] = (),
        device: str = "cpu",
        policy: str | None = None,
    ) -> None:
        words = (credit,) if isinstance(credit, str) else tuple(credit)
        is_folder = isinstance(reward_model, str | Path)
        named = source(str(reward_model)) if is_folder else []
        configs = [load([f"credit={word}", *named, *overrides]) for word in words]
        keys = (*_CREDIT_KEYS, *_MODEL_KEYS) if is_folder else _CREDIT_KEYS
        _check_keys(overrides, (*keys, *_POLICY_KEYS) if policy else keys)
        completed = [config for config in configs if config.credit.value == "complete"]
        if completed and not policy:
            raise UserError("credit.value=complete: a policy must complete the response; name it with --policy")
        if policy and not completed:
            raise UserError(f"policy {policy}: only credit.value=complete asks a policy; leave it out")
        attention = any(config.credit.method == "abc" for config in configs)
        if isinstance(reward_model, str | Path):
            model: RewardModel | FunctionReward = load_reward_model(
                str(reward_model), configs[0], device, attention=attention
            )
        elif attention and not reward_model.gives_attention:
            raise ValueError("credit=abc: the reward model was loaded without attention; load it with attention=True")
        else:
            model = reward_model
        writer = LocalPolicy(policy, completed[0], device) if policy else None
        self._methods = [
            _Method(
                word,
                _built(config),
                model.masked(config.credit.masking),
                writer if config.credit.value == "complete" else None,
                config,
            )
            for word, config in zip(words, configs, strict=True)
        ]
        for method in self._methods:
            if not method.tokenizer.is_fast:
                whose = "reward model" if method.policy is None else "policy"
                raise ValueError(
                    f"the {whose}'s tokenizer does not know the characters of its tokens; save it with tokenizer.json"
                )

    def explain(self, prompt: str, response: str) -> list[Explanation]:
        """One explanation for each method. UserError where the response cannot be scored."""
        for name, text in (("prompt", prompt), ("response", response)):
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise UserError(f"{name}: character {error.start} is half of a surrogate pair; remove it") from None
        return [self._explained(method, method.record(prompt, response)) for method in self._methods]

    def _explained(self, method: _Method, response: Response) -> Explanation:
        started = time.perf_counter()
        plan = method.method.plan(response)
        evaluation, work = _evaluated(method, response, plan)
        score = SequenceScore(method.method.score(response, plan, evaluation), 1.0, 0.0)
        rewards = method.method.assign(response, plan, evaluation, score)
        seconds = time.perf_counter() - started
        game = plan.game
        return Explanation(
            credit=method.word,
            prompt=response.prompt.text,
            response=response.text,
            score=score.raw,
            base=None if game is None else rewards.base,
            residual=None if game is None else rewards.efficiency_residual,
            estimator=None if game is None else game.estimator,
            units=_units(response, rewards),
            tree=rewards.units.tree,
            tokens=_tokens(response, rewards, str(method.tokenizer.eos_token)),
            finished=response.finished,
            asked=work.asked,
            evaluated=work.unique,
            reward_tokens=work.tokens,
            seconds=seconds,
            dropped=rewards.dropped,
        )


def _built(config: Config) -> CreditMethod:
    """The credit method, with the parser of `credit.parser`. ValueError where that is not installed."""
    parser = partial(parse, bracketer=load_bracketer(config.credit.parser))
    return build(**config.credit.method_options(), parser=parser)


def _evaluated(method: _Method, response: Response, plan: CreditPlan) -> tuple[Evaluation, Workload]:
    """The answers to the plan, and what they took. UserError where the model cannot score the response."""
    from scar_ray.scoring import SampleFailed, name_of

    try:
        return method.evaluated(response, plan)
    except SampleFailed as error:
        # The advice speaks of how a run samples; there is none here.
        reason, _, advice = str(error).removeprefix(f"{name_of(response)}: ").partition("; ")
        shorter = "; shorten the prompt or the response" if advice else ""
        text = response.text if len(response.text) <= 60 else response.text[:59] + "…"
        raise UserError(f"response {text!r}: {reason}{shorter}") from None


def _units(response: Response, rewards: TokenRewards) -> tuple[ExplainedUnit, ...]:
    units, spans = rewards.units, response.token_spans
    explained = []
    for first, stop, credit in zip(units.starts, units.ends, rewards.credits_n, strict=True):
        start, end = spans[first][0], spans[stop - 1][1]
        explained.append(ExplainedUnit(response.text[start:end], start, end, stop - first, float(credit)))
    return tuple(explained)


def _tokens(response: Response, rewards: TokenRewards, eos: str) -> tuple[ExplainedToken, ...]:
    texts = [response.text[start:end] for start, end in response.token_spans]
    if response.finished:
        texts[-1] = eos
    return tuple(ExplainedToken(text, float(paid)) for text, paid in zip(texts, rewards.rewards_T, strict=True))


def token_ranges(offsets: Sequence[tuple[int, int]], length: int) -> tuple[tuple[int, int], ...]:
    """Half-open character ranges that cover a text of `length`, from the offsets of its tokens.

    White space that no token claims goes with the token that follows, at the end with the last one. A character
    of several tokens belongs to the last of them; those before it have empty ranges.
    """
    following = [start for start, _ in offsets[1:]]
    ends = list(accumulate((min(end, start) for (_, end), start in zip(offsets, following, strict=False)), max))
    return tuple(zip([0, *ends], [*ends, length], strict=True)) if offsets else ()


def _check_keys(overrides: Sequence[str], allowed: tuple[str, ...]) -> None:
    """UserError for a key that would change nothing here."""
    for text in overrides:
        key = text.partition("=")[0]
        if not key.startswith(allowed) or key in ("model.reward.path", "model.reward.function"):
            names = ", ".join(name + "KEY" if name.endswith(".") else name for name in allowed)
            raise UserError(f"{key}: has no effect on an explanation, which takes {names}; leave it out")
