"""What a step's timeline says, from clocks that are set by hand."""

from __future__ import annotations

import json

import pytest

from scar_ray.scoring import Workload
from scar_ray.trainer.timeline import Clock, pool_metrics, timeline_record, work_metrics
from scar_ray.workers.reward_tasks import TaskSpan

ACTORS = ["reward-0", "reward-1", "reward-2"]
CLOCK = Clock(
    phases=[
        ("rollout", 100.0, 104.0),
        ("forward", 104.0, 106.0),
        ("reward", 106.0, 107.0),
        ("update", 107.0, 109.0),
        ("sync", 109.0, 110.0),
    ],
    arrivals={"rollout-1": [103.0, 101.5], "rollout-0": [104.0]},
)
SPANS = [
    TaskSpan("reward-0", queued=101.5, started=102.0, ended=105.0, rows=(3,), computed_tokens=1200),
    TaskSpan("reward-1", queued=103.0, started=103.0, ended=104.0, rows=(0, 1), computed_tokens=1),
    TaskSpan("reward-0", queued=104.0, started=105.5, ended=106.5, rows=(2,), computed_tokens=40),
]


def test_the_metrics_of_the_pool() -> None:
    """Five busy seconds: three of them while responses came, 1.5 in the forward pass, half of one waited for."""
    assert pool_metrics(CLOCK, SPANS, ACTORS) == {
        "pool/busy_s/reward-0": 4.0,
        "pool/busy_s/reward-1": 1.0,
        "pool/busy_s/reward-2": 0.0,
        "pool/tasks": 3.0,
        "pool/queue_wait_s": pytest.approx(2.0 / 3),
        "pool/queue_wait_max_s": 1.5,
        "pool/overlap_rollout": pytest.approx(3.0 / 5),
        "pool/overlap_forward": pytest.approx(1.5 / 5),
    }


def test_a_step_without_tasks_overlaps_with_nothing() -> None:
    metrics = pool_metrics(CLOCK, [], ACTORS)
    assert metrics["pool/overlap_rollout"] == metrics["pool/queue_wait_s"] == metrics["pool/tasks"] == 0.0


def test_the_record_of_a_step() -> None:
    record = timeline_record(CLOCK, SPANS, ACTORS)
    assert record == json.loads(json.dumps(record))
    assert record["seconds"] == 10.0
    assert record["lanes"] == [
        {"name": "rollout-0", "role": "rollout", "spans": [[0.0, 4.0, "1 response"]], "marks": [4.0]},
        {"name": "rollout-1", "role": "rollout", "spans": [[0.0, 3.0, "2 responses"]], "marks": [1.5, 3.0]},
        {
            "name": "learner",
            "role": "learner",
            "spans": [[4.0, 6.0, "forward"], [7.0, 9.0, "update"], [9.0, 10.0, "sync"]],
            "marks": [],
        },
        {
            "name": "reward-0",
            "role": "reward",
            "spans": [
                [2.0, 5.0, "row 3, 1,200 tokens, waited 0.50 s"],
                [5.5, 6.5, "row 2, 40 tokens, waited 1.50 s"],
            ],
            "marks": [],
        },
        {
            "name": "reward-1",
            "role": "reward",
            "spans": [[3.0, 4.0, "2 rows from 0, 1 token, waited 0.00 s"]],
            "marks": [],
        },
        {"name": "reward-2", "role": "reward", "spans": [], "marks": []},
    ]


def test_the_work_of_a_step_in_numbers() -> None:
    work = Workload(asked=9, repeated=1, unique=7, asked_tokens=90, tokens=70, computed_tokens=40, padding_tokens=3)
    assert work_metrics(work) == {
        "credit/evaluations": 9.0,
        "credit/evaluations_repeated": 1.0,
        "credit/evaluations_unique": 7.0,
        "credit/naive_tokens": 90.0,
        "credit/tokens": 70.0,
        "credit/computed_tokens": 40.0,
        "credit/padding_tokens": 3.0,
        "credit/dropped_chars": 0.0,
    }


def test_a_clock_keeps_when_phases_began_and_responses_came() -> None:
    clock = Clock()
    with clock.phase("rollout"):
        clock.arrived("rollout-0")
    with clock.phase("forward"):
        pass
    (first, start, end), (second, after, _) = clock.phases
    assert (first, second) == ("rollout", "forward")
    assert start <= clock.arrivals["rollout-0"][0] <= end <= after
    assert clock.seconds.keys() == {"rollout", "forward"}
    assert clock.seconds["rollout"] == end - start
