"""Coalition scoring on a GPU: tokens per second, share of the bf16 matrix peak, against batches and prompt sharing.

    python benchmarks/coalitions_gpu.py --out benchmarks/results/coalitions_gpu

Reward models of 1 to 7 billion parameters with random weights in bfloat16; the coalitions of two responses at the
shapes of TL;DR and HH and of long responses, each token or each of some equal parts a player. Every engine computes
the same sequences: batches and prompt sharing a sample of them, scaled up, at the best of their batch sizes. Times are
medians of repeated runs, between synchronisations of the device. The peak is the rate of one 8192 x 8192 x 8192 product
in the same run; `floor` is the time over that of the trie's nodes at the rate of dense passes of 512 tokens. First a
small model's scores are compared with those of the CPU in float32.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from scar_ray.games import balanced, owen
from scar_ray.games.paired_tree import paired_tree
from scar_ray.records import BoolArray
from scar_ray.scoring.encoding import Encoded
from scar_ray.scoring.engines import Classifier, Engine, PlainBatches
from scar_ray.scoring.engines.forest import plant
from scar_ray.scoring.engines.shared_prompt import SharedPrompt
from scar_ray.scoring.engines.trie import TrieBlocks

VOCABULARY, EOS, PAD, BLANK = 32_000, 0, 1, 5
SAMPLE = 60_000
"""Tokens of the sequences on which the slow rivals are timed."""
RESPONSES = 2
"""Responses whose coalitions are scored in one call."""
LLAMA = {"intermediate_size": 8192, "num_attention_heads": 32, "num_key_value_heads": 8}
MODELS: dict[str, tuple[str, dict[str, int]]] = {
    "small": (
        "Llama",
        {"hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 8},
    ),
    "llama-1b": ("Llama", {"hidden_size": 2048, "num_hidden_layers": 16, **LLAMA}),
    "pythia-1b": (
        "GPTNeoX",
        {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 8},
    ),
    "llama-7b": (
        "Llama",
        {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32},
    ),
}


@dataclass(frozen=True, slots=True)
class Shape:
    """One response and the game of its units."""

    prompt: int
    response: int
    units: int
    """Players, of equal numbers of tokens."""
    game: str
    """owen: exact, on a balanced tree; flat: every player alone and everybody but that player."""


SHAPES = {
    "tldr": Shape(450, 53, 53, "owen"),
    "hh": Shape(200, 256, 256, "flat"),
    "long": Shape(512, 1024, 128, "flat"),
    "longest": Shape(512, 3584, 64, "flat"),
}


def new_model(name: str, dtype: torch.dtype, device: str) -> Classifier:
    """A model with random weights; the same ones on every device for float32."""
    kind, sizes = MODELS[name]
    options = {"vocab_size": VOCABULARY, "max_position_embeddings": 8192, "pad_token_id": PAD, "num_labels": 1}
    config = getattr(transformers, f"{kind}Config")(**sizes, **options, bos_token_id=EOS, eos_token_id=EOS)
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    with torch.device("cpu" if dtype == torch.float32 else device):
        model = getattr(transformers, f"{kind}ForSequenceClassification")(config)
    torch.set_default_dtype(torch.float32)
    return Classifier.of(model.to(device).eval(), causal=True, label=0)


def sequences_of(shape: Shape, masking: str, seed: int) -> list[Encoded]:
    """Distinct sequences of the coalitions of one random response, with the EOS at the end."""
    rng = np.random.default_rng(seed)
    prompt, response = rng.integers(10, VOCABULARY, shape.prompt), rng.integers(10, VOCABULARY, shape.response)
    tree = balanced(shape.units) if shape.game == "owen" else tuple(range(shape.units))
    coalitions_Cn: BoolArray = (owen if shape.game == "owen" else paired_tree)(tree).coalitions_Cn
    owner = np.arange(shape.response) * shape.units // shape.response
    rows = []
    for here in coalitions_Cn[:, owner]:
        kept = np.where(here, response, BLANK) if masking == "blank" else response[here]
        rows.append(Encoded((*prompt.tolist(), *kept.tolist(), EOS)))
    return list(dict.fromkeys(rows))


def timed(compute: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Median of the seconds of `repeats` runs, and the last result."""
    seconds = []
    for _ in range(repeats):
        torch.cuda.synchronize()
        started = time.perf_counter()
        result = compute()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds), result


def matrix_peak() -> float:
    """FLOP/s of a large bfloat16 product of random matrices."""
    left, right = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        left @ right
    seconds, _ = timed(lambda: [left @ right for _ in range(10)], 3)
    return 10 * 2 * 8192**3 / seconds


def flops(loaded: Classifier, depths_N: np.ndarray) -> float:
    """Of the linear maps and of attention to the ancestors, for nodes with so many ancestors, themselves included."""
    config = loaded.config
    linear = sum(p.numel() for name, p in loaded.model.named_parameters() if p.ndim == 2 and "embed" not in name)
    return float(len(depths_N) * 2 * linear + 4 * config.num_hidden_layers * config.hidden_size * depths_N.sum())


def dense_rate(loaded: Classifier) -> float:
    """Tokens per second of dense passes of 32 sequences of 512 tokens."""
    ids = torch.randint(10, VOCABULARY, (32, 512), device="cuda")
    with torch.no_grad():
        timed(lambda: loaded.backbone(input_ids=ids, use_cache=False), 2)
        seconds, _ = timed(lambda: loaded.backbone(input_ids=ids, use_cache=False), 5)
    return ids.numel() / seconds


def best_rival(engines: Sequence[Engine], sample: list[Encoded]) -> tuple[float, np.ndarray]:
    """Seconds of the sample at the best of the engines, and its scores."""
    group = [list(range(len(sample)))]
    engines[0].scores(sample[:8], [list(range(8))])
    runs = [timed(lambda e=engine: e.scores(sample, group), 2) for engine in engines]
    seconds, (scores, _) = min(runs, key=lambda run: run[0])
    return seconds, scores


def compare(loaded: Classifier, shape: Shape, masking: str, budgets: Sequence[float]) -> list[dict[str, Any]]:
    """Rows of the table, one for each memory budget (GiB) of the trie; not yet related to any peak."""
    games = [sequences_of(shape, masking, seed) for seed in range(RESPONSES)]
    sequences, starts = list(chain.from_iterable(games)), np.cumsum([0, *map(len, games)])
    groups = [list(range(first, last)) for first, last in pairwise(starts.tolist())]
    step = -(-sum(map(len, games[0])) // SAMPLE)
    sample = games[0][::step]
    scale = len(sequences) / len(sample)
    plain = [PlainBatches(loaded, batch_tokens=size, memory=8 * 2**30) for size in (2**14, 2**16)]
    sharing = [SharedPrompt(loaded, plain[0], batch_tokens=size, memory=16 * 2**30) for size in (2**14, 2**16)]
    plain_s, expected = best_rival(plain, sample)
    shared_s, _ = best_rival(sharing, sample)
    depths_N = np.concatenate([plant(game, [len(one) - 1 for one in game]).positions_N + 1 for game in games])
    rows = []
    for gib in budgets:
        engine = TrieBlocks(loaded, plain[0], memory=int(gib * 2**30))
        engine.scores(games[0], groups[:1])
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        trie_s, (found, nodes) = timed(lambda e=engine: e.scores(sequences, groups), 2)
        rows.append(
            {
                "coalitions": len(sequences),
                "tokens": sum(map(len, sequences)),
                "nodes": nodes,
                "budget_gib": gib,
                "peak_memory_gib": (torch.cuda.max_memory_allocated() - before) / 2**30,
                "trie_s": trie_s,
                "nodes_per_s": nodes / trie_s,
                "tflops": flops(loaded, depths_N) / trie_s / 1e12,
                "over_plain": plain_s * scale / trie_s,
                "over_shared": shared_s * scale / trie_s,
                "difference": float(np.abs(found[: len(games[0]) : step] - expected).max()),
                "range": float(np.ptp(expected)),
            }
        )
    return rows


def check_against_cpu() -> dict[str, float]:
    """Largest difference of the trie's scores on the GPU from single sequences on the CPU, and the scores' range."""
    shape, found = Shape(100, 32, 32, "owen"), {}
    torch.backends.cuda.matmul.allow_tf32 = False
    sequences = sequences_of(shape, "delete", 0)[::3]
    for dtype in (torch.float32, torch.bfloat16):
        here, there = new_model("small", torch.float32, "cpu"), new_model("small", torch.float32, "cuda")
        there.model.to(dtype)
        expected, _ = PlainBatches(here, batch_tokens=4096, memory=2**30).scores(sequences, [])
        engine = TrieBlocks(there, PlainBatches(there, batch_tokens=4096, memory=2**30), memory=2**30, block=300)
        scores, _ = engine.scores(sequences, [list(range(len(sequences)))])
        found[str(dtype).removeprefix("torch.")] = float(np.abs(scores - expected).max())
    return found | {"range": float(np.ptp(expected))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=["llama-1b", "llama-7b", "pythia-1b"])
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--memory-gib", nargs="+", type=float, default=[1.0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "coalitions_gpu")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    peak = matrix_peak()
    result: dict[str, Any] = {
        "device": torch.cuda.get_device_name(),
        "versions": {name: version(name) for name in ("numpy", "torch", "transformers")},
        "matrix_peak_tflops": peak / 1e12,
        "difference_from_cpu": check_against_cpu(),
        "rows": [],
    }
    print(json.dumps(result), flush=True)
    for name in arguments.models:
        loaded = new_model(name, torch.bfloat16, "cuda")
        rate = dense_rate(loaded)
        for shape in arguments.shapes:
            for masking in ("blank", "delete") if shape == "tldr" else ("delete",):
                for row in compare(loaded, SHAPES[shape], masking, arguments.memory_gib):
                    row["share_of_peak"] = row["tflops"] * 1e12 / peak
                    row["floor"] = row["trie_s"] * rate / row["nodes"]
                    result["rows"].append({"model": name, "shape": shape, "masking": masking} | row)
                    print(*(f"{k}={v:.3g}" if isinstance(v, float) else v for k, v in result["rows"][-1].items()))
                    sys.stdout.flush()
                    (arguments.out / "results.json").write_text(json.dumps(result, indent=1) + "\n")
        del loaded
        torch.cuda.empty_cache()


if __name__ == "__main__":
    sys.exit(main())
