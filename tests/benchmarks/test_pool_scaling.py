"""The stand-in for a reward model with which the pool is measured."""

from __future__ import annotations

import numpy as np
import pytest
from pool_scaling import Delay, responses

from scar_ray.scoring import Workload
from scar_ray.workers.reward_tasks import TaskSizes, cut, joined


def test_a_delay_answers_what_the_pool_asks_and_counts_what_it_would_compute() -> None:
    for response, plan in responses(2, 1000):
        parts = cut(response, plan, TaskSizes(4000))
        evaluations, work, seconds = Delay("reward-0", 1e-9).evaluate([part.job for part in parts])
        whole = joined(plan, parts, evaluations)
        assert len(parts) > 1
        assert whole.score == 0.0
        assert np.array_equal(whole.values_C, plan.game.coalitions_Cn.mean(1))
        total = Workload()
        total.add(work)
        assert total.computed_tokens == pytest.approx(sum(part.tokens for part in parts), rel=0.01)
        assert seconds == total.computed_tokens * 1e-9
