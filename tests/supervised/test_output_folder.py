import errno
import fcntl
import json
import resource
from pathlib import Path

import pytest

from scar_ray.config.errors import UserError
from scar_ray.config.load import load
from scar_ray.run_folder import locked
from scar_ray.run_supervised import ModelLog, unfinished
from scar_ray.workers.supervised.folder import RunLog, whole_or_nothing


def test_the_folder_appears_when_the_block_has_ended(tmp_path: Path) -> None:
    out = tmp_path / "a" / "model"
    with whole_or_nothing(out) as folder:
        (folder / "weights").write_text("w")
        assert not out.exists()
    assert (out / "weights").read_text() == "w"
    assert [path.name for path in out.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, RuntimeError])
def test_a_stopped_block_leaves_nothing_behind(tmp_path: Path, stop: type[BaseException]) -> None:
    def fill() -> None:
        with whole_or_nothing(tmp_path / "model") as folder:
            (folder / "weights").write_text("w")
            raise stop

    with pytest.raises(stop):
        fill()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("w")
    rule = r"^output folder .*model is not empty; choose another one or remove it$"
    with pytest.raises(ValueError, match=rule), whole_or_nothing(tmp_path / "model"):
        pass
    assert (tmp_path / "model" / "weights").read_text() == "w"


def test_a_place_that_is_no_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    rule = r"^output folder .*file/model cannot be made: Not a directory$"
    with pytest.raises(ValueError, match=rule), whole_or_nothing(tmp_path / "file" / "model"):
        pass


def test_a_model_is_trained_by_one_process_at_a_time(tmp_path: Path) -> None:
    def fill() -> None:
        with unfinished(tmp_path / "model", load(["task=demo"]), "sft"):
            raise AssertionError("two at a time")

    with unfinished(tmp_path / "model", load(["task=demo"]), "sft") as folder:
        with pytest.raises(UserError, match=rf"^{folder}: another process trains there; wait until it has ended$"):
            fill()
        assert folder.is_dir()


def test_a_file_system_without_locks_is_named_and_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def flock(*_: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    with locked(tmp_path):
        assert "has no locks; see to it that only one process trains there" in capsys.readouterr().out


@pytest.mark.parametrize("reason", ["No space left on device", "Input/output error"])
def test_a_full_disk_is_one_clear_line_and_leaves_nothing_behind(tmp_path: Path, reason: str) -> None:
    def fill() -> None:
        with whole_or_nothing(tmp_path / "model"):
            raise OSError(28, reason)

    with pytest.raises(ValueError, match=rf"^output folder .*model cannot be written: {reason}$"):
        fill()
    assert list(tmp_path.iterdir()) == []


def test_a_log_that_does_not_fit_on_the_disk_names_the_command_that_goes_on(tmp_path: Path) -> None:
    config = load(["task=demo", "trainer.tensorboard=false"])

    def fill() -> None:
        with unfinished(tmp_path / "model", config, "rm") as folder:
            log = ModelLog(folder, config, "rm")
            soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
            try:
                log.step(1, 2, {"loss": 0.5})
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
                log.close()

    rule = (
        r"^output folder .*model cannot be written: cannot write .*metrics\.jsonl: File too large; .* `scar-ray rm` com"
    )
    with pytest.raises(ValueError, match=rule):
        fill()


def test_every_step_is_written_and_the_last_one_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = RunLog(tmp_path, "sft")
    for step in (1, 2, 3):
        log.step(step, 3, {"loss": 0.5})
    log.close()
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"step": step, "loss": 0.5} for step in (1, 2, 3)]
    assert capsys.readouterr().out == "sft: step 3/3 loss 0.500 0 s left\n"
