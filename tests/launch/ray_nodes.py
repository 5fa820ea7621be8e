"""Ray nodes of a test's own, started and stopped as processes: other Ray clusters of the machine are left alone."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
POLL_S = 0.5
ATTEMPTS = 3


def free_port() -> int:
    """A port outside the range that Ray gives to its workers (10002-19999)."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port >= 20_000:
            return port


class Nodes:
    """A head and its workers on this machine, each in a process group of its own."""

    def __init__(self, folder: Path) -> None:
        """`folder` holds the temporary folders of the nodes; its path must be short: Ray puts sockets into it."""
        self.folder = folder
        self.gcs, self.dashboard = free_port(), free_port()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        self.environment = environment | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{self.dashboard}",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",  # as in conftest.py
        }
        self._running: list[subprocess.Popen[bytes]] = []

    def start_head(self, cpus: int) -> None:
        """The README's first line, with ports and a folder of the test's own."""
        ports = (f"--port={self.gcs}", f"--dashboard-port={self.dashboard}", f"--ray-client-server-port={free_port()}")
        self._start("head", *ports, f"--num-cpus={cpus}")

    def start_worker(self, cpus: int) -> None:
        """The README's line for every other machine; here a second node on this one."""
        self._start("worker", f"127.0.0.1:{self.gcs}", f"--num-cpus={cpus}")

    def _start(self, *arguments: str) -> None:
        """Ray gives a node 30 s to come up, which a busy machine may exceed: then it is started once more."""
        for _ in range(ATTEMPTS):
            log = self._launch(*arguments)
            while self._running[-1].poll() is None:
                if "Ray runtime started" in log.read_text():
                    return
                time.sleep(POLL_S)
        raise AssertionError(log.read_text())

    def _launch(self, *arguments: str) -> Path:
        name = f"node{len(self._running)}"
        log = self.folder / f"{name}.log"
        command = [
            str(ROOT / "launch/start_node.sh"),
            *arguments,
            "--block",
            # Nodes that share a folder remove each other's copies of the code.
            f"--temp-dir={self.folder / name}",
            f"--dashboard-agent-listen-port={free_port()}",
            "--min-worker-port=0",
            "--max-worker-port=0",
            f"--object-store-memory={100 * 2**20}",
        ]
        with log.open("wb") as out:
            process = subprocess.Popen(
                command, env=self.environment, stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True
            )
        self._running.append(process)
        return log

    def stop(self) -> None:
        """Ends the nodes, and whatever of theirs is still there."""
        for process in reversed(self._running):
            process.send_signal(signal.SIGTERM)
        psutil.wait_procs([psutil.Process(process.pid) for process in self._running if process.poll() is None], 20)
        left = [process for process in psutil.process_iter(["cmdline"]) if self._ours(process)]
        for process in left:
            process.kill()
        psutil.wait_procs(left, 20)

    def _ours(self, process: psutil.Process) -> bool:
        return any(str(self.folder) in part for part in process.info["cmdline"] or ())
