"""Time of the coalitions of one response: shap's PartitionExplainer, padded batches, prompt sharing and the trie.

    MALLOC_TOP_PAD_=268435456 MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=8589934592 OMP_NUM_THREADS=1 \\
        python benchmarks/coalitions.py --shapes imdb tldr --models llama gpt2

The same coalitions, exact Owen value and paired tree of a balanced tree over the tokens, filled with a blank and
deleted, through models with random weights (hidden 256, 4 layers, float32). Padded batches and shap are timed on a
sample of the coalitions and scaled up; batch sizes are the best of those tried. Times are CPU seconds of one thread,
so that other work on the machine counts little. `floor` is the time of the trie's tokens at the rate of dense passes
of 512-token sequences of the same model.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from scar_ray.games import Plan, balanced, owen, paired_tree
from scar_ray.scoring.encoding import Encoded
from scar_ray.scoring.engines import Classifier, Engine, PlainBatches
from scar_ray.scoring.engines.shared_prompt import SharedPrompt
from scar_ray.scoring.engines.trie import TrieBlocks

SHAPES = {"imdb": (8, 24), "tldr": (450, 53), "hh": (200, 256)}
"""Tokens of prompt and response."""
GAMES: dict[str, Callable[[Any], Plan]] = {"owen": owen, "paired_tree": paired_tree}
VOCABULARY, EOS, PAD, BLANK = 4000, 0, 1, 5
MEMORY = 2**30
SAMPLE = 96
"""Coalitions on which the slow rivals are timed."""


def new_model(kind: str) -> Classifier:
    sizes = {"vocab_size": VOCABULARY, "hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4}
    options: dict[str, Any] = {"max_position_embeddings": 1024, "pad_token_id": PAD, "num_labels": 1}
    name = {"llama": "Llama", "gpt2": "GPT2", "bert": "Bert"}[kind]
    if kind != "gpt2":
        options["intermediate_size"] = 1024
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**sizes, **options, bos_token_id=EOS, eos_token_id=EOS)
    model = getattr(transformers, f"{name}ForSequenceClassification")(config).eval()
    return Classifier.of(model, causal=kind != "bert", label=0)


def sequences_of(prompt: Sequence[int], response: np.ndarray, coalitions_Cn: np.ndarray, masking: str) -> list[Encoded]:
    """Distinct sequences of the coalitions, each token a unit, with the EOS at the end."""
    rows = (np.where(here, response, BLANK) if masking == "blank" else response[here] for here in coalitions_Cn)
    return list(dict.fromkeys(Encoded((*prompt, *row.tolist(), EOS)) for row in rows))


def timed(compute: Callable[[], Any]) -> tuple[float, Any]:
    started = time.process_time()
    result = compute()
    return time.process_time() - started, result


def best(engines: dict[int, Engine], sequences: list[Encoded], sample: Sequence[int]) -> tuple[float, int, np.ndarray]:
    """Seconds for all sequences at the best of the batch sizes, estimated from the sample; that size; its scores."""
    part = [sequences[row] for row in sample]
    runs = {size: timed(lambda e=engine: e.scores(part, [list(range(len(part)))])) for size, engine in engines.items()}
    size = min(runs, key=lambda key: runs[key][0])
    return runs[size][0] * len(sequences) / len(part), size, runs[size][1][0]


def shap_seconds(plain: PlainBatches, prompt: Sequence[int], response: np.ndarray, count: int, masking: str) -> float:
    """PartitionExplainer on the tokens with the balanced tree; its time for `count` coalitions from SAMPLE of them."""
    import shap
    from scipy.cluster.hierarchy import linkage

    def scores(rows: np.ndarray) -> np.ndarray:
        found = [
            Encoded((*prompt, *(np.where(row > 0, response, BLANK) if masking == "blank" else response[row > 0]), EOS))
            for row in rows.reshape(len(rows), -1)
        ]
        return plain.scores(found, [])[0]

    def masker(mask: np.ndarray, x: np.ndarray) -> np.ndarray:
        return (x * mask).reshape(1, -1)

    masker.clustering = linkage(np.arange(len(response), dtype=float)[:, None], "complete")  # type: ignore[attr-defined]
    masker.shape = lambda _: (1, len(response))  # type: ignore[attr-defined]
    explainer = shap.PartitionExplainer(scores, masker)
    ones = np.ones((1, len(response)))
    seconds, _ = timed(lambda: explainer(ones, max_evals=SAMPLE, batch_size=32, silent=True))
    return seconds * count / SAMPLE


def dense_rate(loaded: Classifier) -> float:
    """Tokens per second of dense forward passes."""
    ids = torch.randint(10, VOCABULARY, (4, 512))
    with torch.no_grad():
        loaded.backbone(input_ids=ids)
        seconds, _ = timed(lambda: [loaded.backbone(input_ids=ids) for _ in range(3)])
    return 3 * ids.numel() / seconds


def compare(loaded: Classifier, shape: str, game: str, masking: str) -> dict[str, Any]:
    """One row of the table."""
    n_prompt, n_response = SHAPES[shape]
    rng = np.random.default_rng(0)
    prompt, response = rng.integers(10, VOCABULARY, n_prompt).tolist(), rng.integers(10, VOCABULARY, n_response)
    sequences = sequences_of(prompt, response, GAMES[game](balanced(n_response)).coalitions_Cn, masking)
    sample = list(range(0, len(sequences), max(1, len(sequences) // SAMPLE)))
    plain = {size: PlainBatches(loaded, batch_tokens=size, memory=MEMORY) for size in (1024, 4096, 16384)}
    row: dict[str, Any] = {"shape": shape, "game": game, "masking": masking, "coalitions": len(sequences)}
    row["tokens"] = sum(map(len, sequences))
    row["plain_s"], row["plain_batch"], expected = best(plain, sequences, sample)
    row["shap_s"] = shap_seconds(plain[row["plain_batch"]], prompt, response, len(sequences), masking)
    if not loaded.causal:
        return row
    rate, base, every = dense_rate(loaded), plain[row["plain_batch"]], [list(range(len(sequences)))]
    sharing = {size: SharedPrompt(loaded, base, batch_tokens=size, memory=MEMORY) for size in (4096, 16384)}
    _, size, _ = best(sharing, sequences, sample)
    row["shared_s"], _ = timed(lambda: sharing[size].scores(sequences, every))
    row["trie_s"], (found, nodes) = timed(lambda: TrieBlocks(loaded, base, memory=MEMORY).scores(sequences, every))
    row |= {"shared_batch": size, "nodes": nodes, "floor": row["trie_s"] * rate / nodes}
    row["difference"] = float(np.abs(found[sample] - expected).max())
    row["over_best_of_plain_and_shap"] = min(row["plain_s"], row["shap_s"]) / row["trie_s"]
    row["over_shared"] = row["shared_s"] / row["trie_s"]
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--games", nargs="+", choices=GAMES, default=list(GAMES))
    parser.add_argument("--models", nargs="+", choices=["llama", "gpt2", "bert"], default=["llama", "gpt2", "bert"])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "coalitions")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    versions = {name: version(name) for name in ("numpy", "shap", "torch", "transformers")}
    for model in arguments.models:
        loaded = new_model(model)
        for shape in arguments.shapes:
            for game in arguments.games:
                for masking in ("blank", "delete"):
                    row = {"model": model} | compare(loaded, shape, game, masking)
                    row |= {"machine": f"1 thread, {platform.machine()}, shared", "versions": versions}
                    (arguments.out / f"{model}-{shape}-{game}-{masking}.json").write_text(json.dumps(row) + "\n")
                    print({key: round(v, 3) if isinstance(v, float) else v for key, v in row.items()}, flush=True)


if __name__ == "__main__":
    sys.exit(main())
