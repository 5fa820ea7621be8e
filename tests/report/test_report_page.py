import json
import re
from pathlib import Path

import pytest
from synthetic_run import write_run

from scar_ray.report import write_report
from scar_ray.report.responses import pairs
from scar_ray.report.runs import Sample


def report(*folders: Path) -> str:
    return write_report(list(folders)).read_text(encoding="utf-8")


def sample(step: int, prompt: str) -> Sample:
    return Sample(step, prompt, "", 0.0, 0.0, True, 0.0, 0.0, ())


def test_the_report_is_written_into_the_first_run_or_where_asked(tmp_path):
    folder = write_run(tmp_path / "a", steps=3)
    assert write_report([folder]) == folder.resolve() / "report.html"
    assert write_report([folder], tmp_path / "new" / "x.html") == tmp_path / "new" / "x.html"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["x.html"]


def test_no_run_at_all_is_one_clear_line():
    with pytest.raises(ValueError, match="no run folder given"):
        write_report([])


def test_the_page_names_nothing_outside_itself(tmp_path):
    page = report(write_run(tmp_path / "a", steps=3))
    assert re.findall(r"""(?:src|href)=["'][^"']*""", page) == ['href="data:,']
    assert "://" not in page
    assert "@import" not in page
    assert "default-src 'none'" in page


def test_the_table_has_the_mean_of_the_last_tenth_of_the_steps(tmp_path):
    folder = write_run(tmp_path / "a", steps=20)
    lines = [{"step": step, "reward/mean": float(step), "kl/k1": 2.0 * step} for step in range(1, 21)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (row,) = re.findall(r'<tr class="one">(.*?)</tr>', report(folder))
    cells = [re.sub("<.*?>", "", cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", row)]
    assert cells == ["scar_span", "0", "19.5", "39.0", "1.50", "20", "–", "–", "done"]


def test_several_seeds_get_a_row_with_mean_and_deviation(tmp_path):
    folders = []
    for seed, reward in ((0, 1.0), (1, 2.0), (2, 3.0)):
        folder = write_run(tmp_path / str(seed), seed=seed, steps=1)
        (folder / "metrics.jsonl").write_text(json.dumps({"step": 1, "reward/mean": reward}) + "\n")
        folders.append(folder)
    page = report(*folders)
    assert re.findall(r'<tr class="all">.*?</th><td>(.*?)</td><td>(.*?)</td>', page) == [("3 seeds", "2.0 ± 1.0")]
    assert page.count('<tr class="one">') == 3


def test_a_run_given_twice_counts_once(tmp_path):
    folder = write_run(tmp_path / "a", steps=3)
    assert report(folder, folder).count('<tr class="one">') == 1


def test_text_from_a_run_is_never_markup(tmp_path):
    folder = write_run(tmp_path / "a", credit="<i>x</i>", steps=2)
    bad = '</script><script>alert("1")</script>'
    line = json.loads((folder / "samples.jsonl").read_text().splitlines()[0])
    line |= {"prompt": bad, "response": bad, "units": [{"text": bad, "credit": 1.0}]}
    (folder / "samples.jsonl").write_text(json.dumps(line) + "\n")
    page = report(folder)
    assert page.count("<script") == page.count("</script>") == 2
    assert "<i>x" not in page
    assert page.count("&lt;/script&gt;&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;") == 2


def test_text_that_utf8_cannot_hold_is_replaced(tmp_path):
    folder = write_run(tmp_path / "a", steps=1)
    line = json.loads((folder / "samples.jsonl").read_text().splitlines()[0])
    line["units"] = [{"text": "half \ud83d nul \x00 end", "credit": 0.5}]
    (folder / "samples.jsonl").write_text(json.dumps(line) + "\n")
    assert "half ? nul \ufffd end" in report(folder)


def test_a_run_without_steps_or_samples_still_has_a_page(tmp_path):
    folder = write_run(tmp_path / "a", steps=0, planned=10)
    page = report(folder)
    assert "No steps yet." in page
    assert "The run is still going" in page
    assert 'id="responses"' not in page


def test_long_runs_are_thinned_in_the_drawing(tmp_path):
    folder = write_run(tmp_path / "a", steps=1)
    lines = [{"step": step, "reward/mean": float(step % 7), "kl/k1": 1.0} for step in range(1, 4001)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = report(folder)
    (seed,) = re.findall(r'id="reward-step".*?<path class="seed" data-group="0" d="([^"]*)"', page)
    assert 1000 < seed.count("L") < 1510


def test_before_and_after_are_paired_by_their_prompt():
    found = pairs([sample(1, "a"), sample(1, "b"), sample(5, "z"), sample(9, "b"), sample(9, "c"), sample(9, "d")])
    told = [(before and before.prompt, after and after.prompt) for before, after in found]
    assert told == [("a", "c"), ("b", "b"), (None, "d")]
    assert all(before is None or before.step == 1 for before, _ in found)


def test_a_single_sampled_step_has_no_partner():
    assert pairs([sample(1, "a")]) == [(sample(1, "a"), None)]


def test_tokens_that_completions_took_are_a_key_figure(tmp_path):
    assert "Completions" not in report(write_run(tmp_path / "masked", steps=3))
    folder = write_run(tmp_path / "completed", steps=3)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    rows = [row | {"credit/generated_tokens": 1000.0 * row["step"]} for row in rows]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "<dt>Completions</dt><dd>6,000<small>" in report(folder)
