"""The port of the learner's group."""

import os
import socket
import subprocess
import sys

import pytest

pytestmark = pytest.mark.stack

JOIN = """
import sys
from scar_ray.workers.deepspeed_engine import open_group
try:
    open_group(0, 1, ("127.0.0.1", int(sys.argv[1])), "cpu", 30)
except OSError as error:
    print(error)
"""


def test_a_port_in_use_is_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        environment = {**os.environ, "DS_ACCELERATOR": "cpu", "OMP_NUM_THREADS": "1"}
        joined = subprocess.run(
            [sys.executable, "-c", JOIN, str(port)], capture_output=True, text=True, env=environment, check=True
        )
    assert joined.stdout.splitlines()[-1] == (
        f"port {port} is in use: another program took it while the learner was starting; start the run again"
    )
