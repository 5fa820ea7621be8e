"""Learners on real actors for tests: options, batches, and processes that serve one learner after the other."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from actor_paths import importing_from
from reference_ppo import ReferencePPO
from transformers import AutoModel, AutoModelForCausalLM

from scar_ray.config.schema import AlgorithmConfig, ClusterConfig, LearnerConfig, ModelConfig, Sampling
from scar_ray.trainer.protocols import PPOBatch, Sequences
from scar_ray.workers.addresses import free_address
from scar_ray.workers.environment import learner_env
from scar_ray.workers.learner import LearnerOptions, LearnerRank
from scar_ray.workers.learner_group import RayLearner
from scar_ray.workers.objective import MiniBatch
from scar_ray.workers.state_files import read_tensors

SAMPLING = Sampling(min_new_tokens=2, max_new_tokens=8, temperature=0.7)
EOS = 0
ROWS = ([5, 0, 3, 6], [1, 7, 2, 4], [6, 1, 5, 0])
"""Mini-batches of three updates."""


NEAR = 2e-5
"""AdamW with eps 1e-5 and rate 1e-3 turns gradient noise of 1e-7 into steps of 1e-5; real steps are 5e-4."""


class ReusableRank(LearnerRank):
    """A learner rank whose process outlives it: importing the stack takes seconds, a tiny learner a fraction of one."""

    def __init__(self, rank: int, address: tuple[str, int]) -> None:
        self._place = rank, address

    def restart(self, options: LearnerOptions) -> None:
        """Becomes a new learner; nothing of the one before is left."""
        rank, address = self._place
        self.__dict__.clear()
        self._place = rank, address
        super().__init__(rank, options, address)

    def has_loaded(self, package: str) -> bool:
        """Whether the process has imported a package."""
        return package in sys.modules


class DoomedRank(LearnerRank):
    """Rank 1 is killed in its first update, as by the system when memory runs out; the others wait for it."""

    def update(self, part: PPOBatch, whole: MiniBatch, train_policy: bool) -> dict[str, float]:
        if self._rank == 1:
            time.sleep(0.5)  # rank 0 has come to the point where it waits
            os.kill(os.getpid(), signal.SIGKILL)
        return super().update(part, whole, train_policy)


def new_actors(ranks: int, actor_class: type, *arguments: Any) -> list[Any]:
    """Actors of the given class with the environment of the product: rank, the arguments, the group's address."""
    here = Path(__file__).parent
    environment = learner_env(ClusterConfig()) | importing_from(here, here.parent)
    actor = ray.remote(actor_class).options(num_cpus=0.5, runtime_env={"env_vars": environment})
    address = free_address()
    return [actor.remote(rank, *arguments, address) for rank in range(ranks)]


def names(ranks: int) -> list[str]:
    return [f"learner-{rank}" for rank in range(ranks)]


def learner_options(
    path: Path,
    *,
    critic: str = "shared",
    lora: dict[str, Any] | None = None,
    dtype: str = "float32",
    max_grad_norm: float = 1.0,
    seed: int = 0,
    algorithm: AlgorithmConfig | None = None,
    **learner: Any,
) -> LearnerOptions:
    """Options of a learner with mini-batches of four responses; by default a rank takes its share in one pass."""
    policy = {"path": str(path), "dtype": dtype, "lora": lora}
    defaults = {"micro_batch": 4 // learner.get("ranks", 1), "timeout_s": 60}
    return LearnerOptions(
        model=ModelConfig.model_validate({"policy": policy}),
        algorithm=algorithm or algorithm_config(critic, max_grad_norm),
        learner=LearnerConfig.model_validate(defaults | learner),
        sampling=SAMPLING,
        device="cpu",
        threads=1,
        seed=seed,
    )


def algorithm_config(critic: str = "shared", max_grad_norm: float = 1.0) -> AlgorithmConfig:
    """PPO with everything that the losses know."""
    return AlgorithmConfig.model_validate(
        {
            "entropy_coef": 0.01,
            "optimizer": {"lr": 1e-3, "max_grad_norm": max_grad_norm, "weight_decay": 0.1},
            "critic": {
                "kind": critic,
                "coef": 0.3,
                "clip": 0.2,
                **({"head_lr": 4e-3} if critic == "shared" else {"lr": 2e-3}),
            },
            "batch": {"prompts": 8, "minibatch": 4},
        }
    )


def without_critic(length_norm: str, estimator: str) -> AlgorithmConfig:
    """GRPO with everything that the losses know."""
    return AlgorithmConfig.model_validate(
        {
            "name": "grpo",
            "clip_high": 0.3,
            "length_norm": length_norm,
            "entropy_coef": 0.01,
            "kl": {"place": "loss", "estimator": estimator, "coef": 0.2},
            "optimizer": {"lr": 1e-3, "weight_decay": 0.1},
            "batch": {"prompts": 4, "samples": 2, "minibatch": 4},
        }
    )


def sequences(vocabulary: int = 300, seed: int = 0) -> Sequences:
    """Eight prompts of 2-5 tokens with responses of 2-7, one of two ends with the EOS."""
    rng = np.random.default_rng(seed)

    def tokens(count: int) -> tuple[int, ...]:
        return tuple(int(x) for x in rng.integers(5, vocabulary, count))

    lengths = (7, 2, 5, 3, 4, 6, 2, 5)
    return Sequences(
        tuple(tokens(2 + b % 4) for b in range(8)),
        tuple(tokens(n - b % 2) + ((EOS,) if b % 2 and n > 2 else tokens(b % 2)) for b, n in enumerate(lengths)),
    )


class Critic(torch.nn.Module):
    """(1, L) token ids -> (1, L) values; starts at 0."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.trunk = AutoModel.from_pretrained(path)
        self.value_head = torch.nn.Linear(self.trunk.config.hidden_size, 1)
        torch.nn.init.zeros_(self.value_head.weight)
        torch.nn.init.zeros_(self.value_head.bias)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.value_head(self.trunk(input_ids=ids).last_hidden_state)[..., 0]


def plain_grpo(path: Path, algorithm: AlgorithmConfig) -> ReferencePPO:
    policy, reference = (AutoModelForCausalLM.from_pretrained(path) for _ in range(2))
    return ReferencePPO(policy, None, reference, algorithm, SAMPLING, eos_id=EOS)


def plain_ppo(path: Path, critic: str) -> ReferencePPO:
    policy, reference = (AutoModelForCausalLM.from_pretrained(path) for _ in range(2))
    head = Critic(path)
    config = algorithm_config(critic)
    critic_module = head.value_head if critic == "shared" else head
    return ReferencePPO(policy, critic_module, reference, config, SAMPLING, eos_id=EOS)


def ppo_batch(sequences: Sequences, logprobs_BT: np.ndarray, lr_scale: float = 0.5, seed: int = 1) -> PPOBatch:
    """A batch whose old policy and critic are a little away from `logprobs_BT` and 0, so that clipping is active."""
    rng, mask = np.random.default_rng(seed), sequences.mask_BT

    def noise(scale: float) -> np.ndarray:
        return np.where(mask, scale * rng.normal(size=mask.shape), 0).astype(np.float32)

    old_values = noise(0.3)
    return PPOBatch(
        sequences=sequences,
        old_logprobs_BT=logprobs_BT + noise(0.2),
        old_values_BT=old_values,
        advantages_BT=noise(1.0),
        returns_BT=old_values + noise(1.0),
        weights_BT=np.where(mask, rng.uniform(0.5, 1.5, mask.shape), 0).astype(np.float32),
        lr_scale=lr_scale,
        counted_B=np.ones(len(sequences), dtype=bool),
    )


def grpo_batch(sequences: Sequences, logprobs_BT: np.ndarray) -> PPOBatch:
    """The same without a critic, with a reference away from the policy; rows 4 and 5 only fill a mini-batch."""
    batch, mask = ppo_batch(sequences, logprobs_BT), sequences.mask_BT
    noise_BT = np.random.default_rng(2).normal(scale=0.5, size=mask.shape)
    return replace(
        batch,
        old_values_BT=None,
        returns_BT=None,
        ref_logprobs_BT=np.where(mask, logprobs_BT + noise_BT, 0).astype(np.float32),
        kl_coef=0.2,
        counted_B=~np.isin(np.arange(8), [4, 5]),
    )


def train(learner: RayLearner, batch: PPOBatch, rows: Any = ROWS, *, train_policy: bool = True) -> list[dict]:
    """One update for each mini-batch; their metrics."""
    return [learner.update(batch, part, train_policy=train_policy) for part in rows]


def state(learner: RayLearner, folder: Path) -> dict[str, torch.Tensor]:
    """Everything the learner saves: parameters and moments, by `policy/<name>` and `critic/<name>`."""
    learner.save(folder)
    return {
        f"{part.name}/{name}": tensor
        for part in sorted(folder.iterdir())
        for name, tensor in read_tensors(part)[0].items()
    }


def parameters(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: x for name, x in state.items() if not name.endswith((".exp_avg", ".exp_avg_sq"))}


def distance(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> float:
    """Largest absolute difference of two sets of tensors of the same names and shapes."""
    assert left.keys() == right.keys()
    assert all(left[name].shape == right[name].shape for name in left)
    return max(float((left[name].float() - right[name].float()).abs().max()) for name in left)
