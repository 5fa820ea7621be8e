"""A retriever behind an HTTP endpoint: `model.reward.options.retriever=http://host:port/search`.

Each call is one POST of JSON, `{"queries": ["red shoes", ...], "k": 10}`, which is answered by `{"products": [["B07",
...], ...]}`: for each query the ids of the best k products, best first. Busy endpoints are asked again as rewards are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from scar_ray.scoring.http import Endpoint

if TYPE_CHECKING:
    from scar_ray.tasks.catalogue import Catalogue


class Remote:
    """A search service; options are those of `scar_ray.scoring.http`."""

    waits = True

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        url: str,
        timeout_s: float = 60.0,
        retries: int = 6,
        backoff_s: float = 0.5,
        key_env: str = "",
    ) -> None:
        self._row_of = {key: row for row, key in enumerate(catalogue.ids)}
        self._url = url
        self._endpoint = Endpoint(
            "the retriever",
            "model.reward.options.retriever_options",
            url,
            timeout_s=timeout_s,
            retries=retries,
            backoff_s=backoff_s,
            key_env=key_env,
        )

    def search(self, queries: Sequence[str], k: int) -> list[list[int]]:
        """Rows of what the service finds. RewardUnavailable where it does not answer, ValueError for a wrong answer."""
        found = self._endpoint.ask({"queries": list(queries), "k": k}, "products")
        if len(found) != len(queries) or not all(isinstance(ids, list) for ids in found):
            raise ValueError(f"{self._url} must answer with a list of product ids for each of {len(queries)} queries")
        unknown = next((key for ids in found for key in ids if str(key) not in self._row_of), None)
        if unknown is not None:
            raise ValueError(f"{self._url} found product {unknown!r}, which is not in the catalogue")
        return [[self._row_of[str(key)] for key in ids] for ids in found]
