"""What is read from a treebank, and what is said when there is none."""

import zipfile
from pathlib import Path

import pytest
from small_treebank import write_treebank

from scar_ray.parsing.treebank import Sentence, find_treebank, read_treebank


def trees(folder: Path, text: str) -> list[Sentence]:
    (folder / "wsj_0001.mrg").write_text(text)
    return read_treebank(folder)


def test_a_tree_becomes_words_tags_and_spans(tmp_path):
    text = "( (S (NP-SBJ (PRP I)) (VP (VBD saw)\n (NP (DT the) (NN dog))) (. .)) )"
    assert trees(tmp_path, text) == [
        Sentence(
            ("I", "saw", "the", "dog", "."),
            ("PRP", "VBD", "DT", "NN", "."),
            {(0, 5): "S", (1, 4): "VP", (2, 4): "NP"},
        )
    ]


def test_traces_leave_no_words_and_the_nodes_around_them_collapse(tmp_path):
    text = "( (S (NP (-NONE- *)) (VP (TO to) (VP (VB go) (ADVP (-NONE- *T*-1))))) )"
    assert trees(tmp_path, text) == [Sentence(("to", "go"), ("TO", "VB"), {(0, 2): "S+VP"})]


def test_a_zip_file_and_its_unpacked_folder_hold_the_same_sentences(tmp_path):
    zipped = write_treebank(tmp_path / "treebank.zip", 10)
    with zipfile.ZipFile(zipped) as archive:
        archive.extractall(tmp_path / "unpacked")
    sentences = read_treebank(zipped)
    assert len(sentences) == 10
    assert sentences[0].tags[0] == "DT"
    assert read_treebank(tmp_path / "unpacked") == sentences


@pytest.mark.parametrize("text", ["( (S (NP (PRP I)) )", "( (S (NP (PRP I)))) )", "word ( (S (NP (PRP I) (VBP am))) )"])
def test_brackets_that_do_not_match_are_an_error_that_names_the_file(tmp_path, text):
    with pytest.raises(ValueError, match=r"wsj_0001\.mrg: brackets do not match"):
        trees(tmp_path, text)


def test_a_file_that_is_no_zip_and_a_folder_without_trees_are_errors(tmp_path):
    with pytest.raises(ValueError, match="holds no trees"):
        read_treebank(tmp_path)
    (tmp_path / "treebank.zip").write_text("not a zip")
    with pytest.raises(ValueError, match="neither a zip file nor a folder"):
        read_treebank(tmp_path / "treebank.zip")


def test_the_treebank_is_found_where_nltk_puts_it(tmp_path, monkeypatch):
    (tmp_path / "corpora").mkdir()
    path = write_treebank(tmp_path / "corpora/treebank.zip", 2)
    monkeypatch.setenv("NLTK_DATA", f"/nonexistent:{tmp_path}")
    assert find_treebank() == path


def test_a_missing_treebank_says_how_to_get_it(tmp_path):
    with pytest.raises(ValueError, match=r"python -m nltk\.downloader treebank.*--treebank PATH"):
        find_treebank(tmp_path / "nothing.zip")
