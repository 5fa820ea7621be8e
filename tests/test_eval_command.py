"""`scar-ray eval` before anything heavy starts: what is measured, and every mistake in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from scar_ray import cli
from scar_ray.commands.evaluate import print_table
from scar_ray.config.load import load
from scar_ray.evaluate import Target, evaluate, target


def write_run(folder: Path, *overrides: str) -> Path:
    """A finished run's folder, its models empty."""
    for name in ("policy", "best"):
        (folder / name).mkdir(parents=True)
    config = load(["model.policy.path=start", "model.reward.path=reward", *overrides])
    (folder / "config.json").write_text(config.model_dump_json())
    (folder / "run.json").write_text("{}")
    return folder


def test_a_run_is_measured_as_it_was_trained_with_its_last_or_its_best_policy(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", "task.sampling.temperature=0.3", "eval.every=0")
    last = target(run, ["eval.prompts=7"], None, best=False)
    assert (last.name, last.policy) == ("a", str(run / "policy"))
    assert (last.config.task.sampling.temperature, last.config.eval.prompts) == (0.3, 7)
    assert last.config.model.policy.path == "start", "the KL is measured against the policy it started from"
    assert last.config.eval.every == 1, "the second reward model is loaded"
    best = target(run, [], None, best=True)
    assert (best.name, best.policy) == ("a-best", str(run / "best"))
    assert target(run / "best", [], None, best=False) == best
    assert target(run / "policy", [], None, best=False) == target(run, [], None, best=False)


def test_a_run_may_be_measured_in_another_way_than_it_was_trained(tmp_path: Path) -> None:
    changes = ["model.reward.path=other", "task.test.source=t.jsonl", "eval.gold.path=gold", "eval.seed=3"]
    config = target(write_run(tmp_path / "a"), changes, None, best=False).config
    assert (config.model.reward.path, config.task.test.source) == ("other", "t.jsonl")
    assert (config.eval.gold.path, config.eval.seed) == ("gold", 3)


def test_a_policy_of_ones_own_goes_by_the_keys_given(tmp_path: Path) -> None:
    found = target(tmp_path / "mine", ["task=imdb", "seed=4"], None, best=False)
    assert (found.name, found.policy, found.config.task.name) == ("mine", str(tmp_path / "mine"), "imdb")
    assert found.config.model.policy.path == "models/imdb/policy"


def one_error(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(["eval", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err.removeprefix("scar-ray: error: ").rstrip("\n")


def test_every_mistake_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "a")
    assert one_error(capsys, "eval.prompts=3").startswith("which policy? give a run folder, or the folder of a policy")
    assert one_error(capsys, str(run), "credit=abc").startswith(
        "credit: a run that is there already takes single keys only, such as credit.KEY=VALUE"
    )
    (tmp_path / "out").mkdir()
    (tmp_path / "out/x").write_text("")
    assert one_error(capsys, str(run), "--out", str(tmp_path / "out")) == (
        f"--out={tmp_path / 'out'}: exists already; give a new folder"
    )
    assert one_error(capsys, str(run), str(run)) == (
        "a: two policies have this name; give folders with different names"
    )
    (run / "best").rmdir()
    (run / "policy").rmdir()
    assert one_error(capsys, str(run)) == f"{run}: has no policy folder yet; continue it with --resume {run}"
    assert one_error(capsys, str(run), "--best") == f"{run}: has no best folder yet; it has had no evaluation"


def test_everything_that_is_missing_is_told_before_anything_starts(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = load(["task=imdb", "task.test.source=none.jsonl", "eval.gold.path=./gold"])
    with pytest.raises(ValueError, match="no such model folder") as caught:
        evaluate([Target("mine", "./mine", config)], tmp_path / "out", print)
    assert str(caught.value).splitlines() == [
        "./mine: no such model folder",
        "model.policy.path=models/imdb/policy: no such model folder; make it with: scar-ray sft task=imdb model=tiny",
        "model.reward.path=models/imdb/reward: no such model folder; make it with: scar-ray rm task=imdb model=tiny",
        "task.test.source=none.jsonl: no such data file; give a JSONL, CSV or parquet file; "
        "without held-out prompts set eval.every=0",
        "eval.gold.path=./gold: no such model folder",
    ]
    assert not (tmp_path / "out").exists()


def test_the_table_has_a_column_for_each_policy_and_fits_a_narrow_terminal(monkeypatch, capsys) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    base = {"reward": 0.28705, "reward_stderr": 0.66505, "kl_k1": 0.054, "eos_share": 0.5, "prompts": 128}
    print_table([{"name": "a", **base}, {"name": "b-best", **base, "gold": -1.0, "gold_stderr": None}])
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip(" ─")]
    assert lines == [
        ["a", "b-best"],
        ["reward", "0.287", "±", "0.665", "0.287", "±", "0.665"],
        ["gold", "–", "-1.000"],
        ["KL", "k1", "0.05", "0.05"],
        ["ended", "50%", "50%"],
        ["prompts", "128", "128"],
    ]
