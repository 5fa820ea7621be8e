"""Evaluations on held-out prompts in the report, and where reward and second reward model part."""

import json
import re

import pytest
from synthetic_run import write_run

from scar_ray.report import write_report
from scar_ray.report.groups import group_runs
from scar_ray.report.held_out import evaluations, held_out_curves
from scar_ray.report.runs import read_run

RISES = [1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0]
TURNS = [1.0, 2.0, 3.0, 3.2, 2.9, 2.0, 1.0]


def found(tmp_path, *golds):
    runs = [read_run(write_run(tmp_path / str(seed), seed=seed, gold=gold)) for seed, gold in enumerate(golds)]
    return evaluations(group_runs(runs))


def test_evaluations_are_read_apart_from_the_steps_of_training(tmp_path):
    run = read_run(write_run(tmp_path / "a", gold=RISES))
    assert run.held_out["step"].tolist() == [0, 10, 20, 30, 40, 50, 60]
    assert run.held_out["gold"].tolist() == RISES
    assert run.steps.tolist() == list(range(1, 61))
    assert read_run(write_run(tmp_path / "b")).held_out["step"].tolist() == []


def test_gains_are_in_standard_deviations_of_the_first_evaluation(tmp_path):
    [each] = found(tmp_path, RISES)
    assert each.mean_gain("gold") == pytest.approx([0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5])
    assert each.mean_gain("reward") == pytest.approx([0.0, 0.6, 1.2, 1.8, 2.4, 3.0, 3.6])
    assert each.gain_error("gold") == pytest.approx([0.1] * 7)


def test_they_part_after_the_best_gold_score_if_it_falls_by_more_than_its_error(tmp_path):
    [each] = found(tmp_path / "one", TURNS)
    assert each.parting() == 3
    assert found(tmp_path / "two", RISES)[0].parting() is None
    # From 3.2 to 2.8 is 0.2 standard deviations, within twice the error of 0.14.
    assert found(tmp_path / "three", [1.0, 2.0, 3.0, 3.2, 2.9, 2.8, 2.8])[0].parting() is None
    assert found(tmp_path / "four", [1.0, 2.0, 3.0, 3.2, 2.9, 2.8, 2.5])[0].parting() == 3


def test_seeds_are_averaged_and_their_errors_shrink(tmp_path):
    [each] = found(tmp_path, TURNS, [value + 0.5 for value in TURNS])
    assert len(each.runs) == 2
    assert each.mean("gold") == pytest.approx([value + 0.25 for value in TURNS])
    assert each.gain_error("gold") == pytest.approx([0.1 / 2**0.5] * 7)


def test_only_evaluations_that_all_seeds_have_are_averaged(tmp_path):
    [each] = found(tmp_path, TURNS, TURNS[:4])
    assert each.steps.tolist() == [0, 10, 20, 30]


def test_a_ring_marks_the_parting_and_the_words_say_where(tmp_path):
    page = write_report([write_run(tmp_path / "a", gold=TURNS)]).read_text(encoding="utf-8")
    figures = {
        key: re.search(rf'<figure class="chart" id="{key}">.*?</figure>', page).group()
        for key in ("gold-step", "gold-kl")
    }
    for figure in figures.values():
        assert figure.count('class="mark"') == 1
        assert "they part after step 30, at a KL of 3.34 nats" in figure
        assert figure.count('<path class="mean gold"') == 1
    style = re.search(r'class="mark".*?style="left:([\d.]+)%;bottom:([\d.]+)%"', figures["gold-step"])
    assert float(style.group(1)) == pytest.approx(50.0)
    assert "Held-out prompts" in page


def test_without_a_second_model_there_is_the_reward_alone(tmp_path):
    folder = write_run(tmp_path / "a", gold=RISES)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    lines = [{key: value for key, value in line.items() if "gold" not in key} for line in lines]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    each = evaluations(group_runs([read_run(folder)]))
    assert [plot.key for plot in held_out_curves(each)] == ["held-out-reward"]
    page = write_report([folder]).read_text(encoding="utf-8")
    (row,) = re.findall(r'<tr class="one">(.*?)</tr>', page.partition("Table of the evaluations")[2])
    cells = [re.sub("<.*?>", "", cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", row)]
    assert cells[2:] == [*("−0.400 ± 0.050", "1.400 ± 0.050", "1.400 ± 0.050 after step 60", "8.22", "0.500", "75 %")]


def test_a_report_without_evaluations_has_no_such_section(tmp_path):
    assert "Held-out prompts" not in write_report([write_run(tmp_path / "a", steps=3)]).read_text(encoding="utf-8")
