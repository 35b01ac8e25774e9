from runtime.embedding.request import EmbeddingRequest, Row, Text


def test_the_longest_text_is_popped_first_and_of_equals_the_first() -> None:
    request = EmbeddingRequest("r", "t", [Text([1] * length) for length in (2, 5, 2, 9)])
    assert request.num_tokens == 18
    assert [request.waiting.pop() for _ in range(4)] == [3, 1, 0, 2]


def test_a_row_knows_its_text() -> None:
    request = EmbeddingRequest("r", "t", [Text([1]), Text([2, 3])])
    assert Row(request, 1).text.num_tokens == 2
