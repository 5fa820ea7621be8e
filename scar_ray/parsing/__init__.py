"""Constituency parsers for span units: one trained from NLTK's treebank, and adapters for benepar and stanza.

`load_bracketer` gives a parser by its name; `parallel.ParallelParser` runs one in processes beside the training.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, get_args

from scar_ray.text.parse import Bracketer

ParserName = Literal["heuristic", "treebank", "benepar", "stanza"]


def parser_folder() -> Path:
    """Where `scar-ray parser build` leaves the trained parser: `$XDG_CACHE_HOME/scar_ray/parser`, or in `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "scar_ray" / "parser"


def load_bracketer(name: str, folder: Path | None = None) -> Bracketer | None:
    """The parser of that name; None for `heuristic`, which `text.parse.parse` does by itself.

    `folder` holds the trained parser of `treebank`; default `parser_folder()`. ValueError when the name is none of
    ParserName, the trained parser has not been built, or the package or its model is not installed.
    """
    if name == "heuristic":
        return None
    if name == "treebank":
        from scar_ray.parsing.model import SpanParser

        return SpanParser.load(folder or parser_folder())
    if name == "benepar":
        from scar_ray.parsing.adapters import BeneparBracketer

        return BeneparBracketer()
    if name == "stanza":
        from scar_ray.parsing.adapters import StanzaBracketer

        return StanzaBracketer()
    raise ValueError(f"parser: must be one of {', '.join(get_args(ParserName))}; got {name}")
