"""Small training runs on the real stack: small models, prompts of one length, steps that can be timed.

For benchmarks of whole training steps. Policies and reward models are Llama-shaped; prompts are beginnings of reviews
from the demo's grammar. Every response has the same number of tokens, so that all methods do the same work. Weights are
random; a policy can be taught for some steps, so that its responses have about as many phrases as prose.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scar_ray import credit
from scar_ray.config.load import load
from scar_ray.config.schema import ArchitectureConfig, Config
from scar_ray.tasks.grammar import reviews
from scar_ray.tasks.scratch import new_policy, new_reward_model, train_tokenizer

if TYPE_CHECKING:
    from scar_ray.trainer.loop import Trainer

POSITIONS = 1024
PHASES = ("rollout", "forward", "reward", "update", "sync")
"""Phases of a step, as its metrics name them."""
ROLES = {"rollout": "RolloutWorker", "learner": "LearnerRank", "reward": "RewardWorker"}
"""Roles and the classes of their actors."""
TAUGHT_ROWS, TAUGHT_TOKENS = 8, 128
"""Sequences and tokens of a step in which a policy is taught."""
REVIEWS_A_TEXT = 60
"""Reviews that are joined to one long text, of which a prompt is the beginning."""


def architecture(hidden: int, layers: int) -> ArchitectureConfig:
    """A Llama shape with heads of 64 and an inner size of four times the hidden size."""
    return ArchitectureConfig(
        hidden_size=hidden, layers=layers, heads=hidden // 64, intermediate_size=4 * hidden, max_positions=POSITIONS
    )


def write_models(folder: Path, hidden: int, layers: int, taught: int = 0) -> tuple[Path, Path]:
    """Folders of a policy, taught for so many steps, and a reward model of this size with one tokenizer; made once."""
    import torch

    paths = folder / f"policy-{hidden}x{layers}", folder / f"reward-{hidden}x{layers}"
    if paths[1].is_dir():
        return paths
    shape = architecture(hidden, layers)
    tokenizer = train_tokenizer((review.text for review in reviews(0, 500)), shape)
    torch.manual_seed(0)
    policy, reward = new_policy(shape, tokenizer), new_reward_model(shape, tokenizer)
    teach(policy, tokenizer, taught)
    for path, model in zip(paths, (policy, reward), strict=True):
        model.save_pretrained(path)
        tokenizer.save_pretrained(path)
    return paths


def teach(policy: Any, tokenizer: Any, steps: int) -> None:
    """Trains the policy on the demo's reviews; the learning rate rises for ten steps and falls to zero."""
    import torch

    sentences = (review.text for review in reviews(2, 3000))
    ids = torch.tensor([token for row in tokenizer(list(sentences))["input_ids"] for token in row])
    optimizer = torch.optim.AdamW(policy.parameters(), betas=(0.9, 0.95))
    for step in range(steps):
        starts = torch.randint(len(ids) - TAUGHT_TOKENS, (TAUGHT_ROWS,)).tolist()
        batch = torch.stack([ids[start : start + TAUGHT_TOKENS] for start in starts])
        optimizer.param_groups[0]["lr"] = 3e-3 * min(1.0, (step + 1) / 10) * (1 - step / steps)
        optimizer.zero_grad()
        policy(input_ids=batch, labels=batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()


def write_texts(file: Path, count: int) -> Path:
    """A JSONL file of long texts for `task.train.source`."""
    texts = [review.text for review in reviews(1, count * REVIEWS_A_TEXT)]
    rows = (" ".join(texts[i * REVIEWS_A_TEXT : (i + 1) * REVIEWS_A_TEXT]) for i in range(count))
    file.write_text("".join(json.dumps({"text": row, "label": 1}) + "\n" for row in rows))
    return file


def overrides(models: tuple[Path, Path], texts: Path, prompt: int, new: int, batch: int) -> list[str]:
    """Settings of a run on these models: each step takes all `batch` prompts and samples `new` tokens to each."""
    return [
        "task=imdb",
        "algorithm=ppo",
        f"task.train.source={texts}",
        f"task.test.source={texts}",
        f"task.prompt_tokens_min={prompt}",
        f"task.prompt_tokens_max={prompt}",
        f"task.sampling.min_new_tokens={new}",
        f"task.sampling.max_new_tokens={new}",
        "task.sampling.temperature=1",
        f"model.policy.path={models[0]}",
        f"model.reward.path={models[1]}",
        f"algorithm.batch.prompts={batch}",
        f"algorithm.batch.minibatch={batch}",
        f"cluster.learner.micro_batch={min(8, batch)}",
        # Reserved only: several sets of actors share the machine, one at work at a time.
        "cluster.cpus_per_actor=0.1",
        # Measured on the first method of a set of actors, auto would suit that one only.
        "cluster.reward.engine=trie",
        # An audit every ten steps is no part of a method; and the policy should stay what it is.
        "credit.audit_every=0",
        "algorithm.optimizer.lr=1e-8",
    ]


@contextmanager
def running(config: Config) -> Iterator[Any]:
    """The started actors of `config`, in sync with the learner."""
    from scar_ray.workers import cluster

    actors = cluster.start(config, print)
    try:
        actors.learner.sync(0)
        yield actors
    finally:
        actors.stop()


def new_trainer(config: Config, actors: Any) -> Trainer:
    """A trainer on these actors with the credit method of `config`."""
    from transformers import AutoTokenizer

    from scar_ray.tasks.prompts import load_prompts
    from scar_ray.trainer.loop import Trainer

    prompts = load_prompts(config, AutoTokenizer.from_pretrained(config.model.policy.path))
    method = credit.build(**config.credit.method_options())
    return Trainer(config, prompts, method, actors.rollout, actors.reward, actors.learner)


def config_of(settings: Sequence[str], *more: str) -> Config:
    return load([*settings, *more])


def timed_step(config: Config, trainer: Trainer, actors: Any, step: int) -> dict[str, float]:
    """A step's seconds, in all and by phase, those of the reward actors, CPU seconds by role, and what was asked for.

    What was asked for is the mean over the responses.
    """
    busy, before = actors.reward.busy_seconds(), cpu_seconds()
    started = time.perf_counter()
    result = trainer.step(step)
    seconds = time.perf_counter() - started
    used = {f"cpu_{role}": now - before[role] for role, now in cpu_seconds().items()}
    work, responses = actors.reward.work, config.algorithm.batch.responses
    units = sum(len(one.rewards.credits_n) for one in result.scored) if config.credit.method == "scar" else 0
    return {
        "seconds": seconds,
        **{name: result.metrics[f"time/{name}"] for name in PHASES},
        "scoring": actors.reward.busy_seconds() - busy,
        **used,
        "units": units / responses,
        "asked": work.asked / responses,
        "unique": work.unique / responses,
        "tokens": work.tokens / responses,
        "computed": work.computed_tokens / responses,
    }


def cpu_seconds() -> dict[str, float]:
    """CPU seconds that the actors started by this process have used so far, by role."""
    parents: dict[int, int] = {}
    names: dict[int, str] = {}
    used: dict[int, float] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        number = int(stat.parent.name)
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            names[number] = (stat.parent / "cmdline").read_text()
        except OSError:  # it has ended
            continue
        parents[number] = int(fields[1])
        used[number] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def ours(process: int) -> bool:
        while process in parents and process != os.getpid():
            process = parents[process]
        return process == os.getpid()

    return {
        role: sum(
            seconds for number, seconds in used.items() if names[number].startswith(f"ray::{kind}") and ours(number)
        )
        for role, kind in ROLES.items()
    }
