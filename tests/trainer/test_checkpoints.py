"""Checkpoints of a run, with a learner that writes two small files."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from scar_ray.config.errors import UserError
from scar_ray.trainer import checkpoints

STATE = {"kl": {"coef": 0.05}, "cost_total": {"learner": 1.5}, "time_s": 12.25}


class FakeLearner:
    """Saves its number; stops in the middle of saving when told to."""

    def __init__(self) -> None:
        self.number, self.interrupt = 0, False

    def save(self, folder: Path) -> None:
        assert folder.is_dir()
        (folder / "policy").mkdir()
        (folder / "policy/weights").write_text(f"weights {self.number}")
        if self.interrupt:
            raise KeyboardInterrupt
        (folder / "policy/index").write_text("index")


@pytest.fixture
def learner() -> FakeLearner:
    return FakeLearner()


def save(folder: Path, learner: FakeLearner, *steps: int, keep: int = 3) -> None:
    for step in steps:
        learner.number = step
        checkpoints.save(folder, step, learner, STATE | {"time_s": float(step)}, keep)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def refusal(folder: Path) -> str:
    with pytest.raises(UserError) as error:
        checkpoints.latest(folder)
    return str(error.value)


def test_the_newest_checkpoint_comes_back_with_its_state(tmp_path, learner):
    folder = tmp_path / "checkpoints"
    assert checkpoints.save(folder, 5, learner, STATE, 2) == folder / "step-000005"
    save(folder, learner, 10)
    path, step, state = checkpoints.latest(folder)
    assert (path, step) == (folder / "step-000010", 10)
    assert state == STATE | {"time_s": 10.0}
    assert (path / "policy/weights").read_text() == "weights 10"
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["files"] == {"policy/index": 5, "policy/weights": 10}


def test_only_the_newest_are_kept(tmp_path, learner):
    save(tmp_path, learner, 5, 10, 15, 20, keep=2)
    assert names(tmp_path) == ["step-000015", "step-000020"]
    save(tmp_path, learner, 25, keep=1)
    assert names(tmp_path) == ["step-000025"]


def test_checkpoints_are_ordered_by_step_also_beyond_a_million(tmp_path, learner):
    save(tmp_path, learner, 999_999, 1_000_000)
    assert [path.name for path in checkpoints.complete(tmp_path)] == ["step-999999", "step-1000000"]
    assert checkpoints.latest(tmp_path)[1] == 1_000_000


def test_a_step_can_be_saved_again(tmp_path, learner):
    save(tmp_path, learner, 5)
    learner.number = 6
    checkpoints.save(tmp_path, 5, learner, STATE, 2)
    assert names(tmp_path) == ["step-000005"]
    assert (tmp_path / "step-000005/policy/weights").read_text() == "weights 6"


def test_an_interrupted_save_leaves_no_checkpoint_and_all_earlier_ones(tmp_path, learner):
    save(tmp_path, learner, 5, 10, keep=2)
    learner.interrupt = True
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, learner, 15, keep=2)
    assert checkpoints.complete(tmp_path) == [tmp_path / "step-000005", tmp_path / "step-000010"]
    assert checkpoints.latest(tmp_path)[1] == 10
    # What it left is swept up by the next save, whatever that one's step.
    learner.interrupt = False
    save(tmp_path, learner, 12, keep=2)
    assert names(tmp_path) == ["step-000010", "step-000012"]


def test_an_interrupted_removal_leaves_no_half_of_a_checkpoint(tmp_path, learner, monkeypatch):
    save(tmp_path, learner, 5)

    def interrupted(path: Path) -> None:
        (path / "manifest.json").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.shutil, "rmtree", interrupted)
        with pytest.raises(KeyboardInterrupt):
            save(tmp_path, learner, 10, keep=1)
    assert checkpoints.complete(tmp_path) == [tmp_path / "step-000010"]
    save(tmp_path, learner, 15, keep=1)
    assert names(tmp_path) == ["step-000015"]


def test_without_a_checkpoint_there_is_nothing_to_resume(tmp_path, learner):
    assert refusal(tmp_path) == f"{tmp_path}: no checkpoint to resume from; start the run anew"
    missing = tmp_path / "missing"
    assert refusal(missing) == f"{missing}: no checkpoint to resume from; start the run anew"
    learner.interrupt = True
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, learner, 5)
    assert refusal(tmp_path) == f"{tmp_path}: no checkpoint to resume from; start the run anew"


def damage_truncate(path: Path) -> None:
    (path / "policy/weights").write_text("weigh")


def damage_lose(path: Path) -> None:
    (path / "policy/index").unlink()


def damage_lose_manifest(path: Path) -> None:
    (path / "manifest.json").unlink()


def damage_manifest(path: Path) -> None:
    file = path / "manifest.json"
    file.write_text(file.read_text()[:20])


def damage_empty_manifest(path: Path) -> None:
    (path / "manifest.json").write_text("{}")


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (damage_truncate, "policy/weights has 5 bytes instead of 10"),
        (damage_lose, "policy/index is missing"),
        (damage_lose_manifest, "manifest.json is missing"),
        (damage_manifest, "manifest.json cannot be read"),
        (damage_empty_manifest, "manifest.json cannot be read"),
    ],
)
def test_a_damaged_checkpoint_is_found_and_the_last_good_one_named(tmp_path, learner, damage, problem):
    save(tmp_path, learner, 10, 15, 20)
    damage(tmp_path / "step-000020")
    damaged, good = tmp_path / "step-000020", tmp_path / "step-000015"
    assert refusal(tmp_path) == (
        f"checkpoint {damaged} is damaged ({problem}); the last good one is {good}: "
        "remove the damaged one to resume from it"
    )
    damage(good)
    assert f"the last good one is {tmp_path / 'step-000010'}:" in refusal(tmp_path)
    damage(tmp_path / "step-000010")
    assert refusal(tmp_path) == f"checkpoint {damaged} is damaged ({problem}); no other is left"


def test_following_the_advice_resumes_from_the_last_good_one(tmp_path, learner):
    save(tmp_path, learner, 10, 15)
    damage_truncate(tmp_path / "step-000015")
    (damaged,) = re.findall(r"^checkpoint (\S+) is damaged", refusal(tmp_path))
    checkpoints.shutil.rmtree(damaged)
    assert checkpoints.latest(tmp_path)[1] == 10
