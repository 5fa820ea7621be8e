import io
import subprocess
import sys

import pytest

from scar_ray.trainer.progress import Progress, duration

METRICS = {
    "time_s": 10.0,
    "reward/mean": 0.12345,
    "kl/k1": 2.3456,
    "tokens/per_s": 1234.4,
    "time/rollout": 0.5,
    "time/reward": 0.25,
    "time/forward": 0.125,
    "time/update": 1.0,
    "time/sync": 0.125,
}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.6, "1m00s"), (192, "3m12s"), (3840, "1h04m"), (183600, "2d03h")],
)
def test_durations_are_told_in_their_two_largest_units(seconds, text):
    assert duration(seconds) == text


def test_without_a_terminal_every_step_is_one_plain_line():
    file = io.StringIO()
    with Progress(200, 9, file=file) as progress:
        progress.update(10, METRICS)
    assert file.getvalue() == (
        "step  10/200  reward 0.123  kl 2.35  tokens/s 1,234  "
        "[rollout 0.50 reward 0.25 forward 0.12 update 1.00 sync 0.12 s]  eta 6m20s\n"
    )


def test_the_time_left_follows_the_pace_of_the_last_twenty_steps():
    file = io.StringIO()
    with Progress(100, file=file) as progress:
        progress.update(1, {"time_s": 100.0})
        for step in range(2, 23):
            progress.update(step, {"time_s": 100.0 + 2 * step})
    assert file.getvalue().splitlines()[-1] == "step  22/100  eta 2m36s"


def test_messages_are_lines_of_their_own():
    file = io.StringIO()
    with Progress(2, file=file) as progress:
        progress.message("checkpoint written [step 1]")
    assert file.getvalue() == "checkpoint written [step 1]\n"


def test_a_terminal_gets_a_live_display_with_the_same_figures_and_messages_above_it():
    file = Terminal()
    with Progress(200, file=file) as progress:
        progress.update(10, METRICS)
        progress.message("checkpoint [bold]written")
    shown = file.getvalue()
    for text in ("step 10/200", "ETA 6m20s", "0.123", "2.35", "1,234", "rollout", "checkpoint [bold]written"):
        assert text in shown
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1, "the cursor comes back"


def test_importing_the_logging_side_pulls_in_no_heavy_library():
    code = (
        "import sys, scar_ray.trainer.metrics, scar_ray.trainer.progress;"
        "heavy = {'torch', 'ray', 'vllm', 'rich', 'tensorboard', 'wandb', 'transformers'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
