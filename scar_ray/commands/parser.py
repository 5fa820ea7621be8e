"""`scar-ray parser build`: trains the constituency parser of span units."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=["build"], help="train from NLTK's treebank, some minutes on one core")
    parser.add_argument(
        "--treebank", type=Path, metavar="PATH", help="treebank.zip or its folder; default: NLTK's folders"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="the parser's folder; default: in the user's cache")


def run(parsed: argparse.Namespace) -> int:
    from scar_ray.parsing import parser_folder
    from scar_ray.parsing.build import build

    build(parsed.treebank, parsed.out or parser_folder())
    return 0
