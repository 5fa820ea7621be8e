"""The token of a Ray cluster."""

import os
from pathlib import Path

import pytest

from scar_ray.workers.environment import show_token


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home folder, and no word about tokens in the environment."""
    monkeypatch.setenv("HOME", str(tmp_path))
    # Set first, so that what show_token sets is taken back too.
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.delenv("RAY_AUTH_MODE")
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_a_token_in_the_environment_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0123")
    show_token()
    assert os.environ["RAY_AUTH_MODE"] == "token"


def test_a_token_in_the_home_folder_is_shown(home: Path) -> None:
    (home / ".ray").mkdir()
    (home / ".ray/auth_token").write_text("0123")
    show_token()
    assert os.environ["RAY_AUTH_MODE"] == "token"


def test_without_a_token_or_against_the_users_word_none_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    show_token()
    assert "RAY_AUTH_MODE" not in os.environ
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0123")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    show_token()
    assert os.environ["RAY_AUTH_MODE"] == "disabled"
