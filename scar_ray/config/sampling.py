"""How responses are sampled."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from scar_ray.config.section import Count, Positive, Section, Whole


class Sampling(Section):
    """How responses are sampled."""

    min_new_tokens: Whole = 0
    """The EOS is impossible before this many tokens, for engine and learner log-probabilities alike."""
    max_new_tokens: Count = 24
    temperature: Positive = 1.0
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0

    @model_validator(mode="after")
    def _ordered(self) -> Sampling:
        if self.min_new_tokens > self.max_new_tokens:
            raise ValueError(
                f"min_new_tokens={self.min_new_tokens} is above max_new_tokens={self.max_new_tokens}; lower it"
            )
        return self
