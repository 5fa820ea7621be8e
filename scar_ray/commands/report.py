"""`scar-ray report`: one page on runs."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folder")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="the page; default: report.html in the first run folder"
    )


def run(parsed: argparse.Namespace) -> int:
    from scar_ray.report import write_report

    print(write_report(parsed.runs, parsed.out))
    return 0
