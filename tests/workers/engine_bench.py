"""vLLM engines on real actors for tests: processes that serve one engine after the other, a trainer, and stand-ins."""

from __future__ import annotations

import copy
import dataclasses
import gc
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from actor_paths import importing_from
from stand_ins import Recorder

from scar_ray.config.schema import ClusterConfig, RolloutPoolConfig, Sampling
from scar_ray.records import CreditPlan, Prompt, Request, Response
from scar_ray.scoring.encoding import Encoded
from scar_ray.workers.environment import actor_env, engine_env
from scar_ray.workers.modeling import TokenPolicy, load_policy, pad
from scar_ray.workers.reward import RewardOptions, RewardWorker
from scar_ray.workers.rollout import EngineOptions, RayRolloutPool, RolloutWorker
from scar_ray.workers.transfer import EngineClient, open_transfer
from scar_ray.workers.weights import PolicyWeights

POOL = RolloutPoolConfig(max_model_len=192, cpu_kv_cache_gb=0.03)
"""The tiny models could take 256 positions; the engine is given fewer."""


def engine_options(model: Path, sampling: Sampling, tensor_parallel: int = 1) -> EngineOptions:
    pool = POOL.model_copy(update={"tensor_parallel": tensor_parallel})
    return EngineOptions(str(model), "float32", "cpu", "object_store", False, pool, sampling)


class ReusableEngine(RolloutWorker):
    """A rollout engine whose process outlives it: importing vLLM takes ten seconds, a tiny engine one or two."""

    def __init__(self, name: str) -> None:
        self._name = name

    def restart(self, options: EngineOptions) -> None:
        """Becomes a new engine; nothing of the one before is left."""
        name = self._name
        self.__dict__.clear()
        gc.collect()
        super().__init__(name, options)

    def resample(self, sampling: Sampling) -> None:
        """Samples differently from now on."""
        self._options = dataclasses.replace(self._options, sampling=sampling)

    def infill(self, text: str) -> None:
        """Asks for what is missing by another text from now on."""
        self._writing = dataclasses.replace(self._writing, infill=text)

    def score_with(self, options: RewardOptions) -> int:
        """Becomes a reward actor; nothing of what it was before is left. Returns the longest sequence it reads."""
        name = self._name
        self.__dict__.clear()
        gc.collect()
        self._name = name
        self._worker = RewardWorker(name, options)
        return self._worker._reward._engine.limit

    def evaluate(self, jobs: list[Any]) -> Any:
        return self._worker.evaluate(jobs)

    def measure(self, response: Response, plan: CreditPlan) -> Any:
        return self._worker.measure(response, plan)

    def scores(self, sequences: list[Encoded]) -> Any:
        """What the reward actor's engine makes of sequences of token ids."""
        return self._worker._reward._engine.scores(sequences, [])

    def cached_tokens(self, token_ids: Sequence[int]) -> int:
        """How many tokens of a prompt the engine takes from its prefix cache."""
        output = self._llm.generate([{"prompt_token_ids": list(token_ids)}], self._params(max_tokens=1), use_tqdm=False)
        return int(output[0].num_cached_tokens)


class SmallTrainer:
    """The trainer side of the weight transfer without a learner: one rank that holds a policy."""

    def hold(self, folder: Path | None, lora: bool = False, targets: tuple[str, ...] = ()) -> None:
        """Holds the policy of a folder, with random adapters where asked for, or none."""
        from scar_ray.config.schema import LoraConfig
        from scar_ray.workers.modeling import add_lora

        self._policy = load_policy(str(folder), "float32", False) if folder else None
        if lora:
            torch.manual_seed(0)
            self._policy = add_lora(self._policy, LoraConfig(rank=4, alpha=8, target_modules=targets))
            for name, parameter in self._policy.named_parameters():
                if ".lora_B." in name:
                    torch.nn.init.normal_(parameter, std=0.3)

    def connect(self, engines: list[Any]) -> None:
        self._client = EngineClient(engines, tensor_parallel=1)
        self._transfer = open_transfer(
            "object_store",
            rank=0,
            client=self._client,
            weights=PolicyWeights(self._policy, torch.float32, zero_stage=0),
            world_size=1 + len(engines),
            address=("127.0.0.1", 0),
        )

    def send(self, version: int) -> None:
        self._client.version = version
        self._transfer.send_weights()

    def call(self, function: Callable[[Any], Any]) -> Any:
        """The function of the policy, in this process."""
        return function(self._policy)


def merged_copy(policy: Any) -> dict[str, torch.Tensor]:
    """What peft makes of a policy with adapters: the weights after `merge_and_unload`."""
    return {name: p.detach() for name, p in copy.deepcopy(policy).merge_and_unload().named_parameters()}


def sent_weights(policy: Any) -> tuple[list[tuple[str, tuple[int, ...]]], dict[str, torch.Tensor]]:
    """What the source declares and what it yields."""
    from scar_ray.workers.vllm_transfer import PolicySource

    source = PolicySource(PolicyWeights(policy, torch.float32, zero_stage=0))
    return [(meta.name, meta.shape) for meta in source.metadata()], dict(iter(source))


def client_calls(policy: Any) -> list[list[tuple[str, Any]]]:
    """What three engines of two GPUs each are told to do for an NCCL group and one update."""
    del policy
    engines = [Recorder() for _ in range(3)]
    client = EngineClient(engines, tensor_parallel=2)
    client.init_weight_transfer_engine({"rank_offset": 1, "world_size": 7})
    client.version = 5
    client.start_weight_update()
    client.update_weights({"names": []})
    client.finish_weight_update()
    return [engine.calls for engine in engines]


def new_actor(actor_class: type, *arguments: Any, env: dict[str, str] | None = None) -> Any:
    """An actor with the environment of the product."""
    environment = (actor_env(ClusterConfig()) if env is None else env) | importing_from(Path(__file__).parent)
    return ray.remote(actor_class).options(num_cpus=0.5, runtime_env={"env_vars": environment}).remote(*arguments)


def new_engine(name: str) -> Any:
    return new_actor(ReusableEngine, name, env=engine_env(ClusterConfig()))


def requests(
    prompts: Sequence[Sequence[int]], samples: int = 1, *, texts: Sequence[str] | None = None, seed: int = 0
) -> list[Request]:
    """One request for each sample of each prompt, with seeds that depend on prompt and sample only."""
    return [
        Request(
            row=i * samples + sample,
            prompt=Prompt(i, tuple(token_ids), texts[i] if texts else ""),
            sample=sample,
            seed=1_000_003 * seed + 1_009 * i + sample,
        )
        for i, token_ids in enumerate(prompts)
        for sample in range(samples)
    ]


def random_prompts(lengths: Iterable[int], vocabulary: int = 390, seed: int = 0) -> list[tuple[int, ...]]:
    """Prompts of ordinary tokens."""
    rng = np.random.default_rng(seed)
    return [tuple(int(x) for x in rng.integers(5, vocabulary, length)) for length in lengths]


def generate(engines: Sequence[Any], asked: Sequence[Request]) -> list[Response]:
    """Responses in row order, from a pool of these engines."""
    pool = RayRolloutPool(engines, [f"rollout-{i}" for i in range(len(engines))])
    return sorted(pool.generate(asked), key=lambda response: response.row)


def reference_logprobs(
    policy: torch.nn.Module, responses: Sequence[Response], sampling: Sampling, eos_id: int
) -> list[np.ndarray]:
    """What the learner's forward pass says about the tokens of each response."""
    batch = pad([r.prompt.token_ids for r in responses], [r.token_ids for r in responses], eos_id, "cpu")
    with torch.no_grad():
        logprobs_RT = TokenPolicy(policy, sampling, eos_id, value_head=False)(batch).logprobs_RT.numpy()
    return [row[: response.n_tokens] for row, response in zip(logprobs_RT, responses, strict=True)]


def gap(left: Sequence[np.ndarray], right: Sequence[np.ndarray]) -> float:
    """Largest difference of two sets of log-probabilities of the same tokens."""
    return max(float(np.abs(a - b).max()) for a, b in zip(left, right, strict=True))


def tokens(responses: Sequence[Response]) -> list[tuple[int, ...]]:
    return [response.token_ids for response in responses]


def logprobs(responses: Sequence[Response]) -> list[np.ndarray]:
    return [response.logprobs_T for response in responses]
