import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import Code, HearthError
from appliance.names import ID_LENGTH_MAX, ResourceName, generate_id, last_segment, parse_name, validate_id

VALID_IDS = st.from_regex(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)


@given(VALID_IDS, VALID_IDS)
def test_a_name_is_read_as_it_was_written(account_id: str, model_id: str) -> None:
    name = ResourceName(account_id, "models", model_id)
    assert parse_name(str(name), "models", "model") == name


@pytest.mark.parametrize(
    "text",
    [
        "",
        "poet",
        "models/poet",
        "accounts/acme/deployments/poet",
        "accounts/acme/models/poet/versions/1",
        "/accounts/acme/models/poet",
        "accounts//models/poet",
        "accounts/acme/models/../../etc",
        "accounts/ACME/models/poet",
    ],
)
def test_what_is_no_name_of_the_collection_is_refused(text: str) -> None:
    with pytest.raises(HearthError) as caught:
        parse_name(text, "models", "model")
    assert (caught.value.code, caught.value.param) == (Code.INVALID, "model")


@pytest.mark.parametrize(
    ("resource_id", "rule"),
    [
        ("", "empty"),
        ("a" * (ID_LENGTH_MAX + 1), "at most 63"),
        ("Poet", "only"),
        ("po_et", "only"),
        ("poet\n", "only"),
        ("pöt", "only"),
        ("1poet", "digit"),
        ("-poet", "'-'"),
        ("poet-", "'-'"),
    ],
)
def test_an_id_that_breaks_a_rule_is_told_which(resource_id: str, rule: str) -> None:
    with pytest.raises(HearthError, match=rule) as caught:
        validate_id(resource_id, "modelId")
    assert caught.value.param == "modelId"
    assert len(caught.value.message) < 200


@given(VALID_IDS)
def test_an_id_within_the_rules_is_returned(resource_id: str) -> None:
    assert validate_id(resource_id, "modelId") == resource_id


def test_an_id_may_be_given_as_a_full_name_of_the_paths_account() -> None:
    assert last_segment("poet", "acme", "models", "model") == "poet"
    assert last_segment("accounts/acme/models/poet", "acme", "models", "model") == "poet"
    with pytest.raises(HearthError, match="another account"):
        last_segment("accounts/globex/models/poet", "acme", "models", "model")


@pytest.mark.parametrize("length", [1, 12, ID_LENGTH_MAX])
def test_generated_ids_are_valid_and_differ(length: int) -> None:
    made = {generate_id(length) for _ in range(200)}
    assert all(len(validate_id(each, "id")) == length for each in made)
    assert all(each[0] in string.ascii_lowercase for each in made)
    assert length == 1 or len(made) == 200
