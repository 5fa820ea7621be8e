"""The demo's small policy and reward model, trained at the first run and kept in the user's cache."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

from scar_ray.config.errors import UserError
from scar_ray.config.schema import ArchitectureConfig, SupervisedConfig
from scar_ray.tasks.data import DEMO_REVIEWS
from scar_ray.tasks.grammar import reviews
from scar_ray.tasks.scratch import new_policy, new_reward_model, train_tokenizer
from scar_ray.tasks.sentiment import Reading, read
from scar_ray.workers.supervised.engine import Training, process_group
from scar_ray.workers.supervised.folder import RunLog, save_model, whole_or_nothing
from scar_ray.workers.supervised.lm import perplexity, train_policy
from scar_ray.workers.supervised.reward import Example, train_reward_model
from scar_ray.workers.supervised.scores import rewards

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


_ARCHITECTURE = ArchitectureConfig(
    vocab_size=800, hidden_size=96, layers=2, heads=3, intermediate_size=256, max_positions=128
)
_SFT = SupervisedConfig(epochs=3, batch=16, lr=2e-3, max_tokens=64)
_RM = SupervisedConfig(epochs=4, batch=16, lr=7e-4, max_tokens=64, crop=True)


@dataclass(frozen=True, slots=True)
class DemoModels:
    """Folders of the demo's models; they share one tokenizer."""

    policy: Path
    reward: Path


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides what the demo's models become; the defaults are the demo's."""

    architecture: ArchitectureConfig = _ARCHITECTURE
    sft: SupervisedConfig = _SFT
    rm: SupervisedConfig = _RM
    texts: int = DEMO_REVIEWS["train"][1]
    seed: int = 0

    def key(self) -> str:
        """Hash of the recipe and of a sample of the grammar: a change of either trains the models anew."""
        settings = [
            self.architecture.model_dump(),
            self.sft.model_dump(),
            self.rm.model_dump(),
            self.texts,
            self.seed,
        ]
        sample = [(review.text, review.sentiment) for review in reviews(self.seed, 100)]
        return hashlib.sha256(json.dumps([settings, sample]).encode()).hexdigest()[:12]


def ensure_demo_models(cache: Path | None = None, recipe: Recipe | None = None) -> DemoModels:
    """The demo's models, trained first where the cache has none (a minute or two on two cores).

    `cache` is a folder; default `$XDG_CACHE_HOME/scar_ray`, or `~/.cache/scar_ray` without the variable. A
    stopped first run leaves nothing behind, and of two first runs at the same time one waits for the other.
    UserError when the cache cannot be written.
    """
    recipe = recipe or Recipe()
    cache = cache or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "scar_ray"
    out = cache / f"demo-{recipe.key()}"
    models = DemoModels(out / "policy", out / "reward")
    if out.exists():
        return models
    try:
        cache.mkdir(parents=True, exist_ok=True)
        lock = (cache / f"{out.name}.lock").open("w")
    except OSError as error:
        raise UserError(
            f"cache folder {cache} cannot be written ({error.strerror}); point XDG_CACHE_HOME to one that can"
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not out.exists():
            with whole_or_nothing(out) as folder, process_group("cpu", recipe.seed, threads=1):
                _train(recipe, folder)
    return models


def _train(recipe: Recipe, folder: Path) -> None:
    corpus = reviews(DEMO_REVIEWS["train"][0], recipe.texts)
    held_out = reviews(*DEMO_REVIEWS["test"])
    texts = [review.text for review in corpus]
    tokenizer = train_tokenizer(texts, recipe.architecture)
    _train_policy(recipe, folder / "policy", tokenizer, texts, [review.text for review in held_out])
    _train_reward_model(recipe, folder / "reward", tokenizer, corpus, held_out)


def _train_policy(
    recipe: Recipe, folder: Path, tokenizer: PreTrainedTokenizerBase, texts: list[str], held_out: list[str]
) -> None:
    folder.mkdir()
    log = RunLog(folder, "demo policy")
    model = new_policy(recipe.architecture, tokenizer)
    train_policy(model, tokenizer, texts, Training(recipe.sft, recipe.seed, log))
    summary = {
        "perplexity": perplexity(model, tokenizer, held_out, recipe.sft.max_tokens),
        "seconds": log.seconds,
    }
    log.line(f"perplexity {summary['perplexity']:.2f} after {log.seconds:.0f} s")
    log.close()
    save_model(folder, model, tokenizer, summary)


def _train_reward_model(
    recipe: Recipe,
    folder: Path,
    tokenizer: PreTrainedTokenizerBase,
    corpus: list[Reading],
    held_out: list[Reading],
) -> None:
    folder.mkdir()
    log = RunLog(folder, "demo reward model")
    model = new_reward_model(recipe.architecture, tokenizer)
    rng = np.random.default_rng(recipe.seed)
    epochs = [_examples(tokenizer, corpus, rng) for _ in range(recipe.rm.epochs)]
    train_reward_model(model, epochs, F.smooth_l1_loss, Training(recipe.rm, recipe.seed, log))
    summary = correlations(model, tokenizer, held_out, rng) | {"seconds": log.seconds}
    log.line(
        f"correlation with the true sentiment {summary['correlation']:.3f} (whole reviews), "
        f"{summary['correlation_parts']:.3f} (parts) after {log.seconds:.0f} s"
    )
    log.close()
    save_model(folder, model, tokenizer, summary)


def correlations(
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    held_out: list[Reading],
    rng: np.random.Generator,
) -> dict[str, float]:
    """Pearson correlation of rewards with true sentiments: of whole reviews and of parts of reviews."""
    examples = _examples(tokenizer, held_out, rng)
    scores = rewards(model, [example.ids for example in examples])
    truths = np.array([example.target for example in examples])
    return {
        "correlation": float(np.corrcoef(scores[0::2], truths[0::2])[0, 1]),
        "correlation_parts": float(np.corrcoef(scores[1::2], truths[1::2])[0, 1]),
    }


def _examples(tokenizer: PreTrainedTokenizerBase, corpus: list[Reading], rng: np.random.Generator) -> list[Example]:
    """Each review whole, then a part of it; the target is the true sentiment of what is left."""
    texts = [text for review in corpus for text in (review.text, part_of(review, rng))]
    ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
    end = tokenizer.eos_token_id
    return [Example((*i, end), read(text).sentiment) for i, text in zip(ids, texts, strict=True)]


def part_of(review: Reading, rng: np.random.Generator) -> str:
    """The review without some of its words: a beginning, or a random choice of runs, as coalitions are."""
    n = len(review.words)
    if rng.random() < 0.3:
        return review.text[: review.spans[int(rng.integers(n))][1]]
    # Words of a run stay or go together.
    runs = np.cumsum(rng.random(n) < rng.uniform(0.15, 1.0))
    kept = (rng.random(n + 1) < rng.uniform(0.0, 1.0))[runs]
    starts = [0, *(end for _, end in review.spans[:-1])]
    return "".join(
        review.text[start:end] for start, (_, end), keep in zip(starts, review.spans, kept, strict=True) if keep
    )
