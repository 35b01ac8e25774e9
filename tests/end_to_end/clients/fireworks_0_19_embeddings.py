"""Runs under fireworks-ai 0.19.20 alone: embeds and ranks, and prints what it saw, as JSON.

Arguments: base URL, key, a model that embeds, one that ranks. Imports nothing of ours.
"""

import json
import sys
from importlib import import_module
from typing import Any

# By name: type checkers see the newer release, which has other things under this one.
old_client: Any = import_module("fireworks.client")


def main() -> None:
    base_url, api_key, embedder, ranker = sys.argv[1:]
    client = old_client.Fireworks(base_url=base_url, api_key=api_key)
    embedded = client.embeddings.create(model=embedder, input="a fire")
    ranked = client.rerank.create(model=ranker, query="warm", documents=["a fire", "snow", "tokens"], top_n=2)
    told = {
        "embedding": embedded.data[0].embedding,
        "prompt_tokens": embedded.usage.prompt_tokens,
        "results": [row.model_dump() for row in ranked.results],
    }
    print(json.dumps(told))  # in the last line: the package itself prints what it sends


main()
