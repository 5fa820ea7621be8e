"""One reward model: plain scores, values of coalitions, last-layer attention. Needs torch and transformers, not Ray."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray

from scar_ray.config.schema import Masking, RewardModelConfig
from scar_ray.records import CreditPlan, Evaluation, Response
from scar_ray.scoring.encoding import Encoded, Encoder
from scar_ray.scoring.errors import SampleFailed, name_of
from scar_ray.scoring.loading import is_causal, load_classifier, same_tokenizer, sequence_limit


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
    dropped_chars: int = 0
    """Visible characters of the responses that the reward model's tokenizer leaves out; nothing reads them."""

    def add(self, other: Workload) -> None:
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))


class RewardModel:
    """A Hugging Face sequence-classification model, causal or encoder, as reward r(x, y) and game v(S).

    v(S) is the score of the response reduced to the units in S, as `masking` says; see `scar_ray.scoring.encoding`.
    Without a `policy_tokenizer` responses are read as text.
    """

    def __init__(
        self,
        config: RewardModelConfig,
        *,
        policy_tokenizer: str | None = None,
        masking: Masking = "delete",
        device: str = "cpu",
        batch_tokens: int = 16_384,
        attention: bool = False,
        trust_remote_code: bool = False,
    ) -> None:
        from transformers import AutoTokenizer

        self._config, self._device, self._batch_tokens = config, torch.device(device), batch_tokens
        self.tokenizer = AutoTokenizer.from_pretrained(config.path, trust_remote_code=trust_remote_code)
        self._attention = attention
        self._model = load_classifier(config, attention, trust_remote_code).to(self._device).eval()
        self._labels = int(self._model.config.num_labels)
        self._causal = is_causal(self._model.config)
        self._text_config = self._model.config.get_text_config()
        pad = self._text_config.pad_token_id
        self._pad: int | None = None if pad is None or pad < 0 else pad
        self._by_ids = False
        if policy_tokenizer is not None and self._causal and config.template == "{prompt}{response}":
            policy = AutoTokenizer.from_pretrained(policy_tokenizer, trust_remote_code=trust_remote_code)
            self._by_ids = same_tokenizer(policy, self.tokenizer)
        if attention and not self._by_ids and not self.tokenizer.is_fast:
            raise ValueError(
                f"model.reward.path={config.path}: credit=abc needs a fast tokenizer, one that knows the characters "
                "of its tokens; save the tokenizer with tokenizer.json"
            )
        if attention and getattr(self._text_config, "num_attention_heads", None) is None:
            raise ValueError(
                f"model.reward.path={config.path}: credit=abc needs attention, {type(self._model).__name__} has none; "
                "use another credit"
            )
        self.encoder = self._new_encoder(masking)

    def masked(self, masking: Masking) -> RewardModel:
        """The same model, its weights shared, with another masking. ValueError when it cannot mask that way."""
        other = copy.copy(self)
        other.encoder = self._new_encoder(masking)
        return other

    def _new_encoder(self, masking: Masking) -> Encoder:
        takes_positions = "position_ids" in inspect.signature(self._model.forward).parameters
        if masking == "attention" and self._causal and not takes_positions:
            raise ValueError(
                f"credit.masking=attention: {type(self._model).__name__} takes its positions from the attention mask; "
                "use another masking"
            )
        limit = sequence_limit(self._model, self._config)
        return Encoder(
            self._config, self.tokenizer, causal=self._causal, by_ids=self._by_ids, limit=limit, masking=masking
        )

    @property
    def model(self) -> torch.nn.Module:
        return self._model

    @property
    def appends_eos(self) -> bool:
        """Whether the EOS stands at the end of every sequence, also where the response does not end with one."""
        return self._causal and self._config.append_eos and self.tokenizer.eos_token_id is not None

    @property
    def gives_attention(self) -> bool:
        """Whether it was loaded for attention."""
        return self._attention

    def evaluate(
        self, jobs: Sequence[tuple[Response, CreditPlan]], *, check_finite: bool = True
    ) -> tuple[list[Evaluation], Workload]:
        """Evaluations of the jobs, in their order. Identical sequences are computed once.

        Raises SampleFailed, naming the sample, for a sequence over the model's limit, and for a score that is not
        finite unless the caller wants those as they are (`check_finite=False`).
        """
        assert self._attention or not any(plan.attention for _, plan in jobs), "not loaded for attention"
        index: dict[Encoded, int] = {}
        wanted: list[list[int]] = []
        work = Workload()
        for response, plan in jobs:
            rows = [index.setdefault(ids, len(index)) for ids in self.encoder.sequences(response, plan)]
            wanted.append(rows)
            work.asked += len(rows)
            work.dropped_chars += self.encoder.dropped(response)
        sequences = list(index)
        work.unique, work.tokens = len(sequences), sum(map(len, sequences))
        attending = {rows[0] for rows, (_, plan) in zip(wanted, jobs, strict=True) if plan.attention}
        scores, attention, work.padded_tokens = self._forward(sequences, attending)
        evaluations = []
        for rows, (response, plan) in zip(wanted, jobs, strict=True):
            values = scores[rows]
            if check_finite:
                self._check_finite(values, response)
            evaluations.append(
                Evaluation(
                    score=float(values[0]),
                    values_C=values[1:] if plan.game is not None else None,
                    attention_T=self.encoder.response_attention(attention[rows[0]], response)
                    if plan.attention
                    else None,
                )
            )
        return evaluations, work

    @torch.no_grad()
    def _forward(
        self, sequences: Sequence[Encoded], attending: set[int]
    ) -> tuple[NDArray[np.float64], dict[int, NDArray[np.float64]], int]:
        """Scores of the sequences, the attention rows of those asked for, and the tokens computed.

        Sequences are sorted by length and cut into batches of at most `batch_tokens` padded tokens.
        """
        scores = np.empty(len(sequences))
        attention: dict[int, NDArray[np.float64]] = {}
        padded = 0
        for rows in batches([len(s) for s in sequences], self._batch_tokens):
            batch = [sequences[row] for row in rows]
            here = [row for row in rows if row in attending]
            inputs = self._inputs(batch)
            output = self._model(**inputs, output_attentions=bool(here))
            logits = output.logits.float().cpu().double().numpy()
            label = self._config.label
            scores[rows] = logits[:, 0] if self._labels == 1 else logits[:, label] - logits[:, 1 - label]
            padded += inputs["input_ids"].numel()
            for row in here:
                ids = sequences[row].ids
                heads = output.attentions[-1][rows.index(row), :, self._read_position(ids), : len(ids)]
                attention[row] = heads.float().mean(0).cpu().double().numpy()
        return scores, attention, padded

    def _inputs(self, batch: Sequence[Encoded]) -> dict[str, torch.Tensor]:
        """The batch, padded on the right; hidden tokens masked."""
        width, pad = max(map(len, batch)), self._padding([sequence.ids for sequence in batch])
        ids = torch.full((len(batch), width), pad, dtype=torch.long)
        mask = torch.zeros((len(batch), width), dtype=torch.long)
        for i, sequence in enumerate(batch):
            ids[i, : len(sequence)] = torch.tensor(sequence.ids)
            mask[i, : len(sequence)] = 1
            hidden = list(sequence.hidden)
            mask[i, hidden] = 0
            if self._causal:
                # The head reads the last token that is no padding by its id. Encoders read the first one, and some
                # take positions from what is no padding, so theirs keep their ids.
                ids[i, hidden] = pad
        inputs = {"input_ids": ids.to(self._device), "attention_mask": mask.to(self._device)}
        if self._causal and any(sequence.hidden for sequence in batch):
            inputs["position_ids"] = torch.arange(width, device=self._device).expand(len(batch), -1)
        return inputs

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

    def _check_finite(self, values: NDArray[np.float64], response: Response) -> None:
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            what = "its score" if bad[0] == 0 else f"the value of coalition {bad[0] - 1}"
            raise SampleFailed(f"{name_of(response)}: the reward model returned {values[bad[0]]} as {what}")


def batches(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Rows sorted by length (then row), cut so that rows * longest row stays within the budget of tokens."""
    groups: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        if groups and (len(groups[-1]) + 1) * lengths[row] <= budget:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups
