"""The command line: what it prints, what it imports, what it returns, and whom it calls."""

import json
import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import Any

import pytest

from scar_ray import __version__, cli
from scar_ray.commands import train
from scar_ray.config.errors import UserError
from scar_ray.config.load import load

HEAVY = ("torch", "transformers", "ray", "vllm", "deepspeed", "datasets", "peft", "nltk", "pandas", "scipy")


def fake_run(monkeypatch: pytest.MonkeyPatch, name: str = "scar_ray.run", **functions: Any) -> None:
    """Puts a module with these functions in the place of scar_ray.run, or of another one."""
    module = types.ModuleType(name)
    for function_name, function in functions.items():
        setattr(module, function_name, function)
    monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(name, module, raising=False)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The configurations with which `train` was called."""
    monkeypatch.chdir(tmp_path)
    calls: list[Any] = []
    fake_run(monkeypatch, train=lambda config, resume: calls.append((config, resume)))
    return calls


def one_error(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("scar-ray: error: ")
    assert captured.err.count("\n") == 1
    return captured.err.removeprefix("scar-ray: error: ").rstrip("\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["train", "--help"],
        ["train", "--dry-run", "task=imdb", "credit=scar_span"],
        ["train", "credit=nonsense"],
        ["plan", "--policy", "7B", "--prompt-tokens", "450", "--new-tokens", "53"],
    ],
    ids=" ".join,
)
def test_nothing_heavy_is_imported_before_the_configuration_is_valid(arguments: list[str], tmp_path: Path) -> None:
    program = (
        "import sys\nfrom scar_ray.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        f"print('heavy:', [name for name in {HEAVY!r} if sys.modules.get(name)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.splitlines()[-1] == "heavy: []"


def test_help_does_not_even_import_the_configuration() -> None:
    program = "import sys\nfrom scar_ray.cli import main\nmain(['--help'])\nprint('pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_help_names_commands_and_groups(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    for word in ("train", "sft", "rm", "report", "task, credit, algorithm, model, cluster"):
        assert word in text


def test_no_command_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert "usage: scar-ray COMMAND" in capsys.readouterr().out


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"scar-ray {__version__}\n"


def test_an_unknown_command_is_one_line_with_the_nearest_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert one_error(capsys, "trian") == "unknown command trian; did you mean train?"
    assert one_error(capsys, "serve") == (
        "unknown command serve; the commands are train, sft, rm, eval, judge, report, explain, probe, parser, plan"
    )


def test_an_unknown_option_is_one_line_with_the_nearest_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert one_error(capsys, "train", "--dryrun") == "unrecognized arguments: --dryrun; did you mean --dry-run?"
    assert one_error(capsys, "report") == ("the following arguments are required: RUN; see scar-ray report --help")


def test_every_broken_rule_is_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "credit.alpha=2", "seed=-1"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "scar-ray: error: seed: must be a whole number of at least 0, got -1",
        "scar-ray: error: credit.alpha: must be a number from 0 to 1, got 2",
    ]


def test_options_and_overrides_mix_in_any_order(runs: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "seed=3", "--dry-run", "credit=abc"]) == 0
    assert "  seed: 3\n" in capsys.readouterr().out
    assert runs == []


def test_the_dry_run_tells_what_is_still_needed_and_is_no_failure(
    runs: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["train", "--dry-run", "task=imdb"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].startswith("still needed: model.policy.path=models/imdb/policy: no such model folder; make it ")
    assert lines[-1].startswith("still needed: model.reward.path=models/imdb/reward: no such model folder; make it ")
    assert runs == []


def test_a_dry_run_into_a_pipe_that_closes_ends_quietly() -> None:
    command = f"{sys.executable} -m scar_ray.cli train --dry-run | head -1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("Configuration\n", "")


def test_train_runs_the_valid_configuration(runs: list[Any]) -> None:
    assert cli.main(["train", "credit=abc", "seed=3"]) == 0
    assert runs == [(load(["credit=abc", "seed=3"]), None)]


def test_train_checks_the_machine_first(runs: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "task=imdb"]) == 2
    assert "make it with: scar-ray sft task=imdb model=tiny\n" in capsys.readouterr().err
    assert runs == []


def test_a_folder_of_ones_own_is_used(runs: list[Any], tmp_path: Path) -> None:
    (tmp_path / "mine/credit").mkdir(parents=True)
    (tmp_path / "mine/credit/new.yaml").write_text("method: uniform\n")
    assert cli.main(["train", "credit=new", "--config-dir", "mine"]) == 0
    assert runs[0][0].credit.method == "uniform"


def test_resume_reads_the_configuration_of_the_run(runs: list[Any], tmp_path: Path) -> None:
    config = load(["seed=5", "credit=abc"])
    (tmp_path / "old").mkdir()
    (tmp_path / "old/config.json").write_text(config.model_dump_json())
    assert cli.main(["train", "--resume", "old", "trainer.steps=500"]) == 0
    assert runs == [(load(["seed=5", "credit=abc", "trainer.steps=500"]), Path("old"))]


def test_resume_of_what_is_no_run_is_one_line(runs: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert one_error(capsys, "train", "--resume", "nowhere") == (
        "--resume=nowhere: is no run folder, it has no config.json; give one that scar-ray train wrote"
    )
    assert one_error(capsys, "train", "--resume", "nowhere", "--multirun") == (
        "--resume continues one run as it was configured; leave out --multirun and --config-dir"
    )
    assert runs == []


@pytest.mark.parametrize("command", ["sft", "rm"])
def test_supervised_commands_run_the_valid_configuration(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    calls: list[Any] = []
    functions = {name: lambda config, name=name: calls.append((name, config)) for name in ("sft", "rm")}
    fake_run(monkeypatch, "scar_ray.run_supervised", **functions)
    assert cli.main([command, "task=imdb", "seed=1"]) == 0
    assert calls == [(command, load(["task=imdb", "seed=1"]))]


def test_report_writes_a_page_and_prints_its_path(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[Any] = []

    def write_report(folders: list[Path], out: Path | None) -> Path:
        calls.append((folders, out))
        return out or folders[0] / "report.html"

    monkeypatch.setattr("scar_ray.report.write_report", write_report)
    assert cli.main(["report", "a", "b"]) == 0
    assert cli.main(["report", "a", "--out", "page.html"]) == 0
    assert calls == [([Path("a"), Path("b")], None), ([Path("a")], Path("page.html"))]
    assert capsys.readouterr().out == "a/report.html\npage.html\n"


def test_report_of_what_is_no_run_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert str(tmp_path / "nothing") in one_error(capsys, "report", str(tmp_path / "nothing"))


class EngineLost(RuntimeError):
    __module__ = "scar_ray.workers.errors"


def failing(error: BaseException) -> Any:
    def train(*_: Any) -> None:
        raise error

    return train


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("port: taken"), 2, "scar-ray: error: port: taken"),
        (EngineLost("rollout-1: the actor died"), 1, "scar-ray: error: rollout-1: the actor died"),
        (
            OSError(28, "No space left on device", "runs/a/metrics.jsonl"),
            2,
            "scar-ray: error: the disk is full at runs/a/metrics.jsonl: No space left on device; "
            "free some space or set runs=FOLDER",
        ),
        (
            OSError(28, "No space left on device"),
            2,
            "scar-ray: error: the disk is full: No space left on device; free some space or set runs=FOLDER",
        ),
        (
            PermissionError(13, "Permission denied", "runs/a"),
            2,
            "scar-ray: error: runs/a: Permission denied",
        ),
        (
            OSError(98, "Address already in use"),
            2,
            "scar-ray: error: a port is in use: Address already in use",
        ),
        (KeyboardInterrupt(), 130, "scar-ray: interrupted"),
        (KeyboardInterrupt("stopped after step 3"), 130, "scar-ray: stopped after step 3"),
    ],
)
@pytest.mark.usefixtures("runs")
def test_an_expected_failure_is_one_line_and_an_exit_code(
    error: BaseException, code: int, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_run(monkeypatch, train=failing(error))
    assert cli.main(["train"]) == code
    assert capsys.readouterr().err == line + "\n"


@pytest.mark.parametrize(
    "error",
    [RuntimeError("bug"), ValueError("a library's"), OSError("no number"), AssertionError("invariant")],
    ids=repr,
)
@pytest.mark.usefixtures("runs")
def test_an_unexpected_failure_keeps_its_traceback(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_run(monkeypatch, train=failing(error))
    with pytest.raises(type(error)) as caught:
        cli.main(["train"])
    assert caught.value is error


def test_a_value_error_that_scar_ray_raises_is_the_users_mistake(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from scar_ray.games import balanced

    monkeypatch.setattr("scar_ray.report.write_report", lambda *_: balanced(0))
    assert one_error(capsys, "report", "a") == "tree: a tree needs at least one player, got n=0"


def test_multirun_checks_all_jobs_before_the_first_one_starts(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train.subprocess, "Popen", lambda *_: pytest.fail("started"))
    assert one_error(capsys, "train", "--multirun", "seed=0,1", "credit=abc,abd").startswith("credit: must be one of")


def test_multirun_does_not_put_two_runs_into_one_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert one_error(capsys, "train", "--multirun", "seed=0,1", "name=mine") == (
        "name=mine would be the folder of several runs; leave name out, or sweep it as well"
    )


def test_a_dry_multirun_prints_every_plan(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--multirun", "--dry-run", "seed=0,1", "credit=abc"]) == 0
    titles = [line for line in capsys.readouterr().out.splitlines() if line.startswith("[")]
    assert titles == ["[1/2] scar-ray train seed=0 credit=abc", "[2/2] scar-ray train seed=1 credit=abc"]


class Job:
    """Stands for a process that ends with the code of its seed."""

    started: list[list[str]]

    def __init__(self, command: list[str]) -> None:
        self.command = command
        self.started.append(command[3:])

    def wait(self) -> int:
        (seed,) = (word for word in self.command if word.startswith("seed="))
        return {"seed=0": 0, "seed=1": 2, "seed=2": 0, "seed=9": 130}[seed]


def test_multirun_goes_on_after_a_failed_run_and_tells_which_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Job.started = []
    monkeypatch.setattr(train.subprocess, "Popen", Job)
    assert cli.main(["train", "--multirun", "seed=0,1,2", "credit=abc"]) == 1
    assert Job.started == [["train", f"seed={seed}", "credit=abc"] for seed in range(3)]
    assert capsys.readouterr().err == "scar-ray: failed: [2/3] scar-ray train seed=1 credit=abc: exit code 2\n"


def test_multirun_stops_when_a_run_was_interrupted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Job.started = []
    monkeypatch.setattr(train.subprocess, "Popen", Job)
    assert cli.main(["train", "--multirun", "seed=9,0"]) == 130
    assert Job.started == [["train", "seed=9"]]
    assert capsys.readouterr().err == "scar-ray: interrupted\n"


def test_multirun_starts_real_processes_one_after_another(tmp_path: Path) -> None:
    # The runs fail at once: there are no models here.
    done = subprocess.run(
        [sys.executable, "-m", "scar_ray.cli", "train", "--multirun", "task=imdb", "seed=0,1"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "[1/2] scar-ray train task=imdb seed=0",
        "[2/2] scar-ray train task=imdb seed=1",
    ]
    assert done.stderr.splitlines()[-2:] == [
        "scar-ray: failed: [1/2] scar-ray train task=imdb seed=0: exit code 2",
        "scar-ray: failed: [2/2] scar-ray train task=imdb seed=1: exit code 2",
    ]


def test_ctrl_c_waits_for_the_running_job_to_stop_by_itself(tmp_path: Path) -> None:
    job = tmp_path / "job.py"
    job.write_text(
        "import signal, sys, time, pathlib\n"
        "def stop(*_):\n    time.sleep(0.5); pathlib.Path('checkpoint').write_text('saved'); sys.exit(130)\n"
        "signal.signal(signal.SIGINT, stop)\npathlib.Path('ready').write_text('')\ntime.sleep(60)\n"
    )
    program = (
        "import subprocess, sys\nfrom scar_ray import cli\nfrom scar_ray.commands import train\n"
        "real = subprocess.Popen\n"
        "train.subprocess.Popen = lambda command: real([sys.executable, 'job.py'])\n"
        "sys.exit(cli.main(['train', '--multirun', 'seed=0,1']))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=tmp_path, start_new_session=True, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "ready").exists():
        assert time.monotonic() < deadline, "the job did not start"
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the whole group
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "scar-ray: interrupted\n")
    assert (tmp_path / "checkpoint").read_text() == "saved"


def test_the_installed_command_is_this_one() -> None:
    from importlib.metadata import entry_points

    (script,) = entry_points(group="console_scripts", name="scar-ray")
    assert script.value == "scar_ray.cli:main"


def test_the_configuration_of_a_run_is_plain_json() -> None:
    assert json.loads(load([]).model_dump_json())["credit"]["method"] == "scar"
