"""`scar-ray parser build`: from the treebank to a parser on the user's disk."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from scar_ray.parsing.evaluate import bracket_score
from scar_ray.parsing.training import Recipe, train
from scar_ray.parsing.treebank import HELD_OUT, LICENCE, find_treebank, read_treebank


def build(treebank: Path | None, out: Path, recipe: Recipe | None = None, log: Callable[[str], object] = print) -> None:
    """Trains on all trees but the last HELD_OUT, reports the F1 on those, and leaves the parser in `out`.

    A stopped build leaves nothing behind and a parser that is there as it was. ValueError when the treebank is
    missing or too small, or `out` is something else than an earlier parser.
    """
    recipe = recipe or Recipe()
    if out.exists() and not (out / "parser.json").exists():
        raise ValueError(f"parser: {out} exists and is no parser; name a new folder with --out")
    sentences = read_treebank(find_treebank(treebank))
    if len(sentences) <= HELD_OUT:
        raise ValueError(
            f"treebank: needs more than {HELD_OUT} trees, {HELD_OUT} of them to measure; got {len(sentences)}"
        )
    log(f"{len(sentences) - HELD_OUT} trees to train on, {HELD_OUT} held out; some minutes on one core")
    start = time.monotonic()
    parser = train(sentences[:-HELD_OUT], recipe, log)
    seconds = time.monotonic() - start
    start = time.monotonic()
    whole = bracket_score(parser, sentences[-HELD_OUT:])
    each = (time.monotonic() - start) / whole.sentences
    short = bracket_score(parser, sentences[-HELD_OUT:], max_words=40)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f"{out.name}-") as temporary:
        folder = Path(temporary) / "parser"
        folder.mkdir()
        parser.save(folder, {"held_out": asdict(whole), "held_out_40": asdict(short), "licence": LICENCE})
        if out.exists():
            out.rename(Path(temporary) / "before")
        folder.rename(out)
    log(
        f"held-out bracket F1 {whole.f1:.3f} ({short.f1:.3f} up to 40 words), {whole.f1_inner:.3f} without the whole "
        f"sentences; {1000 * each:.0f} ms per sentence; trained in {seconds:.0f} s"
    )
    log(f"parser: {out}")
    log(f"licence: {LICENCE}")
