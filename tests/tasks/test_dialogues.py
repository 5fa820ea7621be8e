import gzip
import json
from pathlib import Path

import pytest

from scar_ray.config.load import load
from scar_ray.config.schema import TaskConfig
from scar_ray.tasks.dialogues import Demonstration, Pair, load_demonstrations, load_pairs, load_prompt_texts

POST = {"subreddit": "cats", "title": "My cat", "post": "She sleeps.\n\nAll day.", "summary": "Cat sleeps."}
PROMPT = "SUBREDDIT: r/cats\n\nTITLE: My cat\n\nPOST: She sleeps.\n\nAll day.\n\nTL;DR:"
ASKED = "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Why?\n\nAssistant:"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def write(folder: Path, name: str, *records: dict[str, object] | str) -> None:
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    (folder / name).write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode()))


def task(name: str, folder: Path, *overrides: str) -> TaskConfig:
    return load([f"task={name}", f"task.data={folder}", *overrides]).task


def test_a_post_becomes_a_prompt_and_its_summary_follows_after_a_space(tmp_path: Path) -> None:
    write(tmp_path, "tldr_reddit_train.jsonl.gz", POST)
    tldr = task("tldr", tmp_path)
    assert load_prompt_texts(tldr, "train") == [PROMPT]
    assert load_demonstrations(tldr, "sft_train") == [Demonstration(PROMPT, " Cat sleeps.")]


def test_a_pair_is_a_prompt_with_a_better_and_a_worse_completion(tmp_path: Path) -> None:
    write(tmp_path, "hh_helpful_pairs_train.jsonl.gz", {"prompt": ASKED, "chosen": "Sky.", "rejected": " No."})
    assert load_pairs(task("hh", tmp_path), "rm_train") == [Pair(ASKED, " Sky.", " No.")]


def test_whole_dialogues_are_split_at_the_last_answer_that_they_share(tmp_path: Path) -> None:
    rows = {"chosen": f"{ASKED} Because\n\nAssistant: twice", "rejected": f"{ASKED} Be off"}
    write(tmp_path, "hh_helpful_pairs_train.jsonl.gz", rows)
    hh = task("hh", tmp_path, "task.rm_train.prompt=''", "task.sft_train.prompt=''")
    assert load_pairs(hh, "rm_train") == [Pair(ASKED, " Because\n\nAssistant: twice", " Be off")]


GOOD = {"prompt": ASKED, "chosen": "Sky.", "rejected": "No."}


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (GOOD | {"chosen": " "}, "column 'chosen' is empty; every row must hold text"),
        (GOOD | {"rejected": None}, "column 'rejected' is empty; every row must hold text"),
        (
            GOOD | {"rejected": "Sky. "},
            "columns 'chosen' and 'rejected' hold the same text 'Sky.'; a pair must differ, remove the row",
        ),
        (
            GOOD | {"prompt": "Human: Hi"},
            r"the prompt is 'Human: Hi'; it must begin with '\n\nHuman:' and end with '\n\nAssistant:'",
        ),
        (
            GOOD | {"chosen": 7},
            "column 'chosen' holds int 7, earlier lines str; a column must hold one type",
        ),
        ("{", "is no JSON (Expecting property name enclosed in double quotes); correct or remove the line"),
        ("[1]", "holds list; every line must be a JSON object with the columns as keys"),
    ],
)
def test_a_bad_pair_is_named_by_file_and_line(tmp_path: Path, row: dict[str, object] | str, problem: str) -> None:
    write(tmp_path, "hh_helpful_pairs_train.jsonl.gz", GOOD, "", GOOD, row, GOOD)
    with pytest.raises(ValueError, match=r"^task\.rm_train: ") as raised:
        load_pairs(task("hh", tmp_path), "rm_train")
    file = tmp_path / "hh_helpful_pairs_train.jsonl.gz"
    assert str(raised.value) == f"task.rm_train: {file}, line 4: {problem}"


def test_dialogues_that_share_no_answer_are_named(tmp_path: Path) -> None:
    write(tmp_path, "hh_helpful_pairs_train.jsonl.gz", {"chosen": ASKED, "rejected": "Other"})
    with pytest.raises(ValueError, match=r"line 1: the dialogues share no '\\n\\nAssistant:'; they must be the same"):
        load_pairs(task("hh", tmp_path, "task.rm_train.prompt=''"), "rm_train")


def test_a_template_over_a_missing_column_is_answered_with_the_columns_there_are(tmp_path: Path) -> None:
    write(tmp_path, "tldr_reddit_train.jsonl.gz", {"title": "A", "post": "B", "summary": "C"})
    rule = r"has no column 'subreddit'; set task.train.prompt to one of: title, post, summary$"
    with pytest.raises(ValueError, match=rule):
        load_prompt_texts(task("tldr", tmp_path), "train")
