"""Device-seconds by role, on a clock that the test turns."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from scar_ray.trainer import accounting
from scar_ray.trainer.accounting import Accounting


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """The time and the busy seconds of the roles; the test changes them."""
    state = {"clock": 1000.0, "rollout": 3.0, "learner": 0.0, "reward": 7.0}
    monkeypatch.setattr(accounting, "time", SimpleNamespace(perf_counter=lambda: state["clock"]))
    return state


def account(now: dict[str, float], **options: float) -> Accounting:
    """Four devices: a rollout engine uses two of them, learner and reward model one each."""
    busy = {role: (lambda role=role: now[role]) for role in ("rollout", "learner", "reward")}
    weight = {"rollout": 2.0, "learner": 1.0, "reward": 1.0}
    return Accounting(busy, weight, **{"held": 4.0} | options)


def turn(now: dict[str, float], **seconds: float) -> None:
    for name, value in seconds.items():
        now[name] += value


def test_every_device_second_is_charged_to_a_role_or_to_idleness(now: dict[str, float]) -> None:
    """What came before the start is not charged."""
    accounts = account(now)
    turn(now, clock=10.0, rollout=4.0, learner=5.0, reward=1.5)
    assert accounts.charge() == {
        "cost/rollout": 8.0,
        "cost/learner": 5.0,
        "cost/reward": 1.5,
        "cost/idle": 40.0 - 14.5,
        "cost/total": 40.0,
    }


def test_each_charge_is_for_the_time_since_the_last_one(now: dict[str, float]) -> None:
    accounts = account(now)
    turn(now, clock=10.0, rollout=4.0)
    accounts.charge()
    turn(now, clock=1.0, learner=0.5)
    assert accounts.charge() == {
        "cost/rollout": 0.0,
        "cost/learner": 0.5,
        "cost/reward": 0.0,
        "cost/idle": 3.5,
        "cost/total": 44.0,
    }
    assert accounts.total == 44.0


def test_roles_that_share_a_device_are_never_less_than_idle(now: dict[str, float]) -> None:
    """Two roles busy on one device at once: the run pays for the device once."""
    accounts = account(now, held=1.0)
    turn(now, clock=10.0, learner=8.0, reward=6.0)
    costs = accounts.charge()
    assert (costs["cost/learner"], costs["cost/reward"], costs["cost/idle"], costs["cost/total"]) == (8, 6, 0, 10)


def test_a_resumed_run_goes_on_from_what_was_charged_before(now: dict[str, float]) -> None:
    accounts = account(now, total=100.0)
    assert accounts.total == 100.0
    turn(now, clock=2.5)
    assert accounts.charge()["cost/total"] == 110.0
