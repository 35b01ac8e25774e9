import pytest

from appliance.cli.words import collection_of, noun_of, plural, spellings


@pytest.mark.parametrize(
    ("noun", "expected"),
    [
        ("model", "models"),
        ("api-key", "api-keys"),
        ("policy", "policies"),
        ("billing", "billing"),
        ("audit-logs", "audit-logs"),
    ],
)
def test_nouns_have_a_plural(noun: str, expected: str) -> None:
    assert plural(noun) == expected


def test_a_noun_is_understood_in_both_numbers() -> None:
    assert spellings("model") == {"model", "models"}
    assert spellings("audit-logs") == {"audit-log", "audit-logs"}


def test_nouns_and_collections_are_translated_both_ways() -> None:
    for noun, collection in [("deployed-model", "deployedModels"), ("model", "models"), ("api-key", "apiKeys")]:
        assert collection_of(noun) == collection
        assert noun_of(collection) == plural(noun)
