"""Paths and their aliases."""

import pytest

from appliance.api.routing import path_aliases, path_pattern


@pytest.mark.parametrize(
    ("path", "aliases"),
    [
        (
            "/inference/v1/chat/completions",
            ["/inference/v1/chat/completions", "/v1/chat/completions", "/inference/v1/v1/chat/completions"],
        ),
        (
            "/v1/accounts/{account_id}/models",
            [
                "/v1/accounts/{account_id}/models",
                "/inference/v1/accounts/{account_id}/models",
                "/inference/v1/v1/accounts/{account_id}/models",
            ],
        ),
        ("/v1/accounts", ["/v1/accounts", "/inference/v1/accounts", "/inference/v1/v1/accounts"]),
        ("/verifyApiKey", ["/verifyApiKey"]),
    ],
)
def test_routes_answer_below_every_base_url_that_clients_are_given(path: str, aliases: list[str]) -> None:
    assert path_aliases(path) == aliases


def test_parameter_leaves_the_custom_verb_alone() -> None:
    assert path_pattern("/a/{x}/b/{y}:scale") == "/a/{x:[^/:]+}/b/{y:[^/:]+}:scale"


def test_parameter_with_a_pattern_of_its_own_keeps_it() -> None:
    assert path_pattern("/a/{x:.+}") == "/a/{x:.+}"
