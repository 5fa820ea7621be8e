"""Free ports. Imports nothing heavy: a process that is asked for a port would load it first."""

from __future__ import annotations

import socket

import ray


def free_address() -> tuple[str, int]:
    """This node's address and a port of it that is free now."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return ray.util.get_node_ip_address(), probe.getsockname()[1]
