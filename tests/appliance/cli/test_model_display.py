import pytest

from appliance.cli.credentials import Asked
from appliance.cli.model_display import precision_of, show_model, show_models
from appliance.cli.session import Session
from appliance.sdk.models import ConversationConfig, Model

TEXT = Session(Asked(None, None, None, None))


def test_a_long_template_is_shown_by_its_beginning(capsys: pytest.CaptureFixture[str]) -> None:
    config = ConversationConfig(style="jinja", template="first line\nsecond line", system="Be brief.")
    show_model(TEXT, Model(name="accounts/a/models/m", conversation_config=config, size_bytes="2048"))
    shown = capsys.readouterr().out
    assert "first line …" in shown
    assert "second" not in shown
    assert "Be brief.\n" in shown
    assert "2 KiB" in shown


def test_what_is_not_known_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    model = Model(name="accounts/a/models/m", state="UPLOADING")
    show_model(TEXT, model)
    assert "Parameters" not in capsys.readouterr().out
    show_models(TEXT, [model])
    assert capsys.readouterr().out.splitlines()[1].split() == ["m", "UPLOADING"]
    assert precision_of(model) == ""
