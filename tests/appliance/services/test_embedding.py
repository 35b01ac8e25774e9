"""What a request may use before a worker has counted it; what each model can do is in the tests of the routes."""

import pytest

from appliance.services.embedding import Embedding, Ranking, embedding_demand, num_bytes_of, ranking_demand


def test_texts_have_no_more_tokens_than_bytes_and_marks_around_each() -> None:
    prompt = embedding_demand(Embedding(inputs=["é" * 10, "abcd"])).prompt
    assert prompt.at_most == 24 + 2 * 4
    assert prompt.likely == 6 + 2 * 4


def test_token_ids_are_what_they_are() -> None:
    prompt = embedding_demand(Embedding(inputs=[[1, 2], [3]])).prompt
    assert (prompt.likely, prompt.at_most) == (3, 3)


def test_a_query_is_read_with_each_document() -> None:
    one = ranking_demand(Ranking(query="q" * 100, documents=["d"] * 1)).prompt
    ten = ranking_demand(Ranking(query="q" * 100, documents=["d"] * 10)).prompt
    assert ten.at_most == 10 * one.at_most
    assert ten.likely == pytest.approx(10 * one.likely, rel=0.1)


def test_nothing_is_generated() -> None:
    demand = embedding_demand(Embedding(inputs=["a"]))
    assert demand.most.num_completion_tokens == 0


def test_sizes_are_those_of_the_text_as_it_is_sent() -> None:
    assert num_bytes_of(["aé"]) == 3
    assert num_bytes_of([[1, 2, 3]]) == 12
