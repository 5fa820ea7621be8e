"""The best policy of a run: kept whole, found again on resume."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scar_ray.trainer import checkpoints
from scar_ray.trainer.best import Best, BestPolicy


class FakeLearner:
    """Exports its step; stops in the middle when told to."""

    step, interrupt = 0, False

    def export(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "weights").write_text(f"weights {self.step}")
        if self.interrupt:
            raise KeyboardInterrupt

    def save(self, folder: Path) -> None:
        self.export(folder / "policy")


@pytest.fixture
def learner() -> FakeLearner:
    return FakeLearner()


def keeper(run: Path, learner: FakeLearner) -> BestPolicy:
    return BestPolicy(run, learner, "eval/reward", "# card")  # type: ignore[arg-type]


def offer(best: BestPolicy, learner: FakeLearner, step: int, value: float) -> bool:
    learner.step = step
    return best.offer(step, value)


def test_the_best_one_stays_when_later_ones_are_worse_or_equal(tmp_path: Path, learner: FakeLearner) -> None:
    best = keeper(tmp_path, learner)
    offers = [(10, -1.0), (20, 0.5), (30, 0.4), (40, 0.5)]
    assert [offer(best, learner, *each) for each in offers] == [True, True, False, False]
    assert (tmp_path / "best/weights").read_text() == "weights 20"
    assert json.loads((tmp_path / "best/best.json").read_text()) == {"step": 20, "value": 0.5, "metric": "eval/reward"}
    assert (tmp_path / "best/README.md").read_text() == "# card"
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_an_interrupted_export_leaves_the_one_before(tmp_path: Path, learner: FakeLearner) -> None:
    best = keeper(tmp_path, learner)
    offer(best, learner, 10, 1.0)
    learner.interrupt = True
    with pytest.raises(KeyboardInterrupt):
        offer(best, learner, 20, 2.0)
    assert (tmp_path / "best/weights").read_text() == "weights 10"
    learner.interrupt = False
    assert offer(best, learner, 30, 3.0)
    assert (tmp_path / "best/weights").read_text() == "weights 30"
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_a_resumed_run_goes_on_from_what_its_checkpoint_knew(tmp_path: Path, learner: FakeLearner) -> None:
    offer(keeper(tmp_path, learner), learner, 10, 1.0)
    resumed = keeper(tmp_path, learner)
    assert resumed.load_state({"step": 10, "value": 1.0})
    assert resumed.found == Best(10, 1.0)
    assert not offer(resumed, learner, 20, 0.9)


@pytest.mark.parametrize("state", [None, {"step": 10, "value": 1.0}])
def test_a_best_policy_of_steps_that_are_done_again_is_dropped(
    tmp_path: Path, learner: FakeLearner, state: dict[str, float] | None
) -> None:
    offer(keeper(tmp_path, learner), learner, 30, 5.0)
    resumed = keeper(tmp_path, learner)
    assert not resumed.load_state(state)
    assert not (tmp_path / "best").exists()
    assert offer(resumed, learner, 20, 0.1)


def test_the_checkpoint_of_the_best_step_is_spared_by_the_rotation(tmp_path: Path, learner: FakeLearner) -> None:
    for step, best in ((5, None), (10, 10), (15, 10), (20, 10), (25, 10)):
        checkpoints.save(tmp_path, step, learner, {}, 2, best)  # type: ignore[arg-type]
    assert [path.name for path in checkpoints.complete(tmp_path)] == ["step-000010", "step-000020", "step-000025"]
    checkpoints.save(tmp_path, 30, learner, {}, 2, 30)  # type: ignore[arg-type]
    assert [path.name for path in checkpoints.complete(tmp_path)] == ["step-000025", "step-000030"]
    assert checkpoints.latest(tmp_path)[1] == 30
