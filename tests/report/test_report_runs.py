import json
import math

import numpy as np
import pytest
from synthetic_run import write_run

from scar_ray.report.runs import read_run


def test_a_run_folder_is_read_with_its_metrics_and_samples(tmp_path):
    run = read_run(write_run(tmp_path / "a", credit="scar_span", seed=3, steps=5, planned=20))
    assert (run.name, run.task, run.credit, run.seed, run.status) == ("a", "demo", "scar_span", 3, "running")
    assert (run.device, run.planned) == ("CPU", 20)
    assert run.steps.tolist() == [1, 2, 3, 4, 5]
    assert math.isnan(run.series("ppo/explained_variance")[0])
    assert np.isnan(run.series("never/logged")).tolist() == [True] * 5
    assert run.samples[0].units[0] == (" slow", -0.62)
    assert run.settings["algorithm.kl.coef"] == "0.05"


def test_a_last_line_that_is_not_complete_is_left_out(tmp_path):
    folder = write_run(tmp_path / "a", steps=3)
    for name in ("metrics.jsonl", "samples.jsonl"):
        with (folder / name).open("ab") as file:
            file.write('{"step": 4, "prompt": "é'.encode()[:-1])
    run = read_run(folder)
    assert run.steps.tolist() == [1, 2, 3]
    assert len(run.samples) == 8


def test_of_a_step_that_was_logged_twice_the_later_line_counts(tmp_path):
    folder = write_run(tmp_path / "a", steps=1)
    lines = [{"step": 1, "x": 1.0}, {"step": 2, "x": 2.0}, {"step": 1, "x": 10.0}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = read_run(folder)
    assert (run.steps.tolist(), run.series("x").tolist()) == ([1, 2], [10, 2])


def test_a_run_that_has_only_just_started_has_no_steps(tmp_path):
    folder = write_run(tmp_path / "a", steps=0, planned=10)
    for name in ("metrics.jsonl", "config.json"):
        (folder / name).unlink()
    run = read_run(folder)
    assert (len(run.steps), run.samples, run.planned) == (0, (), None)


def test_a_folder_that_is_no_run_is_one_clear_line(tmp_path):
    with pytest.raises(ValueError, match=r"is no run folder \(it has no run.json\); give a folder") as caught:
        read_run(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_broken_line_in_the_middle_is_named(tmp_path):
    folder = write_run(tmp_path / "a", steps=2)
    (folder / "metrics.jsonl").write_text('{"step": 1}\n{"step": \n{"step": 3}\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl line 2 is not a JSON record with a step: "):
        read_run(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "is not a JSON object"), ("[1]", "is not a JSON object"), ('{"task": "demo"}', "lacks credit, seed")],
)
def test_a_broken_run_json_is_one_clear_line(tmp_path, text, message):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        read_run(tmp_path)
    assert "\n" not in str(caught.value)
