"""`scar-ray plan`: what it prints and writes, and one line for each mistake."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from scar_ray import cli
from scar_ray.config.load import load
from scar_ray.planning.devices import DEVICES, Rates, find_device, write_device

SHAPE = ("--policy", "7B", "--prompt-tokens", "450", "--new-tokens", "53")


def test_methods_stand_side_by_side_with_their_reading_and_their_splits(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", *SHAPE, "--splits", "2", "credit=sparse,scar_token"]) == 0
    text = capsys.readouterr().out
    assert "policy 7B (6.74 billion parameters), reward model 7B (6.61 billion parameters), 8 x h100" in text
    assert "64 responses of 450 + 53 tokens, 4 epochs" in text
    rows = [line.split() for line in text.splitlines()]
    assert [row[:4] for row in rows if row[:1] == ["scar_token"]][1][:3] == ["scar_token", "53", "108"]
    assert text.count("Splits for ") == 2
    assert "Assumed, not measured: prefill, " in text


def test_the_file_has_all_numbers_and_keys_that_train_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "new" / "plan.json"
    assert cli.main(["plan", *SHAPE, "--gpus", "16", "--json", str(file), "credit=scar_span", "credit.budget=64"]) == 0
    content = json.loads(file.read_text())
    assert (content["devices"], content["device"]["name"]) == (16, "h100")
    splits = content["plans"]["scar_span"]["splits"]
    assert [one["seconds"] for one in splits] == sorted(one["seconds"] for one in splits)
    config = load(["algorithm=ppo", *splits[0]["keys"].split(), "model.policy.dtype=bfloat16"])
    assert config.cluster.reward.actors == splits[0]["split"]["reward_actors"]
    assert splits[0]["keys"] in capsys.readouterr().out


def test_without_a_credit_the_four_methods_are_compared(tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    assert cli.main(["plan", *SHAPE, "--json", str(file)]) == 0
    plans = json.loads(file.read_text())["plans"]
    assert list(plans) == ["sparse", "abc", "scar_span", "scar_token"]
    best = {name: plan["splits"][0]["seconds"] for name, plan in plans.items()}
    assert best["sparse"] == min(best.values())


def test_a_device_file_says_what_was_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    device = replace(DEVICES["a100"], name="mine", rates=Rates(prefill=0.6), measured=("prefill",))
    file = tmp_path / "devices" / "mine.json"
    write_device(device, file)
    assert find_device(str(file)) == device
    assert cli.main(["plan", *SHAPE, "--gpu", str(file), "credit=sparse"]) == 0
    text = capsys.readouterr().out
    assert "Measured rates: prefill\n" in text
    assert "Assumed, not measured: decode, " in text


def mistake(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(["plan", *arguments]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    return captured.err.removeprefix("scar-ray: error: ").rstrip("\n")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--gpus", "0"), "--gpus=0: must be at least 1"),
        (("--new-tokens", "0"), "--new-tokens=0: must be at least 1"),
        (("--gpus", "2"), "--gpus=2: rollout, learner and reward models on GPUs of their own need at least 3;"),
        (("--policy", "7C"), "--policy=7C: neither a size (1B, 3B, 7B, 8B, 13B, 70B) nor a folder with a config.json"),
        (("--reward-model", "no/such"), "--reward-model=no/such: neither a size ("),
        (("--gpu", "h900"), "--gpu=h900: neither a device (h100, h200, a100) nor a device file of benchmarks/plan.py"),
        (
            ("credit=prefix_complete",),
            "credit.value=complete: the cost model knows no completions; `scar-ray train --dry-run` counts them",
        ),
        (("seed=3",), "seed: has no effect on a plan, which takes credit, "),
        (("credit=scr_span",), "credit: must be one of abc, "),
        (("credit.budget=1",), "credit.budget: "),
        (("--gpuz", "8"), "unrecognized arguments: --gpuz"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: tuple[str, ...], line: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert mistake(capsys, *SHAPE, *arguments).startswith(line)


@pytest.mark.parametrize("content", ["{", '{"name": "x"}', '{"rates": {"warp": 1}}'])
def test_a_damaged_device_file_is_named(content: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "device.json"
    file.write_text(content)
    assert mistake(capsys, *SHAPE, "--gpu", str(file)).startswith(f"--gpu={file}: is no device file: ")
