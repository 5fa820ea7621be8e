"""The eval section: what is measured on held-out prompts, how often, and what a second reward model says."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from scar_ray.config.models import RewardModelConfig
from scar_ray.config.sampling import Sampling
from scar_ray.config.section import Count, Positive, Section, Whole


class EvalConfig(Section):
    """Evaluation on held-out prompts, those of `task.test`: before, during and after training."""

    every: Whole = 50
    """Steps between evaluations; there is one before the first step and one after the last, too. 0: none at all."""
    prompts: Count = 128
    """Most held-out prompts, drawn from all of them."""
    samples: Count = 1
    """Responses to each prompt."""
    seed: Whole = 0
    """Decides prompts and responses; apart from the run's own seed, so that runs are measured on the same prompts."""
    temperature: Positive | None = None
    """None: that of task.sampling, here and below."""
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    max_new_tokens: Count | None = None
    select: Literal["reward", "gold"] = "reward"
    """What the best policy is best by."""
    gold: RewardModelConfig | None = None
    """A second, independent reward model for the same responses, with its own tokenizer and template; it never
    trains anything. It lives in the reward actors."""

    def sampling(self, training: Sampling) -> Sampling:
        """How held-out responses are sampled: as in `training`, but for what this section sets."""
        own = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_new_tokens": self.max_new_tokens,
        }
        return training.model_copy(update={key: value for key, value in own.items() if value is not None})
