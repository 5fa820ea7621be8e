"""Reward models in vLLM: for models that one GPU does not hold. Prefixes that sequences share are computed once.

The cache works in blocks of 32 tokens and is emptied before each call, so that values do not depend on what was scored
before. Same interface and same values as the engines of `scar_ray.scoring`, up to rounding.

Tensor parallelism of 2 was tried by hand on a CPU (Llamas of 2 layers in float32, vLLM 0.32). 123 sequences: scores
differ from padded batches by at most 4e-6 where they range over 5.3, a second call gives the same bits, and `close`
leaves no process. `scar-ray train credit=scar_span` on IMDB with reward actors of 2 processes each: the first step's
rewards are those of `cluster.reward.engine=auto` to 8e-8, and nothing is left running. It has not run on GPUs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scar_ray.config.schema import Masking, RewardModelConfig
from scar_ray.scoring import EncodedReward, Encoder
from scar_ray.scoring.encoding import Encoded
from scar_ray.scoring.engines import read_position, rewards_of
from scar_ray.scoring.loading import check_classifier, is_causal, reads_ids
from scar_ray.workers.environment import importing

BLOCK = 32
"""Tokens of a block of the prefix cache; the smallest that vLLM's CPU build takes."""
GPU_SHARE = 0.9
"""Of the actor's share of a GPU, how much must be free when the engine starts."""


class VllmPooling:
    """An `Engine` over `vllm.LLM`, in this process. Start it in a process with `environment.engine_env`."""

    name = "vllm"
    padding = 0

    def __init__(
        self,
        config: RewardModelConfig,
        *,
        device: str = "cpu",
        memory_gib: float = 1.0,
        tensor_parallel: int = 1,
        gpus: float = 1.0,
        trust_remote_code: bool = False,
    ) -> None:
        """`memory_gib` is the key-value cache of each GPU, `gpus` the share of each that the engine may use.

        ValueError when the model is no reward model.
        """
        with importing():
            from transformers import AutoConfig
            from vllm import LLM

        self.model = AutoConfig.from_pretrained(config.path, trust_remote_code=trust_remote_code)
        check_classifier(self.model, config)
        architectures = self.model.architectures or ["unknown architecture"]
        if not architectures[0].endswith("ForSequenceClassification"):  # vLLM would serve it, without a trained head
            raise ValueError(
                f"model.reward.path={config.path}: the model has no trained classification head ({architectures[0]}); "
                "give a complete sequence-classification model"
            )
        self.causal, self._label = is_causal(self.model), config.label
        self._offset = float(getattr(self.model, "reward_offset", 0.0))
        pad = self.model.get_text_config().pad_token_id
        self._pad = None if pad is None or pad < 0 else pad
        arguments: dict[str, Any] = {
            "runner": "pooling",
            "pooler_config": {"use_activation": False},
            "dtype": config.dtype,
            "max_model_len": config.max_length,
            "trust_remote_code": trust_remote_code,
            "tensor_parallel_size": tensor_parallel,
            "enable_prefix_caching": self.causal,
            "block_size": BLOCK,
            "kv_cache_memory_bytes": int(memory_gib * 2**30),
            "disable_log_stats": True,
        }
        if device == "cpu":
            length = config.max_length or getattr(self.model.get_text_config(), "max_position_embeddings", 0)
            arguments |= {
                "enforce_eager": True,
                "enable_chunked_prefill": False,
                "max_num_batched_tokens": max(4096, length),
            }
        else:
            arguments["gpu_memory_utilization"] = GPU_SHARE * gpus
        if tensor_parallel > 1:
            arguments["distributed_executor_backend"] = "mp" if device == "cpu" else "ray"
        self._llm = LLM(config.path, **arguments)

    @property
    def limit(self) -> int:
        """Longest sequence in tokens that the model reads."""
        return int(self._llm.llm_engine.model_config.max_model_len)

    def scores(
        self, sequences: Sequence[Encoded], _groups: Sequence[Sequence[int]], /
    ) -> tuple[NDArray[np.float64], int]:
        """Scores and tokens computed; see `Engine`. Hidden tokens cannot be."""
        assert not any(sequence.hidden for sequence in sequences)
        self._llm.reset_prefix_cache()
        # In the order of their tokens, sequences with common beginnings follow each other.
        order = sorted(range(len(sequences)), key=lambda row: sequences[row].ids)
        prompts = [{"prompt_token_ids": self._read(sequences[row])} for row in order]
        outputs = self._llm.classify(prompts, use_tqdm=False)
        logits = np.array([output.outputs.probs for output in outputs], dtype=np.float64)
        scores = np.empty(len(sequences))
        scores[order] = rewards_of(logits.reshape(len(sequences), -1), self._label) - self._offset
        computed = sum(len(output.prompt_token_ids) - max(output.num_cached_tokens, 0) for output in outputs)
        return scores, computed

    def _read(self, sequence: Encoded) -> list[int]:
        """Up to the token that Transformers' head reads: vLLM reads the last one whatever it is."""
        if not self.causal:
            return list(sequence.ids)
        read = read_position(sequence, self._pad)
        return list(sequence.ids[: 1 if read is None else read + 1])

    def close(self) -> None:
        """Ends the worker processes of a tensor-parallel engine on CPU."""
        self._llm.llm_engine.engine_core.shutdown()


class PoolingReward(EncodedReward):
    """A reward model in vLLM as reward r(x, y) and game v(S); see `RewardModel`."""

    def __init__(
        self,
        config: RewardModelConfig,
        engine: VllmPooling,
        *,
        policy_tokenizer: str | None = None,
        masking: Masking = "delete",
        trust_remote_code: bool = False,
    ) -> None:
        """ValueError for a masking that vLLM cannot do."""
        from transformers import AutoTokenizer

        if masking == "attention":
            raise ValueError("credit.masking=attention: hides tokens, which vLLM cannot; use another masking or engine")
        tokenizer = AutoTokenizer.from_pretrained(config.path, trust_remote_code=trust_remote_code)
        by_ids = engine.causal and reads_ids(config, tokenizer, policy_tokenizer, trust_remote_code)
        encoder = Encoder(config, tokenizer, causal=engine.causal, by_ids=by_ids, limit=engine.limit, masking=masking)
        super().__init__(encoder, engine)
        self._llm = engine

    def close(self) -> None:
        """Ends the engine's processes."""
        self._llm.close()
