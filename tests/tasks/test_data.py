import gzip
import json
import stat
from pathlib import Path

import pytest

from scar_ray.config.schema import DataSource, TaskConfig
from scar_ray.tasks.data import Row, load_rows

RECORDS = [{"text": "Fine.<br />Really.", "label": 1, "stars": 8}, {"text": "Poor.", "label": 0, "stars": 2}]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def task(path: Path, **source: object) -> TaskConfig:
    return TaskConfig(name="imdb", train=DataSource(source=str(path), **source))


def write_jsonl(path: Path, records: list[dict[str, object]]) -> Path:
    text = "".join(json.dumps(record) + "\n" for record in records)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "rows.csv", "rows.parquet"])
def test_local_files_of_every_kind_give_the_same_rows(tmp_path: Path, name: str) -> None:
    import pandas

    path = tmp_path / name
    if "jsonl" in name:
        write_jsonl(path, RECORDS)
    elif "csv" in name:
        pandas.DataFrame(RECORDS).to_csv(path, index=False)
    else:
        pandas.DataFrame(RECORDS).to_parquet(path)
    assert load_rows(task(path), "train", labelled=True) == [Row("Fine.\nReally.", 1), Row("Poor.", 0)]


def test_a_limit_takes_the_first_rows(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", RECORDS)
    assert load_rows(task(path, limit=1), "train", labelled=False) == [Row("Fine.\nReally.", None)]


def test_files_in_a_read_only_folder_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    path = write_jsonl(folder / "rows.jsonl", RECORDS)
    folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        assert len(load_rows(task(path), "train", labelled=True)) == 2
        assert [entry.name for entry in folder.iterdir()] == ["rows.jsonl"]
    finally:
        folder.chmod(stat.S_IRWXU)


def one_line_error(task: TaskConfig, labelled: bool = True) -> str:
    with pytest.raises(ValueError, match="task") as raised:
        load_rows(task, "train", labelled=labelled)
    message = str(raised.value)
    assert "\n" not in message
    return message


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    message = one_line_error(task(tmp_path / "none.jsonl"))
    assert message == f"task.train.source: no such file: {tmp_path / 'none.jsonl'}; check the path"


def test_an_unknown_column_is_answered_with_the_columns_there_are(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", RECORDS)
    message = one_line_error(task(path, text="review"))
    assert message == (f"task.train: {path} has no column 'review'; set task.train.text to one of: text, label, stars")


@pytest.mark.parametrize(("text", "got"), [("", "is empty"), ("  ", "is empty"), (None, "is empty")])
def test_an_empty_row_is_named_by_file_and_line(tmp_path: Path, text: str | None, got: str) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", [*RECORDS, {"text": text, "label": 1, "stars": 1}])
    message = one_line_error(task(path))
    assert message == f"task.train: {path}, line 3: column 'text' {got}; every row must hold text"


def test_a_column_of_numbers_is_not_text(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", RECORDS)
    message = one_line_error(task(path, text="stars"))
    assert message == f"task.train: {path}, line 1: column 'stars' holds int 8; every row must hold text"


def test_a_label_other_than_0_or_1_is_named_by_line(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", RECORDS)
    message = one_line_error(task(path, label="stars"))
    assert message == f"task.train: {path}, line 1: column 'stars' holds 8; a label must be 0 or 1"


def test_labels_are_not_looked_at_unless_asked_for(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", [{"text": "Fine."}])
    assert load_rows(task(path), "train", labelled=False) == [Row("Fine.", None)]
    assert "has no column 'label'" in one_line_error(task(path))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.jsonl.gz", b"no gzip at all"),
        ("rows.parquet", b"PAR0"),
        ("rows.csv", b"text,label\n"),
    ],
)
def test_an_unreadable_file_is_named_with_the_reason(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    message = one_line_error(task(tmp_path / name))
    assert message.startswith(f"task.train.source: cannot read {tmp_path / name} as ")


def test_a_line_that_is_no_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n\n{"text": "a"\n')
    message = one_line_error(task(tmp_path / "rows.jsonl"))
    assert message.startswith(f"task.train: {tmp_path / 'rows.jsonl'}, line 3: is no JSON (Expecting ',' delimiter")


def test_an_empty_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b"")
    message = one_line_error(task(tmp_path / "rows.jsonl"))
    assert message == f"task.train.source: {tmp_path / 'rows.jsonl'} is empty; it must have at least one row"


def test_a_file_of_another_kind_is_told_the_kinds_there_are(tmp_path: Path) -> None:
    (tmp_path / "rows.txt").write_text("Fine.")
    message = one_line_error(task(tmp_path / "rows.txt"))
    assert message.endswith("is no data file; its name must end in .jsonl, .json, .csv, .parquet (also .gz)")


def test_an_empty_source_is_an_error() -> None:
    assert one_line_error(TaskConfig(name="imdb")).startswith("task.train.source is empty")


def test_a_data_set_that_the_hub_does_not_give_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise ConnectionError("Couldn't reach 'someone/reviews' on the Hub\n(offline)")

    monkeypatch.setattr("datasets.load_dataset", refused)
    message = one_line_error(TaskConfig(name="imdb", train=DataSource(source="someone/reviews")))
    assert message == (
        "task.train.source: cannot load data set 'someone/reviews' (split 'train') from the hub: "
        "ConnectionError: Couldn't reach 'someone/reviews' on the Hub; for a local file give its path"
    )


def test_the_demo_needs_no_files_and_is_labelled_by_true_sentiment() -> None:
    demo = TaskConfig(train=DataSource(limit=200))
    rows = load_rows(demo, "train", labelled=True)
    assert len(rows) == 200
    assert {row.label for row in rows} == {0, 1}
    assert not {row.text for row in rows} & {row.text for row in load_rows(TaskConfig(), "test", labelled=True)}
