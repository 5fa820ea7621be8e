"""Parsing in processes: the same parses, limits, and processes that die."""

import os
import signal
from pathlib import Path

import pytest

from scar_ray.parsing import load_bracketer
from scar_ray.parsing.parallel import ParallelParser
from scar_ray.text.parse import parse

TEXTS = [f"the dog sees the {noun}. The cat likes the old bird of the garden." for noun in ("cat", "bird", "child")]
LONG_S = 120.0


@pytest.fixture(scope="module")
def pool(parser_folder):
    with ParallelParser("treebank", processes=2, seconds_per_text=LONG_S, folder=parser_folder) as pool:
        yield pool


def processes(parser):
    return [worker.process for worker in parser._workers]


def test_parses_are_those_of_the_parser_in_any_order(pool, parser_folder):
    before = pool.counts
    bracketer = load_bracketer("treebank", parser_folder)
    pool.prefetch(TEXTS)
    assert [pool.parse(text) for text in reversed(TEXTS)] == [parse(text, bracketer) for text in reversed(TEXTS)]
    assert pool.parse("") == parse("")
    counts = pool.counts
    assert (counts.parsed - before.parsed, counts.fallbacks, counts.late) == (4, 0, 0)
    assert counts.seconds > before.seconds


def test_sentences_that_are_too_long_are_counted(pool):
    before = pool.counts
    found = pool.parse("the dog sees the cat. " + "dog " * 200)
    assert found.fallbacks == 1
    assert pool.counts.fallbacks == before.fallbacks + 1
    assert pool.counts.late == before.late


def test_a_text_is_parsed_and_counted_once(pool):
    first = pool.parse("the bird follows the dog.")
    before = pool.counts
    assert pool.parse("the bird follows the dog.") is first
    assert pool.counts == before


def test_processes_compute_in_one_thread_and_the_environment_here_stays(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    with ParallelParser("heuristic", processes=1, seconds_per_text=LONG_S) as parser:
        (process,) = processes(parser)
        theirs = Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
        assert {b"OMP_NUM_THREADS=1", b"MKL_NUM_THREADS=1", b"OPENBLAS_NUM_THREADS=1"} <= set(theirs)
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "MKL_NUM_THREADS" not in os.environ


def test_a_text_is_ready_once_its_parse_is_there(pool):
    text = "the child follows the old bird."
    assert not pool.ready(text)
    pool.parse(text)
    assert pool.ready(text)


def test_ctrl_c_leaves_the_processes_to_finish_the_step(pool):
    before = processes(pool)
    for process in before:
        os.kill(process.pid, signal.SIGINT)
    assert [pool.parse(f"the dog likes {number} cats.").fallbacks for number in range(4)] == [0, 0, 0, 0]
    assert processes(pool) == before


def test_a_process_that_dies_is_replaced(pool):
    before = processes(pool)
    for process in before:
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    lost = [pool.parse(f"the dog sees {number} birds.") for number in range(2)]
    assert [found.fallbacks for found in lost] == [1, 1]
    assert pool.parse("the dog sees the small bird.").fallbacks == 0
    assert pool.counts.late == 2
    assert not {process.pid for process in before} & {process.pid for process in processes(pool)}


def test_a_text_that_takes_too_long_gets_the_heuristics_tree_and_keeps_it(parser_folder):
    text = "the dog sees the cat. the bird likes the old child."
    with ParallelParser("treebank", processes=1, seconds_per_text=LONG_S, folder=parser_folder) as parser:
        (process,) = processes(parser)
        os.kill(process.pid, signal.SIGSTOP)  # a parser that hangs
        parser._seconds = 0.2
        found = parser.parse(text)
        assert (found.tree, found.fallbacks) == (parse(text).tree, 2)
        parser._seconds = LONG_S
        assert parser.parse(text) is found
        assert parser.parse("the dog sees the bird.").fallbacks == 0
        assert (parser.counts.parsed, parser.counts.fallbacks, parser.counts.late) == (2, 2, 1)


def test_the_oldest_texts_are_forgotten():
    with ParallelParser("heuristic", processes=1, seconds_per_text=LONG_S, cache=2) as parser:
        for text in ("a", "b", "c", "a", "a"):
            parser.parse(text)
        assert parser.counts.parsed == 4


def test_closing_ends_the_processes_even_with_texts_waiting(parser_folder):
    parser = ParallelParser("treebank", processes=2, seconds_per_text=LONG_S, folder=parser_folder)
    parser.prefetch([f"the dog sees {number} cats." for number in range(500)])
    started = processes(parser)
    parser.close()
    assert [process.is_alive() for process in started] == [False, False]


def test_a_parser_that_cannot_be_loaded_is_one_line(tmp_path):
    with pytest.raises(ValueError, match="run `scar-ray parser build` first"):
        ParallelParser("treebank", processes=1, seconds_per_text=1.0, folder=tmp_path)


def test_numbers_must_be_positive():
    with pytest.raises(ValueError, match="processes must be above 0, got 0"):
        ParallelParser("heuristic", processes=0, seconds_per_text=1.0)
