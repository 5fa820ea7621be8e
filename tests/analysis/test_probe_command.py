"""`scar-ray probe` on tiny real models: what it prints and writes, and its error lines."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from scar_ray import cli
from scar_ray.analysis.probe import probe
from scar_ray.analysis.probe_data import read_pairs, read_responses
from scar_ray.analysis.probe_page import render
from scar_ray.config.schema import RewardModelConfig
from scar_ray.scoring import RewardModel
from scar_ray.tasks.grammar import reviews


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty reviews of the demo's grammar, two to a text."""
    file = tmp_path_factory.mktemp("data") / "reviews.jsonl"
    texts = [review.text for review in reviews(5, 80)]
    file.write_text(
        "".join(json.dumps({"text": f"{a} {b}"}) + "\n" for a, b in zip(texts[::2], texts[1::2], strict=True))
    )
    return file


def one_error(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(["probe", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    *bars, line = captured.err.splitlines()
    assert not [bar for bar in bars if bar and "Loading weights" not in bar]
    return line.removeprefix("scar-ray: error: ")


def test_the_command_prints_a_table_and_writes_json_and_page(
    reward_folders: dict[str, Path], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--count", "30", "--json", str(tmp_path / "out" / "probe.json"), "--html", str(tmp_path / "probe.html")]
    model = str(reward_folders["llama"])
    assert cli.main(["probe", "--reward-model", model, "--data", str(data), *options, "credit.max_units=8"]) == 0
    out = capsys.readouterr().out
    found = json.loads((tmp_path / "out" / "probe.json").read_text())
    assert list(found["maskings"]) == ["delete", "blank", "pad", "attention"]
    assert found["unsupported"]["mask"].startswith("credit.masking=mask: the tokenizer of ")
    assert (found["responses"], found["unit"]) == (30, "span")
    assert found["mean_units"] <= 8
    lines = out.splitlines()
    assert lines[0].startswith("30 responses of ")
    assert lines[2].split() == ["credit.masking", *found["maskings"]]
    half = next(line for line in lines if line.startswith("  50 % of the units removed"))
    told = [float(cell.replace("−", "-")) for cell in half.split()[-4:]]
    assert told == [pytest.approx(each["spearman"][2], abs=0.005) for each in found["maskings"].values()]
    assert " ".join(found["sentence"].split()) in " ".join(out.split())
    assert max(map(len, lines[2:-8])) <= 80
    page = (tmp_path / "probe.html").read_text()
    assert out.endswith(f"{tmp_path / 'probe.html'}\n")
    assert len(re.findall(r'<path class="mean" data-group="\d" d="M0[^"]*L', page)) >= 4
    assert found["sentence"] in page


def test_the_command_gives_what_the_function_gives_and_again(
    reward_folders: dict[str, Path], data: Path, tmp_path: Path
) -> None:
    model = RewardModel(RewardModelConfig(path=str(reward_folders["bert"])))
    responses = read_responses(read_pairs(data, 20, 12, 3), model.tokenizer)
    result = probe(model, responses, unit="word", seed=3)
    again = probe(model, responses, unit="word", seed=3)
    assert result.to_json() == again.to_json()
    assert list(result.measured) == ["delete", "pad", "attention"]
    options = ["--count", "20", "--words", "12", "--unit", "word", "--json", str(tmp_path / "a.json"), "seed=3"]
    command = ["probe", "--reward-model", str(reward_folders["bert"]), "--data", str(data), *options]
    assert cli.main(command) == 0
    assert json.loads((tmp_path / "a.json").read_text()) == json.loads(json.dumps(result.to_json()))


def test_the_scores_are_those_of_the_reward_model(reward_folders: dict[str, Path], data: Path) -> None:
    model = RewardModel(RewardModelConfig(path=str(reward_folders["llama"])))
    pairs = read_pairs(data, 20, 20, 0)
    result = probe(model, read_responses(pairs, model.tokenizer), unit="word")
    scores = []
    for pair in pairs:
        tok = model.tokenizer
        ids = [*tok(pair.prompt + pair.response)["input_ids"]]
        ids += [] if ids[-1] == tok.eos_token_id else [tok.eos_token_id]
        scores.append(model.model(tok.pad({"input_ids": [ids]}, return_tensors="pt")["input_ids"]).logits.item())
    assert result.measured["delete"].mean[-1] == pytest.approx(sum(scores) / 20, abs=1e-5)


def test_the_page_is_safe_whatever_the_model_is_called(reward_folders: dict[str, Path], data: Path) -> None:
    model = RewardModel(RewardModelConfig(path=str(reward_folders["llama"])))
    result = probe(model, read_responses(read_pairs(data, 20, 12, 0), model.tokenizer), unit="word")
    page = render(result, "<script>alert(1)</script>")
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "http" not in page.replace("http-equiv", "")


def test_error_lines(
    reward_folders: dict[str, Path], data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ["--reward-model", str(reward_folders["llama"])]
    missing = tmp_path / "none.jsonl"
    expected = f"{missing}: no such file; give a JSONL, CSV or parquet file"
    assert one_error(capsys, *model, "--data", str(missing)) == expected
    line = one_error(capsys, "--reward-model", str(tmp_path / "no"), "--data", str(data))
    assert line.startswith(f"reward model {tmp_path / 'no'}: ")
    assert one_error(capsys, *model, "--data", str(data), "--count", "5") == (
        "--count=5: correlations need at least 20 responses"
    )
    assert one_error(capsys, *model, "--data", str(data), "credit.alpha=0.5") == (
        "credit.alpha: has no effect on a probe, which takes model.reward.KEY, model.trust_remote_code, "
        "cluster.reward.batch_tokens, cluster.reward.engine, cluster.reward.memory_gib, credit.max_units, seed; "
        "leave it out"
    )
    assert one_error(capsys, *model, "--data", str(data), "--unit", "spam").startswith("credit.unit: must be one of ")


def test_a_response_longer_than_the_model_reads_is_named(
    reward_folders: dict[str, Path], data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--reward-model", str(reward_folders["llama"]), "--data", str(data), "model.reward.max_length=20"]
    line = one_error(capsys, *arguments)
    assert line.startswith(f"{data}: prompt ")
    assert line.endswith("; here --words=60 can be lowered")


def test_the_probe_needs_no_ray() -> None:
    program = "import sys, scar_ray.commands.probe, scar_ray.analysis.probe_page; print('ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_python_function_is_probed_with_the_maskings_that_texts_have(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = f"{Path(__file__).resolve().parents[2] / 'examples/rewards.py'}:praise"
    out = tmp_path / "probe.json"
    assert cli.main(["probe", "--reward-model", rules, "--data", str(data), "--count", "20", "--json", str(out)]) == 0
    found = json.loads(out.read_text())
    assert list(found["maskings"]) == ["delete", "blank"]
    assert list(found["unsupported"]) == ["mask", "pad", "attention"]
    assert "reads text; use delete or blank" in " ".join(capsys.readouterr().out.split())  # wrapped at 80 columns
