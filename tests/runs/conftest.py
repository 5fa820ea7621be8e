"""The cluster of the runs."""

from collections.abc import Iterator

import local_ray
import pytest


@pytest.fixture(scope="package")
def ray_cluster() -> Iterator[None]:
    """Ends with these tests: the process goes on with others, and an idle cluster takes a tenth of a core."""
    with local_ray.cluster():
        yield
