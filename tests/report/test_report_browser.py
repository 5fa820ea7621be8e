"""The report in a real headless Chromium."""

import json
import re
from itertools import pairwise

import pytest
from synthetic_run import write_run

from scar_ray.report import write_report


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    runs = [
        write_run(folder / f"{credit}-{seed}", credit=credit, seed=seed, steps=60)
        for credit in ("sparse", "scar_span")
        for seed in (0, 1, 2)
    ]
    hostile = json.loads((runs[0] / "samples.jsonl").read_text().splitlines()[0])
    hostile["units"] = [{"text": "<script>document.title = 'taken'</script>", "credit": -2.0}]
    with (runs[0] / "samples.jsonl").open("a") as file:
        file.write(json.dumps(hostile) + "\n")
    return write_report(runs)


@pytest.fixture
def open_page(browser, report):
    """Opens the report; fails the test when the page logs an error or asks for anything but itself."""
    contexts, problems = [], []

    def open_with(**settings):
        context = browser.new_context(**{"viewport": {"width": 1200, "height": 900}, **settings})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: problems.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: problems.append(f"error: {error}"))
        page.on("request", lambda request: request.url == report.as_uri() or problems.append(f"request: {request.url}"))
        page.goto(report.as_uri())
        return page

    yield open_with
    for context in contexts:
        context.close()
    assert problems == []


def test_the_page_has_its_sections_and_charts(open_page):
    page = open_page()
    assert page.title() == "sparse, scar_span · scar_ray"
    assert page.locator("h1").inner_text() == "sparse, scar_span"
    assert page.locator("h2").all_inner_texts() == [
        "Summary",
        "Learning",
        "Time and cost",
        "Who did what when",
        "Responses",
        "Health of the training",
    ]
    assert page.locator("figure h3").all_inner_texts()[:5] == [
        "Reward against training step",
        "Reward against KL",
        "Reward against compute",
        "Time per phase",
        "Cost by role",
    ]


@pytest.mark.parametrize("chart", ["reward-step", "reward-kl", "reward-compute"])
def test_every_seed_has_a_thin_curve_and_every_method_a_thick_one(open_page, chart):
    page = open_page()
    assert page.locator(f"#{chart} path.seed").count() == 6
    assert page.locator(f"#{chart} path.mean").count() == 2
    colours = page.eval_on_selector_all(
        f"#{chart} path.seed, #{chart} path.mean",
        "paths => paths.map(path => path.dataset.group + getComputedStyle(path).stroke)",
    )
    assert sorted(set(colours)) == ["0rgb(11, 98, 168)", "1rgb(189, 75, 12)"]
    box = page.locator(f"#{chart} path.mean").first.bounding_box()
    assert box["width"] > 100
    assert box["height"] > 30


def test_the_heat_map_has_hue_by_sign_strength_by_size_and_the_numbers(open_page):
    page = open_page()
    card = page.locator(".responses[open] .card").first
    units = card.locator(".unit").evaluate_all(
        "units => units.map(u => [u.firstChild.data, u.dataset.tip, u.className, getComputedStyle(u).backgroundColor])"
    )
    assert [unit[:3] for unit in units] == [
        ["slow", "−0.620", "unit neg"],
        ["and", "−0.0300", "unit neg"],
        ["not very", "−0.410", "unit neg"],
        ["funny", "+0.220", "unit pos"],
        [".", "+0.0100", "unit pos"],
    ]
    strength = [float(unit[3].rpartition(",")[2].rstrip(")")) for unit in units]
    assert strength[0] > strength[2] > strength[3] > strength[1] > strength[4] > 0
    assert units[0][3].startswith("rgba(238, 140, 62, ")
    assert units[3][3].startswith("rgba(74, 144, 217, ")
    assert card.locator(".prompt").inner_text() == "The film was"
    facts = card.locator("dl > div").all_inner_texts()
    assert [fact.split() for fact in facts[:4]] == [
        ["score", "−0.730"],
        ["shaped", "−0.780"],
        ["base", "0.100"],
        ["residual", "2.2e−16"],
    ]


def test_a_unit_tells_its_number_on_hover_and_on_focus_with_the_arrow_keys(open_page):
    page = open_page()
    tip, units = page.locator("#tip"), page.locator(".responses[open] .card").first.locator(".unit")
    assert tip.is_hidden()
    units.nth(2).hover()
    assert tip.inner_text() == "−0.410"
    page.mouse.move(2, 2)
    units.first.focus()
    assert tip.inner_text() == "−0.620"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert tip.inner_text() == "+0.220"
    page.keyboard.press("Escape")
    assert tip.is_hidden()


def test_a_tap_shows_the_number_of_a_unit_and_a_point_of_a_curve(open_page):
    page = open_page(viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True)
    page.locator(".responses[open] .unit").first.tap()
    assert page.locator("#tip").inner_text() == "−0.620"
    page.locator("#reward-step .plot").tap(position={"x": 150, "y": 100})
    assert page.locator("#tip .row").count() == 2


def test_all_numbers_can_be_shown_beside_the_text(open_page):
    page = open_page()
    number = page.locator(".responses[open] .unit .num").first
    assert number.bounding_box()["width"] <= 1
    page.get_by_label("Show all numbers").check()
    assert number.inner_text().strip() == "−0.62"
    assert number.bounding_box()["width"] > 15


def test_before_and_after_stand_side_by_side(open_page):
    page = open_page()
    assert page.locator(".responses[open] .when").all_inner_texts() == ["Step 1", "Step 60"]
    before, after = (page.locator(".responses[open] .pair:not(.heads)").first.locator(".card").nth(i) for i in (0, 1))
    assert before.bounding_box()["y"] == after.bounding_box()["y"]
    assert before.bounding_box()["x"] < after.bounding_box()["x"]
    assert before.locator(".prompt").inner_text() == after.locator(".prompt").inner_text()


def test_pointing_at_a_curve_reads_out_every_method(open_page):
    page = open_page()
    plot = page.locator("#reward-step .plot")
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    plot.hover(position={"x": box["width"] - 1, "y": 50})
    lines = page.locator("#tip").inner_text().split("\n")
    assert lines[0] == "step 60"
    assert [line for line in lines[1:] if line.startswith("s")] == ["scar_span", "sparse"]
    assert plot.locator(".dot").count() == 2
    page.mouse.move(2, 2)
    assert page.locator("#tip").is_hidden()


def test_the_arrow_keys_walk_along_a_curve(open_page):
    page = open_page()
    page.locator("#reward-kl .plot").focus()
    for key in ("End", "ArrowLeft", "ArrowDown"):
        page.keyboard.press(key)
    assert page.locator("#tip .head").inner_text().startswith("step 5")
    assert page.locator("#tip .row span").inner_text() == "scar_span"
    assert page.locator("#live").inner_text() != ""


def test_a_pressed_method_comes_forward(open_page):
    page = open_page()
    page.get_by_role("button", name="scar_span").click()
    assert page.locator("#reward-step path.dim").count() == 4
    page.get_by_role("button", name="scar_span").click()
    assert page.locator("#reward-step path.dim").count() == 0


def contrast(ink: str, unit: str, card: str) -> float:
    """WCAG contrast ratio of text on a translucent colour over a card; CSS colours."""

    def luminance(rgb):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (c / 255 for c in rgb)]
        return sum(c * weight for c, weight in zip(linear, (0.2126, 0.7152, 0.0722), strict=True))

    def numbers(colour):
        return [float(number) for number in re.findall(r"[\d.]+", colour)]

    *colour, alpha = [*numbers(unit), 1.0][:4]
    under = [c * alpha + below * (1 - alpha) for c, below in zip(colour, numbers(card), strict=True)]
    low, high = sorted((luminance(under), luminance(numbers(ink))))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast_on_every_credit(open_page, scheme):
    page = open_page(color_scheme=scheme)
    colours = page.locator(".responses[open] .unit").evaluate_all(
        "units => units.map(u => [getComputedStyle(u).color, getComputedStyle(u).backgroundColor,"
        " getComputedStyle(u.closest('.card')).backgroundColor])"
    )
    ratios = [contrast(*found) for found in colours]
    assert len(ratios) > 40
    assert min(ratios) > 4.5


def test_dark_mode_turns_the_page_dark(open_page):
    light, dark = (open_page(color_scheme=scheme) for scheme in ("light", "dark"))
    script = "() => [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    assert light.evaluate(script) == ["rgb(251, 250, 247)", "rgb(28, 30, 34)"]
    assert dark.evaluate(script) == ["rgb(19, 21, 24)", "rgb(232, 230, 225)"]


@pytest.mark.parametrize("width", [390, 1200])
def test_the_page_never_scrolls_sideways(open_page, width):
    page = open_page(viewport={"width": width, "height": 800})
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.locator("#reward-step svg").bounding_box()["width"] > 0.75 * width


def test_axis_labels_do_not_touch_each_other_on_a_phone(open_page):
    page = open_page(viewport={"width": 390, "height": 800})
    boxes = page.locator(".plot").evaluate_all(
        "plots => plots.map(p => [...p.querySelectorAll('.xt')].map(t => t.getBoundingClientRect()))"
        ".map(row => row.map(box => [box.left, box.right]))"
    )
    assert len(boxes) == 9
    for row in boxes:
        assert all(left[1] + 4 < right[0] for left, right in pairwise(row))


def test_text_of_a_response_cannot_run(open_page):
    page = open_page()
    assert page.title() == "sparse, scar_span · scar_ray"
    assert page.get_by_text("<script>document.title = 'taken'</script>").count() == 1
