"""One reward model: plain scores, values of coalitions, last-layer attention. Needs torch and transformers, not Ray."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from scar_ray.config.schema import RewardModelConfig
from scar_ray.records import CreditPlan, Evaluation, Response, Units
from scar_ray.text.alignment import overlap_shares
from scar_ray.workers.errors import SampleFailed


@dataclass(slots=True)
class Workload:
    """What evaluating one group of responses took."""

    asked: int = 0
    """Sequences asked for: full responses and coalitions."""
    unique: int = 0
    """Distinct ones, which are the ones computed."""
    tokens: int = 0
    """Tokens of the distinct sequences."""
    padded_tokens: int = 0
    """The same with the padding of the batches."""


class RewardModel:
    """A Hugging Face sequence-classification model, causal or encoder, as reward r(x, y) and game v(S).

    v(S) is the score of the response reduced to the units in S, the prompt and the final EOS always present.
    Units are removed by token ids where the policy's tokenizer is the model's own and the template is plain,
    else by character ranges of the text. Either way the full coalition is the very sequence of the plain score.
    """

    def __init__(
        self,
        config: RewardModelConfig,
        *,
        policy_tokenizer: str,
        device: str = "cpu",
        batch_tokens: int = 16_384,
        attention: bool = False,
        trust_remote_code: bool = False,
    ) -> None:
        from transformers import AutoTokenizer

        self._config, self._device, self._batch_tokens = config, torch.device(device), batch_tokens
        self._tokenizer = AutoTokenizer.from_pretrained(config.path, trust_remote_code=trust_remote_code)
        self._attention = attention
        self._model = load_classifier(config, attention, trust_remote_code).to(self._device).eval()
        self._labels = int(self._model.config.num_labels)
        self._causal = is_causal(self._model.config)
        self._text_config = self._model.config.get_text_config()
        pad = self._text_config.pad_token_id
        self._pad: int | None = None if pad is None or pad < 0 else pad
        policy = AutoTokenizer.from_pretrained(policy_tokenizer, trust_remote_code=trust_remote_code)
        self._by_ids = (
            self._causal and config.template == "{prompt}{response}" and same_tokenizer(policy, self._tokenizer)
        )
        if attention and not self._by_ids and not self._tokenizer.is_fast:
            raise ValueError(
                f"model.reward.path={config.path}: credit=abc needs a fast tokenizer, one that knows the characters "
                "of its tokens; save the tokenizer with tokenizer.json"
            )
        self._limit = sequence_limit(self._model, config)

    @property
    def model(self) -> torch.nn.Module:
        return self._model

    def evaluate(self, jobs: Sequence[tuple[Response, CreditPlan]]) -> tuple[list[Evaluation], Workload]:
        """Evaluations of the jobs, in their order. Identical sequences are computed once.

        Raises SampleFailed, naming the sample, for a sequence over the model's limit or a score that is not finite.
        """
        assert self._attention or not any(plan.attention for _, plan in jobs), "not loaded for attention"
        index: dict[tuple[int, ...], int] = {}
        wanted: list[list[int]] = []
        work = Workload()
        for response, plan in jobs:
            rows = [index.setdefault(ids, len(index)) for ids in self._sequences(response, plan)]
            wanted.append(rows)
            work.asked += len(rows)
        sequences = list(index)
        work.unique, work.tokens = len(sequences), sum(map(len, sequences))
        attending = {rows[0] for rows, (_, plan) in zip(wanted, jobs, strict=True) if plan.attention}
        scores, attention, work.padded_tokens = self._forward(sequences, attending)
        evaluations = []
        for rows, (response, plan) in zip(wanted, jobs, strict=True):
            values = scores[rows]
            self._check_finite(values, response)
            evaluations.append(
                Evaluation(
                    score=float(values[0]),
                    values_C=values[1:] if plan.game is not None else None,
                    attention_T=self._response_attention(attention[rows[0]], sequences[rows[0]], response)
                    if plan.attention
                    else None,
                )
            )
        return evaluations, work

    def _sequences(self, response: Response, plan: CreditPlan) -> list[tuple[int, ...]]:
        """Reward-model ids of the full response, then of every coalition of the plan."""
        sequences = [self._encode(response, None, None)]
        if plan.game is not None:
            assert plan.units is not None
            sequences += [self._encode(response, plan.units, present) for present in plan.game.coalitions_Cn]
        for number, ids in enumerate(sequences):
            if len(ids) > self._limit:
                what = "prompt and response" if number == 0 else f"coalition {number - 1}"
                raise SampleFailed(
                    f"{name_of(response)}: {what} take {len(ids)} reward-model tokens, the reward model reads "
                    f"{self._limit}; shorten the prompts or task.sampling.max_new_tokens"
                )
        return sequences

    def _encode(self, response: Response, units: Units | None, present: NDArray[np.bool_] | None) -> tuple[int, ...]:
        """Ids of prompt + units present + EOS; all units where `units` is None."""
        if self._by_ids:
            content = response.token_ids[: response.n_content]
            if units is not None and present is not None:
                kept = zip(units.starts, units.ends, present, strict=True)
                content = tuple(t for start, end, here in kept if here for t in content[start:end])
            ids = [*response.prompt.token_ids, *content]
        else:
            text = response.text
            if units is not None and present is not None:
                text = "".join(
                    text[a:b] for (a, b), here in zip(char_ranges(response, units), present, strict=True) if here
                )
            ids = list(self._tokenizer(self._templated(response.prompt.text, text))["input_ids"])
        if self._ends_with_eos(response) and (self._by_ids or ids[-1:] != [self._tokenizer.eos_token_id]):
            ids.append(self._tokenizer.eos_token_id)
        return tuple(ids)

    def _ends_with_eos(self, response: Response) -> bool:
        """Whether the response's sequences end with the EOS, whatever units are left out."""
        if not self._causal or self._tokenizer.eos_token_id is None:
            return False
        return self._config.append_eos or (self._by_ids and response.finished)

    def _templated(self, prompt: str, response: str) -> str:
        return self._before(prompt) + response + self._config.template.split("{response}")[1]

    def _before(self, prompt: str) -> str:
        """The text that stands before the response."""
        return self._config.template.split("{response}")[0].replace("{prompt}", prompt)

    @torch.no_grad()
    def _forward(
        self, sequences: Sequence[tuple[int, ...]], attending: set[int]
    ) -> tuple[NDArray[np.float64], dict[int, NDArray[np.float64]], int]:
        """Scores of the sequences, the attention rows of those asked for, and the tokens computed.

        Sequences are sorted by length and cut into batches of at most `batch_tokens` padded tokens.
        """
        scores = np.empty(len(sequences))
        attention: dict[int, NDArray[np.float64]] = {}
        padded = 0
        for rows in batches([len(s) for s in sequences], self._batch_tokens):
            width = max(len(sequences[row]) for row in rows)
            ids = torch.full((len(rows), width), self._padding([sequences[row] for row in rows]), dtype=torch.long)
            mask = torch.zeros((len(rows), width), dtype=torch.long)
            for i, row in enumerate(rows):
                ids[i, : len(sequences[row])] = torch.tensor(sequences[row])
                mask[i, : len(sequences[row])] = 1
            here = [row for row in rows if row in attending]
            output = self._model(
                input_ids=ids.to(self._device),
                attention_mask=mask.to(self._device),
                output_attentions=bool(here),
            )
            logits = output.logits.float().cpu().double().numpy()
            label = self._config.label
            scores[rows] = logits[:, 0] if self._labels == 1 else logits[:, label] - logits[:, 1 - label]
            padded += ids.numel()
            for row in here:
                i = rows.index(row)
                heads = output.attentions[-1][i, :, self._read_position(sequences[row]), : len(sequences[row])]
                attention[row] = heads.float().mean(0).cpu().double().numpy()
        return scores, attention, padded

    def _padding(self, sequences: Sequence[Sequence[int]]) -> int:
        """The model's padding token; for one without any, a token that none of the sequences contains.

        Causal heads read the last token that is no padding, by its id. A model without a padding token reads the
        very last token, so no token of its sequences may look like padding, the EOS in particular.
        """
        if self._pad is not None:
            return self._pad
        used = set().union(*sequences)
        self._text_config.pad_token_id = next(token for token in range(len(used) + 1) if token not in used)
        return self._text_config.pad_token_id

    def _read_position(self, ids: Sequence[int]) -> int:
        """The position whose hidden state the head reads: the first of an encoder, else the last that is no padding."""
        if not self._causal:
            return 0
        return max((i for i, token in enumerate(ids) if token != self._pad), default=0)

    def _response_attention(
        self, row_L: NDArray[np.float64], ids: tuple[int, ...], response: Response
    ) -> NDArray[np.float64]:
        """The read position's attention on each policy token of the response, renormalised to sum 1.

        All of it goes to the last token where the model reads nothing of the response: an empty one, or white
        space that its tokenizer drops.
        """
        if self._by_ids:
            start = len(response.prompt.token_ids)
            weights_T = row_L[start : start + response.n_tokens].copy()
        else:
            weights_T = self._mapped_attention(row_L, ids, response)
        total = weights_T.sum()
        if not np.isfinite(total):
            raise SampleFailed(f"{name_of(response)}: the reward model's attention to the response is {total}")
        if total == 0:
            weights_T[-1] = total = 1.0
        return weights_T / total

    def _mapped_attention(
        self, row_L: NDArray[np.float64], ids: tuple[int, ...], response: Response
    ) -> NDArray[np.float64]:
        """Attention on the model's own tokens, moved to the policy's tokens of the response by shared characters."""
        text = self._templated(response.prompt.text, response.text)
        head, length = len(self._before(response.prompt.text)), len(response.text)
        offsets = self._tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
        weights, spans = [], []
        for weight, (a, b) in zip(row_L, offsets, strict=False):  # an EOS that was appended has no offsets
            start, stop = max(a - head, 0), min(b - head, length)
            if stop > start:  # neither a special token nor one of the prompt or the template
                weights.append(weight * (stop - start) / (b - a))
                spans.append((start, stop))
        if response.finished and self._ends_with_eos(response):
            weights.append(row_L[len(ids) - 1])
            spans.append((length, length))
        return overlap_shares(np.asarray(weights), spans, response.token_spans)

    def _check_finite(self, values: NDArray[np.float64], response: Response) -> None:
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            what = "its score" if bad[0] == 0 else f"the value of coalition {bad[0] - 1}"
            raise SampleFailed(f"{name_of(response)}: the reward model returned {values[bad[0]]} as {what}")


def name_of(response: Response) -> str:
    """How a sample is named in messages."""
    text = " ".join(response.text.split())
    return f"prompt {response.prompt.index}, sample {response.sample} ({text[:60]!r})"


def char_ranges(response: Response, units: Units) -> list[tuple[int, int]]:
    """Character range of every unit; together they are the whole text."""
    bounds = [response.token_spans[end - 1][1] for end in units.ends]
    return list(zip([0, *bounds[:-1]], bounds, strict=True))


def batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Rows sorted by length (then row), cut so that rows * longest row stays within the budget of tokens."""
    groups: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        if groups and (len(groups[-1]) + 1) * lengths[row] <= budget:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


def load_classifier(config: RewardModelConfig, attention: bool, trust_remote_code: bool) -> Any:
    """The model with its classification head. ValueError when a weight is missing or it is no reward model."""
    from transformers import AutoModelForSequenceClassification

    model, info = AutoModelForSequenceClassification.from_pretrained(
        config.path,
        dtype=getattr(torch, config.dtype),
        attn_implementation="eager" if attention else None,
        trust_remote_code=trust_remote_code,
        output_loading_info=True,
    )
    key = f"model.reward.path={config.path}"
    missing = sorted(info["missing_keys"])
    if missing:  # Transformers would draw them at random
        raise ValueError(
            f"{key}: the model has no trained classification head ({missing[-1]} is missing); give a complete "
            "sequence-classification model"
        )
    labels = int(model.config.num_labels)
    if labels not in (1, 2):
        raise ValueError(
            f"{key}: a reward model has one label (the logit) or two (their difference), this one has {labels}"
        )
    if labels == 2 and config.label > 1:
        raise ValueError(f"model.reward.label={config.label}: the reward model has 2 labels; use 0 or 1")
    if model.config.is_encoder_decoder:
        raise ValueError(f"{key}: encoder-decoder reward models are not supported; give a causal model or an encoder")
    return model


def sequence_limit(model: Any, config: RewardModelConfig) -> int:
    """Longest sequence in tokens that the model reads. ValueError when `max_length` asks for more."""
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None) or 10**9
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            # RoBERTa and its relatives count positions from the one after the padding's.
            limit = module.num_embeddings - module.padding_idx - 1
    if config.max_length is not None and config.max_length > limit:
        raise ValueError(
            f"model.reward.max_length={config.max_length}: the reward model reads {limit} tokens; lower it"
        )
    return config.max_length or limit


def is_causal(config: Any) -> bool:
    """True for decoder-only architectures, whose classification head reads the last token."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING

    return type(config) in MODEL_FOR_CAUSAL_LM_MAPPING and type(config) not in MODEL_FOR_MASKED_LM_MAPPING


def same_tokenizer(first: Any, second: Any) -> bool:
    """True when two tokenizers map every text to the same ids, special tokens included."""
    if type(first) is not type(second) or first.get_vocab() != second.get_vocab():
        return False
    if first.all_special_tokens != second.all_special_tokens:
        return False
    backends = [getattr(tokenizer, "backend_tokenizer", None) for tokenizer in (first, second)]
    return None not in backends and backends[0].to_str() == backends[1].to_str()
