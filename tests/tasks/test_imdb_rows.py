"""The real reviews, where they are at hand."""

from collections import Counter
from pathlib import Path

import pytest

from scar_ray.config.schema import DataSource, TaskConfig
from scar_ray.tasks.data import load_rows

DATA = Path(__file__).resolve().parents[2] / "../shared/data"
pytestmark = pytest.mark.skipif(
    not (DATA / "imdb_test.jsonl.gz").exists(), reason="needs shared/data beside the repository"
)


def test_the_held_out_reviews_are_balanced_and_have_newlines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    task = TaskConfig(name="imdb", test=DataSource(source=str(DATA / "imdb_test.jsonl.gz")))
    rows = load_rows(task, "test", labelled=True)
    assert Counter(row.label for row in rows) == {0: 2500, 1: 2500}
    assert not any("<br />" in row.text for row in rows)
    assert sum("\n\n" in row.text for row in rows) > 2000
