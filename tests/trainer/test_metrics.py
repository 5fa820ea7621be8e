import json
import math
import resource
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from scar_ray.records import Prompt, Response, SequenceScore, TokenRewards, Units
from scar_ray.trainer.metrics import MetricsWriter, sample_record


def open_writer(folder: Path, **kwargs) -> MetricsWriter:
    defaults = {"tensorboard": False, "wandb": False, "config": {"seed": 0}, "name": "test", "go_on": "`again`"}
    return MetricsWriter(folder, **{**defaults, **kwargs})


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def response() -> Response:
    return Response(
        row=3,
        prompt=Prompt(index=7, token_ids=(1, 2), text="The film was"),
        sample=0,
        token_ids=(5, 6, 7, 2),
        text=" not bad é",
        token_spans=((0, 4), (4, 8), (8, 10), (10, 10)),
        finished=True,
        logprobs_T=np.zeros(4, dtype=np.float32),
        policy_version=1,
        engine="engine-0",
    )


def token_rewards() -> TokenRewards:
    return TokenRewards(
        rewards_T=np.array([0.0, 0.5, 0.25, 0.75]),
        units=Units(ends=(2, 3), tree=(0, 1)),
        credits_n=np.array([0.5, -0.25]),
        base=0.125,
        efficiency_residual=0.0,
        estimator="owen",
    )


def test_each_step_is_one_line_that_is_on_disk_at_once(tmp_path):
    writer = open_writer(tmp_path / "run")
    writer.write(1, {"reward/mean": 0.5, "tokens/generated": 12})
    writer.write(2, {"reward/mean": np.float32(0.75)})
    assert lines(tmp_path / "run" / "metrics.jsonl") == [
        {"step": 1, "reward/mean": 0.5, "tokens/generated": 12.0},
        {"step": 2, "reward/mean": 0.75},
    ]
    writer.close()


def test_values_that_are_not_finite_become_null(tmp_path):
    writer = open_writer(tmp_path)
    writer.write(1, {"a": math.nan, "b": math.inf, "c": 1.0})
    assert lines(tmp_path / "metrics.jsonl") == [{"step": 1, "a": None, "b": None, "c": 1.0}]
    writer.close()


def test_a_sample_record_holds_the_text_and_the_credit_of_every_unit():
    score = SequenceScore(raw=2.0, scale=0.5, penalty=-0.25)
    assert sample_record(4, response(), score, token_rewards(), "scar_span") == {
        "step": 4,
        "row": 3,
        "prompt": "The film was",
        "response": " not bad é",
        "score": 2.0,
        "final": 0.75,
        "finished": True,
        "base": 0.125,
        "residual": 0.0,
        "method": "scar_span",
        "estimator": "owen",
        "units": [{"text": " not bad", "credit": 0.5}, {"text": " é", "credit": -0.25}],
        "rewards": [0.0, 0.5, 0.25, 0.75],
    }


def test_a_resumed_run_forgets_the_steps_after_its_checkpoint_and_an_incomplete_last_line(tmp_path):
    writer = open_writer(tmp_path)
    for step in (1, 2, 3):
        writer.write(step, {"x": step})
    for step in (2, 3):
        writer.write_sample(step, response(), SequenceScore(1.0, 1.0, 0.0), token_rewards(), "scar_span")
    writer.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "x')

    resumed = open_writer(tmp_path)
    resumed.resume_from(2)
    resumed.write(3, {"x": 30.0})
    resumed.close()
    assert [(line["step"], line["x"]) for line in lines(tmp_path / "metrics.jsonl")] == [
        (1, 1),
        (2, 2),
        (3, 30),
    ]
    assert [line["step"] for line in lines(tmp_path / "samples.jsonl")] == [2]


def test_resuming_from_the_last_step_keeps_all_but_the_incomplete_line(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"st')
    writer = open_writer(tmp_path)
    writer.resume_from(2)
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1}\n{"step": 2}\n'
    writer.close()


def test_a_line_that_does_not_fit_leaves_the_lines_before_it_whole(tmp_path):
    writer = open_writer(tmp_path)
    writer.write(1, {"x": 1.0})
    whole = (tmp_path / "metrics.jsonl").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 5, hard))
    try:
        with pytest.raises(
            OSError, match=r"cannot write .*metrics\.jsonl: File too large; make room .* with `again`$"
        ) as caught:
            writer.write(2, {"x": 2.0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value)
    assert (tmp_path / "metrics.jsonl").read_bytes() == whole
    writer.write(2, {"x": 2.0})
    assert [line["step"] for line in lines(tmp_path / "metrics.jsonl")] == [1, 2]
    writer.close()


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot write .*metrics\.jsonl: Not a directory") as caught:
        open_writer(tmp_path / "file" / "run")
    assert "\n" not in str(caught.value)


def test_tensorboard_gets_every_scalar_and_purges_what_a_resume_takes_back(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    writer = open_writer(tmp_path, tensorboard=True)
    for step in (1, 2, 3):
        writer.write(step, {"reward/mean": float(step)})
    writer.close()
    resumed = open_writer(tmp_path, tensorboard=True)
    resumed.resume_from(1)
    resumed.write(2, {"reward/mean": 20.0})
    resumed.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("reward/mean")] == [(1, 1.0), (2, 20.0)]


def test_wandb_without_its_package_is_one_line_that_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ValueError, match=r"trainer\.wandb=true needs the package wandb.*scar-ray\[wandb\]"):
        open_writer(tmp_path, wandb=True)


def test_wandb_without_a_key_in_the_environment_is_one_line_and_never_asks(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", types.ModuleType("wandb"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    with pytest.raises(ValueError, match="needs the environment variable WANDB_API_KEY"):
        open_writer(tmp_path, wandb=True)


def test_wandb_logs_every_step_and_a_resumed_run_keeps_its_id(tmp_path, monkeypatch):
    started, logged = [], []

    class Run:
        def define_metric(self, name, step_metric):
            assert (name, step_metric) == ("*", "step")

        def log(self, values):
            logged.append(values)

        def finish(self):
            logged.append("finished")

    def init(**kwargs):
        started.append(kwargs)
        return Run()

    fake = types.ModuleType("wandb")
    fake.init = init
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.setenv("WANDB_API_KEY", "not-a-key")
    for step in (1, 2):
        writer = open_writer(tmp_path, wandb=True)
        writer.write(step, {"x": 0.5})
        writer.close()
    assert logged == [{"step": 1, "x": 0.5}, "finished", {"step": 2, "x": 0.5}, "finished"]
    assert started[0]["id"] == started[1]["id"]
    assert (started[0]["name"], started[0]["config"]) == ("test", {"seed": 0})
    assert "not-a-key" not in str(started)
