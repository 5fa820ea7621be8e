"""Search as a reward: retrievers, NDCG, and the reward function of `task=product_search`.

    scar-ray train task=product_search model.reward.options.retriever=ngrams

A retriever is made from a `Catalogue` and finds rows of it for queries. To add one, write a class and name it,
`model.reward.options.retriever=my_search.py:Mine`:

    class Mine:
        def __init__(self, catalogue, **options):  # catalogue.ids, catalogue.texts; options: `retriever_options`
            ...

        def search(self, queries, k):  # for each query the rows of the best k products, best first; fewer are fine
            ...
"""

from scar_ray.search.reward import SearchReward as SearchReward
