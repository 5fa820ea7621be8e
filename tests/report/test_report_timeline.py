"""The timeline of a step in the report."""

import json
import re
from itertools import pairwise

import pytest
from synthetic_run import write_run

from scar_ray.report import write_report
from scar_ray.report.runs import Span, read_run
from scar_ray.report.timeline import MAX_LANES, MAX_SPANS, _drawn

STEP = {
    "step": 7,
    "seconds": 4.0,
    "lanes": [
        {"name": "rollout-0", "role": "rollout", "spans": [[0.0, 2.0, "2 responses"]], "marks": [1.0, 2.0]},
        {"name": "learner", "role": "learner", "spans": [[2.0, 3.0, "forward"], [3.0, 4.0, "update"]], "marks": []},
        {"name": "reward-0", "role": "reward", "spans": [[1.0, 3.0, "row 1, 90 tokens, waited 0.00 s"]], "marks": []},
        {"name": "reward-1", "role": "reward", "spans": [], "marks": []},
    ],
}


@pytest.fixture
def page_of(tmp_path):
    """The report of a run whose timeline has the given lines."""

    def make(*records):
        run = write_run(tmp_path / "run", steps=10)
        (run / "timeline.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        return write_report([run]).read_text()

    return make


def test_every_lane_has_its_name_and_how_long_it_was_busy(page_of):
    page = page_of(STEP)
    assert re.findall(r'class="track"[^>]*aria-label="([^"]*)"', page) == [
        "rollout-0: busy 2.00 s of 4.00 s",
        "learner: busy 2.00 s of 4.00 s",
        "reward-0: busy 2.00 s of 4.00 s",
        "reward-1: busy 0 s of 4.00 s",
    ]
    assert "Step 7, 4.00 s" in page


def test_bars_lie_where_the_work_was_done(page_of):
    page = page_of(STEP)
    bars = re.findall(r'<span class="part (\w+)" title="([^"]*)" style="left:([\d.]+)%;width:([\d.]+)%"', page)
    assert [(kind, float(left), float(width)) for kind, _, left, width in bars] == [
        ("rollout", 0.0, 50.0),
        ("forward", 50.0, 25.0),
        ("update", 75.0, 25.0),
        ("reward", 25.0, 50.0),
    ]
    assert bars[3][1] == "row 1, 90 tokens, waited 0.00 s: 1.00–3.00 s, 2.00 s"
    assert re.findall(r'class="mark" style="left:([\d.]+)%"', page) == ["25.00", "50.00"]


def test_the_summary_says_how_much_of_the_work_was_hidden_behind_the_generation(page_of):
    """Reward actors: 2 of 2 x 4 seconds, one of them before the last response."""
    assert "The 2 reward actors were busy 25 % of the step; 50 % of that while responses were generated." in page_of(
        STEP
    )


def test_the_last_and_the_first_logged_step_are_drawn(page_of):
    page = page_of(*({**STEP, "step": step} for step in (1, 5, 10)))
    assert re.findall(r"<h3>Step (\d+), ", page) == ["10", "1"]


def test_a_run_without_a_timeline_has_no_such_section(page_of, tmp_path):
    page = page_of()
    assert "Who did what when" not in page


def test_of_many_actors_the_first_are_drawn_and_the_page_says_so(page_of):
    reward = STEP["lanes"][2]
    lanes = [*STEP["lanes"][:2], *({**reward, "name": f"reward-{i}"} for i in range(100))]
    page = page_of({**STEP, "lanes": lanes})
    assert page.count('class="track"') == MAX_LANES
    assert "22 more reward actors are not drawn." in page


def test_of_many_tasks_the_nearest_are_joined_and_no_time_is_lost():
    spans = [Span(float(i), i + (0.99 if i % 2 else 0.5), "row 0") for i in range(4 * MAX_SPANS)]
    drawn = _drawn(spans)
    assert len(drawn) == MAX_SPANS
    assert drawn[0].start == 0.0
    assert drawn[-1].end == spans[-1].end
    assert all(before.end <= after.start for before, after in pairwise(drawn))
    joined = [int(span.what.split()[0]) if "tasks" in span.what else 1 for span in drawn]
    assert sum(joined) == len(spans)


def test_what_a_timeline_says_cannot_run(page_of):
    reward = {**STEP["lanes"][2], "name": "<b>x", "spans": [[0, 1, "<script>alert(1)</script>"]]}
    page = page_of({**STEP, "lanes": [reward]})
    assert "<script>alert" not in page
    assert "<b>x" not in page


def test_a_timeline_that_is_broken_is_one_line(tmp_path):
    run = write_run(tmp_path / "run", steps=10)
    (run / "timeline.jsonl").write_text(json.dumps({"step": 1, "lanes": [{"name": "x"}]}) + "\n")
    with pytest.raises(ValueError, match=r"timeline\.jsonl: step 1 is no timeline \(KeyError: 'role'\)$"):
        read_run(run)


def test_the_timeline_in_a_browser(browser, tmp_path):
    """Lanes stand below each other, bars tell what they are, and nothing sticks out on a phone."""
    path = write_report([write_run(tmp_path / "run")])
    page = browser.new_context(viewport={"width": 390, "height": 800}).new_page()
    page.goto(path.as_uri())
    tracks = page.locator("#timeline figure").first.locator(".track")
    assert tracks.count() == 7
    boxes = [tracks.nth(i).bounding_box() for i in range(7)]
    assert all(above["y"] + above["height"] < below["y"] for above, below in pairwise(boxes))
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    tracks.nth(3).locator(".part").first.hover()
    assert page.locator("#tip").inner_text().startswith("row 0, ")
    page.context.close()
