"""The benchmark of reward per GPU-hour: what it runs, and what it makes of finished runs."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import reward_comparison
import reward_per_gpu_hour
from report.synthetic_run import write_run
from scipy import stats
from train_runs import exit_status, scar_ray, train_words

from scar_ray.config.errors import UserError
from scar_ray.report.groups import group_runs
from scar_ray.report.runs import read_run
from scar_ray.run_folder import locked


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """Three seeds of two methods, as the benchmark leaves them."""
    for credit in ("sparse", "scar_span"):
        for seed in range(3):
            name = f"{credit}-s{seed}"
            write_run(tmp_path / "runs" / name, credit=credit, seed=seed, gold=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
    return tmp_path


def test_jobs_are_all_methods_and_variants_of_a_seed_before_the_next_seed(tmp_path):
    words = ["methods=sparse,scar_span", "seeds=2", f"out={tmp_path}", "task=imdb", "credit.alpha=0.5,1"]
    jobs = reward_per_gpu_hour.jobs_of(reward_per_gpu_hour.read_plan(words))
    assert [job.name for job in jobs] == [
        f"{method}-credit.alpha-{alpha}-s{seed}"
        for seed in (0, 1)
        for alpha in (0.5, 1)
        for method in ("sparse", "scar_span")
    ]
    assert jobs[1].words[:4] == ("task=imdb", "credit.alpha=0.5", "credit=scar_span", "seed=0")


def test_words_can_be_varied_one_at_a_time_beside_the_first_values_of_the_others(tmp_path):
    words = ["methods=scar_span", f"out={tmp_path}", "vary=each", "credit.alpha=0.8,0,1", "credit.base=last,zero"]
    jobs = reward_per_gpu_hour.jobs_of(reward_per_gpu_hour.read_plan(words))
    assert {job.name: job.words[:2] for job in jobs} == {
        "scar_span-s0": ("credit.alpha=0.8", "credit.base=last"),
        "scar_span-credit.alpha-0-s0": ("credit.alpha=0", "credit.base=last"),
        "scar_span-credit.alpha-1-s0": ("credit.alpha=1", "credit.base=last"),
        "scar_span-credit.base-zero-s0": ("credit.alpha=0.8", "credit.base=zero"),
    }


def test_a_method_may_have_words_of_its_own(tmp_path):
    (tmp_path / "tuned.json").write_text('{"abc": ["algorithm.kl.coef=0.3"]}')
    words = ["methods=sparse,abc", f"out={tmp_path}", f"settings={tmp_path / 'tuned.json'}"]
    sparse, abc = reward_per_gpu_hour.jobs_of(reward_per_gpu_hour.read_plan(words))
    assert "algorithm.kl.coef=0.3" in abc.words
    assert "algorithm.kl.coef=0.3" not in sparse.words


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["methods=sparse"], "methods= and out= are needed"),
        (["methods=sparse", "out=x", "seeds=many"], "seeds=many: a whole number is needed"),
        (["methods=sparse", "out=x", "vary=some"], r"vary=some: all \(combinations\) or each \(word alone\)"),
        (["methods=sparse", "out=x", "credit=abc"], "credit=abc: set by this benchmark"),
        (["sparse"], "sparse: write KEY=VALUE"),
        (["methods=sparse", "out=x", "settings=none.json"], "settings=none.json: a JSON object is needed"),
    ],
)
def test_what_cannot_be_read_is_one_line(words, line):
    with pytest.raises(UserError, match=line):
        reward_per_gpu_hour.read_plan(words)


def test_finished_runs_are_not_run_again_and_give_all_files(finished, capsys):
    words = ["methods=sparse,scar_span", "seeds=3", f"out={finished}"]
    assert reward_per_gpu_hour.main(words) == 0
    assert capsys.readouterr().out.strip() == str(finished / "report.html")
    result = json.loads((finished / "comparison.json").read_text())
    sparse, span = result["methods"]
    assert [sparse["seeds"], span["seeds"]] == [[0, 1, 2], [0, 1, 2]]
    held_out = [read_run(finished / "runs" / f"scar_span-s{seed}").held_out["reward"][-1] for seed in range(3)]
    assert span["reward"]["seeds"] == pytest.approx(held_out)
    assert sparse["difference"]["mean"] == 0
    assert span["unexplained"]["seeds"] == pytest.approx([0.5 / 0.9, 0.125**0.5 / 0.9, 0.25 / 0.9])
    rows = (finished / "metrics.csv").read_text().splitlines()
    assert len(rows) == 1 + 6 * 60
    assert (finished / "curves.png").stat().st_size > 10_000
    assert not (finished / "ablation.png").exists()
    assert 'id="first"' in (finished / "report.html").read_text()


def test_differences_are_taken_seed_by_seed(finished):
    runs = [
        read_run(finished / "runs" / f"{credit}-s{seed}") for credit in ("sparse", "scar_span") for seed in range(3)
    ]
    _, span = reward_comparison.outcomes(group_runs(runs), "sparse")
    a, b = np.array([0.1, 0.4, 0.2]), np.array([0.6, 0.5, 0.9])
    for run, final in zip(runs, [*a, *b], strict=True):
        run.held_out["reward"][-1] = final
    _, span = reward_comparison.outcomes(group_runs(runs), "sparse")
    assert span.difference.seeds == pytest.approx(b - a)
    test = stats.ttest_rel(b, a)
    assert span.p == pytest.approx(test.pvalue)
    interval = test.confidence_interval(0.95)
    assert (span.difference.low, span.difference.high) == pytest.approx((interval.low, interval.high))


def test_a_varied_setting_is_compared_with_the_baseline_that_has_it(finished):
    low = {"algorithm.lam": 0.8}
    others = [
        write_run(finished / "low" / credit, credit=credit, seed=0, settings=low, gold=[0.5] * 7)
        for credit in ("sparse", "scar_span")
    ]
    write_run(finished / "low" / "alone", credit="scar_span", seed=0, settings={"credit.alpha": 0.4}, gold=[0.5] * 7)
    runs = [read_run(folder) for folder in (finished / "runs" / "sparse-s0", *others, finished / "low" / "alone")]
    for run, final in zip(runs, (1.0, 3.0, 3.5, 1.25), strict=True):
        run.held_out["reward"][-1] = final
    found = {each.method: each.difference.mean for each in reward_comparison.outcomes(group_runs(runs), "sparse")}
    assert sorted(found.values()) == pytest.approx([0.0, 0.0, 0.25, 0.5]), found


def test_the_sign_flip_test_counts_all_flips():
    assert reward_comparison.sign_flip([1.0, 2.0, 3.0]) == 2 / 8
    assert reward_comparison.sign_flip([1.0, -1.0]) == 1.0
    assert reward_comparison.sign_flip([3.0, -1.0, 0.5]) == 6 / 8


def test_area_is_the_mean_reward_over_the_common_budget(finished):
    run = read_run(finished / "runs" / "sparse-s0")
    run.columns["reward/mean"][:] = 2.0
    assert reward_comparison.area(run, "step", 17.5) == pytest.approx(2.0)
    run.columns["reward/mean"][:] = run.steps
    # 1 from 0 to 1, then the line to 11
    assert reward_comparison.area(run, "step", 11.0) == pytest.approx((1 + 60) / 11)


def test_a_target_that_is_never_reached_is_infinite(finished):
    run = read_run(finished / "runs" / "sparse-s0")
    assert reward_comparison.reached(run, 99.0, "step") == float("inf")
    run.columns["reward/mean"][:] = run.steps
    assert reward_comparison.reached(run, 30.0, "step") == 30


def test_rewards_are_compared_at_a_kl_that_all_runs_reach(finished):
    run = read_run(finished / "runs" / "sparse-s0")
    run.columns["reward/mean"][:] = 2 * run.steps
    run.columns["kl/k1"][:] = run.steps
    assert reward_comparison.at_kl(run, 30.0) == 60.0
    assert np.isnan(reward_comparison.at_kl(run, 99.0))


def test_a_baseline_that_was_not_run_is_named(finished):
    runs = [read_run(finished / "runs" / "sparse-s0")]
    with pytest.raises(ValueError, match="baseline=abc: not among sparse"):
        reward_comparison.outcomes(group_runs(runs), "abc")


def test_a_run_goes_on_from_its_checkpoint_starts_anew_without_one_and_is_not_repeated(tmp_path):
    run = tmp_path / "sparse-s0"
    anew = ["task=demo", f"runs={tmp_path}", "name=sparse-s0"]
    assert train_words(run, ["task=demo"]) == anew
    run.mkdir()
    (run / "run.json").write_text('{"status": "stopped"}')
    (run / "checkpoints/step-000002").mkdir(parents=True)
    assert train_words(run, ["task=demo"]) == ["--resume", str(run)]
    (run / "checkpoints/step-000002").rmdir()
    with locked(run), pytest.raises(UserError, match="another process trains there"):
        train_words(run, ["task=demo"])
    assert train_words(run, ["task=demo"]) == anew
    assert not run.exists()
    run.mkdir()
    (run / "run.json").write_text('{"status": "done"}')
    assert train_words(run, ["task=demo"]) is None


def test_a_run_under_way_and_a_command_that_fails_are_no_traceback(tmp_path, capfd):
    run = tmp_path / "sparse-s0"
    run.mkdir()
    (run / "run.json").write_text('{"status": "running"}')
    with locked(run):
        assert exit_status(lambda: print(train_words(run, ["task=demo"]))) == 1
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "another process trains there" in err
    assert exit_status(lambda: scar_ray("train", "task=nothing", f"runs={tmp_path}")) == 1
    err = capfd.readouterr().err
    assert err.startswith("scar-ray: error: task: must be one of ")
    assert "Traceback" not in err
    assert exit_status(lambda: None) == 0


def test_a_job_that_fails_is_named_with_the_end_of_its_log(tmp_path, monkeypatch):
    def submit(command, stdout, **_):
        stdout.write(b"scar-ray: error: the reason\n")
        return subprocess.CompletedProcess(command, 1)

    monkeypatch.setattr(reward_per_gpu_hour.subprocess, "run", submit)
    job = reward_per_gpu_hour.Job("sparse-s0", ("task=demo",))
    with pytest.raises(UserError, match=r"^sparse-s0 ended with code 1; see .*\n  scar-ray: error: the reason$"):
        reward_per_gpu_hour.run_job(job, tmp_path, "http://127.0.0.1:8265")
