"""One reward model: plain scores, values of coalitions, last-layer attention. Needs torch and transformers, not Ray."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from scar_ray.config.cluster import EngineName
from scar_ray.config.schema import Masking, RewardModelConfig
from scar_ray.records import Evaluation, Question, Response
from scar_ray.scoring.encoding import Alike, Encoded, Encoder
from scar_ray.scoring.engines import Classifier, Engine, PlainBatches, choose_engine, measure, suited_engines
from scar_ray.scoring.errors import SampleFailed, name_of
from scar_ray.scoring.loading import is_causal, load_classifier, reads_ids, sequence_limit
from scar_ray.scoring.measured import Measured
from scar_ray.scoring.workload import Workload

MEASURED = 256
"""Most sequences on which engines are measured."""


class EncodedReward:
    """Reward r(x, y) and game v(S) of whatever scores sequences of tokens: an encoder, and an engine behind it.

    v(S) is the score of the response reduced to the units in S, as the encoder's masking says.
    """

    gives_attention = False

    def __init__(self, encoder: Encoder, engine: Engine) -> None:
        self.encoder, self._engine = encoder, engine

    def evaluate(
        self, jobs: Sequence[tuple[Response, Question]], *, check_finite: bool = True
    ) -> tuple[list[Evaluation], Workload]:
        """Evaluations of the jobs, in their order. Identical sequences are computed once.

        Raises SampleFailed, naming the sample, for a sequence over the model's limit, and for a score that is not
        finite unless the caller wants those as they are (`check_finite=False`).
        """
        assert self.gives_attention or not any(asked.attention for _, asked in jobs), "not loaded for attention"
        index: dict[Encoded, int] = {}
        wanted: list[list[int]] = []
        groups: list[list[int]] = []
        work = Workload()
        for response, asked in jobs:
            known = len(index)
            needed = self.encoder.sequences(response, asked)[0 if asked.scored else 1 :]
            rows = [index.setdefault(ids, len(index)) for ids in needed]
            wanted.append(rows)
            groups.append(list(range(known, len(index))))
            work.asked += len(rows)
            work.dropped_chars += self.encoder.dropped(response) if asked.scored else 0
        sequences, padding = list(index), self._padding()
        lengths = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
        work.asked_tokens = sum(int(lengths[rows].sum()) for rows in wanted)
        work.unique, work.tokens = len(sequences), int(lengths.sum())
        attending = sorted({rows[0] for rows, (_, asked) in zip(wanted, jobs, strict=True) if asked.attention})
        scores, attention, work.computed_tokens = self._forward(sequences, groups, attending)
        work.padding_tokens = self._padding() - padding
        evaluations = []
        for rows, (response, asked) in zip(wanted, jobs, strict=True):
            plain, values_C = np.split(scores[rows], [int(asked.scored)])
            if check_finite:
                self._check_finite(plain, values_C, response)
            read = self.encoder.response_attention(attention[rows[0]], response) if asked.attention else None
            evaluations.append(
                Evaluation(
                    score=float(plain[0]) if asked.scored else float("nan"),
                    values_C=values_C if asked.coalitions_Cn is not None else None,
                    attention_T=read,
                    asked_tokens=int(lengths[rows].sum()),
                    lengths_C=lengths[rows[plain.size :]] if asked.coalitions_Cn is not None else None,
                )
            )
        return evaluations, work

    @property
    def engine(self) -> str:
        """Name of the engine that computes coalitions."""
        return self._engine.name

    @property
    def alike(self) -> Alike:
        """When coalitions of two responses to a prompt are equal sequences."""
        return self.encoder.alike

    @property
    def fill_token(self) -> int:
        """What stands in the place of a token that is left out; -1 where nothing does."""
        return self.encoder.fill_token

    def measure_engines(self, response: Response, question: Question) -> Measured:
        """How long the engines that suit the model take for such a response: its lengths and coalitions.

        Where the model reads the policy's token ids, those of prompt and response are drawn at random.
        """
        rng, tokenizer = np.random.default_rng(0), self.encoder.tokenizer
        known = [token for token in range(min(len(tokenizer), 1000)) if token not in tokenizer.all_special_ids]

        def drawn(ids: tuple[int, ...]) -> tuple[int, ...]:
            return tuple(rng.choice(known, size=len(ids)).tolist())

        prompt = replace(response.prompt, token_ids=drawn(response.prompt.token_ids))
        response = replace(response, prompt=prompt, token_ids=drawn(response.token_ids))
        sequences = list(dict.fromkeys(self.encoder.sequences(response, question)))
        return measure(self._suited_engines(), sequences[:: -(-len(sequences) // MEASURED)])

    def _suited_engines(self) -> list[Engine]:
        """The engines that can score the model, in the order of preference."""
        return [self._engine]

    def _forward(
        self, sequences: list[Encoded], groups: list[list[int]], attending: list[int]
    ) -> tuple[NDArray[np.float64], dict[int, NDArray[np.float64]], int]:
        """Scores of the sequences, the attention of those asked for, and the tokens computed."""
        assert not attending
        scores, computed = self._engine.scores(sequences, groups)
        return scores, {}, computed

    def _padding(self) -> int:
        """Padding tokens computed so far."""
        return self._engine.padding

    def _check_finite(self, plain: NDArray[np.float64], values_C: NDArray[np.float64], response: Response) -> None:
        for values, what in ((plain, "its score"), (values_C, "the value of coalition {}")):
            bad = np.flatnonzero(~np.isfinite(values))
            if bad.size:
                told = f"the reward model returned {values[bad[0]]} as {what.format(bad[0])}"
                raise SampleFailed(f"{name_of(response)}: {told}")


class RewardModel(EncodedReward):
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
        engine: EngineName = "auto",
        memory_gib: float = 1.0,
        attention: bool = False,
        trust_remote_code: bool = False,
    ) -> None:
        from transformers import AutoTokenizer

        self._config = config
        self.tokenizer = AutoTokenizer.from_pretrained(config.path, trust_remote_code=trust_remote_code)
        self.gives_attention = attention
        self._model = load_classifier(config, attention, trust_remote_code).to(device).eval()
        self._causal = is_causal(self._model.config)
        self._text_config = self._model.config.get_text_config()
        self._by_ids = self._causal and reads_ids(config, self.tokenizer, policy_tokenizer, trust_remote_code)
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
        classifier = Classifier.of(self._model, causal=self._causal, label=config.label)
        memory = int(memory_gib * 2**30)
        self._plain = PlainBatches(classifier, batch_tokens=batch_tokens, memory=memory)
        self._settings = (classifier, self._plain, batch_tokens, memory)
        encoder = self._new_encoder(masking)
        super().__init__(encoder, choose_engine(classifier, self._plain, engine, batch_tokens, memory))

    def _suited_engines(self) -> list[Engine]:
        return suited_engines(*self._settings)

    def use_engine(self, name: EngineName) -> None:
        """Computes coalitions by the engine of that name from now on. ValueError when it does not suit the model."""
        if name != self.engine:
            self._engine = choose_engine(self._settings[0], self._plain, name, *self._settings[2:])

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

    def _forward(
        self, sequences: list[Encoded], groups: list[list[int]], attending: list[int]
    ) -> tuple[NDArray[np.float64], dict[int, NDArray[np.float64]], int]:
        """Scores of the sequences, the attention of those asked for, and the tokens computed.

        The sequences whose attention is asked for are computed plainly, the others by the engine.
        """
        if not attending:
            return super()._forward(sequences, groups, attending)
        scores = np.empty(len(sequences))
        here = [sequences[row] for row in attending]
        scores[attending], found, computed = self._plain.scores_and_attention(here, set(range(len(here))))
        attention = {attending[number]: row_L for number, row_L in found.items()}
        others = [row for row in range(len(sequences)) if row not in attention]
        place = {row: number for number, row in enumerate(others)}
        remaining = [[place[row] for row in group if row in place] for group in groups]
        scores[others], tokens = self._engine.scores([sequences[row] for row in others], remaining)
        return scores, attention, computed + tokens

    def _padding(self) -> int:
        return sum(engine.padding for engine in {self._plain, self._engine})
