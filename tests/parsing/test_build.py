"""`scar-ray parser build`, on a small treebank."""

import argparse
import json
from dataclasses import asdict

import pytest
from small_treebank import BRIEF, write_treebank

from scar_ray.commands import parser as command
from scar_ray.parsing import load_bracketer
from scar_ray.parsing.build import build
from scar_ray.parsing.evaluate import bracket_score
from scar_ray.parsing.treebank import read_treebank

HELD_OUT = 20


@pytest.fixture(autouse=True)
def few_held_out(monkeypatch):
    monkeypatch.setattr("scar_ray.parsing.build.HELD_OUT", HELD_OUT)


def test_the_build_leaves_a_parser_and_says_how_good_it_is(tmp_path):
    treebank = write_treebank(tmp_path / "treebank.zip", HELD_OUT + 40)
    lines, parser = [], tmp_path / "cache/parser"
    for _ in range(2):  # an earlier parser is replaced
        build(treebank, parser, BRIEF, lines.append)
    assert load_bracketer("treebank", parser).bracket(["the", "dog"]) == (0, 1)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["parser"]
    about = json.loads((parser / "parser.json").read_text())["about"]
    assert about["held_out"]["sentences"] == HELD_OUT
    assert about["held_out"] == asdict(bracket_score(load_bracketer("treebank", parser), read_treebank(treebank)[40:]))
    assert lines[0].startswith("40 trees to train on, 20 held out")
    assert lines[-3].startswith(f"held-out bracket F1 {about['held_out']['f1']:.3f} (")
    assert lines[-2] == f"parser: {parser}"
    assert "non-commercial use only: do not share" in lines[-1]


def test_a_treebank_without_sentences_to_spare_is_an_error(tmp_path):
    treebank = write_treebank(tmp_path / "treebank.zip", HELD_OUT)
    with pytest.raises(ValueError, match="needs more than 20 trees, 20 of them to measure; got 20"):
        build(treebank, tmp_path / "parser", BRIEF, print)


def test_a_folder_that_is_no_parser_is_not_touched(tmp_path):
    with pytest.raises(ValueError, match="exists and is no parser"):
        build(None, tmp_path, BRIEF, print)


def test_the_command_takes_a_treebank_and_a_folder(tmp_path):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    parsed = parser.parse_args(["build", "--treebank", str(tmp_path / "none.zip"), "--out", str(tmp_path / "out")])
    with pytest.raises(ValueError, match=r"none\.zip does not exist; get it with `pip install nltk"):
        command.run(parsed)
