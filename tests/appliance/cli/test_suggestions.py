from pathlib import Path

import pytest

from appliance.cli.credentials import Asked
from appliance.cli.suggestions import noun_meant, suggest
from tests.appliance.cli.conftest import Hearth


@pytest.mark.parametrize(
    ("parameter", "verb", "noun", "is_first", "expected"),
    [
        ("deployment", "delete", "deployment", True, "deployment"),
        ("name", "update", "deployed-model", True, "deployed-model"),
        ("model", "create", "deployment", True, "model"),
        ("draft_model", "update", "deployment", False, "model"),
        ("base_model", "create", "model", False, "model"),
        ("deployment_id", "create", "deployment", False, None),
        ("model_id", "create", "model", True, None),
        ("deployment", "deploy", None, False, "deployment"),
    ],
)
def test_a_parameter_takes_the_ids_of_what_it_names(
    parameter: str, verb: str, noun: str | None, is_first: bool, expected: str | None
) -> None:
    assert noun_meant(parameter, verb, noun, is_first) == expected


@pytest.fixture
def environment(hearth: Hearth, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HEARTH_API_KEY", "FIREWORKS_API_KEY", "HEARTH_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in hearth.environment.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("environment")
def test_ids_are_those_that_begin_so_and_models_include_the_librarys(model_id: str) -> None:
    assert suggest("models", Asked(), model_id[:5]) == [model_id]
    assert suggest("models", Asked(), "ember-c") == ["ember-chat"]
    assert len(suggest("apiKeys", Asked(), "")) >= 1
    assert "hearth" in suggest("accounts", Asked(), "")


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(
    "asked",
    [
        Asked(base_url="http://127.0.0.1:1"),
        Asked(base_url="no url"),
        Asked(api_key="fw_wrong"),
        Asked(account_id="nobodys"),
    ],
)
def test_where_none_can_be_had_there_are_none_and_no_error(asked: Asked) -> None:
    assert list(suggest("deployments", asked, "")) == []


@pytest.mark.usefixtures("environment")
def test_a_file_of_credentials_that_is_refused_is_no_error_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hearth").mkdir()
    (tmp_path / "hearth" / "credentials.ini").write_text("nonsense")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert list(suggest("models", Asked(), "")) == []
