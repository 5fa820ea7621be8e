"""A Ray cluster of the tests' own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import ray


@contextmanager
def cluster() -> Iterator[None]:
    """A local Ray cluster with more CPUs than the machine has, so that actors of several tests fit."""
    ray.init(
        address="local",
        num_cpus=32,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=200 * 2**20,
    )
    try:
        yield
    finally:
        ray.shutdown()
